"""What becomes no code: views, parts of other values, concatenations made in place."""

import numpy as np
import pytest
from onnx_graphs import graph_outputs, load, node, random_feeds, weights

from luthier.graph.fusion import partition
from luthier.graph.ir import Group
from luthier.graph.layouts import assign_layouts
from luthier.graph.memory import arrange
from luthier.graph.passes import run_passes

from .grouping import check, conv, groups_of, kinds, run_groups


def concat_graph(parts, axis=1, block_channels=8, shape=(1, 3, 4, 4)):
    chain = [conv("x", f"w{i}", f"c{i}") for i in range(parts)]
    names = " ".join(f"c{i}" for i in range(parts))
    chain += [node("Concat", names, "j", axis=axis), conv("j", "v", "y")]
    total = block_channels * parts if axis == 1 else block_channels
    constants = {f"w{i}": weights(block_channels, shape[1], 1, 1) for i in range(parts)}
    return load(chain, list(shape), constants | {"v": weights(4, total, 1, 1)})


def test_parts_are_made_in_place():
    groups = groups_of(concat_graph(3))
    (join,) = (g for g in groups if g.offsets)
    assert join.offsets == (0, 512, 1024)
    assert join.inputs == [g.outputs[0] for g in groups[:3]]


@pytest.mark.parametrize(
    ("graph", "begin"),
    [
        (concat_graph(3, shape=(2, 3, 4, 4)), (0, 4, 0, 0, 0)),  # a batch interleaves the parts
        (concat_graph(3, axis=3), (0, 0, 0, 8, 0)),
        (concat_graph(3, axis=0, shape=(2, 3, 3, 1), block_channels=4), (4, 0, 0, 0, 0)),  # parts are not aligned
    ],
)
def test_parts_in_rows_are_written_into_a_frame(graph, begin):
    groups = groups_of(graph)
    assert kinds(groups)[:4] == ["kernel Conv"] * 3 + ["framed Concat"]
    joint = groups[3].nodes[0].outputs[0]
    assert [g.outputs for g in groups[:3]] == [[joint]] * 3
    assert groups[2].begin == begin
    assert joint in groups[4].inputs


@pytest.mark.parametrize("channels", [(5, 7), (3, 9)])
@pytest.mark.parametrize("batch", [1, 2])
def test_channels_of_pixels_are_written_into_a_frame(channels, batch):
    """Depthwise convolutions keep all channels in one block where these are no whole vectors."""
    a, b = channels
    chain = [
        conv("x", "wa", "a", pads=[1, 1, 1, 1]),
        conv("x", "wb", "b", pads=[1, 1, 1, 1]),
        node("MaxPool", "b", "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Concat", "a p", "j", axis=1),
        node("Relu", "j", "r"),
        conv("r", "g", "y", group=4),
    ]
    constants = {"wa": weights(a, 3, 3, 3), "wb": weights(b, 3, 3, 3), "g": weights(12, 3, 1, 1)}
    graph = load(chain, [batch, 3, 4, 3], constants)
    laid = assign_layouts(run_passes(graph), 8)
    groups = partition(laid)
    check(laid, groups)
    assert "framed Concat" in kinds(groups)
    assert "kernel Concat" not in kinds(groups)
    assert sorted(g.begin for g in groups if g.begin) == [(0, 0, 0, 0, 0), (0, 0, 0, 0, a)]
    feeds = random_feeds(graph)
    np.testing.assert_allclose(run_groups(laid, groups, feeds)[0], graph_outputs(graph, feeds)[0], rtol=1e-4, atol=1e-4)


def test_a_part_whose_last_block_is_not_full_is_copied():
    assert "kernel Concat" in kinds(groups_of(concat_graph(2, block_channels=6)))


@pytest.mark.parametrize(
    ("parts", "outputs"),
    [
        ("a b", ["y", "a"]),  # a graph output lies by itself
        ("a x", ["y"]),
        ("a k", ["y"]),
        ("a a", ["y"]),
    ],
)
def test_parts_that_must_be_copied(parts, outputs):
    chain = [node("Exp", "x", "a"), node("Sin", "x", "b"), node("Concat", parts, "y", axis=1)]
    found = kinds(groups_of(load(chain, [2, 3], {"k": weights(2, 3)}, outputs)))
    assert "kernel Concat" in found
    assert "framed Concat" not in found


def test_a_part_with_another_reader_is_copied():
    chain = [
        node("Exp", "x", "a"),
        node("Sin", "x", "b"),
        node("Concat", "a b", "y", axis=1),
        node("Softmax", "a", "z"),
    ]
    assert "kernel Concat" in kinds(groups_of(load(chain, [2, 3], {}, ["y", "z"])))


