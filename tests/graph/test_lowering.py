"""Groups to workloads: constants in the layout in which they are read, epilogues as stages, nodes in any layout."""

import numpy as np
import pytest
from onnx_graphs import graph_outputs
from operators import data, load, store

from luthier.errors import OnnxError
from luthier.graph.evaluate import evaluate_node
from luthier.graph.ir import PLAIN, Graph, Group, Layout, Node, Value
from luthier.graph.lowering import lower_group, supports
from luthier.te.evaluate import evaluate


def value(name, shape, block=0, dtype="float32"):
    return Value(name, dtype, tuple(shape), Layout(block) if block else PLAIN)


def lower(nodes, constants=None):
    """One kernel group of ``nodes``; its outputs are those of the last."""
    return lower_group(Group("kernel", nodes, [], list(nodes[-1].outputs)), Graph([], [], nodes, constants or {}))


def run(lowered, arrays):
    """Evaluate for logical arrays by value; every tail lane of the inputs is poisoned."""
    inputs = [
        lowered.constants[i] if i in lowered.constants else store(arrays[v], v.layout.block)
        for i, v in enumerate(lowered.inputs)
    ]
    results = evaluate(lowered.workload, inputs)
    return [load(r, v.shape, v.layout.block) for r, v in zip(results, lowered.outputs, strict=True)]


def conv_node(x, w, b, y, group=1, **attrs):
    rank = len(x.shape) - 2
    defaults = {"strides": (1,) * rank, "dilations": (1,) * rank, "pads": (1,) * (2 * rank)}
    return Node("Conv", [x, w, b], [y], {"kernel_shape": w.shape[2:], "group": group, **defaults, **attrs}, ("conv",))


@pytest.mark.parametrize("in_block,out_block", [(0, 0), (0, 4), (4, 4), (5, 10), (4, 0)])
def test_conv_bias_scale_residual_relu(in_block, out_block):
    x, y = value("x", (1, 5, 4, 6), in_block), value("y", (1, 10, 4, 6), out_block)
    z, s, t = (value(n, y.shape, out_block) for n in "zst")
    r = value("r", y.shape, out_block)
    w, b, scale, shift = value("w", (10, 5, 3, 3)), value("b", (10,)), value("scale", (10,)), value("shift", (10,))
    constants = {v: data(*v.shape, seed=i) for i, v in enumerate((w, b, scale, shift), 1)}
    nodes = [
        conv_node(x, w, b, y),
        Node("ScaleShift", [y, scale, shift], [z], {}, ("norm",)),
        Node("Add", [z, r], [s], {}, ("add",)),
        Node("Relu", [s], [t], {}, ("relu",)),
    ]
    lowered = lower(nodes, constants)
    arrays = {x: data(*x.shape), r: data(*r.shape, seed=9)}
    (conv,) = evaluate_node(nodes[0], [arrays[x], constants[w], constants[b]])
    per_channel = (1, 10, 1, 1)
    scaled = conv * constants[scale].reshape(per_channel) + constants[shift].reshape(per_channel)
    (result,) = run(lowered, arrays)
    np.testing.assert_allclose(result, np.maximum(scaled + arrays[r], 0), rtol=1e-4, atol=1e-4)
    assert [stage.tag for stage in lowered.workload.stages] == ["conv2d", *["injective"] * 4]
    assert lowered.workload.anchor.tag == "conv2d"
    assert lowered.inputs == (x, w, b, scale, shift, r)
    assert lowered.names == ("conv", "norm", "add", "relu")


def test_constants_are_padded_and_blocked_like_their_placeholders():
    x, y = value("x", (1, 3, 4, 4)), value("y", (1, 6, 4, 4), 4)
    w, b = value("w", (6, 3, 3, 3)), value("b", (6,))
    constants = {w: data(6, 3, 3, 3), b: data(6)}
    lowered = lower([conv_node(x, w, b, y)], constants)
    assert [p.constant for p in lowered.workload.inputs] == [False, True, True]
    for position, array in lowered.constants.items():
        assert array.shape == lowered.workload.inputs[position].shape
        assert array.dtype == np.float32
    weight, bias = lowered.constants[1], lowered.constants[2]
    np.testing.assert_array_equal(weight[:6], constants[w])
    np.testing.assert_array_equal(weight[6:], 0)
    np.testing.assert_array_equal(bias.reshape(-1), [*constants[b], 0, 0])
    (_, bias_stage) = lowered.workload.stages
    assert str(bias_stage.body) == "conv[n, c_o, h, w, c_i] + b[n, c_o, 0, 0, c_i]"


