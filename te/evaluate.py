"""Evaluate a workload with NumPy: the oracle that every schedule and every kernel is checked against.

Each stage is evaluated over blocks of its iteration domain, as whole arrays: an axis becomes an index array along a
dimension of its own, and subexpressions stay as small as the axes that they mention. Nothing here is
shared with the compiler, so that a mistake in the one shows up against the other. The semantics are those of
:mod:`.expr`: integers wrap, terms outside ``where`` and unselected reads are not performed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..errors import InputError
from . import dtype as dt
from .expr import (
    Axis,
    Binary,
    Call,
    Cast,
    Combiner,
    Compare,
    Const,
    Expr,
    Not,
    Read,
    Reduce,
    Select,
    Var,
)
from .tensor import Compute, Placeholder, Source
from .workload import Workload

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_BLOCK_POINTS = 1 << 18
"""Points evaluated at once: temporaries of this size stay in the cache."""


def evaluate(workload: Workload, inputs: Sequence[Array], *, dtype: str | None = None) -> list[Array]:
    """Return the outputs of ``workload`` for ``inputs``, given in the order of ``workload.inputs``.

    ``dtype="float64"`` carries out all floating-point arithmetic in double precision and returns float outputs so;
    by default each expression is evaluated in its own dtype. The order of a sum is not specified.

    Raises InputError where an input's number, shape or dtype is wrong, and IndexError where a read that is
    selected is outside of its tensor.
    """
    if dtype not in (None, "float64"):
        raise InputError(f"evaluate: dtype {dtype!r} is not supported; use None (as written) or 'float64'")
    if len(inputs) != len(workload.inputs):
        raise InputError(
            f"evaluate: {len(inputs)} inputs for a workload of {len(workload.inputs)}: "
            f"pass one array for each of {', '.join(p.name for p in workload.inputs)}"
        )
    tensors: dict[Source, Array] = {}
    for p, value in zip(workload.inputs, inputs, strict=True):
        tensors[p] = _checked_input(p, np.asarray(value), widen=dtype is not None)
    with np.errstate(all="ignore"):
        for stage in workload.stages:
            tensors[stage] = _stage(stage, tensors, widen=dtype is not None)
    return [tensors[t] for t in workload.outputs]


def _checked_input(p: Placeholder, value: Array, *, widen: bool) -> Array:
    if value.shape != p.shape:
        raise InputError(f"evaluate: input {p.name} has shape {value.shape}; it must be {p.shape}")
    expected = dt.to_numpy(p.dtype)
    both_float = dt.is_float(p.dtype) and value.dtype.name in dt.FLOATS
    if value.dtype != expected and not (widen and both_float):
        raise InputError(f"evaluate: input {p.name} is {value.dtype}; it must be {p.dtype}; convert it with astype")
    return value.astype(np.float64) if widen and both_float else value


def _numpy_dtype(dtype: str, widen: bool) -> np.dtype[Any]:
    return np.dtype(np.float64) if widen and dt.is_float(dtype) else dt.to_numpy(dtype)


# -------------------------------------------------------------------------------------------- stages


def _stage(stage: Compute, tensors: dict[Source, Array], *, widen: bool) -> Array:
    result = np.empty(stage.shape, _numpy_dtype(stage.dtype, widen))
    body = stage.body
    spatial_blocks, points = _blocks(stage.axes, _BLOCK_POINTS)
    for block in spatial_blocks:
        where = tuple(slice(r.start, r.stop) for r in block)
        if isinstance(body, Reduce):
            result[where] = _reduce(body, stage.axes, block, _BLOCK_POINTS // max(points, 1), tensors, widen)
        else:
            result[where] = _Block(stage.axes, block, tensors, widen).evaluate(body, None)
    return result


def _blocks(axes: Sequence[Axis], points: int) -> tuple[Iterator[tuple[range, ...]], int]:
    """Cut a domain into boxes of at most ``points`` points, the last axes whole; also return a box's size."""
    lengths: list[int] = []
    size = 1
    for axis in reversed(axes):
        length = max(1, min(axis.extent, points // size))
        lengths.append(length)
        size *= length
    cuts = [
        [range(i, min(i + length, axis.extent)) for i in range(0, axis.extent, length)]
        for axis, length in zip(axes, reversed(lengths), strict=True)
    ]
    return itertools.product(*cuts), size


@dataclass(frozen=True, slots=True)
class _Monoid:
    """A combiner in NumPy's terms. ``combine`` ignores a NaN, as ``b if b < a else a`` with the identity first does."""

    combine: np.ufunc
    identity: Callable[[np.dtype[Any]], Any]


def _least(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.name in dt.FLOATS else np.iinfo(dtype).min


def _greatest(dtype: np.dtype[Any]) -> Any:
    return np.inf if dtype.name in dt.FLOATS else np.iinfo(dtype).max


_MONOIDS: dict[Combiner, _Monoid] = {
    "sum": _Monoid(np.add, lambda _: 0),
    "prod": _Monoid(np.multiply, lambda _: 1),
    "min": _Monoid(np.fmin, _greatest),
    "max": _Monoid(np.fmax, _least),
    "all": _Monoid(np.logical_and, lambda _: True),
    "any": _Monoid(np.logical_or, lambda _: False),
}


def _reduce(
    e: Reduce, axes: tuple[Axis, ...], box: tuple[range, ...], points: int, tensors: dict[Source, Array], widen: bool
) -> Array:
    """Reduce over all of ``e.axes`` for one box of the spatial axes."""
    monoid = _MONOIDS[e.combiner]
    dtype = _numpy_dtype(e.dtype, widen)
    identity = np.asarray(monoid.identity(dtype), dtype)
    shape = tuple(len(r) for r in box)
    result = np.full(shape, identity, dtype)
    inner = tuple(range(len(axes), len(axes) + len(e.axes)))
    reduce_blocks, _ = _blocks(e.axes, points)
    for reduce_box in reduce_blocks:
        block = _Block(axes + e.axes, box + reduce_box, tensors, widen)
        mask = None if e.where is None else block.evaluate(e.where, None)
        if mask is not None and not mask.any():
            continue
        if mask is not None and mask.all():
            mask = None
        term = block.evaluate(e.term, mask)
        if mask is not None:
            term = np.where(mask, term, identity)
        term = np.broadcast_to(term, (*term.shape[: len(axes)], *(len(r) for r in reduce_box)))
        partial = monoid.combine.reduce(term, axis=inner, dtype=dtype)
        monoid.combine(result, partial, out=result)
    return result


# --------------------------------------------------------------------------------------- expressions


class _Block:
    """Evaluates expressions over one box of a domain; a value has one dimension per axis."""

    def __init__(self, axes: Sequence[Axis], box: Sequence[range], tensors: dict[Source, Array], widen: bool) -> None:
        self.rank = len(axes)
        self.tensors = tensors
        self.widen = widen
        self.grids: dict[Var, Array] = {}
        for d, (axis, r) in enumerate(zip(axes, box, strict=True)):
            shape = [1] * self.rank
            shape[d] = len(r)
            self.grids[axis.var] = np.arange(r.start, r.stop, dtype=np.int64).reshape(shape)

    def evaluate(self, e: Expr, guard: Array | None) -> Array:
        """The values of ``e``; reads are performed only where ``guard`` holds (None: everywhere)."""
        match e:
            case Var():
                return self.grids[e]
            case Const():
                return self._constant(e)
            case Binary():
                return _binary(e, self.evaluate(e.a, guard), self.evaluate(e.b, guard))
            case Compare():
                return _array(_COMPARE[e.op](self.evaluate(e.a, guard), self.evaluate(e.b, guard)))
            case Not():
                return _array(np.logical_not(self.evaluate(e.a, guard)))
            case Select():
                return self._select(e, guard)
            case Cast():
                return self._cast(e, self.evaluate(e.a, guard))
            case Call():
                return _call(e.fn, [self.evaluate(a, guard) for a in e.args])
            case Read():
                return self._read(e, guard)
            case Reduce():
                raise AssertionError("a reduction is the root of a body")

    def _constant(self, e: Const) -> Array:
        value = np.asarray(e.value, dt.to_numpy(e.dtype))
        return value.astype(_numpy_dtype(e.dtype, self.widen)).reshape((1,) * self.rank)

    def _cast(self, e: Cast, value: Array) -> Array:
        return value.astype(_numpy_dtype(e.dtype, self.widen))

    def _select(self, e: Select, guard: Array | None) -> Array:
        condition = self.evaluate(e.condition, guard)
        if condition.all():
            return self.evaluate(e.a, guard)
        if not condition.any():
            return self.evaluate(e.b, guard)
        negated = np.logical_not(condition)
        a = self.evaluate(e.a, condition if guard is None else guard & condition)
        b = self.evaluate(e.b, negated if guard is None else guard & negated)
        return np.where(condition, a, b)

    def _read(self, e: Read, guard: Array | None) -> Array:
        tensor = self.tensors[e.source]
        indices: list[Array] = []
        for d, index in enumerate(e.indices):
            at = self.evaluate(index, guard)
            outside = (at < 0) | (at >= tensor.shape[d])
            if outside.any():
                self._check_unselected(e, d, at, outside, guard)
                at = np.where(outside, 0, at)
            indices.append(at)
        if tensor.size == 0:  # then no read was selected
            return np.zeros(np.broadcast_shapes(*(i.shape for i in indices)), tensor.dtype)
        view = _slices(tensor, indices, self.rank)
        return view if view is not None else tensor[tuple(indices)]

    def _check_unselected(self, e: Read, d: int, at: Array, outside: Array, guard: Array | None) -> None:
        selected = outside if guard is None else outside & guard
        if selected.any():
            value = int(np.broadcast_to(at, selected.shape)[selected][0])
            raise IndexError(
                f"{e}: index {d} is {value} at a point of the domain, outside of 0 .. {e.source.shape[d] - 1}; "
                "guard it with select or where"
            )


def _slices(tensor: Array, indices: list[Array], rank: int) -> Array | None:
    """The read as a view, where each index runs evenly along a dimension of its own; None where it does not."""
    picks: list[int | slice] = []
    along: list[int] = []
    for at in indices:
        dims = [d for d, n in enumerate(at.shape) if n > 1]
        if not dims:
            picks.append(int(at.reshape(-1)[0]))
            continue
        if len(dims) > 1 or dims[0] in along:
            return None
        flat = at.reshape(-1)
        start, step = int(flat[0]), int(flat[1] - flat[0])
        stop = start + step * len(flat)
        if step <= 0 or not np.array_equal(flat, np.arange(start, stop, step)):
            return None
        along.append(dims[0])
        picks.append(slice(start, stop, step))
    view = tensor[tuple(picks)]
    shape: list[Any] = [np.newaxis] * rank
    for d in along:
        shape[d] = slice(None)
    in_order = np.asarray(view).transpose([along.index(d) for d in sorted(along)])
    return _array(in_order[tuple(shape)])


def _array(value: Any) -> Array:
    return np.asarray(value)


def _binary(e: Binary, a: Array, b: Array) -> Array:
    match e.op:
        case "min":
            return np.where(b < a, b, a)
        case "max":
            return np.where(a < b, b, a)
        case _:
            return _array(_ARITHMETIC[e.op](a, b))


_ARITHMETIC: dict[str, Callable[[Array, Array], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "floordiv": np.floor_divide,
    "floormod": np.remainder,
    "pow": np.power,
    "and": np.logical_and,
    "or": np.logical_or,
}
_COMPARE: dict[str, Callable[[Array, Array], Any]] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


def _call(fn: str, args: list[Array]) -> Array:
    """16-bit floats are computed in float32 and rounded once."""
    dtype = args[0].dtype
    if dtype.itemsize == 2 and dtype.name in dt.FLOATS:
        wide = _INTRINSICS[fn](*(a.astype(np.float32) for a in args))
        return _array(wide if fn in ("isnan", "isinf") else wide.astype(dtype))
    return _array(_INTRINSICS[fn](*args))


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))  # never overflows
    one = x.dtype.type(1)
    return _array(np.where(x < 0, small, one) / (one + small))


def _erf(x: Array) -> Array:
    return _array(_ERF(x)).astype(x.dtype)


_ERF = np.frompyfunc(math.erf, 1, 1)

_INTRINSICS: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "erf": _erf,
    "sigmoid": _sigmoid,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "trunc": np.trunc,
    "abs": np.abs,
    "isnan": np.isnan,
    "isinf": np.isinf,
}
