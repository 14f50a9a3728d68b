"""Print expressions and workloads as text, for people and as the canonical form that a log is keyed by.

``format_expr`` uses no more parentheses than Python's precedence needs, and prints each node in a way of its own, so
that two expressions print alike only if they are alike (up to the names given to variables and tensors).

The canonical text of a workload names tensors ``t0, t1, ...`` in order of dependency and axes ``i0, i1, ...`` (spatial)
and ``k0, k1, ...`` (reduced), so that it does not depend on a user's names. :func:`workload_key` hashes it; a change
to the text that would let an old key stand for something else needs a new version prefix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeAlias, Union

import numpy as np

from . import dtype as dt
from .expr import (
    Axis,
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
)
from .tensor import Attr, Compute, Placeholder, Source
from .workload import Frame, Workload

Names: TypeAlias = Mapping[Union[Var, Source], str]

KEY_VERSION = "v1"

# Binding strength, as in Python: a higher one binds tighter.
_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _POWER, _ATOM = range(1, 9)

_BINARY = {
    "or": ("or", _OR),
    "and": ("and", _AND),
    "add": ("+", _SUM),
    "sub": ("-", _SUM),
    "mul": ("*", _PRODUCT),
    "div": ("/", _PRODUCT),
    "floordiv": ("//", _PRODUCT),
    "floormod": ("%", _PRODUCT),
    "pow": ("**", _POWER),
}
_COMPARE_SIGNS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def format_expr(e: Expr, names: Names | None = None) -> str:
    """Return ``e`` as text; ``names`` replaces the names of variables and sources that it holds.

    Literals other than int64, bool and float32 carry their dtype (``1:uint8``, ``0.5:float64``); floats are
    printed so that they read back to the same value.
    """
    return _format(e, names or {})[0]


def format_workload(w: Workload) -> str:
    """Return the canonical text: shapes, dtypes, tags, attributes and bodies, but nobody's names."""
    numbers: dict[Source, str] = {}
    for tensor in (*w.inputs, *w.stages):
        numbers.setdefault(tensor, f"t{len(numbers)}")
    return _workload(w, numbers, canonical=True)


def format_workload_named(w: Workload) -> str:
    """Return the same text with the user's names, for people; names that occur twice get a number."""
    taken: dict[str, int] = {}
    names: dict[Source, str] = {}
    for tensor in (*w.inputs, *w.stages):
        names.setdefault(tensor, _unique(tensor.name, taken))
    return _workload(w, names, canonical=False)


def workload_key(w: Workload) -> str:
    """Return the versioned key of what ``w`` computes: ``v1-`` and 24 hexadecimal digits of a SHA-256."""
    return f"{KEY_VERSION}-{hashlib.sha256(w.text.encode()).hexdigest()[:24]}"


# ----------------------------------------------------------------------------------------- workloads


def _workload(w: Workload, names: Mapping[Source, str], *, canonical: bool) -> str:
    lines = [_placeholder(p, names) for p in w.inputs]
    for stage in w.stages:
        lines += _compute(stage, names, canonical=canonical)
    lines.append("return " + ", ".join(names[t] + _frame(w.frames.get(t)) for t in w.outputs))
    return "\n".join(lines) + "\n"


def _frame(frame: Frame | None) -> str:
    return "" if frame is None else f" in {list(frame.shape)} at {list(frame.begin)}"


def _placeholder(p: Placeholder, names: Mapping[Source, str]) -> str:
    return f"{names[p]} = placeholder({_type(p)}{', constant' if p.constant else ''})"


def _compute(c: Compute, names: Mapping[Source, str], *, canonical: bool) -> list[str]:
    known: dict[Var | Source, str] = dict(names.items())
    taken: dict[str, int] = {}
    for prefix, axes in (("i", c.axes), ("k", c.reduce_axes)):
        for d, axis in enumerate(axes):
            known[axis.var] = f"{prefix}{d}" if canonical else _unique(axis.name, taken)
    head = f"{names[c]} = compute({_type(c)}, [{', '.join(known[a.var] for a in c.axes)}]"
    if c.tag:
        head += f", tag={c.tag!r}"
    lines = [head + ")"]
    lines += [f"  {name!r} = {_attr(value)}" for name, value in sorted(c.attrs.items())]
    lines.append("  " + format_expr(c.body, known))
    return lines


def _type(t: Source) -> str:
    return f"{t.dtype}[{', '.join(map(str, t.shape))}]"


def _attr(value: Attr) -> str:
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, (tuple, list)):
        return "(" + "".join(_attr(v) + ", " for v in value).rstrip(" ") + ")"
    return repr(value)


def _unique(name: str, taken: dict[str, int]) -> str:
    count = taken.get(name, 0)
    taken[name] = count + 1
    return _unique(f"{name}_{count}", taken) if count else name


# --------------------------------------------------------------------------------------- expressions


def _format(e: Expr, names: Names) -> tuple[str, int]:
    """The text of ``e`` and how tightly its outermost operator binds."""
    match e:
        case Var():
            return names.get(e, e.name), _ATOM
        case Const():
            return _literal(e)
        case Binary() if e.op in ("min", "max"):
            return f"{e.op}({_format(e.a, names)[0]}, {_format(e.b, names)[0]})", _ATOM
        case Binary():
            sign, level = _BINARY[e.op]
            right_first = e.op == "pow"
            left = _within(e.a, names, level + right_first)
            right = _within(e.b, names, level + (not right_first))
            return f"{left} {sign} {right}", level
        case Compare():
            left, right = _within(e.a, names, _COMPARE + 1), _within(e.b, names, _COMPARE + 1)
            return f"{left} {_COMPARE_SIGNS[e.op]} {right}", _COMPARE
        case Not():
            return f"not {_within(e.a, names, _NOT)}", _NOT
        case Select():
            parts = ", ".join(_format(x, names)[0] for x in (e.condition, e.a, e.b))
            return f"select({parts})", _ATOM
        case Cast():
            return f"{e.dtype}({_format(e.a, names)[0]})", _ATOM
        case Call():
            return f"{e.fn}({', '.join(_format(a, names)[0] for a in e.args)})", _ATOM
        case Read():
            name = names.get(e.source, e.source.name)
            return f"{name}[{', '.join(_format(i, names)[0] for i in e.indices)}]", _ATOM
        case Reduce():
            return _reduce(e, names), _ATOM


def _within(e: Expr, names: Names, level: int) -> str:
    text, own = _format(e, names)
    return text if own >= level else f"({text})"


def _reduce(e: Reduce, names: Names) -> str:
    axes = ", ".join(_axis(a, names) for a in e.axes)
    where = "" if e.where is None else f", where={_format(e.where, names)[0]}"
    return f"reduce.{e.combiner}({_format(e.term, names)[0]}, [{axes}]{where})"


def _axis(a: Axis, names: Names) -> str:
    return f"{names.get(a.var, a.name)}:{a.extent}"


def _literal(c: Const) -> tuple[str, int]:
    if c.dtype == dt.BOOL:
        return ("true" if c.value else "false"), _ATOM
    text = _float(float(c.value), c.dtype) if dt.is_float(c.dtype) else str(int(c.value))
    suffix = "" if c.dtype in (dt.INDEX, "float32") else f":{c.dtype}"
    return text + suffix, _POWER if text.startswith("-") else _ATOM


def _float(value: float, dtype: str = "float64") -> str:
    """The shortest text that reads back to the same value of ``dtype``, the sign of a zero included."""
    return str(np.float32(value)) if dtype == "float32" else repr(value)
