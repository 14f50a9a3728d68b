"""The register tiles of Winograd's products: which there are, and what they cost over all blocks of an image."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ...target import Target
from .common import register_tiles, tile_parts, tile_vectors
from .products import filter_step
from .traffic import PerCore, is_double
from .winograd_size import Size

LOAD_COST = 0.04
"""How much longer products take with one load for each multiply-add than with none."""

STORED = PerCore(14.0, 0.0, 0.0, 4.0)
"""Cycles that each vector of products costs more where a register tile has several of them: blocks of output channels
then are multiplied together before any is transformed back, and are further away by then. With one vector, 64 channels
take 1 to 6 % less time, 128 up to 2 %, and 256 as long."""


@lru_cache(maxsize=4096)
def tile_options(
    size: Size, parts: int, rows: int, columns: int, target: Target
) -> tuple[list[tuple[int, int]], tuple[int, int], float]:
    """The register tiles (tiles of the image, vectors), the one that the estimate prefers, and the cycles of its steps.

    rows, columns  of the tiles in a block
    parts          of the output channels

    Kept: a search asks again for each candidate.
    """
    tiles = list(_tiles(size, parts, rows * columns, target))
    costs = [_cost(tile, parts, rows, columns, size, target) for tile in tiles]
    least = min(costs)
    return tiles, tiles[costs.index(least)], least


def _tiles(size: Size, parts: int, tiles: int, target: Target) -> Iterator[tuple[int, int]]:
    """Register tiles for blocks of so many tiles; one holds channels of one group only, and of one part of the output
    channels, or its filter would not lie in one piece."""
    of_one_group, of_one_part = size.out_blocks // size.groups, size.out_blocks // parts
    for _, points, vectors in register_tiles((1,), range(1, 29), tile_vectors(target), target):
        fits = points <= tiles and vectors <= min(of_one_group, of_one_part)
        if size.lines:  # all points of a line in registers, and what they are made from
            fits &= vectors * (points * size.line + size.taps + 1) <= target.vector_registers
        whole = (size.groups == 1 or of_one_group % vectors == 0) and (parts == 1 or of_one_part % vectors == 0)
        if fits and whole:
            yield points, vectors


def _cost(tile: tuple[int, int], parts: int, rows: int, columns: int, size: Size, target: Target) -> float:
    """Estimated cycles of one reduction step at one point over all blocks of an image, incomplete tiles included."""
    points, vectors = tile
    line, channels = size.tile_points, size.in_blocks // size.groups * size.lanes
    panel_bytes = size.kept_values * channels * vectors * size.lanes * 4
    additions = 0 if line == 1 else 2 * line - 3 if is_double(target) else line - 1

    def step(p: int, v: int) -> float:
        return (filter_step(p * line, v, panel_bytes, target) + additions * v + 0.6) / line

    loads = 1.0 + LOAD_COST * (points + vectors) / (points * vectors)
    stored = STORED.of(target) * (vectors > 1) * size.tiles * size.out_blocks / (channels * parts * size.images)
    return stored + loads * sum(
        of_rows * of_columns * of_points * of_vectors * step(p, v)
        for of_rows, y in tile_parts(size.tiles_y, rows)
        for of_columns, x in tile_parts(size.tiles_x, columns)
        for of_points, p in tile_parts(y * x, points)
        for of_vectors, v in tile_parts(size.out_blocks // parts, vectors)
    )
