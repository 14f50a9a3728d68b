from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

from luthier import config
from luthier.codegen.detect import usable_cores
from luthier.errors import InternalError
from luthier.runtime import openmp
from luthier.runtime.executable import Executable
from luthier.runtime.loader import load_objects

from .conftest import compile_ir


def test_without_openmp_it_runs_on_one_thread_and_says_so_once(
    model: Executable, x: np.ndarray, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openmp, "_noticed", False)
    parts = (model.program, model.objects, model.constants, model.inputs, model.outputs, model.target)
    with config.override(openmp=False), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        alone = [Executable(*parts) for _ in range(2)]
    assert [str(w.message) for w in seen] == [openmp.NOTICE]
    for executable in alone:
        y, n = executable(x)
        np.testing.assert_array_equal(y, expected)
        assert n.tolist() == [executable.threads] == [1]


@pytest.mark.skipif(openmp.runtime() is None, reason="no OpenMP runtime on this machine")
def test_with_openmp_the_team_has_the_wanted_size(model: Executable, x: np.ndarray) -> None:
    assert model.threads == 2
    assert model(x)[1].tolist() == [2]


@pytest.mark.skipif(openmp.runtime() is None, reason="no OpenMP runtime on this machine")
def test_a_bundled_copy_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp.ctypes.util, "find_library", lambda name: None)
    assert any("site-packages" in path for path in openmp._candidates()) or not _wheel_has_one()


def _wheel_has_one() -> bool:
    return any(os.path.isdir(os.path.join(p, "xgboost.libs")) for p in sys.path)


@pytest.mark.parametrize(
    ("setting", "threads"),
    [("1", 1), ("1,4", 1), (" 2 , 4,1", 2), ("4,2", 4), ("007", 7), ("100000", 8)]
    + [(malformed, 4) for malformed in ("", "0", "-2", "two", "2x", "2,", "2,x", "2;4", "0x2", "\u00b2", "1.5")],
)
def test_default_threads(monkeypatch: pytest.MonkeyPatch, setting: str, threads: int) -> None:
    monkeypatch.setattr(openmp, "usable_cpus", lambda: 8)
    monkeypatch.setattr(openmp, "usable_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert openmp.default_threads() == threads


def test_default_threads_without_a_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert openmp.default_threads() == usable_cores()


def test_objects_that_do_not_link_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    code = compile_ir(
        "declare void @no_such_function()\ndefine i64 @luthier_run() {\n call void @no_such_function()\n ret i64 0\n}"
    )
    with pytest.raises(InternalError, match="luthier_run cannot be linked"):
        load_objects([code])
    assert "no_such_function" in capfd.readouterr().err
    with pytest.raises(InternalError, match="other_entry"):
        load_objects([compile_ir("define i64 @luthier_run() {\n ret i64 0\n}")], "other_entry")


def test_two_programs_may_hold_the_same_symbols() -> None:
    programs = [load_objects([compile_ir(f"define i64 @luthier_run() {{\n ret i64 {n}\n}}")]) for n in (3, 4)]
    assert [p(None, None, None, None, 1, 1) for p in programs] == [3, 4]


@pytest.mark.skipif(not hasattr(os, "fork") or openmp.runtime() is None, reason="needs fork and OpenMP")
def test_a_forked_process_does_not_wait_for_workers_that_are_gone(objects: list[bytes], tmp_path: object) -> None:
    """In a process of its own: forking the test runner would copy its threads' locks."""
    path = os.path.join(str(tmp_path), "program.o")
    with open(path, "wb") as file:
        file.write(objects[0])
    script = textwrap.dedent(f"""
        import ctypes, os, warnings
        warnings.simplefilter("ignore")
        from luthier.runtime.loader import load_objects
        program = load_objects([open({path!r}, "rb").read()])
        buffers = [ctypes.create_string_buffer(512) for _ in range(5)]
        a = [ctypes.addressof(b) for b in buffers]
        ins, outs = (ctypes.c_void_p * 1)(a[0]), (ctypes.c_void_p * 2)(a[1], a[2])
        def team():
            program(ctypes.addressof(ins), ctypes.addressof(outs), a[3], a[4], 2, 1)
            return ctypes.c_int64.from_buffer(buffers[2]).value
        assert team() == 2
        child = os.fork()
        if child == 0:
            os._exit(team())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        assert team() == 2
    """)
    done = subprocess.run([sys.executable, "-c", script], timeout=30, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
