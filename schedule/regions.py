"""What part of a tensor one iteration of a loop reads: for ``compute_at``, in :mod:`.placement`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import ScheduleError
from ..te.cached import Interval, box_of, joined, variables_of
from ..te.expr import Const, Expr, Var
from ..te.simplifier import Simplifier
from .axis import LoopAxis, bound_axes
from .stage import Bounds, Stage


def inner_and_bounds(reader: Stage, at: Stage, axis: LoopAxis) -> tuple[Bounds, Bounds]:
    """The variables that vary within one iteration of ``axis`` for ``reader``, and the ranges of all that are bound."""
    inner: Bounds = {}
    bounds: Bounds = {}
    stage = reader
    while stage is not at:
        inner.update(stage.loop_bounds())
        if stage.attach is None:
            raise ScheduleError(
                f"compute_at: stage {reader.name} reads it too, and is not computed inside {at.name}; "
                "place that stage first, or choose an outer loop of a common consumer"
            )
        stage = stage.attach[0]
    below = at.leaves[at.leaves.index(axis) + 1 :]
    inner.update({a.var: (0, max(a.extent - 1, 0)) for leaf in below for a in bound_axes(leaf)})
    bounds.update(inner)
    outer: Stage | None = at
    while outer is not None:
        bounds.update(outer.loop_bounds())
        outer = outer.attach[0] if outer.attach else None
    return inner, bounds


def covered(
    indices: tuple[Expr, ...], size: int, coordinates: Mapping[Var, Expr], inner: Bounds, bounds: Bounds
) -> Interval:
    """The first value and the number of values of indices of a dimension of ``size``, while ``inner`` vary."""
    values = tuple([coordinates.get(v, v) for v in variables_of(*indices)])
    limits = tuple([(v, bounds.get(v), v in inner) for v in variables_of(*values)])
    return box_of(indices, values, limits, size)


def union(a: Sequence[Interval], b: Sequence[Interval], bounds: Bounds, shape: Sequence[int]) -> list[Interval]:
    """The smallest box that holds two, as far as that can be told."""
    s = Simplifier(bounds)
    return [joined(x, y, s, size) for x, y, size in zip(a, b, shape, strict=True)]


def clipped(minimum: Expr, extent: int, size: int) -> int:
    """No more than what remains of a dimension when the first coordinate is known."""
    if isinstance(minimum, Const) and int(minimum.value) >= 0:
        return max(0, min(extent, size - int(minimum.value)))
    return extent
