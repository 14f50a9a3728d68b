"""Convolution in groups whose channels lie in one block, (N, 1, H, W, C)."""

from __future__ import annotations

from typing import cast

from ...target import Target
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .common import fuse_all, isolate_anchor
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
    held = vectors if is_wide(target) else 1  # of the weights' vectors, while one element of each column comes
    room = max(1, (target.vector_registers - 2 - held) // vectors)
    options = [c for c in range(1, 15) if c <= min(room, window_x.outputs)]
    columns = d.choose("columns", options, _even_tile(window_x.outputs, options))
    steps = d.choose("unroll_channels", [1, 2, 4], 1 if is_wide(target) else 2)

    n, one, outside, oh, ow, c = image_axes(s, out)
    group, member = s.split(out, c, channels)
    ow_o, ow_i = s.split(out, ow, columns, tail="guard")
    outer = [n, one, group, *outside, oh]
    s.reorder(out, [*outer, ow_o, ow_i, member])
    s.compute_at(conv, out, ow_o)
    s.unroll(out, ow_i)
    _cut_vectors(s, out, member, lanes)
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


def _even_tile(extent: int, options: list[int]) -> int:
    """The widest tile of those that need the fewest steps."""
    fewest = min(-(-extent // c) for c in options)
    return min(c for c in options if -(-extent // c) == fewest)


def _cut_vectors(s: Schedule, stage: Stage, axis: LoopAxis, lanes: int) -> None:
    """Run a loop in vectors, each with code of its own, the last one as short as it is."""
    outer, inner = s.split(stage, axis, lanes, tail="guard")
    s.partition(stage, outer, list(range(1, outer.extent)))
    s.vectorize(stage, inner)
