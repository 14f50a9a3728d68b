"""Conditions: every comparison of int64 values in one form, and what follows from bounds.

A comparison becomes ``positive terms < negative terms + const`` or the same with ``>=``, ``==``, ``!=``, with no fewer
positive terms than negative ones (``<`` where there are as many), divided by the greatest common divisor of its
coefficients: ``4*i - 4 <= 7`` is ``i < 3``. Terms that cannot tip the balance go:
``o*4 + i < 12`` with ``0 <= i < 4`` is ``o < 3``.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import gcd
from typing import TYPE_CHECKING, Literal

from . import dtype as dt
from .affine import Terms, add, ordered, same, to_expr
from .expr import Binary, Compare, CompareOp, Const, Expr, Not, compare

if TYPE_CHECKING:
    from .simplifier import Simplifier

TRUE, FALSE = Const(True, dt.BOOL), Const(False, dt.BOOL)


def compare_ranges(s: Simplifier, e: Compare) -> Expr:
    """Decide a comparison of floats or narrow integers, whose operands are simplified, if their ranges allow it."""
    if not dt.is_integer(e.a.dtype):
        return e
    (al, ah), (bl, bh) = s.range_of(e.a), s.range_of(e.b)
    decided = _decided(e.op, al - bh, ah - bl)
    return decided if decided is not None else e


def compare_forms(s: Simplifier, e: Compare) -> Expr:
    """Decide or normalise a comparison of int64 values."""
    a, b = s.form(e.a), s.form(e.b)
    difference = s.recombined(add(a, b, -1))
    if s.data and (s.may_wrap(a) or s.may_wrap(b) or s.may_wrap(difference)):
        made = compare(e.op, to_expr(a), to_expr(b))
        return e if same(made, e) else made
    decided = _decided(e.op, *s.interval(difference))
    if decided is not None:
        return decided
    terms, limit = difference[0], -difference[1]
    if e.op in ("eq", "ne"):
        return _equality("eq" if e.op == "eq" else "ne", terms, limit, e)
    if e.op in ("le", "gt"):
        limit += 1
    return _inequality(s, e.op in ("lt", "le"), terms, limit, e)


def _decided(op: CompareOp, lo: float, hi: float) -> Const | None:
    """``d op 0`` for any ``d`` from ``lo`` to ``hi``."""
    match op:
        case "lt":
            return TRUE if hi < 0 else FALSE if lo >= 0 else None
        case "le":
            return TRUE if hi <= 0 else FALSE if lo > 0 else None
        case "gt":
            return TRUE if lo > 0 else FALSE if hi <= 0 else None
        case "ge":
            return TRUE if lo >= 0 else FALSE if hi < 0 else None
        case "eq":
            return TRUE if lo == hi == 0 else FALSE if hi < 0 or lo > 0 else None
        case "ne":
            return FALSE if lo == hi == 0 else TRUE if hi < 0 or lo > 0 else None


def _equality(op: Literal["eq", "ne"], terms: Terms, limit: int, e: Compare) -> Expr:
    common = gcd(*terms.values())
    if limit % common:
        return TRUE if op == "ne" else FALSE
    terms, limit = {a: n // common for a, n in terms.items()}, limit // common
    balance = _balance(terms)
    if balance < 0 or (balance == 0 and ordered((terms, 0))[0][1] < 0):
        terms, limit = {a: -n for a, n in terms.items()}, -limit
    return _built(op, terms, limit, e)


def _inequality(s: Simplifier, less: bool, terms: Terms, limit: int, e: Compare) -> Expr:
    """``sum(terms) < limit`` (less) or ``>= limit``."""
    while True:
        common = gcd(*terms.values())
        if common > 1:
            terms, limit = {a: n // common for a, n in terms.items()}, -(-limit // common)
        terms, limit, changed = _without_small_terms(s, terms, limit)
        if changed:
            continue
        balance = _balance(terms)
        if balance < 0 or (balance == 0 and not less):
            # sum < limit  <=>  -sum > -limit  <=>  -sum >= 1 - limit
            terms, limit, less = {a: -n for a, n in terms.items()}, 1 - limit, not less
        if len(terms) == 1:
            ((atom, n),) = terms.items()
            quotient = s.quotients.get(atom)
            if quotient is not None and n == 1:  # x // c < k  <=>  x < c*k
                (inner, const), c = quotient
                terms, limit = inner, limit * c - const
                continue
        break
    lo, hi = s.interval((terms, -limit))
    decided = _decided("lt" if less else "ge", lo, hi)
    return decided if decided is not None else _built("lt" if less else "ge", terms, limit, e)


def _without_small_terms(s: Simplifier, terms: Terms, limit: int) -> tuple[Terms, int, bool]:
    """Drop the terms that do not matter: ``g*x + r < limit`` with ``x < ceil((limit - r) / g)`` the same for all r."""
    if len(terms) < 2:
        return terms, limit, False
    order = ordered((terms, 0))
    common = 0
    for count, (_, n) in enumerate(order[:-1], start=1):
        common = gcd(common, n)
        if common == 1:
            break
        lo, hi = s.interval((dict(order[count:]), 0))
        bound = -((lo - limit) // common)
        if bound == -((hi - limit) // common):
            return {a: m // common for a, m in order[:count]}, int(bound), True
    return terms, limit, False


def _balance(terms: Terms) -> int:
    """How many more positive than negative terms there are; a condition is turned so that it is not negative."""
    return sum(1 if n > 0 else -1 for n in terms.values())


def _built(op: Literal["lt", "ge", "eq", "ne"], terms: Terms, limit: int, e: Compare) -> Expr:
    left = to_expr(({a: n for a, n in terms.items() if n > 0}, 0))
    right = to_expr(({a: -n for a, n in terms.items() if n < 0}, limit))
    made = compare(op, left, right)
    return e if same(made, e) else made


def simplify_not(s: Simplifier, e: Not) -> Expr:
    """``not`` of a comparison of integers is the opposite comparison; of floats it is not, because of NaN."""
    inner = e.a
    if isinstance(inner, Not):
        return inner.a
    if isinstance(inner, Compare) and dt.is_integer(inner.a.dtype):
        return s.simplify(Compare(_OPPOSITE[inner.op], inner.a, inner.b))
    return e


_OPPOSITE: dict[CompareOp, CompareOp] = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne", "ne": "eq"}


def simplify_junction(s: Simplifier, e: Binary) -> Expr:
    """``and`` and ``or``: each part once, only the deciding limit of each value; contradictions decide the whole."""
    both = e.op == "and"
    absorbing = FALSE if both else TRUE
    parts = _flatten(e, e.op)
    kept: dict[Hashable, Expr] = {}
    limits: dict[tuple[CompareOp, Hashable], tuple[Hashable, int]] = {}  # (op, terms) -> the part's key, its limit
    others: list[Expr] = []
    for part in parts:
        if isinstance(part, Const):
            if part.value == absorbing.value:
                return absorbing
            continue
        name = s.key(part)
        comparison = _terms_and_limit(s, part)
        if comparison is None:
            if name not in kept:
                kept[name] = part
                others.append(part)
            continue
        op, terms, limit = comparison
        known = limits.get((op, terms))
        if known is None:
            kept[name] = part
        elif (limit < known[1]) == ((op == "lt") == both) and limit != known[1]:
            kept = {name if k == known[0] else k: part if k == known[0] else v for k, v in kept.items()}
        else:
            continue
        limits[op, terms] = name, limit
    for (op, terms), (_, limit) in limits.items():
        opposite = limits.get(("ge", terms)) if op == "lt" else None
        if opposite is not None and (limit <= opposite[1] if both else limit >= opposite[1]):
            return absorbing
    if any(s.key(s.simplify(Not(part))) in kept for part in others):
        return absorbing
    if len(kept) == len(parts):
        return e
    result: Expr | None = None
    for part in kept.values():
        result = part if result is None else Binary(e.op, result, part, dt.BOOL)
    return result if result is not None else Const(both, dt.BOOL)


def _terms_and_limit(s: Simplifier, e: Expr) -> tuple[CompareOp, Hashable, int] | None:
    """Read a normalised ``terms < limit`` or ``terms >= limit`` of int64 values."""
    if not isinstance(e, Compare) or e.op not in ("lt", "ge") or e.a.dtype != dt.INDEX:
        return None
    difference = add(s.form(e.a), s.form(e.b), -1)
    if s.may_wrap(difference):
        return None
    return e.op, frozenset(difference[0].items()), -difference[1]


def _flatten(e: Expr, op: str) -> list[Expr]:
    if isinstance(e, Binary) and e.op == op and e.dtype == dt.BOOL:
        return _flatten(e.a, op) + _flatten(e.b, op)
    return [e]
