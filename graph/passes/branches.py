"""Parallel 1x1 convolutions of one value, computed as one.

The branches of a module begin with convolutions that read the same image. As one convolution they bring it into the
cache once, leave one remainder where each had one (of output channels to register tiles, of tiles to threads), and wait
once. In blocked layout at batch 1 the channels of each branch are whole blocks that follow one another in memory, so
that each branch's value is a part of the result (a Slice that is no copy, see :mod:`..fusion`).

A branch may end right there, in a concatenation that its producers write in place. That one comes last: the
concatenation can begin inside of the joint result and reach further, if it reads the branch first. A branch for which
that cannot be had stays as it is, since a copy would cost more than the merge gains.

What is lost is that the results lie in the cache while others are made, before their readers come. So branches are
merged where the readings of the image that this saves, all but one, are of more bytes than the results. For the same
reason the branches of other kinds (a pool, and the convolution after it) move before the merged convolution: they find
the image in the cache, and what is merged is read next.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..ir import Graph, Node, Value
from ..kinds import ELEMENTWISE, POOLS, UNARY, is_view
from .clean import eliminate_dead
from .rewrite import copy_graph

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Branch:
    """conv, and what is computed of its result element by element and by nobody else; result: what others read."""

    conv: Node
    epilogue: tuple[Node, ...]
    joins: bool  # whether the result is the first part of a concatenation

    @property
    def result(self) -> Value:
        return (self.epilogue or (self.conv,))[-1].outputs[0]


def merge_branches(graph: Graph, block: int) -> Graph:
    """Merge ungrouped 1x1 convolutions of one value with constant weights and equal epilogues, where that gains.

    ``graph`` has layouts (:func:`..layouts.assign_layouts` with the same ``block``).
    """
    result = copy_graph(graph)
    readers = result.consumers()
    families: dict[tuple[Any, ...], list[_Branch]] = {}
    for node in result.nodes:
        branch = _branch(node, result, readers, block)
        if branch is not None:
            families.setdefault(_family(branch), []).append(branch)
    for family in families.values():
        family.sort(key=lambda b: b.joins)
        while len(family) > 1 and family[-2].joins:
            family.pop()
        if len(family) > 1 and _gains(family):
            _merge(result, family)
    return eliminate_dead(result)


def _branch(node: Node, graph: Graph, readers: dict[Value, list[Node]], block: int) -> _Branch | None:
    if node.op != "Conv" or node.attrs["group"] != 1:
        return None
    x, y = node.inputs[0], node.outputs[0]
    rest = [v for v in node.inputs[1:] if v is not None]
    if x is None or x.shape[0] != 1 or y.layout.block != block:
        return None
    if any(v not in graph.constants for v in rest) or set(rest[0].shape[2:]) != {1}:
        return None
    epilogue: list[Node] = []
    while (value := (epilogue or [node])[-1].outputs[0]) not in graph.outputs:
        following = readers.get(value, [])
        if len(following) != 1 or following[0].op not in UNARY or following[0].outputs[0].dtype != value.dtype:
            break
        if any(v not in graph.constants for v in following[0].inputs[1:] if v is not None):
            break
        epilogue.append(following[0])
    following = readers.get(value, [])
    if value in graph.outputs or any(n.op in ELEMENTWISE or is_view(n) for n in following):
        return None  # the caller's memory may follow a view; an elementwise operator could join the convolution
    joins = [n for n in following if n.op == "Concat"]
    if joins and (len(joins) > 1 or not _may_begin(joins[0], value, graph, readers)):
        return None
    return _Branch(node, tuple(epilogue), bool(joins))


def _may_begin(concat: Node, part: Value, graph: Graph, readers: dict[Value, list[Node]]) -> bool:
    """Whether the concatenation is made in place, nowhere in particular, and begins with ``part``."""
    y, parts = concat.outputs[0], concat.inputs
    if concat.attrs["axis"] != 1 or parts[0] is not part or part in parts[1:] or y in graph.outputs:
        return False
    if any(v is None or v.layout != y.layout or v.shape[1] % y.layout.block for v in parts):
        return False
    return not any(n.op == "Concat" or is_view(n) for n in readers.get(y, []))


def _family(branch: _Branch) -> tuple[Any, ...]:
    """Equal for branches that can be one convolution."""
    conv = branch.conv
    window = [tuple(conv.attrs[k]) for k in ("strides", "pads", "dilations")]
    epilogue = [(n.op, repr(sorted(n.attrs.items())), tuple(map(id, n.inputs[1:]))) for n in branch.epilogue]
    return (conv.inputs[0], *window, tuple(epilogue), conv.outputs[0].layout, conv.outputs[0].dtype)


def _gains(family: list[_Branch]) -> bool:
    """Whether merging saves more reading than there is written: elements, as all types are the same."""
    x = family[0].conv.inputs[0]
    assert x is not None
    return (len(family) - 1) * prod(x.physical_shape) > sum(prod(b.result.physical_shape) for b in family)


def _merge(graph: Graph, family: list[_Branch]) -> None:
    """Put one convolution in the place of ``family``, the first of its nodes; its parts have the old results' place."""
    first = family[0].conv
    x, y, w = first.inputs[0], first.outputs[0], first.inputs[1]
    assert x is not None and w is not None
    block, dtype = y.layout.block, y.dtype
    sizes = [-(-b.result.shape[1] // block) * block for b in family[:-1]]  # the next one begins with a block
    starts = [sum(sizes[:k]) for k in range(len(family))]
    channels = starts[-1] + family[-1].result.shape[1]
    spatial = y.shape[2:]

    weights = np.zeros((channels, *w.shape[1:]), graph.constants[w].dtype)
    bias = np.zeros(channels, graph.constants[w].dtype)
    for branch, start in zip(family, starts, strict=True):
        _, weight, *more = branch.conv.inputs
        assert weight is not None
        stop = start + branch.result.shape[1]
        weights[start:stop] = graph.constants[weight]
        if more and more[0] is not None:
            bias[start:stop] = graph.constants[more[0]]
    names = "+".join(b.conv.outputs[0].name for b in family)

    def value(name: str, of: Value) -> Value:
        return Value(name, of.dtype, (1, channels, *spatial), of.layout)

    constants = [Value(f"{names}_weights", dtype, weights.shape), Value(f"{names}_bias", dtype, bias.shape)]
    graph.constants.update(zip(constants, (weights, bias), strict=True))
    joint = value(names, y)
    made = [Node("Conv", [x, *constants], [joint], dict(first.attrs), tuple(n for b in family for n in b.conv.names))]
    for steps in zip(*(b.epilogue for b in family), strict=True):
        after = value(f"{joint.name}_{steps[0].op.lower()}", steps[0].outputs[0])
        rest = steps[0].inputs[1:]
        made.append(Node(steps[0].op, [joint, *rest], [after], dict(steps[0].attrs), sum((s.names for s in steps), ())))
        joint = after
    for branch, start in zip(family, starts, strict=True):
        stop = start + branch.result.shape[1]
        attrs = {"axes": (1,), "starts": (start,), "ends": (stop,), "steps": (1,)}
        made.append(Node("Slice", [joint], [branch.result], attrs, (f"{branch.result.name}_part",)))

    at = min(i for i, n in enumerate(graph.nodes) if any(n is b.conv for b in family))
    graph.nodes[at:at] = [*_other_branches(graph, x), *made]
    graph.remove(n for b in family for n in (b.conv, *b.epilogue))


def _other_branches(graph: Graph, x: Value) -> list[Node]:
    """Take out the pools of ``x``, each with the convolution after it and its epilogue, to be run before the family."""
    readers = graph.consumers()
    moved: list[Node] = []
    for node in readers[x]:
        chain: list[Node] = []
        value, wanted = x, POOLS
        while node.op in wanted and len(node.outputs) == 1:
            if any(v is not value and v not in graph.constants for v in node.inputs if v is not None):
                break
            chain.append(node)
            value = node.outputs[0]
            wanted = UNARY if any(n.op == "Conv" for n in chain) else UNARY | {"Conv"}
            following = readers.get(value, [])
            if len(following) != 1:
                break
            (node,) = following
        moved += chain
    graph.remove(moved)
    return moved
