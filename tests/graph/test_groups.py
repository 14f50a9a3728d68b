"""Grouped convolutions that do not fill vectors, and channel shuffles around them."""

import numpy as np
import pytest
from onnx_graphs import apply_passes, load, node, ops, weights

from luthier.graph.fusion import partition
from luthier.graph.passes.groups import delay_shuffles, sink_shuffles, widen_groups
from luthier.graph.passes.views import match_shuffles


def shuffle(source, target, groups, channels=12, size=3):
    return [
        node("Reshape", f"{source} cut", f"{target}_cut"),
        node("Transpose", f"{target}_cut", f"{target}_turned", perm=[0, 2, 1, 3, 4]),
        node("Reshape", f"{target}_turned joined", target),
    ], {"cut": [1, groups, channels // groups, size, size], "joined": [1, channels, size, size]}


@pytest.mark.parametrize(
    ("groups", "outputs", "block", "left"),
    [
        (4, 12, 3, 4),  # 3 -> 3 channels: whole blocks
        (4, 12, 6, 2),
        (4, 24, 6, 4),  # a group's outputs fill vectors as they are
        (4, 12, 4, 4),  # three of four lanes against one of four
        (6, 12, 4, 3),
        (12, 24, 4, 12),  # depthwise with a multiplier: two of four lanes against one of four
        (12, 12, 4, 12),
        (4, 4, 8, 1),  # one of eight lanes against one of four
        (12, 12, 5, 12),  # depthwise
        (1, 12, 5, 1),
    ],
)
def test_merging(groups, outputs, block, left):
    constants = {"w": weights(outputs, 12 // groups, 2, 2), "b": weights(outputs)}
    graph = load([node("Conv", "x w b", "y", group=groups)], [2, 12, 4, 4], constants)
    result = apply_passes(graph, lambda g: widen_groups(g, block))
    (conv,) = result.nodes
    assert conv.attrs["group"] == left
    assert conv.inputs[1].shape == (outputs, 12 // left, 2, 2)


def test_too_many_groups_stay():
    graph = load([node("Conv", "x w", "y", group=37)], [1, 74, 2, 2], {"w": weights(74, 2, 1, 1)})
    assert apply_passes(graph, lambda g: widen_groups(g, 4)).nodes[0].attrs["group"] == 37


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_shuffle_goes_into_the_weights(groups):
    nodes, constants = shuffle("x", "s", groups)
    graph = load([*nodes, node("Conv", "s w", "y")], [1, 12, 3, 3], {**constants, "w": weights(5, 12, 1, 1)})
    result = apply_passes(graph, match_shuffles, sink_shuffles)
    assert ops(result) == ["Conv"]
    assert len(result.nodes[0].names) == 4


def test_shuffle_passes_depthwise_and_elementwise():
    nodes, constants = shuffle("x", "s", 3)
    chain = [
        *nodes,
        node("Conv", "s d e", "t", group=12, pads=[1, 1, 1, 1]),
        node("Relu", "t", "u"),
        node("Conv", "u w", "y"),
        node("Conv", "u v", "z"),
    ]
    constants |= {"d": weights(12, 1, 3, 3), "e": weights(12), "w": weights(5, 12, 1, 1), "v": weights(4, 12, 1, 1)}
    graph = apply_passes(load(chain, [1, 12, 3, 3], constants, ["y", "z"]), match_shuffles, sink_shuffles)
    assert ops(graph) == ["Conv", "Relu", "Conv", "Conv"]


@pytest.mark.parametrize(
    ("tail", "outputs"),
    [
        ([node("Conv", "s g", "y", group=2)], ["y"]),
        ([node("Relu", "s", "y")], ["y"]),
        ([node("Conv", "s w", "y"), node("Relu", "s", "z")], ["y", "z"]),
        ([node("Conv", "s w", "y")], ["y", "s"]),
        ([node("Conv", "s d", "t", group=12), node("Add", "t x", "y")], ["y"]),
    ],
)
def test_shuffle_stays_where_a_reader_needs_it(tail, outputs):
    nodes, constants = shuffle("x", "s", 3)
    constants |= {"g": weights(4, 6, 1, 1), "w": weights(5, 12, 1, 1), "d": weights(12, 1, 1, 1)}
    graph = apply_passes(load([*nodes, *tail], [1, 12, 3, 3], constants, outputs), match_shuffles, sink_shuffles)
    assert ops(graph).count("ChannelShuffle") == 1


def test_shuffle_moves_behind_a_depthwise_convolution_that_a_grouped_one_follows():
    nodes, constants = shuffle("x", "s", 3)
    chain = [*nodes, node("Conv", "s d e", "t", group=12, pads=[1, 1, 1, 1]), node("Conv", "t g", "y", group=2)]
    constants |= {"d": weights(12, 1, 3, 3), "e": weights(12), "g": weights(4, 6, 1, 1)}
    graph = apply_passes(load(chain, [1, 12, 3, 3], constants), match_shuffles, delay_shuffles)
    assert ops(graph) == ["Conv", "ChannelShuffle", "Conv"]
    assert [[n.op for n in g.nodes] for g in partition(graph)] == [["Conv"], ["ChannelShuffle", "Conv"]]


def test_two_shuffles_in_a_row():
    first, constants = shuffle("x", "s", 3)
    second, _ = shuffle("t", "q", 3)
    chain = [*first, node("Conv", "s d", "t", group=12), *second, node("Conv", "q w", "y")]
    constants |= {"d": weights(12, 1, 1, 1), "w": weights(5, 12, 1, 1)}
    graph = apply_passes(load(chain, [1, 12, 3, 3], constants), match_shuffles, sink_shuffles, sink_shuffles)
    assert ops(graph).count("ChannelShuffle") <= 1
    assert np.isfinite(graph.constants[graph.nodes[-1].inputs[1]]).all()
