"""Conversions of the 16-bit floats by integer arithmetic, for targets that have no instruction for them."""

from __future__ import annotations

from collections.abc import Callable

from .math_text import Body


def _half_to_float(b: Body, x: str) -> str:
    raw = b.convert("zext", b.convert("bitcast", x, "half", "i16"), "i16", "i32")
    sign = b.int_op("shl", b.int_op("and", raw, b.i(0x8000)), b.i(16))
    rest = b.int_op("shl", b.int_op("and", raw, b.i(0x7FFF)), b.i(13))
    finite = b.bits(b.mul(b.from_bits(rest), b.f(2.0**112)))
    special = b.icmp("uge", rest, b.i(0x7C00 << 13))
    size = b.select(special, b.int_op("or", rest, b.i(0x7F800000)), finite, "i32")
    return b.from_bits(b.int_op("or", size, sign))


def _float_to_half(b: Body, x: str) -> str:
    """Round to nearest even: by integer arithmetic, or by adding 1/2 where the result is subnormal."""
    raw = b.bits(x)
    sign = b.int_op("and", b.int_op("lshr", raw, b.i(16)), b.i(0x8000))
    size = b.int_op("and", raw, b.i(0x7FFFFFFF))
    even = b.int_op("and", b.int_op("lshr", size, b.i(13)), b.i(1))
    rounded = b.int_op("add", b.int_op("add", size, b.i(0xFFF)), even)
    normal = b.int_op("sub", b.int_op("lshr", rounded, b.i(13)), b.i(112 << 10))
    subnormal = b.int_op("sub", b.bits(b.add(b.from_bits(size), b.f(0.5))), b.i(0x3F000000))
    result = b.select(b.icmp("ult", size, b.i(0x38800000)), subnormal, normal, "i32")
    result = b.select(b.icmp("uge", size, b.i(0x477FF000)), b.i(0x7C00), result, "i32")
    result = b.select(b.icmp("ugt", size, b.i(0x7F800000)), b.i(0x7E00), result, "i32")
    narrow = b.convert("trunc", b.int_op("or", result, sign), "i32", "i16")
    return b.convert("bitcast", narrow, "i16", "half")


def _float_to_bfloat(b: Body, x: str) -> str:
    raw = b.bits(x)
    even = b.int_op("and", b.int_op("lshr", raw, b.i(16)), b.i(1))
    rounded = b.int_op("add", b.int_op("add", raw, b.i(0x7FFF)), even)
    quiet = b.int_op("or", raw, b.i(0x400000))
    chosen = b.select(b.fcmp("uno", x, x), quiet, rounded, "i32")
    return b.convert("trunc", b.int_op("lshr", chosen, b.i(16)), "i32", "i16")


def _round_to_odd(b: Body, x: str) -> str:
    """A double as float32 such that rounding the result again, to 16 bits, rounds correctly."""
    near = b.round(x)
    raw, back = b.bits(near), b.extend(near)
    inexact = b.flag("and", b.fcmp("one", back, x, "double"), b.icmp("eq", b.int_op("and", raw, b.i(1)), b.i(0)))
    short = b.fcmp("olt", b.dabs(back), b.dabs(x), "double")
    step = b.select(short, b.i(1), b.i(-1), "i32")
    return b.from_bits(b.select(inexact, b.int_op("add", raw, step), raw, "i32"))


BIT_FUNCTIONS: dict[str, Callable[[Body, str], str]] = {
    "half_to_float": _half_to_float,
    "float_to_half": _float_to_half,
    "float_to_bfloat": _float_to_bfloat,
    "round_to_odd": _round_to_odd,
}
SOURCES = {
    "half_to_float": "half",
    "float_to_half": "float",
    "float_to_bfloat": "float",
    "round_to_odd": "double",
}
"""The type of the argument, where it is not that of the result."""
