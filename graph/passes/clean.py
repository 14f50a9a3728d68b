"""Common subexpressions and dead code."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir import Graph, Node, Value
from .rewrite import Rewriter, copy_graph


def eliminate_common(graph: Graph) -> Graph:
    """Compute equal nodes (same operator, inputs and attributes) once. Random numbers and graph outputs stay."""
    rewriter = Rewriter(graph)
    seen: dict[tuple[Any, ...], Node] = {}

    def merge(node: Node) -> bool:
        if node.op.startswith("Random") or node.op == "Bernoulli":
            return False
        attrs = tuple((k, _freeze(v)) for k, v in sorted(node.attrs.items()))
        layouts = tuple(v.layout for v in node.outputs)
        key = (node.op, tuple(map(id, node.inputs)), attrs, layouts, len(node.outputs))
        first = seen.setdefault(key, node)
        if first is node or len(node.outputs) != 1 or node.outputs[0] in rewriter.outputs:
            return False
        if not rewriter.replace(node, first.outputs[0]):
            return False
        first.names += node.names
        return True

    return rewriter.run(merge)


def eliminate_dead(graph: Graph) -> Graph:
    """Drop nodes and constants that no graph output depends on."""
    result = copy_graph(graph)
    live: set[Value] = set(result.outputs)
    nodes: list[Node] = []
    for node in reversed(result.nodes):
        if any(v in live for v in node.outputs):
            nodes.append(node)
            live.update(v for v in node.inputs if v is not None)
    result.nodes = nodes[::-1]
    result.constants = {v: a for v, a in result.constants.items() if v in live}
    return result


def _freeze(value: Any) -> Any:
    """A hashable stand-in for an attribute; type and value both count (1, 1.0 and True differ)."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, (tuple, list)):
        return tuple(_freeze(v) for v in value)
    return (type(value), repr(value))
