"""Every pass: what it does to small graphs, that it keeps the results, and that it leaves its argument as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx_graphs import (
    apply_passes,
    assert_same,
    batch_norm,
    check_consistent,
    graph_outputs,
    load,
    node,
    norm,
    ops,
    positive,
    weights,
)

from luthier import config
from luthier.graph.evaluate import evaluate_graph
from luthier.graph.passes import PASSES, run_passes
from luthier.graph.passes.clean import eliminate_common
from luthier.graph.passes.constants import fold_constants
from luthier.graph.passes.pads import fold_pads
from luthier.graph.passes.simplify import canonicalize, remove_identities, sink_activations
from luthier.graph.passes.views import match_shuffles, merge_views

# ------------------------------------------------------------------------------------------- constants


def test_constants_are_folded():
    nodes = [
        node("Unsqueeze", "c axes", "u"),
        node("Transpose", "u", "t"),
        node("Exp", "t", "e"),
        node("Mul", "x e", "y"),
    ]
    graph = apply_passes(load(nodes, [2, 100], {"c": weights(100), "axes": [1]}), fold_constants)
    assert ops(graph) == ["Mul"]
    assert [v.shape for v in graph.constants] == [(1, 100)]


def test_constant_of_shape_becomes_a_weight():
    nodes = [node("ConstantOfShape", "s", "w"), node("MatMul", "x w", "y")]
    graph = apply_passes(load(nodes, [2, 100], {"s": [100, 30]}), fold_constants)
    assert ops(graph) == ["MatMul"]


def test_a_shared_constant_is_folded_once():
    nodes = [node("Exp", "c", "e"), node("Mul", "x e", "a"), node("Add", "a e", "y")]
    graph = apply_passes(load(nodes, [100], {"c": weights(100)}), fold_constants)
    mul, add = graph.nodes
    assert mul.inputs[1] is add.inputs[1]
    assert len(graph.constants) == 1


def test_growing_a_constant_is_left_to_run_time():
    nodes = [node("Tile", "c r", "t"), node("Add", "x t", "y")]
    graph = apply_passes(load(nodes, [1024, 1024], {"c": weights(1, 1024), "r": [1024, 1]}), fold_constants)
    assert ops(graph) == ["Tile", "Add"]


def test_a_constant_output_stays_computed():
    graph = apply_passes(
        load([node("Exp", "c", "y"), node("Relu", "x", "z")], [2], {"c": weights(100)}, ["y", "z"]), fold_constants
    )
    assert ops(graph) == ["Identity", "Relu"]


# ------------------------------------------------------------------------------------ canonical forms


def test_sum_becomes_a_chain_of_add():
    graph = apply_passes(
        load([node("Sum", "x a x b", "y", name="sum")], [3], {"a": weights(2, 3), "b": weights(1)}), canonicalize
    )
    assert ops(graph) == ["Add"] * 3
    assert all(n.names == ("sum",) for n in graph.nodes)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_max_of_three_becomes_a_chain(op):
    graph = apply_passes(load([node(op, "x a b", "y")], [3], {"a": weights(3), "b": weights(3)}), canonicalize)
    assert ops(graph) == [op, op]


@pytest.mark.parametrize(
    ("average", "expected"),
    [
        (node("AveragePool", "x", "y", kernel_shape=[5, 4]), "GlobalAveragePool"),
        (node("AveragePool", "x", "y", kernel_shape=[5, 3]), "AveragePool"),
        (node("AveragePool", "x", "y", kernel_shape=[5, 4], pads=[1, 0, 1, 0]), "AveragePool"),
        (node("ReduceMean", "x", "y", axes=[-1, -2]), "GlobalAveragePool"),
        (node("ReduceMean", "x", "y", axes=[-1, -2], keepdims=0), "ReduceMean"),
        (node("ReduceMean", "x", "y", axes=[1, 2]), "ReduceMean"),
    ],
)
def test_averages_of_the_whole_image(average, expected):
    assert ops(apply_passes(load([average], [2, 3, 5, 4]), canonicalize)) == [expected]


IDENTITIES = {
    "identity": (node("Identity", "r", "i"), {}),
    "dropout": (node("Dropout", "r", "i"), {}),
    "cast": (node("Cast", "r", "i", to=TensorProto.FLOAT), {}),
    "reshape": (node("Reshape", "r s", "i"), {"s": [0, -1, 5]}),
    "transpose": (node("Transpose", "r", "i", perm=[0, 1, 2]), {}),
    "pad": (node("Pad", "r p", "i"), {"p": [0] * 6}),
    "slice": (node("Slice", "r a b", "i"), {"a": [0, 0], "b": [9, 9]}),
    "concat": (node("Concat", "r", "i", axis=1), {}),
    "sum": (node("Sum", "r", "i"), {}),
    "tile": (node("Tile", "r t", "i"), {"t": [1, 1, 1]}),
    "expand": (node("Expand", "r s", "i"), {"s": [1, 5]}),
    "split": (node("Split", "r s", "i"), {"s": [4]}),
    "pool": (node("MaxPool", "r", "i", kernel_shape=[1]), {}),
    "add": (node("Add", "zero r", "i"), {"zero": np.zeros((4, 1))}),
    "sub": (node("Sub", "r zero", "i"), {"zero": np.zeros(5)}),
    "mul": (node("Mul", "r one", "i"), {"one": np.ones((1, 4, 5))}),
    "div": (node("Div", "r one", "i"), {"one": np.ones(1)}),
    "pow": (node("Pow", "r one", "i"), {"one": np.ones(1)}),
}
OTHERS = {
    "slice_back": (node("Slice", "r a b c d", "i"), {"a": [-1], "b": [-9], "c": [2], "d": [-1]}),
    "add_grows": (node("Add", "r zero", "i"), {"zero": np.zeros((3, 1, 4, 5))}),
    "sub_from": (node("Sub", "zero r", "i"), {"zero": np.zeros(5)}),
    "div_one": (node("Div", "one r", "i"), {"one": np.ones(1)}),
    "transpose": (node("Transpose", "r", "i", perm=[2, 1, 0]), {}),
    "pool_strided": (node("MaxPool", "r", "i", kernel_shape=[1], strides=[2]), {}),
}


@pytest.mark.parametrize("case", IDENTITIES)
def test_identities_are_removed(case):
    middle, constants = IDENTITIES[case]
    chain = [node("Exp", "x", "r"), middle, node("Neg", "i", "y")]
    axis = 1 if case == "split" else 0
    if case == "split":
        middle = node("Split", "r s", "i", axis=axis)
        chain[1] = middle
    assert ops(apply_passes(load(chain, [2, 4, 5], constants), remove_identities)) == ["Exp", "Neg"]


@pytest.mark.parametrize("case", OTHERS)
def test_what_only_looks_like_an_identity_stays(case):
    middle, constants = OTHERS[case]
    chain = [node("Exp", "x", "r"), middle, node("Neg", "i", "y")]
    assert len(apply_passes(load(chain, [2, 4, 5], constants), remove_identities).nodes) == 3


def test_outputs_keep_their_names():
    chain = [node("Exp", "x", "a"), node("Identity", "a", "y"), node("Neg", "a", "z"), node("Identity", "x", "w")]
    graph = apply_passes(load(chain, [3], outputs=["y", "z", "w"]), remove_identities)
    assert ops(graph) == ["Exp", "Neg", "Identity"]
    assert graph.nodes[1].inputs == [graph.outputs[0]]


def test_identity_between_two_outputs_stays():
    graph = apply_passes(
        load([node("Exp", "x", "y"), node("Identity", "y", "z")], [3], outputs=["y", "z"]), remove_identities
    )
    assert ops(graph) == ["Exp", "Identity"]


def test_an_activation_moves_to_the_parts_of_a_concatenation():
    chain = [
        node("Exp", "x", "a"),
        node("Sin", "x", "b"),
        node("Concat", "a b", "c", axis=1),
        node("Elu", "c", "y", alpha=0.5),
    ]
    graph = apply_passes(load(chain, [2, 3]), sink_activations)
    assert ops(graph) == ["Exp", "Sin", "Elu", "Elu", "Concat"]
    assert graph.nodes[2].attrs == graph.nodes[3].attrs == {"alpha": 0.5}


@pytest.mark.parametrize(
    ("chain", "outputs"),
    [
        ([node("Exp", "x", "a"), node("Concat", "a x", "c", axis=1), node("Relu", "c", "y")], ["y"]),
        ([node("Exp", "x", "a"), node("Concat", "a a", "c", axis=1), node("Relu", "c", "y")], ["y"]),
        (
            [node("Exp", "x", "a"), node("Exp", "x", "b"), node("Concat", "a b", "c", axis=1), node("Relu", "c", "y")],
            ["y", "c"],
        ),
    ],
)
def test_an_activation_that_cannot_move(chain, outputs):
    graph = apply_passes(load(chain, [2, 3], outputs=outputs), sink_activations)
    assert ops(graph)[-2:] == ["Concat", "Relu"]


# --------------------------------------------------------------------------------------------- views


def test_chains_of_views_become_one_reshape():
    chain = [
        node("Flatten", "x", "a", name="f"),
        node("Unsqueeze", "a axes", "b", name="u"),
        node("Reshape", "b s", "c", name="r"),
        node("Exp", "c", "y"),
    ]
    graph = apply_passes(load(chain, [2, 3, 4], {"axes": [1], "s": [4, 6]}), merge_views)
    assert ops(graph) == ["Reshape", "Exp"]
    assert graph.nodes[0].attrs == {"shape": (4, 6)}
    assert graph.nodes[0].names == ("f", "u", "r")


def test_views_that_cancel_are_removed():
    chain = [node("Exp", "x", "e"), node("Flatten", "e", "a"), node("Reshape", "a s", "b"), node("Neg", "b", "y")]
    assert ops(apply_passes(load(chain, [2, 3, 4], {"s": [2, 3, 4]}), merge_views)) == ["Exp", "Neg"]


def test_a_view_that_others_read_stays():
    chain = [node("Flatten", "x", "a"), node("Reshape", "a s", "b"), node("Exp", "a", "y"), node("Exp", "b", "z")]
    graph = apply_passes(load(chain, [2, 3, 4], {"s": [4, 6]}, ["y", "z"]), merge_views)
    assert ops(graph) == ["Reshape", "Reshape", "Exp", "Exp"]
    assert graph.nodes[1].inputs == graph.inputs


@pytest.mark.parametrize(
    ("perms", "last_size", "left"),
    [
        ([[1, 0, 2], [1, 0, 2]], 4, []),
        ([[1, 2, 0], [1, 2, 0]], 4, ["Transpose"]),
        ([[1, 2, 0], [1, 2, 0]], 1, ["Reshape"]),
        ([[0, 1, 2]], 4, []),
        ([[0, 2, 1]], 1, ["Reshape"]),
    ],
)
def test_transpositions_are_merged(perms, last_size, left):
    chain, last = [node("Exp", "x", "t0")], "t0"
    for i, perm in enumerate(perms):
        chain.append(node("Transpose", last, f"t{i + 1}", perm=perm))
        last = f"t{i + 1}"
    graph = apply_passes(load([*chain, node("Neg", last, "y")], [2, 3, last_size]), merge_views)
    assert ops(graph) == ["Exp", *left, "Neg"]


def shuffle(groups=3, perm=(0, 2, 1, 3, 4), back=(2, 6, 4, 5)):
    chain = [node("Reshape", "x a", "p"), node("Transpose", "p", "t", perm=perm), node("Reshape", "t b", "y")]
    return load(chain, [2, 6, 4, 5], {"a": [2, groups, 6 // groups, 4, 5], "b": list(back)})


@pytest.mark.parametrize("groups", [2, 3])
def test_channel_shuffle_is_recognised(groups):
    graph = apply_passes(shuffle(groups), match_shuffles)
    assert ops(graph) == ["ChannelShuffle"]
    assert graph.nodes[0].attrs == {"groups": groups}
    assert len(graph.nodes[0].names) == 3


@pytest.mark.parametrize("other", [{"perm": (0, 1, 2, 4, 3)}, {"back": (2, 6, 5, 4)}, {"perm": (1, 0, 2, 3, 4)}])
def test_other_permutations_are_no_shuffle(other):
    assert "ChannelShuffle" not in ops(apply_passes(shuffle(**other), match_shuffles))


# ---------------------------------------------------------------------------------------------- pads


@pytest.mark.parametrize(
    ("value", "reader", "left"),
    [
        (0.0, node("Conv", "p w", "y", pads=[1, 0, 0, 1]), ["Conv"]),
        (1.0, node("Conv", "p w", "y"), ["Pad", "Conv"]),
        (0.0, node("AveragePool", "p", "y", kernel_shape=[4, 4]), ["AveragePool"]),
        (0.0, node("AveragePool", "p", "y", kernel_shape=[3, 4]), ["Pad", "AveragePool"]),  # windows in the padding
        (0.0, node("AveragePool", "p", "y", kernel_shape=[2, 2], pads=[1, 1, 0, 0]), ["Pad", "AveragePool"]),
        (0.0, node("AveragePool", "p", "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), ["Pad", "AveragePool"]),
        (0.0, node("MaxPool", "p", "y", kernel_shape=[4, 4]), ["Pad", "MaxPool"]),
        (-np.inf, node("MaxPool", "p", "y", kernel_shape=[4, 4]), ["MaxPool"]),
    ],
)
def test_pad_moves_into_windows(value, reader, left):
    pad = node("Pad", "x pads v", "p")
    constants = {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "v": np.float32(value), "w": weights(2, 3, 3, 3)}
    assert ops(apply_passes(load([pad, reader], [1, 3, 5, 6], constants), fold_pads)) == left


def test_pad_of_channels_or_with_cropping_stays():
    for pads in ([0, 1, 1, 1, 0, 1, 1, 1], [0, 0, -1, 1, 0, 0, 1, 1]):
        chain = [node("Pad", "x pads", "p"), node("AveragePool", "p", "y", kernel_shape=[2, 2])]
        assert ops(apply_passes(load(chain, [1, 3, 5, 6], {"pads": pads}), fold_pads)) == ["Pad", "AveragePool"]


# ---------------------------------------------------------------------------------- common, dead code


def test_equal_nodes_are_computed_once():
    chain = [
        node("Exp", "x", "a", name="first"),
        node("Exp", "x", "b", name="second"),
        node("Softmax", "a", "c", axis=1),
        node("Softmax", "b", "d", axis=1),
        node("Softmax", "b", "e", axis=0),
        node("Sum", "c d e", "y"),
    ]
    graph = apply_passes(load(chain, [2, 3]), eliminate_common)
    assert ops(graph) == ["Exp", "Softmax", "Softmax", "Sum"]
    assert graph.nodes[0].names == ("first", "second")


def test_equal_outputs_both_stay():
    graph = apply_passes(
        load([node("Exp", "x", "y"), node("Exp", "x", "z")], [2], outputs=["y", "z"]), eliminate_common
    )
    assert ops(graph) == ["Exp", "Exp"]


def test_dead_code_is_removed():
    chain = [node("Exp", "x", "y"), node("Neg", "x", "a"), node("Mul", "a c", "b")]
    graph = apply_passes(load(chain, [100], {"c": weights(100)}))
    assert ops(graph) == ["Exp"]
    assert not graph.constants


# ----------------------------------------------------------------------------------------- all passes


def test_the_runner_logs_what_changed(capsys):
    graph = load([node("Dropout", "x", "a"), node("Relu", "a", "y")], [2])
    with config.override(debug=3):
        run_passes(graph)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(PASSES)
    assert any("remove_identities" in line and line.endswith("Dropout 1 -> 0") for line in lines)


STEPS = {
    "relu": lambda x, y, c: [node("Relu", x, y)],
    "identity": lambda x, y, c: [node("Identity", x, y)],
    "conv": lambda x, y, c: [node("Conv", f"{x} w", y, pads=[1, 1, 1, 1])],
    "norm": lambda x, y, c: [node("BatchNormalization", f"{x} s b m v", y)],
    "mul": lambda x, y, c: [node("Mul", f"{x} k", y)],
    "sub": lambda x, y, c: [node("Sub", f"k {x}", y)],
    "residual": lambda x, y, c: [node("Sum", f"{x} x k", y)],
    "turn": lambda x, y, c: [node("Transpose", x, y, perm=[0, 1, 3, 2])],
    "reshape": lambda x, y, c: [node("Reshape", f"{x} shape", y)],
    "shuffle": lambda x, y, c: [
        node("Reshape", f"{x} cut", f"{y}a"),
        node("Transpose", f"{y}a", f"{y}b", perm=[0, 2, 1, 3, 4]),
        node("Reshape", f"{y}b shape", y),
    ],
    "pad": lambda x, y, c: [node("Pad", f"{x} pads", f"{y}a"), node("AveragePool", f"{y}a", y, kernel_shape=[3, 3])],
}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=7), st.sets(st.integers(0, 6)))
def test_random_chains(steps, taps):
    """All passes together keep what random chains compute; ``taps`` are graph outputs in the middle."""
    constants = {
        **norm(4),
        "w": weights(4, 4, 3, 3) / 6,
        "k": positive(4, 1, 1),
        "shape": [1, 4, 3, 3],
        "cut": [1, 2, 2, 3, 3],
        "pads": [0, 0, 1, 1, 0, 0, 1, 1],
    }
    nodes, last = [], "x"
    for i, step in enumerate(steps):
        nodes += STEPS[step](last, f"t{i}", constants)
        last = f"t{i}"
    outputs = sorted({last, *(f"t{i}" for i in taps if i < len(steps))})
    graph = load(nodes, [1, 4, 3, 3], constants, outputs)
    result = run_passes(graph)
    check_consistent(result)
    assert_same(graph, result, rtol=1e-4, atol=1e-4)


def test_the_reference_evaluator_agrees():
    """The NumPy executor and ONNX Runtime compute the same of a graph with Luthier's own operators."""
    chain = [batch_norm("x", "a"), *STEPS["shuffle"]("a", "b", None), node("Softmax", "b", "y")]
    constants = {**norm(4), "shape": [1, 4, 3, 3], "cut": [1, 2, 2, 3, 3]}
    graph = run_passes(load(chain, [1, 4, 3, 3], constants))
    assert ops(graph) == ["ScaleShift", "ChannelShuffle", "Softmax"]
    feeds = {"x": weights(1, 4, 3, 3)}
    np.testing.assert_allclose(evaluate_graph(graph, feeds)[0], graph_outputs(graph, feeds)[0], rtol=1e-5, atol=1e-6)
