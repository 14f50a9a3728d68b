"""Comparisons with other engines, and the measured peak."""

import math
import os
import sys
import tempfile
import threading
import time

import numpy as np
import onnx
import pytest

from luthier import peak
from luthier.codegen.detect import host_target
from luthier.codegen.interpret import interpret
from luthier.peak import CHAINS, _fma_loop, _read_loop, fma_peak, read_peak
from luthier.peers import (
    ENGINES,
    Engine,
    Peer,
    PeerError,
    PeerMissing,
    Timing,
    engines_named,
    explicit_defaults,
    output_error,
    prepare,
    race,
    settle,
)
from luthier.peers.prepared import captured, convert

MODULES = {"mnn": ("MNN",), "ncnn": ("ncnn", "pnnx")}


def _need(name):
    """Skip where the packages of an engine are not installed; pnnx is found, not imported, for it brings torch."""
    from importlib.util import find_spec

    for module in MODULES.get(name, (name,)):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


class Counting(Engine):
    """Counts its runs and says which engine ran before it."""

    history: list[str] = []  # noqa: RUF012  (shared on purpose)

    def __init__(self, name):
        self.name = name

    def run(self, feed):
        self.history.append(self.name)
        return [feed["x"] * 2]


def test_engines_take_turns():
    Counting.history.clear()
    timings = race([Counting("a"), Counting("b")], {"x": np.ones(3)}, rounds=3)
    assert [len(t.run_s) for t in timings] == [3, 3] and all(t > 0 for t in timings[0].run_s)
    assert "".join(Counting.history) == "ab" + "aabb" * 3  # one untimed run before each timed one
    np.testing.assert_array_equal(timings[1].outputs[0], np.full(3, 2.0))


def test_short_runs_fill_their_round():
    timings = race([Counting("a")], {"x": np.ones(3)}, rounds=2, round_s=0.01)
    assert len(timings[0].run_s) > 10


def test_timing_statistics():
    t = Timing("a", (3.0, 1.0, 2.0), ())
    assert (t.median_s, t.min_s) == (2.0, 1.0)


def test_output_error():
    a = np.array([1.0, -4.0], np.float32)
    assert output_error([a], [a]) == 0.0
    assert output_error([a + 1], [a]) == pytest.approx(0.25)
    assert output_error([a[:1]], [a]) == math.inf
    assert output_error([np.array([np.nan, 1.0])], [a]) == math.inf
    assert output_error([np.zeros(0)], [np.zeros(0)]) == 0.0


def test_engines_are_found_by_name():
    assert engines_named("openvino, onnxruntime,openvino") == [ENGINES["openvino"], ENGINES["onnxruntime"]]
    assert engines_named("") == []
    with pytest.raises(PeerError, match="'tvm' is unknown; the engines are onnxruntime"):
        engines_named("onnxruntime,tvm")


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_every_engine_refuses_what_is_no_model(name):
    _need(name)
    with pytest.raises(PeerError, match=name):
        ENGINES[name](b"no model", 1, {})


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_every_engine_computes_the_model(name, tiny):
    from onnx.reference import ReferenceEvaluator

    _need(name)
    feed = {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)}
    expected = ReferenceEvaluator(onnx.load(tiny)).run(None, feed)
    for model in (tiny, tiny.read_bytes()):
        outputs = ENGINES[name](model, 1, {"x": (1, 3, 8, 8)}).run(feed)
        assert output_error(outputs, expected) < 1e-4


@pytest.mark.parametrize("name", ["mnn", "ncnn"])
def test_conversions_leave_nothing_behind(name, tiny, tmp_path, monkeypatch):
    _need(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    ENGINES[name](tiny, 1, {"x": (1, 3, 8, 8)})
    assert os.listdir(tmp_path / "scratch") == [] and tiny.exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads through /proc")
@pytest.mark.parametrize("name", ["mnn", "ncnn"])
def test_one_thread_is_one_thread(name, tiny):
    """MNN's other interface ignores the number that it is given."""
    _need(name)
    feed = {"x": np.zeros((1, 3, 8, 8), np.float32)}
    ENGINES[name](tiny, 1, {"x": (1, 3, 8, 8)}).run(feed)  # what is made once only
    before = len(os.listdir("/proc/self/task"))
    engine = ENGINES[name](tiny, 1, {"x": (1, 3, 8, 8)})
    engine.run(feed)
    assert len(os.listdir("/proc/self/task")) <= before


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_inputs_and_outputs_keep_the_order_of_the_model(name):
    _need(name)
    nodes = [
        onnx.helper.make_node("Sub", ["second", "first"], ["difference"]),
        onnx.helper.make_node("Relu", ["first"], ["positive"]),
    ]
    info = lambda n: onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 2, 4, 4])  # noqa: E731
    graph = onnx.helper.make_graph(
        nodes, "two", [*map(info, ("second", "first"))], [*map(info, ("positive", "difference"))]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 1, 2, 4, 4), np.float32)
    shapes = {"second": (1, 2, 4, 4), "first": (1, 2, 4, 4)}
    outputs = ENGINES[name](model.SerializeToString(), 1, shapes).run({"first": first, "second": second})
    assert output_error(outputs, [np.maximum(first, 0), second - first]) < 1e-6


