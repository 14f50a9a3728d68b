"""The rules of :mod:`.conv`: which algorithms apply, what they and register tiles cost, and the defaults that follow.

Cycles are of one multiply-add of full width (:mod:`.traffic`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import cast

from ...target import Target
from ...te.ops import flat
from ...te.ops.strassen import levels_of
from ...te.ops.winograd import applies, tile_sizes
from ...te.tensor import Compute
from ..algorithms import allows
from .common import (
    PREFETCH,
    Window,
    default_unroll,
    overlapped,
    panel_cycles,
    register_tiles,
    step_cycles,
    tile_parts,
    tile_vectors,
)
from .images import blocks_of_channels, has_constant_weights, image_rank, reads_an_input, windows
from .row_taps import row_taps_cycles
from .strassen_cost import strassen_cycles
from .traffic import PerCore, is_double, is_wide, memory_rate, outruns_caches, stays_in_l3
from .winograd_cost import estimated_cycles
from .winograd_size import Size

STRASSEN = ["strassen", "strassen2"]
"""Algorithms by the levels of Strassen's."""

MANY_TILES = 64
"""Tiles that are enough for large transforms where a core starts two 512-bit multiply-adds: with fewer, their filter
takes longer to read than estimated (64 channels at 112 x 112: 0.99 of F(4, 3)'s time by estimate, 0.91 measured; 128 at
28 x 28: 0.97 by estimate, 1.11 measured)."""

FLAT_GAIN = PerCore(0.96, 1.001, 0.96)
"""The share of the time row by row below which pixels are numbered in one dimension: less is within the estimate."""

NEAR_SUMS = PerCore(0.6, 0.8, 0.6)
"""The share of the first-level cache that the weights of a partial sum may take."""

PARTIAL_SUM = PerCore(0.0, 4.0, 0.0)
"""What it costs to load and store an accumulator around a partial sum."""

FAR_PANEL = PerCore(0.0, 0.04, 0.25)
"""The share of the second-level cache that the weights of a tile of a 1x1 may take before sums in blocks pay."""

FEW_PIXELS = 100
"""Pixels up to which reading weights from memory takes a quarter of the time that they are multiplied in."""

SOME_PIXELS = 256
"""Pixels of a 1x1 convolution up to which that takes a tenth of it, while others use the memory too."""

BORDERS = PerCore(0.0, 0.0, 0.5)
"""The share of the time for taps on padding that skipping them does not save: register tiles at borders have fewer
points (measured on narrow vectors: 3x3 at 6 x 6 and 7 x 7 takes 1.1 to 1.25 times what its other taps would)."""

UNHIDDEN_WEIGHTS = PerCore(0.0, 0.0, 0.3)
"""Share of the time for reading the weights of direct products that prefetches do not hide; it shows with few pixels
(measured on narrow vectors)."""

LEAST_COPIED, LEAST_OUTPUTS = 128, 64
"""Channels of an image, and of the output, from which on copying it block by block pays."""


def reads_packed(copies: bool, window_y: Window, target: Target) -> bool:
    """Whether what is placed in blocks lies there in the order in which register tiles of pixels read it."""
    return copies or (window_y.outputs == 1 and not is_wide(target))


def default_order(anchor: Compute, target: Target) -> str:
    """What to go through first: narrow tiles of an image that is not in blocks of channels (a model's first layer) had
    better meet the same rows again, with all output channels, whose few weights are at hand."""
    weight_bytes = 4 * prod(anchor.inputs()[-1].shape)
    stem = not is_wide(target) and not blocks_of_channels(anchor) and weight_bytes <= target.l2_bytes // 2
    return "rows" if stem else "channels"


