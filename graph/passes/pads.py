"""Explicit Pad nodes become the padding of the window operator that reads them."""

from __future__ import annotations

import math

from ..ir import Graph, Node
from .rewrite import Rewriter


def fold_pads(graph: Graph) -> Graph:
    """Move a Pad of the spatial axes into the Conv or pool that reads it, where the padded value allows it.

    Conv takes zeros; MaxPool takes minus infinity; AveragePool takes zeros, as ``count_include_pad``, if it has no
    padding of its own that does not count.
    """
    rewriter = Rewriter(graph)

    def fold(node: Node) -> bool:
        pad = rewriter.producer(node.inputs[0] if node.inputs else None, "Pad")
        if pad is None or pad.attrs["mode"] != "constant":
            return False
        rank = len(pad.outputs[0].shape)
        pads = pad.attrs["pads"]
        begins, ends = pads[:rank], pads[rank:]
        if min(pads) < 0 or any(begins[:2]) or any(ends[:2]) or not _takes(node, pad.attrs["value"]):
            return False
        extra = (*begins[2:], *ends[2:])
        total = tuple(a + b for a, b in zip(node.attrs["pads"], extra, strict=True))
        if node.op != "Conv" and any(p >= k for p, k in zip(total, node.attrs["kernel_shape"] * 2, strict=True)):
            return False  # a pool's window must not lie in the padding altogether
        node.attrs["pads"] = total
        if node.op == "AveragePool":
            node.attrs["count_include_pad"] = 1
        source = pad.inputs[0]
        assert source is not None
        rewriter.uses[pad.outputs[0]] -= 1
        rewriter.uses[source] += 1
        node.inputs = [source, *node.inputs[1:]]
        node.names = pad.names + node.names
        return False

    return rewriter.run(fold)


def _takes(node: Node, value: float) -> bool:
    """Whether the operator's own padding means ``value``."""
    match node.op:
        case "Conv":
            return value == 0
        case "MaxPool":
            return value == -math.inf and not node.attrs["ceil_mode"]
        case "AveragePool":
            own = node.attrs["count_include_pad"] or not any(node.attrs["pads"])
            return value == 0 and bool(own) and not node.attrs["ceil_mode"]
        case _:
            return False
