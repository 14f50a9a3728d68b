"""1x1 convolution over an image's pixels in one dimension, as tensor expressions.

Without padding and strides, neither knows of rows. The stage numbers the pixels row by row,

    pixels    (n, c_o, 1, h * w, c_i)

and the convolution itself reads it. In memory that is the image as it is. Data that are computed are numbered the same
way, by a stage ``input`` between them and ``pixels``, so that any range of pixels of them can be computed at a time; so
are others if a copy of them is asked for, which then holds only the pixels that a stride leaves.
"""

from __future__ import annotations

from typing import cast

from ...errors import ExpressionError
from ..expr import Expr, Read, Reduce, Var, const
from ..tensor import Compute, Source, compute, reduce_axis
from ..tensor import sum as reduce_sum
from ..traversal import rewrite, substitute


def applies(conv: Compute, copy: int = 0) -> bool:
    """Whether ``conv`` is a 1x1 convolution without padding, with output (n, c_o, h, w, c_i): of stride 1, or its data
    are copied."""
    attrs = conv.attrs
    return (
        conv.tag == "conv2d"
        and len(conv.shape) == 5
        and isinstance(conv.body, Reduce)
        and 0 not in conv.shape
        and attrs.get("kernel") == (1, 1)
        and (copy > 0 or attrs.get("strides") == (1, 1))
        and attrs.get("pads") == (0, 0, 0, 0)
    )


def flat(conv: Compute, copy: int = 0) -> Compute:
    """The same convolution over pixels in one dimension: a compute of the same shape, over the stages described above.

    copy: 1 for a stage ``input`` in any case, which leaves out what a stride does.

    Raises ExpressionError where :func:`applies` does not hold.
    """
    if not applies(conv, copy):
        raise ExpressionError(
            f"flat: {conv!r} is not a 1x1 convolution of stride 1 without padding over blocked channels; "
            "of another stride only with copy=1"
        )
    assert isinstance(conv.body, Reduce)
    body = conv.body
    n, channels, height, width, lanes = conv.shape
    reduced = {a.var: reduce_axis(a.extent, a.name) for a in conv.reduce_axes}
    data = conv.inputs()[0]
    numbered = _numbered(data, conv) if copy or isinstance(data, Compute) else None

    def redirected(e: Expr, pixel: Var) -> Expr | None:
        if numbered is None or not isinstance(e, Read) or e.source is not data:
            return None
        b, c, _, _, lane = e.indices
        return Read(numbered, (b, c, const(0, "int64"), pixel, lane), e.dtype)

    def sum_at(b: Var, c: Var, row: Var, pixel: Var, lane: Var) -> Reduce:
        place: dict[Var, Expr] = dict(
            zip((a.var for a in conv.axes), (b, c, pixel // width, pixel % width, lane), strict=True)
        )
        place |= {old: new.var for old, new in reduced.items()}
        where = None if body.where is None else substitute(body.where, place)
        term = rewrite(substitute(body.term, place), lambda e: redirected(e, pixel))
        return reduce_sum(term, tuple(reduced.values()), where=where)

    pixels = compute((n, channels, 1, height * width, lanes), sum_at, name="pixels", tag="flat_conv2d")
    return compute(
        conv.shape,
        lambda b, c, y, x, lane: pixels[b, c, 0, y * width + x, lane],
        name=conv.name,
        tag="flat",
    )


def _numbered(data: Source, conv: Compute) -> Compute:
    """The pixels of an image that ``conv`` reads, in one dimension."""
    n, channels = data.shape[:2]
    height, width = conv.shape[2:4]
    stride_y, stride_x = cast(tuple[int, int], conv.attrs["strides"])
    return compute(
        (n, channels, 1, height * width, data.shape[4]),
        lambda b, c, row, pixel, lane: data[b, c, pixel // width * stride_y, pixel % width * stride_x, lane],
        name="input",
    )
