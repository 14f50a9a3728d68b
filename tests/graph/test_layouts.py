"""Layout assignment: few conversions, legal layouts, unchanged results."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_graphs import (
    assert_same,
    check_consistent,
    graph_outputs,
    load,
    model,
    node,
    ops,
    positive,
    random_feeds,
    weights,
)

from luthier.errors import Error
from luthier.graph.fusion import partition
from luthier.graph.ir import PLAIN, Layout
from luthier.graph.kinds import ELEMENTWISE, POOLS, data_inputs, same_memory
from luthier.graph.layouts import assign_layouts
from luthier.graph.onnx_import import bundled_models, load_model
from luthier.graph.passes import run_passes


def converts(graph):
    """The conversions that move memory."""
    nodes = [n for n in graph.nodes if n.op == "LayoutConvert"]
    return [n for n in nodes if not same_memory(n.inputs[0].shape, n.inputs[0].layout, n.outputs[0].layout)]


def assign(graph, block=4):
    """Assign layouts and check what must always hold."""
    result = assign_layouts(graph, block)
    check_consistent(result)
    assert all(v.layout == PLAIN for v in (*result.inputs, *result.outputs, *result.constants))
    for n in result.nodes:
        y = n.outputs[0]
        if n.op == "Conv":
            x, group = n.inputs[0], n.attrs["group"]
            assert y.layout.block, n
            assert x.layout.block or (group == 1 and x.shape[1] < block), n
            if group not in (1, x.shape[1]):
                for v in (x, y):
                    assert v.layout.block == v.shape[1] or v.shape[1] // group % v.layout.block == 0, n
        if n.op in ELEMENTWISE or n.op in POOLS:
            for v in data_inputs(n):
                if v not in result.constants and v.shape == y.shape:
                    assert v.layout == y.layout, n
    return result


def checked(graph, block=4):
    """Assign layouts; check that the graph still computes the same."""
    result = assign(graph, block)
    assert_same(graph, result, rtol=1e-4, atol=1e-4)
    return result


def conv(x, w, y, **attrs):
    return node("Conv", f"{x} {w}", y, **attrs)


# ------------------------------------------------------------------------------------------ real models

MOVES = {"light_squeezenet": 1}
KERNELS = {
    "light_bvlc_alexnet": 14,
    "light_densenet121": 126,
    "light_inception_v1": 75,
    "light_inception_v2": 84,
    "light_resnet50": 57,
    "light_shufflenet": 56,
    "light_squeezenet": 31,
    "light_vgg19": 25,
    "light_zfnet512": 14,
}


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models_hardly_convert(name):
    graph = run_passes(load_model(name))
    result = assign(graph, 16)
    assert len(converts(result)) == MOVES.get(name, 0)
    first = next(n for n in result.nodes if n.op == "Conv")
    assert first.inputs == [graph.inputs[0], *first.inputs[1:]]
    assert first.outputs[0].layout.block
    assert sum(g.kind == "kernel" for g in partition(result)) == KERNELS[name]


@pytest.mark.parametrize("block", [8, 16])
def test_resnet50_is_blocked_from_end_to_end(block):
    result = assign(run_passes(load_model("light_resnet50")), block)
    assert not converts(result)
    images = [v for n in result.nodes for v in n.outputs if len(v.shape) == 4 and v.shape[2] > 1]
    assert {v.layout for v in images} == {Layout(block)}


def test_shufflenet_has_whole_channels_and_no_kernel_for_a_shuffle():
    """Its groups have 6, 28, 34, 68, ... channels, which no vector divides; each ends with a short vector instead."""
    result = assign(run_passes(load_model("light_shufflenet")), 16)
    grouped = [n for n in result.nodes if n.op == "Conv" and 1 < n.attrs["group"] < n.inputs[0].shape[1]]
    assert all(n.outputs[0].layout == Layout(n.outputs[0].shape[1]) for n in grouped)
    shuffling = [[n.op for n in g.nodes] for g in partition(result) if any(n.op == "ChannelShuffle" for n in g.nodes)]
    assert len(shuffling) == 16
    assert all(nodes[:2] == ["ChannelShuffle", "Conv"] for nodes in shuffling)


# ------------------------------------------------------------------------------------------ small graphs


def test_no_convolution_no_blocks():
    graph = load([node("Relu", "x", "a"), node("MaxPool", "a", "y", kernel_shape=[2, 2])], [1, 8, 4, 4])
    assert ops(checked(graph)) == ["Relu", "MaxPool"]


def test_first_convolution_reads_plain_input():
    graph = checked(load([conv("x", "w", "a"), node("Relu", "a", "y")], [1, 3, 4, 4], {"w": weights(8, 3, 3, 3)}))
    assert ops(graph) == ["Conv", "Relu", "LayoutConvert"]


def test_plain_input_with_many_channels_is_converted_once():
    chain = [conv("x", "w", "a"), conv("x", "w", "b"), node("Add", "a b", "y")]
    graph = checked(load(chain, [1, 8, 4, 4], {"w": weights(8, 8, 3, 3)}))
    assert ops(graph) == ["LayoutConvert", "Conv", "Conv", "Add", "LayoutConvert"]


def test_conversion_is_shared():
    chain = [conv("x", "w", "a"), node("Transpose", "a", "y"), node("Softmax", "a", "z")]
    graph = checked(load(chain, [1, 3, 4, 4], {"w": weights(8, 3, 3, 3)}, ["y", "z", "a"]))
    assert ops(graph).count("LayoutConvert") == 1


@pytest.mark.parametrize("channels", [8, 31, 6, 3, 1])
def test_channels_that_do_not_fill_blocks(channels):
    graph = checked(
        load([conv("x", "w", "a"), node("Relu", "a", "y")], [1, 3, 4, 4], {"w": weights(channels, 3, 3, 3)})
    )
    assert graph.nodes[0].outputs[0].layout == Layout(4)


@pytest.mark.parametrize("first", [8, 6])
def test_concatenation_stays_blocked(first):
    chain = [conv("x", "v", "a"), conv("x", "w", "b"), node("Concat", "a b", "c", axis=1), conv("c", "u", "y")]
    constants = {"v": weights(first, 3, 3, 3), "w": weights(8, 3, 3, 3), "u": weights(4, first + 8, 1, 1)}
    graph = checked(load(chain, [1, 3, 5, 5], constants))
    concat = next(n for n in graph.nodes if n.op == "Concat")
    assert concat.outputs[0].layout.block == 4
    assert len(converts(graph)) == 1  # of the output


@pytest.mark.parametrize(("begin", "end"), [(4, 12), (2, 10)])
def test_slice_of_channels(begin, end):
    chain = [conv("x", "w", "a"), node("Slice", "a s e t", "b"), conv("b", "v", "y")]
    constants = {"w": weights(16, 3, 1, 1), "v": weights(4, 8, 1, 1), "s": [begin], "e": [end], "t": [1]}
    graph = checked(load(chain, [1, 3, 5, 5], constants))
    sliced = next(n for n in graph.nodes if n.op == "Slice")
    assert sliced.outputs[0].layout.block == 4
    assert len(converts(graph)) == 1


@pytest.mark.parametrize(("groups", "left"), [(2, 2), (4, 4), (8, 4), (16, 16)])
def test_groups_are_merged_until_they_fill_blocks(groups, left):
    """Groups of 8 and 4 channels fill blocks of 4; groups of 2 are merged; a group for each channel is left alone."""
    chain = [conv("x", "w", "a"), node("Relu", "a", "b"), conv("b", "v", "c", group=groups), node("Relu", "c", "y")]
    graph = checked(load(chain, [1, 3, 5, 5], {"w": weights(16, 3, 3, 3), "v": weights(16, 16 // groups, 1, 1)}))
    convs = [n for n in graph.nodes if n.op == "Conv"]
    assert convs[1].attrs["group"] == left
    assert {n.outputs[0].layout.block for n in graph.nodes if n.op in ("Conv", "Relu")} == {4}


def test_computed_weights_cannot_be_merged():
    """Their groups stay, and all channels make one block there."""
    chain = [conv("x", "w", "a"), node("Exp", "v", "u"), conv("a", "u", "y", group=4)]
    proto = model(chain, {"x": [1, 3, 5, 5], "v": [8, 2, 1, 1]}, ["y"], {"w": weights(8, 3, 3, 3)})
    graph = checked(load_model(proto))
    assert [n.outputs[0].layout.block for n in graph.nodes if n.op == "Conv"] == [8, 8]


def test_squeeze_and_excite_stays_blocked():
    chain = [
        conv("x", "w", "a"),
        node("GlobalAveragePool", "a", "p"),
        conv("p", "d", "q"),
        node("Relu", "q", "r"),
        conv("r", "u", "s"),
        node("Sigmoid", "s", "t"),
        node("Mul", "a t", "m"),
        conv("m", "v", "y"),
    ]
    constants = {"w": weights(8, 3, 1, 1), "d": weights(4, 8, 1, 1), "u": weights(8, 4, 1, 1), "v": weights(4, 8, 1, 1)}
    assert len(converts(checked(load(chain, [2, 3, 5, 5], constants)))) == 1  # of the output


@pytest.mark.parametrize("reader", ["Gemm", "GemmT", "MatMul"])
def test_flatten_folds_into_the_weights(reader):
    transposed = reader == "GemmT"
    last = node("MatMul", "f k", "y") if reader == "MatMul" else node("Gemm", "f k c", "y", transB=int(transposed))
    chain = [conv("x", "w", "a"), node("Flatten", "a", "f"), last]
    k = weights(6, 8 * 9) if transposed else weights(8 * 9, 6)
    graph = checked(load(chain, [2, 3, 3, 3], {"w": weights(8, 3, 1, 1), "k": k, "c": weights(6)}))
    assert ops(graph) == ["Conv", "PhysicalFlatten", last.op_type]
    assert graph.nodes[1].attrs == {"block": 4}
    flat, image = graph.nodes[1].outputs[0], graph.nodes[1].inputs[0]
    assert math.prod(flat.shape) == math.prod(image.physical_shape)


def test_flatten_with_another_reader_is_converted():
    chain = [conv("x", "w", "a"), node("Flatten", "a", "f"), node("MatMul", "f k", "y"), node("Softmax", "f", "z")]
    graph = load(chain, [2, 3, 3, 3], {"w": weights(8, 3, 1, 1), "k": weights(72, 5)}, ["y", "z"])
    assert ops(checked(graph))[:3] == ["Conv", "LayoutConvert", "Flatten"]


def test_flatten_of_single_pixels_moves_nothing():
    chain = [
        conv("x", "w", "a"),
        node("GlobalAveragePool", "a", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f k", "y"),
    ]
    graph = checked(load(chain, [2, 3, 3, 3], {"w": weights(8, 3, 1, 1), "k": weights(8, 5)}))
    assert not converts(graph)
    assert "PhysicalFlatten" not in ops(graph)


def test_shared_weights_are_permuted_once():
    chain = [
        conv("x", "w", "a"),
        node("Flatten", "a", "f"),
        node("MatMul", "f k", "y"),
        node("MatMul", "f k", "z"),
    ]
    graph = checked(load(chain, [1, 3, 3, 3], {"w": weights(8, 3, 1, 1), "k": weights(72, 5)}, ["y", "z"]))
    first, second = (n for n in graph.nodes if n.op == "MatMul")
    assert first.inputs[1] is second.inputs[1]


def test_images_of_other_ranks():
    graph = checked(
        load([conv("x", "w", "a"), conv("a", "v", "y")], [2, 3, 9], {"w": weights(8, 3, 3), "v": weights(8, 8, 3)})
    )
    assert [n.outputs[0].layout.block for n in graph.nodes] == [4, 4, 0]


def test_transposed_convolution_keeps_the_layout_of_its_neighbours():
    chain = [conv("x", "w", "a"), node("ConvTranspose", "a t", "b", strides=[2, 2]), conv("b", "v", "y")]
    constants = {"w": weights(8, 3, 1, 1), "t": weights(8, 6, 2, 2), "v": weights(4, 6, 3, 3)}
    graph = checked(load(chain, [1, 3, 4, 4], constants))
    assert ops(graph) == ["Conv", "ConvTranspose", "Conv", "LayoutConvert"]


def test_argument_is_left_alone():
    graph = load([conv("x", "w", "a"), node("Relu", "a", "y")], [1, 8, 4, 4], {"w": weights(8, 8, 1, 1)})
    before = [(n, list(n.inputs), list(n.outputs)) for n in graph.nodes]
    assign(graph)
    assert [(n, list(n.inputs), list(n.outputs)) for n in graph.nodes] == before
    assert all(v.layout == PLAIN for n in graph.nodes for v in n.outputs)


def test_bad_block():
    with pytest.raises(Error, match=r"assign_layouts\(block=0\): must be at least 1"):
        assign_layouts(load([node("Relu", "x", "y")], [1, 2, 3, 4]), 0)


def test_layouts_agree_where_memory_is_the_same():
    assert same_memory((2, 8, 1, 1), Layout(4), PLAIN)
    assert same_memory((2, 8, 1, 1), Layout(4), Layout(8))
    assert not same_memory((2, 6, 1, 1), Layout(4), PLAIN)
    assert not same_memory((2, 8, 2, 1), Layout(4), PLAIN)
    assert same_memory((2, 8, 2, 1), Layout(4), Layout(4))


STEPS = {
    "conv": lambda x, y: [conv(x, "w", y, pads=[1, 1, 1, 1])],
    "grouped": lambda x, y: [conv(x, "g", y, group=4)],
    "depthwise": lambda x, y: [conv(x, "d", y, group=8, pads=[1, 1, 1, 1])],
    "relu": lambda x, y: [node("Relu", x, y)],
    "pool": lambda x, y: [node("MaxPool", x, y, kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
    "lrn": lambda x, y: [node("LRN", x, y, size=3)],
    "scale": lambda x, y: [node("Mul", f"{x} k", y)],
    "residual": lambda x, y: [node("Add", f"{x} x", y)],
    "turn": lambda x, y: [node("Transpose", x, y, perm=[0, 1, 3, 2])],
    "halves": lambda x, y: [
        node("Slice", f"{x} zero four one", f"{y}a"),
        node("Slice", f"{x} four eight one", f"{y}b"),
        node("Concat", f"{y}b {y}a", y, axis=1),
    ],
    "thirds": lambda x, y: [
        node("Slice", f"{x} zero three one", f"{y}a"),
        node("Slice", f"{x} three eight one", f"{y}b"),
        node("Concat", f"{y}b {y}a", y, axis=1),
    ],
}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=7), st.sampled_from([1, 3, 4, 8, 16]))
def test_random_chains(steps, block):
    """Whatever the chain and the block: legal layouts, same results; and the groups hold every node once."""
    constants = {
        "w": weights(8, 8, 3, 3) / 9,
        "g": weights(8, 2, 1, 1),
        "d": weights(8, 1, 3, 3),
        "k": positive(8, 1, 1),
        **{n: [i] for n, i in (("zero", 0), ("one", 1), ("three", 3), ("four", 4), ("eight", 8))},
    }
    nodes, last = [], "x"
    for i, step in enumerate(steps):
        nodes += STEPS[step](last, f"t{i}")
        last = f"t{i}"
    graph = run_passes(load(nodes, [1, 8, 4, 4], constants, [last]))
    result = assign_layouts(graph, block)
    check_consistent(result)
    feeds = random_feeds(graph)
    for a, b in zip(graph_outputs(graph, feeds), graph_outputs(result, feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    grouped = [n for g in partition(result) for n in g.nodes]
    assert sorted(map(id, grouped)) == sorted(map(id, result.nodes))
