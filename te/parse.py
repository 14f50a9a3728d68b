"""Read a workload back from its canonical text, which is what a log keeps of it.

Comes in: the text that :func:`.printer.format_workload` made. Goes out: a :class:`.workload.Workload` with the names of
that text (``t0``, ``i0``, ``k0``). The text may come from anybody: it is parsed, never evaluated, and what was read is
printed again and compared, so that a workload that comes out has the key of the text that went in.

Expressions are printed as Python reads them, but for three spellings, which are rewritten before Python's own parser
gets them: a literal with its dtype (``3:int32``), the axes of a reduction (``[k0:64]``), a read of a scalar (``t0[]``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

from ..errors import ExpressionError
from . import dtype as dt
from .expr import (
    INTRINSICS,
    Axis,
    Cast,
    Const,
    Expr,
    Reduce,
    Var,
    binary,
    call,
    cast,
    compare,
    const,
    logical_not,
    select,
)
from .printer import format_workload
from .tensor import Attr, Compute, Placeholder, Source, placeholder
from .tensor import all as all_
from .tensor import any as any_
from .tensor import max as max_
from .tensor import min as min_
from .tensor import prod as prod_
from .tensor import sum as sum_
from .workload import Workload, workload

MOST_CHARACTERS = 1 << 20

_DTYPES = "|".join((*dt.FLOATS, *dt.SIGNED, *dt.UNSIGNED))
_LITERAL = re.compile(rf":({_DTYPES})\b")
_AXES = re.compile(r"(?<=, )\[(?=\w+:)")
_NO_INDEX = re.compile(r"(?<=\w)\[\]")
_TYPE = rf"({_DTYPES}|bool)\[([\d, ]*)\]"
_PLACEHOLDER = re.compile(rf"(t\d+) = placeholder\({_TYPE}(, constant)?\)")
_COMPUTE = re.compile(rf"(t\d+) = compute\({_TYPE}, \[([\w, ]*)\](?:, tag=(.+))?\)")
_ATTR = re.compile(r"  ('[^']*'|\"[^\"]*\") = (.+)")

_BINARY: dict[type[ast.operator], Any] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.Mod: "floormod",
    ast.Pow: "pow",
}
_COMPARE: dict[type[ast.cmpop], Any] = {
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}
_REDUCE: dict[str, Callable[..., Reduce]] = {
    "sum": sum_, "prod": prod_, "min": min_, "max": max_, "all": all_, "any": any_,
}  # fmt: skip


def parse_workload(text: str) -> Workload:
    """Return the workload whose canonical text is ``text``.

    Raises ExpressionError where this is no such text, or one that another version printed differently.
    """
    if len(text) > MOST_CHARACTERS:
        raise ExpressionError(f"a workload's text has {len(text)} characters; at most {MOST_CHARACTERS} are read")
    try:
        found = _read(text)
        exact = format_workload(found) == text
    except (SyntaxError, ValueError, KeyError, OverflowError, MemoryError, RecursionError) as e:
        raise ExpressionError(f"this is not the text of a workload: {e!r:.200}") from None
    if not exact:
        raise ExpressionError("the text of this workload does not read back to the same text; another version wrote it")
    return found


def _read(text: str) -> Workload:
    sources: dict[str, Source] = {}
    inputs: list[Placeholder] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if match := _PLACEHOLDER.fullmatch(line):
            name, dtype, shape, constant = match.groups()
            p = placeholder(_ints(shape), dtype, name, constant=bool(constant))
            sources[name] = p
            inputs.append(p)
        elif match := _COMPUTE.fullmatch(line):
            attrs: dict[str, Attr] = {}
            while at < len(lines) and (attr := _ATTR.fullmatch(lines[at])):
                attrs[ast.literal_eval(attr[1])] = ast.literal_eval(attr[2])
                at += 1
            if at == len(lines) or not lines[at].startswith("  "):
                raise ExpressionError(f"line {at}: a compute without a body")
            sources[match[1]] = _compute(match, attrs, lines[at].strip(), sources)
            at += 1
        elif line.startswith("return ") and at == len(lines):
            outputs = [sources[n] for n in line.removeprefix("return ").split(", ")]
            return workload([t for t in outputs if isinstance(t, Compute)], inputs)
        else:
            raise ExpressionError(f"line {at} of a workload's text cannot be read: {line:.80}")
    raise ExpressionError("the text of a workload ends without its outputs")


def _compute(head: re.Match[str], attrs: dict[str, Attr], body: str, sources: dict[str, Source]) -> Compute:
    name, dtype, shape, names, tag = head.groups()
    dims = _ints(shape)
    axes = tuple(Axis(Var(n), d, "spatial") for n, d in zip(names.split(", ") if names else [], dims, strict=True))
    reader = _Reader({a.name: a.var for a in axes}, sources)
    expr = reader.read(body)
    known = {a.var for a in axes} | ({a.var for a in expr.axes} if isinstance(expr, Reduce) else set())
    if expr.dtype != dtype or not known.issuperset(reader.variables.values()):
        raise ExpressionError(f"{name}: its body is not a {dtype} over its axes")
    return Compute(name, dims, dtype, axes, expr, ast.literal_eval(tag) if tag else "", attrs)


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(", ")) if text else ()


class _Reader:
    """Turns the syntax tree of one body into an expression."""

    def __init__(self, variables: dict[str, Var], sources: dict[str, Source]) -> None:
        self.variables, self.sources = variables, sources

    def read(self, text: str) -> Expr:
        python = _NO_INDEX.sub("[()]", _AXES.sub("axes[", _LITERAL.sub(r"[\1]", text)))
        return self._expr(ast.parse(python, mode="eval").body)

    def _expr(self, node: ast.expr) -> Expr:
        match node:
            case ast.Constant(value=bool() | None):
                raise _no_expression(node)
            case ast.Constant(value=int() | float()):
                return const(node.value)  # type: ignore[arg-type]
            case ast.UnaryOp(op=ast.USub()):
                return self._literal(node.operand, -1)
            case ast.Subscript(value=ast.Constant() | ast.Name(id="inf" | "nan")):
                return self._literal(node, 1)
            case ast.Name(id="inf" | "nan"):
                return const(float(node.id))
            case ast.Name(id="true" | "false"):
                return const(node.id == "true")
            case ast.Name():
                return self.variables.setdefault(node.id, Var(node.id))
            case ast.UnaryOp(op=ast.Not()):
                return logical_not(self._expr(node.operand))
            case ast.BinOp() if type(node.op) in _BINARY:
                return binary(_BINARY[type(node.op)], self._expr(node.left), self._expr(node.right))
            case ast.BoolOp():
                first, *rest = [self._expr(v) for v in node.values]
                for part in rest:
                    first = binary("and" if isinstance(node.op, ast.And) else "or", first, part)
                return first
            case ast.Compare(ops=[op]) if type(op) in _COMPARE:
                return compare(_COMPARE[type(op)], self._expr(node.left), self._expr(node.comparators[0]))
            case ast.Subscript(value=ast.Name(id=name), slice=at):
                indices = at.elts if isinstance(at, ast.Tuple) else [at]
                return self.sources[name][tuple(self._expr(i) for i in indices)]
            case ast.Call(func=ast.Attribute(value=ast.Name(id="reduce"), attr=combiner)):
                return self._reduce(node, combiner)
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                return self._call(name, [self._expr(a) for a in node.args], node)
        raise _no_expression(node)

    def _literal(self, node: ast.expr, sign: int) -> Expr:
        """A number, with its dtype or without; a minus belongs to it."""
        dtype: str | None = None
        match node:
            case ast.Subscript(value=number, slice=ast.Name(id=dtype)):
                node = number
        value = float(node.id) if isinstance(node, ast.Name) and node.id in ("inf", "nan") else None
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            value = node.value  # type: ignore[assignment]
        if value is None:
            raise _no_expression(node)
        return const(sign * value, dtype)

    def _call(self, name: str, args: list[Expr], node: ast.expr) -> Expr:
        if name in ("min", "max") and len(args) == 2:
            return binary(name, *args)  # type: ignore[arg-type]
        if name == "select" and len(args) == 3:
            return select(*args)
        if name in INTRINSICS:
            return call(name, *args)
        if len(args) == 1:  # a converted constant that is in the text was not folded, and stays so
            return Cast(args[0], dt.check(name)) if isinstance(args[0], Const) else cast(args[0], name)
        raise _no_expression(node)

    def _reduce(self, node: ast.Call, combiner: str) -> Expr:
        term, domain = node.args
        where = [k.value for k in node.keywords]
        if not isinstance(domain, ast.Subscript) or len(where) > 1:
            raise _no_expression(node)
        slices = domain.slice.elts if isinstance(domain.slice, ast.Tuple) else [domain.slice]
        axes = []
        for s in slices:
            if not (isinstance(s, ast.Slice) and isinstance(s.lower, ast.Name) and isinstance(s.upper, ast.Constant)):
                raise _no_expression(node)
            var = self.variables.setdefault(s.lower.id, Var(s.lower.id))
            axes.append(Axis(var, int(str(s.upper.value)), "reduce"))
        return _REDUCE[combiner](self._expr(term), axes, where=self._expr(where[0]) if where else None)


def _no_expression(node: ast.expr) -> ExpressionError:
    return ExpressionError(f"a workload's text holds what is no expression: {ast.unparse(node):.80}")
