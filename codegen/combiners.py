"""What the combiners of reductions are in the loop IR: their values of nothing, and their steps."""

from __future__ import annotations

from ..te import dtype as dt
from ..te.expr import Expr, binary

_IDENTITY = {"sum": 0, "prod": 1, "all": True, "any": False}


def identity(combiner: str, dtype: str) -> int | float | bool:
    """The value of an empty reduction."""
    if combiner in _IDENTITY:
        return _IDENTITY[combiner]
    if dt.is_float(dtype):
        return float("inf") if combiner == "min" else float("-inf")
    bits = dt.bits(dtype)
    if dtype in dt.SIGNED:
        return (1 << (bits - 1)) - 1 if combiner == "min" else -(1 << (bits - 1))
    return (1 << bits) - 1 if combiner == "min" else 0


_OPERATION = {"sum": "add", "prod": "mul", "min": "min", "max": "max", "all": "and", "any": "or"}


def combine(combiner: str, old: Expr, term: Expr) -> Expr:
    return binary(_OPERATION[combiner], old, term)  # type: ignore[arg-type]
