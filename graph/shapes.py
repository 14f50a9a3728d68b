"""Arithmetic on static shapes, shared by the importer and the passes. Pure functions of integers.

Shapes of whole models come from ONNX's own shape inference (:mod:`.importer.build`); this module has what the
internal form of an operator needs beyond that: axes counted from the front, paddings in numbers, bounds of slices.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import OnnxError


def normalize_axis(axis: int, rank: int, what: str = "axis") -> int:
    """Count ``axis`` from the front; OnnxError where it is outside ``-rank .. rank - 1``."""
    if not -rank <= axis < rank:
        raise OnnxError(f"{what} is {axis}, but must lie in {-rank}..{rank - 1} for a tensor of rank {rank}")
    return axis + rank if axis < 0 else axis


def normalize_axes(axes: Sequence[int], rank: int, what: str = "axes") -> tuple[int, ...]:
    """Count every axis from the front and sort them; OnnxError where one occurs twice."""
    result = sorted(normalize_axis(int(a), rank, what) for a in axes)
    if len(set(result)) != len(result):
        raise OnnxError(f"{what} {list(axes)} names an axis twice")
    return tuple(result)


def same_pads(
    spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], upper: bool
) -> tuple[int, ...]:
    """Explicit paddings of ``auto_pad=SAME_UPPER`` (``upper``) or ``SAME_LOWER``: all begins, then all ends."""
    begins, ends = [], []
    for size, k, s, d in zip(spatial, kernel, strides, dilations, strict=True):
        out = -(-size // s)
        total = max((out - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if upper else large)
        ends.append(large if upper else small)
    return (*begins, *ends)


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that NumPy-style broadcasting gives; OnnxError where the shapes do not fit."""
    rank = max((len(s) for s in shapes), default=0)
    result = []
    for column in zip(*((1,) * (rank - len(s)) + tuple(s) for s in shapes), strict=True):
        sizes = {c for c in column if c != 1}
        if len(sizes) > 1:
            raise OnnxError(f"shapes {', '.join(str(list(s)) for s in shapes)} do not broadcast")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def clamp_slice(start: int, end: int, step: int, size: int) -> tuple[int, int, int]:
    """ONNX Slice bounds on a dimension of ``size``, made explicit: (start, number of elements, step)."""
    if step == 0:
        raise OnnxError("Slice step is 0; it must be positive or negative")
    start, stop, step = slice(start, end, step).indices(size)
    return start, len(range(start, stop, step)), step
