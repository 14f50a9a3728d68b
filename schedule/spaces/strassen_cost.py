"""What 1x1 convolution by Strassen's algorithm costs: the estimates behind :mod:`.strassen`.

Cycles are of one full-width multiply-add on one core; rates and factors were fitted to measurements on Zen 4, and then
on one of Intel's servers and on Zen 3, from 7 x 7 to 56 x 56 images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log2
from typing import cast

from ...target import Target
from ...te.ops.strassen import PRODUCTS
from ...te.tensor import Compute
from .common import equal_parts, equal_shares, register_tiles, tile_parts, tile_vectors
from .products import channel_groups, filter_step
from .traffic import PerCore, l3_rate, memory_rate, stays_in_l3

INPUT_CYCLES, OUTPUT_CYCLES = PerCore(4.0, 8.0, 2.0), PerCore(1.6, 3.2, 1.0)
"""What a vector of a sum of the image, or of a product, costs besides the multiplications."""

SECOND_LEVEL = 0.7
"""How much less it costs at two levels, where what is added stays in registers for longer."""

NEAR_BYTES, DOUBLING_CYCLES, MOST_DOUBLINGS = 3072, 1.0, 3.0
"""What more a vector of a product costs for each doubling of a block's products beyond a few KB: they are to stay in
the first-level cache, beside what the multiplications read."""

FAR = 1.4, 2.0
"""By level, how much more sums and products cost where the images do not fit the second-level cache."""

UNHIDDEN = PerCore(0.2, 0.5, 0.2)
"""Share of the time for reading sums of weights beyond the weights themselves that the products do not hide."""

FAR_STORES = PerCore(0.0, 0.0, 0.5)
"""Share of the time for writing an output to memory that nothing hides, where it leaves the last-level cache: a block's
are stored all at once. On Zen 3, 64 -> 256 at 56 x 56 takes 1.03 of the direct products' time, and up to 1.5 while
others use that cache. 0 where it was not measured."""

CROWDED = PerCore(0.1, 0.1, 0.25)
"""How much longer products take where the sums of a block take twice the room that the second-level cache has."""

WIDE = PerCore(0.02, 0.02, 0.05)
"""How much longer a register tile takes for each vector of channels beyond the first."""

MARGINS = PerCore(1.01, 1.04, 1.0), PerCore(1.05, 1.3, 1.5)
"""By level, how much faster than the direct products the estimate must be: sums need memory, and neighbours do too.
They take more of the instructions that a core starts where it starts two multiply-adds in a cycle, and seldom pay."""

LEAST_CELLS, GOOD_CELLS, MOST_CELLS = 4, 7, (32, 16)
"""A block's products are to stay in the first-level cache: measured, larger blocks than these, by level, were slower on
all layers."""

LEAST_TILE = 6
"""Accumulators of a register tile, at least: fewer do not hide the latency of multiply-adds."""


@dataclass(frozen=True, slots=True)
class Size:
    """The problem: levels, images, cells of each, blocks of ``lanes`` channels in a part of the inputs and outputs."""

    levels: int
    images: int
    cells: int
    in_blocks: int
    out_blocks: int
    lanes: int
    stride: int

    @staticmethod
    def of(conv: Compute, levels: int) -> Size:
        n, out_blocks, height, width, lanes = conv.shape
        inputs, strides = cast(int, conv.attrs["in_channels"]), cast(tuple[int, int], conv.attrs["strides"])
        parts = 2**levels
        cells = -(-height * width // parts)
        return Size(levels, n, cells, inputs // lanes // parts, out_blocks // parts, lanes, strides[0] * strides[1])

    @property
    def parts(self) -> int:
        """Parts of channels, and pixels of a cell."""
        return 1 << self.levels

    @property
    def products(self) -> int:
        """Products of parts."""
        return cast(int, PRODUCTS**self.levels)

    @property
    def filter_bytes(self) -> int:
        """Sums of the weights."""
        return self.products * self.in_blocks * self.out_blocks * self.lanes**2 * 4

    @property
    def read_bytes(self) -> int:
        """The image, with the pixels that a stride leaves out."""
        return self.parts**2 * self.images * self.cells * self.in_blocks * self.stride * self.lanes * 4

    @property
    def written_bytes(self) -> int:
        return self.parts**2 * self.images * self.cells * self.out_blocks * self.lanes * 4

    def sums_bytes(self, cells: int) -> int:
        """Sums of the image for so many cells."""
        return self.products * cells * self.in_blocks * self.lanes * 4


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to go through the pixels.

    cells    cells in a block
    parts    parts of the output channels; threads share blocks x parts, each makes the sums of the image that it needs
    tile     cells and vectors of output channels in a register tile
    group    blocks of output channels that are multiplied before their products are summed
    cycles   estimate of the slowest thread's time
    """

    cells: int
    parts: int
    tile: tuple[int, int]
    group: int
    cycles: float


def strassen_cycles(conv: Compute, levels: int, target: Target) -> float:
    """Estimated cycles of the whole convolution, by the best plan, and the margin."""
    return MARGINS[levels - 1].of(target) * best_plan(Size.of(conv, levels), target).cycles


