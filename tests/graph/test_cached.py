"""Builds through the cache: the same results, nothing made twice, nothing stale."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_graphs import model, node

from luthier import config, te
from luthier.codegen import cached
from luthier.codegen.build import build_kernel
from luthier.codegen.cache import Cache, configured
from luthier.codegen.detect import host_target, named_target
from luthier.graph.compile import Found, compile_model
from luthier.schedule import Default, space
from luthier.schedule.space import instantiate, register
from luthier.tuner.model_tasks import model_tasks

ALL = {"jobs": 1, "threads": 1}


def network() -> onnx.ModelProto:
    """Two convolutions, the second by Winograd's algorithm, and a matrix product."""
    rng = np.random.default_rng(0)
    arrays = {"v": (64, 3, 3, 3), "w": (64, 64, 3, 3), "m": (1000, 64), "b": (1000,)}
    constants = {n: rng.standard_normal(s).astype(np.float32) / 10 for n, s in arrays.items()}
    nodes = [
        node("Conv", "x v", "a", pads=[1] * 4),
        node("Relu", "a", "c"),
        node("Conv", "c w", "d", pads=[1] * 4),
        node("GlobalAveragePool", "d", "e"),
        node("Flatten", "e", "f"),
        node("Gemm", "f m b", "y", transB=1),
    ]
    return model(nodes, {"x": [1, 3, 56, 56]}, ["y"], constants)


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    return network()


@pytest.fixture(scope="module")
def expected(proto: onnx.ModelProto) -> np.ndarray[Any, Any]:
    return run(compile_model(proto, **ALL))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with config.override(cache=str(tmp_path / "cache")):
        found = configured()
        assert found is not None
        yield found


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.graph.compile.instantiate", refuse)
    monkeypatch.setattr("luthier.graph.compile.build_kernel", refuse)
    monkeypatch.setattr("luthier.codegen.cached.llvm.compile_object", refuse)


def refuse(*_: object) -> Any:
    raise AssertionError("something was built that is in the cache")


def run(executable: Any) -> np.ndarray[Any, Any]:
    (y,) = executable.run(None, executable.example_inputs())
    return y


def test_a_warm_build_makes_nothing_and_gives_the_same(
    cache: Cache, proto: onnx.ModelProto, expected: np.ndarray[Any, Any], request: pytest.FixtureRequest
) -> None:
    cold = compile_model(proto, **ALL)
    assert cold.report is not None and cold.report.cached == 0 and "from the cache" not in str(cold.report)
    request.getfixturevalue("nothing_is_built")
    warm = compile_model(proto, **ALL)
    assert warm.report is not None
    tasks = len(warm.report.tasks)
    assert warm.report.cached == tasks and f"{tasks} from the cache" in str(warm.report)
    assert warm.objects == cold.objects
    np.testing.assert_array_equal(warm.constants, cold.constants)
    for executable in (cold, warm):
        np.testing.assert_array_equal(run(executable), expected)


def test_kernels_come_back_as_they_were(cache: Cache, proto: onnx.ModelProto) -> None:
    """Those that prepare constants, and layouts, included."""
    target = host_target(1)
    prepared = laid_out = 0
    for task in model_tasks(proto, target):
        made = build_kernel(instantiate(task.workload, Default(), target), target)
        assert cached.kernel_for(task.workload, cached.DEFAULT, target, lambda made=made: made) == (made, False)
        found, known = cached.kernel_for(task.workload, cached.DEFAULT, target, refuse)
        assert known and found == made
        prepared += sum(p.prepare is not None for p in found.params)
        laid_out += sum(p.layout is not None for p in found.params)
    assert prepared and laid_out


