"""Changes of shape: one operator for all views, no chains of them, and channel shuffles by name."""

from __future__ import annotations

from ..ir import Graph, Node
from .rewrite import Rewriter

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


def merge_views(graph: Graph) -> Graph:
    """Write Flatten, Squeeze, Unsqueeze, and transpositions that move only dimensions of 1, as Reshape; merge chains.

    Reshape of Reshape reads the first one's input; Transpose of Transpose becomes one; what then does nothing goes.
    """
    rewriter = Rewriter(graph)

    def merge(node: Node) -> bool:
        x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
        if x is None or (node.op not in _VIEWS and node.op != "Transpose"):
            return False
        if node.op == "Transpose":
            before = rewriter.producer(x, "Transpose")
            if before is not None:
                perm = before.attrs["perm"]
                node.attrs = {"perm": tuple(perm[p] for p in node.attrs["perm"])}
                _skip(node, before, rewriter)
            source = node.inputs[0]
            assert source is not None
            moved = [p for p in node.attrs["perm"] if source.shape[p] != 1]
            if moved != sorted(moved):
                return False
        node.op, node.attrs = "Reshape", {"shape": y.shape}
        before = rewriter.producer(node.inputs[0], "Reshape")
        if before is not None:
            _skip(node, before, rewriter)
        source = node.inputs[0]
        return source is not None and source.shape == y.shape and rewriter.replace(node, source)

    return rewriter.run(merge)


def _skip(node: Node, before: Node, rewriter: Rewriter) -> None:
    """Let ``node`` read what ``before`` reads; ``before`` becomes dead code when nobody else reads it."""
    middle, source = before.outputs[0], before.inputs[0]
    assert source is not None
    rewriter.uses[middle] -= 1
    rewriter.uses[source] += 1
    node.inputs = [source]
    node.names = before.names + node.names


def match_shuffles(graph: Graph) -> Graph:
    """Recognise Reshape - Transpose - Reshape that interleaves groups of channels as ChannelShuffle."""
    rewriter = Rewriter(graph)

    def match(node: Node) -> bool:
        if node.op != "Reshape":
            return False
        turn = rewriter.producer(node.inputs[0], "Transpose")
        if turn is None or not rewriter.sole(turn.outputs[0]):
            return False
        cut = rewriter.producer(turn.inputs[0], "Reshape")
        if cut is None or not rewriter.sole(cut.outputs[0]) or cut.inputs[0] is None:
            return False
        x, parts, y = cut.inputs[0], cut.outputs[0], node.outputs[0]
        rank = len(parts.shape)
        if x.shape != y.shape or len(x.shape) != rank - 1 or rank < 4:
            return False
        if parts.shape[0] != x.shape[0] or parts.shape[3:] != x.shape[2:]:
            return False
        if turn.attrs["perm"] != (0, 2, 1, *range(3, rank)):
            return False
        names = cut.names + turn.names + node.names
        rewriter.graph.remove([cut, turn])
        rewriter.emit(Node("ChannelShuffle", [x], [y], {"groups": parts.shape[1]}, names))
        return True

    return rewriter.run(match)
