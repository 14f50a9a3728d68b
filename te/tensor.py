"""Tensors: what a computation reads and makes.

    A = placeholder((64, 32), name="A")
    k = reduce_axis(32, "k")
    C = compute((64, 16), lambda i, j: sum(A[i, k] * B[k, j], k), name="C")

A :class:`Tensor` is a node of a graph of computations; :class:`.workload.Workload` collects the graph
between inputs and outputs. Shapes are tuples of non-negative ints.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Union

import numpy as np

from ..errors import ExpressionError
from . import dtype as dt
from .expr import Axis, Combiner, Expr, ExprLike, Read, Reduce, Select, Var, as_expr, children
from .simplify import bounds_of, linear
from .traversal import distinct

Attr = Union[int, float, str, bool, tuple[int, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Source:
    """Anything that a :class:`.expr.Read` can index: a tensor, or a buffer of the loop IR."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> int:
        count = 1
        for n in self.shape:
            count *= n
        return count

    @property
    def size_bytes(self) -> int:
        return self.elements * dt.size_bytes(self.dtype)

    def __getitem__(self, indices: ExprLike | tuple[ExprLike, ...]) -> Read:
        given = indices if isinstance(indices, tuple) else (indices,)
        if len(given) != len(self.shape):
            raise ExpressionError(
                f"{self.name}[...]: {len(given)} indices for a tensor of {len(self.shape)} dimensions {self.shape}"
            )
        exprs = []
        for position, index in enumerate(given):
            e = as_expr(index)
            if not dt.is_integer(e.dtype):
                raise ExpressionError(f"{self.name}[...]: index {position} is {e.dtype}; an index must be an integer")
            if e.dtype != dt.INDEX:
                from .expr import cast

                e = cast(e, dt.INDEX)
            exprs.append(e)
        return Read(self, tuple(exprs), self.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {self.dtype}{list(self.shape)})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Placeholder(Source):
    """An input. ``constant`` inputs are known at build time, so a schedule may change their layout."""

    constant: bool = False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Compute(Source):
    """A tensor given by an expression over its axes.

    body   a scalar expression, or a Reduce at its root
    tag    the operator family that a space function is chosen by (``conv2d``, ``matmul``, ...)
    attrs  parameters of that family (strides, pads, groups, layouts)
    """

    axes: tuple[Axis, ...] = ()
    body: Expr = field(default=None)  # type: ignore[assignment]
    tag: str = ""
    attrs: Mapping[str, Attr] = field(default_factory=dict)

    @property
    def reduce_axes(self) -> tuple[Axis, ...]:
        return self.body.axes if isinstance(self.body, Reduce) else ()

    def reads(self) -> list[Read]:
        """Every read in the body, each node once, in order of appearance."""
        return list(reads_of(self.body))

    def inputs(self) -> list[Tensor]:
        """The tensors that the body reads, each once, in order of appearance."""
        return list(sources_of(self.body))  # type: ignore[arg-type]


Tensor = Union[Placeholder, Compute]


@lru_cache(maxsize=4096)
def reads_of(body: Expr) -> tuple[Read, ...]:
    """Every read in an expression, each node once, in order of appearance. Kept: schedules ask again and again."""
    return tuple(e for e in distinct(body) if isinstance(e, Read))


@lru_cache(maxsize=4096)
def sources_of(body: Expr) -> tuple[Source, ...]:
    """What an expression reads, each source once, in order of appearance."""
    return tuple(dict.fromkeys(r.source for r in reads_of(body)))


def _shape(shape: Sequence[int] | int, what: str) -> tuple[int, ...]:
    dims = (shape,) if isinstance(shape, int) else tuple(shape)
    for n in dims:
        if isinstance(n, bool) or not hasattr(n, "__index__") or n < 0:
            raise ExpressionError(f"{what}: shape {dims!r} must hold non-negative integers")
    return tuple(int(n) for n in dims)


def placeholder(
    shape: Sequence[int] | int, dtype: str = "float32", name: str = "x", *, constant: bool = False
) -> Placeholder:
    """Declare an input of ``shape``; ``constant`` ones (weights) are bound when code is built."""
    return Placeholder(name, _shape(shape, f"placeholder {name}"), dt.check(dtype), constant)


def reduce_axis(extent: int, name: str = "k") -> Axis:
    """Declare an axis to reduce over, ``0 <= k < extent``."""
    (n,) = _shape(extent, f"reduce_axis {name}")
    return Axis(Var(name), n, "reduce")


