"""Constant folding: what does not depend on the model's inputs is computed now, once, in NumPy."""

from __future__ import annotations

import math

from ...errors import OnnxError
from ...te import dtype as dt
from ..evaluate import evaluate_node
from ..ir import Graph, Node
from .rewrite import Rewriter

_GROWING = frozenset({"Expand", "Tile", "Resize", "Pad", "OneHot"})
_GROWTH = 4
_SMALL_BYTES = 1 << 20


def fold_constants(graph: Graph) -> Graph:
    """Replace nodes whose inputs are all constant by their results.

    Not folded: nodes that blow a small constant up (Expand, Tile, ...) to more than 1 MB and four times its size,
    random numbers, and operators that ONNX's reference implementation lacks. A graph output stays computed: by
    Identity.
    """
    rewriter = Rewriter(graph)

    def fold(node: Node) -> bool:
        if node.op == "Identity" or any(v is not None and v not in rewriter.constants for v in node.inputs):
            return False
        if node.op.startswith("Random") or _blows_up(node):
            return False
        try:
            arrays = evaluate_node(node, [rewriter.constant(v) for v in node.inputs])
        except (OnnxError, NotImplementedError, RuntimeError, TypeError, AttributeError):
            return False  # the reference implementation cannot; generated code may
        for value, array in zip(node.outputs, arrays, strict=True):
            if value in rewriter.outputs:
                source = rewriter.add_constant(f"{value.name}_value", array, value.dtype)
                rewriter.emit(Node("Identity", [source], [value], {}, node.names))
            else:
                rewriter.constants[value] = array
        return True

    return rewriter.run(fold)


def _blows_up(node: Node) -> bool:
    if node.op not in _GROWING:
        return False
    size = sum(math.prod(v.shape) * dt.size_bytes(v.dtype) for v in node.outputs)
    read = sum(math.prod(v.shape) * dt.size_bytes(v.dtype) for v in node.inputs if v is not None)
    return size > _SMALL_BYTES and size > _GROWTH * read
