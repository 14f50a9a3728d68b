"""Reductions over any dimensions. Tag ``reduce`` on the stage that reduces.

Blocked operands are read in place: over channels, the tail lanes are excluded. The result is stored with ``block``
(default: plain, or the operand's layout where the channels survive and the rank stays).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...errors import ExpressionError
from .. import dtype as dt
from ..expr import Axis, Expr, ExprLike, Reduce, call, cast, const, equal, maximum, minimum, select
from ..tensor import Compute, reduce_axis
from ..tensor import all as reduce_all
from ..tensor import any as reduce_any
from ..tensor import max as reduce_max
from ..tensor import min as reduce_min
from ..tensor import prod as reduce_prod
from ..tensor import sum as reduce_sum
from .math import absolute
from .operand import Operand, OperandLike, define, operand, reduce_channels


def reduce_over(
    x: OperandLike,
    axes: Sequence[int],
    combine: Callable[..., Reduce],
    term: Callable[..., ExprLike] = lambda v: v,
    *,
    keepdims: bool = True,
    block: int | None = None,
    extra: Sequence[Operand] = (),
    name: str = "reduce",
    tag: str = "reduce",
) -> Operand:
    """Combine ``term`` of the elements of ``x`` over ``axes``.

    combine  one of te.sum, te.prod, te.min, te.max, te.all, te.any
    term     of the element of ``x`` and those of ``extra`` (operands that broadcast against ``x``)
    """
    a = operand(x)
    over = sorted(set(axes))
    shape = reduced_shape(a.shape, over, keepdims)
    if block is None:
        block = a.block if keepdims and 1 not in over else 0

    def body(*i: Expr) -> Expr:
        kept = iter(i)
        position: list[Expr] = []
        bound: list[Axis] = []
        inner: list[Axis] = []
        where: Expr | None = None
        for d, size in enumerate(a.shape):
            if d not in over:
                position.append(next(kept))
                continue
            if keepdims:
                next(kept)
            if d == 1 and a.block:
                channels = reduce_channels(a)
                position.append(channels.index)
                bound.append(channels.axes[0])
                inner.extend(channels.axes[1:])
                where = channels.where
            else:
                k = reduce_axis(size, f"r{d}")
                position.append(k.var)
                bound.append(k)
        values = [a.at(*position), *(e.broadcast_at(position, a.shape) for e in extra)]
        return combine(term(*values), [*bound, *inner], where=where)

    if not over:
        identity = define(a.shape, lambda *i: term(a.at(*i)), block=block, name=name)
        return Operand(identity, a.shape, block)
    return Operand(define(shape, body, block=block, name=name, tag=tag), shape, block)


def reduced_shape(shape: Sequence[int], axes: Sequence[int], keepdims: bool) -> tuple[int, ...]:
    """The shape after reducing ``axes``, which stay with size 1 or vanish."""
    if keepdims:
        return tuple(1 if d in axes else n for d, n in enumerate(shape))
    return tuple(n for d, n in enumerate(shape) if d not in axes)


def reduce_op(
    op: str, x: OperandLike, axes: Sequence[int], *, keepdims: bool = True, block: int | None = None
) -> Compute:
    """ONNX ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd, ReduceL1, ReduceL2, ReduceSumSquare,
    ReduceLogSum or ReduceLogSumExp (``op``) over ``axes``."""
    a = operand(x)
    if op == "ReduceLogSumExp":
        return _log_sum_exp(a, axes, keepdims, block)
    if op in ("ReduceMax", "ReduceMin") and a.dtype == dt.BOOL:
        combine: Callable[..., Reduce] = reduce_any if op == "ReduceMax" else reduce_all
        return _compute(reduce_over(a, axes, combine, keepdims=keepdims, block=block, name=op))
    if op not in _SIMPLE:
        raise ExpressionError(f"{op} is unknown; use one of {', '.join((*_SIMPLE, 'ReduceLogSumExp'))}")
    combine, term, finish = _SIMPLE[op]
    total = reduce_over(a, axes, combine, term, keepdims=keepdims, block=block, name=_snake(op))
    if op == "ReduceMean":
        count = math.prod(a.shape[d] for d in axes)
        return _finish(total, lambda v: _mean(v, count), "mean")
    return _compute(total) if finish is None else _finish(total, finish, _snake(op) + "_end")


def arg_reduce(
    op: str, x: OperandLike, axis: int, *, keepdims: bool = True, last: bool = False, block: int | None = None
) -> Compute:
    """ArgMax or ArgMin (``op``): the index of the first (or the ``last``) extreme element along ``axis``, as int64.

    Found in two stages: the extreme value, then the least (or greatest) index at which it stands.
    """
    a = operand(x)
    size = a.shape[axis]
    extreme = reduce_over(a, [axis], reduce_max if op == "ArgMax" else reduce_min, name="extreme")
    shape = reduced_shape(a.shape, [axis], keepdims)
    if block is None:
        block = a.block if keepdims and axis != 1 else 0

    def body(*i: Expr) -> Expr:
        k = reduce_axis(size, "k")
        rest = i[axis + 1 :] if keepdims else i[axis:]
        found = equal(a.at(*i[:axis], k, *rest), extreme.at(*i[:axis], 0, *rest))
        if last:
            return reduce_max(select(found, k.var, const(-1)), k)
        return reduce_min(select(found, k.var, const(size)), k)

    index = Operand(define(shape, body, block=block, name=op.lower(), tag="reduce"), shape, block)
    # Where no element equals the extreme one (NaN), stay within the range.
    return _finish(index, lambda v: minimum(maximum(v, 0), size - 1), "index")


def cumulative_sum(
    x: OperandLike, axis: int, *, exclusive: bool = False, reverse: bool = False, block: int = 0
) -> Compute:
    """Running sums along ``axis``: element i sums those up to i (before it, if ``exclusive``; from the end, if
    ``reverse``)."""
    a = operand(x)

    def body(*i: Expr) -> Expr:
        k, here = reduce_axis(a.shape[axis], "k"), i[axis]
        term = a.at(*i[:axis], k, *i[axis + 1 :])
        if reverse:
            return reduce_sum(term, k, where=k.var > here if exclusive else k.var >= here)
        return reduce_sum(term, k, where=k.var < here if exclusive else k.var <= here)

    return define(a.shape, body, block=block, name="cumulative_sum", tag="reduce")


# ------------------------------------------------------------------------------------------- parts

_SIMPLE: dict[str, tuple[Callable[..., Reduce], Callable[[Expr], Expr], Callable[[Expr], Expr] | None]] = {
    "ReduceSum": (reduce_sum, lambda v: v, None),
    "ReduceMean": (reduce_sum, lambda v: v, None),
    "ReduceMax": (reduce_max, lambda v: v, None),
    "ReduceMin": (reduce_min, lambda v: v, None),
    "ReduceProd": (reduce_prod, lambda v: v, None),
    "ReduceL1": (reduce_sum, absolute, None),
    "ReduceL2": (reduce_sum, lambda v: v * v, lambda v: _float_call("sqrt", v)),
    "ReduceSumSquare": (reduce_sum, lambda v: v * v, None),
    "ReduceLogSum": (reduce_sum, lambda v: v, lambda v: _float_call("log", v)),
}
"""What is combined, of which term, and what is applied to the result."""


def _log_sum_exp(a: Operand, axes: Sequence[int], keepdims: bool, block: int | None) -> Compute:
    """max + log(sum(exp(x - max))), which does not overflow."""
    top = reduce_over(a, axes, reduce_max, name="top")
    total = reduce_over(
        a, axes, reduce_sum, lambda v, m: call("exp", v - _finite(m)), block=top.block, extra=[top], name="exp_sum"
    )
    shape = reduced_shape(a.shape, sorted(axes), keepdims)
    if block is None:
        block = top.block if keepdims else 0

    def body(*i: Expr) -> Expr:
        kept = iter(i)
        full = list(i) if keepdims else [const(0) if d in axes else next(kept) for d in range(a.rank)]
        return _finite(top.at(*full)) + call("log", total.at(*full))

    return define(shape, body, block=block, name="log_sum_exp")


def _finite(v: Expr) -> Expr:
    """0 in place of an infinite maximum, so that ``x - max`` is not NaN."""
    return select(call("isinf", v), const(0, v.dtype), v)


def _float_call(fn: str, v: Expr) -> Expr:
    return call(fn, v) if dt.is_float(v.dtype) else cast(call(fn, cast(v, "float64")), v.dtype)


def _mean(v: Expr, count: int) -> Expr:
    if dt.is_float(v.dtype):
        return v / float(count) if count else v / 0.0
    return v // max(count, 1)


def _finish(x: Operand, fn: Callable[[Expr], Expr], name: str) -> Compute:
    return define(x.shape, lambda *i: fn(x.at(*i)), block=x.block, name=name)


def _compute(x: Operand) -> Compute:
    assert isinstance(x.tensor, Compute)
    return x.tensor


def _snake(op: str) -> str:
    return "".join("_" + c.lower() if c.isupper() and n else c.lower() for n, c in enumerate(op))
