"""What part of a dimension an index runs over while some variables vary and the others stand still.

``compute_at`` uses it: with the consumer's inner loops as ``inner``, the index of a read of the producer covers the
interval ``min ... min + extent - 1``, whose start depends on the outer loops and whose extent is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from ..errors import ExpressionError
from . import affine, divmod
from . import dtype as dt
from .affine import ZERO, Form
from .expr import Binary, Expr, Reduce, Select, Var, binary, select
from .interval import INF, INT64
from .simplifier import NO_BOUNDS, Bounds, Simplifier, simplifier
from .traversal import free_vars

Span: TypeAlias = tuple[Form, int]
"""Start (free of inner variables) and the greatest distance from it: the values are start ... start + distance."""


def region(
    e: Expr,
    inner: Mapping[Var, tuple[int, int]],
    bounds: Bounds = NO_BOUNDS,
    within: tuple[int, int] | None = None,
) -> tuple[Expr, int]:
    """Return ``(minimum, extent)`` with ``minimum <= e < minimum + extent`` for all values of ``inner``.

    ``minimum`` is simplified and free of the variables in ``inner`` (inclusive ranges, as in ``bounds``). It is
    attained, and the extent is the least, where ``e`` is a sum in which each inner variable occurs once; else they
    enclose what ``e`` may be. ``region((o*4 + i) // 2, {i: (0, 3)})`` is ``(o*2, 2)``.

    ``within`` is a range that ``e`` is known to stay in, such as the whole dimension that it indexes; it is the answer
    where nothing better is known (the index is itself read from memory). Without it that case raises ExpressionError,
    as does an ``e`` that is not int64.
    """
    if e.dtype != dt.INDEX:
        raise ExpressionError(f"region: the index {e} is {e.dtype}; an index must be int64")
    return region_under(simplifier({**bounds, **inner}), e, inner, within)


def region_under(
    s: Simplifier, e: Expr, inner: Mapping[Var, tuple[int, int]], within: tuple[int, int] | None
) -> tuple[Expr, int]:
    """The same under a simplifier's bounds, which hold those in ``inner``."""
    found = _Regions(s, inner).of(s.form(e))
    if found is None or (within is not None and found[1] > within[1] - within[0]):
        if within is None:
            raise ExpressionError(
                f"region: {e} has no constant extent over {', '.join(v.name for v in inner)}; "
                "pass bounds for all of its variables, or within="
            )
        return affine.literal(within[0]), within[1] - within[0] + 1
    return affine.to_expr(found[0]), found[1] + 1


class _Regions:
    """Every method returns None where there is no constant extent."""

    def __init__(self, s: Simplifier, inner: Mapping[Var, tuple[int, int]]) -> None:
        self.s = s
        self.inner = inner

    def of(self, f: Form) -> Span | None:
        if self.s.may_wrap(f):
            return None if any(self._varies(atom) for atom in f[0]) else (f, 0)
        fixed: dict[Expr, int] = {}
        varying: list[tuple[Expr, int]] = []
        for atom, n in f[0].items():
            if self._varies(atom):
                varying.append((atom, n))
            else:
                fixed[atom] = n
        start: Form = fixed, f[1]
        distance = 0
        for atom, n in varying:
            span = self._atom(atom)
            if span is None:
                return None
            first, length = span
            start = affine.add(start, first, n)
            if n < 0:  # the greatest value of the atom gives the least of the sum
                start = affine.add(start, ({}, length), n)
            distance += abs(n) * length
        return (self.s.recombined(start) if varying else start), distance

    def _varies(self, e: Expr) -> bool:
        return e in self.inner if isinstance(e, Var) else not free_vars(e).isdisjoint(self.inner)

    def _atom(self, atom: Expr) -> Span | None:
        """The span of an atom in which an inner variable occurs."""
        span = self._structured(atom)
        lo, hi = self.s.ranges[atom]
        if span is not None and span[1] < hi - lo:
            return span
        unlimited = lo == -INF or hi == INF or (atom in self.s.data and (lo, hi) == INT64)
        return span if unlimited else (({}, int(lo)), int(hi - lo))

    def _structured(self, atom: Expr) -> Span | None:
        if isinstance(atom, (Var, Reduce)) or atom in self.s.data:
            return None
        if atom in self.s.quotients:
            return self._quotient(*self.s.quotients[atom])
        if atom in self.s.remainders:
            return self._remainder(*self.s.remainders[atom])
        if isinstance(atom, Binary) and atom.op in ("min", "max"):
            op = atom.op
            return self._either(atom.a, atom.b, lambda a, b: binary(op, a, b))
        if isinstance(atom, Select) and not self._varies(atom.condition):
            condition = atom.condition
            return self._either(atom.a, atom.b, lambda a, b: select(condition, a, b))
        return None

    def _either(self, a: Expr, b: Expr, joined: Callable[[Expr, Expr], Expr]) -> Span | None:
        """The span of a value that is that of ``a`` or ``b``: starts joined likewise, and the greater distance."""
        x, y = self.of(self.s.form(a)), self.of(self.s.form(b))
        if x is None or y is None:
            return None
        return self.s.form(joined(affine.to_expr(x[0]), affine.to_expr(y[0]))), max(x[1], y[1])

    def _quotient(self, x: Form, c: int) -> Span | None:
        """``(start + d) // c`` is at most ``(r + d) // c`` above ``start // c``, ``r`` the largest ``start % c``."""
        span = self.of(x)
        if span is None:
            return None
        start, distance = span
        _, most = self.s.interval(divmod.modulo(self.s, start, c))
        return divmod.divide(self.s, start, c), (int(most) + distance) // c

    def _remainder(self, x: Form, c: int) -> Span | None:
        """Within one period the remainder grows with its argument; otherwise it may be anything."""
        span = self.of(x)
        if span is not None:
            offset = divmod.modulo(self.s, span[0], c)
            if self.s.interval(offset)[1] + span[1] < c:
                return offset, span[1]
        return ZERO, c - 1