def test_a_kernel_belongs_to_its_recipe_its_target_and_its_versions(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = te.placeholder((64,), name="x")
    work = te.workload(te.compute((64,), lambda i: x[i] + 1.0))
    target = host_target(1)
    kernel = build_kernel(instantiate(work, Default(), target), target)
    kernels = {
        "default": (cached.DEFAULT, target),
        "decisions": ({"tile": 4}, target),
        "other decisions": ({"tile": 8}, target),
        "threads": (cached.DEFAULT, host_target(2)),
        "target": (cached.DEFAULT, named_target("x86-64-v3")),
    }
    for name, (recipe, where) in kernels.items():
        own = replace(kernel, symbol=name)
        assert cached.kernel_for(work, recipe, where, lambda own=own: own) == (own, False)
    for name, (recipe, where) in kernels.items():
        assert cached.kernel_for(work, recipe, where, refuse)[0].symbol == name
    for place, value in (("SOURCES", "edited"), ("__version__", "9.9"), ("llvmlite.__version__", "9.9")):
        with monkeypatch.context() as patch:
            patch.setattr(f"luthier.codegen.cached.{place}", value)
            cached._circumstances.cache_clear()
            assert cached.kernel_for(work, cached.DEFAULT, target, lambda: kernel) == (kernel, False)
        cached._circumstances.cache_clear()


def test_editing_a_source_changes_the_hash(tmp_path: Path) -> None:
    package = tmp_path / "package" / "inner"
    package.mkdir(parents=True)
    source = package / "space.py"
    source.write_text("tile = 4\n")
    hashes = [cached.sources_hash((tmp_path / "package",))]
    assert cached.sources_hash((tmp_path / "package",)) == hashes[0]
    source.write_text("tile = 8\n")
    hashes.append(cached.sources_hash((tmp_path / "package",)))
    source.rename(package / "other.py")
    hashes.append(cached.sources_hash((tmp_path / "package",)))
    assert len(set(hashes)) == 3


def test_the_sources_that_are_hashed_are_those_that_run() -> None:
    folders = [Path(m.__file__).resolve().parent for m in (te, space, cached)]
    assert cached.sources_hash(tuple(folders)) == cached.SOURCES


def test_a_space_of_somebody_elses_is_not_trusted_to_stay_the_same(cache: Cache) -> None:
    calls = []

    @register("test_cached.own")
    def own(s: Any, d: Any, target: Any) -> None:
        calls.append(1)

    x = te.placeholder((64,), name="x")
    work = te.workload(te.compute((64,), lambda i: x[i] + 1.0, tag="test_cached.own"))
    target = host_target(1)
    for _ in range(2):
        _, known = cached.kernel_for(
            work, cached.DEFAULT, target, lambda: build_kernel(instantiate(work, Default(), target), target)
        )
        assert not known
    assert len(calls) == 2


def test_recorded_decisions_that_are_the_default_rules_are_not_built_again(
    cache: Cache, proto: onnx.ModelProto, request: pytest.FixtureRequest
) -> None:
    """So that a build with a log makes only those kernels anew that tuning changed."""

    def recorded(workload: Any, target: Any) -> Found:
        return Found(instantiate(workload, Default(), target).decisions)

    by_default = compile_model(proto, **ALL)
    request.getfixturevalue("nothing_is_built")
    by_log = compile_model(proto, **ALL, schedules=recorded)
    assert by_log.report is not None and by_log.report.count("tuned") == by_log.report.cached == len(
        by_log.report.tasks
    )
    assert by_log.objects == by_default.objects


def test_decisions_that_no_longer_fit_are_said_in_warm_builds_too(cache: Cache, proto: onnx.ModelProto) -> None:
    for _ in range(2):
        with pytest.warns(UserWarning, match="the recorded schedule no longer fits"):
            report = compile_model(proto, **ALL, schedules=lambda w, t: Found({})).report
    assert report is not None and report.cached == report.count("default") > 0


def test_damaged_entries_are_made_again(cache: Cache, proto: onnx.ModelProto, expected: np.ndarray[Any, Any]) -> None:
    compile_model(proto, **ALL)
    entries = sorted(cache.directory.rglob("*.entry"))
    for n, path in enumerate(entries):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if n % 2 else data[:-9] + b"\0" * 9)
    again = compile_model(proto, **ALL)
    assert again.report is not None and again.report.cached == 0
    np.testing.assert_array_equal(run(again), expected)
    assert sorted(cache.directory.rglob("*.entry")) == entries
    warm = compile_model(proto, **ALL).report
    assert warm is not None and warm.cached == len(warm.tasks)


def test_dumps_and_checks_see_every_kernel(cache: Cache, proto: onnx.ModelProto, tmp_path: Path) -> None:
    compile_model(proto, **ALL)
    with config.override(dump=str(tmp_path / "dump")):
        report = compile_model(proto, **ALL).report
    assert report is not None and report.cached == 0
    assert len(list((tmp_path / "dump").iterdir())) == len(report.tasks)
    with config.override(verify=True):
        report = compile_model(proto, **ALL).report
    assert report is not None and report.cached == 0


_SCRIPT = """
import sys, numpy, luthier
executable = luthier.compile(sys.argv[1], threads=1, jobs=2)
numpy.save(sys.argv[2], executable.run(None, executable.example_inputs())[0])
"""


def test_several_processes_build_one_model_at_once(
    proto: onnx.ModelProto, expected: np.ndarray[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(proto, tmp_path / "m.onnx")
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    results = [tmp_path / f"{n}.npy" for n in range(3)]
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path / "m.onnx")]
    processes = [subprocess.Popen([*command, str(r)]) for r in results]
    assert [p.wait(300) for p in processes] == [0, 0, 0]
    for result in results:
        np.testing.assert_array_equal(np.load(result), expected)
    assert all(p.suffix == ".entry" for p in (tmp_path / "cache").rglob("*") if p.is_file())
    with config.override(cache=str(tmp_path / "cache")):
        report = compile_model(proto, **ALL).report
    assert report is not None and report.cached == len(report.tasks)


def test_a_build_keeps_the_limit(proto: onnx.ModelProto, tmp_path: Path) -> None:
    with config.override(cache=str(tmp_path / "cache"), cache_mb=1):
        found = configured()
        assert found is not None
        for n in range(300):
            found.put(f"filler {n}", {}, bytes(9000))
        compile_model(proto, **ALL)
        assert 0 < found.usage().size_bytes <= 2**20
        report = compile_model(proto, **ALL).report  # what was made last is what stays
    assert report is not None and report.cached == len(report.tasks)


def test_no_cache_writes_nothing(proto: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with config.override(cache=""):
        compile_model(proto, **ALL)
    assert not list(tmp_path.iterdir())
