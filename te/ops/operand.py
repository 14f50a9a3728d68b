"""What every operator is built on: tensors seen through their logical shape, whatever their layout in memory.

    y = define(x.shape, lambda n, c, h, w: te.maximum(x.at(n, c, h, w), 0), block=16, name="relu")

Comes in: :class:`Operand`, a tensor with a logical shape and a channel block. Goes out: a ``Compute`` of the
physical shape. An operator is written once, over logical indices; :func:`define` turns them into physical ones and
simplifies them, so that operands with the layout of the result are read at the very loop variables. Next: any
operator family.

Blocked layouts: (N, C, *spatial) in blocks of ``b`` channels is stored as (N, ceil(C / b), *spatial, b). Lanes past
C hold unspecified values. A result's tail lanes are computed from whatever the operands hold there; where that would
read out of an operand's bounds they are set to 0 (or, in a reduction, left out).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

from ...errors import ExpressionError
from ..dtype import INDEX
from ..expr import Axis, Binary, Cast, Compare, Const, Expr, ExprLike, Read, Reduce, Var, all_of, as_expr, const, select
from ..simplify import Bounds, bounds_of, simplify
from ..tensor import Attr, Compute, Placeholder, Tensor, compute, reduce_axis
from ..traversal import free_vars, rewrite, walk

IndexMap: TypeAlias = Callable[..., ExprLike]


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """A tensor as an operator sees it.

    tensor  the tensor in its physical shape, or a scalar constant
    shape   its logical shape
    block   channels per block of axis 1; 0: the physical shape is the logical one
    """

    tensor: Tensor | Const
    shape: tuple[int, ...]
    block: int = 0

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    @property
    def rank(self) -> int:
        return len(self.shape)

    def at(self, *indices: ExprLike) -> Expr:
        """Read the element at logical ``indices``, one for each dimension."""
        if isinstance(self.tensor, Const):
            return self.tensor
        if len(indices) != self.rank:
            raise ExpressionError(
                f"{self.tensor.name}: {len(indices)} indices for a tensor of {self.rank} dimensions {self.shape}"
            )
        if not self.block:
            return self.tensor[tuple(indices)]
        n, c, *spatial = indices
        outer, lane = split_channel(as_expr(c), self.block)
        return self.tensor[(n, outer, *spatial, lane)]

    def broadcast_at(self, indices: Sequence[ExprLike], shape: Sequence[int]) -> Expr:
        """Read the element that NumPy's broadcasting pairs with ``indices`` of a result of ``shape``."""
        skip = len(shape) - self.rank
        own = zip(list(indices)[skip:], self.shape, shape[skip:], strict=True)
        return self.at(*(0 if size == 1 != wanted else i for i, size, wanted in own))


OperandLike: TypeAlias = Union[Operand, Placeholder, Compute]


def operand(value: OperandLike) -> Operand:
    """Take a bare tensor as one in plain layout."""
    return value if isinstance(value, Operand) else Operand(value, value.shape)


def scalar(value: int | float | bool, dtype: str) -> Operand:
    """A constant without dimensions, which becomes part of the expressions that read it."""
    return Operand(const(value, dtype), ())


