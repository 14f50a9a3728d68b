"""Expression nodes, shared by tensor expressions and the loop IR.

    Expr := Var | Const
          | Binary(add|sub|mul|div|floordiv|floormod|min|max|pow|and|or, a, b)
          | Compare(lt|le|gt|ge|eq|ne, a, b) | Not(a)
          | Select(condition, a, b) | Cast(a, dtype) | Call(intrinsic, args)
          | Read(source, indices) | Reduce(combiner, term, axes, where)

Semantics, stated once:

* Integers are two's complement and wrap on overflow. ``floordiv``/``floormod`` round towards minus
  infinity (Python's ``//`` and ``%``); division by zero is undefined. ``div`` is for floats only.
* Floats are IEEE 754 with the default rounding. The compiler may contract ``a * b + c`` into one
  fused multiply-add; it never reassociates: the order of a sum is the schedule's to choose, and a
  reduction is defined up to the order of its terms.
* ``min`` and ``max`` of floats are ``b if b < a else a`` (``b if a < b else a``): a NaN in ``a`` stays
  unless the schedule reorders the reduction.
* ``Select`` evaluates both sides where this is free of side effects; a ``Read`` in the side that is
  not selected is never performed out of bounds.
* ``Reduce`` ranges over the points of its axes at which ``where`` holds; the other points are not part
  of the reduction at all (padding costs nothing and is not multiplied by a weight). An empty
  reduction is the combiner's identity.
* Intrinsics are those of C's ``<math.h>`` and ONNX: ``round`` takes halves to the even neighbour, ``trunc`` rounds
  towards zero, ``sigmoid(x) = 1 / (1 + exp(-x))``, ``abs`` of the least integer is itself. They are accurate to a few
  units in the last place, not correctly rounded.
* Comparison nodes are made by ``<``, ``<=``, ``>``, ``>=``, :func:`equal` and :func:`not_equal`. ``==`` is
  Python's identity, so that nodes may be keys of a dictionary.

Nodes are immutable, and typed when they are made: an ill-typed expression raises ExpressionError.
Next: :mod:`.tensor` (placeholder, compute), :mod:`.traversal`, :mod:`.simplify`, :mod:`.printer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

import numpy as np

from ..errors import ExpressionError
from . import dtype as dt

if TYPE_CHECKING:
    from .tensor import Source

BinaryOp = Literal["add", "sub", "mul", "div", "floordiv", "floormod", "min", "max", "pow", "and", "or"]
CompareOp = Literal["lt", "le", "gt", "ge", "eq", "ne"]
Combiner = Literal["sum", "prod", "min", "max", "all", "any"]

INTRINSICS = frozenset(
    "exp log sqrt tanh erf sigmoid sin cos tan asin acos atan sinh cosh asinh acosh atanh "
    "floor ceil round trunc abs isnan isinf".split()
)


class Operators:
    """Python's operators, for nodes and for axes."""

    __slots__ = ()

    def __add__(self, other: ExprLike) -> Expr:
        return binary("add", self, other)

    def __radd__(self, other: ExprLike) -> Expr:
        return binary("add", other, self)

    def __sub__(self, other: ExprLike) -> Expr:
        return binary("sub", self, other)

    def __rsub__(self, other: ExprLike) -> Expr:
        return binary("sub", other, self)

    def __mul__(self, other: ExprLike) -> Expr:
        return binary("mul", self, other)

    def __rmul__(self, other: ExprLike) -> Expr:
        return binary("mul", other, self)

    def __truediv__(self, other: ExprLike) -> Expr:
        return binary("div", self, other)

    def __rtruediv__(self, other: ExprLike) -> Expr:
        return binary("div", other, self)

    def __floordiv__(self, other: ExprLike) -> Expr:
        return binary("floordiv", self, other)

    def __rfloordiv__(self, other: ExprLike) -> Expr:
        return binary("floordiv", other, self)

    def __mod__(self, other: ExprLike) -> Expr:
        return binary("floormod", self, other)

    def __rmod__(self, other: ExprLike) -> Expr:
        return binary("floormod", other, self)

    def __pow__(self, other: ExprLike) -> Expr:
        return binary("pow", self, other)

    def __rpow__(self, other: ExprLike) -> Expr:
        return binary("pow", other, self)

    def __neg__(self) -> Expr:
        x = as_expr(self)
        return binary("sub", -0.0 if dt.is_float(x.dtype) else 0, x)  # 0.0 - 0.0 is not -0.0

    def __abs__(self) -> Expr:
        return call("abs", self)

    def __lt__(self, other: ExprLike) -> Expr:
        return compare("lt", self, other)

    def __le__(self, other: ExprLike) -> Expr:
        return compare("le", self, other)

    def __gt__(self, other: ExprLike) -> Expr:
        return compare("gt", self, other)

    def __ge__(self, other: ExprLike) -> Expr:
        return compare("ge", self, other)

    def __bool__(self) -> bool:
        raise ExpressionError(
            "an expression has no truth value while it is being built; use te.select, te.all_of or te.any_of"
        )


