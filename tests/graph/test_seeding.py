"""Seeded weights: reproducible, by role, and models that stay alive on them."""

import math

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_graphs import model, node, onnxruntime_outputs, weights

from luthier.graph.onnx_import import bundled_models, load_model
from luthier.graph.seeding import seed_weights


def initializers(proto):
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def small():
    nodes = [
        node("ConstantOfShape", "shape", "w"),
        node("Conv", "x w b", "a"),
        node("BatchNormalization", "a s t m v", "n"),
        node("Unsqueeze", "g axes", "g1"),
        node("Mul", "n g1", "o"),
        node("Mul", "o half", "p"),
        node("Relu", "p", "r"),
        node("Flatten", "r", "f"),
        node("Gemm", "f k", "y", transB=1),
    ]
    names = {n: np.full(64, 0.02) for n in ("b", "s", "t", "m", "v", "g")}
    constants = names | {"shape": [64, 3, 3, 3], "axes": [1, 2], "half": 0.5, "k": np.full((10, 64 * 36), 0.02)}
    return model(nodes, {"x": [1, 3, 8, 8]}, ["y"], constants)


def test_every_role_gets_its_distribution():
    w = initializers(seed_weights(small()))
    assert w["w"].std() == pytest.approx(1 / math.sqrt(27), rel=0.1)
    assert np.abs(w["b"]).max() < 0.3
    assert w["s"].min() > 0.7 and w["s"].max() < 1.3
    assert w["v"].min() > 0.5 and w["v"].max() < 1.5
    assert np.abs(w["m"]).max() < 0.5 and w["m"].std() > 0.01
    assert w["g"].min() > 0.7 and w["g"].max() < 1.3 and w["g"].std() > 0.01
    assert w["half"] == 0.5
    np.testing.assert_array_equal(w["axes"], [1, 2])
    assert "shape" not in w


def test_the_model_is_whole_and_alive():
    proto = seed_weights(small())
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(proto))
    assert [i.name for i in proto.graph.input] == ["x"]
    assert "ConstantOfShape" not in {n.op_type for n in proto.graph.node}
    (y,) = onnxruntime_outputs(proto, {"x": weights(1, 3, 8, 8)})
    assert 0.05 < y.std() < 10


def test_the_argument_is_left_alone():
    proto = small()
    before = proto.SerializeToString(deterministic=True)
    seed_weights(proto)
    assert proto.SerializeToString(deterministic=True) == before


def test_same_seed_same_weights():
    first, second, other = (initializers(seed_weights(small(), s)) for s in (1, 1, 2))
    for name in ("w", "k", "v"):
        np.testing.assert_array_equal(first[name], second[name])
        assert not np.array_equal(first[name], other[name])
    assert not np.array_equal(first["s"], first["g"])


@pytest.mark.parametrize(
    "name",
    [
        "light_densenet121",
        "light_inception_v1",
        "light_inception_v2",
        "light_resnet50",
        "light_shufflenet",
        "light_squeezenet",
    ],
)
def test_bundled_models_stay_alive(name):
    """Finite activations of moderate size everywhere, and an output that is neither one-hot nor uniform."""
    proto = seed_weights(onnx.load(bundled_models()[name]))
    output = proto.graph.output[0].name
    tapped = onnx.ModelProto()
    tapped.CopyFrom(proto)
    names = [n.output[0] for n in proto.graph.node]
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    arrays = dict(
        zip(names, onnxruntime_outputs(tapped, {proto.graph.input[0].name: weights(1, 3, 224, 224)}), strict=True)
    )
    for value, array in arrays.items():
        assert np.isfinite(array).all(), value
        assert np.abs(array).max() < 1e3, value
        if value != output and array.size > 1:
            assert array.std() > 1e-3, value
    y = arrays[output].reshape(-1)
    if proto.graph.node[-1].op_type == "Softmax":
        assert y.max() < 0.5
        assert y.max() > 2 * y.min()
    else:
        assert 0.1 < y.std() < 10


def test_a_seeded_model_computes_the_same_after_all_passes():
    """The whole way of a real model: import, passes, layouts, export, against ONNX Runtime on the original."""
    from luthier.graph.export import to_onnx
    from luthier.graph.layouts import assign_layouts
    from luthier.graph.passes import run_passes

    for name in ("light_densenet121", "light_shufflenet"):
        proto = seed_weights(onnx.load(bundled_models()[name]))
        feeds = {proto.graph.input[0].name: weights(1, 3, 224, 224)}
        laid = assign_layouts(run_passes(load_model(proto)), 16)
        (expected,), (got,) = onnxruntime_outputs(proto, feeds), onnxruntime_outputs(to_onnx(laid), feeds)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
