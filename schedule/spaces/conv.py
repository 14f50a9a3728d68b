"""Convolution over channel-blocked images, (N, C/c, H, W, c), also of one or three dimensions.

Direct convolution: a register tile of ``rows x columns x vectors`` accumulators lives in registers over the whole
reduction; weights are packed into the order in which the tile reads them; loops are cut where taps fall on padding, so
that the interior has no conditions and the borders skip the taps (Georganas et al., SC 2018, describe the loop
structure; the cutting is done by ``partition``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import cast

from ...target import Target
from ...te.ops import flat, row_taps
from ...te.ops.strassen import levels_of
from ...te.ops.winograd import applies, tile_sizes
from ...te.tensor import Compute
from ..algorithms import allows
from ..decide import Decider
from ..schedule import Schedule
from ..space import register
from ..stage import Stage
from .common import (
    NEAR_PANEL,
    Window,
    default_unroll,
    fuse_all,
    isolate_anchor,
    mark_tile,
    panel_cycles,
    register_tiles,
    step_cycles,
    tail_cut,
    tile_parts,
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
from .row_taps import row_taps_cycles
from .strassen import strassen
from .strassen_cost import strassen_cycles
from .traffic import is_wide, memory_rate
from .winograd import winograd
from .winograd_cost import Size, estimated_cycles

STRASSEN = ["strassen", "strassen2"]
"""Algorithms by the levels of Strassen's."""

FLAT_GAIN = 0.96
"""The share of the time row by row below which pixels are numbered in one dimension: less is within the estimate."""


LEAST_COPIED, LEAST_OUTPUTS = 128, 64
"""Channels of an image, and of the output, from which on copying it block by block pays."""


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
    plain = flat.applies(conv.tensor)
    may_copy = flat.applies(conv.tensor, copy=1) and blocks_of_channels(anchor) and reads_an_input(anchor)
    flatten = conv.body is conv.tensor.body and window_y.outputs > 1 and (plain or may_copy)
    copied, copies = gains_copied(anchor, target), False
    flat_default = copied or (plain and gains_flat(window_y, window_x, channel_tiles, anchor, target))
    if flatten and d.choose("flat_pixels", [False, True], flat_default):
        copies = may_copy and (not plain or d.choose("copy_input", [False, True], copied))
        *numbered, pixels = s.use_algorithm(conv, "flat", {"copy": 1} if copies else {})
        s.compute_inline(conv)
        conv = pixels
        if prologue:
            s.compute_inline(prologue)
        if prologue or copies:
            (prologue,) = numbered
        window_y, window_x = flat_windows(window_y, window_x)
    if prologue and not copies and d.choose("prologue", PLACES, "block") == "inline":
        s.compute_inline(prologue)
        prologue = None
    options, best = tile_options(window_y, window_x, channel_tiles, anchor, target)
    rows, columns, vectors = d.choose("tile", options, best)
    order = d.choose("order", ["channels", "rows"], default_order(anchor, target))
    taps_unrolled = d.choose("unroll_taps", ["x", "xy"], "x")
    steps = d.choose("unroll_channels", [1, 2, 4], default_channel_unroll(anchor, rows * columns, vectors, target))

    blocked = blocks_of_channels(anchor)
    in_order = prologue is not None and reads_packed(copies, window_y, target)
    ahead = blocked and d.choose("prefetch", [False, True], not in_order and prefers_prefetch(anchor, target))

    total = None
    if may_sum_in_blocks(anchor, lanes):
        extents = [axis.extent for axis in conv.reduce_axes]
        each = d.choose("sum_blocks", sum_blocks(extents[0]), default_sum_block(extents, vectors, target))
        if each:
            partial, total = s.use_algorithm(conv, "blocked_sum", {"steps": each})
            s.compute_inline(conv)
            conv = partial

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
        place_partial_sums(s, total, conv, (rows, columns), (cuts[oh_o] if order == "channels" else [], cuts[ow_o]))
    else:
        s.compute_at(conv, out, ow_o)
    mark_tile(s, out, [oh_i, ow_i, co_i], ci)
    for axis, points in cuts.items():
        s.partition(out, axis, points)
    if prologue:
        place_in_block(s, prologue, out, blocks, lanes, columns if reads_packed(copies, window_y, target) else 0)
        innermost = outer[-1]
        s.parallel(out, fuse_all(s, out, around))
    elif total:
        shared = outer[: 1 + outer.index(co_o)]
        innermost = outer[-1]
        s.parallel(out, fuse_all(s, out, shared))
    else:
        chunks = outer[0].extent * outer[1].extent * outer[2].extent
        few = target.threads > 1 and chunks < 4 * target.threads
        innermost = fuse_all(s, out, outer) if few else outer[-1]
        s.parallel(out, innermost if few else fuse_all(s, out, outer[:3]))

    if d.choose("prefetch_operands", [False, True], True):
        for source in out.inputs():
            if source not in (conv.tensor, total and total.tensor) and source.shape == anchor.shape:
                s.prefetch(out, source, innermost, 0)
    if d.choose("prefetch_output", [False, True], True):
        s.prefetch(out, out, innermost, 0)

    *of_block, image, channels = conv.roots[: -rank - 1]
    *pixel, lane = conv.roots[-rank - 1 :]
    spatial = [*of_block, image, *pixel, channels]  # channels innermost: one broadcast serves all of a point's vectors
    if lane.extent > lanes:
        vector, lane = s.split(conv, lane, lanes)
        spatial.append(vector)
    first, *rest = conv.reduce_roots
    taps, last = rest[:rank], rest[rank:]
    taps_x = unroll_row_of_taps(s, conv, taps[-1])
    # a rolled loop innermost keeps the blocks of code small
    reduced = [first, *taps[:-1], *taps_x, *last] if blocked else [*taps[:-1], *taps_x, first]
    s.reorder(conv, [*reduced, *spatial, lane])
    if rank > 1 and (taps_unrolled == "xy" or (rows > 1 and window_y.has_border())):
        s.unroll(conv, taps[-2])
    rolled = reduced[-1]
    if blocked and steps > 1 and rolled.extent % steps == 0:
        rolled, step = s.split(conv, rolled, steps)
        s.unroll(conv, step)
    mark_tile(s, conv, spatial, lane)
    if prologue and block.ahead:
        for source in prologue.inputs():
            if source.elements == prologue.tensor.elements:
                s.prefetch(conv, source, reduced[0], 1, blocks)
    weights = pack_weights(s, anchor, conv, vectors * lanes, lanes)
    if ahead and weights is not None:
        panel = prod(a.extent for a in conv.reduce_axes) // (steps if rolled is not reduced[-1] else 1)
        s.prefetch(conv, weights, rolled, panel)