class ExprOps(Operators):
    """Every node derives from it."""

    __slots__ = ()

    def __str__(self) -> str:
        from .printer import format_expr

        return format_expr(self)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Var(ExprOps):
    """A scalar variable: a loop index, or a parameter of the expression. Identity is the object."""

    name: str
    dtype: str = dt.INDEX


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Const(ExprOps):
    """A literal. Booleans have dtype ``bool``."""

    value: int | float | bool
    dtype: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Binary(ExprOps):
    op: BinaryOp
    a: Expr
    b: Expr
    dtype: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Compare(ExprOps):
    op: CompareOp
    a: Expr
    b: Expr
    dtype: str = dt.BOOL


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Not(ExprOps):
    a: Expr
    dtype: str = dt.BOOL


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Select(ExprOps):
    condition: Expr
    a: Expr
    b: Expr
    dtype: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Cast(ExprOps):
    """Convert; float to integer truncates, out-of-range float to integer is undefined."""

    a: Expr
    dtype: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Call(ExprOps):
    """A mathematical intrinsic of :data:`INTRINSICS`, elementwise."""

    fn: str
    args: tuple[Expr, ...]
    dtype: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Read(ExprOps):
    """One element of a tensor (in te) or of a buffer (in the loop IR)."""

    source: Source
    indices: tuple[Expr, ...]
    dtype: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Axis(Operators):
    """One dimension of an iteration domain: ``0 <= var < extent``. In arithmetic it stands for its variable."""

    var: Var
    extent: int
    kind: Literal["spatial", "reduce"]

    @property
    def name(self) -> str:
        return self.var.name


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reduce(ExprOps):
    """Combine ``term`` over all points of ``axes`` at which ``where`` (None: everywhere) holds."""

    combiner: Combiner
    term: Expr
    axes: tuple[Axis, ...]
    where: Expr | None
    dtype: str


Expr: TypeAlias = Union[Var, Const, Binary, Compare, Not, Select, Cast, Call, Read, Reduce]
ExprLike: TypeAlias = Union[Expr, Operators, int, float, bool, np.generic]


def children(e: Expr) -> tuple[Expr, ...]:
    """The direct operands of ``e``, in order."""
    return _OPERANDS[type(e)](e)


def _none(e: Expr) -> tuple[Expr, ...]:
    return ()


_OPERANDS: dict[type, Callable[[Any], tuple[Expr, ...]]] = {
    Var: _none,
    Const: _none,
    Binary: attrgetter("a", "b"),
    Compare: attrgetter("a", "b"),
    Not: lambda e: (e.a,),
    Select: attrgetter("condition", "a", "b"),
    Cast: lambda e: (e.a,),
    Call: attrgetter("args"),
    Read: attrgetter("indices"),
    Reduce: lambda e: (e.term,) if e.where is None else (e.term, e.where),
}
"""By type, since trees are walked more often than anything else is done to them."""


# ---------------------------------------------------------------------------------- construction


