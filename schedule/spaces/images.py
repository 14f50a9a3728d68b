"""Images of one, two or three dimensions as the spaces of convolutions see them: axes, windows, packed weights."""

from __future__ import annotations

from typing import cast

from ...te.tensor import Compute, Placeholder, Source
from ..axis import LoopAxis
from ..schedule import Schedule
from ..stage import Stage
from .common import Window, fuse_all, tail_cut

MOST_TAPS = 16
"""Taps of a row of the filter that have code of their own, at most; of more, only some at a time."""


def image_rank(anchor: Compute) -> int:
    """Dimensions of the channel-blocked images (N, C/c, *spatial, c) that a convolution or pooling computes; 0: it does
    not."""
    kernel = anchor.attrs.get("kernel")
    rank = len(kernel) if isinstance(kernel, tuple) else 0
    return rank if 1 <= rank <= 3 and len(anchor.shape) == rank + 3 and 0 not in anchor.shape else 0


def blocks_of_channels(anchor: Compute) -> bool:
    """Whether the sum is over blocks of input channels, taps, and the channels of a block: (ic_o, *taps, ic_i)."""
    return len(anchor.reduce_axes) == image_rank(anchor) + 2


def cuts_vectors(anchor: Compute, lanes: int) -> bool:
    """Whether the channels of a block, or of a group within it, are no whole number of vectors."""
    groups = int(cast(int, anchor.attrs.get("groups", 1)))
    block = anchor.shape[-1]
    if block % lanes or (block > lanes and anchor.shape[1] > 1):
        return True
    return groups > 1 and (anchor.shape[1] * block // groups) % lanes != 0


def has_constant_weights(anchor: Compute) -> bool:
    """Whether the weights are known when the model is built."""
    weights = anchor.inputs()[-1]
    return isinstance(weights, Placeholder) and weights.constant


def reads_an_input(anchor: Compute) -> bool:
    """Whether the data are an input, not computed by another stage."""
    return isinstance(anchor.inputs()[0], Placeholder)


def windows(anchor: Compute) -> tuple[Window, Window]:
    """The windows of a convolution or pooling in the last two dimensions of its image, vertical and horizontal."""
    rank = image_rank(anchor)
    inputs = anchor.inputs()[0].shape[2:]

    def given(name: str, default: int, d: int) -> int:
        return cast(tuple[int, ...], anchor.attrs.get(name, (default,) * rank))[d]

    def along(d: int) -> Window:
        options = given("kernel", 1, d), given("strides", 1, d), given("dilations", 1, d), given("pads", 0, d)
        return Window(anchor.shape[2 + d], inputs[d], *options)

    return along(rank - 2) if rank > 1 else Window.pointwise(1), along(rank - 1)


def image_axes(s: Schedule, stage: Stage) -> tuple[LoopAxis, LoopAxis, list[LoopAxis], LoopAxis, LoopAxis, LoopAxis]:
    """The loops of an image's stage: image, block of channels, what is outside of rows, row, column, lane.

    A stage of one dimension gets a loop of one row.
    """
    n, blocks, *spatial, lane = stage.leaves
    if len(spatial) == 1:
        blocks, row = s.split(stage, blocks, 1)
        spatial = [row, *spatial]
    *outside, row, column = spatial
    return n, blocks, outside, row, column, lane


def unroll_row_of_taps(s: Schedule, stage: Stage, taps: LoopAxis) -> list[LoopAxis]:
    """Unroll the taps of a row of the filter, or some of them at a time where they are many; returns their loops.

    To be called before the loops are in their order.
    """
    if taps.extent <= MOST_TAPS:
        s.unroll(stage, taps)
        return [taps]
    few = next((f for f in range(8, 1, -1) if taps.extent % f == 0), 1)
    if few == 1:
        return [taps]
    outer, inner = s.split(stage, taps, few)
    s.unroll(stage, inner)
    return [outer, inner]


def run_time_weights(s: Schedule, anchor: Compute) -> list[Stage]:
    """The stage that fills up the channels of weights that are not constant, which is to be kept; none for others."""
    found = _weights(anchor)
    return [s[found]] if isinstance(found, Compute) else []


def pack_weights(s: Schedule, anchor: Compute, reader: Stage, block: int, lanes: int) -> Source | None:
    """Lay weights (O, I, *kernel) out in the order of the reads: [O/block][I..][*kernel][I lanes][block], the last
    padded to whole vectors.

    Constant ones when the model is built; others are copied whenever the kernel runs. Returns what is then read.
    """
    source = _weights(anchor)
    if source is None:
        return None
    rank = len(source.shape) - 2
    taps = [(2 + d, 0) for d in range(rank)]
    in_block = anchor.reduce_axes[-1].extent if blocks_of_channels(anchor) else 0
    if in_block and source.shape[1] > in_block:
        factors, order = [[block], [in_block]], [(0, 0), (1, 0), *taps, (1, 1), (0, 1)]
    else:
        factors, order = [[block], []], [(0, 0), *taps, (1, 0), (0, 1)]
    factors += [[] for _ in taps]
    padding = [*(0 for _ in order[1:]), -block % lanes] if block % lanes else []
    if isinstance(source, Placeholder) and source.constant:
        s.transform_layout(source, factors, order, padding)
        return source
    copy = s[source] if isinstance(source, Compute) else s.cache_read(source, [reader])
    s.transform_layout(copy, factors, order, padding)
    outputs, inputs, *kernel = copy.leaves
    outer, lane = s.split(copy, outputs, lanes, tail="guard")
    s.reorder(copy, [outer, inputs, *kernel, lane])
    s.partition(copy, outer, tail_cut(source.shape[0], lanes))
    s.unroll(copy, lane)  # neighbours come from afar: gathering them takes longer than one load after the other
    s.parallel(copy, fuse_all(s, copy, [outer, inputs]))
    return copy.tensor


def _weights(anchor: Compute) -> Source | None:
    """The second operand of a convolution; None for pooling."""
    inputs = anchor.inputs()
    found = inputs[-1]
    return found if len(inputs) > 1 and len(found.shape) == image_rank(anchor) + 2 else None
