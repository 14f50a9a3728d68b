"""What is known at a point of the nest that is being lowered, and what guards say of a loop's range there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..schedule.axis import LoopAxis
from ..te import dtype as dt
from ..te.expr import Compare, Expr, Var, binary, const
from ..te.simplify import linear, simplify
from ..te.tensor import Source
from ..te.traversal import substitute
from .nodes import Buffer


@dataclass(frozen=True, slots=True)
class Scope:
    """What is known where code is being written.

    bounds   range (inclusive) of each variable that is bound here
    values   variables that stand for another expression here, a constant as a rule
    buffers  where each attached stage's values are, and the coordinate that lies first in it
    """

    bounds: dict[Var, tuple[int, int]] = field(default_factory=dict)
    values: dict[Var, Expr] = field(default_factory=dict)
    buffers: dict[Source, tuple[Buffer, tuple[Expr, ...]]] = field(default_factory=dict)
    _simplest: dict[Expr, Expr] = field(default_factory=dict, init=False, repr=False, compare=False)

    def ranged(self, var: Var, low: int, high: int) -> Scope:
        """Know that ``low <= var < high``; a range of one value makes the variable a constant."""
        if high - low == 1:
            return self.valued({var: const(low)})
        values = self.values
        if var in values:
            values = {v: x for v, x in values.items() if v is not var}
        return Scope({**self.bounds, var: (low, max(high - 1, low))}, values, self.buffers)

    def valued(self, values: Mapping[Var, Expr]) -> Scope:
        """Know that variables stand for other expressions."""
        return Scope(self.bounds, {**self.values, **values}, self.buffers)

    def holding(self, source: Source, buffer: Buffer, origin: tuple[Expr, ...]) -> Scope:
        """Know where an attached stage's values are."""
        return Scope(self.bounds, self.values, {**self.buffers, source: (buffer, origin)})

    def binds(self, var: Var) -> bool:
        return var in self.bounds or var in self.values

    def simplify(self, e: Expr) -> Expr:
        """Bring an expression into its simplest form here."""
        found = self._simplest.get(e)
        if found is None:
            found = self._simplest[e] = simplify(substitute(e, self.values), self.bounds)
        return found


def ranges(axis: LoopAxis) -> list[tuple[int, int]]:
    points = [0, *axis.cuts, axis.extent]
    return [(a, b) for a, b in zip(points, points[1:], strict=False)]


def narrowed(guard: Expr, var: Var, low: int, high: int, bounds: Mapping[Var, tuple[int, int]]) -> tuple[int, int]:
    """The part of ``low <= var < high`` outside of which ``guard`` holds for no values of its other variables.

    bounds: their ranges (inclusive). The whole range where the part is not found to be one.
    """
    if not isinstance(guard, Compare) or not dt.is_integer(guard.a.dtype):
        return low, high
    form = linear(binary("sub", guard.a, guard.b))
    if form is None or guard.op not in ("lt", "le", "gt", "ge"):
        return low, high
    sign = 1 if guard.op in ("lt", "le") else -1
    own, least = 0, sign * form.const + (guard.op in ("lt", "gt"))  # own * var + least <= 0, at best
    for term, factor in form.terms:
        if term is var:
            own = sign * factor
        elif isinstance(term, Var) and term in bounds:
            least += min(sign * factor * end for end in bounds[term])
        else:
            return low, high
    if own > 0:
        return low, min(high, -least // own + 1)
    return (max(low, -(-least // -own)) if own else low), high