def place_partial_sums(
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


def reads_packed(copies: bool, window_y: Window, target: Target) -> bool:
    """Whether what is placed in blocks lies there in the order in which register tiles of pixels read it."""
    return copies or (window_y.outputs == 1 and not is_wide(target))


def default_order(anchor: Compute, target: Target) -> str:
    """What to go through first: narrow tiles of an image that is not in blocks of channels (a model's first layer) had
    better meet the same rows again, with all output channels, whose few weights are at hand."""
    weight_bytes = 4 * prod(anchor.inputs()[-1].shape)
    stem = not is_wide(target) and not blocks_of_channels(anchor) and weight_bytes <= target.l2_bytes // 2
    return "rows" if stem else "channels"


def may_sum_in_blocks(anchor: Compute, lanes: int) -> bool:
    """Whether sums over blocks of input channels are in the space: for images in blocks of one vector of channels."""
    return image_rank(anchor) == 2 and blocks_of_channels(anchor) and anchor.shape[-1] == lanes


def sum_blocks(blocks: int) -> list[int]:
    """Of how many blocks of input channels a partial sum may be; 0: of all of them, in one sum."""
    return [0, *(n for n in (2, 4, 8, 16, 32, 64) if n < blocks and blocks % n == 0)]


def default_sum_block(extents: Sequence[int], vectors: int, target: Target) -> int:
    """Partial sums whose weights stay in the first-level cache, where all of a narrow tile's do not; ``extents`` are
    those of the reduction. Without a window the pixels lie in the order in which they are read, and all is read fast
    enough."""
    blocks, *rest = extents
    each = prod(rest) * vectors * target.vector_bits // 8
    near = 2 * NEAR_PANEL * target.l1_bytes
    if is_wide(target) or prod(rest[:-1]) == 1 or blocks * each <= near:
        return 0
    return max((n for n in sum_blocks(blocks) if n * each <= near), default=0)


@lru_cache(maxsize=256)
def default_algorithm(anchor: Compute, algorithms: tuple[str, ...], target: Target) -> str:
    """The algorithm of which the estimate expects the least time."""
    steps = 1
    for axis in anchor.reduce_axes:
        steps *= axis.extent
    vectors = anchor.elements // target.lanes()
    weight_bytes = steps * anchor.shape[1] * anchor.shape[-1] * 4
    on_image = 1.0  # taps on padding are skipped
    for window in windows(anchor):
        on_image *= window.share_inside()
    products = vectors * steps / 0.98 if is_wide(target) else direct_cycles(anchor, target) * steps
    direct = max(products * on_image, weight_bytes / memory_rate(target.with_threads(1)))
    costs = {"direct": direct / target.threads}
    for name in algorithms[1:]:
        if name == "row_taps":
            costs[name] = row_taps_cycles(anchor, direct, target)
            continue
        if name in STRASSEN:
            costs[name] = strassen_cycles(anchor, 1 + STRASSEN.index(name), target)
            continue
        size = Size.of(anchor, int(name.removeprefix("winograd")))
        costs[name] = winograd_margin(size, target) * estimated_cycles(size, target)
    return min(costs, key=lambda name: costs[name])


def winograd_margin(size: Size, target: Target) -> float:
    """How much faster than the direct space Winograd's algorithm must be by the estimate.

    A large filter comes from memory in a model. With narrow vectors, of which there are few, what large transforms and
    those of a stride take is underestimated.
    """
    large = size.inputs > 49
    if is_wide(target):
        return 1.1 if large else 1.05
    return 1.4 if large else 1.3 if size.stride > 1 else 1.05


def direct_cycles(anchor: Compute, target: Target) -> float:
    """Estimated cycles of one reduction step over all register tiles of the direct space."""
    window_y, window_x = windows(anchor)
    channels = anchor.shape[1] * anchor.shape[-1]
    images = anchor.elements // max(1, window_y.outputs * window_x.outputs * channels)
    channel_tiles = channels // target.lanes()
    _, (rows, columns, vectors) = tile_options(window_y, window_x, channel_tiles, anchor, target)
    return images * _tile_cost((rows, columns, vectors), window_y, window_x, channel_tiles, anchor, target)


def winograd_tiles(anchor: Compute, lanes: int, prologue: bool = False) -> list[int]:
    """The m of the F(m, r) that compute this convolution in whole vectors (:mod:`luthier.te.ops.winograd`).

    None of them may where it is to be exact. prologue: the data are a stage that can be inlined in their transform.
    """
    fits = applies(anchor) and anchor.shape[4] == lanes and has_constant_weights(anchor)
    if not fits or not (prologue or reads_an_input(anchor)):
        return []
    if not allows(anchor, "winograd"):
        return []
    taps, stride = (cast(tuple[int, ...], anchor.attrs[name])[0] for name in ("kernel", "strides"))
    return tile_sizes(taps, stride)


def strassen_levels(anchor: Compute, prologue: bool) -> int:
    """How many levels of Strassen's algorithm compute this convolution (:mod:`luthier.te.ops.strassen`), and may.

    prologue: the data are a stage that can be inlined in the sums of the image.
    """
    may = (prologue or reads_an_input(anchor)) and allows(anchor, "strassen")
    return levels_of(anchor) if may else 0


def flat_windows(window_y: Window, window_x: Window) -> tuple[Window, Window]:
    """The windows of a 1x1 convolution whose pixels are numbered in one dimension."""
    pixels = window_y.outputs * window_x.outputs
    return Window.pointwise(1), Window.pointwise(pixels)


@lru_cache(maxsize=256)
def gains_flat(window_y: Window, window_x: Window, channel_tiles: int, anchor: Compute, target: Target) -> bool:
    """Whether register tiles cover an image's pixels much better in one dimension than row by row."""

    def cost(y: Window, x: Window) -> float:
        _, (rows, columns, vectors) = tile_options(y, x, channel_tiles, anchor, target)
        return _tile_cost((rows, columns, vectors), y, x, channel_tiles, anchor, target)

    return cost(*flat_windows(window_y, window_x)) < FLAT_GAIN * cost(window_y, window_x)


def gains_copied(anchor: Compute, target: Target) -> bool:
    """Whether a block of the image is better copied before many channels are computed of it: what a narrow register
    tile reads of each block of channels is too little for the arithmetic on it to hide the way from far."""
    data = anchor.inputs()[0]
    if is_wide(target) or not blocks_of_channels(anchor) or not flat.applies(anchor, int(reads_an_input(anchor))):
        return False
    inputs, outputs = (x.shape[1] * x.shape[-1] for x in (data, anchor))
    return inputs >= LEAST_COPIED and outputs >= LEAST_OUTPUTS


@lru_cache(maxsize=256)
def tile_options(
    window_y: Window, window_x: Window, channel_tiles: int, anchor: Compute, target: Target
) -> tuple[list[list[int]], list[int]]:
    """Register tiles that fit, and the one that the estimate prefers. Kept: a search asks again for each candidate."""
    columns = range(1, min(window_x.outputs, 28) + 1)
    rows = [r for r in (1, 2, 3, 4, 7) if r <= window_y.outputs]
    groups = int(cast(int, anchor.attrs.get("groups", 1)))
    of_one_group = max(1, channel_tiles // groups)
    vectors = [v for v in (1, 2, 3, 4) if v <= of_one_group and (groups == 1 or of_one_group % v == 0)]
    tiles = list(register_tiles(rows, columns, vectors, target))
    best = min(tiles, key=lambda t: _tile_cost(t, window_y, window_x, channel_tiles, anchor, target))
    useful = [t for t in tiles if t[0] * t[1] * t[2] >= min(best[0] * best[1] * best[2], 8) // 2 or t == best]
    return [list(t) for t in useful], list(best)


def _tile_cost(
    tile: tuple[int, int, int], window_y: Window, window_x: Window, channel_tiles: int, anchor: Compute, target: Target
) -> float:
    """Estimated cycles of all tiles for one reduction step: incomplete tiles at the ends cost what they are.

    A tile reads its weights, or those of a partial sum, once for each step.
    """
    rows, columns, vectors = tile
    extents = [axis.extent for axis in anchor.reduce_axes]
    if may_sum_in_blocks(anchor, target.lanes()) and (each := default_sum_block(extents, vectors, target)):
        extents[0] = each
    load_cycles = panel_cycles(vectors, prod(extents) * vectors * target.vector_bits // 8, target)

    total = 0.0
    for count_y, y in tile_parts(window_y.outputs, rows):
        for count_x, x in tile_parts(window_x.outputs, columns):
            for count_v, v in tile_parts(channel_tiles, vectors):
                cycles = max(step_cycles(y * x, v, target, y * window_x.loads(x)), load_cycles * v / vectors)
                total += count_y * count_x * count_v * (cycles + 0.6)
    bodies = len(window_x.border_cuts(columns)) + 1
    bodies *= len(window_y.border_cuts(rows)) + 1 if rows > 1 else 1
    return total * (1 + 0.002 * bodies)


def prefers_prefetch(anchor: Compute, target: Target) -> bool:
    """Whether the weights are too large to be at hand when the kernel runs."""
    return 4 * prod(anchor.inputs()[-1].shape) > target.l2_bytes // 2


def default_channel_unroll(anchor: Compute, points: int, vectors: int, target: Target) -> int:
    """Input channels to unroll: a small tile needs more work in each iteration, a large one stays small.

    A loop over the channels of a narrow block has few iterations, too few where there is one tap in each.
    """
    if not blocks_of_channels(anchor):
        return 1
    taps_x, inner = (axis.extent for axis in anchor.reduce_axes[-2:])
    few = inner <= 8 and taps_x == 1 and vectors > 1
    wanted = 4 if few else default_unroll(points * vectors, target, taps_x)
    return wanted if inner % wanted == 0 else 1
