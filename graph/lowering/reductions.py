"""Reductions over axes, extreme indices, running sums."""

from __future__ import annotations

from ...te.ops import reduce
from ...te.tensor import Compute
from ..ir import Node
from .context import Context, required
from .registry import lowers

_REDUCTIONS = tuple(f"Reduce{name}" for name in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split())


@lowers(*_REDUCTIONS)
def reduction(ctx: Context, node: Node) -> Compute:
    a, y = node.attrs, node.outputs[0]
    x = ctx.operand(required(node))
    return reduce.reduce_op(node.op, x, a["axes"], keepdims=bool(a["keepdims"]), block=y.layout.block)


@lowers("ArgMax", "ArgMin")
def arg_reduction(ctx: Context, node: Node) -> Compute:
    a, y = node.attrs, node.outputs[0]
    return reduce.arg_reduce(
        node.op,
        ctx.operand(required(node)),
        a["axis"],
        keepdims=bool(a["keepdims"]),
        last=bool(a.get("select_last_index", 0)),
        block=y.layout.block,
    )


@lowers("CumSum")
def cumulative_sum(ctx: Context, node: Node) -> Compute:
    a, y = node.attrs, node.outputs[0]
    return reduce.cumulative_sum(
        ctx.operand(required(node)),
        a["axis"],
        exclusive=bool(a.get("exclusive", 0)),
        reverse=bool(a.get("reverse", 0)),
        block=y.layout.block,
    )
