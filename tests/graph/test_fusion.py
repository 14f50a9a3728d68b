"""Grouping: what fuses, what stays apart, and that groups compute what the graph computes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_graphs import batch_norm, graph_outputs, load, node, norm, positive, random_feeds, weights

from luthier.graph.fusion import partition
from luthier.graph.layouts import assign_layouts
from luthier.graph.onnx_import import load_model
from luthier.graph.passes import run_passes

from .grouping import check, conv, groups_of, kinds, run_groups, size_bytes

# ------------------------------------------------------------------------------------------ real models


def test_resnet50():
    """Every convolution is one kernel with its bias, its ReLU and, at the end of a block, the addition."""
    found = kinds(groups_of(load_model("light_resnet50"), 16))
    assert found.count("kernel Conv Relu") == 33
    assert found.count("kernel Conv Add Relu") == 16
    assert found.count("kernel Conv") == 4  # the projections of the shortcuts
    assert found[1] == "kernel MaxPool"
    assert found[-5:] == [
        "kernel GlobalAveragePool",
        "view LayoutConvert",
        "view Reshape",
        "kernel Gemm",
        "kernel Softmax",
    ]
    assert len(found) == 59


def test_densenet_blocks_are_one_buffer():
    """Each concatenation is a view whose first part is the one before: a block's memory grows in place."""
    groups = groups_of(load_model("light_densenet121"), 16)
    found = kinds(groups)
    assert found.count("view Concat") == 58
    assert "kernel Concat" not in found
    assert found.count("kernel ScaleShift Relu Conv Relu") == 58
    joins = [g for g in groups if g.offsets]
    nested = [g for before, g in zip(joins, joins[1:], strict=False) if g.inputs[0] is before.outputs[0]]
    assert len(nested) == 58 - 4  # all but the first of each block
    assert all(g.offsets == (0, size_bytes(g.inputs[0])) for g in joins)


def test_inception_concatenates_in_place():
    found = kinds(groups_of(load_model("light_inception_v1"), 16))
    assert found.count("view Concat") == 9
    assert found.count("kernel Conv Relu") == 57


# ---------------------------------------------------------------------------------------------- epilogue


def test_both_branches_of_an_addition():
    """The addition joins the convolution that is made last; the other one's result is its input."""
    chain = [conv("x", "v", "a"), conv("x", "w", "b"), node("Add", "b a", "c"), node("Relu", "c", "y")]
    graph = load(chain, [1, 3, 4, 4], {"v": weights(8, 3, 1, 1), "w": weights(8, 3, 1, 1)})
    groups = groups_of(graph)
    assert kinds(groups) == ["kernel Conv", "kernel Conv Add Relu", "kernel LayoutConvert"]
    assert groups[0].outputs[0] in groups[1].inputs


def test_a_kernel_waits_for_the_other_operand():
    """The residual is computed after the convolution in the model, before it in the groups."""
    chain = [
        conv("x", "w", "a"),
        conv("x", "v", "b"),
        node("MaxPool", "b", "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Add", "a p", "q"),
        conv("q", "u", "y"),
    ]
    graph = load(chain, [1, 3, 4, 4], {"w": weights(8, 3, 1, 1), "v": weights(8, 3, 1, 1), "u": weights(4, 8, 1, 1)})
    assert kinds(groups_of(graph))[:4] == ["kernel Conv", "kernel MaxPool", "kernel Conv Add", "kernel Conv"]


def test_a_result_with_two_readers_is_stored():
    chain = [conv("x", "w", "a"), node("Relu", "a", "b"), node("Neg", "a", "c"), node("Mul", "b c", "y")]
    found = kinds(groups_of(load(chain, [1, 3, 4, 4], {"w": weights(8, 3, 1, 1)})))
    assert found[0] == "kernel Conv"
    assert found[1] == "kernel Relu Neg Mul LayoutConvert"


def test_a_value_read_twice_by_one_node_fuses():
    chain = [conv("x", "w", "a"), node("Mul", "a a", "b"), node("Relu", "b", "y")]
    assert kinds(groups_of(load(chain, [1, 3, 4, 4], {"w": weights(8, 3, 1, 1)})))[0] == "kernel Conv Mul Relu"


def test_a_graph_output_is_stored():
    chain = [node("Exp", "x", "y"), node("Neg", "y", "z")]
    assert kinds(groups_of(load(chain, [3, 4], outputs=["y", "z"]))) == ["kernel Exp", "kernel Neg"]


def test_no_fusion_into_a_smaller_producer():
    """A pooled vector that scales an image is not recomputed for every pixel."""
    chain = [node("GlobalAveragePool", "x", "a"), node("Mul", "x a", "y")]
    assert kinds(groups_of(load(chain, [1, 3, 4, 4]))) == ["kernel GlobalAveragePool", "kernel Mul"]


def test_elementwise_chains_meet_in_one_kernel():
    chain = [
        node("Exp", "x", "a"),
        node("Neg", "a", "b"),
        node("Sin", "x", "c"),
        node("Cos", "c", "d"),
        node("Add", "b d", "y"),
    ]
    (group,) = groups_of(load(chain, [3, 4]))
    assert [n.op for n in group.nodes] == ["Exp", "Neg", "Sin", "Cos", "Add"]


