"""The matrix products between transforms: what Winograd's and Strassen's algorithm have in common.

Each multiplies, for every point of a transform, transformed pieces of the image (tiles of it, pairs of pixels) by a
transformed filter, block of pieces by block of pieces, and sums over input channels in registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...target import Target
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .common import (
    NEAR_BYTES,
    PREFETCH,
    default_unroll,
    mark_tile,
    several_streams,
    split_streams,
    step_from_panel,
    stream_options,
    tail_cut,
)
from .traffic import is_double, is_wide

AHEAD = ["none", "near", "panel", "shared"]
"""What each register tile asks for of the filter: nothing, the next lines, the next panel, or its part of that. All
tiles of a block read one panel: if the first asks for all of the next one, it waits for memory, the others do not."""

FEW_PIECES = 28
"""Pieces, of two register tiles, up to which a core that has asked for the next lines by itself had better ask for the
next panel; for more, if that comes from beyond the second-level cache."""

MOST_CHANNELS = 4
"""Input channels, of all streams, in an iteration by default."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A register tile of the products.

    points   pieces of the image in it
    vectors  vectors of output channels
    steps    input channels that an iteration takes
    ahead    what to prefetch of the filter, one of :data:`AHEAD`
    streams  places at which a panel is read at once: sums over so many parts of the input channels go side by side
    """

    points: int
    vectors: int
    steps: int
    ahead: str
    streams: int


def default_steps(accumulators: int, target: Target, streams: int = 1) -> int:
    """Input channels of each stream in an iteration: two at most with wide vectors, fewer of several streams."""
    return min(2 if is_wide(target) else 4, default_unroll(accumulators, target), max(1, MOST_CHANNELS // streams))


def filter_step(points: int, vectors: int, panel_bytes: int, target: Target) -> float:
    """Estimated cycles of a step on a tile whose filter comes from a panel, and is asked for ahead of time."""
    return step_from_panel(points, vectors, panel_bytes, target) + PREFETCH.of(target) * vectors


def default_ahead(pieces: int, filter_bytes: int, target: Target) -> str:
    """What to prefetch of a filter, for so many pieces of the image in a block."""
    if is_double(target):
        return "shared" if pieces <= FEW_PIECES or filter_bytes > target.l2_bytes else "near"
    return "panel" if is_wide(target) else "shared"


def default_streams(in_blocks: int, filter_bytes: int, pieces: int, target: Target) -> int:
    """Several where a filter comes from memory for few pieces of the image: a core that starts two multiply-adds then
    waits for it, and its own prefetchers follow each stream."""
    if not is_double(target) or pieces >= FEW_PIECES or filter_bytes <= target.l2_bytes:
        return 1
    return several_streams(in_blocks)


def channel_groups(out_blocks: int, vectors: int = 1) -> list[int]:
    """Numbers of blocks of output channels in a group, multiples of ``vectors``: none ragged, if any is not."""
    groups = list(range(vectors, min(16, out_blocks) + 1, vectors))
    return [g for g in groups if out_blocks % g == 0] or groups or [vectors]


def choose_tile(
    d: Decider,
    points: int,
    vectors: int,
    in_blocks: int,
    unrolled: list[int],
    streams: int,
    ahead: str,
    target: Target,
    line: int = 1,
) -> Tile:
    """Ask how the products of a register tile read their filter, a sum being over ``in_blocks``.

    unrolled        how many input channels of each stream an iteration may take
    streams, ahead  the defaults
    line            of how many points each piece has accumulators in the tile
    """
    streams = d.choose("streams", stream_options(in_blocks), streams, before=1)
    steps = d.choose("unroll_channels", unrolled, default_steps(points * vectors * line, target, streams))
    return Tile(points, vectors, steps, d.choose("prefetch", AHEAD, ahead), streams)


def multiply(
    s: Schedule,
    product: Stage,
    local: Stage,
    piece: LoopAxis,
    channel: LoopAxis,
    tile: Tile,
    piece_ends: Iterable[int],
    channel_ends: Iterable[int] = (),
    line: Sequence[LoopAxis] = (),
) -> None:
    """Schedule ``product``, whose sums ``local`` holds in registers, over all input channels.

    piece, channel  the loops of ``product`` over pieces of the image and blocks of output channels; the others but the
                    lanes, points of the transform, stay around them
    piece_ends      numbers of pieces at which some block ends: a register tile that crosses one has code of its own
    channel_ends    the same of blocks of channels, of which some group has fewer
    line            a loop over points that are all in the register tile
    """
    *around, lane = [axis for axis in product.leaves if axis not in (piece, channel, *line)]
    places = product.leaves.index(piece), product.leaves.index(channel)
    piece_o, piece_i = s.split(product, piece, tile.points, tail="guard")
    channel_o, channel_i = s.split(product, channel, tile.vectors, tail="guard")
    s.reorder(product, [*around, channel_o, piece_o, *line, piece_i, channel_i, lane])
    s.compute_at(local, product, piece_o)
    mark_tile(s, product, [*line, piece_i, channel_i], lane)
    s.partition(product, piece_o, _cuts(piece_ends, tile.points, piece_o.extent))
    s.partition(product, channel_o, _cuts(channel_ends, tile.vectors, channel_o.extent))

    *spatial, lane = local.roots
    of_tile = [spatial[place] for place in places]
    spatial = [*(axis for axis in spatial if axis not in of_tile), *of_tile]
    *outer, in_block, step = local.reduce_roots
    parts, in_block = split_streams(s, local, in_block, tile.streams)
    s.reorder(local, [*outer, in_block, step, *parts, *spatial, lane])
    if tile.steps > 1 and step.extent % tile.steps == 0:
        _, unrolled = s.split(local, step, tile.steps)
        s.unroll(local, unrolled)
    mark_tile(s, local, spatial, lane)


def _cuts(ends: Iterable[int], size: int, extent: int) -> list[int]:
    """Where a loop over ``extent`` tiles of ``size`` is cut so that one which crosses one of the ends stands alone."""
    cuts = {cut for end in ends for cut in (end // size, *tail_cut(end, size))}
    return sorted(cut for cut in cuts if 0 < cut < extent)


def prefetch_filter(
    s: Schedule, local: Stage, kernel: Stage, tile: Tile, in_blocks: int, lanes: int, values: int = 1
) -> None:
    """Ask for the filter ahead in the loop over the channels of a block; a sum is over ``in_blocks`` of them, and reads
    so many values for each output channel."""
    if tile.ahead == "none":
        return
    channel = local.leaves[len(local.reduce_roots) - 1]
    step_bytes = values * tile.vectors * lanes * 4 * lanes // channel.extent
    distance = max(1, NEAR_BYTES // step_bytes) if tile.ahead == "near" else in_blocks * channel.extent
    share = local.attach[1] if tile.ahead == "shared" and local.attach is not None else None
    s.prefetch(local, kernel, channel, distance, share=share)