def compute(
    shape: Sequence[int] | int,
    fn: Callable[..., ExprLike],
    name: str = "compute",
    *,
    tag: str = "",
    attrs: Mapping[str, Attr] | None = None,
) -> Compute:
    """Define a tensor of ``shape`` whose element at ``(i, j, ...)`` is ``fn(i, j, ...)``.

    ``fn`` may return a scalar expression or one reduction (:func:`sum` and its kin) at the root.
    ``attrs`` become part of the workload's text; lists turn into tuples, NumPy scalars into Python's.

    Raises ExpressionError where ``fn`` does not take one index per dimension, where a reduction is not the whole body,
    and where a read that no select or ``where`` guards is certain to leave its tensor.
    """
    dims = _shape(shape, f"compute {name}")
    parameters = [
        p for p in inspect.signature(fn).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    _check_arity(fn, name, dims)
    names = [p.name for p in parameters] if len(parameters) == len(dims) else [f"i{d}" for d in range(len(dims))]
    axes = tuple(Axis(Var(n), extent, "spatial") for n, extent in zip(names, dims, strict=True))
    body = as_expr(fn(*(a.var for a in axes)))
    _check_body(body, name, axes)
    _check_indices(body, name, axes)
    checked = {key: _attr(value, f"compute {name}: attrs[{key!r}]") for key, value in (attrs or {}).items()}
    return Compute(name, dims, body.dtype, axes, body, tag, checked)


def _check_arity(fn: Callable[..., ExprLike], name: str, dims: tuple[int, ...]) -> None:
    try:
        inspect.signature(fn).bind(*dims)
    except TypeError:
        given = ", ".join(inspect.signature(fn).parameters) or "none"
        raise ExpressionError(
            f"compute {name}: fn must take one index for each of the {len(dims)} dimensions of {dims}; it takes {given}"
        ) from None


def _attr(value: object, what: str) -> Attr:
    """An attribute as plain Python data, so that its text, and with it a workload's key, is always the same."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_attr(v, what) for v in value)  # type: ignore[return-value]
    raise ExpressionError(f"{what} is a {type(value).__name__}; use numbers, strings, and tuples of these")


def _check_body(body: Expr, name: str, axes: tuple[Axis, ...]) -> None:
    known = {a.var for a in axes}
    if isinstance(body, Reduce):
        known |= {a.var for a in body.axes}
    for e in distinct(body):
        if isinstance(e, Reduce) and e is not body:
            raise ExpressionError(f"compute {name}: a reduction must be the whole body; give it a compute of its own")
        if isinstance(e, Var) and e not in known:
            raise ExpressionError(f"compute {name}: variable {e.name!r} is not an axis of this compute")


def _check_indices(body: Expr, name: str, axes: tuple[Axis, ...]) -> None:
    """Refuse a read that leaves its tensor, where that is certain: one that no condition guards."""
    domain = axes + (body.axes if isinstance(body, Reduce) else ())
    if builtins.any(a.extent == 0 for a in domain) or (isinstance(body, Reduce) and body.where is not None):
        return
    bounds = {a.var: (0, a.extent - 1) for a in domain}
    unguarded: list[Expr] = [body]
    while unguarded:
        e = unguarded.pop()
        if isinstance(e, Select):
            unguarded.append(e.condition)
            continue
        unguarded.extend(children(e))
        if isinstance(e, Read):
            for d, (index, size) in enumerate(zip(e.indices, e.source.shape, strict=True)):
                _check_index(e, d, index, size, bounds, name)


def _check_index(read: Read, d: int, index: Expr, size: int, bounds: dict[Var, tuple[int, int]], name: str) -> None:
    lo, hi = bounds_of(index, bounds)
    if lo is None or hi is None or (lo >= 0 and hi < size):
        return
    form = linear(index, bounds)
    attained = form is not None and builtins.all(isinstance(atom, Var) for atom, _ in form.terms)
    if attained or hi < 0 or lo >= size:  # else the bounds may be wider than what the index takes
        raise ExpressionError(
            f"compute {name}: {read} reads index {d} from {lo} to {hi}, outside of 0 .. {size - 1}; "
            "guard it with te.select, or the reduction with where="
        )


def _reduction(combiner: Combiner, term: ExprLike, axis: Axis | Sequence[Axis], where: ExprLike | None) -> Reduce:
    axes = (axis,) if isinstance(axis, Axis) else tuple(axis)
    if not axes:
        raise ExpressionError(f"{combiner}: axis is empty; pass at least one reduce_axis")
    for a in axes:
        if a.kind != "reduce":
            raise ExpressionError(f"{combiner}: axis {a.name!r} is spatial; make it with reduce_axis")
    if len(set(axes)) != len(axes):
        raise ExpressionError(f"{combiner}: an axis is given twice")
    t = as_expr(term)
    if (combiner in ("all", "any")) != (t.dtype == dt.BOOL):
        raise ExpressionError(f"{combiner}: a term of dtype {t.dtype} cannot be combined this way")
    condition = None if where is None else as_expr(where)
    if condition is not None and condition.dtype != dt.BOOL:
        raise ExpressionError(f"{combiner}: where must be bool, not {condition.dtype}")
    return Reduce(combiner, t, axes, condition, t.dtype)


def sum(term: ExprLike, axis: Axis | Sequence[Axis], where: ExprLike | None = None) -> Reduce:
    """Add ``term`` over ``axis``, at the points where ``where`` holds."""
    return _reduction("sum", term, axis, where)


def prod(term: ExprLike, axis: Axis | Sequence[Axis], where: ExprLike | None = None) -> Reduce:
    """Multiply ``term`` over ``axis``, at the points where ``where`` holds."""
    return _reduction("prod", term, axis, where)


def min(term: ExprLike, axis: Axis | Sequence[Axis], where: ExprLike | None = None) -> Reduce:
    """Least ``term`` over ``axis``; +infinity or the type's greatest value where there is none."""
    return _reduction("min", term, axis, where)


def max(term: ExprLike, axis: Axis | Sequence[Axis], where: ExprLike | None = None) -> Reduce:
    """Greatest ``term`` over ``axis``; -infinity or the type's least value where there is none."""
    return _reduction("max", term, axis, where)


def all(term: ExprLike, axis: Axis | Sequence[Axis], where: ExprLike | None = None) -> Reduce:
    """Whether the bool ``term`` holds at every point."""
    return _reduction("all", term, axis, where)


def any(term: ExprLike, axis: Axis | Sequence[Axis], where: ExprLike | None = None) -> Reduce:
    """Whether the bool ``term`` holds at any point."""
    return _reduction("any", term, axis, where)
