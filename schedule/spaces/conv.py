"""Convolution and pooling over channel-blocked images, (N, C/c, H, W, c).

Direct convolution: a register tile of ``rows x columns x vectors`` accumulators lives in registers over the whole
reduction; weights are packed into the order in which the tile reads them; loops are cut where taps fall on padding, so
that the interior has no conditions and the borders skip the taps (Georganas et al., SC 2018, describe the loop
structure; the cutting is done by ``partition``).
"""

from __future__ import annotations

from math import prod
from typing import cast

from ...target import Target
from ...te.ops import flat
from ...te.ops.winograd import applies, tile_sizes
from ...te.tensor import Compute, Placeholder
from ..algorithms import allows
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..space import register
from ..stage import Stage
from .common import (
    Window,
    default_unroll,
    fuse_all,
    isolate_anchor,
    register_tiles,
    step_cycles,
    tail_cut,
    tile_parts,
)
from .general import general
from .prologue import PLACES, Sizes, choose_block, divide, find_prologue, place_in_block
from .winograd import winograd
from .winograd_cost import MEMORY_BYTES_PER_CYCLE, Size, estimated_cycles

FLAT_GAIN = 0.96
"""The share of the time row by row below which pixels are numbered in one dimension: less is within the estimate."""


@register("conv2d")
def conv2d(s: Schedule, d: Decider, target: Target) -> None:
    """The space of direct convolutions whose output is channel-blocked; others take the general space."""
    anchor = s.workload.anchor
    lanes = target.lanes()
    if not is_image(s, anchor):
        general(s, d, target)
        return
    if cuts_vectors(anchor, lanes):
        if anchor.shape[1] == 1 and len(anchor.reduce_axes) in (3, 4):
            grouped(s, d, target)
        else:
            general(s, d, target)
        return
    prologue = find_prologue(s, anchor, lanes)
    isolated = isolate_anchor(s, keep=[prologue] if prologue else [])
    if isolated is None:
        general(s, d, target)
        return
    out, conv = isolated
    algorithms = ["direct", *(f"winograd{m}" for m in winograd_tiles(anchor, lanes, prologue is not None))]
    algorithm = d.choose("algorithm", algorithms, default_algorithm(anchor, algorithms, target))
    if algorithm != "direct":
        winograd(s, d, target, conv, out, int(algorithm.removeprefix("winograd")))
        return
    window_y, window_x = windows(anchor)
    channel_tiles = anchor.shape[1] * (anchor.shape[4] // lanes)
    flatten = conv.body is conv.tensor.body and flat.applies(conv.tensor) and window_y.outputs > 1
    if flatten and d.choose(
        "flat_pixels", [False, True], gains_flat(window_y, window_x, channel_tiles, anchor, target)
    ):
        *numbered, pixels = s.use_algorithm(conv, "flat", {})
        s.compute_inline(conv)
        conv = pixels
        if prologue:
            s.compute_inline(prologue)
            (prologue,) = numbered
        window_y, window_x = flat_windows(window_y, window_x)
    if prologue and d.choose("prologue", PLACES, "block") == "inline":
        s.compute_inline(prologue)
        prologue = None
    options, best = tile_options(window_y, window_x, channel_tiles, anchor, target)
    rows, columns, vectors = d.choose("tile", options, best)
    order = d.choose("order", ["channels", "rows"], "channels")
    taps_unrolled = d.choose("unroll_taps", ["x", "xy"], "x")
    steps = d.choose("unroll_channels", [1, 2, 4], default_channel_unroll(anchor, rows * columns, vectors, target))

    ahead = len(anchor.reduce_axes) == 4 and d.choose("prefetch", [False, True], prefers_prefetch(anchor, target))

    n, co, oh, ow, ci = out.leaves
    if window_y.outputs < oh.extent:
        oh, ow = s.split(out, s.fuse(out, oh, ow), window_x.outputs)
    if ci.extent > lanes:  # one block holds all channels: its vectors take the place of the blocks
        n = s.fuse(out, n, co)
        co, ci = s.split(out, ci, lanes)
    co_o, co_i = s.split(out, co, vectors, tail="guard")
    oh_o, oh_i = s.split(out, oh, rows, tail="guard")
    ow_o, ow_i = s.split(out, ow, columns, tail="guard")
    cuts = {
        ow_o: window_x.border_cuts(columns),
        oh_o: window_y.border_cuts(rows) if rows > 1 else [],
        co_o: tail_cut(co.extent, vectors),
    }
    around = [n]
    if prologue:
        along, window = (ow_o, window_x) if window_y.outputs == 1 else (oh_o, window_y)
        block = choose_block(d, Sizes.of(anchor, window, along.extent, vectors, lanes), target)
        parts, co_o = divide(s, out, co_o, co_o.extent // block.parts, cuts)
        blocks, within = divide(s, out, along, block.tiles, cuts)
        oh_o, ow_o = (oh_o, within) if along is ow_o else (within, ow_o)
        around = [n, parts, blocks]
    outer = [*around, co_o, oh_o, ow_o] if order == "channels" else [*around, oh_o, co_o, ow_o]
    s.reorder(out, [*outer, oh_i, ow_i, co_i, ci])
    s.compute_at(conv, out, ow_o)
    mark_tile(s, out, [oh_i, ow_i, co_i], ci)
    for axis, points in cuts.items():
        s.partition(out, axis, points)
    if prologue:
        place_in_block(s, prologue, out, blocks, lanes)
        innermost = outer[-1]
        s.parallel(out, fuse_all(s, out, around))
    else:
        chunks = outer[0].extent * outer[1].extent * outer[2].extent
        few = target.threads > 1 and chunks < 4 * target.threads
        innermost = fuse_all(s, out, outer) if few else outer[-1]
        s.parallel(out, innermost if few else fuse_all(s, out, outer[:3]))

    if d.choose("prefetch_operands", [False, True], True):
        for source in out.inputs():
            if source is not conv.tensor and source.shape == anchor.shape:
                s.prefetch(out, source, innermost, 0)
    if d.choose("prefetch_output", [False, True], True):
        s.prefetch(out, out, innermost, 0)

    image, channels, row, column, lane = conv.roots
    reduced = list(conv.reduce_roots)
    spatial = [image, row, column, channels]  # channels innermost: one broadcast serves all of a point's vectors
    if lane.extent > lanes:
        vector, lane = s.split(conv, lane, lanes)
        spatial.append(vector)
    taps_y, taps_x = reduced[1], reduced[2]
    if len(reduced) == 3:
        reduced = [taps_y, taps_x, reduced[0]]  # the rolled loop innermost keeps the blocks of code small
    s.reorder(conv, [*reduced, *spatial, lane])
    s.unroll(conv, taps_x)
    if taps_unrolled == "xy" or (rows > 1 and window_y.has_border()):
        s.unroll(conv, taps_y)
    rolled = reduced[-1]
    if len(reduced) == 4 and steps > 1 and rolled.extent % steps == 0:
        rolled, step = s.split(conv, rolled, steps)
        s.unroll(conv, step)
    mark_tile(s, conv, spatial, lane)
    if prologue and block.ahead:
        s.prefetch(conv, max(prologue.inputs(), key=lambda x: x.elements), reduced[0], 1, blocks)
    if ahead:
        panel = prod(a.extent for a in anchor.reduce_axes) // (steps if rolled is not reduced[-1] else 1)
        s.prefetch(conv, anchor.inputs()[-1], rolled, panel)
    pack_weights(s, anchor, vectors * lanes)


def grouped(s: Schedule, d: Decider, target: Target) -> None:
    """Convolution whose channels lie in one block (N, 1, H, W, C), group by group; the last vector may be short."""
    anchor = s.workload.anchor
    lanes = target.lanes()
    isolated = isolate_anchor(s)
    if isolated is None:
        general(s, d, target)
        return
    out, conv = isolated
    groups = int(cast(int, anchor.attrs.get("groups", 1)))
    channels = anchor.shape[4] // groups
    vectors = -(-channels // lanes)
    _, window_x = windows(anchor)
    room = max(1, (target.vector_registers - 2 - vectors) // vectors)
    options = [c for c in range(1, 15) if c <= min(room, window_x.outputs)]
    columns = d.choose("columns", options, _even_tile(window_x.outputs, options))

    n, _, oh, ow, c = out.leaves
    group, member = s.split(out, c, channels)
    ow_o, ow_i = s.split(out, ow, columns, tail="guard")
    outer = [n, out.leaves[1], group, oh]
    s.reorder(out, [*outer, ow_o, ow_i, member])
    s.compute_at(conv, out, ow_o)
    s.unroll(out, ow_i)
    _cut_vectors(s, out, member, lanes)
    s.partition(out, ow_o, window_x.border_cuts(columns))
    s.parallel(out, fuse_all(s, out, outer))

    *spatial, lane = conv.roots
    reduced = list(conv.reduce_roots)
    if len(reduced) == 3:
        reduced = [*reduced[1:], reduced[0]]
    s.reorder(conv, [*reduced, *spatial, lane])
    s.unroll(conv, reduced[1] if len(anchor.reduce_axes) == 3 else reduced[2])
    for axis in spatial:
        s.unroll(conv, axis)
    _cut_vectors(s, conv, lane, lanes)
    pack_weights(s, anchor, channels)


def _even_tile(extent: int, options: list[int]) -> int:
    """The widest tile of those that need the fewest steps."""
    fewest = min(-(-extent // c) for c in options)
    return min(c for c in options if -(-extent // c) == fewest)


def _cut_vectors(s: Schedule, stage: Stage, axis: LoopAxis, lanes: int) -> None:
    """Run a loop in vectors, each with code of its own, the last one as short as it is."""
    outer, inner = s.split(stage, axis, lanes, tail="guard")
    s.partition(stage, outer, list(range(1, outer.extent)))
    s.vectorize(stage, inner)


@register("depthwise_conv2d", "pool")
def window(s: Schedule, d: Decider, target: Target) -> None:
    """The space of depthwise convolution and pooling: each channel block on its own, all taps unrolled."""
    anchor = s.workload.anchor
    lanes = target.lanes()
    if not is_image(s, anchor) or len(anchor.reduce_axes) != 2:
        general(s, d, target)
        return
    isolated = isolate_anchor(s)
    if isolated is None:
        general(s, d, target)
        return
    out, conv = isolated
    window_y, window_x = windows(anchor)
    limit = target.vector_registers - 4
    options = [
        [r, c]
        for r in (1, 2, 3, 4)
        for c in range(1, 15)
        if r * c <= limit and r <= window_y.outputs and c <= window_x.outputs
    ]
    small = window_y.taps * window_x.taps <= 25
    preferred = [min(2, window_y.outputs), min(4, window_x.outputs)] if small else [1, min(4, window_x.outputs)]
    rows, columns = d.choose("tile", options, preferred)
    unroll_y = d.choose("unroll_taps_y", [False, True], small)

    n, co, oh, ow, ci = out.leaves
    ci_outer: list[LoopAxis] = []
    if ci.extent > lanes:
        channels = ci.extent
        chunk, ci = s.split(out, ci, lanes, tail="guard")
        s.partition(out, chunk, tail_cut(channels, lanes))
        ci_outer = [chunk]
    oh_o, oh_i = s.split(out, oh, rows, tail="guard")
    ow_o, ow_i = s.split(out, ow, columns, tail="guard")
    outer = [n, co, oh_o]
    s.reorder(out, [*outer, *ci_outer, ow_o, oh_i, ow_i, ci])
    s.compute_at(conv, out, ow_o)
    mark_tile(s, out, [oh_i, ow_i], ci)
    s.partition(out, ow_o, window_x.border_cuts(columns))
    if rows > 1 or unroll_y:
        s.partition(out, oh_o, window_y.border_cuts(rows))
    s.parallel(out, fuse_all(s, out, outer))

    *spatial, lane = conv.roots
    taps_y, taps_x = conv.reduce_roots
    s.reorder(conv, [taps_y, taps_x, *spatial, lane])
    s.unroll(conv, taps_x)
    if unroll_y or rows > 1:
        s.unroll(conv, taps_y)
    mark_tile(s, conv, spatial, lane)
    pack_weights(s, anchor, lanes)


# ---------------------------------------------------------------------------------------- parts


def default_algorithm(anchor: Compute, algorithms: list[str], target: Target) -> str:
    """The algorithm of which the estimate expects the least time."""
    steps = 1
    for axis in anchor.reduce_axes:
        steps *= axis.extent
    vectors = anchor.elements // target.lanes()
    weight_bytes = steps * anchor.shape[1] * anchor.shape[4] * 4
    on_image = 1.0  # taps on padding are skipped
    for window in windows(anchor):
        on_image *= window.share_inside()
    direct = max(vectors * steps * on_image / 0.98, weight_bytes / MEMORY_BYTES_PER_CYCLE)
    costs = {"direct": direct / target.threads}
    for name in algorithms[1:]:
        size = Size.of(anchor, int(name.removeprefix("winograd")))
        margin = 1.05 if size.points <= 36 else 1.1
        costs[name] = margin * estimated_cycles(size, target)
    return min(costs, key=lambda name: costs[name])


def winograd_tiles(anchor: Compute, lanes: int, prologue: bool = False) -> list[int]:
    """The m of the F(m, r) that compute this convolution in whole vectors (:mod:`luthier.te.ops.winograd`).

    None of them may where it is to be exact. prologue: the data are a stage that can be inlined in their transform.
    """
    data, weights = anchor.inputs()[0], anchor.inputs()[-1]
    constant = isinstance(weights, Placeholder) and weights.constant
    if not (applies(anchor) and anchor.shape[4] == lanes and constant and (prologue or isinstance(data, Placeholder))):
        return []
    if not allows(anchor, "winograd"):
        return []
    return tile_sizes(cast(tuple[int, ...], anchor.attrs["kernel"])[0])


def is_image(s: Schedule, anchor: Compute) -> bool:
    """Whether the anchor is a channel-blocked image, and the workload has one result."""
    return len(anchor.shape) == 5 and 0 not in anchor.shape and len(s.workload.outputs) == 1


def cuts_vectors(anchor: Compute, lanes: int) -> bool:
    """Whether the channels of a block, or of a group within it, are no whole number of vectors."""
    groups = int(cast(int, anchor.attrs.get("groups", 1)))
    block = anchor.shape[4]
    if block % lanes or (block > lanes and anchor.shape[1] > 1):
        return True
    return groups > 1 and (anchor.shape[1] * block // groups) % lanes != 0


def windows(anchor: Compute) -> tuple[Window, Window]:
    """The vertical and the horizontal window of a convolution or pooling, from its attrs and its data (first input)."""
    attrs = anchor.attrs

    def pair(name: str, default: int) -> tuple[int, int]:
        given = attrs.get(name, (default, default))
        return cast(tuple[int, int], tuple(cast(tuple[int, ...], given)[:2]))

    kernel, strides, dilations, pads = pair("kernel", 1), pair("strides", 1), pair("dilations", 1), pair("pads", 0)
    inputs = anchor.inputs()[0].shape[2:4]
    return tuple(  # type: ignore[return-value]
        Window(anchor.shape[2 + i], inputs[i], kernel[i], strides[i], dilations[i], pads[i]) for i in (0, 1)
    )


def flat_windows(window_y: Window, window_x: Window) -> tuple[Window, Window]:
    """The windows of a 1x1 convolution whose pixels are numbered in one dimension."""
    pixels = window_y.outputs * window_x.outputs
    return Window(1, 1, 1, 1, 1, 0), Window(pixels, pixels, 1, 1, 1, 0)


def gains_flat(window_y: Window, window_x: Window, channel_tiles: int, anchor: Compute, target: Target) -> bool:
    """Whether register tiles cover an image's pixels much better in one dimension than row by row."""

    def cost(y: Window, x: Window) -> float:
        _, (rows, columns, vectors) = tile_options(y, x, channel_tiles, anchor, target)
        return _tile_cost((rows, columns, vectors), y, x, channel_tiles, anchor, target)

    return cost(*flat_windows(window_y, window_x)) < FLAT_GAIN * cost(window_y, window_x)


def tile_options(
    window_y: Window, window_x: Window, channel_tiles: int, anchor: Compute, target: Target
) -> tuple[list[list[int]], list[int]]:
    """Register tiles that fit, and the one that the estimate prefers."""
    columns = range(1, min(window_x.outputs, 28) + 1)
    rows = [r for r in (1, 2, 3, 4, 7) if r <= window_y.outputs]
    groups = int(cast(int, anchor.attrs.get("groups", 1)))
    of_one_group = max(1, channel_tiles // groups)
    vectors = [v for v in (1, 2, 4) if v <= of_one_group and (groups == 1 or of_one_group % v == 0)]
    tiles = list(register_tiles(rows, columns, vectors, target))
    best = min(tiles, key=lambda t: _tile_cost(t, window_y, window_x, channel_tiles, anchor, target))
    useful = [t for t in tiles if t[0] * t[1] * t[2] >= min(best[0] * best[1] * best[2], 8) // 2 or t == best]
    return [list(t) for t in useful], list(best)


def _tile_cost(
    tile: tuple[int, int, int], window_y: Window, window_x: Window, channel_tiles: int, anchor: Compute, target: Target
) -> float:
    """Estimated cycles of all tiles for one reduction step: incomplete tiles at the ends cost what they are.

    A tile reads its weights once for each step; from the second-level cache if they fit there, else from further away.
    """
    rows, columns, vectors = tile
    steps = 1
    for axis in anchor.reduce_axes:
        steps *= axis.extent
    weight_bytes = steps * vectors * target.vector_bits // 8
    bytes_per_cycle = 24.0 if weight_bytes < 0.7 * target.l2_bytes else 7.0
    load_cycles = vectors * target.vector_bits / 8 / bytes_per_cycle

    total = 0.0
    for count_y, y in tile_parts(window_y.outputs, rows):
        for count_x, x in tile_parts(window_x.outputs, columns):
            for count_v, v in tile_parts(channel_tiles, vectors):
                cycles = max(step_cycles(y * x, v, target), load_cycles * v / vectors)
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
    if len(anchor.reduce_axes) != 4:
        return 1
    _, _, taps_x, inner = (axis.extent for axis in anchor.reduce_axes)
    wanted = 4 if inner <= 8 and taps_x == 1 and vectors > 1 else default_unroll(points * vectors, target)
    return wanted if inner % wanted == 0 else 1


def mark_tile(s: Schedule, stage: Stage, unrolled: list[LoopAxis], lane: LoopAxis) -> None:
    """Unroll the loops of a register tile and vectorise its lanes."""
    for a in unrolled:
        s.unroll(stage, a)
    s.vectorize(stage, lane)


def pack_weights(s: Schedule, anchor: Compute, block: int) -> None:
    """Lay constant weights (O, I, KH, KW) out in the order of the reads: [O/block][I..][KH][KW][I lanes][block]."""
    weights = [t for t in anchor.inputs() if isinstance(t, Placeholder) and t.constant and len(t.shape) == 4]
    if len(weights) != 1:
        return
    in_block = anchor.reduce_axes[3].extent if len(anchor.reduce_axes) == 4 else 0
    if in_block and weights[0].shape[1] > in_block:
        s.transform_layout(weights[0], [[block], [in_block], [], []], [(0, 0), (1, 0), (2, 0), (3, 0), (1, 1), (0, 1)])
    else:
        s.transform_layout(weights[0], [[block], [], [], []], [(0, 0), (2, 0), (3, 0), (1, 0), (0, 1)])
