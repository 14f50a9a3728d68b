"""Pooling: a sliding window (:mod:`.window`) that takes the greatest value, the mean or a norm. Blocked or plain.

Tag ``pool`` on the reduction over the taps (attrs: kernel, strides, pads, dilations), ``global_pool`` where one
window covers the image. Means divide in a stage of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..expr import Expr, ExprLike, Reduce, call, cast
from ..tensor import Compute, reduce_axis
from ..tensor import max as reduce_max
from ..tensor import sum as reduce_sum
from .math import power
from .operand import Operand, OperandLike, conjunction, define, operand
from .window import Window, tap_count, window


def max_pool(
    x: OperandLike,
    kernel: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    *,
    outputs: Sequence[int] | None = None,
    block: int | None = None,
) -> Compute:
    """The greatest value under each window. ``outputs`` gives the spatial sizes when ceil_mode rounds them up."""
    a = operand(x)
    w = window(a.shape[2:], kernel, strides, pads, dilations, outputs=outputs)
    return _pool(a, w, reduce_max, lambda v: v, "max_pool", a.block if block is None else block)


def avg_pool(
    x: OperandLike,
    kernel: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    *,
    count_include_pad: bool = False,
    outputs: Sequence[int] | None = None,
    block: int | None = None,
) -> Compute:
    """The mean under each window, of the taps on the input or, with ``count_include_pad``, on its padding too."""
    a = operand(x)
    block = a.block if block is None else block
    w = window(a.shape[2:], kernel, strides, pads, dilations, outputs=outputs)
    total = Operand(_pool(a, w, reduce_sum, lambda v: v, "pool_sum", block), (*a.shape[:2], *w.outputs), block)

    def mean(*i: Expr) -> Expr:
        known, varying = 1, []
        for d in range(w.rank):
            count = tap_count(w, d, i[2 + d], count_include_pad)
            if isinstance(count, int):
                known *= count
            else:
                varying.append(count)
        value = total.at(*i)
        if not varying:
            return value / float(known)
        count = varying[0] * known
        for other in varying[1:]:
            count = count * other
        return value / cast(count, value.dtype)

    return define(total.shape, mean, block=block, name="avg_pool")


def lp_pool(
    x: OperandLike,
    kernel: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    *,
    p: int = 2,
    outputs: Sequence[int] | None = None,
    block: int | None = None,
) -> Compute:
    """The p-norm of the values under each window."""
    a = operand(x)
    block = a.block if block is None else block
    w = window(a.shape[2:], kernel, strides, pads, dilations, outputs=outputs)
    total = _pool(a, w, reduce_sum, lambda v: _absolute_power(v, p), "pool_sum", block)
    return _root(Operand(total, (*a.shape[:2], *w.outputs), block), p, "lp_pool")


def global_avg_pool(x: OperandLike, *, block: int | None = None) -> Compute:
    """The mean of each channel, (N, C, 1, ..., 1)."""
    a = operand(x)
    block = a.block if block is None else block
    total = _global(a, reduce_sum, lambda v: v, "global_sum", block)
    count = float(math.prod(a.shape[2:]))
    return define(total.shape, lambda *i: total.at(*i) / count, block=block, name="global_avg_pool")


def global_max_pool(x: OperandLike, *, block: int | None = None) -> Compute:
    """The greatest value of each channel, (N, C, 1, ..., 1)."""
    a = operand(x)
    top = _global(a, reduce_max, lambda v: v, "global_max_pool", a.block if block is None else block)
    assert isinstance(top.tensor, Compute)
    return top.tensor


def global_lp_pool(x: OperandLike, p: int = 2, *, block: int | None = None) -> Compute:
    """The p-norm of each channel, (N, C, 1, ..., 1)."""
    a = operand(x)
    total = _global(a, reduce_sum, lambda v: _absolute_power(v, p), "global_sum", a.block if block is None else block)
    return _root(total, p, "global_lp_pool")


# ------------------------------------------------------------------------------------------- parts


def _pool(
    x: Operand,
    w: Window,
    combine: Callable[..., Reduce],
    term: Callable[[Expr], ExprLike],
    name: str,
    block: int,
) -> Compute:
    def body(*i: Expr) -> Expr:
        n, c, *out = i
        taps = w.axes()
        value = term(x.at(n, c, *w.positions(out, taps)))
        return combine(value, taps, where=conjunction(w.inside(out, taps)))

    return define((*x.shape[:2], *w.outputs), body, block=block, name=name, tag="pool", attrs=w.attrs())


def _global(
    x: Operand, combine: Callable[..., Reduce], term: Callable[[Expr], ExprLike], name: str, block: int
) -> Operand:
    spatial = x.shape[2:]
    shape = (*x.shape[:2], *(1,) * len(spatial))

    def body(*i: Expr) -> Expr:
        taps = [reduce_axis(size, f"k{d}") for d, size in enumerate(spatial)]
        return combine(term(x.at(i[0], i[1], *taps)), taps)

    return Operand(define(shape, body, block=block, name=name, tag="global_pool"), shape, block)


def _absolute_power(value: Expr, p: int) -> Expr:
    return power(value if p % 2 == 0 else call("abs", value), float(p))


def _root(total: Operand, p: int, name: str) -> Compute:
    return define(total.shape, lambda *i: power(total.at(*i), 1.0 / p), block=total.block, name=name)
