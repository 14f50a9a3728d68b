"""Winograd convolution, block of tiles by block of tiles.

One block is some rows of tiles. For each block: transform its input for all channels; then for each group of output channels
the (m + 2)^2 matrix products, and the inverse transform tile by tile with the epilogue. The transformed input of a block is to stay in
the second-level cache, the transformed filter is made when the model is built and packed in the order in which it is read.
"""

from __future__ import annotations

from ...target import Target
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .common import fuse_all, register_tiles, step_cycles, tail_cut


def winograd(s: Schedule, d: Decider, target: Target, conv: Stage, out: Stage, m: int) -> None:
    """Schedule ``conv``, a stage that ``out`` reads element by element, as F(m x m, 3 x 3)."""
    lanes = target.lanes()
    stages = s.use_algorithm(conv, "winograd", {"m": m})
    rows, data, filter_rows, kernel, product, columns = stages
    s.compute_inline(conv)
    product_tile = s.cache_write(product)
    _, oc_blocks, height, width, _ = out.tensor.shape
    tiles_y, tiles_x = -(-height // m), -(-width // m)
    channels = data.tensor.shape[3] * lanes
    row_bytes = tiles_x * (m + 2) ** 2 * channels * 4

    block_options = sorted({b for b in (1, 2, 3, 4, 6, 7, 8, 14) if b < tiles_y} | {tiles_y})
    fitting = [b for b in block_options if b * row_bytes <= 0.6 * target.l2_bytes]
    block = d.choose("tile_rows", block_options, fitting[-1] if fitting else block_options[0])
    group_options = [g for g in (1, 2, 4, 8, 16) if g <= oc_blocks]
    tiles = list(register_tiles((1, 2, 3, 4), range(1, 15), (1, 2, 4), target))
    tiles = [t for t in tiles if t[0] <= block and t[1] <= tiles_x and t[2] <= oc_blocks]
    best = min(tiles, key=lambda t: _product_cost(t, block, tiles_x, oc_blocks, target))
    tile_y, tile_x, vectors = d.choose("product_tile", [list(t) for t in tiles], list(best))
    groups = [g for g in group_options if g % vectors == 0] or [vectors]
    preferred = max((g for g in groups if g <= max(4, vectors)), default=groups[0])
    group = d.choose("channel_group", groups, preferred)
    steps = d.choose("unroll_channels", [1, 2, 4], 1 if tile_y * tile_x * vectors >= 20 else 2)

    n, co, oh, ow, ci = out.leaves
    ty, i = s.split(out, oh, m, tail="guard")
    tx, j = s.split(out, ow, m, tail="guard")
    ty_o, ty_i = s.split(out, ty, block, tail="guard")
    co_o, co_i = s.split(out, co, group, tail="guard")
    s.reorder(out, [n, ty_o, co_o, ty_i, tx, co_i, i, j, ci])
    s.compute_at(columns, out, co_i)
    s.compute_at(product, out, co_o)
    _multiply(s, product, product_tile, tile_y, tile_x, vectors, steps)
    s.compute_at(data, out, ty_o)
    for axis in (i, j):
        s.unroll(out, axis)
    s.vectorize(out, ci)
    s.partition(out, ty_i if block == tiles_y else ty_o, tail_cut(height, m * (1 if block == tiles_y else block)))
    s.partition(out, tx, tail_cut(width, m))
    s.partition(out, co_o, tail_cut(oc_blocks, group))

    _transform_columns(s, columns)
    _transform_input(s, rows, data)
    _transform_filter(s, filter_rows, kernel, vectors * lanes, lanes)
    s.transform_layout(data, [[]] * 7, [(4, 0), (5, 0), (0, 0), (1, 0), (2, 0), (3, 0), (6, 0)])
    s.parallel(out, fuse_all(s, out, [n, ty_o]))


def _product_cost(tile: tuple[int, int, int], block: int, tiles_x: int, oc_blocks: int, target: Target) -> float:
    """Estimated cycles of one reduction step over a block, incomplete tiles included."""
    y, x, v = tile

    def parts(extent: int, size: int) -> list[tuple[int, int]]:
        full, rest = divmod(extent, size)
        return [(full, size)] * (full > 0) + [(1, rest)] * (rest > 0)

    return sum(
        cy * cx * cv * (step_cycles(py * px, pv, target) + 0.6)
        for cy, py in parts(block, y)
        for cx, px in parts(tiles_x, x)
        for cv, pv in parts(oc_blocks, v)
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


def _transform_filter(s: Schedule, filter_rows: Stage, kernel: Stage, panel: int, lanes: int) -> None:
    """G g G^T, once when the model is built, packed as [OC / panel][i][j][IC][panel]."""
    s.transform_layout(kernel, [[], [], [panel], []], [(2, 0), (0, 0), (1, 0), (3, 0), (2, 1)])
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
