"""tune, build, run, bench, tasks and show on a tiny model, and what they refuse."""

import json
import os
import platform
import shlex
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from luthier import api
from luthier.tuner.database import open_log


@pytest.fixture
def image():
    return np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32)


def test_run_saves_what_the_reference_computes(luthier, tiny, image, tmp_path):
    np.save("x.npy", image)
    done = luthier("run", tiny, "--input", "x=x.npy", "-o", "out.npz", "--threads", 1)
    assert done.code == 0 and "float32[1, 5]" in done.out
    (expected,) = ReferenceEvaluator(onnx.load(tiny)).run(None, {"x": image})
    with np.load("out.npz") as saved:
        assert saved.files == ["y"]
        np.testing.assert_allclose(saved["y"], expected, rtol=1e-4, atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.npz", "tiny.onnx", "x.npy"]


def test_run_writes_one_kind_of_file(luthier, tiny):
    assert "name it scores.npz" in luthier("run", tiny, "-o", "scores.npy").complaint


def test_run_takes_all_inputs_from_one_archive(luthier, tiny, image):
    np.savez("all.npz", x=image)
    np.save("x.npy", image)
    one, other = (luthier("run", tiny, "--input", value) for value in ("all.npz", "x=x.npy"))
    assert one.code == 0 and one.out == other.out


def test_run_with_an_archive_that_lacks_an_input(luthier, tiny, tmp_path):
    np.savez(tmp_path / "none.npz")
    assert "no --input for x; add --input x=FILE.npy" in luthier("run", tiny, "--input", "none.npz").complaint


def test_run_without_inputs_says_what_it_takes(luthier, tiny):
    first, again, other = (luthier("run", tiny, "--seed", seed).out for seed in (3, 3, 4))
    assert first == again != other and "seed 3 for x: float32[1, 3, 8, 8]" in first


def test_build_and_run_the_artifact(luthier, tiny, image, tmp_path):
    np.save("x.npy", image)
    done = luthier("build", tiny, "--threads", 1)
    assert done.code == 0 and "saved tiny.luthier" in done.out and "default" in done.out
    from_file = luthier("run", "tiny.luthier", "--input", "x=x.npy").out
    assert from_file == luthier("run", tiny, "--threads", 1, "--input", "x=x.npy").out
    assert "was built for 1" in luthier("run", "tiny.luthier", "--threads", 2).complaint
    assert "--shape" in luthier("run", "tiny.luthier", "--shape", "x=1,3,8,8").complaint
    assert "cannot read" in luthier("bench", "tiny.luthier", "--against", "onnxruntime").complaint
    assert "median" in luthier("bench", "tiny.luthier", "--rounds", 2).out


def test_what_a_command_reads_is_not_written_over(luthier, tiny, tmp_path):
    np.savez("all.npz", x=np.zeros((1, 3, 8, 8), np.float32))
    open_log("tiny.tuning.db").close()
    for command in (
        ("build", tiny, "-o", tiny),
        ("build", tiny, "--log", "tiny.tuning.db", "-o", "tiny.tuning.db"),
        ("run", tiny, "--input", "all.npz", "-o", "all.npz"),
        ("bench", tiny, "--profile", "--json", tiny),
    ):
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        assert "is read by this command" in luthier(*command).complaint
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"z": np.zeros((1, 3, 8, 8), np.float32)}, "no such input; the model takes x: float32[1, 3, 8, 8]"),
        ({"x": np.zeros((1, 3, 8, 9), np.float32)}, "has shape [1, 3, 8, 9]"),
        ({"x": np.zeros((1, 3, 8, 8))}, "is float64; the model takes float32"),
    ],
)
def test_inputs_that_do_not_fit(luthier, tiny, values, message, tmp_path):
    for name, array in values.items():
        np.save(f"{name}.npy", array)
    options = [option for name in values for option in ("--input", f"{name}={name}.npy")]
    assert message in luthier("run", tiny, *options, "-o", "out.npz").complaint
    assert not (tmp_path / "out.npz").exists()


