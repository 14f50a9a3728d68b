"""Read the canonical text of a workload back: the inverse of :func:`.printer.format_workload`.

A log keeps this text with its records, so that what was measured can be made again, and learnt from, without the
model that it came from. Names are gone from the text; all else is there: the workload that is read has the same key.

    program  := (placeholder | compute)* "return" name ("," name)*
    compute  := name "= compute(" type ", [" axes "]" [", tag=" string] ")" ("'attr' =" value)* expression
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, cast, get_args

from ..errors import ExpressionError
from . import dtype as dt
from .expr import (
    INTRINSICS,
    Axis,
    Binary,
    BinaryOp,
    Call,
    Cast,
    Combiner,
    Compare,
    CompareOp,
    Const,
    Expr,
    Not,
    Read,
    Reduce,
    Select,
    Var,
)
from .tensor import Attr, Compute, Placeholder, Source
from .workload import Workload, workload

T = TypeVar("T")

_TOKEN = re.compile(r"\s*(\d+(?:\.\d*)?(?:e[-+]?\d+)?|[A-Za-z_][\w.]*|//|\*\*|[<>=!]=|[-+*/%<>()\[\],:=]|$)")
_PLACEHOLDER = re.compile(r"(\w+) = placeholder\((\w+)\[([\d, ]*)\](, constant)?\)")
_COMPUTE = re.compile(r"(\w+) = compute\((\w+)\[([\d, ]*)\], \[([\w, ]*)\](?:, tag=(.*))?\)")
_ATTR = re.compile(r"  ('[^']*') = (.*)")

_LEVELS: tuple[Mapping[str, BinaryOp], ...] = (
    {"+": "add", "-": "sub"},
    {"*": "mul", "/": "div", "//": "floordiv", "%": "floormod"},
)
_COMPARES: Mapping[str, CompareOp] = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}


def parse_workload(text: str) -> Workload:
    """Return the workload that ``text`` is of. Raises ExpressionError where it is not the text of one."""
    try:
        found = _workload(text.splitlines())
        exact = found.text == text
    except (ExpressionError, ValueError, KeyError, IndexError, TypeError, SyntaxError) as e:
        raise ExpressionError(f"this is not the canonical text of a workload: {e}") from None
    if not exact:
        raise ExpressionError("this is not the canonical text of a workload: it would be printed in another way")
    return found


def _workload(lines: list[str]) -> Workload:
    sources: dict[str, Source] = {}
    rest = iter(lines)
    for line in rest:
        if line.startswith("return "):
            outputs = [sources[n] for n in line.removeprefix("return ").split(", ")]
            inputs = [s for s in sources.values() if isinstance(s, Placeholder)]
            return workload(cast(list[Compute], outputs), inputs)
        if found := _PLACEHOLDER.fullmatch(line):
            name, dtype, shape, constant = found.groups()
            sources[name] = Placeholder(name, _ints(shape), dt.check(dtype), constant is not None)
        elif found := _COMPUTE.fullmatch(line):
            sources[found[1]] = _compute(found, rest, sources)
        else:
            raise ValueError(f"unexpected line {line!r:.80}")
    raise ValueError("the return is missing")


def _compute(head: re.Match[str], rest: Iterator[str], sources: Mapping[str, Source]) -> Compute:
    name, dtype, dims, axis_names, tag = head.groups()
    shape = _ints(dims)
    attrs: dict[str, Attr] = {}
    line = next(rest, "")
    while found := _ATTR.fullmatch(line):
        attrs[ast.literal_eval(found[1])] = ast.literal_eval(found[2])
        line = next(rest, "")
    named = [n for n in axis_names.split(", ") if n]
    axes = tuple(Axis(Var(n), extent, "spatial") for n, extent in zip(named, shape, strict=True))
    body = _Expressions(line, sources, {a.name: a.var for a in axes}).whole()
    if body.dtype != dtype:
        raise ValueError(f"{name} is {dtype}, its expression {body.dtype}")
    return Compute(name, shape, dt.check(dtype), axes, body, ast.literal_eval(tag) if tag else "", attrs)


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(", ") if n)


class _Expressions:
    """Recursive descent over one line. Nodes are made as they are printed: nothing is folded."""

    def __init__(self, line: str, sources: Mapping[str, Source], variables: dict[str, Var]) -> None:
        self.tokens = list(_tokens(line))
        self.at = 0
        self.sources, self.variables = sources, variables

    def whole(self) -> Expr:
        if self.peek().startswith("reduce."):
            self.declare_reduced()
        e = self.disjunction()
        self.expect("")
        return e

    def peek(self) -> str:
        return self.tokens[self.at]

    def next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def take(self, *tokens: str) -> str | None:
        return self.next() if self.peek() in tokens else None

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise ValueError(f"expected {token or 'the end'!r} before {' '.join(self.tokens[self.at - 1 :])!r:.60}")

    def some(self, parse: Callable[[], T], close: str) -> list[T]:
        """Comma-separated items up to ``close``, which is taken."""
        found: list[T] = []
        while not self.take(close):
            found.append(parse())
            if not self.take(","):
                self.expect(close)
                break
        return found

    # ------------------------------------------------------------------ operators, loosest first

    def disjunction(self) -> Expr:
        e = self.conjunction()
        while self.take("or"):
            e = Binary("or", e, self.conjunction(), dt.BOOL)
        return e

    def conjunction(self) -> Expr:
        e = self.negation()
        while self.take("and"):
            e = Binary("and", e, self.negation(), dt.BOOL)
        return e

    def negation(self) -> Expr:
        return Not(self.negation()) if self.take("not") else self.comparison()

    def comparison(self) -> Expr:
        e = self.chain(0)
        sign = self.take(*_COMPARES)
        return Compare(_COMPARES[sign], e, self.chain(0)) if sign else e

    def chain(self, level: int) -> Expr:
        """Sums of products of powers."""
        if level == len(_LEVELS):
            return self.power()
        e = self.chain(level + 1)
        while sign := self.take(*_LEVELS[level]):
            e = Binary(_LEVELS[level][sign], e, self.chain(level + 1), e.dtype)
        return e

    def power(self) -> Expr:
        e = self.atom()
        return Binary("pow", e, self.power(), e.dtype) if self.take("**") else e

    # ------------------------------------------------------------------ atoms

    def atom(self) -> Expr:
        token = self.next()
        if token == "(":
            e = self.disjunction()
            self.expect(")")
            return e
        if token == "-" or token[:1].isdigit() or token in ("inf", "nan"):
            return self.literal(token)
        if token in ("true", "false"):
            return Const(token == "true", dt.BOOL)
        if token in self.variables:
            return self.variables[token]
        if token in self.sources:
            self.expect("[")
            source = self.sources[token]
            return Read(source, tuple(self.some(self.disjunction, "]")), source.dtype)
        self.expect("(")
        if token.startswith("reduce."):
            return self.reduce(token.removeprefix("reduce."))
        arguments = self.some(self.disjunction, ")")
        if token in ("min", "max"):
            a, b = arguments
            return Binary(cast(BinaryOp, token), a, b, a.dtype)
        if token == "select":
            condition, a, b = arguments
            return Select(condition, a, b, a.dtype)
        if token in INTRINSICS:
            return Call(token, tuple(arguments), dt.BOOL if token in ("isnan", "isinf") else arguments[0].dtype)
        (a,) = arguments
        return Cast(a, dt.check(token))

    def literal(self, token: str) -> Const:
        text = token + self.next() if token == "-" else token
        whole = text.removeprefix("-").isdigit()
        dtype = dt.check(self.next()) if self.take(":") else dt.INDEX if whole else "float32"
        return Const(int(text) if dt.is_integer(dtype) else float(text), dtype)

    def declare_reduced(self) -> None:
        """Make the variables of the reduction that the line is; their extents come after the term."""
        for token, after in zip(self.tokens, self.tokens[1:], strict=False):
            if after == ":" and re.fullmatch(r"k\d+", token):
                self.variables[token] = Var(token)

    def reduce(self, combiner: str) -> Reduce:
        if combiner not in get_args(Combiner):
            raise ValueError(f"unknown reduction {combiner!r}")
        term = self.disjunction()
        self.expect(",")
        self.expect("[")
        axes = tuple(self.some(self.axis, "]"))
        where = None
        if self.take(","):
            self.expect("where")
            self.expect("=")
            where = self.disjunction()
        self.expect(")")
        return Reduce(cast(Combiner, combiner), term, axes, where, term.dtype)

    def axis(self) -> Axis:
        variable = self.variables[self.next()]
        self.expect(":")
        return Axis(variable, int(self.next()), "reduce")


def _tokens(line: str) -> Iterator[str]:
    at = 0
    while at < len(line):
        found = _TOKEN.match(line, at)
        if found is None:
            raise ValueError(f"unexpected character in {line[at : at + 20]!r}")
        yield found[1]
        at = found.end()
    yield ""
