"""What part of a dimension an index runs over while some variables vary and the others stand still.

``compute_at`` uses it: with the consumer's inner loops as ``inner``, the index of a read of the producer covers the
interval ``min ... min + extent - 1``, whose start depends on the outer loops and whose extent is a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from ..errors import ExpressionError
from . import affine, divmod
from . import dtype as dt
from .affine import ZERO, Form
from .expr import Binary, Expr, Reduce, Select, Var, binary, free_vars, select
from .simplifier import INF, NO_BOUNDS, Bounds, Simplifier, simplifier

Span: TypeAlias = tuple[Form, int]
"""Start (free of inner variables) and the greatest distance from it: the values are start ... start + distance."""


def region(e: Expr, inner: Mapping[Var, tuple[int, int]], bounds: Bounds = NO_BOUNDS) -> tuple[Expr, int]:
    """Return ``(minimum, extent)`` with ``minimum <= e < minimum + extent`` for all values of ``inner``.

    ``minimum`` is simplified and free of the variables in ``inner`` (inclusive ranges, as in ``bounds``). It is
    attained, and the extent is the least, where ``e`` is a sum in which each inner variable occurs once; else they
    enclose what ``e`` may be. ``region((o*4 + i) // 2, {i: (0, 3)})`` is ``(o*2, 2)``.

    Raises ExpressionError where ``e`` is not int64, or where no constant extent is known (a read as an index).
    """
    if e.dtype != dt.INDEX:
        raise ExpressionError(f"region: the index {e} is {e.dtype}; an index must be int64")
    s = simplifier({**bounds, **inner})
    start, distance = _Regions(s, inner).of(s.form(e))
    return affine.to_expr(start), distance + 1


class _Regions:
    def __init__(self, s: Simplifier, inner: Mapping[Var, tuple[int, int]]) -> None:
        self.s = s
        self.inner = inner

    def of(self, f: Form) -> Span:
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
            first, length = self._atom(atom)
            start = affine.add(start, first, n)
            if n < 0:  # the greatest value of the atom gives the least of the sum
                start = affine.add(start, ({}, length), n)
            distance += abs(n) * length
        return (self.s.recombined(start) if varying else start), distance

    def _varies(self, e: Expr) -> bool:
        if isinstance(e, Var):
            return e in self.inner
        return not free_vars(e).isdisjoint(self.inner)

    def _atom(self, atom: Expr) -> Span:
        """The span of an atom in which an inner variable occurs."""
        span = self._structured(atom)
        lo, hi = self.s.ranges[atom]
        if span is None or (hi - lo <= span[1] and not (free_vars(atom) <= set(self.inner) and hi - lo == span[1])):
            # the whole range is as good, or all there is
            if lo == -INF or hi == INF or (atom in self.s.data and hi - lo >= 2**32):
                raise ExpressionError(
                    f"region: {atom} has no constant extent over {', '.join(v.name for v in self.inner)}; "
                    "pass bounds for all its variables, or take the whole dimension"
                )
            return ({}, int(lo)), int(hi - lo)
        return span

    def _structured(self, atom: Expr) -> Span | None:
        if isinstance(atom, (Var, Reduce)) or atom in self.s.data:
            return None
        if atom in self.s.quotients:
            return self._quotient(*self.s.quotients[atom])
        if atom in self.s.remainders:
            return self._remainder(*self.s.remainders[atom])
        if isinstance(atom, Binary) and atom.op in ("min", "max"):
            (a, da), (b, db) = self._try(atom.a), self._try(atom.b)
            if a is None or b is None:
                return None
            return self.s.form(binary(atom.op, affine.to_expr(a), affine.to_expr(b))), max(da, db)
        if isinstance(atom, Select) and not self._varies(atom.condition):
            (a, da), (b, db) = self._try(atom.a), self._try(atom.b)
            if a is None or b is None:
                return None
            return self.s.form(select(atom.condition, affine.to_expr(a), affine.to_expr(b))), max(da, db)
        return None

    def _try(self, e: Expr) -> tuple[Form | None, int]:
        try:
            return self.of(self.s.form(e))
        except ExpressionError:
            return None, 0

    def _quotient(self, x: Form, c: int) -> Span | None:
        """``(start + d) // c`` is at most ``(r + d) // c`` above ``start // c``, ``r`` the largest ``start % c``."""
        start, distance = self.of(x)
        _, most = self.s.interval(divmod.modulo(self.s, start, c))
        return divmod.divide(self.s, start, c), (int(most) + distance) // c

    def _remainder(self, x: Form, c: int) -> Span | None:
        """Within one period the remainder grows with its argument; otherwise it may be anything."""
        start, distance = self.of(x)
        offset = divmod.modulo(self.s, start, c)
        if self.s.interval(offset)[1] + distance < c:
            return offset, distance
        return ZERO, c - 1
