"""Evaluate nodes and small graphs with NumPy: constant folding, and an oracle for tests.

What is not a mere change of shape runs through ONNX's reference implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx.reference import ReferenceEvaluator

from ..te import dtype as dt
from .export import to_onnx
from .ir import Graph, Node

Array = np.ndarray[Any, Any]


def evaluate_node(node: Node, arrays: Sequence[Array | None]) -> list[Array]:
    """The outputs of ``node`` for its inputs' arrays (None where an input is absent)."""
    out = node.outputs[0]
    x = arrays[0] if arrays else None
    match node.op:
        case "Identity" | "Dropout" | "LayoutConvert" if x is not None:
            return [x]
        case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" if x is not None:
            return [x.reshape(out.shape)]
        case "Transpose" if x is not None:
            return [np.ascontiguousarray(x.transpose(node.attrs["perm"]))]
        case "ConstantOfShape":
            return [np.full(out.shape, node.attrs["value"], dt.to_numpy(out.dtype))]
    inputs = [v for v in dict.fromkeys(node.inputs) if v is not None]
    feeds = {v.name: a for v, a in zip(node.inputs, arrays, strict=True) if v is not None and a is not None}
    return evaluate_graph(Graph(inputs, list(node.outputs), [node], {}), feeds)


def evaluate_graph(graph: Graph, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of ``graph`` for the arrays of its inputs, by name. Slow: for small graphs only."""
    results = ReferenceEvaluator(to_onnx(graph)).run(None, dict(feeds))
    return [np.asarray(r, dt.to_numpy(v.dtype)).reshape(v.shape) for v, r in zip(graph.outputs, results, strict=True)]
