"""What is computed of the data before a convolution reads it, such as a scale-shift and a ReLU.

A prologue is placed in one of two ways:

    block    once for each block of pixels, all channels, into memory that stays in the second-level cache; all groups
             of output channels of the block are computed from there
    inline   at each read of the convolution

The products of a block ask for the data of the next one meanwhile, so that computing that does not wait for memory.
That is the larger part of what a block gains.

Padding is of the value after the prologue: taps on it are no part of the sum, and a block holds no more than the image.
Winograd's input transform reads each element about twice, and computes the prologue there (:mod:`.winograd`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log2, prod

from ...target import Target
from ...te.expr import Read, Reduce
from ...te.tensor import Compute
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .common import Window, equal_parts, inline_elementwise
from .traffic import is_wide

PLACES = ["block", "inline"]
NEAR_CYCLES, FAR_CYCLES = 3.5, 7.0
"""Computing a vector of a prologue whose data were asked for ahead, or come from the third-level cache."""

BLOCK_CYCLES = 300.0
WEIGHT_RATE, NARROW_WEIGHT_RATE = 120.0, 10.0
"""What a block takes beside: loops begin and end, and products go through all weights, which are read ahead: so many
bytes in a cycle are not hidden. Narrow vectors wait for more of weights that the second-level cache cannot hold."""

LARGE, NARROW_LARGE = 1 / 16, 4.0
CROWDING = 0.02
"""The share of the second-level cache that a block may take at no cost, and what each doubling beyond that costs. What
narrow tiles read in the order in which it lies may come from further away."""


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
    for source in stage.inputs():  # what is costly and read twice, but in one place: equal parts are one in code
        if isinstance(source, Compute) and s.consumers(source) == [stage] and not isinstance(s[source].body, Reduce):
            s.compute_inline(source)
    return None if isinstance(stage.body, Read) else stage


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a block is chosen by.

    Blocks divide one dimension: rows, or pixels where they are numbered in one.

    images, tiles  how many images, and register tiles along that dimension
    channel_tiles  register tiles of output channels
    line_vectors   vectors of data for one position in that dimension, all channels
    window         that dimension
    steps          vector multiply-adds for one position of it and one register tile of channels
    weight_bytes   all weights
    taps           taps of the whole window
    """

    images: int
    tiles: int
    channel_tiles: int
    line_vectors: int
    window: Window
    steps: int
    weight_bytes: int
    taps: int

    @staticmethod
    def of(conv: Compute, data: Compute, window: Window, tiles: int, vectors: int, lanes: int) -> Sizes:
        """data: what is placed in blocks; window, tiles: of the dimension that they divide; vectors: of a register
        tile."""
        images, blocks, height, width, block = conv.shape
        reduced = [a.extent for a in conv.reduce_axes]
        return Sizes(
            images,
            tiles,
            -(-blocks * block // (lanes * vectors)),
            prod(data.shape[1:]) // (window.inputs * lanes),
            window,
            height * width // window.outputs * vectors * prod(reduced),
            conv.inputs()[-1].size_bytes,
            reduced[1] * reduced[2],
        )

    def outputs(self, tiles: int) -> int:
        """Positions that the largest block of so many tiles has."""
        return min(tiles * -(-self.window.outputs // self.tiles), self.window.outputs)

    def block_vectors(self, tiles: int) -> int:
        """Vectors of data under the windows of a block."""
        w = self.window
        span = (self.outputs(tiles) - 1) * w.stride + (w.taps - 1) * w.dilation + 1
        return self.line_vectors * min(span, w.inputs)


@dataclass(frozen=True, slots=True)
class Block:
    """What the space decides.

    tiles   register tiles of a block, along rows or along pixels in one dimension
    parts   parts of the output channels, so that threads can share an image that has few blocks; each part computes the
            prologue for itself
    ahead   ask for the data of the next block during the products of one
    """

    tiles: int
    parts: int
    ahead: bool


def choose_block(d: Decider, sizes: Sizes, target: Target) -> Block:
    """Ask for the decisions, with the estimate's best as the defaults."""
    best = best_block(sizes, target)
    tiles = d.choose("prologue_tiles", tile_options(sizes), best.tiles)
    parts = d.choose("channel_parts", equal_parts(sizes.channel_tiles, target), best.parts)
    asks = tiles < sizes.tiles and sizes.taps == 1  # with more taps it would ask again for each
    return Block(tiles, parts, asks and d.choose("prefetch_prologue", [False, True], True))


def tile_options(sizes: Sizes) -> list[int]:
    """Register tiles of a block: what divides all of them into equal numbers, but for the last."""
    even = {-(-sizes.tiles // k) for k in range(1, sizes.tiles + 1)}
    return sorted(even if len(even) <= 16 else {b for b in even if sizes.tiles % b == 0 or b <= 8})


@lru_cache(maxsize=4096)
def best_block(sizes: Sizes, target: Target) -> Block:
    """The block with the least estimate."""
    blocks = [
        Block(tiles, parts, tiles < sizes.tiles and sizes.taps == 1)
        for parts in equal_parts(sizes.channel_tiles, target)
        for tiles in tile_options(sizes)
    ]
    return min(blocks, key=lambda b: _cycles(b, sizes, target))


def _cycles(block: Block, sizes: Sizes, target: Target) -> float:
    """The slowest thread's time."""
    chunks = sizes.images * block.parts * -(-sizes.tiles // block.tiles)
    taken = -(-chunks // target.threads)
    vectors = sizes.block_vectors(block.tiles)
    of_position = sizes.steps * sizes.channel_tiles / block.parts
    products = min(taken * sizes.outputs(block.tiles), sizes.images * block.parts * sizes.window.outputs) * of_position
    large = vectors * target.vector_bits / 8 / ((LARGE if is_wide(target) else NARROW_LARGE) * target.l2_bytes)
    products *= 1.0 + CROWDING * max(log2(large), 0.0)
    far = not is_wide(target) and sizes.weight_bytes > target.l2_bytes // 2
    again = sizes.weight_bytes / block.parts / (NARROW_WEIGHT_RATE if far else WEIGHT_RATE)
    prologue = vectors * (NEAR_CYCLES if block.ahead else FAR_CYCLES)
    return products + taken * (prologue + again + BLOCK_CYCLES)


def divide(
    s: Schedule, out: Stage, axis: LoopAxis, size: int, cuts: dict[LoopAxis, list[int]]
) -> tuple[LoopAxis, LoopAxis]:
    """Split a loop into (blocks, iterations of a block); its ``cuts`` become those of both loops."""
    whole = axis.extent
    outer, inner = s.split(out, axis, size, tail="guard")
    last = -(-whole // size) - 1
    of_outer, of_inner = {last} if whole % size else set(), set()
    for cut in cuts.pop(axis):
        of_outer |= {cut // size, -(-cut // size)}
        of_inner.add(cut % size)
    cuts[outer] = sorted(c for c in of_outer if 0 < c <= last)
    cuts[inner] = sorted(of_inner - {0})
    return outer, inner


def place_in_block(s: Schedule, prologue: Stage, out: Stage, axis: LoopAxis, lanes: int, packed: int = 0) -> None:
    """Compute a block of the prologue in a loop of ``out``: channels, then pixels, a few of which are unrolled.

    packed: pixels of a register tile, if all their channels are to lie together, in the order in which it reads them.
    """
    s.compute_at(prologue, out, axis)
    s.set_scope(prologue, "thread")
    *_, column, lane = prologue.roots
    if lane.extent > lanes:
        outer, lane = s.split(prologue, lane, lanes)
        s.reorder(prologue, [outer, column, lane])
    steps = packed or next((n for n in (7, 4, 5, 3, 2) if column.extent % n == 0), 1)
    if column.extent > steps:
        _, column = s.split(prologue, column, steps, tail="guard")
    if packed:
        s.transform_layout(prologue, [[], [], [], [packed], []], [(0, 0), (2, 0), (3, 0), (1, 0), (3, 1), (4, 0)])
    s.unroll(prologue, column)
    s.vectorize(prologue, lane)