def const(value: int | float | bool | np.generic, dtype: str | None = None) -> Const:
    """Make a literal; without ``dtype``: bool, int64 or float32 by the value's Python type.

    A float is rounded to ``dtype``. Raises ExpressionError where an integer dtype does not hold the value.
    """
    if isinstance(value, np.generic):
        dtype = dtype or dt.check(value.dtype)
        value = value.item()
    if dtype is None:
        dtype = dt.BOOL if isinstance(value, bool) else dt.INDEX if isinstance(value, int) else "float32"
    if dtype == dt.BOOL:
        return Const(bool(value), dtype)
    if dt.is_float(dtype):
        return Const(dt.rounded(float(value), dtype), dtype)
    if isinstance(value, float) and not value.is_integer():
        raise ExpressionError(f"constant {value} is not an integer, as {dtype} requires; use te.cast or a float dtype")
    if wrap(int(value), dtype) != value:
        raise ExpressionError(f"constant {value} is outside of {dtype}; use te.cast to a wider dtype first")
    return Const(int(value), dtype)


def wrap(value: int, dtype: str) -> int:
    """Reduce ``value`` to the range of the integer ``dtype``, two's complement."""
    width = dt.bits(dtype)
    value &= (1 << width) - 1
    if dtype in dt.SIGNED and value >> (width - 1):
        value -= 1 << width
    return value


def as_expr(value: ExprLike, dtype: str | None = None) -> Expr:
    """Turn a Python number, a NumPy scalar or an Axis into an expression; pass expressions through."""
    if isinstance(value, ExprOps):
        return value  # type: ignore[return-value]
    if isinstance(value, Axis):
        return value.var
    if hasattr(value, "shape") and not isinstance(value, np.generic):
        raise ExpressionError(f"{value!r} is not a scalar; index it, as in {getattr(value, 'name', 'x')}[i, j]")
    if isinstance(value, (bool, int, float, np.generic)):
        return const(value, dtype)
    raise ExpressionError(f"{value!r} ({type(value).__name__}) cannot be part of a tensor expression")


def _operands(a: ExprLike, b: ExprLike, what: str) -> tuple[Expr, Expr]:
    """Give two operands one dtype: a Python number takes the other side's; otherwise they must agree."""
    if isinstance(a, ExprOps) and isinstance(b, ExprOps) and a.dtype == b.dtype:  # type: ignore[attr-defined]
        return a, b  # type: ignore[return-value]
    a_typed, b_typed = isinstance(a, (Operators, np.generic)), isinstance(b, (Operators, np.generic))
    if a_typed and not b_typed:
        x = as_expr(a)
        return x, as_expr(b, x.dtype)
    if b_typed and not a_typed:
        y = as_expr(b)
        return as_expr(a, y.dtype), y
    x, y = as_expr(a), as_expr(b)
    if x.dtype != y.dtype:
        raise ExpressionError(f"{what}: operands are {x.dtype} and {y.dtype}; convert one with te.cast")
    return x, y


def binary(op: BinaryOp, a: ExprLike, b: ExprLike) -> Expr:
    """Make ``a op b``, folding constants and the identities 0 and 1 of integers."""
    x, y = _operands(a, b, op)
    dtype = x.dtype
    if op in ("and", "or"):
        if dtype != dt.BOOL:
            raise ExpressionError(f"{op}: operands must be bool, not {dtype}")
    elif dtype == dt.BOOL:
        raise ExpressionError(f"{op}: operands are bool; convert them with te.cast")
    elif op in ("div", "pow") and not dt.is_float(dtype):
        hint = "use // for integers" if op == "div" else "use te.cast first"
        raise ExpressionError(f"{op}: operands must be float, not {dtype}; {hint}")
    elif op in ("floordiv", "floormod") and not dt.is_integer(dtype):
        raise ExpressionError(f"{op}: operands must be integer, not {dtype}; use te.call('floor', a / b) for floats")
    elif op in ("floordiv", "floormod") and isinstance(y, Const) and y.value == 0:
        raise ExpressionError(f"{op}: the divisor is the constant 0; division by zero is undefined")
    return fold(op, x, y)


