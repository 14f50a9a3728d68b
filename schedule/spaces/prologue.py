"""What is computed of the data before a convolution reads it, such as a scale-shift and a ReLU.

A prologue is placed in one of two ways:

    block    once for each block of pixels, all channels, into memory that stays in the second-level cache; all groups of
             output channels of the block are computed from there
    inline   at each read of the convolution

Padding is of the value after the prologue: taps on it are no part of the sum, and a block holds no more than the image.
Winograd's input transform reads each element about twice, and computes the prologue there (:mod:`.winograd`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

from ...target import Target
from ...te.expr import Read, Reduce
from ...te.tensor import Compute
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .common import Window, inline_elementwise

PLACES = ["block", "inline"]
VECTOR_CYCLES = 2.0
"""Computing a vector of a prologue: a load, a few operations, a store."""

L3_BYTES_PER_CYCLE = 14.0
L2_BYTES_PER_CYCLE = 24.0
BLOCK_CYCLES = 150.0
"""What a block takes beside that: loops begin and end, and memory is asked for anew."""


def find_prologue(s: Schedule, anchor: Compute, lanes: int) -> Stage | None:
    """The stage that computes an anchor's channel-blocked data, all of it inlined there; None where nothing does.

    Stages that only move data (a channel shuffle) are no prologue: reading elsewhere costs nothing.
    """
    data = anchor.inputs()[0]
    if not isinstance(data, Compute) or len(anchor.reduce_axes) != 4 or data.shape[-1] % lanes:
        return None
    stage = s[data]
    if isinstance(stage.body, Reduce) or s.is_output(stage) or s.consumers(data) != [s[anchor]]:
        return None
    inline_elementwise(s, keep=[stage, s[anchor]])
    return None if isinstance(stage.body, Read) else stage


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a block is chosen by.

    Blocks divide one dimension: rows, or pixels where they are numbered in one.

    images, tiles  how many images, and register tiles along that dimension
    tile_outputs   outputs of a tile in it
    channel_tiles  register tiles of output channels
    line_vectors   vectors of data for one position in that dimension, all channels
    window         that dimension
    steps          vector multiply-adds for one position of it and one register tile of channels
    weight_bytes   all weights
    """

    images: int
    tiles: int
    tile_outputs: int
    channel_tiles: int
    line_vectors: int
    window: Window
    steps: int
    weight_bytes: int

    @staticmethod
    def of(conv: Compute, window: Window, tile: tuple[int, int, int], one_row: bool, lanes: int) -> Sizes:
        """tile: rows, columns and vectors of the register tile; one_row: pixels are numbered in one dimension."""
        data, weights = conv.inputs()[0], conv.inputs()[-1]
        rows, columns, vectors = tile
        outputs = columns if one_row else rows
        across_in, across_out = (1, 1) if one_row else (data.shape[3], conv.shape[3])
        steps = across_out * vectors * prod(a.extent for a in conv.reduce_axes)
        return Sizes(
            conv.shape[0],
            -(-window.outputs // outputs),
            outputs,
            -(-conv.shape[1] * conv.shape[4] // (lanes * vectors)),
            data.shape[1] * across_in * data.shape[4] // lanes,
            window,
            steps,
            weights.size_bytes,
        )

    def block_vectors(self, tiles: int) -> int:
        """Vectors of data under the windows of a block."""
        outputs = min(tiles * self.tile_outputs, self.window.outputs)
        span = (outputs - 1) * self.window.stride + (self.window.taps - 1) * self.window.dilation + 1
        return self.line_vectors * min(span, self.window.inputs)


@dataclass(frozen=True, slots=True)
class Block:
    """tiles: register tiles of a block along rows (or pixels in one dimension); parts: of its output channels, each
    computed by one thread, which computes the prologue for itself."""

    tiles: int
    parts: int


def choose_block(d: Decider, sizes: Sizes, target: Target) -> Block:
    """Ask for the size of a block, and for how many threads share it."""
    best = best_block(sizes, target)
    tiles = d.choose("prologue_tiles", tile_options(sizes), best.tiles)
    parts = d.choose("channel_parts", part_options(sizes, target), best.parts)
    return Block(tiles, parts)


def tile_options(sizes: Sizes) -> list[int]:
    """Register tiles of a block: the even divisions of all, and a few more."""
    whole = sizes.tiles
    even = {-(-whole // k) for k in range(1, whole + 1)}
    return sorted(even if len(even) <= 16 else {b for b in even if whole % b == 0 or b <= 8})


def part_options(sizes: Sizes, target: Target) -> list[int]:
    return [p for p in range(1, target.threads + 1) if sizes.channel_tiles % p == 0]


@lru_cache(maxsize=4096)
def best_block(sizes: Sizes, target: Target) -> Block:
    """The block with the least estimate."""
    blocks = [Block(t, p) for p in part_options(sizes, target) for t in tile_options(sizes)]
    return min(blocks, key=lambda b: _cycles(b, sizes, target))


def _cycles(block: Block, sizes: Sizes, target: Target) -> float:
    """The slowest thread's time."""
    count = -(-sizes.tiles // block.tiles)
    chunks = sizes.images * count * block.parts
    taken = ceil(chunks / target.threads)
    vectors = sizes.block_vectors(block.tiles)
    held = vectors * target.vector_bits // 8
    products = min(block.tiles * sizes.tile_outputs, sizes.window.outputs) * sizes.steps * sizes.channel_tiles / block.parts
    if sizes.tiles % block.tiles:  # the last one is smaller; with one thread, blocks together are what there is
        products *= max(sizes.tiles / (block.tiles * count), 1.0 / target.threads if taken > 1 else 0.0)
    weights = sizes.weight_bytes / block.parts
    crowded = (held + weights) / (0.8 * target.l2_bytes) - 1.0
    again = weights / (L2_BYTES_PER_CYCLE if crowded < 0 else L3_BYTES_PER_CYCLE)
    products *= 1.0 + 0.2 * min(max(held / (0.6 * target.l2_bytes) - 1.0, 0.0), 1.0)
    return taken * (products + vectors * VECTOR_CYCLES + 0.2 * again + BLOCK_CYCLES)


def divide(
    s: Schedule, out: Stage, axis: LoopAxis, size: int, cuts: Iterable[int]
) -> tuple[LoopAxis, LoopAxis, list[int], list[int]]:
    """Split a loop into blocks of ``size`` iterations; returns both loops, and the cuts of each in place of ``cuts``."""
    whole = axis.extent
    outer, inner = s.split(out, axis, size, tail="guard")
    last = -(-whole // size) - 1
    of_outer = {last} if whole % size else set()
    of_inner = set()
    for cut in cuts:
        of_outer |= {cut // size, -(-cut // size)}
        of_inner.add(cut % size)
    return outer, inner, sorted(c for c in of_outer if 0 < c <= last), sorted(of_inner - {0})


def place_in_block(s: Schedule, prologue: Stage, out: Stage, axis: LoopAxis, lanes: int) -> None:
    """Compute a block of the prologue in a loop of ``out``: channels, then pixels, a few of which are unrolled."""
    s.compute_at(prologue, out, axis)
    s.set_scope(prologue, "thread")
    *_, column, lane = prologue.roots
    if lane.extent > lanes:
        outer, lane = s.split(prologue, lane, lanes)
        s.reorder(prologue, [outer, column, lane])
    steps = next((n for n in (7, 4, 5, 3, 2) if column.extent % n == 0), 1)
    if column.extent > steps:
        _, column = s.split(prologue, column, steps)
    s.unroll(prologue, column)
    s.vectorize(prologue, lane)
