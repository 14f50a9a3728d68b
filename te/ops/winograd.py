"""Winograd convolution F(m x m, r x r) as tensor expressions (Lavin and Gray, CVPR 2016).

A tile of m x m outputs is computed from a x a inputs d, a = m + r - 1, and the r x r filter g as

    A^T [(G g G^T) * (B^T d B)] A

so that the sum over input channels becomes a^2 independent matrix products with a^2 multiplications for each tile and
channel pair in place of m^2 r^2. The matrices come from polynomial interpolation at the points 0, +-p, ..., infinity;
points that lie in pairs p, 1/p give a smaller rounding error than small integers do (Barabasz et al., ACM TOMS 2020,
study the choice; a = 5 has one point without its opposite). Errors measured on 64 channels of normal data, relative to
the largest output: a = 5: 1e-6, a = 6: 1.5e-6, a = 8: 4e-6 (r = 5) to 7e-6 (r = 3).

A convolution of stride 2 is the sum of stride-1 convolutions over the phases of the image: those of its even and of its
odd rows and columns, each with the taps that fall on it (polyphase decomposition). In one dimension r taps make
ceil(r / 2) even and floor(r / 2) odd ones. All phases share A^T, and are summed before it. The phase with one tap less
needs one interpolation point less; the point left out is 0, so that p, -p stay pairs. With a = m + ceil(r / 2) - 1 that
makes 2 a - 1 products in place of r m: 11 in place of 20 for F(4, 5). The transforms of both phases are the rows of one
matrix that has zeros in every other column, so that a tile is transformed straight from the image. Errors, measured as
above: below 1e-6.

Each one-dimensional transform is a stage whose element is picked by its position: with that loop unrolled, an
element is its own short sum. The stages, for channel-blocked images (n, c_o, h, w, c_i):

    rows, input    B^T d B    (t, ic_o, u, v, ic_i)
    filter_rows, filter       G g G^T    (u, v, oc, ic)
    product        the sum over input channels and phases    (t, oc_o, i, j, oc_i)
    columns, and the convolution itself    A^T M A

t numbers the tiles of all images, row by row; i and j are points; u and v are those of all phases, u = i for stride 1.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from math import prod, sqrt
from typing import cast

from ...errors import ExpressionError
from ..expr import Expr, Read, Reduce, Var, all_of, const, equal, select
from ..tensor import Compute, Source, Tensor, compute, reduce_axis
from ..tensor import sum as reduce_sum

NEAR, FAR = sqrt(0.5), sqrt(2.0)

POINTS: dict[int, tuple[float, ...]] = {
    4: (0.0, 1.0, -1.0),
    5: (0.0, NEAR, -NEAR, FAR),
    6: (0.0, NEAR, -NEAR, FAR, -FAR),
    8: (0.0, 5 / 9, -5 / 9, 1.0, -1.0, 9 / 5, -9 / 5),
}
"""For each a the interpolation points; infinity comes with them."""

SIZES: dict[int, dict[int, tuple[int, ...]]] = {
    1: {3: (2, 3, 4, 6), 5: (2, 4)},
    2: {3: (3, 5), 5: (2, 4), 7: (3,)},
}
"""For each stride and size of filter the m that are worth it: the filter grows with the square of stride * a."""


def tile_sizes(taps: int, stride: int = 1) -> list[int]:
    """The m for which there are transforms, for a filter of ``taps`` x ``taps``; none for sizes not in SIZES."""
    return list(SIZES.get(stride, {}).get(taps, ()))


@dataclass(frozen=True, slots=True)
class Transforms:
    """The matrices of F(m, r), as tuples of rows: output A^T (m x a), filter G (p x r), input B^T (p x d).

    p    points of all phases, phase after phase: a for stride 1, 2 a - 1 for stride 2
    d    inputs under a tile, stride * (m - 1) + r
    """

    output: tuple[tuple[float, ...], ...]
    filter: tuple[tuple[float, ...], ...]
    input: tuple[tuple[float, ...], ...]

    def place(self, point: Expr, phase: Expr) -> Expr:
        """Where the value of a phase at a point is among the rows of ``filter`` and ``input``; for point >= phase."""
        return point + phase * (len(self.output[0]) - 1)


@lru_cache
def transforms(m: int, taps: int = 3, stride: int = 1) -> Transforms:
    """Build the matrices by Lagrange interpolation (the Toom-Cook construction, transposed), for each phase."""
    if m not in tile_sizes(taps, stride):
        known = ", ".join(map(str, tile_sizes(taps, stride))) or "nothing"
        raise ExpressionError(f"winograd: m is {m}; for {taps} taps and stride {stride} it must be one of {known}")
    most = -(-taps // stride)
    points = POINTS[m + most - 1]
    output = tuple(tuple([p**i if i or p else 1.0 for p in points] + [1.0 if i == m - 1 else 0.0]) for i in range(m))
    kernel: list[tuple[float, ...]] = []
    data: list[tuple[float, ...]] = []
    for phase in range(stride):
        own = -(-(taps - phase) // stride)
        of_kernel, of_data = _interpolation(points[most - own :], own)
        kernel += [_spread(row, phase, stride, taps) for row in of_kernel]
        data += [_spread(row, phase, stride, stride * (m - 1) + taps) for row in of_data]
    return Transforms(output, tuple(kernel), tuple(data))


def applies(conv: Compute) -> bool:
    """Whether ``conv`` is one that these stages compute: over channel-blocked data, with stride and filter as in SIZES.

    Groups must be of whole blocks of channels.
    """
    attrs = conv.attrs
    if conv.tag != "conv2d" or len(conv.shape) != 5 or len(conv.reduce_axes) != 4 or 0 in conv.shape:
        return False
    block, groups = conv.shape[4], int(cast(int, attrs["groups"]))
    inputs, outputs = int(cast(int, attrs["in_channels"])), int(cast(int, attrs["out_channels"]))
    filters = {(stride, stride): [(t, t) for t in sizes] for stride, sizes in SIZES.items()}
    return (
        attrs.get("kernel") in filters.get(cast(tuple[int, int], attrs.get("strides")), [])
        and attrs.get("dilations") == (1, 1)
        and attrs.get("in_block") == attrs.get("out_block") == block
        and (groups == 1 or (inputs // groups % block == 0 and outputs // groups % block == 0))
    )


def winograd(conv: Compute, m: int = 4) -> Compute:
    """The same convolution by F(m x m, r x r): a compute of the same shape, over the stages that the module describes.

    Raises ExpressionError where :func:`applies` does not hold.
    """
    if not applies(conv):
        raise ExpressionError(
            f"winograd: {conv!r} is not a convolution over blocked channels with "
            "a filter of 3x3 or 5x5, or of stride 2 with one of 3x3, 5x5 or 7x7"
        )
    assert isinstance(conv.body, Reduce)
    data, weight = _operands(conv)
    taps = cast(tuple[int, ...], conv.attrs["kernel"])[0]
    stride = cast(tuple[int, ...], conv.attrs["strides"])[0]
    t = transforms(m, taps, stride)
    n, oc_blocks, height, width, block = conv.shape
    ic_blocks, in_height, in_width = data.shape[1:4]
    groups = int(cast(int, conv.attrs["groups"]))
    channels = int(cast(int, conv.attrs["in_channels"])) // groups
    top, left = cast(tuple[int, ...], conv.attrs["pads"])[:2]
    a, places, extent = len(t.output[0]), len(t.input), len(t.input[0])
    tiles_y, tiles_x = -(-height // m), -(-width // m)

    tiles = n * tiles_y * tiles_x

    def pixel(b: Expr, c: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        inside = all_of(y >= 0, y < in_height, x >= 0, x < in_width)
        return select(inside, data[b, c, y, x, lane], const(0.0, data.dtype))

    def row(t_: Var, ic_o: Var, i: Var, s: Var, ic_i: Var) -> Expr:
        line, tx = t_ // tiles_x, t_ % tiles_x
        image, ty = (line // tiles_y, line % tiles_y) if n > 1 else (const(0, "int64"), line)
        y, x = ty * (m * stride), tx * (m * stride) + s - left
        return _transformed(t.input, i, lambda r: pixel(image, ic_o, y + (r - top), x, ic_i), stride)

    rows = compute((tiles, ic_blocks, places, extent, block), row, name="rows")
    transformed = compute(
        (tiles, ic_blocks, places, places, block),
        lambda t_, ic_o, i, j, ic_i: _transformed(t.input, j, lambda s: rows[t_, ic_o, i, s, ic_i], stride),
        name="input",
    )
    out_channels = oc_blocks * block
    filter_rows = compute(
        (places, taps, out_channels, channels),
        lambda i, s, oc, ic: _transformed(t.filter, i, lambda r: weight[oc, ic, r, s], stride),
        name="filter_rows",
    )
    kernel = compute(
        (places, places, out_channels, channels),
        lambda i, j, oc, ic: _transformed(t.filter, j, lambda s: filter_rows[i, s, oc, ic], stride),
        name="filter",
    )
    group_blocks = ic_blocks // groups
    k_o, k_i = reduce_axis(group_blocks, "ic_o"), reduce_axis(min(block, channels), "ic_i")

    phases = [reduce_axis(stride, name) for name in ("phase_y", "phase_x")] if stride > 1 else []

    def channel_sum(t_: Var, oc_o: Var, i: Var, j: Var, oc_i: Var) -> Reduce:
        ic = k_o.var * block + k_i.var
        first = oc_o // (oc_blocks // groups) * group_blocks if groups > 1 else 0
        exists = [ic < channels] if channels % block and group_blocks > 1 else []
        u: Expr = i
        v: Expr = j
        if phases:
            u, v = (t.place(point, phase.var) for point, phase in zip((i, j), phases, strict=True))
            exists += [point >= phase.var for point, phase in zip((i, j), phases, strict=True)]
        term = transformed[t_, first + k_o, u, v, k_i] * kernel[u, v, oc_o * block + oc_i, ic]
        return reduce_sum(term, (*phases, k_o, k_i), where=all_of(*exists) if exists else None)

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


def _interpolation(points: Sequence[float], taps: int) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """The rows of G and of B^T for ``points`` and infinity."""
    finite = len(points)
    scale = [prod(p - q for q in points if q != p) for p in points]
    kernel = [tuple(p**k / f if k or p else 1.0 / f for k in range(taps)) for p, f in zip(points, scale, strict=True)]
    kernel.append((0.0,) * (taps - 1) + (1.0,))
    data = [_polynomial([q for q in points if q != p], finite + 1) for p in points]
    data.append(_polynomial(points, finite + 1))
    return kernel, data


def _spread(row: Sequence[float], phase: int, stride: int, length: int) -> tuple[float, ...]:
    """The row with its elements at every ``stride``-th position from ``phase`` on, and zeros elsewhere."""
    result = [0.0] * length
    result[phase : phase + stride * len(row) : stride] = row
    return tuple(result)


def _polynomial(roots: Sequence[float], length: int) -> tuple[float, ...]:
    """Coefficients of the product of (x - root), lowest first, filled up with zeros."""
    coefficients = [1.0]
    for root in roots:
        shifted = [0.0, *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, 0.0], strict=True)]
    return tuple(round(c, 12) + 0.0 for c in coefficients) + (0.0,) * (length - len(coefficients))


def _transformed(
    matrix: Sequence[Sequence[float]], position: Expr, element: Callable[[int], Expr], stride: int = 1
) -> Expr:
    """Element ``position`` of matrix times vector, chosen by selects that vanish where the position is a constant."""
    element = cache(element)  # one node for each element, however many rows it is in
    pairs = _opposite_columns(matrix)

    @cache
    def combined(k: int, sign: int) -> Expr:
        return element(k) + element(k + 1) if sign > 0 else element(k) - element(k + 1)

    rows = [_dot_of_pairs(row, pairs, element, combined) if pairs else _dot(row, element, stride) for row in matrix]
    result = rows[-1]
    for p in reversed(range(len(matrix) - 1)):
        result = select(equal(position, p), rows[p], result)
    return result


def _opposite_columns(matrix: Sequence[Sequence[float]]) -> frozenset[int]:
    """Columns that differ from the next one in signs alone: powers of p, before those of -p."""
    columns = list(zip(*matrix, strict=True))
    return frozenset(
        k for k, (one, next_) in enumerate(pairwise(columns)) if one != next_ and [*map(abs, one)] == [*map(abs, next_)]
    )


def _dot_of_pairs(
    row: Sequence[float],
    pairs: Container[int],
    element: Callable[[int], Expr],
    combined: Callable[[int, int], Expr],
) -> Expr:
    """The sum of the non-zero terms, of which those of a pair are added or subtracted before they are multiplied: the
    rows have these sums in common.

    combined  of a pair's first column the sum with the next one, or with -1 the difference
    """
    total: Expr | None = None
    for k, c in enumerate(row):
        if not c or k - 1 in pairs:
            continue
        value = combined(k, 1 if c == row[k + 1] else -1) if k in pairs else element(k)
        term = value if c == 1.0 else value * c
        total = term if total is None else total + term
    assert total is not None
    return total


def _dot(row: Sequence[float], element: Callable[[int], Expr], stride: int) -> Expr:
    """The sum of the non-zero terms: those at even positions of their phase, then those at odd ones.

    The rows of opposite interpolation points differ in the sign of the odd part alone, so the parts are common
    subexpressions.
    """
    parts: list[tuple[float, Expr]] = []
    for parity in (0, 1):
        terms = [(k, c) for k, c in enumerate(row) if c and k // stride % 2 == parity]
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
