"""QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from ...te import dtype as dt
from ...te.ops.quantize import dequantize, quantize
from ...te.tensor import Compute
from ..ir import Node
from .context import Context, optional, required
from .registry import lowers


def _check(node: Node) -> str | None:
    values = [v for v in (*node.inputs[:1], *node.outputs) if v is not None]
    if not any(dt.is_integer(v.dtype) for v in values):
        return f"{node.op} to or from {' and '.join(v.dtype for v in values)} is not supported; use an integer type"
    return None


@lowers("QuantizeLinear", "DequantizeLinear", check=_check)
def convert(ctx: Context, node: Node) -> Compute:
    x, scale, zero = required(node, 0), required(node, 1), optional(node, 2)
    y, a = node.outputs[0], node.attrs
    axis = int(a.get("axis", 1))
    rule = quantize if node.op == "QuantizeLinear" else dequantize
    return rule(
        ctx.operand(x),
        ctx.operand(scale),
        None if zero is None else ctx.operand(zero),
        y.dtype,
        axis=axis + len(x.shape) if axis < 0 else axis,
        group=int(a.get("block_size") or 0),
        block=y.layout.block,
    )
