"""Affine forms: the shape in which the simplifier holds integer index arithmetic.

A form is ``(terms, const)`` and stands for ``sum(coefficient * atom) + const``; ``terms`` maps each atom to a
coefficient that is not 0. An atom is an expression that is not a sum: a variable, a floordiv or floormod by a constant,
or something that the form cannot look into (a read, a minimum, a product of two variables).

Forms are never changed once made, so that they may be shared. Atoms are compared by identity: who makes forms
(:mod:`.simplify`) keeps one object for each atom. Next: :mod:`.divmod`, :mod:`.conditions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from . import dtype as dt
from .expr import Binary, Compare, Const, Expr, Select, Var, wrap

Terms: TypeAlias = dict[Expr, int]
Form: TypeAlias = tuple[Terms, int]
Key: TypeAlias = tuple[frozenset[tuple[Expr, int]], int]

ZERO: Form = ({}, 0)


@dataclass(frozen=True, slots=True)
class Linear:
    """An integer expression as ``sum(coefficient * atom) + const``, largest coefficient first."""

    terms: tuple[tuple[Expr, int], ...]
    const: int

    def coefficient(self, var: Var) -> int:
        """How much the value grows with ``var`` outside of atoms; 0 where it does not occur."""
        return next((k for atom, k in self.terms if atom is var), 0)


def add(f: Form, g: Form, k: int = 1) -> Form:
    """``f + k * g``."""
    if not g[0]:
        return f[0], f[1] + k * g[1]
    terms = f[0].copy()
    for atom, coefficient in g[0].items():
        total = terms.get(atom, 0) + k * coefficient
        if total:
            terms[atom] = total
        else:
            terms.pop(atom, None)
    return terms, f[1] + k * g[1]


def scale(f: Form, k: int) -> Form:
    """``k * f``."""
    if k == 0:
        return ZERO
    return {atom: k * coefficient for atom, coefficient in f[0].items()}, k * f[1]


def key(f: Form) -> Key:
    """A hashable stand-in: equal for equal forms, whatever the order of their terms."""
    return frozenset(f[0].items()), f[1]


def ordered(f: Form) -> list[tuple[Expr, int]]:
    """The terms, largest coefficient first: the outermost loop's part leads."""
    terms = list(f[0].items())
    if len(terms) > 1:
        terms.sort(key=_magnitude, reverse=True)
    return terms


def _magnitude(term: tuple[Expr, int]) -> int:
    return abs(term[1])


def to_expr(f: Form) -> Expr:
    """Build ``a*4 + b - c + 1``: positive terms first, so that no negation is needed where one exists."""
    terms, const = f
    result: Expr | None = None
    if len(terms) == 1:
        ((atom, coefficient),) = terms.items()
        if coefficient == 1:
            return Binary("add" if const > 0 else "sub", atom, literal(abs(const)), dt.INDEX) if const else atom
    negative: list[tuple[Expr, int]] = []
    for atom, coefficient in ordered(f):
        if coefficient < 0:
            negative.append((atom, coefficient))
            continue
        term = atom if coefficient == 1 else Binary("mul", atom, literal(coefficient), dt.INDEX)
        result = term if result is None else Binary("add", result, term, dt.INDEX)
    if result is None and (const > 0 or not negative):
        result, const = literal(const), 0
    for atom, coefficient in negative:
        if result is None:
            minus_one = coefficient == -1
            result = (
                Binary("sub", literal(0), atom, dt.INDEX)
                if minus_one
                else Binary("mul", atom, literal(coefficient), dt.INDEX)
            )
            continue
        term = atom if coefficient == -1 else Binary("mul", atom, literal(-coefficient), dt.INDEX)
        result = Binary("sub", result, term, dt.INDEX)
    assert result is not None
    if const:
        result = Binary("add" if const > 0 else "sub", result, literal(abs(const)), dt.INDEX)
    return result


_LITERALS = {n: Const(n, dt.INDEX) for n in range(1025)}


def literal(n: int) -> Const:
    """An int64 constant; the common ones are shared."""
    found = _LITERALS.get(n)
    return found if found is not None else Const(wrap(n, dt.INDEX), dt.INDEX)


def same(a: Expr, b: Expr) -> bool:
    """Whether two expressions are built alike, node by node; cheap, since atoms are shared."""
    if a is b:
        return True
    if type(a) is not type(b) or a.dtype != b.dtype:
        return False
    if isinstance(a, Binary) and isinstance(b, Binary):
        return a.op == b.op and same(a.a, b.a) and same(a.b, b.b)
    if isinstance(a, Const) and isinstance(b, Const):
        return a.value == b.value
    if isinstance(a, Select) and isinstance(b, Select):
        return same(a.condition, b.condition) and same(a.a, b.a) and same(a.b, b.b)
    if isinstance(a, Compare) and isinstance(b, Compare):
        return a.op == b.op and same(a.a, b.a) and same(a.b, b.b)
    return False
