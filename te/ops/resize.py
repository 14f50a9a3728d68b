"""Resampling of images and other tensors: nearest and linear interpolation along any dimensions. Tag ``injective``.

Positions are computed from loop variables in float32, as the ONNX operator Resize defines them; a dimension that
keeps its size costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import ExpressionError
from ..expr import Expr, call, cast, const, maximum, minimum
from ..tensor import Compute
from .operand import OperandLike, define, operand

COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True, slots=True)
class Resampling:
    """How one dimension is resampled: sizes before and after, and output elements per input element."""

    size: int
    outputs: int
    scale: float

    @property
    def identity(self) -> bool:
        return self.size == self.outputs and self.scale == 1.0


def resize(
    x: OperandLike,
    shape: Sequence[int],
    scales: Sequence[float],
    *,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    nearest: str = "round_prefer_floor",
    block: int = 0,
) -> Compute:
    """Resample ``x`` to ``shape``.

    scales       output elements per input element of each dimension
    mode         ``nearest`` or ``linear``
    coordinates  how an output index becomes an input position (ONNX coordinate_transformation_mode)
    nearest      which neighbour ``nearest`` takes

    Errors: ExpressionError for a mode that is not among those.
    """
    a = operand(x)
    for what, value, allowed in (
        ("mode", mode, ("nearest", "linear")),
        ("coordinates", coordinates, COORDINATES),
        ("nearest", nearest, NEAREST),
    ):
        if value not in allowed:
            raise ExpressionError(f"resize: {what} is {value!r}, but must be one of {', '.join(allowed)}")
    dims = [Resampling(*d) for d in zip(a.shape, shape, scales, strict=True)]

    def body(*i: Expr) -> Expr:
        if mode == "nearest":
            source = [_nearest(v, d, coordinates, nearest) for v, d in zip(i, dims, strict=True)]
            return a.at(*source)
        return _linear(list(i), 0)

    def _linear(position: list[Expr], d: int) -> Expr:
        while d < len(dims) and dims[d].identity:
            d += 1
        if d == len(dims):
            return a.at(*position)
        at = _position(position[d], dims[d], coordinates)
        low = call("floor", at)
        weight = at - low
        first, last = cast(low, "int64"), dims[d].size - 1
        before = [*position[:d], minimum(maximum(first, 0), last), *position[d + 1 :]]
        after = [*position[:d], minimum(maximum(first + 1, 0), last), *position[d + 1 :]]
        return _linear(before, d + 1) * cast(1.0 - weight, a.dtype) + _linear(after, d + 1) * cast(weight, a.dtype)

    return define(shape, body, block=block, name="resize")


# ------------------------------------------------------------------------------------------- parts


def _position(index: Expr, d: Resampling, coordinates: str) -> Expr:
    """The position in the input, as a float, of an output index."""
    i = cast(index, "float32")
    match coordinates:
        case "asymmetric":
            return i / d.scale
        case "align_corners":
            # ONNX counts with the exact size, scale * size, of which ``outputs`` is the integer part.
            exact = d.scale * d.size
            return i * ((d.size - 1) / (exact - 1)) if exact != 1 and d.outputs > 1 else const(0.0)
        case "pytorch_half_pixel" if d.outputs == 1:
            return const(0.0)
        case "half_pixel_symmetric":
            adjustment = d.outputs / (d.scale * d.size)
            offset = d.size / 2 * (1 - adjustment)
            return (i + 0.5) / d.scale + (offset - 0.5)
        case _:
            return (i + 0.5) / d.scale - 0.5


def _nearest(index: Expr, d: Resampling, coordinates: str, nearest: str) -> Expr:
    """The input index nearest to an output index; in integers where the ratio is one."""
    if d.identity:
        return index
    ratio = round(d.scale)
    if d.scale == ratio and coordinates == "asymmetric" and nearest == "floor" and d.outputs <= d.size * ratio:
        return index // ratio
    at = _position(index, d, coordinates)
    match nearest:
        case "floor":
            chosen = call("floor", at)
        case "ceil":
            chosen = call("ceil", at)
        case "round_prefer_ceil":
            chosen = call("floor", at + 0.5)
        case _:
            chosen = call("ceil", at - 0.5)
    return minimum(maximum(cast(chosen, "int64"), 0), d.size - 1)
