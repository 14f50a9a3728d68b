"""Blocked memory layouts: how a logical tensor becomes a physical buffer.

A :class:`BlockedLayout` cuts each logical dimension into sub-dimensions and puts all of them into a new order. A
dimension of extent n with factors (f1, f2) becomes ceil(n / (f1 * f2)), f1, f2; what lies past n is zero.

    OIHW weights as [O/32][I/16][H][W][16][32]:
    BlockedLayout(factors=((32,), (16,), (), ()), order=((0, 0), (1, 0), (2, 0), (3, 0), (1, 1), (0, 1)))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..errors import ScheduleError
from ..te.expr import Expr, binary

_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class BlockedLayout:
    """How a tensor lies in memory.

    factors  for each logical dimension, outer factors first
    order    (dimension, part) pairs
    padding  for each of these, how many zeros that nothing uses follow in memory; empty: none anywhere
    """

    factors: tuple[tuple[int, ...], ...]
    order: tuple[tuple[int, int], ...]
    padding: tuple[int, ...] = ()

    def check(self, shape: Sequence[int]) -> None:
        """Raise ScheduleError unless this is a layout for a tensor of ``shape``."""
        if len(self.factors) != len(shape):
            raise ScheduleError(
                f"transform_layout: factors has {len(self.factors)} entries for {len(shape)} dimensions; give one each"
            )
        if any(f < 1 for factors in self.factors for f in factors):
            raise ScheduleError(f"transform_layout: factors {self.factors} must be positive")
        parts = {(d, p) for d, factors in enumerate(self.factors) for p in range(len(factors) + 1)}
        if set(self.order) != parts or len(self.order) != len(parts):
            raise ScheduleError(f"transform_layout: order must hold each of {sorted(parts)} once, not {self.order}")
        if self.padding and (len(self.padding) != len(self.order) or min(self.padding) < 0):
            raise ScheduleError(
                f"transform_layout: padding must be {len(self.order)} numbers, one for each entry of order, and none "
                f"negative, not {self.padding}"
            )

    def parts(self, dimension: int, extent: int) -> tuple[int, ...]:
        """Extents of the sub-dimensions of one logical dimension."""
        factors = self.factors[dimension]
        return (-(-extent // prod(factors)), *factors)

    def physical_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        split = [self.parts(d, n) for d, n in enumerate(shape)]
        padding = self.padding or (0,) * len(self.order)
        return tuple(split[d][p] + unused for (d, p), unused in zip(self.order, padding, strict=True))

    def physical_indices(self, indices: Sequence[Expr]) -> tuple[Expr, ...]:
        """The index map; the caller simplifies the result."""
        split: list[list[Expr]] = []
        for dimension, index in enumerate(indices):
            factors = self.factors[dimension]
            parts: list[Expr] = []
            rest = index
            for position in range(len(factors)):
                stride = prod(factors[position:])
                parts.append(binary("floordiv", rest, stride))
                rest = binary("floormod", index, stride)
            parts.append(rest)
            split.append(parts)
        return tuple(split[d][p] for d, p in self.order)

    def apply(self, array: np.ndarray[Any, Any], out: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
        """Lay out a logical array; the result is contiguous and zero-padded.

        out: where to, of the physical shape; default: a new array
        """
        split = [self.parts(d, n) for d, n in enumerate(array.shape)]
        padding = [(0, prod(parts) - n) for parts, n in zip(split, array.shape, strict=True)]
        if any(after for _, after in padding):
            array = np.pad(array, padding)
        starts = np.cumsum([0] + [len(parts) for parts in split])
        flat = array.reshape([n for parts in split for n in parts])
        turned = flat.transpose([int(starts[d]) + p for d, p in self.order])
        if any(self.padding):
            turned = np.pad(turned, [(0, unused) for unused in self.padding])
        out = np.empty(turned.shape, turned.dtype) if out is None else out
        _copy(turned, out)
        return out

    def to_json(self) -> dict[str, Any]:
        json: dict[str, Any] = {"factors": [list(f) for f in self.factors], "order": [list(p) for p in self.order]}
        return {**json, "padding": list(self.padding)} if any(self.padding) else json

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> BlockedLayout:
        return BlockedLayout(
            tuple(tuple(int(f) for f in factors) for factors in data["factors"]),
            tuple((int(d), int(p)) for d, p in data["order"]),
            tuple(int(p) for p in data.get("padding", ())),
        )


def apply_layout(
    layout: Mapping[str, Any] | None, array: np.ndarray[Any, Any], out: np.ndarray[Any, Any] | None = None
) -> np.ndarray[Any, Any]:
    """Lay out ``array`` as a kernel parameter's ``layout`` (None: unchanged) says; out: where to, if given."""
    if layout is not None:
        return BlockedLayout.from_json(layout).apply(array, out)
    if out is None:
        return np.ascontiguousarray(array)
    _copy(array, out)
    return out


def _copy(source: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
    """Copy; where the last dimension is gathered from afar, a cache line of the result at a time.

    A transposition with rows of 64 floats would otherwise read 64 far rows in turn, which share a few cache sets.
    """
    if out.shape != source.shape:  # copyto would repeat what is too small
        raise ScheduleError(f"apply: out has shape {list(out.shape)}; the layout gives {list(source.shape)}")
    step = max(1, _LINE_BYTES // source.itemsize)
    if not source.ndim or source.shape[-1] <= step or abs(source.strides[-1]) <= source.itemsize:
        np.copyto(out, source)
        return
    for at in range(0, source.shape[-1], step):
        np.copyto(out[..., at : at + step], source[..., at : at + step])
