"""Depthwise convolution and pooling over channel-blocked images."""

from __future__ import annotations

from ...target import Target
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..space import register
from .common import fuse_all, isolate_anchor, mark_tile, tail_cut
from .general import general
from .images import image_axes, image_rank, pack_weights, run_time_weights, unroll_row_of_taps, windows
from .traffic import is_wide

NARROW_COLUMNS = 7
"""Columns in a tile of narrow vectors, at most, by default."""


@register("depthwise_conv1d", "depthwise_conv2d", "depthwise_conv3d", "pool")
def window(s: Schedule, d: Decider, target: Target) -> None:
    """The space of these: each channel block on its own, all taps unrolled."""
    anchor = s.workload.anchor
    lanes = target.lanes()
    rank = image_rank(anchor)
    if not rank or len(s.workload.outputs) != 1 or len(anchor.reduce_axes) != rank:
        general(s, d, target)
        return
    isolated = isolate_anchor(s, run_time_weights(s, anchor))
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
    if not is_wide(target) and window_y.taps * window_x.taps <= 9 and len(anchor.inputs()) > 1:
        preferred = [1, _even_columns(window_x.outputs)]
    else:
        preferred = [min(2, window_y.outputs) if small else 1, min(4, window_x.outputs)]
    rows, columns = d.choose("tile", options, preferred)
    unroll_y = d.choose("unroll_taps_y", [False, True], small)

    n, co, outside, oh, ow, ci = image_axes(s, out)
    ci_outer: list[LoopAxis] = []
    if ci.extent > lanes:
        channels = ci.extent
        chunk, ci = s.split(out, ci, lanes, tail="guard")
        s.partition(out, chunk, tail_cut(channels, lanes))
        ci_outer = [chunk]
    oh_o, oh_i = s.split(out, oh, rows, tail="guard")
    ow_o, ow_i = s.split(out, ow, columns, tail="guard")
    outer = [n, co, *outside, oh_o]
    s.reorder(out, [*outer, *ci_outer, ow_o, oh_i, ow_i, ci])
    s.compute_at(conv, out, ow_o)
    mark_tile(s, out, [oh_i, ow_i], ci)
    s.partition(out, ow_o, window_x.border_cuts(columns))
    if rows > 1 or unroll_y:
        s.partition(out, oh_o, window_y.border_cuts(rows))
    s.parallel(out, fuse_all(s, out, outer))

    *spatial, lane = conv.roots
    *taps, row = conv.reduce_roots
    taps_x = unroll_row_of_taps(s, conv, row)
    s.reorder(conv, [*taps, *taps_x, *spatial, lane])
    if rank > 1 and (unroll_y or rows > 1):
        s.unroll(conv, taps[-1])
    mark_tile(s, conv, spatial, lane)
    pack_weights(s, anchor, conv, lanes, lanes)


def _even_columns(outputs: int) -> int:
    """The narrowest tile of a row that needs no more steps along it than one of :data:`NARROW_COLUMNS` does.

    With the few registers of narrow vectors, tiles of one row take 5 to 30 % less than 2 x 4 (3x3, 20 layers, Zen 3).
    """
    steps = max(1, -(-outputs // NARROW_COLUMNS))
    return -(-outputs // steps)
