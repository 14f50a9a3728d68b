"""Elementwise operators. The mathematics is in :mod:`luthier.te.ops.math`; this module reads ONNX's attributes."""

from __future__ import annotations

from collections.abc import Callable

from ...te.expr import Expr, select
from ...te.ops import math as scalar
from ...te.ops.elementwise import elementwise, scale_shift, variadic
from ...te.ops.normalization import batch_norm
from ...te.tensor import Compute
from ..ir import Node, Value
from .context import Context, optional, required
from .registry import lowers

_PARAMETRIC: dict[str, Callable[[Expr, dict[str, float]], Expr]] = {
    "Celu": lambda x, a: scalar.celu(x, a.get("alpha", 1.0)),
    "Clip": lambda x, a: scalar.clip(x, a.get("min"), a.get("max")),
    "Elu": lambda x, a: scalar.elu(x, a.get("alpha", 1.0)),
    "HardSigmoid": lambda x, a: scalar.hard_sigmoid(x, a.get("alpha", 0.2), a.get("beta", 0.5)),
    "IsInf": lambda x, a: scalar.is_inf(x, bool(a.get("detect_negative", 1)), bool(a.get("detect_positive", 1))),
    "LeakyRelu": lambda x, a: scalar.leaky_relu(x, a.get("alpha", 0.01)),
    "Selu": lambda x, a: scalar.selu(x, a.get("alpha", 1.6732632), a.get("gamma", 1.0507010)),
    "Shrink": lambda x, a: scalar.shrink(x, a.get("lambd", 0.5), a.get("bias", 0.0)),
    "Swish": lambda x, a: x * scalar.sigmoid(x * a.get("alpha", 1.0)),
    "ThresholdedRelu": lambda x, a: select(x > a.get("alpha", 1.0), x, 0),
}
"""Operators of one operand with numbers as attributes."""


@lowers(*(op for op in scalar.UNARY))
def unary(ctx: Context, node: Node) -> Compute:
    return _apply(ctx, node, scalar.UNARY[node.op])


@lowers(*_PARAMETRIC)
def parametric(ctx: Context, node: Node) -> Compute:
    if node.op == "Clip" and len(node.inputs) > 1:
        return _clip_computed(ctx, node)
    return _apply(ctx, node, lambda x: _PARAMETRIC[node.op](x, node.attrs))


def _clip_computed(ctx: Context, node: Node) -> Compute:
    """Clip with limits that are computed at run time."""
    low, high, y = optional(node, 1), optional(node, 2), node.outputs[0]
    limits = [ctx.broadcast(v, y) for v in (low, high) if v is not None]

    def limit(x: Expr, *given: Expr) -> Expr:
        rest = iter(given)
        return scalar.clip(x, None if low is None else next(rest), None if high is None else next(rest))

    return elementwise(limit, [ctx.operand(required(node)), *limits], name="clip", block=y.layout.block)


@lowers("Gelu")
def gelu(ctx: Context, node: Node) -> Compute:
    return _apply(ctx, node, lambda x: scalar.gelu(x, str(node.attrs.get("approximate", "none"))))


@lowers("Cast")
def cast(ctx: Context, node: Node) -> Compute:
    return _apply(ctx, node, lambda x: scalar.convert(x, node.attrs["to"]))


@lowers("Dropout")
def dropout(ctx: Context, node: Node) -> Compute:
    return _apply(ctx, node, lambda x: x)


@lowers(*(op for op in scalar.BINARY if op not in ("Max", "Min")))
def binary(ctx: Context, node: Node) -> Compute:
    return _apply(ctx, node, scalar.BINARY[node.op])


@lowers("Mod")
def mod(ctx: Context, node: Node) -> Compute:
    return _apply(ctx, node, scalar.fmod if node.attrs.get("fmod") else scalar.modulo)


@lowers("Sum", "Mean", "Max", "Min")
def fold(ctx: Context, node: Node) -> Compute:
    y = node.outputs[0]
    operands = [ctx.broadcast(v, y) for v in node.inputs if v is not None]
    if len(operands) == 1:
        return _apply(ctx, node, lambda x: x)
    return variadic(node.op, operands, shape=y.shape, block=y.layout.block)


@lowers("Where")
def where(ctx: Context, node: Node) -> Compute:
    return _apply(ctx, node, select)


@lowers("ScaleShift")
def scale_and_shift(ctx: Context, node: Node) -> Compute:
    x, scale, shift = _values(node)
    y = node.outputs[0]
    factors = [ctx.broadcast(v, y, axis=1) for v in (scale, shift)]
    return scale_shift(ctx.operand(x), *factors, block=y.layout.block)


@lowers("BatchNormalization")
def batch_normalization(ctx: Context, node: Node) -> Compute:
    x, *statistics = _values(node)
    y = node.outputs[0]
    factors = [ctx.broadcast(v, y, axis=1) for v in statistics]
    return batch_norm(ctx.operand(x), *factors, epsilon=node.attrs["epsilon"], block=y.layout.block)


def _apply(ctx: Context, node: Node, fn: Callable[..., Expr]) -> Compute:
    """Apply ``fn`` to the elements of all inputs."""
    y = node.outputs[0]
    operands = [ctx.broadcast(v, y) for v in _values(node)]
    return elementwise(fn, operands, name=node.op.lower(), shape=y.shape, block=y.layout.block)


def _values(node: Node) -> list[Value]:
    return [v for v in node.inputs if v is not None]
