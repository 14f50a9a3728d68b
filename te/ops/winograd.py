"""Winograd convolution F(m x m, r x r) as tensor expressions (Lavin and Gray, CVPR 2016).

A tile of m x m outputs is computed from a x a inputs d, a = m + r - 1, and the r x r filter g as

    A^T [(G g G^T) * (B^T d B)] A

so that the sum over input channels becomes a^2 independent matrix products with a^2 multiplications for each tile and
channel pair in place of m^2 r^2. The matrices come from polynomial interpolation at the points 0, +-p, ..., infinity;
points that lie in pairs p, 1/p give a smaller rounding error than small integers do (Barabasz et al., ACM TOMS 2020,
study the choice). Errors measured on 64 channels of normal data, relative to the largest output: a = 6: 1.5e-6, a = 8:
4e-6 (r = 5) to 7e-6 (r = 3).

Each one-dimensional transform is a stage whose element is picked by its position: with that loop unrolled, an
element is its own short sum. The stages, for channel-blocked images (n, c_o, h, w, c_i):

    rows, input    B^T d B    (t, ic_o, i, j, ic_i)
    filter_rows, filter       G g G^T    (i, j, oc, ic)
    product        the sum over input channels    (t, oc_o, i, j, oc_i)
    columns, and the convolution itself    A^T M A

t numbers the tiles of all images, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod, sqrt
from typing import cast

from ...errors import ExpressionError
from ..expr import Expr, Read, Reduce, Var, all_of, const, equal, select
from ..tensor import Compute, Source, Tensor, compute, reduce_axis
from ..tensor import sum as reduce_sum

POINTS: dict[int, tuple[float, ...]] = {4: (1.0,), 6: (sqrt(0.5), sqrt(2.0)), 8: (5 / 9, 1.0, 9 / 5)}
"""For each a the positive interpolation points; 0, their negatives and infinity come with them."""

TAPS = (3, 5)
"""Sizes of the filters that are worth it."""


def tile_sizes(taps: int) -> list[int]:
    """The m for which there are transforms, for a filter of ``taps`` x ``taps``; none for sizes not in TAPS."""
    return [a - taps + 1 for a in POINTS if a - taps + 1 > 1] if taps in TAPS else []


@dataclass(frozen=True, slots=True)
class Transforms:
    """The matrices of F(m, r), as tuples of rows: output A^T (m x a), filter G (a x r), input B^T (a x a)."""

    output: tuple[tuple[float, ...], ...]
    filter: tuple[tuple[float, ...], ...]
    input: tuple[tuple[float, ...], ...]


@lru_cache
def transforms(m: int, taps: int = 3) -> Transforms:
    """Build the matrices by Lagrange interpolation (the Toom-Cook construction, transposed)."""
    if m not in tile_sizes(taps):
        known = ", ".join(map(str, tile_sizes(taps))) or "nothing"
        raise ExpressionError(f"winograd: m is {m}; for {taps} taps it must be one of {known}")
    points = [0.0]
    for p in POINTS[m + taps - 1]:
        points += [p, -p]
    finite = len(points)
    output = tuple(tuple([p**i if i or p else 1.0 for p in points] + [1.0 if i == m - 1 else 0.0]) for i in range(m))
    scale = [prod(p - q for q in points if q != p) for p in points]
    kernel = [tuple(p**k / f if k or p else 1.0 / f for k in range(taps)) for p, f in zip(points, scale, strict=True)]
    kernel.append((0.0,) * (taps - 1) + (1.0,))
    data = [_polynomial([q for q in points if q != p], finite + 1) for p in points]
    data.append(_polynomial(points, finite + 1))
    return Transforms(output, tuple(kernel), tuple(data))


def applies(conv: Compute) -> bool:
    """Whether ``conv`` is a 3x3 or 5x5 convolution of stride 1 over channel-blocked data that these stages can compute.

    Groups must be of whole blocks of channels.
    """
    attrs = conv.attrs
    if conv.tag != "conv2d" or len(conv.shape) != 5 or len(conv.reduce_axes) != 4 or 0 in conv.shape:
        return False
    block, groups = conv.shape[4], int(cast(int, attrs["groups"]))
    inputs, outputs = int(cast(int, attrs["in_channels"])), int(cast(int, attrs["out_channels"]))
    return (
        attrs.get("kernel") in [(t, t) for t in TAPS]
        and attrs.get("strides") == (1, 1)
        and attrs.get("dilations") == (1, 1)
        and attrs.get("in_block") == attrs.get("out_block") == block
        and (groups == 1 or (inputs // groups % block == 0 and outputs // groups % block == 0))
    )


def winograd(conv: Compute, m: int = 4) -> Compute:
    """The same convolution by F(m x m, r x r): a compute of the same shape, over the stages that the module describes.

    Raises ExpressionError where :func:`applies` does not hold.
    """
    if not applies(conv):
        raise ExpressionError(f"winograd: {conv!r} is not a 3x3 or 5x5 convolution of stride 1 over blocked channels")
    assert isinstance(conv.body, Reduce)
    data, weight = _operands(conv)
    taps = cast(tuple[int, ...], conv.attrs["kernel"])[0]
    t = transforms(m, taps)
    n, oc_blocks, height, width, block = conv.shape
    ic_blocks, in_height, in_width = data.shape[1:4]
    groups = int(cast(int, conv.attrs["groups"]))
    channels = int(cast(int, conv.attrs["in_channels"])) // groups
    top, left = cast(tuple[int, ...], conv.attrs["pads"])[:2]
    a = m + taps - 1
    tiles_y, tiles_x = -(-height // m), -(-width // m)

    tiles = n * tiles_y * tiles_x

    def pixel(b: Expr, c: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        inside = all_of(y >= 0, y < in_height, x >= 0, x < in_width)
        return select(inside, data[b, c, y, x, lane], const(0.0, data.dtype))

    def row(t_: Var, ic_o: Var, i: Var, s: Var, ic_i: Var) -> Expr:
        line, tx = t_ // tiles_x, t_ % tiles_x
        image, ty = (line // tiles_y, line % tiles_y) if n > 1 else (const(0, "int64"), line)
        return _transformed(t.input, i, lambda r: pixel(image, ic_o, ty * m + (r - top), tx * m + s - left, ic_i))

    rows = compute((tiles, ic_blocks, a, a, block), row, name="rows")
    transformed = compute(
        rows.shape,
        lambda t_, ic_o, i, j, ic_i: _transformed(t.input, j, lambda s: rows[t_, ic_o, i, s, ic_i]),
        name="input",
    )
    out_channels = oc_blocks * block
    filter_rows = compute(
        (a, taps, out_channels, channels),
        lambda i, s, oc, ic: _transformed(t.filter, i, lambda r: weight[oc, ic, r, s]),
        name="filter_rows",
    )
    kernel = compute(
        (a, a, out_channels, channels),
        lambda i, j, oc, ic: _transformed(t.filter, j, lambda s: filter_rows[i, s, oc, ic]),
        name="filter",
    )
    group_blocks = ic_blocks // groups
    k_o, k_i = reduce_axis(group_blocks, "ic_o"), reduce_axis(min(block, channels), "ic_i")

    def channel_sum(t_: Var, oc_o: Var, i: Var, j: Var, oc_i: Var) -> Reduce:
        ic = k_o.var * block + k_i.var
        first = oc_o // (oc_blocks // groups) * group_blocks if groups > 1 else 0
        term = transformed[t_, first + k_o, i, j, k_i] * kernel[i, j, oc_o * block + oc_i, ic]
        return reduce_sum(term, (k_o, k_i), where=ic < channels if channels % block and group_blocks > 1 else None)

    product = compute(
        (tiles, oc_blocks, a, a, block),
        channel_sum,
        name="product",
        tag="winograd_product",
    )
    columns = compute(
        (tiles, oc_blocks, m, a, block),
        lambda t_, oc_o, y, j, oc_i: _transformed(t.output, y, lambda i: product[t_, oc_o, i, j, oc_i]),
        name="columns",
    )

    def pixel_out(b: Var, oc_o: Var, y: Var, x: Var, oc_i: Var) -> Expr:
        tile = (b * tiles_y + y // m) * tiles_x + x // m
        return _transformed(t.output, x % m, lambda j: columns[tile, oc_o, y % m, j, oc_i])

    return compute(conv.shape, pixel_out, name=conv.name, tag="winograd", attrs={"m": m})


# ------------------------------------------------------------------------------------------- parts


def _operands(conv: Compute) -> tuple[Tensor, Source]:
    """The data and the weights: the reads of the product that is summed, in order."""
    assert isinstance(conv.body, Reduce)
    data, weight = (r.source for r in conv.reads() if isinstance(r, Read))
    return cast(Tensor, data), weight


def _polynomial(roots: Sequence[float], length: int) -> tuple[float, ...]:
    """Coefficients of the product of (x - root), lowest first, filled up with zeros."""
    coefficients = [1.0]
    for root in roots:
        shifted = [0.0, *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, 0.0], strict=True)]
    return tuple(round(c, 12) + 0.0 for c in coefficients) + (0.0,) * (length - len(coefficients))


def _transformed(matrix: Sequence[Sequence[float]], position: Expr, element: Callable[[int], Expr]) -> Expr:
    """Element ``position`` of matrix times vector, chosen by selects that vanish where the position is a constant."""
    element = cache(element)  # one node for each element, however many rows it is in
    result = _dot(matrix[-1], element)
    for p in reversed(range(len(matrix) - 1)):
        result = select(equal(position, p), _dot(matrix[p], element), result)
    return result


def _dot(row: Sequence[float], element: Callable[[int], Expr]) -> Expr:
    """The sum of the non-zero terms: those at even positions, then those at odd ones.

    The rows of opposite interpolation points differ in the sign of the odd part alone, so the parts are common
    subexpressions.
    """
    parts: list[tuple[float, Expr]] = []
    for parity in (0, 1):
        terms = [(k, c) for k, c in enumerate(row) if c and k % 2 == parity]
        if not terms:
            continue
        lead = terms[-1][1]
        sign = 1.0 if lead > 0 else -1.0
        total: Expr | None = None
        for k, c in terms:
            value = c * sign
            term = element(k) if value == 1.0 else element(k) * value
            total = term if total is None else total + term
        assert total is not None
        parts.append((sign, total))
    (first_sign, result), *rest = parts
    if rest:
        second_sign, second = rest[0]
        if first_sign > 0:
            return result + second if second_sign > 0 else result - second
        return second - result if second_sign > 0 else 0.0 - (result + second)
    return result if first_sign > 0 else 0.0 - result