def test_input_files_that_are_none(luthier, tiny, tmp_path):
    (tmp_path / "text.npy").write_text("hello")
    np.save("objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez("two.npz", a=np.zeros(1), b=np.zeros(1))
    for value, message in {
        "x=none.npy": "none.npy: cannot be read: No such file or directory; give a file written by numpy.save",
        "x=text.npy": "text.npy: is not a NumPy file of numbers",
        "x=objects.npy": "objects.npy: is not a NumPy file of numbers",
        "x=two.npz": "holds several arrays",
    }.items():
        assert message in luthier("run", tiny, "--input", value).complaint
    np.save("x.npy", np.zeros((1, 3, 8, 8), np.float32))
    assert "given twice" in luthier("run", tiny, "--input", "x=x.npy", "--input", "x=x.npy").complaint


COMMANDS = {
    "tune": ("tune", "--trials", "1"),
    "build": ("build",),
    "run": ("run", "-o", "out.npz"),
    "bench": ("bench",),
    "tasks": ("tasks",),
    "show": ("show", "--task", "1"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_models_that_cannot_be_read(luthier, tiny, save_tiny, tmp_path, command):
    name, *options = command
    (tmp_path / "cut.onnx").write_bytes(tiny.read_bytes()[:3000])
    (tmp_path / "text.onnx").write_text("hello")
    save_tiny("open.onnx", "batch")
    before = sorted(tmp_path.iterdir())
    for model, message in {
        "none.onnx": "no such file",
        "cut.onnx": "cut.onnx",
        "text.onnx": "text.onnx",
        "open.onnx": "batch",
    }.items():
        assert message in luthier(name, model, *options).complaint
    assert sorted(tmp_path.iterdir()) == before


def test_open_dimensions_can_be_given(luthier, save_tiny):
    save_tiny("open.onnx", "batch")
    assert "float32[2, 5]" in luthier("run", "open.onnx", "--shape", "x=2,3,8,8").out
    assert "z" in luthier("run", "open.onnx", "--shape", "x=2,3,8,8", "--shape", "z=1").complaint


def test_the_command_that_tuning_ends_with_works(luthier, save_tiny):
    save_tiny("an open one.onnx", "batch")
    out = luthier("tune", "an open one.onnx", "--shape", "x=2,3,8,8", "--trials", 1, "--threads", 1).out
    command = shlex.split(out.splitlines()[-1].partition(": ")[2])
    assert command[:2] == ["luthier", "build"] and "saved an open one.luthier" in luthier(*command[1:]).out


def test_artifacts_that_cannot_be_loaded(luthier, tiny, tmp_path):
    luthier("build", tiny, "-o", "whole.luthier")
    whole = (tmp_path / "whole.luthier").read_bytes()
    damaged = bytearray(whole)
    damaged[-1000] ^= 1
    manifest = whole.index(b'"features"')
    for name, content in {
        "cut.luthier": whole[: len(whole) // 2],
        "damaged.luthier": bytes(damaged),
        "manifest.luthier": whole[:manifest] + b'"Features"' + whole[manifest + 10 :],
        "text.luthier": b"hello",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert name in luthier("run", name).complaint
    assert "none.luthier" in luthier("run", "none.luthier").complaint


def test_code_for_another_cpu(luthier, tiny, tmp_path):
    done = luthier("build", tiny, "--target", "aarch64", "-o", "arm.luthier")
    assert done.code == 0 and (tmp_path / "arm.luthier").exists(), done.err
    assert "arm.luthier" in luthier("run", "arm.luthier").complaint or platform.machine() == "aarch64"
    assert "use one of host" in luthier("build", tiny, "--target", "z80").complaint
    assert "fmla" in luthier("show", tiny, "--task", "1", "--target", "aarch64", "--level", "asm").out


def test_tune_build_and_look(luthier, tiny, tmp_path):
    done = luthier("tune", tiny, "--trials", 4, "--threads", 1, "--task", "conv2d*")
    assert done.code == 0, done.err
    assert "4 trials" in done.out and "by default" in done.out and "with the log" in done.out
    log = tmp_path / "tiny.tuning.db"
    assert "4 records of 1 tasks" in luthier("log", "info", log).out

    done = luthier("build", tiny, "--log", log, "--threads", 1)
    assert "1 tuned" in done.out and "luthier tune" in done.err
    lines = luthier("tasks", tiny, "--log", log, "--threads", 1).out.splitlines()
    (conv,) = [line for line in lines if "conv2d_3x3_s1" in line]
    assert "%" in conv and "x" in conv.split()[-2]
    done = luthier("show", tiny, "--log", log, "--threads", 1, "--task", "conv2d*")
    assert "tuned schedule" in done.out

    more = ("--trials", 2, "--stop-below", 0)
    again = luthier("tune", tiny, "--log", log, *more, "--threads", 1, "--task", "conv2d*")
    assert again.code == 0 and "6 records of 1 tasks" in luthier("log", "info", log).out


def test_tune_refuses_before_it_writes(luthier, tiny, tmp_path):
    before = sorted(tmp_path.iterdir())
    for options, message in {
        ("--search", "magic"): "magic",
        ("--cost-model", "oracle"): "use one of random, xgboost, xgboost-local",
        ("--task", "nothing*"): "nothing*",
        ("--log", "no/such/dir.db"): "does not exist",
        ("--log", "."): "is a directory",
    }.items():
        assert message in luthier("tune", tiny, "--trials", 1, *options).complaint
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "notes.db").write_text("my notes, no log\n" * 100)
    assert "notes.db" in luthier("tune", tiny, "--trials", 1, "--log", "notes.db").complaint
    assert (tmp_path / "notes.db").read_text() == "my notes, no log\n" * 100


def test_build_refuses_a_bad_log_or_place(luthier, tiny, tmp_path):
    (tmp_path / "notes.db").write_text("my notes")
    assert "notes.db" in luthier("build", tiny, "--log", "notes.db").complaint
    assert "none.db" in luthier("build", tiny, "--log", "none.db").complaint
    assert "does not exist" in luthier("build", tiny, "-o", "no/such/m.luthier").complaint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.db", "tiny.onnx"]


@pytest.mark.skipif(sys.platform != "linux" or not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(luthier, tiny, monkeypatch, tmp_path):
    """The artifact is written to a file on a device that has no room."""
    real = os.fdopen

    def no_room(handle, *options, **more):
        os.close(handle)
        return real(os.open("/dev/full", os.O_WRONLY), *options, **more)

    monkeypatch.setattr(os, "fdopen", no_room)
    for command in (("build", tiny), ("run", tiny, "-o", "out.npz")):
        assert "No space left on device" in luthier(*command).complaint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.onnx"]


def test_tasks_and_show(luthier, tiny):
    out = luthier("tasks", tiny, "--threads", 1).out
    assert "conv2d_3x3_s1" in out and "matmul" in out and "of peak" not in out
    assert "%" in luthier("tasks", tiny, "--threads", 1, "--measure").out
    for level, text in {"te": "sum", "schedule": "for ", "loops": "for ", "llvm": "define void", "asm": "ret"}.items():
        done = luthier("show", tiny, "--threads", 1, "--task", 1, "--level", level)
        assert done.code == 0 and text in done.out, level
    assert "no such task among the" in luthier("show", tiny, "--task", "99").complaint
    assert "matches" in luthier("show", tiny, "--task", "*").complaint


def test_bench_against_another_engine(luthier, tiny):
    pytest.importorskip("onnxruntime")
    done = luthier("bench", tiny, "--threads", 1, "--rounds", 2, "--against", "onnxruntime")
    row = next(line.split() for line in done.out.splitlines() if line.startswith("onnxruntime"))
    assert float(row[-1]) < 1e-4
    assert "engines are" in luthier("bench", tiny, "--against", "fastest").complaint


def test_bench_goes_on_without_a_peer_that_fails(luthier, tiny, monkeypatch):
    pytest.importorskip("onnxruntime")

    def refuse(self, *_):
        raise ValueError("no layer Foo")

    monkeypatch.setattr("luthier.peers.runtimes.OpenVino._prepare", refuse)
    done = luthier("bench", tiny, "--threads", 1, "--rounds", 2, "--against", "openvino,onnxruntime")
    assert done.code == 0 and "openvino cannot load the model: no layer Foo" in done.out
    rows = [line.split()[:2] for line in done.out.splitlines()]
    assert ["openvino", "failed"] in rows and ["onnxruntime", "failed"] not in rows
    assert any(row[:1] == ["onnxruntime"] for row in rows)


def test_a_peer_that_is_not_installed(luthier, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install onnxruntime" in luthier("bench", tiny, "--against", "onnxruntime").complaint


def test_the_report_of_a_build_is_in_its_artifact(luthier, tiny):
    luthier("build", tiny)
    report = api.load("tiny.luthier").report
    assert report is not None and json.dumps(report.to_json()) and report.kernels >= 2


@pytest.fixture
def wide(tmp_path):
    """A 3x3 convolution of 64 channels, for which fast and exact differ."""
    rng = np.random.default_rng(0)
    shape = [1, 64, 16, 16]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1] * 4)],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(rng.standard_normal((64, 64, 3, 3), np.float32), "w")],
    )
    path = tmp_path / "wide.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_accuracy(luthier, wide):
    assert "fast accuracy" in luthier("build", wide, "--threads", 1).out
    assert "was built with --accuracy fast" in luthier("run", "wide.luthier", "--accuracy", "exact").complaint
    assert "exact accuracy" in luthier("build", wide, "--threads", 1, "--accuracy", "exact").out
    assert luthier("run", "wide.luthier", "--accuracy", "exact").code == 0
    assert "was built with --accuracy exact" in luthier("bench", "wide.luthier", "--accuracy", "fast").complaint
    assert "invalid choice: 'best'" in luthier("run", wide, "--accuracy", "best").complaint

    fast, exact = (luthier("run", wide, "--threads", 1, *options).out for options in ((), ("--accuracy", "exact")))
    assert fast != exact  # they round differently
    assert "exact accuracy" in luthier("bench", wide, "--rounds", 1, "--accuracy", "exact").out
    assert "64_exact" in luthier("tasks", wide, "--accuracy", "exact").out
    shown = luthier("show", wide, "--threads", 1, "--task", "conv2d*", "--accuracy", "exact")
    assert "algorithm=direct" in shown.out

    done = luthier("tune", wide, "--trials", 1, "--threads", 1, "--task", "conv2d*", "--accuracy", "exact")
    assert "--log wide.tuning.db --accuracy exact" in done.out
    assert "1 tuned" in luthier("build", wide, "--threads", 1, "--log", "wide.tuning.db", "--accuracy", "exact").out
    assert "0 tuned" in luthier("build", wide, "--threads", 1, "--log", "wide.tuning.db").out
