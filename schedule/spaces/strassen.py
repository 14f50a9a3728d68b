"""1x1 convolution by Strassen's algorithm, block of pixels by block of pixels.

For each block of cells, 2 or 4 pixels each: the 7 or 49 sums of the image, for all channels; then, for each group of
output channels, as many matrix products, and what they sum up to, with the epilogue. The sums of a block are to stay in
the second-level cache. Those of the weights are made when the model is built, packed in the order in which they are
read, and prefetched panel by panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ...target import Target
from ...te.tensor import Compute
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .common import fuse_all, mark_tile, tail_cut
from .products import Tile, choose_tile, default_ahead, multiply, prefetch_filter
from .strassen_cost import Size, best_plan, cell_options, group_options, part_options, tile_options
from .traffic import is_wide, outruns_caches

SMALL_TILE = 8
"""Accumulators up to which four input channels in an iteration may pay for their code."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the space decides.

    cells           cells in a block
    parts           parts of the output channels, for more threads than there are blocks
    tile            the register tile of the products
    group           blocks of output channels that are multiplied before their products are summed
    input_ahead     how many cells ahead to prefetch the image; 0: not at all
    operands_ahead  prefetch what the epilogue reads, before the products; output_ahead: and what is written
    """

    cells: int
    parts: int
    tile: Tile
    group: int
    input_ahead: int
    operands_ahead: bool
    output_ahead: bool


class Stages(NamedTuple):
    """The stages of :mod:`luthier.te.ops.strassen`; those of the first of two levels are None where there is one."""

    input: Stage
    filter: Stage
    product: Stage
    halves: Stage | None = None
    filter_halves: Stage | None = None
    sums: Stage | None = None

    @staticmethod
    def of(s: Schedule, conv: Stage, levels: int) -> Stages:
        """Let ``conv`` be computed by so many levels."""
        stages = s.use_algorithm(conv, "strassen", {"levels": levels})
        if levels == 1:
            return Stages(*stages)
        halves, data, filter_halves, kernel, product, sums = stages
        return Stages(data, kernel, product, halves, filter_halves, sums)


def choose(d: Decider, size: Size, target: Target) -> Choice:
    """Ask for the decisions, with the estimate's best as the defaults."""
    cells = d.choose("cells", cell_options(size), best_plan(size, target).cells)
    parts = d.choose("channel_parts", part_options(size, target), best_plan(size, target, cells).parts)
    tiles = [list(t) for t in tile_options(size, cells, parts, target)]
    points, vectors = d.choose("product_tile", tiles, list(best_plan(size, target, cells, parts).tile))
    groups = group_options(size, parts, vectors)
    group = d.choose("channel_group", groups, groups[0])
    unrolled = [1, 2, 4] if points * vectors <= SMALL_TILE or not is_wide(target) else [1, 2]
    ahead = default_ahead(cells, size.filter_bytes, target)
    tile = choose_tile(d, points, vectors, size.in_blocks, unrolled, 1, ahead, target)
    input_ahead = d.choose("prefetch_input", [0, 4], 0)
    operands_ahead = d.choose("prefetch_operands", [False, True], not outruns_caches(target))
    output_ahead = d.choose("prefetch_output", [False, True], not outruns_caches(target))
    return Choice(cells, parts, tile, group, input_ahead, operands_ahead, output_ahead)


