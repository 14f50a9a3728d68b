"""Operators that select parts of tensors or put them together: slice, concat, split, pad, gather. Tag ``injective``.

A read in the side of a ``select`` that is not taken never happens, so that padding and concatenation need no guard
of their own. Every function takes ``block``, the layout of the result (default: plain).
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ExpressionError
from ..expr import Expr, ExprLike, all_of, any_of, cast, const, equal, maximum, minimum, select
from ..tensor import Compute
from .operand import Operand, OperandLike, define, operand


def strided_slice(
    x: OperandLike,
    axes: Sequence[int],
    starts: Sequence[int],
    steps: Sequence[int],
    sizes: Sequence[int],
    *,
    block: int = 0,
    name: str = "slice",
) -> Compute:
    """Take ``sizes[k]`` elements from ``starts[k]`` on in steps of ``steps[k]`` (which may be negative) along
    ``axes[k]``."""
    a = operand(x)
    shape, begin, step = list(a.shape), [0] * a.rank, [1] * a.rank
    for axis, start, by, size in zip(axes, starts, steps, sizes, strict=True):
        last = start + (size - 1) * by
        if size and not (0 <= start < a.shape[axis] and 0 <= last < a.shape[axis]):
            raise ExpressionError(
                f"{name}: elements {start}..{last} along axis {axis} are outside of its {a.shape[axis]} elements"
            )
        shape[axis], begin[axis], step[axis] = size, start, by
    return define(
        shape,
        lambda *i: a.at(*(v * s + b for v, b, s in zip(i, begin, step, strict=True))),
        block=block,
        name=name,
    )


def concat(parts: Sequence[OperandLike], axis: int, *, block: int = 0) -> Compute:
    """Put tensors one after another along ``axis``."""
    xs = [operand(p) for p in parts]
    kept = [x for x in xs if x.shape[axis]] or xs[:1]
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    for x in xs:
        if x.rank != len(shape) or any(
            s != t for d, (s, t) in enumerate(zip(x.shape, shape, strict=True)) if d != axis
        ):
            raise ExpressionError(f"concat: shapes {', '.join(str(y.shape) for y in xs)} differ outside of axis {axis}")

    def body(*i: Expr) -> Expr:
        def element(x: Operand, begin: int) -> Expr:
            return x.at(*i[:axis], i[axis] - begin, *i[axis + 1 :])

        begin = shape[axis] - kept[-1].shape[axis]
        result = element(kept[-1], begin)
        for x in reversed(kept[:-1]):
            end, begin = begin, begin - x.shape[axis]
            result = select(i[axis] < end, element(x, begin), result)
        return result

    return define(shape, body, block=block, name="concat")


def split(x: OperandLike, axis: int, sizes: Sequence[int], *, blocks: Sequence[int] | None = None) -> list[Compute]:
    """Cut ``x`` along ``axis`` into pieces of ``sizes``; ``blocks`` are the layouts of the results."""
    results, begin = [], 0
    for size, block in zip(sizes, blocks or [0] * len(sizes), strict=True):
        results.append(strided_slice(x, [axis], [begin], [1], [size], block=block, name="split"))
        begin += size
    return results


def pad(x: OperandLike, pads: Sequence[int], mode: str = "constant", value: float = 0.0, *, block: int = 0) -> Compute:
    """Add elements around ``x``; a negative number removes them.

    pads  begins of all dimensions, then ends
    mode  constant (``value``), edge (the nearest element), reflect (mirrored at the edge element) or wrap (periodic)
    """
    a = operand(x)
    before, after = list(pads[: a.rank]), list(pads[a.rank :])
    shape = [size + b + e for size, b, e in zip(a.shape, before, after, strict=True)]

    def body(*i: Expr) -> Expr:
        source = [v - b for v, b in zip(i, before, strict=True)]
        if mode == "constant":
            inside: list[Expr] = []
            for d, position in enumerate(source):
                inside += [position >= 0] if before[d] > 0 else []
                inside += [position < a.shape[d]] if after[d] > 0 else []
            fill = const(value) if a.dtype == "bool" else const(value if "float" in a.dtype else int(value), a.dtype)
            return select(all_of(*inside), a.at(*source), fill)
        mapped = [_mapped(p, n, b, e, mode) for p, n, b, e in zip(source, a.shape, before, after, strict=True)]
        return a.at(*mapped)

    return define(shape, body, block=block, name="pad")


def gather(x: OperandLike, indices: OperandLike, axis: int = 0, *, block: int = 0) -> Compute:
    """Take the slices of ``x`` along ``axis`` at ``indices``, which count from the end when negative."""
    a, at = operand(x), operand(indices)

    def body(*i: Expr) -> Expr:
        inner = i[axis : axis + at.rank]
        return a.at(*i[:axis], _wrapped(at.at(*inner), a.shape[axis]), *i[axis + at.rank :])

    shape = (*a.shape[:axis], *at.shape, *a.shape[axis + 1 :])
    return define(shape, body, block=block, name="gather")


def gather_elements(x: OperandLike, indices: OperandLike, axis: int = 0) -> Compute:
    """Element i of the result is ``x`` at i, with the index along ``axis`` replaced by ``indices[i]``."""
    a, at = operand(x), operand(indices)

    def body(*i: Expr) -> Expr:
        return a.at(*i[:axis], _wrapped(at.at(*i), a.shape[axis]), *i[axis + 1 :])

    return define(at.shape, body, name="gather_elements")


def gather_nd(x: OperandLike, indices: OperandLike, batch_dims: int = 0) -> Compute:
    """The last dimension of ``indices`` holds the leading indices of the slices of ``x`` to take."""
    a, at = operand(x), operand(indices)
    depth = at.shape[-1]
    lead = at.rank - 1

    def body(*i: Expr) -> Expr:
        picked = [_wrapped(at.at(*i[:lead], k), a.shape[batch_dims + k]) for k in range(depth)]
        return a.at(*i[:batch_dims], *picked, *i[lead:])

    return define((*at.shape[:-1], *a.shape[batch_dims + depth :]), body, name="gather_nd")


def one_hot(indices: OperandLike, depth: int, values: OperandLike, axis: int) -> Compute:
    """``values[1]`` at position ``indices[...]`` of the new dimension ``axis``, ``values[0]`` elsewhere.

    Negative indices count from the end; others out of range give ``values[0]`` throughout.
    """
    at, pair = operand(indices), operand(values)

    def body(*i: Expr) -> Expr:
        wanted = cast(at.at(*i[:axis], *i[axis + 1 :]), "int64")
        hit = any_of(equal(wanted, i[axis]), equal(wanted + depth, i[axis]))
        return select(hit, pair.at(1), pair.at(0))

    return define((*at.shape[:axis], depth, *at.shape[axis:]), body, name="one_hot")


def triangle(x: OperandLike, k: ExprLike, upper: bool, *, block: int = 0) -> Compute:
    """Keep the elements on and above (``upper``) or below the ``k``-th diagonal of the last two dimensions; 0
    elsewhere."""
    a = operand(x)

    def body(*i: Expr) -> Expr:
        row, column = i[-2] + k, i[-1]
        zero = const(False) if a.dtype == "bool" else const(0, a.dtype)
        return select(column >= row if upper else column <= row, a.at(*i), zero)

    return define(a.shape, body, block=block, name="trilu")


def reverse_sequence(x: OperandLike, lengths: OperandLike, batch_axis: int, time_axis: int) -> Compute:
    """Reverse the first ``lengths[b]`` elements along ``time_axis`` of each ``b`` along ``batch_axis``; the rest
    stays."""
    a, count = operand(x), operand(lengths)

    def body(*i: Expr) -> Expr:
        length, t = cast(count.at(i[batch_axis]), "int64"), i[time_axis]
        return a.at(*i[:time_axis], select(t < length, (length - 1) - t, t), *i[time_axis + 1 :])

    return define(a.shape, body, name="reverse_sequence")


# ------------------------------------------------------------------------------------------- parts


def _wrapped(index: Expr, size: int) -> Expr:
    """An index from data, counted from the front."""
    index = cast(index, "int64")
    return select(index < 0, index + size, index)


def _mapped(position: Expr, size: int, before: int, after: int, mode: str) -> Expr:
    """Where a position outside of ``0 .. size - 1`` takes its value from."""
    if before <= 0 and after <= 0:
        return position
    match mode:
        case "edge":
            return minimum(maximum(position, 0), size - 1)
        case "wrap":
            return position % size
        case "reflect":
            if size == 1:
                return const(0)
            period = 2 * (size - 1)
            folded = position % period
            return minimum(folded, period - folded)
        case _:
            raise ExpressionError(f"pad: mode is {mode!r}, but must be constant, edge, reflect or wrap")
