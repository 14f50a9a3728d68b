"""Comparisons with other engines, and the measured peak."""

import math

import numpy as np
import pytest

from luthier import peak
from luthier.codegen.detect import host_target
from luthier.codegen.interpret import interpret
from luthier.peak import CHAINS, _fma_loop, _read_loop, fma_peak, read_peak
from luthier.peers import ENGINES, Engine, PeerError, Timing, engines_named, output_error, race


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
    pytest.importorskip(name)
    with pytest.raises(PeerError, match=name):
        ENGINES[name](b"no model", 1, {})


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_every_engine_computes_the_model(name, tiny):
    import onnx
    from onnx.reference import ReferenceEvaluator

    pytest.importorskip(name)
    feed = {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)}
    expected = ReferenceEvaluator(onnx.load(tiny)).run(None, feed)
    for model in (tiny, tiny.read_bytes()):
        outputs = ENGINES[name](model, 1, {"x": (1, 3, 8, 8)}).run(feed)
        assert output_error(outputs, expected) < 1e-4


def test_the_loops_of_the_peak_compute_what_they_say():
    lanes, threads, rows = 4, 2, 3
    x = np.full((2, lanes), 0.5, np.float32)
    out = np.zeros((threads, CHAINS, lanes), np.float32)
    interpret(_fma_loop(lanes, threads, steps=5), [x, out], threads)
    np.testing.assert_array_equal(out, np.full_like(out, 1 - 0.5**6))  # a = a / 2 + 1 / 2, from 1 / 2, five times
    data = np.random.default_rng(0).integers(0, 9, (threads, rows, CHAINS, lanes)).astype(np.float32)
    interpret(_read_loop(lanes, threads, rows), [data, out], threads)
    np.testing.assert_array_equal(out, data.sum(axis=1))


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
