"""Convolution over channel-blocked images, (N, C/c, H, W, c), also of one or three dimensions.

Direct convolution: a register tile of ``rows x columns x vectors`` accumulators lives in registers over the whole
reduction; weights are packed into the order in which the tile reads them; loops are cut where taps fall on padding, so
that the interior has no conditions and the borders skip the taps (Georganas et al., SC 2018, describe the loop
structure; the cutting is done by ``partition``).
"""

from __future__ import annotations

from math import prod

from ...target import Target
from ...te.ops import flat, row_taps
from ...te.tensor import Compute
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..space import register
from ..stage import Stage
from .common import (
    fuse_all,
    isolate_anchor,
    mark_tile,
    several_streams,
    split_streams,
    stores_past_caches,
    stream_options,
    tail_cut,
)
from .conv_cost import (
    STRASSEN,
    default_algorithm,
    default_channel_unroll,
    default_order,
    default_prefetch,
    default_sum_block,
    flat_windows,
    gains_copied,
    gains_flat,
    may_sum_in_blocks,
    reads_at_several_places,
    reads_packed,
    strassen_levels,
    sum_blocks,
    tile_options,
    winograd_tiles,
)
from .general import general
from .grouped import grouped
from .images import (
    blocks_of_channels,
    cuts_vectors,
    has_constant_weights,
    image_axes,
    image_rank,
    pack_weights,
    reads_an_input,
    run_time_weights,
    unroll_row_of_taps,
    windows,
)
from .prologue import PLACES, Sizes, choose_block, divide, find_prologue, place_in_block
from .strassen import strassen
from .traffic import is_double
from .winograd import winograd

PREFETCHES: list[bool | str] = [False, True, "shared"]
"""Whether a register tile asks for the next panel of weights, or for its part of that."""


@register("conv1d", "conv2d", "conv3d")
def conv2d(s: Schedule, d: Decider, target: Target) -> None:
    """The space of direct convolutions whose output is channel-blocked; others take the general space."""
    anchor = s.workload.anchor
    lanes = target.lanes()
    rank = image_rank(anchor)
    if not rank or len(s.workload.outputs) != 1 or len(anchor.reduce_axes) == rank:
        general(s, d, target)
        return
    if cuts_vectors(anchor, lanes):
        if anchor.shape[1] == 1:
            grouped(s, d, target)
        else:
            general(s, d, target)
        return
    prologue = find_prologue(s, anchor, lanes)
    isolated = isolate_anchor(s, [*run_time_weights(s, anchor), *([prologue] if prologue else [])])
    if isolated is None:
        general(s, d, target)
        return
    out, conv = isolated
    algorithms = ["direct", *(f"winograd{m}" for m in winograd_tiles(anchor, lanes, prologue is not None))]
    constant = anchor.shape[-1] == lanes and has_constant_weights(anchor)
    if constant and reads_an_input(anchor) and row_taps.applies(anchor):
        algorithms.append("row_taps")
    if constant:
        algorithms += STRASSEN[: strassen_levels(anchor, prologue is not None)]
    algorithm = d.choose("algorithm", algorithms, default_algorithm(anchor, tuple(algorithms), target))
    if algorithm == "direct":
        direct(s, d, target, anchor, out, conv, prologue)
    elif algorithm == "row_taps":
        taps_of_rows(s, d, target, out, conv)
    elif algorithm in STRASSEN:
        strassen(s, d, target, conv, out, 1 + STRASSEN.index(algorithm))
    else:
        winograd(s, d, target, conv, out, int(algorithm.removeprefix("winograd")))


