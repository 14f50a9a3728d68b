"""Transposed convolution, written as a gather: each output sums the inputs whose window covers it.

Of the taps, those count at which the output's position is a multiple of the stride; that is part of the reduction's
domain, as padding is. Tag ``conv_transpose``; attrs as for :mod:`.conv`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ExpressionError
from ..expr import Expr, equal
from ..tensor import Compute, reduce_axis
from ..tensor import sum as reduce_sum
from .operand import OperandLike, ReducedChannels, conjunction, define, operand, reduce_channels
from .window import window


def conv_transpose(
    data: OperandLike,
    weight: OperandLike,
    *,
    outputs: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
    block: int = 0,
) -> Compute:
    """Convolve with the transposed operator: the gradient of a convolution with respect to its data.

    data     (N, C, *spatial), any layout
    weight   (C, O / groups, *kernel)
    outputs  spatial sizes of the result
    pads     what is cut from the result: all begins, then all ends (only the begins matter here)

    Errors: ExpressionError when channels and groups do not fit.
    """
    x, w = operand(data), operand(weight)
    channels, per_group = x.shape[1], w.shape[1]
    if w.shape[0] != channels or channels % groups:
        raise ExpressionError(
            f"conv_transpose: weight {w.shape} must begin with the {channels} input channels, "
            f"which groups {groups} must divide"
        )
    # The window slides over the result: its "inputs" are the result's sizes.
    over = window(outputs, w.shape[2:], strides, pads, dilations, outputs=x.shape[2:])
    shape = (x.shape[0], per_group * groups, *outputs)
    attrs = {**over.attrs(), "groups": groups, "in_channels": channels, "out_channels": shape[1]}

    def body(n: Expr, o: Expr, *position: Expr) -> Expr:
        taps = over.axes()
        reduced = _channels(channels, groups, o // per_group) if groups > 1 else reduce_channels(x, "ic")
        column = o % per_group if groups > 1 else o
        where: list[Expr | None] = [reduced.where]
        source: list[Expr] = []
        for d, tap in enumerate(taps):
            stride, size = over.strides[d], x.shape[2 + d]
            offset = position[d] + over.before[d] - tap.var * over.dilations[d]
            if stride > 1:
                where.append(equal(offset % stride, 0))
            where += [offset >= 0, offset < size * stride]
            source.append(offset // stride)
        term = x.at(n, reduced.index, *source) * w.at(reduced.index, column, *(t.var for t in taps))
        return reduce_sum(term, (*reduced.axes, *taps), where=conjunction(where))

    return define(shape, body, block=block, name="conv_transpose", tag="conv_transpose", attrs=attrs)


def _channels(channels: int, groups: int, group: Expr) -> ReducedChannels:
    """The input channels of one group."""
    size = channels // groups
    k = reduce_axis(size, "ic")
    return ReducedChannels((k,), group * size + k.var, None)
