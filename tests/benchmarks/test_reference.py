"""The float64 reference: its corrections against NumPy, its distrust, and what it keeps."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import reference as module
from benchmarks.reference import NoReference, evaluate, reference


def _model(nodes, shape, opset=9, initializers=()):
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "xy")
    weights = [numpy_helper.from_array(a, n) for n, a in initializers]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)


def _x(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("opset", [9, 15])
def test_batch_normalization_of_inference(opset):
    names = ("scale", "bias", "mean", "var")
    values = np.random.default_rng(1).uniform(0.5, 2, (4, 3)).astype(np.float32)
    node = helper.make_node("BatchNormalization", ["x", *names], ["y"], epsilon=1e-3)
    x = _x(2, 3, 4, 5)
    (y,) = evaluate(_model([node], x.shape, opset, zip(names, values, strict=True)), {"x": x})
    scale, bias, mean, var = (np.float64(v).reshape(3, 1, 1) for v in values)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, scale * (x - mean) / np.sqrt(var + np.float32(1e-3)) + bias, rtol=1e-9)


def test_training_has_no_reference():
    names = ("scale", "bias", "mean", "var")
    node = helper.make_node("BatchNormalization", ["x", *names], ["y", "m", "v"], training_mode=1)
    model = _model([node], (1, 3, 2, 2), 15, [(n, np.ones(3, np.float32)) for n in names])
    with pytest.raises(NoReference, match="training mode"):
        evaluate(model, {"x": _x(1, 3, 2, 2)})


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_lrn_over_all_channels(size):
    x = _x(1, 7, 3, 2)
    node = helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.5, beta=0.75, bias=2.0)
    (y,) = evaluate(_model([node], x.shape), {"x": x})
    expected = np.empty(x.shape)
    for c in range(7):  # the formula of Operators.md
        near = np.float64(x[:, max(0, c - (size - 1) // 2) : min(6, c + -(-(size - 1) // 2)) + 1])
        expected[:, c] = x[:, c] / (2.0 + 0.5 / size * (near**2).sum(axis=1)) ** 0.75
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_softmax_of_an_old_model():
    x = _x(1, 6, 1, 1)
    (y,) = evaluate(_model([helper.make_node("Softmax", ["x"], ["y"])], x.shape), {"x": x})
    np.testing.assert_allclose(y, np.exp(np.float64(x)) / np.exp(np.float64(x)).sum(), rtol=1e-12)


def test_constants_and_casts_become_float64():
    third = numpy_helper.from_array(np.array([1.0], np.float32))
    nodes = [
        helper.make_node("Constant", [], ["c"], value=third),
        helper.make_node("Cast", ["x"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["w", "c"], ["y"]),
    ]
    x = np.full((1, 2), 1e-9, np.float32)
    (y,) = evaluate(_model(nodes, x.shape), {"x": x})
    assert y.dtype == np.float64 and (y > 1).all()  # in float32 it would be 1


def _saved(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(_model([helper.make_node("Relu", ["x"], ["y"])], (1, 2, 3)), path)
    return path


def test_a_reference_is_kept_by_what_it_depends_on(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    path, cache, x = _saved(tmp_path), tmp_path / "cache", _x(1, 2, 3)
    (first,) = reference(path, {"x": x}, cache)
    np.testing.assert_array_equal(first, np.maximum(np.float64(x), 0))
    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate", lambda *_: pytest.fail("evaluated again"))
        np.testing.assert_array_equal(reference(path, {"x": x}, cache)[0], first)
    np.testing.assert_array_equal(reference(path, {"x": -x}, cache)[0], np.maximum(np.float64(-x), 0))
    assert len(list(cache.iterdir())) == 2
    for kept in cache.iterdir():
        kept.write_bytes(kept.read_bytes()[:40])  # broken
    np.testing.assert_array_equal(reference(path, {"x": x}, cache)[0], first)


def test_a_reference_that_onnxruntime_contradicts_is_not_believed(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    path, cache, x = _saved(tmp_path), tmp_path / "cache", _x(1, 2, 3)
    for wrong in (1.01, np.nan):
        monkeypatch.setattr(module, "evaluate", lambda *_, by=wrong: [np.maximum(np.float64(x), 0) * by])
        with pytest.raises(NoReference, match="errors cannot be stated"):
            reference(path, {"x": x}, cache)
    assert not cache.exists()