def strassen(s: Schedule, d: Decider, target: Target, conv: Stage, out: Stage, levels: int) -> None:
    """Schedule ``conv``, a stage that ``out`` reads element by element, by Strassen's algorithm."""
    size = Size.of(conv.tensor, levels)
    source = conv.tensor.inputs()[0]
    data, kernel, product, halves, filter_halves, sums = Stages.of(s, conv, levels)
    s.compute_inline(conv)
    if isinstance(source, Compute):  # each element is read in one place
        s.compute_inline(source)
    local = s.cache_write(product)
    c = choose(d, size, target)

    n, co, oh, ow, ci = out.leaves
    ragged = oh.extent * ow.extent % size.parts > 0
    cell, place = s.split(out, s.fuse(out, oh, ow), size.parts, tail="guard")
    cell_o, cell_i = s.split(out, cell, c.cells, tail="guard")
    part, co = s.split(out, co, size.out_blocks)
    shared, co = s.split(out, co, size.out_blocks // c.parts)
    co_o, co_i = s.split(out, co, c.group, tail="guard")
    s.reorder(out, [n, shared, cell_o, co_o, co_i, cell_i, part, place, ci])
    if sums:
        s.compute_at(sums, out, cell_i)
        *around, lane = sums.leaves
        mark_tile(s, sums, around, lane)
    s.compute_at(product, out, co_o)
    mark_tile(s, out, [part, place], ci)
    _cut_tails(s, out, cell_o, cell_i, size, ragged)
    s.partition(out, co_o, tail_cut(co.extent, c.group))
    if c.operands_ahead:
        for operand in out.inputs():
            if operand.shape == out.tensor.shape:
                s.prefetch(out, operand, co_o, 0)
    if c.output_ahead:
        s.prefetch(out, out, co_o, 0)

    _, of_cells, of_channels, *_ = product.leaves
    multiply(s, product, local, of_cells, of_channels, c.tile, sorted({c.cells, size.cells % c.cells} - {0}))
    prefetch_filter(s, local, kernel, c.tile, size.in_blocks, size.lanes)
    s.compute_at(data, out, cell_o)
    _sum_image(s, halves, data, ragged, c.input_ahead)
    _sum_filter(s, filter_halves, kernel, c, size.lanes)
    s.parallel(out, fuse_all(s, out, [n, shared, cell_o]))


# ---------------------------------------------------------------------------------------- parts


def _cut_tails(s: Schedule, out: Stage, blocks: LoopAxis, within: LoopAxis, size: Size, ragged: bool) -> None:
    """Give code of their own to an incomplete block of cells and to a last cell that has fewer pixels."""
    last_block, last_cell = divmod(size.cells - 1, within.extent)
    cuts = set(tail_cut(size.cells, within.extent))
    if ragged:
        cuts |= {last_block} - {0}
        s.partition(out, within, [last_cell] if last_cell else [])
    s.partition(out, blocks, sorted(cuts))


def _sum_image(s: Schedule, halves: Stage | None, data: Stage, ragged: bool, ahead: int) -> None:
    """The sums of the image, along the cells of a block of channels; [q][IC][cells] is how the products read them."""
    image, cell, channel, *which, lane = data.leaves
    s.reorder(data, [image, channel, cell, *which, lane])
    if halves:
        s.compute_at(halves, data, cell)
        *around, half_lane = halves.leaves
        mark_tile(s, halves, around, half_lane)
    mark_tile(s, data, which, lane)
    if ragged and cell.extent > 1:
        s.partition(data, cell, [cell.extent - 1])
    if ahead:
        reader = halves or data
        s.prefetch(reader, max(reader.inputs(), key=lambda x: x.elements), None if halves else cell, ahead)
    order = [0, *range(3, 3 + len(which)), 2, 1, 3 + len(which)]
    s.transform_layout(data, [[]] * len(order), [(dim, 0) for dim in order])


def _sum_filter(s: Schedule, halves: Stage | None, kernel: Stage, c: Choice, lanes: int) -> None:
    """The sums of the weights, once when the model is built.

    Packed as [OC / (panels * panel)][q][panels][IC][panel]: a group of output channels reads it from end to end.
    """
    panels, panel = c.group // c.tile.vectors, c.tile.vectors * lanes
    *which, outputs, inputs = kernel.leaves
    q = len(which)
    order = [(q, 0), *((dim, 0) for dim in range(q)), (q, 1), (q + 1, 0), (q, 2)]
    s.transform_layout(kernel, [*([] for _ in which), [panels, panel], []], order)
    outer, lane = s.split(kernel, outputs, lanes, tail="guard")
    s.reorder(kernel, [outer, inputs, *which, lane])
    if halves:
        s.compute_at(halves, kernel, inputs)
        *around, half_lane, depth = halves.roots
        s.reorder(halves, [depth, *around, half_lane])
        mark_tile(s, halves, around, half_lane)
    mark_tile(s, kernel, which, lane)
    s.precompute(kernel)