@pytest.mark.parametrize("anchor", ["Softmax", "LRN", "MaxPool", "Transpose", "Gather", "ReduceSum"])
def test_anchors_take_epilogues(anchor):
    nodes = {
        "Softmax": node("Softmax", "x", "a"),
        "LRN": node("LRN", "x", "a", size=3),
        "MaxPool": node("MaxPool", "x", "a", kernel_shape=[2, 2]),
        "Transpose": node("Transpose", "x", "a", perm=[0, 1, 3, 2]),
        "Gather": node("Gather", "x i", "a", axis=1),
        "ReduceSum": node("ReduceSum", "x r", "a"),
    }
    chain = [nodes[anchor], node("Sigmoid", "a", "b"), node("Neg", "b", "y")]
    groups = groups_of(load(chain, [1, 3, 4, 4], {"i": [2, 0], "r": [1]}))
    assert kinds(groups) == [f"kernel {anchor} Sigmoid Neg"]


def test_nodes_with_several_outputs_stand_alone():
    chain = [node("Split", "x", "a b", axis=1, num_outputs=2), node("Relu", "a", "y"), node("Neg", "b", "z")]
    groups = groups_of(load(chain, [1, 4, 3], outputs=["y", "z"], opset=18))
    assert kinds(groups) == ["kernel Split", "kernel Relu", "kernel Neg"]
    assert len(groups[0].outputs) == 2


# ---------------------------------------------------------------------------------------------- prologue


def test_normalisation_before_a_convolution_joins_it():
    chain = [
        conv("x", "w1", "a"),
        conv("x", "w1", "c"),
        node("Relu", "c", "d"),
        node("Concat", "a d", "p", axis=1),
        batch_norm("p", "n"),
        node("Relu", "n", "r"),
        conv("r", "w2", "t"),
        node("Relu", "t", "y"),
    ]
    graph = load(chain, [1, 3, 4, 4], {**norm(8), "w1": weights(4, 3, 1, 1), "w2": weights(4, 8, 1, 1)})
    joined, apart = groups_of(graph), groups_of(graph, conv_prologues="none")
    assert kinds(joined)[2:4] == ["view Concat", "kernel ScaleShift Relu Conv Relu"]
    assert kinds(apart)[2:5] == ["view Concat", "kernel ScaleShift Relu", "kernel Conv Relu"]


def test_normalisation_before_a_global_pool_joins_it():
    chain = [batch_norm("x", "n"), node("Relu", "n", "r"), node("GlobalAveragePool", "r", "y")]
    assert kinds(groups_of(load(chain, [1, 8, 4, 4], norm(8)))) == ["kernel ScaleShift Relu GlobalAveragePool"]


def test_a_pool_takes_what_follows_before_a_convolution_takes_what_precedes():
    chain = [
        conv("x", "w1", "a"),
        node("MaxPool", "a", "p", kernel_shape=[2, 2]),
        batch_norm("p", "n"),
        conv("n", "w2", "y"),
    ]
    graph = load(chain, [1, 3, 5, 5], {**norm(8), "w1": weights(8, 3, 1, 1), "w2": weights(4, 8, 1, 1)})
    assert kinds(groups_of(graph, conv_prologues="all"))[1:3] == ["kernel MaxPool ScaleShift", "kernel Conv"]