def cell_options(size: Size) -> list[int]:
    """Cells that a block may have: equal parts of an image, exact ones where there are such of a good size.

    An incomplete last block has code of its own, which doubles what compiling takes.
    """
    shares = [p for p in equal_shares(size.cells, MOST_CELLS[size.levels - 1]) if p >= LEAST_CELLS]
    exact = [p for p in shares if size.cells % p == 0]
    return exact if exact and exact[-1] >= GOOD_CELLS else shares or [size.cells]


def part_options(size: Size, target: Target) -> list[int]:
    """Parts of the output channels."""
    return equal_parts(size.out_blocks, target)


@lru_cache(maxsize=4096)
def best_plan(size: Size, target: Target, cells: int | None = None, parts: int | None = None) -> Plan:
    """The plan with the least estimate; ``cells``, ``parts``: of those that have so many."""
    plans = [
        _plan(size, of_cells, of_parts, tile, target)
        for of_cells in (cell_options(size) if cells is None else [cells])
        for of_parts in (part_options(size, target) if parts is None else [parts])
        for tile in _tiles(size, of_cells, of_parts, target)
    ]
    return min(plans, key=lambda plan: plan.cycles)


def tile_options(size: Size, cells: int, parts: int, target: Target) -> list[tuple[int, int]]:
    """Register tiles (cells, vectors) for blocks of so many cells and parts of the output channels: equal shares, exact
    ones where there are such of a good size. Vectors divide the channels of a part, so that a tile's filter lies in one
    piece, and a group's products are those of its own channels."""
    of_one_part = size.out_blocks // parts
    tiles = [
        (points, vectors)
        for _, points, vectors in register_tiles((1,), equal_shares(cells, cells), tile_vectors(target), target)
        if of_one_part % vectors == 0
    ]
    large = [t for t in tiles if t[0] * t[1] >= LEAST_TILE]
    return [t for t in large if cells % t[0] == 0] or large or tiles[-1:]


def group_options(size: Size, parts: int, vectors: int) -> list[int]:
    """Blocks of output channels in a group: one register tile, or up to four blocks."""
    groups = channel_groups(size.out_blocks // parts, vectors)
    return [g for g in groups if g <= 4] or groups[:1]


def _tiles(size: Size, cells: int, parts: int, target: Target) -> list[tuple[int, int]]:
    """For each number of vectors the register tile with the least estimate for a block."""
    options = tile_options(size, cells, parts, target)
    by_vectors = [[t for t in options if t[1] == vectors] for vectors in tile_vectors(target)]
    return [min(tiles, key=lambda t: _step(t, size, cells, parts, target)) for tiles in by_vectors if tiles]


def _step(tile: tuple[int, int], size: Size, cells: int, parts: int, target: Target) -> float:
    """Estimated cycles of one reduction step over a block of cells and one part of the output channels."""
    points, vectors = tile
    panel_bytes = size.in_blocks * size.lanes * vectors * size.lanes * 4
    return sum(
        of_points * of_vectors * filter_step(p, v, panel_bytes, target) * (1.0 + WIDE.of(target) * (v - 1))
        for of_points, p in tile_parts(cells, points)
        for of_vectors, v in tile_parts(size.out_blocks // parts, vectors)
    )


def _plan(size: Size, cells: int, parts: int, tile: tuple[int, int], target: Target) -> Plan:
    """The slowest thread's time: products or the reading of the filter, whichever is longer, and the sums."""
    group = group_options(size, parts, tile[1])[0]
    blocks = size.images * -(-size.cells // cells)
    taken = -(-blocks * parts // target.threads)  # of the blocks' parts
    share = min(1.0, taken * cells / (parts * size.images * size.cells))  # of all products
    full = sum(count * _step(tile, size, part, parts, target) for count, part in tile_parts(size.cells, cells))
    products = size.products * size.in_blocks * size.lanes * size.images * parts * full * share
    far = 1.0 if size.read_bytes + size.written_bytes <= target.l2_bytes else FAR[size.levels - 1]
    doublings = log2(max(1.0, size.products * cells * group * size.lanes * 4 / NEAR_BYTES))
    of_output = OUTPUT_CYCLES.of(target) + DOUBLING_CYCLES * min(doublings, MOST_DOUBLINGS)
    sums = size.products * size.images * size.cells * share * far * SECOND_LEVEL ** (size.levels - 1)
    sums *= INPUT_CYCLES.of(target) * size.in_blocks * parts + of_output * size.out_blocks
    crowded = size.sums_bytes(cells) / (0.8 * target.l2_bytes) - 1.0
    products *= 1.0 + CROWDED.of(target) * min(max(crowded, 0.0), 1.0)
    memory = memory_rate(target.with_threads(min(parts, target.threads)))  # one reads for all
    first, again = (
        size.filter_bytes / parts / (l3_rate(target) if near else memory)
        for near in (size.filter_bytes < target.l2_bytes, stays_in_l3(size.filter_bytes, target, alone=True))
    )
    of_parts = min(-(-taken // (blocks // size.images)), parts)  # each is read for the first time once
    cycles = of_parts * max(products / taken, first) + (taken - of_parts) * max(products / taken, again)
    extra = 1.0 - 4**size.levels / size.products  # of what is read, beyond what the direct products read
    cycles += UNHIDDEN.of(target) * extra * of_parts * first
    if not stays_in_l3(size.read_bytes + size.written_bytes, target):
        cycles += FAR_STORES.of(target) * share * size.written_bytes / memory_rate(target)
    return Plan(cells, parts, tile, group, cycles + sums)
