"""1x1 convolution by Strassen's algorithm, block of pixels by block of pixels.

For each block of pairs of pixels: the seven sums of the image, for all channels; then, for each group of output
channels, the seven matrix products, and what they sum up to, with the epilogue. The sums of a block are to stay in the
second-level cache. Those of the weights are made when the model is built, packed in the order in which they are read,
and prefetched panel by panel.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...target import Target
from ...te.tensor import Compute
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .common import default_unroll, fuse_all, mark_tile, tail_cut
from .products import Tile, multiply, prefetch_filter
from .strassen_cost import Size, best_plan, group_options, pair_options, part_options, tile_options

SMALL_TILE = 8
"""Accumulators up to which four input channels in an iteration may pay for their code."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the space decides.

    pairs           pairs of pixels in a block
    parts           parts of the output channels, for more threads than there are blocks
    tile            the register tile of the products
    group           blocks of output channels that are multiplied before their products are summed
    input_ahead     how many pairs ahead to prefetch the image; 0: not at all
    operands_ahead  prefetch what the epilogue reads, before the products; output_ahead: and what is written
    """

    pairs: int
    parts: int
    tile: Tile
    group: int
    input_ahead: int
    operands_ahead: bool
    output_ahead: bool


def choose(d: Decider, size: Size, target: Target) -> Choice:
    """Ask for the decisions, with the estimate's best as the defaults."""
    pairs = d.choose("pairs", pair_options(size), best_plan(size, target).pairs)
    parts = d.choose("channel_parts", part_options(size, target), best_plan(size, target, pairs).parts)
    tiles = [list(t) for t in tile_options(size, pairs, parts, target)]
    points, vectors = d.choose("product_tile", tiles, list(best_plan(size, target, pairs, parts).tile))
    groups = group_options(size, parts, vectors)
    group = d.choose("channel_group", groups, groups[0])
    unrolled = [1, 2, 4] if points * vectors <= SMALL_TILE else [1, 2]
    steps = d.choose("unroll_channels", unrolled, min(2, default_unroll(points * vectors, target)))
    ahead = d.choose("prefetch", ["none", "near", "panel"], "panel")
    input_ahead = d.choose("prefetch_input", [0, 4], 0)
    operands_ahead = d.choose("prefetch_operands", [False, True], True)
    output_ahead = d.choose("prefetch_output", [False, True], True)
    tile = Tile(points, vectors, steps, ahead)
    return Choice(pairs, parts, tile, group, input_ahead, operands_ahead, output_ahead)


def strassen(s: Schedule, d: Decider, target: Target, conv: Stage, out: Stage) -> None:
    """Schedule ``conv``, a stage that ``out`` reads element by element, by Strassen's algorithm."""
    size = Size.of(conv.tensor)
    source = conv.tensor.inputs()[0]
    data, kernel, product = s.use_algorithm(conv, "strassen", {})
    s.compute_inline(conv)
    if isinstance(source, Compute):  # each element is read in one place
        s.compute_inline(source)
    local = s.cache_write(product)
    c = choose(d, size, target)

    n, co, oh, ow, ci = out.leaves
    last_odd = oh.extent * ow.extent % 2 == 1
    pair, parity = s.split(out, s.fuse(out, oh, ow), 2, tail="guard")
    pair_o, pair_i = s.split(out, pair, c.pairs, tail="guard")
    half, co = s.split(out, co, size.out_blocks)
    part, co = s.split(out, co, size.out_blocks // c.parts)
    co_o, co_i = s.split(out, co, c.group, tail="guard")
    s.reorder(out, [n, part, pair_o, co_o, co_i, pair_i, half, parity, ci])
    s.compute_at(product, out, co_o)
    mark_tile(s, out, [half, parity], ci)
    _cut_tails(s, out, pair_o, pair_i, size, last_odd)
    s.partition(out, co_o, tail_cut(co.extent, c.group))
    if c.operands_ahead:
        for operand in out.inputs():
            if operand.shape == out.tensor.shape:
                s.prefetch(out, operand, co_o, 0)
    if c.output_ahead:
        s.prefetch(out, out, co_o, 0)

    _, pair, channel, *_ = product.leaves
    multiply(s, product, local, pair, channel, c.tile, sorted({c.pairs, size.pairs % c.pairs} - {0}))
    prefetch_filter(s, local, kernel, c.tile, size.in_blocks, size.lanes)
    s.compute_at(data, out, pair_o)
    _sum_image(s, data, last_odd, c.input_ahead)
    _sum_filter(s, kernel, c, size.lanes)
    s.parallel(out, fuse_all(s, out, [n, part, pair_o]))


# ---------------------------------------------------------------------------------------- parts


def _cut_tails(s: Schedule, out: Stage, blocks: LoopAxis, within: LoopAxis, size: Size, last_odd: bool) -> None:
    """Give code of their own to an incomplete block of pairs and to a last pair of one pixel."""
    last_block, last_pair = divmod(size.pairs - 1, within.extent)
    cuts = set(tail_cut(size.pairs, within.extent))
    if last_odd:
        cuts |= {last_block} - {0}
        s.partition(out, within, [last_pair] if last_pair else [])
    s.partition(out, blocks, sorted(cuts))


def _sum_image(s: Schedule, data: Stage, last_odd: bool, ahead: int) -> None:
    """The sums of the image, along the pixels of a block of channels; [q][IC][pairs] is how the products read them."""
    image, pair, channel, which, lane = data.leaves
    s.reorder(data, [image, channel, pair, which, lane])
    mark_tile(s, data, [which], lane)
    if last_odd and pair.extent > 1:
        s.partition(data, pair, [pair.extent - 1])
    if ahead:
        s.prefetch(data, max(data.inputs(), key=lambda x: x.elements), pair, ahead)
    s.transform_layout(data, [[]] * 5, [(0, 0), (3, 0), (2, 0), (1, 0), (4, 0)])


def _sum_filter(s: Schedule, kernel: Stage, c: Choice, lanes: int) -> None:
    """The sums of the weights, once when the model is built.

    Packed as [OC / (panels * panel)][q][panels][IC][panel]: a group of output channels reads it from end to end.
    """
    panels, panel = c.group // c.tile.vectors, c.tile.vectors * lanes
    s.transform_layout(kernel, [[], [panels, panel], []], [(1, 0), (0, 0), (1, 1), (2, 0), (1, 2)])
    which, outputs, inputs = kernel.leaves
    outer, lane = s.split(kernel, outputs, lanes, tail="guard")
    s.reorder(kernel, [outer, inputs, which, lane])
    mark_tile(s, kernel, [which], lane)
    s.precompute(kernel)
