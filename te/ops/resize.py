"""Resampling of images and other tensors: nearest, linear and cubic interpolation along any dimensions. Tag
``injective``.

Positions are computed from loop variables in float32, as the ONNX operator Resize defines them. A dimension that
keeps its size costs nothing; the others are interpolated one after another, each as a weighted sum of its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from ...errors import ExpressionError
from ..expr import Expr, all_of, call, cast, const, maximum, minimum, select
from ..tensor import Compute
from .operand import OperandLike, define, operand

MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True, slots=True)
class Resampling:
    """How one dimension is resampled.

    size, outputs  elements before and after
    scale          output elements per input element
    begin, end     the region that tf_crop_and_resize takes, as parts of the size
    """

    size: int
    outputs: int
    scale: float
    begin: float = 0.0
    end: float = 1.0

    @property
    def identity(self) -> bool:
        return self.size == self.outputs and (self.scale, self.begin, self.end) == (1.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Cubic:
    """The cubic kernel. a: its coefficient; renormalize: leave out neighbours outside of the tensor."""

    a: float = -0.75
    renormalize: bool = False


def resize(
    x: OperandLike,
    shape: Sequence[int],
    scales: Sequence[float],
    *,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    nearest: str = "round_prefer_floor",
    cubic: Cubic | None = None,
    roi: Sequence[float] = (),
    extrapolation: float = 0.0,
    block: int = 0,
) -> Compute:
    """Resample ``x`` to ``shape``.

    scales         output elements per input element of each dimension
    mode           ``nearest``, ``linear`` or ``cubic``
    coordinates    how an output index becomes an input position (ONNX coordinate_transformation_mode)
    nearest        which neighbour ``nearest`` takes
    roi            for tf_crop_and_resize: begins of all dimensions, then ends, as parts of the sizes
    extrapolation  the value outside of the tensor, for tf_crop_and_resize

    Errors: ExpressionError for a mode that is not among those.
    """
    a = operand(x)
    for what, value, allowed in (
        ("mode", mode, MODES),
        ("coordinates", coordinates, COORDINATES),
        ("nearest", nearest, NEAREST),
    ):
        if value not in allowed:
            raise ExpressionError(f"resize: {what} is {value!r}, but must be one of {', '.join(allowed)}")
    crop = coordinates == "tf_crop_and_resize"
    region = list(roi) if crop and roi else [0.0] * a.rank + [1.0] * a.rank
    dims = [Resampling(*d) for d in zip(a.shape, shape, scales, region[: a.rank], region[a.rank :], strict=True)]

    def interpolated(position: list[Expr], d: int) -> Expr:
        while d < len(dims) and dims[d].identity:
            d += 1
        if d == len(dims):
            return a.at(*position)
        if mode == "nearest":
            index = _nearest(position[d], dims[d], coordinates, nearest)
            return interpolated([*position[:d], index, *position[d + 1 :]], d + 1)
        at = _position(position[d], dims[d], coordinates)
        neighbours = _linear(at) if mode == "linear" else _cubic(at, dims[d].size, cubic or Cubic())
        terms: list[Expr] = []
        for index, weight in neighbours:
            inside = minimum(maximum(index, 0), dims[d].size - 1)
            value = interpolated([*position[:d], inside, *position[d + 1 :]], d + 1)
            terms.append(value * cast(weight, a.dtype))
        return reduce(add, terms)

    def body(*i: Expr) -> Expr:
        value = interpolated(list(i), 0)
        if not crop:
            return value
        inside: list[Expr] = []
        for index, d in zip(i, dims, strict=True):
            if not d.identity:
                at = _position(index, d, coordinates)
                inside += [at >= 0.0, at <= float(d.size - 1)]
        return select(all_of(*inside), value, extrapolation)

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
        case "tf_crop_and_resize" if d.outputs == 1:
            return const(0.5 * (d.begin + d.end) * (d.size - 1))
        case "tf_crop_and_resize":
            return i * ((d.end - d.begin) * (d.size - 1) / (d.outputs - 1)) + d.begin * (d.size - 1)
        case _:
            return (i + 0.5) / d.scale - 0.5


def _nearest(index: Expr, d: Resampling, coordinates: str, nearest: str) -> Expr:
    """The input index nearest to an output index; in integers where the ratio is one."""
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


def _linear(at: Expr) -> list[tuple[Expr, Expr]]:
    """The two neighbours of a position, with their weights."""
    low = call("floor", at)
    first, weight = cast(low, "int64"), at - low
    return [(first, 1.0 - weight), (first + 1, weight)]


def _cubic(at: Expr, size: int, kernel: Cubic) -> list[tuple[Expr, Expr]]:
    """The four neighbours of a position, with the weights of Keys' kernel (IEEE TASSP 29, 1981)."""
    low = call("floor", at)
    first, t, a = cast(low, "int64"), at - low, kernel.a

    def near(s: Expr) -> Expr:
        return (s * (a + 2) - (a + 3)) * s * s + 1.0

    def far(s: Expr) -> Expr:
        return ((s * a - 5 * a) * s + 8 * a) * s - 4 * a

    weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
    indices = [first + k for k in (-1, 0, 1, 2)]
    if kernel.renormalize:
        zero = const(0.0)
        kept = [select(all_of(i >= 0, i < size), w, zero) for i, w in zip(indices, weights, strict=True)]
        total = kept[0] + kept[1] + kept[2] + kept[3]
        weights = [w / total for w in kept]
    return list(zip(indices, weights, strict=True))