def test_a_prologue_stays_apart_from_what_computes_it_in_no_block():
    """A window of more than one pixel, groups, and channels that are not in blocks."""

    def before(*taps, groups=1, block=4):
        chain = [
            conv("x", "w1", "a"),
            conv("x", "w1", "c"),
            node("Relu", "c", "d"),
            node("Concat", "a d", "p", axis=1),
            batch_norm("p", "n"),
            conv("n", "w2", "y", group=groups, pads=[taps[0] // 2] * 4),
        ]
        constants = {**norm(8), "w1": weights(4, 3, 1, 1), "w2": weights(8, 8 // groups, *taps)}
        return [g for g in kinds(groups_of(load(chain, [1, 3, 4, 4], constants), block)) if "ScaleShift" in g]

    assert before(1, 1) == ["kernel ScaleShift Conv"]
    assert before(3, 3) == ["kernel ScaleShift"]
    assert before(1, 1, groups=2) == ["kernel ScaleShift"]
    plain = load([batch_norm("x", "n"), conv("n", "w", "y")], [1, 3, 4, 4], {**norm(3), "w": weights(8, 3, 1, 1)})
    assert kinds(groups_of(plain))[:2] == ["kernel ScaleShift", "kernel Conv"]


def test_a_prologue_with_other_readers_is_stored():
    chain = [
        batch_norm("x", "n"),
        node("Relu", "n", "r"),
        conv("r", "w1", "a"),
        conv("r", "w2", "c"),
        node("Add", "a c", "y"),
    ]
    graph = load(chain, [1, 8, 5, 5], {**norm(8), "w1": weights(8, 8, 1, 1), "w2": weights(8, 8, 1, 1)})
    assert kinds(groups_of(graph, conv_prologues="all"))[-4:] == [
        "kernel LayoutConvert ScaleShift Relu",
        "kernel Conv",
        "kernel Conv Add",
        "kernel LayoutConvert",
    ]


# ------------------------------------------------------------------------------------------- whole graphs

STEPS = {
    "conv": lambda x, y: [conv(x, "w", y, pads=[1, 1, 1, 1])],
    "pointwise": lambda x, y: [conv(x, "p", y)],
    "grouped": lambda x, y: [conv(x, "g", y, group=4)],
    "depthwise": lambda x, y: [conv(x, "d", y, group=8, pads=[1, 1, 1, 1])],
    "transposed": lambda x, y: [node("ConvTranspose", f"{x} p", y)],
    "relu": lambda x, y: [node("Relu", x, y)],
    "norm": lambda x, y: [batch_norm(x, y)],
    "pool": lambda x, y: [node("MaxPool", x, y, kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
    "residual": lambda x, y: [node("Add", f"{x} x", y)],
    "turn": lambda x, y: [node("Transpose", x, y, perm=[0, 1, 3, 2])],
    "excite": lambda x, y: [
        node("GlobalAveragePool", x, f"{y}a"),
        conv(f"{y}a", "p", f"{y}b"),
        node("Mul", f"{x} {y}b", y),
    ],
    "shuffle": lambda x, y: [
        node("Reshape", f"{x} cut", f"{y}a"),
        node("Transpose", f"{y}a", f"{y}b", perm=[0, 2, 1, 3, 4]),
        node("Reshape", f"{y}b joined", y),
    ],
    "thirds": lambda x, y: [
        node("Split", f"{x} three_five", f"{y}a {y}b", axis=1),
        node("Concat", f"{y}b {y}a", y, axis=1),
    ],
    "halves": lambda x, y: [
        conv(x, "h", f"{y}a"),
        node("Relu", f"{y}a", f"{y}r"),
        conv(x, "h", f"{y}b"),
        node("Concat", f"{y}b {y}r", y, axis=1),
    ],
    "grow": lambda x, y: [
        conv(x, "h", f"{y}a"),
        node("Concat", f"{x} {y}a", f"{y}b", axis=1),
        conv(f"{y}b", "h12", f"{y}c"),
        node("Concat", f"{y}b {y}c", f"{y}d", axis=1),
        batch_norm_16(f"{y}d", f"{y}e"),
        conv(f"{y}e", "s16", y),
    ],
}


def batch_norm_16(source, target):
    return node("BatchNormalization", f"{source} s2 b2 m2 v2", target)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=5),
    st.sampled_from([4, 8]),
    st.booleans(),
    st.sampled_from(["none", "1x1", "all"]),
)
def test_groups_compute_what_the_graph_computes(steps, block, middle, prologues):
    """Random chains through passes, layouts, groups, workloads and views, against ONNX Runtime."""
    constants = {
        **norm(8),
        **{f"{k}2": v for k, v in norm(16).items()},
        "w": weights(8, 8, 3, 3) / 9,
        "p": weights(8, 8, 1, 1) / 3,
        "g": weights(8, 2, 1, 1),
        "d": weights(8, 1, 3, 3),
        "h": weights(4, 8, 1, 1) / 3,
        "h12": weights(4, 12, 1, 1) / 3,
        "s16": weights(8, 16, 1, 1) / 4,
        "k": positive(8, 1, 1),
        "cut": [1, 4, 2, 4, 4],
        "joined": [1, 8, 4, 4],
        "three_five": [3, 5],
    }
    nodes, last = [], "x"
    for i, step in enumerate(steps):
        nodes += STEPS[step](last, f"t{i}")
        last = f"t{i}"
    graph = load(nodes, [1, 8, 4, 4], constants, ["t0", last] if middle and len(steps) > 1 else [last])
    laid = assign_layouts(run_passes(graph), block)
    groups = partition(laid, conv_prologues=prologues)
    check(laid, groups)
    feeds = random_feeds(graph)
    for got, expected in zip(run_groups(laid, groups, feeds), graph_outputs(graph, feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_flattened_image_and_weights():
    chain = [
        conv("x", "w", "a"),
        node("Relu", "a", "b"),
        node("Flatten", "b", "f"),
        node("Gemm", "f k c", "y", transB=1),
    ]
    graph = load(chain, [2, 3, 3, 3], {"w": weights(8, 3, 1, 1), "k": weights(5, 72), "c": weights(5)})
    laid = assign_layouts(run_passes(graph), 4)
    groups = partition(laid)
    assert kinds(groups) == ["kernel Conv Relu", "view PhysicalFlatten", "kernel Gemm"]
    feeds = random_feeds(graph)
    np.testing.assert_allclose(run_groups(laid, groups, feeds)[0], graph_outputs(graph, feeds)[0], rtol=1e-4, atol=1e-4)
