"""Convolution with few output channels as one whose channels are the taps of a row of the filter.

A vector of output channels is mostly empty where there are one or three of them. The taps of one row of the filter fill
it: a convolution with a filter one column wide computes, at each input column, what the column contributes to each
output channel through each tap; then every output is the sum of as many of its values as a row has taps (Vasudevan et
al., ASAP 2017, do so for all taps). The multiplications are the same, in vectors that are nearly full. The stages, for
output in blocks of channels (n, 1, h, w, c_i):

    spread    the filter, with the lanes of a block of channels as (tap, output channel)    (l, ic, kh, 1)
    taps      the convolution with it; columns on padding count    (n, l_o, h, w + pads, l_i)

and the convolution itself sums ``taps`` along the row. Lanes past the output channels are 0, as they are with weights
that were filled up with zeros.
"""

from __future__ import annotations

from typing import cast

from ...errors import ExpressionError
from ..expr import Expr, Read, Reduce, Var, all_of, const, select
from ..tensor import Compute, Tensor, compute
from .conv import conv as convolution


def applies(conv: Compute) -> bool:
    """Whether ``conv`` is a 2-D convolution without groups of so few channels that a block holds two taps of them."""
    attrs = conv.attrs
    if conv.tag != "conv2d" or len(conv.shape) != 5 or not isinstance(conv.body, Reduce) or 0 in conv.shape:
        return False
    outputs, kernel = cast(int, attrs["out_channels"]), cast(tuple[int, ...], attrs["kernel"])
    return attrs["groups"] == 1 and 2 * outputs <= conv.shape[4] and kernel[1] > 1


def blocks_of_taps(conv: Compute) -> int:
    """Blocks of channels that hold all taps of a row."""
    return -(-cast(tuple[int, ...], conv.attrs["kernel"])[1] // _taps_in_block(conv))


def row_taps(conv: Compute) -> Compute:
    """The same convolution over the stages that the module describes: a compute of the same shape.

    Raises ExpressionError where :func:`applies` does not hold.
    """
    if not applies(conv):
        raise ExpressionError(
            f"row_taps: {conv!r} is not a 2-D convolution without groups, with several taps in a row and with output "
            "channels that fill at most half of a block"
        )
    attrs, block = conv.attrs, conv.shape[4]
    data, weight = (r.source for r in conv.reads() if isinstance(r, Read))
    outputs, inputs = cast(int, attrs["out_channels"]), cast(int, attrs["in_channels"])
    pairs = (cast(tuple[int, int], attrs[name]) for name in ("kernel", "strides", "dilations"))
    (height, width), (stride_y, stride_x), (dilation_y, dilation_x) = pairs
    in_block = _taps_in_block(conv)

    def lane(channel: Var, ic: Var, row: Var, _: Var) -> Expr:
        within = channel % block
        tap = channel // block * in_block + within // outputs
        exists = all_of(within < in_block * outputs, tap < width)
        return select(exists, weight[within % outputs, ic, row, tap], const(0.0, weight.dtype))

    lanes = blocks_of_taps(conv) * block
    taps = convolution(
        cast(Tensor, data),
        compute((lanes, inputs, height, 1), lane, name="spread"),
        in_channels=inputs,
        out_channels=lanes,
        strides=(stride_y, 1),
        pads=cast(tuple[int, ...], attrs["pads"]),
        dilations=(dilation_y, 1),
        in_block=cast(int, attrs["in_block"]),
        out_block=block,
        name="taps",
    )

    def along_row(n: Var, _: Var, y: Var, x: Var, channel: Var) -> Expr:
        total: Expr | None = None
        for t in range(width):
            value = taps[n, t // in_block, y, x * stride_x + t * dilation_x, channel + t % in_block * outputs]
            total = value if total is None else total + value
        assert total is not None
        return select(channel < outputs, total, const(0.0, conv.dtype))

    return compute(conv.shape, along_row, name=conv.name, tag="row_taps")


def _taps_in_block(conv: Compute) -> int:
    return conv.shape[4] // cast(int, conv.attrs["out_channels"])