def fold(op: BinaryOp, x: Expr, y: Expr) -> Expr:
    """``x op y`` of operands that agree, as :func:`binary` makes it."""
    dtype = x.dtype
    xc = x.value if isinstance(x, Const) else None
    yc = y.value if isinstance(y, Const) else None
    if xc is None and yc is None:
        return Binary(op, x, y, dtype)
    if dtype == dt.BOOL:
        for known, other in ((xc, y), (yc, x)):
            if known is not None:
                return other if known == (op == "and") else Const(op == "or", dt.BOOL)
        return Binary(op, x, y, dtype)
    if dt.is_integer(dtype):
        if xc is not None and yc is not None:
            if not (op in ("floordiv", "floormod") and yc == 0):
                return Const(wrap(_INTEGER[op](int(xc), int(yc)), dtype), dtype)
        elif op == "add" and xc == 0:
            return y
        elif op in ("add", "sub") and yc == 0:
            return x
        elif op == "mul" and (xc == 1 or yc == 0):
            return y
        elif op == "mul" and (yc == 1 or xc == 0):
            return x
        elif op == "floordiv" and yc == 1:
            return x
        elif op == "floormod" and yc == 1:
            return Const(0, dtype)
    return Binary(op, x, y, dtype)


_INTEGER: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "floormod": lambda a, b: a % b,
    "min": min,
    "max": max,
}

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}


def compare(op: CompareOp, a: ExprLike, b: ExprLike) -> Expr:
    """Make ``a op b`` of dtype bool."""
    x, y = _operands(a, b, op)
    if x.dtype == dt.BOOL and op not in ("eq", "ne"):
        raise ExpressionError(f"{op}: operands are bool, which have no order; use te.equal, te.not_equal or te.cast")
    if isinstance(x, Const) and isinstance(y, Const):
        return Const(_COMPARE[op](x.value, y.value), dt.BOOL)
    return Compare(op, x, y)


def equal(a: ExprLike, b: ExprLike) -> Expr:
    return compare("eq", a, b)


def not_equal(a: ExprLike, b: ExprLike) -> Expr:
    return compare("ne", a, b)


def minimum(a: ExprLike, b: ExprLike) -> Expr:
    return binary("min", a, b)


def maximum(a: ExprLike, b: ExprLike) -> Expr:
    return binary("max", a, b)


def logical_not(a: ExprLike) -> Expr:
    x = as_expr(a)
    if x.dtype != dt.BOOL:
        raise ExpressionError(f"not: operand must be bool, not {x.dtype}")
    return Const(not x.value, dt.BOOL) if isinstance(x, Const) else Not(x)


def all_of(*conditions: ExprLike) -> Expr:
    """The conjunction; true when there are none."""
    result: Expr = Const(True, dt.BOOL)
    for condition in conditions:
        result = binary("and", result, condition)
    return result


def any_of(*conditions: ExprLike) -> Expr:
    """The disjunction; false when there are none."""
    result: Expr = Const(False, dt.BOOL)
    for condition in conditions:
        result = binary("or", result, condition)
    return result


def select(condition: ExprLike, a: ExprLike, b: ExprLike) -> Expr:
    """``a`` where ``condition`` holds, else ``b``."""
    c = as_expr(condition)
    if c.dtype != dt.BOOL:
        raise ExpressionError(f"select: condition must be bool, not {c.dtype}")
    x, y = _operands(a, b, "select")
    if isinstance(c, Const):
        return x if c.value else y
    return Select(c, x, y, x.dtype)


def cast(a: ExprLike, dtype: str) -> Expr:
    """Convert ``a`` to ``dtype``."""
    x, dtype = as_expr(a), dt.check(dtype)
    if x.dtype == dtype:
        return x
    if isinstance(x, Const) and dt.is_integer(dtype) and np.isfinite(x.value):
        return Const(wrap(int(x.value), dtype), dtype)
    if isinstance(x, Const) and dtype != dt.BOOL and dt.is_integer(x.dtype):
        return const(x.value, dtype)
    return Cast(x, dtype)


def call(fn: str, *args: ExprLike) -> Expr:
    """Apply an intrinsic to a float operand (``abs`` also to an integer)."""
    if fn not in INTRINSICS:
        raise ExpressionError(f"intrinsic {fn!r} is unknown; use one of {', '.join(sorted(INTRINSICS))}")
    if len(args) != 1:
        raise ExpressionError(f"{fn}: takes 1 operand, not {len(args)}")
    exprs = tuple(as_expr(a) for a in args)
    for x in exprs:
        if not (dt.is_float(x.dtype) or (fn == "abs" and dt.is_integer(x.dtype))):
            raise ExpressionError(f"{fn}: operand must be float, not {x.dtype}; use te.cast")
    return Call(fn, exprs, dt.BOOL if fn in ("isnan", "isinf") else exprs[0].dtype)
