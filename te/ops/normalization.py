"""Normalisations: several stages each, reductions first. Blocked operands are read in place, without their tail
lanes.

Tags: ``softmax`` on every stage of (log-)softmax, ``lrn`` on the sum over neighbouring channels, ``reduce`` on means
and variances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...errors import ExpressionError
from ..expr import Const, Expr, call, const, equal, select
from ..tensor import Compute, compute, reduce_axis
from ..tensor import max as reduce_max
from ..tensor import sum as reduce_sum
from .elementwise import elementwise
from .layout import reshape
from .math import power
from .operand import Operand, OperandLike, axis_names, conjunction, define, named, operand
from .reduce import arg_reduce, reduce_over


def softmax(x: OperandLike, axes: Sequence[int], *, block: int | None = None) -> Compute:
    """``exp(x) / sum(exp(x))``, jointly over ``axes``; stages: maximum, exponential, sum, quotient."""
    a = operand(x)
    block = a.block if block is None else block
    top = reduce_over(a, axes, reduce_max, name="softmax_max", tag="softmax")
    exp = define(
        a.shape,
        lambda *i: call("exp", a.at(*i) - top.broadcast_at(i, a.shape)),
        block=a.block,
        name="softmax_exp",
        tag="softmax",
    )
    e = Operand(exp, a.shape, a.block)
    total = reduce_over(e, axes, reduce_sum, name="softmax_sum", tag="softmax")
    return define(
        a.shape, lambda *i: e.at(*i) / total.broadcast_at(i, a.shape), block=block, name="softmax", tag="softmax"
    )


def log_softmax(x: OperandLike, axes: Sequence[int], *, block: int | None = None) -> Compute:
    """``x - log(sum(exp(x)))``, jointly over ``axes``, without overflow."""
    a = operand(x)
    block = a.block if block is None else block
    top = reduce_over(a, axes, reduce_max, name="softmax_max", tag="softmax")
    total = reduce_over(
        a, axes, reduce_sum, lambda v, m: call("exp", v - m), extra=[top], name="softmax_sum", tag="softmax"
    )
    log = _map(total, lambda v: call("log", v), "softmax_log")
    # The maximum is taken off first: added to the logarithm, a large one would cost that its digits.
    return elementwise(
        lambda v, m, s: (v - m) - s, [a, top, log], name="log_softmax", block=a.block if block is None else block
    )


def hardmax(x: OperandLike, axes: Sequence[int], *, block: int = 0) -> Compute:
    """1 at the first greatest element over ``axes`` (jointly), 0 elsewhere. Axes are consecutive."""
    a = operand(x)
    first, last = min(axes), max(axes)
    flat_shape = (*a.shape[:first], math.prod(a.shape[first : last + 1]), *a.shape[last + 1 :])
    flat = reshape(a, flat_shape)
    top = operand(arg_reduce("ArgMax", flat, first))

    def body(*i: Expr) -> Expr:
        return select(equal(i[first], top.broadcast_at(i, flat_shape)), const(1, a.dtype), const(0, a.dtype))

    return reshape(define(flat_shape, body, name="hardmax"), a.shape, block=block)


def lrn(x: OperandLike, size: int, alpha: float, beta: float, bias: float, *, block: int | None = None) -> Compute:
    """Local response normalisation: ``x / (bias + alpha / size * s) ** beta``, where s sums the squares of ``size``
    channels around."""
    a = operand(x)
    block = a.block if block is None else block
    before = (size - 1) // 2
    channels = a.shape[1]
    if a.block > size:
        total = Operand(_window_squares(a, size, before), a.shape, a.block)
        return _normalised(a, total, alpha / size, beta, bias, block)

    def squares(n: Expr, c: Expr, *spatial: Expr) -> Expr:
        k = reduce_axis(size, "k")
        near = c + k.var - before
        value = a.at(n, near, *spatial)
        return reduce_sum(value * value, k, where=conjunction([near >= 0 if before else None, near < channels]))

    total = Operand(define(a.shape, squares, block=a.block, name="lrn_sum", tag="lrn"), a.shape, a.block)
    return _normalised(a, total, alpha / size, beta, bias, block)


def _normalised(a: Operand, total: Operand, scale: float, beta: float, bias: float, block: int) -> Compute:
    return define(a.shape, lambda *i: a.at(*i) * power(total.at(*i) * scale + bias, -beta), block=block, name="lrn")


def _window_squares(a: Operand, size: int, before: int) -> Compute:
    """Sums of squares over neighbouring channels of blocked data, fewer than a block holds.

    A neighbour is in the same block or in the one next to it, so that the lanes of a vector read two runs of memory.
    """
    x, b = a.tensor, a.block
    if isinstance(x, Const):
        raise ExpressionError("lrn: the operand is a constant; fold it first")
    blocks = x.shape[1]

    def total(n: Expr, o: Expr, *rest: Expr) -> Expr:
        *spatial, lane = rest

        def neighbour(distance: int) -> Expr:
            if distance == 0:
                return x[(n, o, *spatial, lane)]
            step = 1 if distance > 0 else -1
            here = lane < b - distance if distance > 0 else lane >= -distance
            exists = o < blocks - 1 if distance > 0 else o >= 1
            across = x[(n, o + step, *spatial, lane + (distance - step * b))]
            value = select(here, x[(n, o, *spatial, lane + distance)], select(exists, across, 0))
            if a.shape[1] % b and distance > 0:
                value = select(o * b + lane < a.shape[1] - distance, value, 0)
            return value

        values = [neighbour(d - before) for d in range(size)]
        result = values[0] * values[0]
        for v in values[1:]:
            result = result + v * v
        return result

    names = axis_names(len(a.shape))
    return compute(x.shape, named(total, [names[0], "c_o", *names[2:], "c_i"]), "lrn_sum", tag="lrn")


def batch_norm(
    x: OperandLike,
    scale: OperandLike,
    bias: OperandLike,
    mean: OperandLike,
    var: OperandLike,
    *,
    epsilon: float,
    block: int | None = None,
) -> Compute:
    """``(x - mean) / sqrt(var + epsilon) * scale + bias``; the statistics broadcast against ``x``."""
    return elementwise(
        lambda v, s, b, m, q: (v - m) * (s / call("sqrt", q + epsilon)) + b,
        [x, scale, bias, mean, var],
        name="batch_norm",
        block=block,
    )


def mean_and_variance(x: OperandLike, axes: Sequence[int]) -> tuple[Operand, Operand]:
    """Mean and (biased) variance over ``axes``, with those dimensions kept; the variance from squared deviations."""
    a = operand(x)
    count = float(math.prod(a.shape[d] for d in axes))
    total = reduce_over(a, axes, reduce_sum, name="sum")
    mean = _map(total, lambda v: v / count, "mean")
    squares = reduce_over(a, axes, reduce_sum, lambda v, m: (v - m) * (v - m), extra=[mean], name="squares")
    return mean, _map(squares, lambda v: v / count, "variance")


def layer_norm(
    x: OperandLike,
    axes: Sequence[int],
    scale: OperandLike | None,
    bias: OperandLike | None,
    *,
    epsilon: float,
    block: int | None = None,
) -> Compute:
    """Bring ``x`` to mean 0 and variance 1 over ``axes``, then ``* scale + bias`` (which broadcast against ``x``).

    With the spatial axes this is instance normalisation.
    """
    a = operand(x)
    mean, variance = mean_and_variance(a, axes)
    inverse = _map(variance, lambda v: 1.0 / call("sqrt", v + epsilon), "inverse_deviation")
    factors = [y for y in (scale, bias) if y is not None]

    def body(v: Expr, m: Expr, s: Expr, *rest: Expr) -> Expr:
        result = (v - m) * s
        given = iter(rest)
        result = result * next(given) if scale is not None else result
        return result + next(given) if bias is not None else result

    return elementwise(body, [a, mean, inverse, *factors], name="layer_norm", block=a.block if block is None else block)


def group_norm(
    x: OperandLike, groups: int, scale: OperandLike, bias: OperandLike, *, epsilon: float, block: int | None = None
) -> Compute:
    """Bring each group of channels to mean 0 and variance 1, then ``* scale + bias`` (which broadcast against
    ``x``)."""
    a = operand(x)
    size = a.shape[1] // groups
    # View as (N, groups, C / groups, *spatial): the statistics are over all but the first two dimensions.
    grouped_shape = (a.shape[0], groups, size, *a.shape[2:])
    grouped = Operand(reshape(a, grouped_shape, name="groups"), grouped_shape)
    mean, variance = mean_and_variance(grouped, range(2, len(grouped_shape)))
    inverse = _map(variance, lambda v: 1.0 / call("sqrt", v + epsilon), "inverse_deviation")
    factors = [operand(scale), operand(bias)]

    def body(n: Expr, c: Expr, *spatial: Expr) -> Expr:
        at = (n, c // size, *(0,) * (len(grouped_shape) - 2))
        s, b = (f.broadcast_at((n, c, *spatial), a.shape) for f in factors)
        return (a.at(n, c, *spatial) - mean.at(*at)) * inverse.at(*at) * s + b

    return define(a.shape, body, block=a.block if block is None else block, name="group_norm")


def rms_norm(
    x: OperandLike, axes: Sequence[int], scale: OperandLike, *, epsilon: float, block: int | None = None
) -> Compute:
    """``x / sqrt(mean(x ** 2) + epsilon) * scale`` over ``axes``."""
    a = operand(x)
    count = float(math.prod(a.shape[d] for d in axes))
    squares = reduce_over(a, axes, reduce_sum, lambda v: v * v, name="squares")
    inverse = _map(squares, lambda v: 1.0 / call("sqrt", v / count + epsilon), "inverse_rms")
    block = a.block if block is None else block
    return elementwise(lambda v, s, w: v * s * w, [a, inverse, scale], name="rms_norm", block=block)


def mean_variance_normalize(
    x: OperandLike, axes: Sequence[int], *, epsilon: float, block: int | None = None
) -> Compute:
    """``(x - mean) / (deviation + epsilon)`` over ``axes``."""
    a = operand(x)
    mean, variance = mean_and_variance(a, axes)
    inverse = _map(variance, lambda v: 1.0 / (call("sqrt", v) + epsilon), "inverse_deviation")
    block = a.block if block is None else block
    return elementwise(lambda v, m, s: (v - m) * s, [a, mean, inverse], name="mean_variance", block=block)


def lp_normalize(x: OperandLike, axis: int, p: int, *, block: int | None = None) -> Compute:
    """``x`` divided by its 1- or 2-norm along ``axis``; 0 where that is 0."""
    a = operand(x)
    total = reduce_over(a, [axis], reduce_sum, lambda v: call("abs", v) if p == 1 else v * v, name="norm")
    norm = total if p == 1 else _map(total, lambda v: call("sqrt", v), "root")
    block = a.block if block is None else block
    return elementwise(lambda v, n: select(equal(n, 0), 0.0, v / n), [a, norm], name="lp_normalize", block=block)


# ------------------------------------------------------------------------------------------- parts


def _map(x: Operand, fn: Callable[[Expr], Expr], name: str) -> Operand:
    return Operand(define(x.shape, lambda *i: fn(x.at(*i)), block=x.block, name=name), x.shape, x.block)
