"""Inclusive intervals of integers; an end that is not limited is -inf or +inf."""

from __future__ import annotations

from typing import TypeAlias

from . import dtype as dt
from .expr import Binary

Interval: TypeAlias = tuple[float, float]
"""Ends are ints, -inf or +inf."""

INF = float("inf")
INT64: Interval = (-(2**63), 2**63 - 1)


def limits_of(dtype: str) -> Interval:
    """Every value of an integer dtype or bool; unlimited for floats."""
    if dtype == dt.BOOL:
        return 0, 1
    if not dt.is_integer(dtype):
        return -INF, INF
    width = dt.bits(dtype)
    return (-(1 << width - 1), (1 << width - 1) - 1) if dtype in dt.SIGNED else (0, (1 << width) - 1)


def arithmetic(e: Binary, a: Interval, b: Interval) -> Interval:
    """The range of ``e`` before it wraps, for operands within ``a`` and ``b``."""
    match e.op:
        case "add":
            return a[0] + b[0], a[1] + b[1]
        case "sub":
            return a[0] - b[1], a[1] - b[0]
        case "mul":
            return product(a, b)
        case "min":
            return min(a[0], b[0]), min(a[1], b[1])
        case "max":
            return max(a[0], b[0]), max(a[1], b[1])
        case "floormod" if b[0] > 0:
            return a if a[0] >= 0 and a[1] < b[0] else (0, b[1] - 1)
        case "floordiv" if b[0] > 0:
            return min(a[0] // b[0], a[0] // b[1]), max(a[1] // b[0], a[1] // b[1])
        case _:
            return limits_of(e.dtype)


def product(a: Interval, b: Interval) -> Interval:
    """The range of the product of two values; 0 times an unlimited end is 0."""
    corners = [x * y if x and y else 0 for x in a for y in b]
    return min(corners), max(corners)
