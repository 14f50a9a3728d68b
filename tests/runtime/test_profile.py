"""A profile is whole: every call, on every thread, in order; and it comes with an artifact."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx_graphs import model, node

import luthier
from luthier.runtime import artifact, container
from luthier.runtime.executable import Executable
from luthier.runtime.profile import FEWEST, Peaks, Profile
from luthier.runtime.report import BuildReport


def _compiled(threads: int) -> Executable:
    nodes = [
        node("Conv", "x w", "c", "conv", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r", "relu"),
        node("Conv", "r v", "y", "again", pads=[1, 1, 1, 1]),
        node("Flatten", "y", "z", "flat"),
    ]
    weights = {"w": [[[[0.5] * 3] * 3] * 3] * 16, "v": [[[[0.25] * 3] * 3] * 16] * 16}
    return luthier.compile(model(nodes, {"x": (1, 3, 9, 9)}, ["z"], weights), threads=threads)


@pytest.fixture(scope="module", params=[1, 2])
def executable(request: pytest.FixtureRequest) -> Executable:
    return _compiled(request.param)


@pytest.fixture(scope="module")
def profile(executable: Executable) -> Profile:
    return executable.profile(4, peaks=Peaks(1e11, 1e10))


def test_every_call_is_there_with_its_nodes(executable: Executable, profile: Profile) -> None:
    assert [k.symbol for k in profile.kernels] == [c.symbol for c in executable.program.calls]
    named = [k.nodes for k in profile.kernels]
    assert [n for nodes in named for n in nodes if n in ("conv", "relu", "again")] == ["conv", "relu", "again"]
    assert profile.threads == executable.threads
    assert profile.rounds == 4


def test_parts_add_up(profile: Profile) -> None:
    assert profile.kernels_s == pytest.approx(sum(k.median_s for k in profile.kernels))
    whole = sum(map(profile.share, profile.kernels)) + profile.outside_s / profile.total_s
    assert whole == pytest.approx(1)
    for k in profile.kernels:
        assert 0 < k.min_s <= k.median_s
        assert 0 <= k.wait_s <= k.median_s


def test_the_timeline_is_one_run_thread_by_thread(profile: Profile) -> None:
    assert [(s.thread, s.kernel) for s in profile.timeline] == [
        (t, k) for t in range(profile.threads) for k in range(len(profile.kernels))
    ]
    assert min(s.begin_s for s in profile.timeline) == 0
    for s in profile.timeline:
        assert s.begin_s <= s.end_s <= s.left_s
    for thread in range(profile.threads):
        own = [s for s in profile.timeline if s.thread == thread]
        assert all(a.left_s == b.begin_s for a, b in zip(own, own[1:], strict=False))


def test_rates_and_rooflines_follow_from_the_task(profile: Profile) -> None:
    peaks = profile.peaks
    assert peaks is not None
    k = next(k for k in profile.kernels if "again" in k.nodes)
    assert k.task is not None
    assert k.flops_per_s == pytest.approx(k.task.flops / k.median_s)
    assert k.bytes_per_s == pytest.approx(k.task.algorithm_bytes / k.median_s)
    assert k.task.flops >= 2 * 9 * 9 * 16 * 16 * 9
    assert k.roofline_s(peaks) == max(k.task.flops / 1e11, k.task.bytes_moved / 1e10)
    assert k.algorithm_roofline_s(peaks) == max(k.task.algorithm_flops / 1e11, k.task.algorithm_bytes / 1e10)
    assert profile.roofline_s() == pytest.approx(sum(x.roofline_s(peaks) for x in profile.kernels))
    assert str(profile).count("GFLOP/s") >= 2


def test_a_profile_does_not_disturb_what_runs_next(executable: Executable) -> None:
    feed = executable.example_inputs()
    before = executable.run(None, feed)[0]
    executable.profile(2, inputs=feed)
    assert (executable.run(None, feed)[0] == before).all()


def test_without_a_number_of_rounds_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.runtime.profile.SECONDS", 0.0)
    assert _compiled(1).profile().rounds == FEWEST


def test_an_artifact_of_format_1_still_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = _compiled(1)
    built.save(tmp_path / "new.luthier")
    manifest, sections = container.read_container(tmp_path / "new.luthier")
    del manifest["report"]["call_nodes"], manifest["report"]["view_nodes"]
    kept = ("key", "symbol", "origin", "uses", "nodes", "flops")
    manifest["report"]["tasks"] = [{name: t[name] for name in kept} for t in manifest["report"]["tasks"]]
    with monkeypatch.context() as patch:
        patch.setattr(container, "VERSION", 1)
        container.write_container(tmp_path / "old.luthier", manifest, sections)
    assert (tmp_path / "old.luthier").read_bytes()[8] == 1
    loaded = artifact.load(tmp_path / "old.luthier")
    assert isinstance(loaded.report, BuildReport)
    profile = loaded.profile(2, peaks=Peaks(1e11, 1e10))
    assert {n for k in profile.kernels for n in k.nodes} >= {"conv", "relu", "again"}
    assert not any(k.is_known for k in profile.kernels)
    assert profile.roofline_s() == 0
