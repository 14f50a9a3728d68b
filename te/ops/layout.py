"""Operators that move elements and change none: layout conversion, reshape, transpose and their kin. Tag
``injective``.

Each is index arithmetic: element ``i`` of the result is element ``f(i)`` of the operand. Every function takes
``block``, the layout of the result (default: plain), so that a conversion costs nothing beside the operator. Next:
:mod:`.indexing`, where parts are selected or put together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...errors import ExpressionError
from ..expr import Expr, cast, const, equal, select
from ..tensor import Compute
from .operand import OperandLike, broadcast_shapes, define, operand


def layout_convert(x: OperandLike, block: int) -> Compute:
    """Store ``x`` in blocks of ``block`` channels (0: plain). Lanes past the last channel are filled with 0."""
    a = operand(x)
    return define(a.shape, a.at, block=block, name="layout_convert", tag="layout")


def reshape(x: OperandLike, shape: Sequence[int], *, block: int = 0, name: str = "reshape") -> Compute:
    """Give the elements of ``x``, in row-major order, another shape.

    Errors: ExpressionError when the number of elements differs.
    """
    a = operand(x)
    if math.prod(a.shape) != math.prod(shape):
        raise ExpressionError(
            f"{name}: {a.shape} has {math.prod(a.shape)} elements, but the shape {tuple(shape)} has {math.prod(shape)}"
        )
    groups = _aligned(a.shape, shape)

    def body(*i: Expr) -> Expr:
        source: list[Expr] = []
        for own, other in groups:
            flat = _flatten([i[d] for d in other], [shape[d] for d in other])
            source.extend(_unflatten(flat, [a.shape[d] for d in own]))
        return a.at(*source)

    return define(shape, body, block=block, name=name)


def transpose(x: OperandLike, perm: Sequence[int], *, block: int = 0) -> Compute:
    """Dimension ``d`` of the result is dimension ``perm[d]`` of ``x``."""
    a = operand(x)
    if sorted(perm) != list(range(a.rank)):
        raise ExpressionError(f"transpose: perm is {tuple(perm)}, but must be a permutation of 0..{a.rank - 1}")
    source = [list(perm).index(d) for d in range(a.rank)]
    shape = [a.shape[p] for p in perm]
    return define(shape, lambda *i: a.at(*(i[d] for d in source)), block=block, name="transpose")


def expand(x: OperandLike, shape: Sequence[int], *, block: int = 0) -> Compute:
    """Broadcast ``x`` against ``shape``."""
    a = operand(x)
    target = broadcast_shapes(a.shape, shape)
    return define(target, lambda *i: a.broadcast_at(i, target), block=block, name="expand")


def tile(x: OperandLike, repeats: Sequence[int], *, block: int = 0) -> Compute:
    """Repeat ``x`` along each dimension."""
    a = operand(x)
    shape = [size * r for size, r in zip(a.shape, repeats, strict=True)]
    return define(
        shape,
        lambda *i: a.at(*(v % max(size, 1) for v, size in zip(i, a.shape, strict=True))),
        block=block,
        name="tile",
    )


def depth_to_space(x: OperandLike, size: int, mode: str = "DCR", *, block: int = 0) -> Compute:
    """Move channels into ``size`` x ``size`` squares of the image; mode DCR (depth, column, row) or CRD."""
    a = operand(x)
    n, c, h, w = a.shape
    channels = c // (size * size)

    def body(n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
        offset = (h % size) * size + w % size
        channel = offset * channels + c if mode == "DCR" else c * (size * size) + offset
        return a.at(n, channel, h // size, w // size)

    return define((n, channels, h * size, w * size), body, block=block, name="depth_to_space")


def space_to_depth(x: OperandLike, size: int, mode: str = "DCR", *, block: int = 0) -> Compute:
    """Move ``size`` x ``size`` squares of the image into channels; the inverse of :func:`depth_to_space`."""
    a = operand(x)
    n, c, h, w = a.shape
    square = size * size

    def body(n: Expr, k: Expr, h: Expr, w: Expr) -> Expr:
        offset, channel = (k // c, k % c) if mode == "DCR" else (k % square, k // square)
        return a.at(n, channel, h * size + offset // size, w * size + offset % size)

    return define((n, c * square, h // size, w // size), body, block=block, name="space_to_depth")


def channel_shuffle(x: OperandLike, groups: int, *, block: int = 0) -> Compute:
    """Interleave groups of channels: channel ``g * (C / groups) + k`` goes to ``k * groups + g``."""
    a = operand(x)
    if a.shape[1] % groups:
        raise ExpressionError(f"channel_shuffle: groups is {groups}, but must divide the {a.shape[1]} channels")
    size = a.shape[1] // groups

    def body(n: Expr, c: Expr, *spatial: Expr) -> Expr:
        return a.at(n, (c % groups) * size + c // groups, *spatial)

    return define(a.shape, body, block=block, name="channel_shuffle")


def full(shape: Sequence[int], value: float, dtype: str, *, block: int = 0) -> Compute:
    """A tensor of one value."""
    return define(shape, lambda *i: const(value, dtype), block=block, name="full")


def eye(shape: Sequence[int], k: int, dtype: str) -> Compute:
    """A matrix with 1 on its ``k``-th diagonal (above the main one when positive), 0 elsewhere."""
    one, zero = (const(True), const(False)) if dtype == "bool" else (const(1, dtype), const(0, dtype))
    return define(shape, lambda i, j: select(equal(i + k, j), one, zero), name="eye")


def arange(count: int, start: OperandLike, step: OperandLike, dtype: str) -> Compute:
    """``start + i * step`` for i below ``count``; start and step hold one element."""
    first, by = operand(start), operand(step)
    return define(
        (count,), lambda i: first.at(*(0,) * first.rank) + cast(i, dtype) * by.at(*(0,) * by.rank), name="arange"
    )


# ------------------------------------------------------------------------------------------- parts


def _flatten(indices: Sequence[Expr], shape: Sequence[int]) -> Expr:
    flat: Expr = const(0)
    for i, size in zip(indices, shape, strict=True):
        flat = flat * size + i if size != 1 else flat
    return flat


def _unflatten(flat: Expr, shape: Sequence[int]) -> list[Expr]:
    result: list[Expr] = []
    stride = math.prod(shape)
    outermost = True
    for size in shape:
        stride //= max(size, 1)
        if size == 1:
            result.append(const(0))
            continue
        quotient = flat // max(stride, 1)
        result.append(quotient if outermost else quotient % max(size, 1))
        outermost = False
    return result


def _aligned(a: Sequence[int], b: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Cut two shapes of equally many elements into the finest runs of dimensions whose products agree.

    Index arithmetic then stays within a run, which keeps it simple: (2, 3, 4) and (2, 12) give (2)(2) and (3, 4)(12).
    """
    if 0 in a:
        return [(list(range(len(a))), list(range(len(b))))]
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(a) or j < len(b):
        own, other = [], []
        left = right = 1
        if i < len(a):
            own.append(i)
            left *= a[i]
            i += 1
        if j < len(b):
            other.append(j)
            right *= b[j]
            j += 1
        while left != right:
            if left < right:
                own.append(i)
                left *= a[i]
                i += 1
            else:
                other.append(j)
                right *= b[j]
                j += 1
        groups.append((own, other))
    return groups