def test_weights_computed_at_run_time_are_padded_by_a_stage():
    x, y, w = value("x", (1, 3, 4, 4), 4), value("y", (1, 6, 4, 4), 4), value("w", (6, 3, 3, 3))
    lowered = lower([conv_node(x, w, None, y)])
    arrays = {x: data(*x.shape), w: data(*w.shape, seed=1)}
    assert lowered.constants == {}
    (expected,) = evaluate_node(conv_node(x, w, None, y), [arrays[x], arrays[w], None])
    np.testing.assert_allclose(run(lowered, arrays)[0], expected, rtol=1e-4, atol=1e-5)


def test_one_constant_may_be_read_in_two_forms():
    x, y, z, c = (
        value("x", (1, 6, 2, 2), 4),
        value("y", (1, 6, 2, 2), 4),
        value("z", (1, 6, 2, 2)),
        value("c", (1, 6, 1, 1)),
    )
    constants = {c: data(1, 6, 1, 1)}
    nodes = [
        Node("Mul", [x, c], [y], {}, ("mul",)),
        Node("LayoutConvert", [y], [z], {}, ()),
        Node("Add", [z, c], [value("t", z.shape)], {}, ("add",)),
    ]
    lowered = lower(nodes, constants)
    assert [v.name for v in lowered.inputs] == ["x", "c", "c"]
    a = data(*x.shape)
    np.testing.assert_allclose(run(lowered, {x: a})[0], a * constants[c] + constants[c], rtol=1e-6)


def test_scalar_constants_are_part_of_the_expression():
    x, y, c = value("x", (2, 3)), value("y", (2, 3)), value("c", (1, 1))
    lowered = lower([Node("Mul", [x, c], [y], {}, ("mul",))], {c: np.array([[2.5]], np.float32)})
    assert lowered.inputs == (x,)
    assert str(lowered.workload.outputs[0].body) == "x[n, c] * 2.5"


def test_what_passes_through_is_copied():
    x, y = value("x", (1, 6, 2, 2), 4), value("y", (1, 6, 2, 2), 4)
    lowered = lower([Node("Identity", [x], [y], {}, ("same",))])
    a = data(*x.shape)
    np.testing.assert_array_equal(run(lowered, {x: a})[0], a)


def test_several_outputs():
    x, a, b = value("x", (1, 8, 2, 2), 4), value("a", (1, 2, 2, 2), 4), value("b", (1, 6, 2, 2))
    lowered = lower([Node("Split", [x], [a, b], {"axis": 1, "split": (2, 6)}, ("split",))])
    array = data(*x.shape)
    first, second = run(lowered, {x: array})
    np.testing.assert_array_equal(first, array[:, :2])
    np.testing.assert_array_equal(second, array[:, 2:])


IMAGE = (2, 6, 4, 4)
WINDOW = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 0, 0), "dilations": (1, 1), "ceil_mode": 0}
NODES = {
    "MaxPool": (WINDOW, (2, 6, 2, 2)),
    "AveragePool": ({**WINDOW, "count_include_pad": 1}, (2, 6, 2, 2)),
    "GlobalAveragePool": ({}, (2, 6, 1, 1)),
    "GlobalMaxPool": ({}, (2, 6, 1, 1)),
    "LRN": ({"size": 3, "alpha": 0.1, "beta": 0.75, "bias": 1.0}, IMAGE),
    "Softmax": ({"axis": 1, "flatten": False}, IMAGE),
    "LogSoftmax": ({"axis": 2, "flatten": True}, IMAGE),
    "ReduceMean": ({"axes": (1, 3), "keepdims": 1}, (2, 1, 4, 1)),
    "ArgMax": ({"axis": 1, "keepdims": 1, "select_last_index": 0}, (2, 1, 4, 4)),
    "Transpose": ({"perm": (0, 2, 3, 1)}, (2, 4, 4, 6)),
    "Reshape": ({"shape": (2, 12, 8)}, (2, 12, 8)),
    "Slice": ({"axes": (1, 2), "starts": (5, 0), "ends": (-1, 4), "steps": (-2, 3)}, (2, 3, 2, 4)),
    "Pad": ({"pads": (0, 1, 0, 2, 0, 0, 1, 0), "mode": "constant", "value": 1.5}, (2, 7, 5, 6)),
    "Tile": ({"repeats": (1, 2, 1, 2)}, (2, 12, 4, 8)),
    "LayoutConvert": ({}, IMAGE),
    "ChannelShuffle": ({"groups": 2}, IMAGE),
    "Clip": ({"min": -0.5, "max": None}, IMAGE),
    "LeakyRelu": ({"alpha": 0.1}, IMAGE),
    "Flatten": ({"axis": 1}, (2, 96)),
    "Squeeze": ({"axes": ()}, IMAGE),
    "CumSum": ({"axis": 1, "exclusive": 1, "reverse": 0}, IMAGE),
    "MeanVarianceNormalization": ({"axes": (0, 2, 3)}, IMAGE),
    "LpNormalization": ({"axis": 1, "p": 2}, IMAGE),
}


