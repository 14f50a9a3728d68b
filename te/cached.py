"""What schedules ask of expressions again and again; the answers are kept, since expressions never change.

Keys are the objects themselves: schedules of one workload share their expressions, and the variables of their loops.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from .expr import Const, Expr, Var
from .region import region_under
from .simplifier import Simplifier
from .tensor import Source, reads_of
from .traversal import distinct, substitute

Interval: TypeAlias = tuple[Expr, int]
"""The first value of an index and how many values there are from there on."""

Limits: TypeAlias = tuple[tuple[Var, tuple[int, int] | None, bool], ...]
"""Variables with their ranges, None where nothing is known of one, and whether it varies."""


@lru_cache(maxsize=8192)
def variables_of(*es: Expr) -> tuple[Var, ...]:
    """The variables that occur in expressions, each once, in order of appearance."""
    return tuple(dict.fromkeys(x for e in es for x in distinct(e) if isinstance(x, Var)))


@lru_cache(maxsize=8192)
def with_values(e: Expr, values: tuple[Expr, ...]) -> Expr:
    """Replace the variables of ``e``, in the order of :func:`variables_of`."""
    return substitute(e, dict(zip(variables_of(e), values, strict=True)))


@lru_cache(maxsize=4096)
def indices_of(body: Expr, source: Source) -> tuple[tuple[Expr, ...], ...]:
    """What a body's reads of a tensor index each of its dimensions with, in order of appearance."""
    return tuple(zip(*(r.indices for r in reads_of(body) if r.source is source), strict=True))


@lru_cache(maxsize=16384)
def box_of(indices: tuple[Expr, ...], values: tuple[Expr, ...], limits: Limits, size: int) -> Interval:
    """The first value and the number of values that indices of one dimension of ``size`` have together.

    values: of their variables, in the order of :func:`variables_of`; limits: of the variables of these and no others,
    so that other loops do not matter. The simplifier is new: what comes out never depends on what came before.
    """
    known = dict(zip(variables_of(*indices), values, strict=True))
    bounds = {v: ends for v, ends, _ in limits if ends is not None}
    inner = {v: ends for v, ends, varies in limits if ends is not None and varies}
    s = Simplifier(bounds)
    found: dict[Expr, Interval] = {}
    box: Interval | None = None
    for i in indices:
        if i not in found:
            inside = isinstance(i, Const) and 0 <= i.value < size
            e = i if inside else s.simplify(substitute(i, known))
            found[i] = (i, 1) if inside else region_under(s, e, inner, (0, size - 1))
        box = found[i] if box is None else joined(box, found[i], s, size)
    assert box is not None
    return box


def joined(a: Interval, b: Interval, s: Simplifier, size: int) -> Interval:
    """The smallest interval that holds two, where their first values differ by a constant; else the whole dimension."""
    (a_min, a_extent), (b_min, b_extent) = a, b
    shift = Const(0, "int64") if a_min is b_min else s.simplify(b_min - a_min)
    if not isinstance(shift, Const):
        return Const(0, "int64"), size
    steps = int(shift.value)
    return a_min if steps >= 0 else b_min, max(a_extent, steps + b_extent) - min(0, steps)
