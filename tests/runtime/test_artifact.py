from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luthier.errors import ArtifactError
from luthier.runtime import artifact, container
from luthier.runtime.arrays import address_of
from luthier.runtime.container import read_container, write_container
from luthier.runtime.executable import Executable
from luthier.runtime.report import BuildReport, TaskReport


@pytest.fixture
def path(model: Executable, tmp_path: Path) -> Path:
    model.save(tmp_path / "model.luthier")
    return tmp_path / "model.luthier"


def test_a_loaded_model_is_the_saved_one(model: Executable, path: Path, x: np.ndarray, expected: np.ndarray) -> None:
    loaded = artifact.load(path)
    np.testing.assert_array_equal(loaded(x)[0], expected)
    for field in ("program", "objects", "inputs", "outputs", "target", "report"):
        assert getattr(loaded, field) == getattr(model, field)
    assert address_of(loaded.constants) % 4096 == 0
    assert not loaded.constants.flags.owndata
    np.testing.assert_array_equal(artifact.load(path, verify=False)(x)[0], expected)


def test_the_build_report_comes_along(model: Executable, tmp_path: Path) -> None:
    task = TaskReport("k1", "conv_1", "tuned", 3, ("Conv_0", "Relu_1"), 1000)
    model.report = BuildReport("m", "host", 2, (task, replace(task, key="k2", origin="default")), 4, 1, 0.5, 1, 2, 3)
    model.save(tmp_path / "m.luthier")
    loaded = artifact.load(tmp_path / "m.luthier")
    assert loaded.report == model.report
    counts = "1 tuned, 0 reused, 0 transferred, 1 default"
    assert f"4 kernels of 2 tasks ({counts}) in 0.5 s for host, 2 threads" in str(loaded.report)


def test_a_loaded_model_can_be_saved_over_its_own_file(path: Path, x: np.ndarray, expected: np.ndarray) -> None:
    loaded = artifact.load(path)
    loaded.save(path)
    np.testing.assert_array_equal(loaded(x)[0], expected)
    np.testing.assert_array_equal(artifact.load(path)(x)[0], expected)


def test_an_empty_section_is_kept(tmp_path: Path) -> None:
    write_container(tmp_path / "c", {"a": [1]}, {"none": np.empty(0, np.uint8), "some": np.arange(5, dtype=np.uint8)})
    manifest, sections = read_container(tmp_path / "c")
    assert manifest["a"] == [1]
    assert sections["none"].size == 0
    assert sections["some"].tolist() == [0, 1, 2, 3, 4]


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def _offset(path: Path, section: str) -> int:
    return int(read_container(path)[0]["sections"][section]["offset"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(b""), "not a Luthier artifact"),
        (
            lambda p: p.write_bytes(b"PK\x03\x04 something else entirely, which is longer than a header is" * 3),
            "not a L",
        ),
        (lambda p: p.write_bytes(p.read_bytes()[:40]), "truncated"),
        (lambda p: p.write_bytes(p.read_bytes()[:100]), "truncated"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "truncated"),
        (lambda p: _flip(p, 0), "not a Luthier artifact"),
        (lambda p: _flip(p, 9), r"newer Luthier \(format 258"),
        (lambda p: _flip(p, 16), "manifest's checksum"),
        (lambda p: _flip(p, 40), "manifest's checksum"),
        (lambda p: _flip(p, 70), "manifest's checksum"),
        (lambda p: _flip(p, _offset(p, "objects") + 5), "checksum of section 'objects'"),
        (lambda p: _flip(p, _offset(p, "constants") + 5), "checksum of section 'constants'"),
        (lambda p: p.unlink(), "No such file"),
        (lambda p: (p.unlink(), p.mkdir()), "Is a directory"),
    ],
)
def test_damage_is_found_and_named(path: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(path)
    with pytest.raises(ArtifactError, match=message) as caught:
        artifact.load(path)
    assert str(path) in str(caught.value)


def test_every_byte_of_header_and_manifest_matters(path: Path) -> None:
    good = path.read_bytes()
    end = 64 + int.from_bytes(good[16:24], "little")
    for offset in [*range(12), *range(16, 64), *range(64, end, 97)]:
        path.write_bytes(good[:offset] + bytes([good[offset] ^ 0x80]) + good[offset + 1 :])
        with pytest.raises(ArtifactError):
            artifact.load(path)


def test_a_manifest_of_another_make_is_refused(path: Path) -> None:
    manifest, sections = read_container(path)
    del manifest["program"]
    write_container(path, manifest, sections)
    with pytest.raises(ArtifactError, match="does not fit"):
        artifact.load(path)


def test_code_for_another_cpu_is_refused(model: Executable, path: Path) -> None:
    model.target = replace(model.target, features="+sse2,+no-such-feature,-avx", model="Some CPU")
    model.save(path)
    with pytest.raises(ArtifactError, match=r"made for Some CPU; this CPU .* lacks no-such-feature; build it here"):
        artifact.load(path)
    model.target = replace(model.target, features="", triple="sparc64-unknown-linux-gnu")
    model.save(path)
    with pytest.raises(ArtifactError, match="made for sparc64"):
        artifact.load(path)


def test_a_folder_that_does_not_exist_is_named(model: Executable, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere/model.luthier: cannot be written"):
        model.save(tmp_path / "nowhere" / "model.luthier")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """The limit on file sizes fails a write as a full disk does. In a process of its own: it cannot be raised again."""
    (tmp_path / "m.luthier").write_bytes(b"the old one")
    script = textwrap.dedent(f"""
        import resource
        import numpy as np
        from luthier.errors import ArtifactError
        from luthier.runtime.container import write_container
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write_container({str(tmp_path / "m.luthier")!r}, {{}}, {{"constants": np.ones(1_000_000, np.uint8)}})
        except ArtifactError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", script], timeout=30, capture_output=True, text=True, check=True)
    assert "m.luthier: cannot be written: File too large" in done.stdout
    assert os.listdir(tmp_path) == ["m.luthier"]
    assert (tmp_path / "m.luthier").read_bytes() == b"the old one"


def test_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(container.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_container(tmp_path / "m.luthier", {}, {"constants": np.ones(10, np.uint8)})
    assert os.listdir(tmp_path) == []