@pytest.mark.parametrize("blocks", [(0, 0), (4, 4), (4, 0), (0, 4), (6, 6), (4, 3)])
@pytest.mark.parametrize("op", NODES)
def test_operators_in_any_layout(op, blocks):
    attrs, shape = NODES[op]
    source, target = blocks
    x = value("x", IMAGE, source)
    y = value("y", shape, target, "int64" if op == "ArgMax" else "float32")
    node = Node(op, [x], [y], attrs, (op,))
    array = data(*IMAGE)
    (expected,) = graph_outputs(Graph([x], [y], [node], {}), {"x": array})
    (result,) = run(lower([node]), {x: array})
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_physical_flatten_keeps_the_order_of_memory():
    x, y = value("x", (1, 8, 2, 3), 4), value("y", (1, 48))
    node = Node("PhysicalFlatten", [x], [y], {"block": 4}, ())
    array = data(*x.shape)
    np.testing.assert_array_equal(run(lower([node]), {x: array})[0], store(array, 4).reshape(1, 48))


@pytest.mark.parametrize("block", [0, 4])
def test_batch_normalization_with_computed_statistics(block):
    x, y = value("x", IMAGE, block), value("y", IMAGE, block)
    statistics = [value(n, (6,)) for n in ("scale", "bias", "mean", "var")]
    node = Node("BatchNormalization", [x, *statistics], [y], {"epsilon": 1e-3}, ("bn",))
    arrays = {v: data(*v.shape, seed=i) for i, v in enumerate((x, *statistics))}
    arrays[statistics[3]] = np.abs(arrays[statistics[3]])
    (expected,) = evaluate_node(node, list(arrays.values()))
    for constants in ({}, {v: arrays[v] for v in statistics}):
        np.testing.assert_allclose(run(lower([node], constants), arrays)[0], expected, rtol=1e-4, atol=1e-5)


def test_gemm_in_all_its_forms():
    for trans_a in (0, 1):
        for trans_b in (0, 1):
            a, b = value("a", (3, 5)[:: -1 if trans_a else 1]), value("b", (5, 4)[:: -1 if trans_b else 1])
            c, y = value("c", (3, 1)), value("y", (3, 4))
            attrs = {"alpha": 0.5, "beta": 2.0, "transA": trans_a, "transB": trans_b}
            node = Node("Gemm", [a, b, c], [y], attrs, ("fc",))
            arrays = {v: data(*v.shape, seed=i) for i, v in enumerate((a, b, c))}
            (expected,) = evaluate_node(node, list(arrays.values()))
            np.testing.assert_allclose(run(lower([node], {b: arrays[b]}), arrays)[0], expected, rtol=1e-5, atol=1e-5)


def test_supports_says_why_not():
    x, y = value("x", (2, 2)), value("y", (2, 2))
    assert supports(Node("Relu", [x], [y])) is None
    assert supports(Node("NonZero", [x], [y])) == "operator NonZero is not supported"
    resize = {
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "floor",
        "antialias": 1,
    }
    assert supports(Node("Resize", [x], [y], resize)) == "Resize with antialias=1 is not supported"


def test_an_unknown_operator_names_the_node():
    x, y = value("x", (2, 2)), value("y", (2, 2))
    flags = value("flags", (2, 2), dtype="bool")
    with pytest.raises(OnnxError, match=r"flags_up \(Relu\): max: operands are bool; convert them with te.cast"):
        lower([Node("Relu", [flags], [flags], {}, ("flags_up",))])
    with pytest.raises(OnnxError, match="where_is_it: operator NonZero is not supported"):
        lower([Node("NonZero", [x], [y], {}, ("where_is_it",))])


def test_an_absent_input_names_the_node():
    y = value("y", (2, 2))
    with pytest.raises(OnnxError, match=r"lost \(Softmax\): input 0 is required, but absent"):
        lower([Node("Softmax", [None], [y], {"axis": 1}, ("lost",))])
