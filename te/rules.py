"""Exact identities for everything that is not index arithmetic: floats, narrow integers, selects, conversions.

Each rule is data: where an expression looks like ``lhs``, and ``when`` holds, ``rhs`` stands for it. ``x`` and ``y``
match any expression of the dtype, ``c`` any condition; a variable that occurs twice must match the same value twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from . import dtype as dt
from .expr import Binary, BinaryOp, Call, Cast, Const, Expr, Not, Select, Var, children, logical_not
from .interval import limits_of

if TYPE_CHECKING:
    from .simplifier import Simplifier

Kind = Literal["float", "integer", "bool", "any"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Replace ``lhs`` by ``rhs`` for operands of the given kind."""

    lhs: Expr
    rhs: Expr
    kind: Kind


_ANY = "any"
"""The dtype of pattern variables and constants: it matches all."""

X, Y, C = Var("x", _ANY), Var("y", _ANY), Var("c", dt.BOOL)


def _number(value: float) -> Const:
    return Const(value, _ANY)


def _op(op: BinaryOp, a: Expr, b: Expr) -> Expr:
    return Binary(op, a, b, _ANY)


def _select(c: Expr, a: Expr, b: Expr) -> Expr:
    return Select(c, a, b, _ANY)


RULES: tuple[Rule, ...] = (
    # x + 0.0 is not x: -0.0 + 0.0 == +0.0. But adding -0.0 and subtracting +0.0 change nothing.
    Rule(_op("add", X, _number(-0.0)), X, "float"),
    Rule(_op("add", _number(-0.0), X), X, "float"),
    Rule(_op("sub", X, _number(0.0)), X, "float"),
    Rule(_op("mul", X, _number(1.0)), X, "float"),
    Rule(_op("mul", _number(1.0), X), X, "float"),
    Rule(_op("div", X, _number(1.0)), X, "float"),
    Rule(_op("pow", X, _number(1.0)), X, "float"),
    Rule(_op("min", X, X), X, "any"),
    Rule(_op("max", X, X), X, "any"),
    Rule(_op("sub", X, X), _number(0), "integer"),
    Rule(_op("min", _op("min", X, Y), Y), _op("min", X, Y), "integer"),
    Rule(_op("max", _op("max", X, Y), Y), _op("max", X, Y), "integer"),
    Rule(_select(C, X, X), X, "any"),
    Rule(_select(Not(C), X, Y), _select(C, Y, X), "any"),
    Rule(_select(C, Const(True, dt.BOOL), Const(False, dt.BOOL)), C, "bool"),
    Rule(_select(C, Const(False, dt.BOOL), Const(True, dt.BOOL)), Not(C), "bool"),
    Rule(_select(C, _select(C, X, Var("unused", _ANY)), Y), _select(C, X, Y), "any"),
    Rule(_select(C, X, _select(C, Var("unused", _ANY), Y)), _select(C, X, Y), "any"),
    Rule(Call("abs", (Call("abs", (X,), _ANY),), _ANY), Call("abs", (X,), _ANY), "any"),
)


def apply(s: Simplifier, e: Expr) -> Expr:
    """Apply the first rule that fits ``e``, whose operands are simplified; ``e`` itself where none does."""
    if isinstance(e, Cast):
        return _conversion(s, e)
    head = _head(e)
    if head not in _BY_HEAD:
        return e
    for rule in _rules_for(head, tuple(map(_head, children(e)))):
        if not _is_kind(e.dtype, rule.kind):
            continue
        found: dict[Expr, Expr] = {}
        if _matches(s, rule.lhs, e, found):
            return s.simplify(_instance(rule.rhs, found, e.dtype))
    return e


def _head(e: Expr) -> object:
    match e:
        case Binary():
            return e.op
        case Call():
            return e.fn
        case _:
            return type(e)


_BY_HEAD: dict[object, list[Rule]] = {}
for _rule in RULES:
    _BY_HEAD.setdefault(_head(_rule.lhs), []).append(_rule)


@lru_cache(maxsize=4096)
def _rules_for(head: object, operands: tuple[object, ...]) -> list[Rule]:
    """The rules that may fit an expression, by its head and its operands' heads: none, for most."""
    return [
        rule
        for rule in _BY_HEAD[head]
        if all(isinstance(p, Var) or _head(p) == x for p, x in zip(children(rule.lhs), operands, strict=True))
    ]


def _is_kind(dtype: str, kind: Kind) -> bool:
    match kind:
        case "float":
            return dt.is_float(dtype)
        case "integer":
            return dt.is_integer(dtype)
        case "bool":
            return dtype == dt.BOOL
        case "any":
            return True


def _matches(s: Simplifier, pattern: Expr, e: Expr, found: dict[Expr, Expr]) -> bool:
    if isinstance(pattern, Var):
        known = found.setdefault(pattern, e)
        return known is e or s.key(known) == s.key(e)
    if isinstance(pattern, Const):
        return isinstance(e, Const) and (e.value is pattern.value or repr(float(e.value)) == repr(float(pattern.value)))
    if _head(pattern) != _head(e):
        return False
    return all(_matches(s, p, x, found) for p, x in zip(children(pattern), children(e), strict=True))


def _instance(pattern: Expr, found: dict[Expr, Expr], dtype: str) -> Expr:
    """``pattern`` with what its variables matched, in the dtype of the expression that it replaces."""
    match pattern:
        case Var():
            return found[pattern]
        case Const():
            return Const(pattern.value, dtype)
        case Binary():
            return Binary(pattern.op, _instance(pattern.a, found, dtype), _instance(pattern.b, found, dtype), dtype)
        case Not():
            return logical_not(_instance(pattern.a, found, dtype))
        case Select():
            a, b = _instance(pattern.a, found, dtype), _instance(pattern.b, found, dtype)
            return Select(_instance(pattern.condition, found, dtype), a, b, dtype)
        case Call():
            return Call(pattern.fn, tuple(_instance(a, found, dtype) for a in pattern.args), dtype)
        case _:
            raise TypeError(f"no rule makes a {type(pattern).__name__}")


def _conversion(s: Simplifier, e: Cast) -> Expr:
    """A conversion there and back is none, if the way there keeps every value."""
    inner = e.a
    if isinstance(inner, Cast) and inner.a.dtype == e.dtype and _keeps_values(s, inner):
        return inner.a
    return e


def _keeps_values(s: Simplifier, e: Cast) -> bool:
    source, target = e.a.dtype, e.dtype
    if source == dt.BOOL:
        return True
    if dt.is_integer(source) and dt.is_integer(target):
        (lo, hi), limits = s.range_of(e.a), limits_of(target)
        return limits[0] <= lo and hi <= limits[1]
    if dt.is_float(source):
        return target == "float64" or (target == "float32" and dt.bits(source) == 16)
    if dt.is_integer(source) and dt.is_float(target):
        lo, hi = s.range_of(e.a)
        exact = 1 << _MANTISSA[target]
        return -exact <= lo and hi <= exact
    return False


_MANTISSA = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
