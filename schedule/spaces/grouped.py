"""Convolution in groups whose channels lie in one block, (N, 1, H, W, C)."""

from __future__ import annotations

from typing import cast

from ...target import Target
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .common import fuse_all, isolate_anchor, step_cycles, tail_cut, tile_parts
from .general import general
from .images import image_axes, image_rank, pack_weights, run_time_weights, unroll_row_of_taps, windows
from .traffic import is_wide


def grouped(s: Schedule, d: Decider, target: Target) -> None:
    """The space of these: group by group; the last vector of a group may be short."""
    anchor = s.workload.anchor
    lanes = target.lanes()
    isolated = isolate_anchor(s, run_time_weights(s, anchor))
    if isolated is None:
        general(s, d, target)
        return
    out, conv = isolated
    groups = int(cast(int, anchor.attrs.get("groups", 1)))
    channels = anchor.shape[-1] // groups
    vectors = -(-channels // lanes)
    _, window_x = windows(anchor)
    tiles = _tiles(vectors, window_x.outputs, target)
    columns, held = d.choose("tile", tiles, _best_tile(tiles, vectors, window_x.outputs, target))
    steps = d.choose("unroll_channels", [1, 2, 4], 1 if is_wide(target) else 2)

    n, one, outside, oh, ow, c = image_axes(s, out)
    group, member = s.split(out, c, channels)
    of_tile, member = s.split(out, member, min(held * lanes, channels), tail="guard")
    ow_o, ow_i = s.split(out, ow, columns, tail="guard")
    outer = [n, one, group, *outside, oh]
    s.reorder(out, [*outer, of_tile, ow_o, ow_i, member])
    s.compute_at(conv, out, ow_o)
    s.unroll(out, ow_i)
    _cut_vectors(s, out, member, lanes)
    s.partition(out, of_tile, tail_cut(channels, member.extent))
    s.partition(out, ow_o, window_x.border_cuts(columns))
    s.parallel(out, fuse_all(s, out, outer))

    *spatial, lane = conv.roots
    first, *reduced = conv.reduce_roots
    taps_x = unroll_row_of_taps(s, conv, reduced.pop(image_rank(anchor) - 1))
    taps, last = reduced[: image_rank(anchor) - 1], reduced[image_rank(anchor) - 1 :]
    reduced = [*([first] if last else []), *taps, *taps_x, *(last or [first])]
    s.reorder(conv, [*reduced, *spatial, lane])
    rolled = reduced[-1]
    if rolled.extent % steps == 0 and rolled.extent > steps > 1:
        _, step = s.split(conv, rolled, steps)
        s.unroll(conv, step)
    for axis in spatial:
        s.unroll(conv, axis)
    _cut_vectors(s, conv, lane, lanes)
    pack_weights(s, anchor, conv, channels, lanes)


def _tiles(vectors: int, outputs: int, target: Target) -> list[tuple[int, int]]:
    """Register tiles (columns, vectors) for a group of so many vectors and a row of so many outputs: the vectors in
    tiles as even as can be, and one element of each column at a time."""
    even = sorted({-(-vectors // parts) for parts in range(1, vectors + 1)})
    return [
        (columns, held)
        for held in even
        for columns in range(1, min(14, outputs) + 1)
        if columns * held + held + (2 if is_wide(target) else 1) <= target.vector_registers
    ]


def _best_tile(tiles: list[tuple[int, int]], vectors: int, outputs: int, target: Target) -> tuple[int, int]:
    """The tile that takes least by estimate; with wide vectors of those that hold as much of a group as they can, the
    narrowest that needs the fewest steps along a row."""
    if is_wide(target):
        most = max(held for _, held in tiles)
        return min((t for t in tiles if t[1] == most), key=lambda t: (-(-outputs // t[0]), t[0]))

    def cost(tile: tuple[int, int]) -> float:
        return sum(
            of_columns * of_vectors * step_cycles(columns, held, target)
            for of_columns, columns in tile_parts(outputs, tile[0])
            for of_vectors, held in tile_parts(vectors, tile[1])
        )

    return min(tiles, key=cost)


def _cut_vectors(s: Schedule, stage: Stage, axis: LoopAxis, lanes: int) -> None:
    """Run a loop in vectors, each with code of its own, the last one as short as it is."""
    outer, inner = s.split(stage, axis, lanes, tail="guard")
    s.partition(stage, outer, list(range(1, outer.extent)))
    s.vectorize(stage, inner)
