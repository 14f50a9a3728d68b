"""Winograd convolution, block of tiles by block of tiles.

One block is some rows of tiles. For each block: transform its input for all channels; then for each group of output
channels
the (m + 2)^2 matrix products, and the inverse transform tile by tile with the epilogue. The transformed input of a
block is to stay in
the second-level cache, the transformed filter is made when the model is built and packed in the order in which it is
read.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...target import Target
from ...te.tensor import Compute
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .common import fuse_all, register_tiles, step_cycles, tail_cut, tile_parts


def winograd(s: Schedule, d: Decider, target: Target, conv: Stage, out: Stage, m: int) -> None:
    """Schedule ``conv``, a stage that ``out`` reads element by element, as F(m x m, 3 x 3)."""
    lanes = target.lanes()
    size = Size.of(conv.tensor, m)
    stages = s.use_algorithm(conv, "winograd", {"m": m})
    rows, data, filter_rows, kernel, product, columns = stages
    s.compute_inline(conv)
    product_tile = s.cache_write(product)
    height, width = out.tensor.shape[2:4]

    whole = d.choose("input", ["block", "whole"], "whole" if prefers_whole(size, target) else "block") == "whole"
    block_options = sorted({b for b in (1, 2, 3, 4, 6, 7, 8, 14) if b < size.tiles_y} | {size.tiles_y})
    block = d.choose("tile_rows", block_options, default_rows(size, block_options, whole, target))
    tiles = list(register_tiles((1, 2, 3, 4), range(1, 15), (1, 2, 4), target))
    tiles = [t for t in tiles if t[0] <= block and t[1] <= size.tiles_x and t[2] <= size.out_blocks]
    best = min(tiles, key=lambda t: _product_cost(t, block, size, target))
    tile_y, tile_x, vectors = d.choose("product_tile", [list(t) for t in tiles], list(best))
    groups = channel_groups(size.out_blocks, vectors)
    group = d.choose("channel_group", groups, max((g for g in groups if g <= max(6, vectors)), default=groups[0]))
    steps = d.choose("unroll_channels", [1, 2, 4], 1 if tile_y * tile_x * vectors >= 20 else 2)

    n, co, oh, ow, ci = out.leaves
    ty, i = s.split(out, oh, m, tail="guard")
    tx, j = s.split(out, ow, m, tail="guard")
    ty_o, ty_i = s.split(out, ty, block, tail="guard")
    co_o, co_i = s.split(out, co, group, tail="guard")
    outer = [co_o, ty_o] if whole else [ty_o, co_o]
    s.reorder(out, [n, *outer, ty_i, tx, co_i, i, j, ci])
    s.compute_at(columns, out, co_i)
    s.compute_at(product, out, outer[-1])
    _multiply(s, product, product_tile, tile_y, tile_x, vectors, steps)
    for axis in (i, j):
        s.unroll(out, axis)
    s.vectorize(out, ci)
    last_row = ty_i if block == size.tiles_y else ty_o
    s.partition(out, last_row, tail_cut(height, m if block == size.tiles_y else m * block))
    s.partition(out, tx, tail_cut(width, m))
    s.partition(out, co_o, tail_cut(size.out_blocks, group))

    _transform_columns(s, columns)
    if not whole:
        s.compute_at(data, out, ty_o)
    _transform_input(s, rows, data)
    _transform_filter(s, filter_rows, kernel, group // vectors, vectors * lanes, lanes)
    s.transform_layout(data, [[]] * 7, [(4, 0), (5, 0), (0, 0), (1, 0), (2, 0), (3, 0), (6, 0)])
    if whole:
        s.parallel(data, fuse_all(s, data, data.leaves[:4]))
    s.parallel(out, fuse_all(s, out, [n, outer[0]]))


# ---------------------------------------------------------------------------------------- estimates


@dataclass(frozen=True, slots=True)
class Size:
    """The problem: images, tiles of m x m outputs, channel blocks of ``lanes``."""

    m: int
    images: int
    tiles_y: int
    tiles_x: int
    in_blocks: int
    out_blocks: int
    lanes: int

    @staticmethod
    def of(conv: Compute, m: int) -> Size:
        n, out_blocks, height, width, lanes = conv.shape
        in_blocks = conv.inputs()[0].shape[1]
        return Size(m, n, -(-height // m), -(-width // m), in_blocks, out_blocks, lanes)

    @property
    def points(self) -> int:
        """Products per tile and channel pair."""
        return (self.m + 2) ** 2

    @property
    def tiles(self) -> int:
        return self.images * self.tiles_y * self.tiles_x

    @property
    def products(self) -> float:
        """Cycles of the matrix products."""
        return self.tiles * self.points * self.in_blocks * self.lanes * self.out_blocks / 0.9

    @property
    def row_bytes(self) -> int:
        """Transformed input of one row of tiles."""
        return self.tiles_x * self.points * self.in_blocks * self.lanes * 4

    @property
    def filter_bytes(self) -> int:
        """Transformed filter."""
        return self.points * self.in_blocks * self.out_blocks * self.lanes**2 * 4


BLOCK_SHARE = 0.3
"""Share of the second-level cache that the transformed input of a block may take."""

MEMORY_BYTES_PER_CYCLE = 7.0
L3_BYTES_PER_CYCLE = 14.0
L2_BYTES_PER_CYCLE = 32.0


def estimated_cycles(size: Size, target: Target) -> float:
    """Cycles of the whole convolution on one core, in units of one vector multiply-add."""
    per_transform = 5.0 * size.points  # measured: loads, two passes of short sums, stores
    transforms = size.tiles * (size.in_blocks + size.out_blocks) * per_transform
    rate = MEMORY_BYTES_PER_CYCLE if size.filter_bytes > target.l3_bytes // 8 else L3_BYTES_PER_CYCLE
    return size.products + size.filter_bytes / rate + transforms


def prefers_whole(size: Size, target: Target) -> bool:
    """Whether to transform the whole input first.

    That pays where blocks of rows would read a large filter from afar again and again, or are too few for the threads.
    """
    if target.threads > 1 and size.images * size.tiles_y < 2 * target.threads:
        return True
    blocks = size.images * -(-size.tiles_y // max(1, int(BLOCK_SHARE * target.l2_bytes) // size.row_bytes))
    by_blocks = blocks * size.filter_bytes / _bytes_per_cycle(size.filter_bytes, target)
    return by_blocks > 0.6 * size.products


def channel_groups(out_blocks: int, vectors: int) -> list[int]:
    """Blocks of output channels to multiply before they are transformed back: no group is to be ragged if any is not."""
    groups = [g for g in range(vectors, min(16, out_blocks) + 1, vectors)]
    return [g for g in groups if out_blocks % g == 0] or groups or [vectors]


def _bytes_per_cycle(size_bytes: int, target: Target) -> float:
    """How fast one core reads what is used over and over again."""
    if size_bytes <= target.l2_bytes // 2:
        return L2_BYTES_PER_CYCLE
    return L3_BYTES_PER_CYCLE if size_bytes <= target.l3_bytes // 2 else MEMORY_BYTES_PER_CYCLE


def default_rows(size: Size, options: list[int], whole: bool, target: Target) -> int:
    """Rows of tiles in a block: transformed input for a quarter of the second-level cache, work for all threads."""
    if whole:
        product_row_bytes = size.tiles_x * size.points * 4 * size.lanes * 4
        fitting = [b for b in options if b * product_row_bytes <= 0.6 * target.l2_bytes]
        return fitting[-1] if fitting else options[0]
    limit = max(1, size.images * size.tiles_y // target.threads)
    fitting = [b for b in options if b * size.row_bytes <= BLOCK_SHARE * target.l2_bytes and b <= limit]
    return fitting[-1] if fitting else options[0]


def _product_cost(tile: tuple[int, int, int], block: int, size: Size, target: Target) -> float:
    """Estimated cycles of one reduction step over a block, incomplete tiles included."""
    y, x, v = tile

    return sum(
        cy * cx * cv * (step_cycles(py * px, pv, target) + 0.6)
        for cy, py in tile_parts(block, y)
        for cx, px in tile_parts(size.tiles_x, x)
        for cv, pv in tile_parts(size.out_blocks, v)
    )


def _transform_columns(s: Schedule, columns: Stage) -> None:
    """The first half of the inverse transform: everything unrolled, in registers."""
    *outer, lane = columns.roots
    for axis in outer:
        s.unroll(columns, axis)
    s.vectorize(columns, lane)


def _multiply(s: Schedule, product: Stage, local: Stage, tile_y: int, tile_x: int, vectors: int, steps: int) -> None:
    """The matrix products: a register tile of tiles x channels over all input channels."""
    n, ty, tx, oc, i, j, lane = product.leaves
    ty_o, ty_i = s.split(product, ty, tile_y, tail="guard")
    tx_o, tx_i = s.split(product, tx, tile_x, tail="guard")
    oc_o, oc_i = s.split(product, oc, vectors, tail="guard")
    s.reorder(product, [n, i, j, oc_o, ty_o, tx_o, ty_i, tx_i, oc_i, lane])
    s.compute_at(local, product, tx_o)
    for axis in (ty_i, tx_i, oc_i):
        s.unroll(product, axis)
    s.vectorize(product, lane)
    for axis, extent, size in ((ty_o, ty.extent, tile_y), (tx_o, tx.extent, tile_x)):
        s.partition(product, axis, tail_cut(extent, size))

    b, y, x, channel, row, column, local_lane = local.roots
    ic_o, ic_i = local.reduce_roots
    s.reorder(local, [ic_o, ic_i, b, row, column, y, x, channel, local_lane])
    if steps > 1 and ic_i.extent % steps == 0:
        _, step = s.split(local, ic_i, steps)
        s.unroll(local, step)
    for axis in (b, row, column, y, x, channel):
        s.unroll(local, axis)
    s.vectorize(local, local_lane)


def _transform_input(s: Schedule, rows: Stage, data: Stage) -> None:
    """B^T d B for one tile and channel block at a time; tiles on the border have code of their own."""
    n, ty, tx, ic, i, j, lane = data.leaves
    s.reorder(data, [n, ty, tx, ic, i, j, lane])
    s.compute_at(rows, data, ic)
    _unrolled(s, data, [i, j], lane)
    if tx.extent > 2:
        s.partition(data, tx, [1, tx.extent - 1])
    *_, row, column, row_lane = rows.roots
    outer = rows.roots[:4]
    for axis in outer:
        s.unroll(rows, axis)
    _unrolled(s, rows, [row, column], row_lane)


def _unrolled(s: Schedule, stage: Stage, axes: list[LoopAxis], lane: LoopAxis) -> None:
    for axis in axes:
        s.unroll(stage, axis)
    s.vectorize(stage, lane)


def _transform_filter(s: Schedule, filter_rows: Stage, kernel: Stage, panels: int, panel: int, lanes: int) -> None:
    """G g G^T, once when the model is built.

    Packed as [OC / (panels * panel)][i][j][panels][IC][panel]: a group of output channels reads it from end to end.
    """
    s.transform_layout(kernel, [[], [], [panels, panel], []], [(2, 0), (0, 0), (1, 0), (2, 1), (3, 0), (2, 2)])
    i, j, oc, ic = kernel.leaves
    oc_o, oc_i = s.split(kernel, oc, lanes, tail="guard")
    s.reorder(kernel, [oc_o, ic, i, j, oc_i])
    s.compute_at(filter_rows, kernel, ic)
    _unrolled(s, kernel, [i, j], oc_i)
    row, tap, channel, depth = filter_rows.roots
    s.reorder(filter_rows, [depth, row, tap, channel])
    s.unroll(filter_rows, row)
    s.unroll(filter_rows, tap)
    s.vectorize(filter_rows, channel)
    s.precompute(kernel)
