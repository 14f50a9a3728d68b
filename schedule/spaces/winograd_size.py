"""The size of a convolution by Winograd's algorithm: what there is to transform, to multiply and to read.

Cycles are of one full-width multiply-add on one core, as in :mod:`.traffic`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from ...target import Target
from ...te.tensor import Compute
from .traffic import PerCore

OF_INPUT, OF_OUTPUT = PerCore(4.0, 8.0, 9.0), PerCore(3.0, 8.0, 9.0, 4.0)
"""What the transforms take for a vector of the transformed input, and of a product."""

SPILL_INPUT, SPILL_OUTPUT = PerCore(1.2, 1.3, 1.9, 2.0), PerCore(0.9, 1.3, 1.9, 2.0)
"""What they take of that where a tile has more values than there are registers: twice the code, too."""

MOST_TILES = 64
"""Of an image whose filter may be kept in lines."""


@dataclass(frozen=True, slots=True)
class Size:
    """The problem: images, tiles of m x m outputs, blocks of ``lanes`` channels; groups of equal size.

    taps    rows and columns of the filter
    lines   the filter is kept transformed along its columns only, and each register tile transforms the rows: fewer
            bytes to read, for additions that are done again for each tile
    """

    m: int
    taps: int
    stride: int
    groups: int
    images: int
    tiles_y: int
    tiles_x: int
    in_blocks: int
    out_blocks: int
    lanes: int
    lines: bool = False

    @staticmethod
    def of(conv: Compute, m: int) -> Size:
        n, out_blocks, height, width, lanes = conv.shape
        in_blocks = conv.inputs()[0].shape[1]
        taps, stride = (cast(tuple[int, ...], conv.attrs[name])[0] for name in ("kernel", "strides"))
        groups = cast(int, conv.attrs["groups"])
        return Size(m, taps, stride, groups, n, -(-height // m), -(-width // m), in_blocks, out_blocks, lanes)

    @property
    def may_keep_lines(self) -> bool:
        """Whether the filter could be kept in lines, would be smaller by a quarter or more, and is read for few tiles:
        for many, its bytes count little."""
        return self.stride == 1 and 4 * self.taps <= 3 * self.line and self.tiles <= MOST_TILES

    @property
    def line(self) -> int:
        """Points in one dimension."""
        return self.m + -(-self.taps // self.stride) - 1

    @property
    def tile_points(self) -> int:
        """Points whose sums a register tile holds for each of its tiles and output channels."""
        return self.line if self.lines else 1

    @property
    def kept_values(self) -> int:
        """Values of a filter from which those at so many points come."""
        return self.taps if self.lines else 1

    @property
    def points(self) -> int:
        """Sums of products per tile and output channel."""
        return self.line**2

    @property
    def inputs(self) -> int:
        """Values of the transformed input per tile and channel, over all phases: products per tile and channel pair."""
        return (self.stride * (self.m - 1) + self.taps) ** 2

    @property
    def tiles(self) -> int:
        return self.images * self.tiles_y * self.tiles_x

    @property
    def products(self) -> float:
        """Cycles of the matrix products."""
        return self.tiles * self.inputs * self.in_blocks // self.groups * self.lanes * self.out_blocks / 0.93

    @property
    def input_bytes(self) -> int:
        """What is read: the pixels that are a tile's own, of all channels."""
        return self.tiles * self.m**2 * self.in_blocks * self.stride**2 * self.lanes * 4

    @property
    def image_bytes(self) -> int:
        """What is read and written."""
        return self.input_bytes + self.tiles * self.m**2 * self.out_blocks * self.lanes * 4

    @property
    def transformed_bytes(self) -> int:
        """Transformed input."""
        return self.tiles * self.inputs * self.in_blocks * self.lanes * 4

    @property
    def filter_bytes(self) -> int:
        """Transformed filter, as it is kept."""
        kept = self.line * self.kept_values if self.lines else self.inputs
        return kept * self.in_blocks // self.groups * self.out_blocks * self.lanes**2 * 4

    def transforms(self, target: Target) -> tuple[float, float]:
        """Cycles of the input's and the output's transforms: loads, two passes of short sums, stores."""
        of_input, of_output = OF_INPUT.of(target), OF_OUTPUT.of(target)
        if self.points > 36:
            of_input, of_output = of_input * SPILL_INPUT.of(target), of_output * SPILL_OUTPUT.of(target)
        vectors = self.in_blocks * self.inputs, self.out_blocks * self.points
        return of_input * self.tiles * vectors[0], of_output * self.tiles * vectors[1]
