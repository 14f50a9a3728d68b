"""Grouped convolutions whose groups do not fill vectors, and the channel shuffles around them.

A vector of output channels that belong to different groups would read different input channels in every lane. Either
each group ends with a vector that is cut short (in the layout that has all channels in one block), or groups are merged
until they fill whole blocks, with zeros where a merged group had no weights: whichever computes less in vain. A shuffle
before a merged convolution is a permutation of its weights; before a grouped one it is a matter of which channel is
read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir import Graph, Node, Value
from ..kinds import UNARY, is_depthwise
from .rewrite import Rewriter, copy_graph

Array = np.ndarray[Any, Any]

_MAX_MERGED = 32
"""Merging more groups than this would cost more than vectors gain."""


def fit_groups(graph: Graph, block: int) -> Graph:
    """Merge groups that do not fill blocks of ``block`` channels; move shuffles into weights where that removes them.

    Only convolutions with constant weights change; depthwise ones need no whole blocks. Results stay the same for
    finite inputs.
    """
    return delay_shuffles(sink_shuffles(widen_groups(graph, block)))


def widen_groups(graph: Graph, block: int) -> Graph:
    """Merge the fewest neighbouring groups so that each holds whole blocks of input and output channels; else all.

    Groups stay apart where the zeros that merging adds would outweigh the lanes that their last vectors leave unused.
    """
    rewriter = Rewriter(graph)

    def widen(node: Node) -> bool:
        if node.op != "Conv" or node.attrs["group"] == 1 or is_depthwise(node):
            return False
        w = node.inputs[1]
        array = rewriter.constant(w)
        if w is None or array is None:
            return False
        outputs = array.shape[0] // node.attrs["group"]
        merged = _merged(node.attrs["group"], array.shape[1], outputs, block)
        used = outputs / (-(-outputs // block) * block)  # of the vectors of one group
        if merged > 1 and 1 / merged >= used:
            wide = _block_diagonal(array, node.attrs["group"], merged)
            node.inputs[1] = rewriter.add_constant(f"{w.name}_by_{merged}", wide, w.dtype)
            node.attrs["group"] //= merged
        return False

    return rewriter.run(widen)


def sink_shuffles(graph: Graph) -> Graph:
    """Drop each ChannelShuffle whose readers can take the channels in their old order.

    Ungrouped convolutions can, by a permutation of their weights' input channels; depthwise ones and unary elementwise
    operators can if the readers of their results can.
    """
    result = copy_graph(graph)
    constants = result.constants
    readers = result.consumers()
    outputs = set(result.outputs)

    def takers(value: Value) -> list[Node] | None:
        """All nodes that see a permutation of ``value``'s channels; None if one of them cannot."""
        found: list[Node] = []
        nodes = readers.get(value, [])
        if not nodes or value in outputs:
            return None
        for node in nodes:
            weights = node.inputs[1:]
            if node.inputs[0] is not value or any(v is not None and v not in constants for v in weights):
                return None
            found.append(node)
            if node.op == "Conv" and node.attrs["group"] == 1:
                continue
            inner = takers(node.outputs[0]) if is_depthwise(node) or node.op in UNARY else None
            if inner is None:
                return None
            found += inner
        return found

    for shuffle in [n for n in result.nodes if n.op == "ChannelShuffle"]:
        x, y = shuffle.inputs[0], shuffle.outputs[0]
        nodes = takers(y)
        if x is None or nodes is None:
            continue
        inverse = np.argsort(_shuffled(y.shape[1], shuffle.attrs["groups"]))
        for node in nodes:
            if is_depthwise(node):
                _permute(result, node, 1, 0, inverse)
                _permute(result, node, 2, 0, inverse)
            elif node.op == "Conv":
                _permute(result, node, 1, 1, inverse)
        for node in readers[y]:
            node.inputs[0] = x
            node.names = shuffle.names + node.names
        readers[x] = [n for n in readers[x] if n is not shuffle] + readers[y]
        result.remove([shuffle])
    return result


def delay_shuffles(graph: Graph) -> Graph:
    """Move each ChannelShuffle behind the depthwise convolution that alone reads it, towards one that takes it in."""
    result = copy_graph(graph)
    for shuffle in [n for n in result.nodes if n.op == "ChannelShuffle"]:
        x, y = shuffle.inputs[0], shuffle.outputs[0]
        readers = result.consumers().get(y, [])
        if x is None or len(readers) != 1 or y in result.outputs or not is_depthwise(readers[0]):
            continue
        node = readers[0]
        if any(v is not None and v not in result.constants for v in node.inputs[1:]):
            continue
        inverse = np.argsort(_shuffled(y.shape[1], shuffle.attrs["groups"]))
        _permute(result, node, 1, 0, inverse)
        _permute(result, node, 2, 0, inverse)
        shuffled = node.outputs[0]
        early = Value(f"{shuffled.name}_unshuffled", shuffled.dtype, shuffled.shape)
        node.inputs[0], node.outputs[0] = x, early
        shuffle.inputs[0], shuffle.outputs[0] = early, shuffled
        result.nodes.remove(shuffle)
        result.nodes.insert(result.nodes.index(node) + 1, shuffle)
    return result


def _permute(graph: Graph, node: Node, index: int, axis: int, order: Array) -> None:
    """Permute a constant operand along ``axis``; an absent one stays absent."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is not None:
        new = Value(f"{value.name}_shuffled", value.dtype, value.shape)
        graph.constants[new] = np.take(graph.constants[value], order, axis=axis)
        node.inputs[index] = new


def _merged(groups: int, inputs: int, outputs: int, block: int) -> int:
    """How many groups to merge into one."""
    if inputs % block == 0 and outputs % block == 0:
        return 1
    for merged in range(2, groups + 1):
        fits = inputs * merged % block == 0 and outputs * merged % block == 0
        if groups % merged == 0 and (fits or merged == groups):
            return merged if merged <= _MAX_MERGED else 1
    return 1


def _block_diagonal(weights: Array, groups: int, merged: int) -> Array:
    """Weights (O, C / groups, *kernel) for ``groups / merged`` groups: zeros where the old groups did not look."""
    outputs, inputs, *kernel = weights.shape
    old = weights.reshape(groups // merged, merged, outputs // groups, inputs, *kernel)
    new = np.zeros((groups // merged, merged, outputs // groups, merged, inputs, *kernel), weights.dtype)
    for i in range(merged):
        new[:, i, :, i] = old[:, i]
    return new.reshape(outputs, merged * inputs, *kernel)


def _shuffled(channels: int, groups: int) -> Array:
    """For each channel of ChannelShuffle's result, the channel that it comes from."""
    return np.arange(channels).reshape(groups, channels // groups).T.reshape(-1)