def reads_at_several_places(anchor: Compute, target: Target) -> bool:
    """Whether weights that come from memory for few pixels had better be read at several places at once."""
    if not is_double(target) or not blocks_of_channels(anchor):
        return False
    if _has_few_pixels(anchor):
        return True
    pixels, weight_bytes = prod(window.outputs for window in windows(anchor)), 4 * prod(anchor.inputs()[-1].shape)
    return _is_pointwise(anchor) and pixels <= SOME_PIXELS and weight_bytes >= target.l2_bytes // 2


def may_sum_in_blocks(anchor: Compute, lanes: int) -> bool:
    """Whether sums over blocks of input channels are in the space: for images in blocks of one vector of channels."""
    return image_rank(anchor) == 2 and blocks_of_channels(anchor) and anchor.shape[-1] == lanes


def sum_blocks(blocks: int) -> list[int]:
    """Of how many blocks of input channels a partial sum may be; 0: of all of them, in one sum."""
    return [0, *(n for n in (2, 4, 6, 8, 9, 12, 16, 32, 64) if n < blocks and blocks % n == 0)]


def default_sum_block(anchor: Compute, extents: Sequence[int], vectors: int, target: Target) -> int:
    """Partial sums whose weights stay in the first-level cache, where all of a narrow tile's do not; ``extents`` are
    those of the reduction. Without a window the pixels lie in the order in which they are read, and weights come fast
    enough from the second-level cache, unless they take much of it; neither for few pixels, where weights read at
    several places come as fast as that."""
    blocks, *rest = extents
    each = prod(rest) * vectors * target.vector_bits // 8
    near = NEAR_SUMS.of(target) * target.l1_bytes
    pointwise, panel = prod(rest[:-1]) == 1, blocks * each
    if not outruns_caches(target) or panel <= (FAR_PANEL.of(target) * target.l2_bytes if pointwise else near):
        return 0
    if _has_few_pixels(anchor) and reads_at_several_places(anchor, target):
        return 0
    return max((n for n in sum_blocks(blocks) if n * each <= near), default=0)


@lru_cache(maxsize=256)
def default_algorithm(anchor: Compute, algorithms: tuple[str, ...], target: Target) -> str:
    """The algorithm of which the estimate expects the least time."""
    direct = direct_estimate(anchor, target)
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


def direct_estimate(anchor: Compute, target: Target) -> float:
    """Cycles of the direct space on one core, or of reading the weights where that takes longer."""
    steps = prod(axis.extent for axis in anchor.reduce_axes)
    vectors = anchor.elements // target.lanes()
    weight_bytes = steps * anchor.shape[1] * anchor.shape[-1] * 4
    on_image = prod(window.share_inside() for window in windows(anchor))  # taps on padding are skipped
    products = direct_cycles(anchor, target) * steps if outruns_caches(target) else vectors * steps / 0.98
    on_image += BORDERS.of(target) * (1.0 - on_image)
    products, reading = products * on_image, weight_bytes / memory_rate(target.with_threads(1))
    # Strassen's estimate, with which that of a 1x1 is compared, leaves it out too
    unhidden = 0.0 if _is_pointwise(anchor) else UNHIDDEN_WEIGHTS.of(target)
    return max(products, reading) + unhidden * min(products, reading)


def winograd_margin(size: Size, target: Target) -> float:
    """How much faster than the direct space Winograd's algorithm must be by the estimate.

    A large filter comes from memory in a model. With narrow vectors, of which there are few, what large transforms take
    is underestimated where it does, and with a stride, most where the transform back has many points. So it is with few
    tiles or a stride where a core starts two multiply-adds of 512 bits (128 -> 160 channels at 28 x 28: 0.89 by
    estimate, 1.15 measured). F(3, 3) was measured with wide vectors only. The estimate of F(6, 3) on narrow ones is of
    before its transform back shared sums, 1.1 times of what was measured since.
    """
    if not outruns_caches(target):
        return 1.05
    if size.inputs <= 49:
        if is_double(target):
            return 1.2 if size.stride > 1 else 1.05
        return 1.15 if (size.m, size.taps, size.stride) == (3, 3, 1) else 1.05
    if is_double(target):
        if size.stride == 1 and size.tiles >= MANY_TILES:
            return 1.05
        return 1.25 if size.filter_bytes > target.l2_bytes else 1.1
    if size.stride == 1 and stays_in_l3(size.filter_bytes, target, alone=True):
        return 0.95 if (size.m, size.taps) == (6, 3) else 1.05
    return 1.4 if size.points > 36 else 1.2


