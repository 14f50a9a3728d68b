"""Importing: the bundled models, one internal form for all opsets, shapes."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_graphs import assert_same, check_consistent, graph_outputs, model, node, onnxruntime_outputs, ops

from luthier.graph.onnx_import import bundled_models, load_model

LIGHT = {
    "light_bvlc_alexnet": (5, (1, 1000)),
    "light_densenet121": (121, (1, 1000, 1, 1)),
    "light_inception_v1": (57, (1, 1000)),
    "light_inception_v2": (69, (1, 1000)),
    "light_resnet50": (53, (1, 1000)),
    "light_shufflenet": (49, (1, 1000)),
    "light_squeezenet": (26, (1, 1000, 1, 1)),
    "light_vgg19": (16, (1, 1000)),
    "light_zfnet512": (5, (1, 1000)),
}


def x_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", LIGHT)
def test_bundled_model(name):
    convs, shape = LIGHT[name]
    graph = load_model(name)
    check_consistent(graph)
    assert [v.shape for v in graph.inputs] == [(1, 3, 224, 224)]
    assert [v.shape for v in graph.outputs] == [shape]
    assert ops(graph).count("Conv") == convs
    assert all(len(n.attrs["pads"]) == 4 and n.attrs["kernel_shape"] for n in graph.nodes if n.op == "Conv")


def test_bundled_names_are_all_covered():
    assert set(LIGHT) == set(bundled_models())


def test_path_bytes_and_proto_give_the_same(tmp_path):
    proto = model([node("Relu", "x", "y")], {"x": [2, 3]}, ["y"])
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    for source in (path, str(path), path.read_bytes(), proto):
        graph = load_model(source)
        assert ops(graph) == ["Relu"]
        assert graph.nodes[0].names == ("Relu_0",)


def test_external_data_is_read_beside_the_model(tmp_path):
    w = x_of((4, 3))
    proto = model([node("MatMul", "x w", "y")], {"x": [2, 4]}, ["y"], {"w": w})
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    graph = load_model(tmp_path / "m.onnx")
    (array,) = graph.constants.values()
    np.testing.assert_array_equal(array, w)


def test_constant_nodes_of_every_kind():
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([5.0], np.float32), "v"), numpy_helper.from_array(np.array([1], np.int64)), [3]
    )
    nodes = [
        node("Constant", "", "a", value_floats=[1.0, 2.0, 3.0]),
        node("Constant", "", "b", value_float=10.0),
        helper.make_node("Constant", [], ["c"], sparse_value=sparse),
        node("Constant", "", "d", value=numpy_helper.from_array(np.array([7, 8, 9], np.float32))),
        node("Sum", "x a b c d", "y"),
    ]
    graph = load_model(model(nodes, {"x": [3]}, ["y"]))
    assert ops(graph) == ["Sum"]
    (y,) = graph_outputs(graph, {"x": np.zeros(3, np.float32)})
    np.testing.assert_array_equal(y, [18, 25, 22])


def test_shape_override_completes_open_dimensions():
    proto = model([node("Relu", "x", "y")], {"x": ["batch", 3, None]}, ["y"])
    assert load_model(proto, {"x": [4, 3, 5]}).outputs[0].shape == (4, 3, 5)


def test_computed_shape_becomes_static():
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Unsqueeze", "n axes", "n1"),
        node("Concat", "n1 rest", "target", axis=0),
        node("Reshape", "x target", "y"),
    ]
    constants = {"zero": np.array(0), "axes": [0], "rest": [-1]}
    graph = load_model(model(nodes, {"x": ["N", 3, 4]}, ["y"], constants), {"x": (2, 3, 4)})
    assert ops(graph) == ["Reshape"]
    assert graph.nodes[0].attrs == {"shape": (2, 12)}
    assert len(graph.nodes[0].inputs) == 1


FORMS = {
    "squeeze11": (11, node("Squeeze", "x", "y", axes=[-1, 0]), {}, "Squeeze", {"axes": (0, 3)}),
    "squeeze13": (13, node("Squeeze", "x a", "y"), {"a": [3, 0]}, "Squeeze", {"axes": (0, 3)}),
    "squeeze_all": (13, node("Squeeze", "x", "y"), {}, "Squeeze", {"axes": (0, 3)}),
    "unsqueeze11": (11, node("Unsqueeze", "x", "y", axes=[0, -1]), {}, "Unsqueeze", {"axes": (0, 5)}),
    "unsqueeze13": (13, node("Unsqueeze", "x a", "y"), {"a": [0, 5]}, "Unsqueeze", {"axes": (0, 5)}),
    "clip6": (9, node("Clip", "x", "y", min=0.0, max=6.0), {}, "Clip", {"min": 0.0, "max": 6.0}),
    "clip11": (13, node("Clip", "x - hi", "y"), {"hi": 6.0}, "Clip", {"min": None, "max": 6.0}),
    "softmax9": (9, node("Softmax", "x", "y"), {}, "Softmax", {"axis": 1, "flatten": True}),
    "softmax9_last": (9, node("Softmax", "x", "y", axis=2), {}, "Softmax", {"axis": 2, "flatten": False}),
    "softmax13": (13, node("Softmax", "x", "y"), {}, "Softmax", {"axis": 3, "flatten": False}),
    "dropout9": (9, node("Dropout", "x", "y", ratio=0.3), {}, "Dropout", {"ratio": pytest.approx(0.3)}),
    "dropout13": (13, node("Dropout", "x", "y"), {}, "Dropout", {"ratio": 0.5}),
    "slice9": (
        9,
        node("Slice", "x", "y", starts=[1, 0], ends=[1000, -1], axes=[1, 2]),
        {},
        "Slice",
        {"axes": (1, 2), "starts": (1, 0), "ends": (4, 4), "steps": (1, 1)},
    ),
    "slice_reversed": (
        13,
        node("Slice", "x s e a t", "y"),
        {"s": [-1], "e": [-1000], "a": [2], "t": [-2]},
        "Slice",
        {"axes": (2,), "starts": (4,), "ends": (-1,), "steps": (-2,)},
    ),
    "pad10": (
        10,
        node("Pad", "x", "y", pads=[0, 0, 1, 2, 0, 0, 3, 4], value=1.5),
        {},
        "Pad",
        {"pads": (0, 0, 1, 2, 0, 0, 3, 4), "mode": "constant", "value": 1.5},
    ),
    "pad18_axes": (
        18,
        node("Pad", "x p - a", "y", mode="reflect"),
        {"p": [1, 2], "a": [-2]},
        "Pad",
        {"pads": (0, 0, 1, 0, 0, 0, 2, 0), "mode": "reflect", "value": 0.0},
    ),
    "reduce11": (
        11,
        node("ReduceSum", "x", "y", axes=[-1], keepdims=0),
        {},
        "ReduceSum",
        {"axes": (3,), "keepdims": 0},
    ),
    "reduce13": (13, node("ReduceSum", "x a", "y"), {"a": [1, 2]}, "ReduceSum", {"axes": (1, 2), "keepdims": 1}),
    "reduce_all": (13, node("ReduceMax", "x", "y"), {}, "ReduceMax", {"axes": (0, 1, 2, 3), "keepdims": 1}),
    "transpose": (13, node("Transpose", "x", "y"), {}, "Transpose", {"perm": (3, 2, 1, 0)}),
    "split": (13, node("Split", "x s", "y z", axis=-3), {"s": [1, 3]}, "Split", {"axis": 1, "split": (1, 3)}),
    "split18": (18, node("Split", "x", "y z", axis=2, num_outputs=2), {}, "Split", {"axis": 2, "split": (3, 2)}),
    "expand": (13, node("Expand", "x s", "y"), {"s": [2, 1, 1, 3]}, "Expand", {"shape": (2, 4, 5, 3)}),
    "tile": (13, node("Tile", "x r", "y"), {"r": [1, 2, 1, 1]}, "Tile", {"repeats": (1, 2, 1, 1)}),
    "cast": (13, node("Cast", "x", "y", to=onnx.TensorProto.INT32), {}, "Cast", {"to": "int32"}),
    "lrn": (13, node("LRN", "x", "y", size=5), {}, "LRN", {"size": 5, "bias": 1.0}),
    "average_same": (
        13,
        node("AveragePool", "x", "y", kernel_shape=[2, 1], strides=[2, 1], auto_pad="SAME_LOWER"),
        {},
        "AveragePool",
        {"kernel_shape": (2, 1), "strides": (2, 1), "pads": (1, 0, 0, 0), "ceil_mode": 0, "count_include_pad": 0},
    ),
    "upsample9": (
        9,
        node("Upsample", "x s", "y", mode="nearest"),
        {"s": [1.0, 1.0, 2.0, 3.0]},
        "Resize",
        {"scales": (1.0, 1.0, 2.0, 3.0), "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    "resize_sizes": (
        13,
        node("Resize", "x - - s", "y", mode="linear"),
        {"s": [1, 4, 10, 2]},
        "Resize",
        {"scales": (1.0, 1.0, 2.0, 2.0), "coordinate_transformation_mode": "half_pixel", "mode": "linear"},
    ),
    "topk": (13, node("TopK", "x k", "y z", axis=-2), {"k": [2]}, "TopK", {"k": 2, "axis": 2, "largest": 1}),
    "cumsum": (13, node("CumSum", "x a", "y", reverse=1), {"a": np.array(-2)}, "CumSum", {"axis": 2, "reverse": 1}),
    "argmax": (13, node("ArgMax", "x", "y", axis=-2), {}, "ArgMax", {"axis": 2, "keepdims": 1}),
}


@pytest.mark.parametrize("case", FORMS)
def test_internal_form(case):
    """Attributes come out in the one form; the graph, exported, computes what ONNX Runtime makes of the original."""
    opset, proto_node, constants, op, attrs = FORMS[case]
    proto = model([proto_node], {"x": [1, 4, 5, 1]}, list(proto_node.output), constants, opset)
    for info in proto.graph.output:
        info.ClearField("type")
    graph = load_model(proto)
    check_consistent(graph)
    (imported,) = graph.nodes
    assert imported.op == op
    assert {k: imported.attrs[k] for k in attrs} == attrs
    x = {"x": x_of((1, 4, 5, 1))}
    typed = onnx.shape_inference.infer_shapes(proto)
    for ours, theirs in zip(graph_outputs(graph, x), onnxruntime_outputs(typed, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_auto_pad_is_resolved(op, auto_pad):
    w = x_of((3, 3, 3, 4))
    proto = model([node(op, "x w", "y", auto_pad=auto_pad, strides=[2, 3])], {"x": [1, 3, 8, 11]}, ["y"], {"w": w})
    graph = load_model(proto)
    assert "auto_pad" not in graph.nodes[0].attrs
    assert graph.nodes[0].attrs["kernel_shape"] == (3, 4)
    x = {"x": x_of((1, 3, 8, 11))}
    np.testing.assert_allclose(graph_outputs(graph, x)[0], onnxruntime_outputs(proto, x)[0], rtol=1e-4, atol=1e-5)


def test_optional_inputs_are_none():
    w = x_of((2, 3, 1, 1))
    graph = load_model(model([node("Conv", "x w", "y")], {"x": [1, 3, 4, 4]}, ["y"], {"w": w}))
    assert graph.nodes[0].inputs[2] is None
    assert graph.nodes[0].attrs == {
        "kernel_shape": (1, 1),
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads": (0, 0, 0, 0),
        "group": 1,
    }


def test_unread_optional_outputs_are_dropped():
    graph = load_model(model([node("MaxPool", "x y i".split()[0], "y i", kernel_shape=[2])], {"x": [1, 1, 4]}, ["y"]))
    assert [v.name for v in graph.nodes[0].outputs] == ["y"]


def test_output_that_is_an_input_is_computed():
    graph = load_model(model([node("Relu", "x", "y")], {"x": [2]}, ["y", "x"]))
    assert [v.name for v in graph.outputs] == ["y", "x"]
    check_consistent(graph)


def test_local_functions_are_inlined():
    body = [node("Relu", "a", "b"), node("Neg", "b", "c")]
    function = helper.make_function("mine", "NegRelu", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    proto = model([helper.make_node("NegRelu", ["x"], ["y"], domain="mine")], {"x": [3]}, ["y"])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    assert ops(load_model(proto)) == ["Relu", "Neg"]


def test_export_round_trip():
    """An exported graph can be imported again and computes the same."""
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Clip", "a - hi", "b"),
        node("GlobalAveragePool", "b", "c"),
        node("Flatten", "c", "d"),
        node("Softmax", "d", "y"),
    ]
    proto = model(nodes, {"x": [2, 3, 6, 5]}, ["y"], {"w": x_of((4, 3, 3, 3)), "hi": 0.7})
    from luthier.graph.export import to_onnx

    graph = load_model(proto)
    assert_same(graph, load_model(to_onnx(graph)))