def cut_graph(begin, end, axis=1, shape=(1, 16, 4, 4)):
    chain = [
        node("Exp", "x", "e"),
        conv("e", "w", "a"),
        node("Slice", "a begin end axes", "s"),
        node("MaxPool", "s", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    constants = {"begin": [begin], "end": [end], "axes": [axis], "w": weights(16, shape[1], 1, 1)}
    return load(chain, list(shape), constants)


@pytest.mark.parametrize(("begin", "end", "start"), [(0, 8, 0), (4, 12, 256), (8, 16, 512), (8, 15, 512)])
def test_whole_blocks_of_channels_are_a_part(begin, end, start):
    graph = cut_graph(begin, end)
    (cut,) = (g for g in groups_of(graph) if g.kind == "part")
    assert cut.start == start


@pytest.mark.parametrize(
    "graph",
    [
        cut_graph(2, 8),  # begins inside of a block
        cut_graph(0, 8, shape=(2, 16, 4, 4)),  # rows of a batch
        cut_graph(0, 2, axis=2),
        load([node("Exp", "x", "e"), node("Slice", "e b b2", "y")], [4, 16], {"b": [1], "b2": [3]}),  # graph output
        load([node("Exp", "x", "e"), node("Slice", "e b b2", "s"), node("Softmax", "s", "y")], [9, 5],
             {"b": [1], "b2": [3]}),  # not aligned
    ],
)  # fmt: skip
def test_slices_that_are_no_parts(graph):
    assert not any(g.kind == "part" for g in groups_of(graph))


@pytest.mark.parametrize(
    ("order", "extends", "copies"),
    [
        ("e b", True, 0),
        ("e e", True, 1),
        ("b e", False, 1),  # the end of a value cannot have something before it
        ("h b", False, 1),  # not its end
    ],
)
def test_a_concatenation_that_begins_with_the_end_of_a_value(order, extends, copies):
    constants = {"w": weights(16, 3, 1, 1), "zero": [0], "half": [8], "all": [16], "one": [1], "v": weights(8, 8, 1, 1)}
    chain = [
        conv("x", "w", "a"),
        node("Slice", "a zero half one", "h"),
        node("Slice", "a half all one", "e"),
        conv("h", "v", "b"),
        node("Concat", order, "j", axis=1),
        conv("j", "u", "y"),
    ]
    graph = load(chain, [1, 3, 4, 4], constants | {"u": weights(4, 16, 1, 1)})
    laid = assign_layouts(run_passes(graph), 8)
    groups = partition(laid)
    check(laid, groups)
    assert any(g.extends for g in groups) == extends
    arrangement = arrange(groups, laid.inputs, laid.outputs, list(laid.constants))
    movers = [g for g in arrangement.calls if g.kind == "copy" or "Concat" in [n.op for n in g.nodes]]
    assert len(movers) == copies
    feeds = random_feeds(graph)
    np.testing.assert_allclose(run_groups(laid, groups, feeds)[0], graph_outputs(graph, feeds)[0], rtol=1e-4, atol=1e-4)


def test_mostly_foreign_parts_are_copied_by_a_kernel():
    chain = [node("Exp", "x", "a"), node("Concat", "x a x", "y", axis=0)]
    assert kinds(groups_of(load(chain, [16, 3]))) == ["kernel Exp", "kernel Concat"]


def test_a_part_of_two_concatenations_is_placed_in_one():
    chain = [
        node("Exp", "x", "a"),
        node("Sin", "x", "b"),
        node("Cos", "x", "c"),
        node("Concat", "a b", "y", axis=0),
        node("Concat", "a b c", "z", axis=0),
    ]
    found = kinds(groups_of(load(chain, [16, 3], outputs=["y", "z"])))
    assert found.count("view Concat") == 1
    assert found.count("kernel Concat") == 1


def test_reshapes_are_views():
    chain = [node("Exp", "x", "a"), node("Flatten", "a", "b"), node("MatMul", "b w", "y")]
    assert kinds(groups_of(load(chain, [2, 3, 4], {"w": weights(12, 5)}))) == [
        "kernel Exp",
        "view Reshape",
        "kernel MatMul",
    ]


def test_a_value_that_is_two_parts_has_two_offsets():
    chain = [node("Exp", "x", "a"), node("Sin", "x", "b"), node("Concat", "a b a", "y", axis=0)]
    groups = groups_of(load(chain, [16, 3]))
    join: Group = groups[-1]
    assert join.kind == "view"
    assert [v.name for v in join.inputs] == ["a", "b", "a"]
    assert join.offsets == (0, 192, 384)
