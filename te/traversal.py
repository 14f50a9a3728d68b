"""Walk expressions, and make them again with other parts. What comes out is folded as if it had been written so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from .expr import (
    Binary,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Not,
    Read,
    Reduce,
    Select,
    Var,
    cast,
    children,
    compare,
    fold,
    logical_not,
    select,
)


def rebuild(e: Expr, parts: Sequence[Expr]) -> Expr:
    """Make ``e`` again with other operands (as :func:`children` orders them), folding constants."""
    match e:
        case Var() | Const():
            return e
        case Binary():
            return fold(e.op, parts[0], parts[1])
        case Compare():
            return compare(e.op, parts[0], parts[1])
        case Not():
            return logical_not(parts[0])
        case Cast():
            return cast(parts[0], e.dtype)
        case Select():
            return select(parts[0], parts[1], parts[2])
        case Call():
            return Call(e.fn, tuple(parts), e.dtype)
        case Read():
            return Read(e.source, tuple(parts), e.dtype)
        case Reduce():
            return Reduce(e.combiner, parts[0], e.axes, parts[1] if len(parts) > 1 else None, e.dtype)


def rewrite(e: Expr, fn: Callable[[Expr], Expr | None], done: dict[Expr, Expr] | None = None) -> Expr:
    """Replace nodes top-down: where ``fn`` returns a node it stands instead, and is not entered.

    Returns the same object where nothing changed. A node that occurs several times is visited once, and stays one node,
    in all calls that are given the same ``done``.
    """
    return _rewritten(e, fn, {} if done is None else done)


def _rewritten(e: Expr, fn: Callable[[Expr], Expr | None], done: dict[Expr, Expr]) -> Expr:
    result = done.get(e)
    if result is not None:
        return result
    result = fn(e)
    if result is None:
        old = children(e)
        result = _with_operands(e, old, [_rewritten(c, fn, done) for c in old]) if old else e
    done[e] = result
    return result


def _with_operands(e: Expr, old: Sequence[Expr], new: Sequence[Expr]) -> Expr:
    """``e`` with ``new`` operands in place of the ``old`` ones; itself where they are the same."""
    for a, b in zip(old, new, strict=True):
        if a is not b:
            return rebuild(e, new)
    return e


def substitute(e: Expr, values: Mapping[Var, Expr]) -> Expr:
    """Replace variables by expressions."""
    return _substituted(e, values, {}) if values else e


def _substituted(e: Expr, values: Mapping[Var, Expr], done: dict[Expr, Expr]) -> Expr:
    """What :func:`rewrite` would do, without a call for each leaf."""
    if isinstance(e, Var):
        return values.get(e, e)
    if isinstance(e, Const):
        return e
    result = done.get(e)
    if result is None:
        if isinstance(e, Binary):
            a, b = _substituted(e.a, values, done), _substituted(e.b, values, done)
            result = e if a is e.a and b is e.b else fold(e.op, a, b)
        else:
            old = children(e)
            result = _with_operands(e, old, [_substituted(c, values, done) for c in old])
        done[e] = result
    return result


def walk(e: Expr) -> Iterator[Expr]:
    """Yield every node, parents before operands."""
    stack = [e]
    while stack:
        x = stack.pop()
        yield x
        stack.extend(reversed(children(x)))


def distinct(e: Expr) -> Iterator[Expr]:
    """Yield every node once, however often it occurs; parents before operands, in order of first appearance."""
    seen: set[Expr] = set()
    stack = [e]
    while stack:
        x = stack.pop()
        if x not in seen:
            seen.add(x)
            yield x
            stack.extend(reversed(children(x)))


def free_vars(e: Expr) -> set[Var]:
    """The variables that occur in ``e`` (bound reduction variables included)."""
    return {x for x in distinct(e) if isinstance(x, Var)}


def conjuncts(e: Expr | None) -> list[Expr]:
    """Split a condition at its ``and`` nodes; None gives an empty list."""
    if e is None:
        return []
    if isinstance(e, Binary) and e.op == "and":
        return conjuncts(e.a) + conjuncts(e.b)
    if isinstance(e, Const) and e.value is True:
        return []
    return [e]