def direct_cycles(anchor: Compute, target: Target) -> float:
    """Estimated cycles of one reduction step over all register tiles of the direct space, which numbers the pixels of a
    1x1 in one dimension (what that changes was compared with other algorithms on narrow vectors only)."""
    window_y, window_x = windows(anchor)
    if not is_wide(target) and flat.applies(anchor, int(reads_an_input(anchor))):
        window_y, window_x = flat_windows(window_y, window_x)
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

    return cost(*flat_windows(window_y, window_x)) < FLAT_GAIN.of(target) * cost(window_y, window_x)


def gains_copied(anchor: Compute, target: Target) -> bool:
    """Whether a block of the image is better copied before many channels are computed of it: what a narrow register
    tile reads of each block of channels is too little for the arithmetic on it to hide the way from far. Where a core
    starts two 512-bit multiply-adds, that is so of pixels that a stride leaves apart, and of few for many channels."""
    data = anchor.inputs()[0]
    if not outruns_caches(target) or not blocks_of_channels(anchor):
        return False
    if not flat.applies(anchor, int(reads_an_input(anchor))):
        return False
    groups = cast(int, anchor.attrs.get("groups", 1))
    inputs, outputs = (x.shape[1] * x.shape[-1] // groups for x in (data, anchor))
    if is_double(target):
        strided = any(window.stride > 1 for window in windows(anchor))
        if not strided and not (_has_few_pixels(anchor) and outputs >= 2 * inputs):
            return False
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
    vectors = [v for v in tile_vectors(target) if v <= of_one_group and (groups == 1 or of_one_group % v == 0)]
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
    partial = 0.0  # what an accumulator costs in a step
    if may_sum_in_blocks(anchor, target.lanes()) and (each := default_sum_block(anchor, extents, vectors, target)):
        extents[0] = each
        partial = PARTIAL_SUM.of(target) / prod(extents)
    load_cycles = panel_cycles(vectors, prod(extents) * vectors * target.vector_bits // 8, target)

    asking = PREFETCH.of(target) if default_prefetch(anchor, target) else 0.0
    total = 0.0
    for count_y, y in tile_parts(window_y.outputs, rows):
        for count_x, x in tile_parts(window_x.outputs, columns):
            for count_v, v in tile_parts(channel_tiles, vectors):
                step = step_cycles(y * x, v, target, y * window_x.loads(x))
                cycles = overlapped(step, load_cycles * v / vectors, target)
                total += count_y * count_x * count_v * (cycles + asking * v + partial * y * x * v + 0.6)
    bodies = len(window_x.border_cuts(columns)) + 1
    bodies *= len(window_y.border_cuts(rows)) + 1 if rows > 1 else 1
    return total * (1 + 0.002 * bodies)


@lru_cache(maxsize=256)
def default_prefetch(anchor: Compute, target: Target) -> bool | str:
    """Whether the weights are too large to be at hand when the kernel runs. A core that asks for them by itself does so
    in time unless little is done with them."""
    if 4 * prod(anchor.inputs()[-1].shape) <= target.l2_bytes // 2:
        return False
    if not is_double(target):
        return True
    return "shared" if _has_few_pixels(anchor) else False


def _is_pointwise(anchor: Compute) -> bool:
    """Whether the window is a single pixel."""
    return prod(axis.extent for axis in anchor.reduce_axes[1:-1]) == 1


def _has_few_pixels(anchor: Compute) -> bool:
    return prod(window.outputs for window in windows(anchor)) <= FEW_PIXELS


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
