"""Conversion between floats and integers with a scale and a zero point, per tensor, per channel or per block. Tag
``injective``."""

from __future__ import annotations

from ...errors import ExpressionError
from .. import dtype as dt
from ..expr import Expr, call, cast, maximum, minimum
from ..tensor import Compute
from .operand import Operand, OperandLike, define, operand


def quantize(
    x: OperandLike,
    scale: OperandLike,
    zero: OperandLike | None,
    dtype: str,
    *,
    axis: int = 1,
    group: int = 0,
    block: int = 0,
) -> Compute:
    """``saturate(round(x / scale) + zero)`` as ``dtype``; halves are rounded to even.

    scale, zero  one element, or one for each position along ``axis``, or one for each ``group`` of positions

    Errors: ExpressionError when ``dtype`` is not an integer type.
    """
    a = operand(x)
    if not dt.is_integer(dtype):
        raise ExpressionError(f"quantize: dtype is {dtype}, but must be an integer type")
    width = dt.bits(dtype)
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if dtype in dt.SIGNED else (0, (1 << width) - 1)

    def body(*i: Expr) -> Expr:
        value = call("round", a.at(*i) / cast(_parameter(operand(scale), i, axis, group), a.dtype))
        if zero is not None:
            value = value + cast(_parameter(operand(zero), i, axis, group), a.dtype)
        # Limited as a float: out of range, the conversion is undefined.
        return cast(minimum(maximum(value, float(low)), float(high)), dtype)

    return define(a.shape, body, block=block, name="quantize")


def dequantize(
    x: OperandLike,
    scale: OperandLike,
    zero: OperandLike | None,
    dtype: str,
    *,
    axis: int = 1,
    group: int = 0,
    block: int = 0,
) -> Compute:
    """``(x - zero) * scale`` as the float type ``dtype``; scale and zero as for :func:`quantize`."""
    a = operand(x)

    def body(*i: Expr) -> Expr:
        value = cast(a.at(*i), "float32")
        if zero is not None:
            value = value - cast(_parameter(operand(zero), i, axis, group), "float32")
        return cast(value * cast(_parameter(operand(scale), i, axis, group), "float32"), dtype)

    return define(a.shape, body, block=block, name="dequantize")


def _parameter(p: Operand, indices: tuple[Expr, ...], axis: int, group: int) -> Expr:
    """The scale or zero point of an element."""
    if all(n == 1 for n in p.shape) and not group:
        return p.at(*(0,) * p.rank)
    if group:
        return p.at(*(i // group if d == axis else i for d, i in enumerate(indices)))
    return p.at(indices[axis])
