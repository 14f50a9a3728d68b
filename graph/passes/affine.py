"""Batch normalisation and other per-channel ``x * scale + shift`` by constants: merged, and folded into weights.

A chain of BatchNormalization, Mul, Add, Sub, Div and ScaleShift is one affine map, composed in float64. Behind a Conv,
ConvTranspose, Gemm or MatMul with constant weights it goes into weights and bias, rounded once; elsewhere it becomes
one ScaleShift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...te import dtype as dt
from ..ir import Graph, Node, Value
from .rewrite import Rewriter

Array = np.ndarray[Any, Any]
_CHUNK = 1 << 22


@dataclass(slots=True)
class _Affine:
    """``base * scale + shift``, (C,) each in float64; ``nodes`` compute it now."""

    base: Value
    scale: Array
    shift: Array
    nodes: list[Node]


def fold_affine(graph: Graph) -> Graph:
    """Fold per-channel affine maps into the weights before them, or merge them into one ScaleShift."""
    rewriter = Rewriter(graph)
    last = {id(a.nodes[-1]): a for a in _chains(rewriter)}
    inner = {id(n) for a in last.values() for n in a.nodes[:-1]}

    def fold(node: Node) -> bool:
        if id(node) in inner:
            return True
        affine = last.get(id(node))
        if affine is None:
            return False
        producer = rewriter.producer(affine.base)
        if producer is not None and rewriter.sole(affine.base) and _fold_into(producer, affine, rewriter):
            return True
        if len(affine.nodes) == 1 and node.op != "BatchNormalization":
            return False
        name, x, y = node.outputs[0].name, affine.base, node.outputs[0]
        scale = rewriter.add_constant(f"{name}_scale", affine.scale, y.dtype)
        shift = rewriter.add_constant(f"{name}_shift", affine.shift, y.dtype)
        rewriter.emit(Node("ScaleShift", [x, scale, shift], [y], {}, _names(affine)))
        return True

    return rewriter.run(fold)


def _chains(rewriter: Rewriter) -> list[_Affine]:
    """The longest chains of affine nodes whose inner values nobody else reads."""
    chains: dict[Value, _Affine] = {}
    for node in rewriter.source.nodes:
        found = _match(node, rewriter)
        if found is None:
            continue
        before = chains.get(found.base)
        if before is not None and rewriter.sole(found.base):
            del chains[found.base]
            found = _Affine(
                before.base,
                before.scale * found.scale,
                before.shift * found.scale + found.shift,
                [*before.nodes, node],
            )
        chains[node.outputs[0]] = found
    return list(chains.values())


def _match(node: Node, rewriter: Rewriter) -> _Affine | None:
    """Read ``node`` as an affine map of one computed input."""
    y = node.outputs[0]
    if not dt.is_float(y.dtype) or len(y.shape) < 2:
        return None
    channels = y.shape[1]
    one, zero = np.ones(channels), np.zeros(channels)
    match node.op:
        case "BatchNormalization" | "ScaleShift":
            x, *rest = node.inputs
            arrays = [rewriter.constant(v) for v in rest]
            if x is None or any(a is None for a in arrays):
                return None
            parts = [np.asarray(a, np.float64) for a in arrays]
            if node.op == "ScaleShift":
                return _Affine(x, parts[0], parts[1], [node])
            scale, bias, mean, var = parts
            factor = scale / np.sqrt(var + node.attrs["epsilon"])
            return _Affine(x, factor, bias - mean * factor, [node])
        case "Add" | "Sub" | "Mul" | "Div":
            a, b = node.inputs
            for x, other, first in ((a, b, True), (b, a, False)):
                vector = _channel_vector(rewriter.constant(other), y.shape)
                if x is None or vector is None or x in rewriter.constants or x.shape != y.shape:
                    continue
                match node.op:
                    case "Add":
                        return _Affine(x, one, zero + vector, [node])
                    case "Sub":
                        return _Affine(x, one if first else -one, zero - vector if first else zero + vector, [node])
                    case "Mul":
                        return _Affine(x, one * vector, zero, [node])
                    case "Div" if first and np.all(vector != 0):
                        return _Affine(x, one / vector, zero, [node])
    return None


def _channel_vector(array: Array | None, shape: tuple[int, ...]) -> Array | None:
    """``array`` as (C,) or (1,) in float64 if it varies along axis 1 only when broadcast to ``shape``."""
    if array is None or array.ndim > len(shape):
        return None
    full = (1,) * (len(shape) - array.ndim) + array.shape
    if any(size != 1 for i, size in enumerate(full) if i != 1) or full[1] not in (1, shape[1]):
        return None
    return np.asarray(array, np.float64).reshape(-1)


def _fold_into(node: Node, affine: _Affine, rewriter: Rewriter) -> bool:
    """Change weights and bias of ``node`` so that it computes ``affine``; False where it cannot."""
    w = node.inputs[1] if len(node.inputs) > 1 else None
    weights = rewriter.constant(w)
    if w is None or weights is None or len(node.outputs) != 1:
        return False
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = rewriter.constant(bias_value)
    if bias_value is not None and bias is None:
        return False
    out, scale = affine.nodes[-1].outputs[0], affine.scale
    new_bias = np.zeros(len(scale)) if bias is None else np.asarray(bias, np.float64)
    match node.op:
        case "Conv":
            new = _scaled(weights, scale, 0)
        case "ConvTranspose":
            if node.attrs["group"] != 1:
                return False
            new = _scaled(weights, scale, 1)
        case "Gemm":
            new = _scaled(weights, scale, 0 if node.attrs["transB"] else 1)
            if bias is not None:
                vector = _channel_vector(bias, out.shape)
                if vector is None:
                    return False
                new_bias = np.zeros(len(scale)) + vector * node.attrs["beta"]
            node.attrs["beta"] = 1.0
        case "MatMul" if len(out.shape) == 2 and weights.ndim == 2:
            new = _scaled(weights, scale, 1)
            node.op, node.attrs = "Gemm", {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
        case _:
            return False
    name = out.name
    b = rewriter.add_constant(f"{name}_bias", new_bias * scale + affine.shift, out.dtype)
    folded = w if new is weights else rewriter.add_constant(f"{name}_weights", new, w.dtype)
    node.inputs = [node.inputs[0], folded, b]
    node.outputs = [out]
    node.names += _names(affine)
    rewriter.producers[out] = node
    return True


def _scaled(weights: Array, scale: Array, axis: int) -> Array:
    """``weights`` times ``scale`` along ``axis``, multiplied in float64 and rounded; the same object for all ones."""
    if bool(np.all(scale == 1)):
        return weights
    shape = [1] * weights.ndim
    shape[axis] = len(scale)
    factor = scale.reshape(shape)
    if weights.size <= _CHUNK:
        return (weights * factor).astype(weights.dtype)
    result = np.empty_like(weights)
    rows = max(1, _CHUNK * len(weights) // weights.size)
    for i in range(0, len(weights), rows):  # in pieces: float64 copies of large weights would fill the memory
        part = factor[i : i + rows] if axis == 0 else factor
        result[i : i + rows] = weights[i : i + rows] * part
    return result


def _names(affine: _Affine) -> tuple[str, ...]:
    return tuple(name for node in affine.nodes for name in node.names)
