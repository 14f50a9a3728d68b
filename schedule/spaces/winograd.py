"""Winograd convolution, block of tiles by block of tiles.

One block is some rows of tiles, or a part of a row. For each block: transform its input for all channels; then, for
each group of output channels, the (m + r - 1)^2 matrix products, and the inverse transform tile by tile with the
epilogue. The transformed input of a block is to stay in the second-level cache. The transformed filter is made when
the model is built, packed in the order in which it is read, and prefetched panel by panel; or only its columns are, and
the products transform the rows of what they read. :mod:`.winograd_cost` has the estimates.

Large images are read from memory and written there: the transforms go along a row of one block of channels at a time,
so that few streams are open, and ask for the input some tiles ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...target import Target
from ...te.tensor import Compute
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .common import fuse_all, mark_tile, stores_past_caches, tail_cut
from .products import Tile, channel_groups, choose_tile, default_ahead, default_streams, multiply, prefetch_filter
from .traffic import is_double
from .winograd_cost import best_kept, best_plan, column_options, default_group, part_options, row_options
from .winograd_size import Size
from .winograd_tiles import tile_options

LEAST_TILES = 8
"""Tiles of a block from which on there is time to ask for the next panel of the filter."""

LONGEST_UNROLLED = 8
"""Points of an input transform of which all lines have code of their own: 20 KB of it for 11 points, and no faster."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the space decides.

    lines        keep the filter transformed along its columns only; else at all points
    whole        transform the whole input before the first product, not block by block
    parts        parts of the output channels, for more threads than there are blocks
    block        rows of tiles in a block
    columns      tiles of a row in it: all of them, or a part of one row
    tile         the register tile of the products
    group        blocks of output channels that are multiplied before they are transformed back
    input_ahead  how many tiles ahead to prefetch the input; 0: not at all
    """

    lines: bool
    whole: bool
    parts: int
    block: int
    columns: int
    tile: Tile
    group: int
    input_ahead: int


def choose(d: Decider, size: Size, target: Target) -> Choice:
    """Ask for the decisions, with the estimate's best as the defaults."""
    if size.may_keep_lines:
        usual = "lines" if best_kept(size, target).lines else "points"
        size = replace(size, lines=d.choose("filter", ["points", "lines"], usual, before="points") == "lines")
    whole = d.choose("input", ["block", "whole"], "whole" if best_plan(size, target).whole else "block") == "whole"
    parts = 1
    if target.threads > 1 and not whole:
        parts = d.choose("channel_parts", part_options(size, target), best_plan(size, target, whole).parts)
    plan = best_plan(size, target, whole, parts)
    block = d.choose("tile_rows", row_options(size), plan.rows)
    planned = plan.columns if plan.rows == block else size.tiles_x
    columns = d.choose("tile_columns", column_options(size, block, whole), planned)
    tiles, best, _ = tile_options(size, parts, block, columns, target)
    points, vectors = d.choose("product_tile", tiles, best)
    groups = channel_groups(size.out_blocks // parts, vectors)
    largest = default_group(plan.group, vectors, target)
    group = d.choose("channel_group", groups, max((g for g in groups if g <= largest), default=groups[0]))
    enough = block * columns >= LEAST_TILES or size.lines or is_double(target)
    ahead = default_ahead(block * columns, size.filter_bytes, target) if enough else "none"
    in_blocks = size.in_blocks // size.groups
    streams = default_streams(in_blocks, size.filter_bytes, block * columns, target)
    tile = choose_tile(d, points, vectors, in_blocks, [1, 2, 4], streams, ahead, target, size.tile_points)
    input_ahead = d.choose("prefetch_input", [0, 2, 4, 8], 4 if size.image_bytes > target.l2_bytes else 0)
    return Choice(size.lines, whole, parts, block, columns, tile, group, input_ahead)


def winograd(s: Schedule, d: Decider, target: Target, conv: Stage, out: Stage, m: int) -> None:
    """Schedule ``conv``, a stage that ``out`` reads element by element, as F(m x m, r x r)."""
    size = Size.of(conv.tensor, m)
    source = conv.tensor.inputs()[0]
    rows, data, filter_rows, kernel, product, columns = s.use_algorithm(conv, "winograd", {"m": m})
    s.compute_inline(conv)
    if isinstance(source, Compute):  # read about twice in all, so that a buffer for it would not pay
        s.compute_inline(source)
    c = choose(d, size, target)
    if c.lines:
        s.compute_inline(kernel)
    product_tile = s.cache_write(product)

    height, width = out.tensor.shape[2:4]
    n, co, oh, ow, ci = out.leaves
    ty, i = s.split(out, oh, m, tail="guard")
    tx, j = s.split(out, ow, m, tail="guard")
    ty_o, ty_i = s.split(out, ty, c.block, tail="guard")
    tx_o, tx_i = s.split(out, tx, c.columns, tail="guard")
    part, co = s.split(out, co, size.out_blocks // c.parts)
    co_o, co_i = s.split(out, co, c.group, tail="guard")
    blocks = [n, part, ty_o, tx_o]
    outer = [n, part, co_o, ty_o, tx_o] if c.whole else [*blocks, co_o]
    s.reorder(out, [*outer, co_i, ty_i, tx_i, i, j, ci])
    s.compute_at(columns, out, tx_i)
    s.compute_at(product, out, outer[-1])
    tile, channel = product.leaves[:2]
    last_group = [co.extent % c.group] if co.extent % c.group else []
    line = [product.leaves[3]] if c.lines else []
    multiply(s, product, product_tile, tile, channel, c.tile, _block_ends(size, c), last_group, line)
    mark_tile(s, out, [i, j], ci)
    last_row = ty_i if c.block == size.tiles_y else ty_o
    s.partition(out, last_row, tail_cut(height, m if c.block == size.tiles_y else m * c.block))
    last_column = tx_i if c.columns == size.tiles_x else tx_o
    s.partition(out, last_column, tail_cut(width, m if c.columns == size.tiles_x else m * c.columns))
    s.partition(out, co_o, tail_cut(co.extent, c.group))

    tile, channel, row, column, column_lane = columns.roots
    s.reorder(columns, [tile, channel, column, row, column_lane])
    mark_tile(s, columns, [tile, channel, column, row], column_lane)
    if not c.whole:
        s.compute_at(data, out, tx_o)
    _transform_input(s, rows, data, c)
    if c.lines:
        _transform_columns(s, filter_rows, c, size.lanes)
    else:
        _transform_filter(s, filter_rows, kernel, c, size.lanes)
    kept, values = (filter_rows, size.taps) if c.lines else (kernel, 1)
    prefetch_filter(s, product_tile, kept, c.tile, size.in_blocks // size.groups, size.lanes, values)
    _lay_out_input(s, data)
    stores_past_caches(s, d, out, target)
    if c.whole:
        s.parallel(data, fuse_all(s, data, data.leaves[:2]))
    s.parallel(out, fuse_all(s, out, outer if c.whole else blocks))


# ---------------------------------------------------------------------------------------- parts


def _block_ends(size: Size, c: Choice) -> list[int]:
    """Numbers of tiles in a block at which some block ends: those of a whole one, and of an incomplete last one."""
    rows = (c.block, size.tiles_y % c.block)
    columns = (c.columns, size.tiles_x % c.columns)
    return sorted({r * x for r in rows for x in columns if r and x})


def _transform_input(s: Schedule, rows: Stage, data: Stage, c: Choice) -> None:
    """B^T d B for one tile and channel block at a time; tiles on the border have code of their own.

    With prefetches (large images) so have those of the upper and lower border; it gains 1 to 3 % there.
    The line that a transform goes across stays a loop where all of them unrolled are more code than the caches like.
    """
    t, ic, i, j, lane = data.leaves
    ty, tx = s.split(data, t, c.columns)
    s.reorder(data, [ty, ic, tx, i, j, lane])
    s.compute_at(rows, data, tx)
    large = j.extent > LONGEST_UNROLLED
    mark_tile(s, data, [j] if large else [i, j], lane)
    if tx.extent > 2:
        s.partition(data, tx, [1, tx.extent - 1])
    tile, channel, row, column, row_lane = rows.roots
    s.reorder(rows, [tile, channel, column, row, row_lane])
    mark_tile(s, rows, [tile, channel, row] if large else [tile, channel, column, row], row_lane)
    if c.input_ahead:  # a large image: most tiles lie inside
        s.unswitch(rows)
        s.prefetch(rows, max(rows.inputs(), key=lambda x: x.elements), None, c.input_ahead)


def _lay_out_input(s: Schedule, data: Stage) -> None:
    """Keep the transformed input as [i][j][tiles][IC].

    A transform writes one vector at each point: with odd distances between points, these do not share a few sets of the
    first-level cache, as they do where tiles and channels are powers of two (128 -> 32 channels at 14 x 14: 115 -> 156
    GFLOP/s on Zen 3, 256 -> 256: 215 -> 236).
    """
    tiles, channels = (axis.extent for axis in data.roots[:2])
    padding = [0, 0, *(1 if n >= 8 and n % 2 == 0 else 0 for n in (tiles, channels)), 0]
    s.transform_layout(data, [[]] * 5, [(2, 0), (3, 0), (0, 0), (1, 0), (4, 0)], padding if any(padding) else ())


def _transform_filter(s: Schedule, filter_rows: Stage, kernel: Stage, c: Choice, lanes: int) -> None:
    """G g G^T, once when the model is built.

    Packed as [OC / (panels * panel)][i][j][panels][IC][panel]: a group of output channels reads it from end to end.
    """
    panels, panel = c.group // c.tile.vectors, c.tile.vectors * lanes
    s.transform_layout(kernel, [[], [], [panels, panel], []], [(2, 0), (0, 0), (1, 0), (2, 1), (3, 0), (2, 2)])
    i, j, oc, ic = kernel.leaves
    oc_o, oc_i = s.split(kernel, oc, lanes, tail="guard")
    s.reorder(kernel, [oc_o, ic, i, j, oc_i])
    s.compute_at(filter_rows, kernel, ic)
    mark_tile(s, kernel, [i, j], oc_i)
    row, tap, channel, depth = filter_rows.roots
    s.reorder(filter_rows, [depth, row, tap, channel])
    s.unroll(filter_rows, row)
    s.unroll(filter_rows, tap)
    s.vectorize(filter_rows, channel)
    s.precompute(kernel)


def _transform_columns(s: Schedule, filter_rows: Stage, c: Choice, lanes: int) -> None:
    """G g, once when the model is built; packed as [OC / (panels * panel)][i][panels][IC][taps][panel]."""
    panels, panel = c.group // c.tile.vectors, c.tile.vectors * lanes
    s.transform_layout(filter_rows, [[], [], [panels, panel], []], [(2, 0), (0, 0), (2, 1), (3, 0), (1, 0), (2, 2)])
    i, tap, oc, ic = filter_rows.leaves
    oc_o, oc_i = s.split(filter_rows, oc, lanes, tail="guard")
    s.reorder(filter_rows, [oc_o, ic, i, tap, oc_i])
    mark_tile(s, filter_rows, [i, tap], oc_i)
    s.precompute(filter_rows)