def _softmax(version, **attributes):
    node = onnx.helper.make_node("Softmax", ["x"], ["y"], **attributes)
    info = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 6, 1, 1]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "softmax", info[:1], info[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)], ir_version=4)


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_the_old_default_axis_of_softmax(name):
    """Of a model before version 13 it is 1; converters that take the last one would answer with ones."""
    _need(name)
    x = np.random.default_rng(0).standard_normal((1, 6, 1, 1), np.float32)
    (y,) = ENGINES[name](_softmax(9).SerializeToString(), 1, {"x": (1, 6, 1, 1)}).run({"x": x})
    assert output_error([y], [np.exp(x) / np.exp(x).sum()]) < 1e-5


def test_only_changed_defaults_are_written_out():
    old = _softmax(9)
    assert explicit_defaults(old) and old.graph.node[0].attribute[0].i == 1
    assert not explicit_defaults(old)
    assert not explicit_defaults(_softmax(13)) and not explicit_defaults(_softmax(9, axis=3))


def test_a_converter_that_fails_says_what_it_printed(tmp_path):
    with pytest.raises(PeerError, match=r"exit code 3\): .*no such layer"):
        convert("import sys; print('no such layer'); sys.exit(3)", [], [tmp_path / "a"])
    with pytest.raises(PeerError, match=r"\(no a\): it printed nothing"):
        convert("", [], [tmp_path / "a"])


def test_what_native_code_prints_is_captured(capfd):
    with captured() as printed:
        os.write(1, b"out\n")
        os.write(2, b"err\n")
    os.write(1, b"after\n")
    assert printed.text == "out; err" and capfd.readouterr().out == "after\n"


class Doubling(Peer):
    name = package = "doubling"

    def _prepare(self, model, threads, shapes):
        if model == b"bad":
            raise ValueError("no layer Foo")
        if model == b"absent":
            raise ImportError("doubling")

    def run(self, feed):
        return [feed["x"] * 2]


def test_one_engine_that_fails_leaves_the_others():
    feed = {"x": np.ones(3)}
    ready, failed = prepare([Doubling], b"good", 1, {}, feed)
    assert [e.name for e in ready] == ["doubling"] and failed == {}
    assert prepare([Doubling], b"bad", 1, {}, feed) == (
        [],
        {"doubling": "doubling cannot load the model: no layer Foo"},
    )
    ready, failed = prepare([Doubling], b"good", 1, {}, {})  # which it cannot run
    assert not ready and "doubling cannot run the model" in failed["doubling"]
    with pytest.raises(PeerMissing, match="pip install doubling"):
        prepare([Doubling], b"absent", 1, {}, feed)


def test_a_converter_that_is_not_installed(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "MNN", None)
    with pytest.raises(PeerMissing, match="pip install MNN"):
        ENGINES["mnn"](tiny, 1, {})
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(PeerMissing, match="pip install ncnn pnnx"):
        ENGINES["ncnn"](tiny, 1, {})


def test_settling_waits_for_a_thread_that_spins():
    """The thread stops by itself only after settling has given up, so that the outcome does not hang on speed."""
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        start = time.perf_counter()
        settle(limit_s=0.2)
        waited = time.perf_counter() - start
    finally:
        stop.set()
        thread.join()
    assert waited >= 0.2  # it never called this process quiet


def test_the_loops_of_the_peak_compute_what_they_say():
    lanes, threads, rows = 4, 2, 3
    x = np.full((2, lanes), 0.5, np.float32)
    out = np.zeros((threads, CHAINS, lanes), np.float32)
    interpret(_fma_loop(lanes, threads, steps=5), [x, out], threads)
    np.testing.assert_array_equal(out, np.full_like(out, 1 - 0.5**6))  # a = a / 2 + 1 / 2, from 1 / 2, five times
    data = np.random.default_rng(0).integers(0, 9, (threads, 2, rows, 3, lanes)).astype(np.float32)
    sums = np.zeros((threads, 2, 3, lanes), np.float32)
    interpret(_read_loop(data.shape), [data, sums], threads)
    np.testing.assert_array_equal(sums, data.sum(axis=2))


def test_peaks_are_plausible():
    """More than a scalar unit could do, less than any CPU of today can."""
    target = host_target(1)
    assert 4e9 < fma_peak(target, repeats=5) < 1e12
    assert 5e8 < read_peak(target, size_bytes=1 << 24, repeats=2) < 1e13


def test_both_peaks_together(monkeypatch):
    monkeypatch.setattr(peak, "fma_peak", lambda target: 2e11 * target.threads)
    monkeypatch.setattr(peak, "read_peak", lambda target: 1e10)
    found = peak.measure(host_target(2))
    assert (found.flops_per_s, found.bytes_per_s) == (4e11, 1e10)
    assert found.least_s(4 * 10**11, 0) == found.least_s(0, 10**10) == found.least_s(8, 10**10) == 1
