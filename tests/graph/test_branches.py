"""Parallel 1x1 convolutions as one: which are merged, and that no copy comes of it."""

import numpy as np
import pytest
from onnx_graphs import assert_same, check_consistent, load, node, ops, weights

from luthier.graph.fusion import partition
from luthier.graph.ir import PLAIN
from luthier.graph.layouts import assign_layouts
from luthier.graph.memory import arrange
from luthier.graph.onnx_import import load_model
from luthier.graph.passes import run_passes
from luthier.graph.passes.branches import merge_branches

BLOCK = 4


def module(sizes=(4, 8, 4), relus=("Relu",) * 3, order="r0 t1 t2 p", batch=1, reads="j", outputs=("y",), inputs=8):
    """1x1 convolutions of ``a``; all but the first go on to a 3x3 one; a pool; Concat; a convolution.

    sizes  their channels; order: the parts; reads: what the last convolution reads
    """
    chain, constants = [node("Conv", "x w", "a")], {"w": weights(inputs, 3, 1, 1)}
    for i, (size, relu) in enumerate(zip(sizes, relus, strict=True)):
        constants |= {f"w{i}": weights(size, inputs, 1, 1), f"b{i}": weights(size)}
        chain += [node("Conv", f"a w{i} b{i}", f"c{i}"), node(relu, f"c{i}", f"r{i}")]
        if i:
            constants[f"v{i}"] = weights(4, size, 3, 3)
            chain.append(node("Conv", f"r{i} v{i}", f"t{i}", pads=[1, 1, 1, 1]))
    chain.append(node("MaxPool", "a", "m", kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    chain += [node("Conv", "m q", "n"), node("Relu", "n", "p")]
    constants["q"] = weights(4, inputs, 1, 1)
    chain += [node("Concat", order, "j", axis=1), node("Conv", f"{reads} u", "y")]
    total = {"r0": sizes[0], "j": sum(4 if part != "r0" else sizes[0] for part in order.split())}
    return load(chain, [batch, 3, 5, 4], constants | {"u": weights(4, total[reads], 1, 1)}, list(outputs))


def laid_out(graph):
    return assign_layouts(run_passes(graph), BLOCK)


def merge(graph):
    """The graph with layouts before and after; both compute the same, and the first is left alone."""
    before = laid_out(graph)
    nodes = [(n, n.op, list(n.inputs)) for n in before.nodes]
    after = merge_branches(before, BLOCK)
    assert [(n, n.op, list(n.inputs)) for n in before.nodes] == nodes
    check_consistent(after)
    return before, after


def plain(graph):
    """Without layouts, as ONNX Runtime has none."""
    for n in graph.nodes:
        for v in n.outputs:
            v.layout = PLAIN
        n.op = "Identity" if n.op == "LayoutConvert" else n.op
    return graph


def joint(graph):
    """The channels of merged convolutions."""
    return [v.shape[1] for v in dict.fromkeys(n.inputs[0] for n in graph.nodes if n.op == "Slice")]


def copies(graph):
    groups = partition(graph)
    calls = arrange(groups, graph.inputs, graph.outputs, list(graph.constants)).calls
    return [g for g in calls if g.kind == "copy" or any(n.op in ("Concat", "Slice") for n in g.nodes)]


@pytest.mark.parametrize("outputs", [("y",), ("y", "j"), ("y", "r0", "r2")])
@pytest.mark.parametrize("sizes", [(4, 8, 4), (8, 3, 4), (4, 5, 2)])
def test_branches_become_one_convolution_without_copies(sizes, outputs):
    before, after = merge(module(sizes, inputs=16, outputs=outputs))
    assert joint(after) == [-(-sizes[1] // 4) * 4 + -(-sizes[2] // 4) * 4 + sizes[0]]
    assert copies(after) == []
    parts = [g for g in partition(after) if g.kind == "part"]
    assert [g.outputs[0].shape[1] for g in parts] == [sizes[1], sizes[2], sizes[0]]
    assert_same(plain(before), plain(after))


def test_the_pool_comes_first_and_its_convolution_stays_apart():
    _, after = merge(module(inputs=16))
    kernels = [n.op for n in after.nodes if n.op in ("MaxPool", "Conv")]
    assert kernels == ["Conv", "MaxPool", "Conv", "Conv", "Conv", "Conv", "Conv"]
    assert [len(n.names) for n in after.nodes if n.op == "Conv"] == [1, 1, 3, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "channels"),
    [
        ({"order": "t1 r0 t2 p"}, [12]),  # not the first part of the concatenation
        ({"sizes": (6, 8, 4)}, [12]),  # the next part would begin inside of a block
        ({"relus": ("Sigmoid", "Relu", "Relu")}, [12]),
        ({"relus": ("Relu", "Sigmoid", "Elu")}, []),
        ({"batch": 2}, []),  # rows of a batch: no parts
        ({"inputs": 8}, []),  # as much is written as reading is saved
    ],
)
def test_branches_that_stay_apart(options, channels):
    before, after = merge(module(**{"inputs": 16, **options}))
    assert joint(after) == channels
    assert copies(after) == copies(before) == [] or "batch" in options or channels
    assert_same(plain(before), plain(after))


def two(second=None, **constants):
    chain = [
        node("Conv", "x w0", "a"),
        node("Conv", "a w1", "c1"),
        second or node("Conv", "a w2", "c2"),
        node("Conv", "c1 v", "t1", pads=[1, 1, 1, 1]),
        node("Conv", f"c2 {'v2' if 'v2' in constants else 'v'}", "t2", pads=[1, 1, 1, 1]),
        node("Concat", "t1 t2", "y", axis=1),
    ]
    fixed = {"w0": weights(16, 3, 1, 1), "w1": weights(4, 16, 1, 1), "w2": weights(4, 16, 1, 1)}
    return load(chain, [1, 3, 6, 6], fixed | {"v": weights(4, 4, 3, 3)} | constants)


@pytest.mark.parametrize(
    ("graph", "channels"),
    [
        (two(), [8]),
        (two(second=node("Conv", "a w2", "c2", strides=[2, 2], pads=[3, 3, 3, 3])), []),
        (two(w2=weights(4, 16, 3, 3), second=node("Conv", "a w2", "c2", pads=[1, 1, 1, 1])), []),
        (two(w2=weights(8, 8, 1, 1), v2=weights(4, 8, 3, 3), second=node("Conv", "a w2", "c2", group=2)), []),
    ],
)
def test_convolutions_must_be_alike(graph, channels):
    before, after = merge(graph)
    assert joint(after) == channels
    assert_same(plain(before), plain(after))


def test_a_convolution_that_takes_in_an_addition_stays_apart():
    chain = [
        node("Conv", "x w0", "a"),
        node("Conv", "a w1", "c1"),
        node("Conv", "a w2", "c2"),
        node("Conv", "c1 v", "t1", pads=[1, 1, 1, 1]),
        node("Add", "t1 c2", "y"),
    ]
    constants = {"w0": weights(16, 3, 1, 1), "w1": weights(4, 16, 1, 1), "w2": weights(4, 16, 1, 1)}
    before, after = merge(load(chain, [1, 3, 6, 6], constants | {"v": weights(4, 4, 3, 3)}))
    assert joint(after) == []
    assert ops(before) == ops(after)


@pytest.mark.parametrize(("name", "modules"), [("light_inception_v1", 9), ("light_inception_v2", 10)])
def test_inceptions_merge_without_copies(name, modules):
    graph = merge_branches(assign_layouts(run_passes(load_model(name)), 16), 16)
    assert len(joint(graph)) == modules
    assert copies(graph) == []


@pytest.mark.parametrize("name", ["light_squeezenet", "light_resnet50", "light_densenet121", "light_shufflenet"])
def test_other_models_have_no_such_branches(name):
    graph = merge_branches(assign_layouts(run_passes(load_model(name)), 16), 16)
    assert joint(graph) == []


def test_the_joint_weights_have_zeros_between_the_branches():
    _, after = merge(module((4, 5, 2), inputs=16))
    conv = next(n for n in after.nodes if len(n.names) > 1)
    w, b = (after.constants[v] for v in conv.inputs[1:])
    assert w.shape[0] == 16
    empty = [c for c in range(16) if not w[c].any()]
    assert empty == [5, 6, 7, 10, 11]
    assert not b[empty].any()
    assert np.count_nonzero(b) == 11