def direct(
    s: Schedule,
    d: Decider,
    target: Target,
    anchor: Compute,
    out: Stage,
    conv: Stage,
    prologue: Stage | None = None,
) -> None:
    """Schedule ``conv``, which computes ``anchor`` and which ``out`` reads element by element, as it is defined.

    prologue: the stage that computes its data, if one does.
    """
    lanes, rank = target.lanes(), image_rank(anchor)
    window_y, window_x = windows(anchor)
    channel_tiles = anchor.shape[1] * (anchor.shape[-1] // lanes)
    numbered = _number_pixels(s, d, target, anchor, conv, prologue, channel_tiles)
    conv, prologue, copies = numbered or (conv, prologue, False)
    if numbered:
        window_y, window_x = flat_windows(window_y, window_x)
    if prologue and not copies and d.choose("prologue", PLACES, "block") == "inline":
        s.compute_inline(prologue)
        prologue = None
    options, best = tile_options(window_y, window_x, channel_tiles, anchor, target)
    rows, columns, vectors = d.choose("tile", options, best)
    order = d.choose("order", ["channels", "rows"], default_order(anchor, target))
    taps_unrolled = d.choose("unroll_taps", ["x", "xy"], "x")
    several = reads_at_several_places(anchor, target)
    unrolled = 1 if several else default_channel_unroll(anchor, rows * columns, vectors, target)
    steps = d.choose("unroll_channels", [1, 2, 4], unrolled)

    blocked = blocks_of_channels(anchor)
    packed = prologue is not None and reads_packed(copies, window_y, target)
    asks = is_double(target) or not packed
    ahead = blocked and d.choose("prefetch", PREFETCHES, asks and default_prefetch(anchor, target))

    total = None
    if may_sum_in_blocks(anchor, lanes) and conv.body is conv.tensor.body:
        extents = [axis.extent for axis in conv.reduce_axes]
        each = d.choose("sum_blocks", sum_blocks(extents[0]), default_sum_block(anchor, extents, vectors, target))
        if each:
            partial, total = s.use_algorithm(conv, "blocked_sum", {"steps": each})
            s.compute_inline(conv)
            conv = partial

    in_blocks = conv.reduce_roots[0].extent if blocked else 1
    usual = several_streams(in_blocks) if several else 1
    streams = d.choose("streams", stream_options(in_blocks), usual, before=1)

    n, co, outside, oh, ow, ci = image_axes(s, out)
    if window_y.outputs < oh.extent:
        oh, ow = s.split(out, s.fuse(out, oh, ow), window_x.outputs)
    if ci.extent > lanes:  # one block holds all channels: its vectors take the place of the blocks
        n = s.fuse(out, n, co)
        co, ci = s.split(out, ci, lanes)
    co_o, co_i = s.split(out, co, vectors, tail="guard")
    oh_o, oh_i = s.split(out, oh, rows, tail="guard")
    ow_o, ow_i = s.split(out, ow, columns, tail="guard")
    border_x, border_y = window_x.border_cuts(columns), window_y.border_cuts(rows) if rows > 1 else []
    cuts = {ow_o: border_x, oh_o: border_y, co_o: tail_cut(co.extent, vectors)}
    around = [n, *outside]
    if prologue:
        along, window = (ow_o, window_x) if window_y.outputs == 1 else (oh_o, window_y)
        block = choose_block(d, Sizes.of(anchor, prologue.tensor, window, along.extent, vectors, lanes), target)
        parts, co_o = divide(s, out, co_o, co_o.extent // block.parts, cuts)
        blocks, within = divide(s, out, along, block.tiles, cuts)
        oh_o, ow_o = (oh_o, within) if along is ow_o else (within, ow_o)
        around += [parts, blocks]
    inner = [co_o, oh_o, ow_o] if order == "channels" else [oh_o, co_o, ow_o]
    s.reorder(out, [*around, *inner, oh_i, ow_i, co_i, ci])
    outer = inner if prologue else [fuse_all(s, out, around), *inner]
    if total:
        s.compute_at(total, out, co_o)
        _place_partial_sums(s, total, conv, (rows, columns), (cuts[oh_o] if order == "channels" else [], cuts[ow_o]))
    else:
        s.compute_at(conv, out, ow_o)
    mark_tile(s, out, [oh_i, ow_i, co_i], ci)
    for axis, points in cuts.items():
        s.partition(out, axis, points)
    if prologue:
        place_in_block(s, prologue, out, blocks, lanes, columns if packed else 0)
        shared = around
    elif total:
        shared = outer[: 1 + outer.index(co_o)]
    else:
        chunks = outer[0].extent * outer[1].extent * outer[2].extent
        few = target.threads > 1 and chunks < 4 * target.threads
        shared = outer if few else outer[:3]
    parallel = fuse_all(s, out, shared)
    innermost = parallel if shared[-1] is outer[-1] else outer[-1]
    s.parallel(out, parallel)

    if d.choose("prefetch_operands", [False, True], not is_double(target)):
        for source in out.inputs():
            if source not in (conv.tensor, total and total.tensor) and source.shape == anchor.shape:
                s.prefetch(out, source, innermost, 0)
    if not stores_past_caches(s, d, out, target) and d.choose("prefetch_output", [False, True], not is_double(target)):
        s.prefetch(out, out, innermost, 0)

    unroll_rows = taps_unrolled == "xy" or (rows > 1 and window_y.has_border())
    reduced = _sum_in_registers(s, conv, rank, lanes, steps, streams, unroll_rows)
    if prologue and block.ahead:
        for source in prologue.inputs():
            if source.elements == prologue.tensor.elements:
                s.prefetch(conv, source, reduced[0], 1, blocks)
    weights = pack_weights(s, anchor, conv, vectors * lanes, lanes)
    if ahead and weights is not None:
        of_panel = inner[1 + inner.index(co_o) :]
        share = max(of_panel, key=lambda a: a.extent) if ahead == "shared" and not total else None
        s.prefetch(conv, weights, reduced[-1], streams * prod(a.extent for a in reduced), share=share)


def taps_of_rows(s: Schedule, d: Decider, target: Target, out: Stage, conv: Stage) -> None:
    """Schedule ``conv``, which ``out`` reads element by element, with the taps of a row of the filter as channels."""
    spread, taps = s.use_algorithm(conv, "row_taps", {})
    s.compute_inline(conv)
    s.precompute(spread)
    n, co, oh, ow, lane = out.leaves
    ow_o, ow_i = s.split(out, ow, min(4, ow.extent), tail="guard")
    s.partition(out, ow_o, tail_cut(ow.extent, 4))
    mark_tile(s, out, [ow_i], lane)
    s.parallel(out, fuse_all(s, out, [n, co, oh]))
    direct(s, d, target, taps.tensor, taps, s.cache_write(taps))


# ---------------------------------------------------------------------------------------- parts


def _number_pixels(
    s: Schedule,
    d: Decider,
    target: Target,
    anchor: Compute,
    conv: Stage,
    prologue: Stage | None,
    channel_tiles: int,
) -> tuple[Stage, Stage | None, bool] | None:
    """Let a 1x1 convolution go through its pixels in one dimension, where that applies and is decided.

    Returns the stage that sums, the one that computes its data if one does now, and whether that copies an input; None
    where pixels stay in rows.
    """
    window_y, window_x = windows(anchor)
    plain = flat.applies(conv.tensor)
    may_copy = flat.applies(conv.tensor, copy=1) and blocks_of_channels(anchor) and reads_an_input(anchor)
    if conv.body is not conv.tensor.body or window_y.outputs == 1 or not (plain or may_copy):
        return None
    copied = gains_copied(anchor, target)
    default = copied or (plain and gains_flat(window_y, window_x, channel_tiles, anchor, target))
    if not d.choose("flat_pixels", [False, True], default):
        return None
    copies = may_copy and (not plain or d.choose("copy_input", [False, True], copied))
    *numbered, pixels = s.use_algorithm(conv, "flat", {"copy": 1} if copies else {})
    s.compute_inline(conv)
    if prologue:
        s.compute_inline(prologue)
    return pixels, numbered[0] if prologue or copies else None, copies


def _place_partial_sums(
    s: Schedule, total: Stage, partial: Stage, tile: tuple[int, int], cuts: tuple[list[int], list[int]]
) -> None:
    """Compute ``partial`` by register tiles (rows, columns), inside of the loop of ``total`` over blocks of the sum."""
    image, channels, row, column, lane = total.roots
    row_o, row_i = s.split(total, row, min(tile[0], row.extent), tail="guard")
    column_o, column_i = s.split(total, column, min(tile[1], column.extent), tail="guard")
    s.reorder(total, [image, *total.reduce_roots, row_o, column_o, row_i, column_i, channels, lane])
    s.compute_at(partial, total, column_o)
    mark_tile(s, total, [row_i, column_i, channels], lane)
    for axis, points in zip((row_o, column_o), cuts, strict=True):
        s.partition(total, axis, [cut for cut in points if cut < axis.extent])


def _sum_in_registers(
    s: Schedule, conv: Stage, rank: int, lanes: int, steps: int, streams: int, unroll_rows: bool
) -> list[LoopAxis]:
    """Put the loops of the stage that a register tile holds in order; returns those of its sum, outermost first.

    steps        blocked input channels in an iteration, where their number is a multiple of it
    streams      parts of the input channels that go side by side
    unroll_rows  unroll the rows of the filter too
    """
    *of_block, image, channels = conv.roots[: -rank - 1]
    *pixel, lane = conv.roots[-rank - 1 :]
    spatial = [*of_block, image, *pixel, channels]  # channels innermost: one broadcast serves all of a point's vectors
    if lane.extent > lanes:
        vector, lane = s.split(conv, lane, lanes)
        spatial.append(vector)
    first, *rest = conv.reduce_roots
    parts, first = split_streams(s, conv, first, streams)
    taps, last = rest[:rank], rest[rank:]
    taps_x = unroll_row_of_taps(s, conv, taps[-1])
    # a rolled loop innermost keeps the blocks of code small
    reduced = [first, *taps[:-1], *taps_x, *last] if last else [*taps[:-1], *taps_x, first]
    s.reorder(conv, [*reduced, *parts, *spatial, lane])
    if rank > 1 and unroll_rows:
        s.unroll(conv, taps[-2])
    if last and steps > 1 and reduced[-1].extent % steps == 0:
        reduced[-1], step = s.split(conv, reduced[-1], steps)
        s.unroll(conv, step)
    mark_tile(s, conv, spatial, lane)
    return reduced
