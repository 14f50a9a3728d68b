"""What passes share: a copy of the graph under construction, with replaced values and use counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir import Graph, Node, Value


def copy_graph(graph: Graph) -> Graph:
    """A graph with nodes of its own; values and arrays are shared."""
    nodes = [Node(n.op, list(n.inputs), list(n.outputs), dict(n.attrs), n.names) for n in graph.nodes]
    return Graph(list(graph.inputs), list(graph.outputs), nodes, dict(graph.constants), graph.name)


class Rewriter:
    """Builds the result of a pass while walking over the nodes of its argument.

    uses       how often each value is read, graph outputs included
    producers  the emitted node that makes a value
    """

    def __init__(self, graph: Graph) -> None:
        self.source = copy_graph(graph)
        self.graph = Graph(list(graph.inputs), list(graph.outputs), [], dict(graph.constants), graph.name)
        self.constants = self.graph.constants
        self.outputs = set(graph.outputs)
        self.uses: Counter[Value] = Counter(graph.outputs)
        for node in graph.nodes:
            self.uses.update(v for v in node.inputs if v is not None)
        self.producers: dict[Value, Node] = {}
        self.replaced: dict[Value, Value] = {}

    def run(self, rule: Callable[[Node], bool]) -> Graph:
        """Show every node, its inputs already replaced, to ``rule``; keep those for which it returns False.

        A rule that returns True has emitted what it wants instead, or has replaced the node's outputs.
        """
        for node in self.source.nodes:
            node.inputs = [None if v is None else self.replaced.get(v, v) for v in node.inputs]
            if not rule(node):
                self.emit(node)
        self.graph.outputs = [self.replaced.get(v, v) for v in self.graph.outputs]
        return self.graph

    def emit(self, node: Node) -> Node:
        """Append ``node`` to the result."""
        self.graph.nodes.append(node)
        self.producers.update((v, node) for v in node.outputs)
        return node

    def producer(self, value: Value | None, *ops: str) -> Node | None:
        """The node that makes ``value``, if it is one of ``ops``."""
        node = None if value is None else self.producers.get(value)
        return node if node is not None and (not ops or node.op in ops) else None

    def sole(self, value: Value) -> bool:
        """Whether exactly one node, and no graph output, reads ``value``."""
        return self.uses[value] == 1 and value not in self.outputs

    def constant(self, value: Value | None) -> np.ndarray[Any, Any] | None:
        return None if value is None else self.constants.get(value)

    def add_constant(self, name: str, array: np.ndarray[Any, Any], dtype: str) -> Value:
        """A new constant, rounded to ``dtype``."""
        from ...te import dtype as dt

        array = np.ascontiguousarray(array, dt.to_numpy(dtype))
        value = Value(name, dtype, tuple(array.shape))
        self.constants[value] = array
        return value

    def replace(self, node: Node, value: Value) -> bool:
        """Let the readers of ``node``'s only output read ``value`` and drop the node.

        Graph outputs keep their names: where the output is one, the producer of ``value`` makes it instead. Returns
        False, having done nothing, where that cannot be: ``value`` is an input, a constant or another graph output.
        """
        old = node.outputs[0]
        if old in self.outputs:
            producer = self.producers.get(value)
            if producer is None or value in self.outputs:
                return False
            producer.outputs = [old if v is value else v for v in producer.outputs]
            self.producers[old] = producer
            for emitted in self.graph.nodes:
                emitted.inputs = [old if v is value else v for v in emitted.inputs]
            old, value = value, old
            self.uses[value] += self.uses[old] - 1
        else:
            self.uses[value] += self.uses[old] - 1
        self.replaced[old] = value
        for source, target in self.replaced.items():
            if target is old:
                self.replaced[source] = value
        return True