def physical_shape(shape: Sequence[int], block: int) -> tuple[int, ...]:
    """The shape in memory of a tensor of logical ``shape`` in blocks of ``block`` channels (0: plain)."""
    if not block:
        return tuple(shape)
    if len(shape) < 2:
        raise ExpressionError(
            f"shape {tuple(shape)} has no channel axis 1; a blocked layout needs at least 2 dimensions"
        )
    n, c, *spatial = shape
    return (n, -(-c // block), *spatial, block)


def split_channel(c: Expr, block: int) -> tuple[Expr, Expr]:
    """The block and the lane of channel ``c``.

    ``outer * block + inner`` over two loop variables is how this package writes a channel that is itself blocked,
    with ``inner`` below ``block``: its parts are returned as they are.
    """
    if isinstance(c, Binary) and c.op == "add" and isinstance(c.b, Var):
        product = c.a
        if isinstance(product, Binary) and product.op == "mul":
            outer, factor = product.a, product.b
            if isinstance(outer, Var) and isinstance(factor, Const) and factor.value == block:
                return outer, c.b
    return c // block, c % block


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that NumPy's broadcasting gives; ExpressionError where the shapes do not fit."""
    rank = max((len(s) for s in shapes), default=0)
    result = []
    for sizes in zip(*((1,) * (rank - len(s)) + tuple(s) for s in shapes), strict=True):
        found = {n for n in sizes if n != 1}
        if len(found) > 1:
            raise ExpressionError(f"shapes {', '.join(str(tuple(s)) for s in shapes)} do not broadcast")
        result.append(found.pop() if found else 1)
    return tuple(result)


def common_block(operands: Sequence[Operand], rank: int) -> int:
    """The block of the first blocked operand of full rank; 0 when there is none."""
    return next((x.block for x in operands if x.block and x.rank == rank), 0)


def define(
    shape: Sequence[int],
    fn: IndexMap,
    *,
    block: int = 0,
    name: str,
    tag: str = "injective",
    attrs: Mapping[str, Attr] | None = None,
    axes: Sequence[str] | None = None,
) -> Compute:
    """Make the tensor of logical ``shape`` whose element at logical indices is ``fn(*indices)``, stored with
    ``block``.

    fn    may return a reduction at the root
    axes  names for the logical dimensions (default: by rank)
    """
    names = list(axes or axis_names(len(shape)))
    if block:
        names = [names[0], f"{names[1]}_o", *names[2:], f"{names[1]}_i"]
    physical = physical_shape(shape, block)

    def body(*variables: Var) -> Expr:
        logical: Sequence[Expr] = variables
        if block:
            n, outer, *spatial, lane = variables
            logical = (n, outer * block + lane, *spatial)
        bounds = {v: (0, extent - 1) for v, extent in zip(variables, physical, strict=True)}
        e = _tidy(as_expr(fn(*logical)), bounds)
        if block and shape[1] % block and 0 not in physical:
            e = _guard_tail(e, simplify(logical[1] < shape[1], bounds), bounds)
        return e

    return compute(physical, named(body, names), name, tag=tag, attrs=attrs)


def named(fn: Callable[..., ExprLike], names: Sequence[str]) -> Callable[..., ExprLike]:
    """Give a function of any number of indices parameter names, from which ``compute`` names the axes."""
    parameter = inspect.Parameter
    fn.__signature__ = inspect.Signature([parameter(n, parameter.POSITIONAL_ONLY) for n in names])  # type: ignore[attr-defined]
    return fn


def axis_names(rank: int) -> list[str]:
    """Names of the logical dimensions: image tensors by their meaning, others by position."""
    match rank:
        case 2:
            return ["n", "c"]
        case 3:
            return ["n", "c", "w"]
        case 4:
            return ["n", "c", "h", "w"]
        case 5:
            return ["n", "c", "d", "h", "w"]
        case _:
            return [f"i{d}" for d in range(rank)]


@dataclass(frozen=True, slots=True)
class ReducedChannels:
    """A reduction over channels: its axes, the channel, and where it exists (None: at every point of the axes)."""

    axes: tuple[Axis, ...]
    index: Expr
    where: Expr | None


def reduce_channels(x: Operand, name: str = "rc") -> ReducedChannels:
    """Axes over all channels of ``x``, in blocks if it is blocked; tail lanes are excluded."""
    channels = x.shape[1]
    if not x.block:
        k = reduce_axis(channels, name)
        return ReducedChannels((k,), k.var, None)
    outer = reduce_axis(-(-channels // x.block), f"{name}_o")
    inner = reduce_axis(min(x.block, channels), f"{name}_i")
    index = outer.var * x.block + inner.var
    exists = index < channels if channels % x.block and channels > x.block else None
    return ReducedChannels((outer, inner), index, exists)


def conjunction(conditions: Sequence[Expr | None]) -> Expr | None:
    """All of the conditions that there are; None when there are none."""
    given = [c for c in conditions if c is not None]
    return all_of(*given) if given else None


# ------------------------------------------------------------------------------------------- parts


def _tidy(e: Expr, bounds: dict[Var, tuple[int, int]]) -> Expr:
    """Simplify indices and conditions; an index that is a mere variable stays that variable."""
    if isinstance(e, Reduce):
        bounds.update({a.var: (0, a.extent - 1) for a in e.axes})
    if any(low > high for low, high in bounds.values()):
        return e

    def visit(x: Expr) -> Expr | None:
        if isinstance(x, Read):
            indices = tuple(i if isinstance(i, Var) else simplify(i, bounds) for i in x.indices)
            return Read(x.source, indices, x.dtype)
        if isinstance(x, Compare) and x.a.dtype == INDEX:
            return simplify(x, bounds)
        if isinstance(x, Cast) and x.a.dtype == INDEX and not any(isinstance(y, Read) for y in walk(x.a)):
            return Cast(simplify(x.a, bounds), x.dtype)
        return None

    result = rewrite(e, visit)
    if isinstance(result, Reduce) and isinstance(result.where, Const) and result.where.value is True:
        result = Reduce(result.combiner, result.term, result.axes, None, result.dtype)
    return result


def _guard_tail(e: Expr, exists: Expr, bounds: Bounds) -> Expr:
    """Keep the lanes past the last channel, at which ``exists`` is false, from reading out of bounds, if they would."""
    if not _may_overrun(e, free_vars(exists), bounds):
        return e
    if isinstance(e, Reduce):
        where = exists if e.where is None else all_of(exists, e.where)
        return Reduce(e.combiner, e.term, e.axes, where, e.dtype)
    return select(exists, e, _zero(e.dtype))


def _may_overrun(e: Expr, channel: set[Var], bounds: Bounds) -> bool:
    """Whether an index that depends on the variables of the channel may be out of bounds."""
    for x in walk(e):
        if isinstance(x, Read):
            for index, size in zip(x.indices, x.source.shape, strict=True):
                low, high = bounds_of(index, bounds)
                if (low is None or high is None or low < 0 or high >= size) and channel & free_vars(index):
                    return True
    return False


def _zero(dtype: str) -> Const:
    return const(False) if dtype == "bool" else const(0, dtype)
