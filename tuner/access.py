"""How a stage's loops walk through memory, in numbers; what the features of :mod:`.features` are made from.

Nothing is lowered. The loops around a stage, those of the stages that it is computed in included, say how far each of
its dimensions extends inside each loop; the index expressions, taken as linear, say how much of each tensor that
touches. A fused loop counts as the loops that it was made of. The numbers are estimates for a cost model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..schedule.axis import LoopAxis, LoopKind
from ..schedule.layout import BlockedLayout
from ..schedule.schedule import Schedule
from ..schedule.stage import Stage
from ..te import dtype as dt
from ..te.expr import Binary, Call, Const, Expr, Read, Reduce, Select, Var, children
from ..te.tensor import Compute, Placeholder, Source, reads_of

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop around a stage. own: the stage's, not that of a stage it is computed in; bodies: pieces it is cut into."""

    extent: int
    reduce: bool
    annotation: LoopKind
    bodies: int
    own: bool


@dataclass(frozen=True, slots=True)
class Access:
    """One tensor that a stage touches.

    size_bytes  of the whole tensor
    element     bytes of one element
    moved       bytes in cache lines touched from inside each loop (index 0: all loops; last: one point)
    strides     elements in memory between neighbouring iterations of each loop; 0: the loop does not move it
    constant    whether it is a weight, or was made from weights when the model was built
    """

    size_bytes: int
    element: int
    moved: FloatArray
    strides: Sequence[float]
    written: bool
    constant: bool


@dataclass(frozen=True, slots=True)
class Nest:
    """The loops around one stage's values, outermost first.

    points   times the innermost body runs, incomplete tiles counted as whole ones
    domain   of these, how many are of the tensor
    ops      arithmetic of one point
    """

    loops: tuple[Loop, ...]
    points: float
    domain: float
    ops: int
    accesses: tuple[Access, ...]

    @property
    def arithmetic(self) -> float:
        """Scalar operations in all."""
        return self.points * max(self.ops, 1)


def arithmetic_of(stage: Stage) -> float:
    """Scalar operations of one stage in all; what :attr:`Nest.arithmetic` is, without the rest."""
    points = prod(max(a.extent, 1) for a in (*_outer_loops(stage), *stage.leaves))
    return float(points) * max(_reads_of(stage.tensor, stage.body)[0], 1)


def nest_of(schedule: Schedule, stage: Stage, line_bytes: int) -> Nest:
    """Describe the loops of one stage."""
    outer = [p for leaf in _outer_loops(stage) for p in _parts(leaf, leaf)]
    own = [p for leaf in stage.leaves for p in _parts(leaf, leaf)]
    loops = [
        Loop(axis.extent, axis.kind == "reduce", leaf.annotation, len(leaf.cuts) + 1, i >= len(outer))
        for i, (axis, leaf) in enumerate((*outer, *own))
    ]
    steps = _steps(stage, [axis for axis, _ in (*outer, *own)])
    extents = np.array([max(loop.extent, 1) for loop in loops], float)
    # inside[l, d]: how many values dimension d takes inside loop l; one more row for a single point
    inside = np.ones((len(loops) + 1, len(steps)))
    inside[:-1] += (np.abs(steps) * (extents - 1.0)).T[::-1].cumsum(axis=0)[::-1]
    sizes = np.array([*stage.tensor.shape, *(a.extent for a in stage.reduce_axes)], float)
    inside = np.minimum(inside, np.maximum(sizes, 1.0))
    ops, reads = _reads_of(stage.tensor, stage.body)
    accesses = [_access(schedule, r, matrix, inside, steps, line_bytes, False) for r, matrix in reads]
    identity = np.eye(len(stage.roots), len(steps))
    accesses.append(_access(schedule, stage.tensor, identity, inside, steps, line_bytes, True))
    return Nest(tuple(loops), float(extents.prod()), float(max(sizes.prod(), 1.0)), ops, tuple(accesses))


# --------------------------------------------------------------------------------------- expressions


@lru_cache(maxsize=4096)
def _reads_of(tensor: Compute, body: Expr) -> tuple[int, list[tuple[Source, FloatArray]]]:
    """Operations per point, and the tensors read, each with how much its indices grow with each axis; reads that
    differ by a constant offset only count once. Schedules of one workload share their bodies, hence the cache."""
    variables = [a.var for a in tensor.axes]
    if isinstance(body, Reduce):
        variables += [a.var for a in body.axes]
    position = {v: i for i, v in enumerate(variables)}
    found: dict[tuple[int, bytes], tuple[Source, FloatArray]] = {}
    for read in reads_of(body):
        matrix = np.zeros((len(read.indices), len(variables)))
        for row, index in zip(matrix, read.indices, strict=True):
            _add_terms(index, 1.0, position, row)
        found.setdefault((id(read.source), matrix.tobytes()), (read.source, matrix))
    return _operations(body, {}), list(found.values())


def _operations(e: Expr, known: dict[Expr, int]) -> int:
    """Floating-point operations of a point; a choice costs its dearest side, what occurs twice is computed once."""
    if e in known:
        return 0
    known[e] = 0
    if isinstance(e, Select):
        count = _operations(e.condition, known) + max(_operations(x, dict(known)) for x in (e.a, e.b))
    else:
        count = sum(_operations(c, known) for c in children(e))
    return count + (isinstance(e, (Binary, Call, Reduce)) and dt.is_float(e.dtype))


def _add_terms(e: Expr, factor: float, position: dict[Var, int], row: FloatArray) -> None:
    """Add to ``row`` how much ``e`` grows with each variable."""
    match e:
        case Var():
            if e in position:
                row[position[e]] += factor
        case Binary(op="add" | "sub"):
            _add_terms(e.a, factor, position, row)
            _add_terms(e.b, factor if e.op == "add" else -factor, position, row)
        case Binary(op="mul", a=a, b=Const(value=c)) | Binary(op="mul", a=Const(value=c), b=a):
            _add_terms(a, factor * float(c), position, row)
        case Binary(op="floordiv", a=a, b=Const(value=c)) if c:
            _add_terms(a, factor / float(c), position, row)
        case Select():
            _add_terms(e.a, factor, position, row)
        case Read():
            row += factor  # data-dependent: anywhere
        case _:
            for inner in children(e):
                _add_terms(inner, factor, position, row)


# --------------------------------------------------------------------------------------------- loops


def _outer_loops(stage: Stage) -> list[LoopAxis]:
    """The loops of the consumers inside which a stage is computed."""
    loops: list[LoopAxis] = []
    while stage.attach is not None:
        stage, axis = stage.attach
        loops = [*stage.leaves[: stage.leaves.index(_loop_of(axis)) + 1], *loops]
    return loops


def _loop_of(axis: LoopAxis) -> LoopAxis:
    """The innermost loop that an axis has become."""
    while axis.split is not None or axis.fused_into is not None:
        axis = axis.split.inner if axis.split is not None else axis.fused_into  # type: ignore[assignment]
    return axis


def _parts(axis: LoopAxis, leaf: LoopAxis) -> list[tuple[LoopAxis, LoopAxis]]:
    """The loops that a leaf was fused from, each with the leaf."""
    if axis.fuse is None:
        return [(axis, leaf)]
    return _parts(axis.fuse.outer, leaf) + _parts(axis.fuse.inner, leaf)


def _steps(stage: Stage, loops: list[LoopAxis]) -> FloatArray:
    """How much each dimension of a stage's domain, reduced ones last, grows with each loop."""
    position = {id(a): i for i, a in enumerate(loops)}
    steps = np.zeros((len(stage.roots) + len(stage.reduce_roots), len(loops)))
    for row, root in zip(steps, (*stage.roots, *stage.reduce_roots), strict=True):
        _add_axis(root, 1.0, position, row)
    if stage.region_min is not None:
        axes: dict[Var, LoopAxis] = {}
        at = stage
        while at.attach is not None:
            at = at.attach[0]
            axes.update((a.var, a) for a in at.axes)
        index = {v: i for i, v in enumerate(axes)}
        known = list(axes.values())
        for row, start in zip(steps, stage.region_min, strict=False):
            terms = np.zeros(len(known))
            _add_terms(start, 1.0, index, terms)
            for i in terms.nonzero()[0]:
                _add_axis(known[i], float(terms[i]), position, row)
    return steps


def _add_axis(axis: LoopAxis, factor: float, position: dict[int, int], row: FloatArray) -> None:
    """Add ``factor`` for an axis, to the loops that it became."""
    if id(axis) in position:
        row[position[id(axis)]] += factor
    elif axis.split is not None:
        _add_axis(axis.split.outer, factor * axis.split.factor, position, row)
        _add_axis(axis.split.inner, factor, position, row)
    elif axis.fused_into is not None and axis.fused_into.fuse is not None:
        fuse = axis.fused_into.fuse
        _add_axis(axis.fused_into, factor / fuse.inner.extent if axis is fuse.outer else factor, position, row)


# -------------------------------------------------------------------------------------------- memory


def _access(
    schedule: Schedule,
    source: Source,
    matrix: FloatArray,
    inside: FloatArray,
    steps: FloatArray,
    line_bytes: int,
    written: bool,
) -> Access:
    element = dt.size_bytes(source.dtype)
    size = prod(source.shape) * element
    stage = next((s for s in schedule.stages.values() if s.tensor is source), None)
    constant = source.constant if isinstance(source, Placeholder) else stage is not None and stage.precomputed
    if not source.shape:
        return Access(size, element, np.full(len(inside), float(element)), [0.0] * steps.shape[1], written, constant)
    shape = np.maximum(np.array(source.shape, float), 1.0)
    reach = np.minimum((inside - 1.0) @ np.abs(matrix).T + 1.0, shape)
    layout = schedule.layouts.get(source) if isinstance(source, Placeholder) else stage.layout if stage else None
    order = _memory_order(source.shape, layout)
    # neighbours in memory share a cache line: those along the innermost dimension, and along the next if it is whole
    d, part, _ = order[-1]
    run = np.minimum(reach[:, d], part)
    if len(order) > 1:
        d, more, _ = order[-2]
        run = np.where(run >= part, run * np.minimum(reach[:, d], more), run)
    moved = reach.prod(axis=1) * np.maximum(line_bytes / run, element)
    strides = [0.0] * steps.shape[1]
    growth = np.abs(matrix @ steps)
    for d, loop in zip(*growth.nonzero(), strict=True):
        strides[loop] += _distance(float(growth[d, loop]), _parts_of(int(d), order))
    return Access(size, element, np.minimum(moved, max(size, line_bytes)), strides, written, constant)


@lru_cache(maxsize=4096)
def _memory_order(shape: tuple[int, ...], layout: BlockedLayout | None) -> tuple[tuple[int, int, int], ...]:
    """(dimension, extent, values of the dimension per step) of each part of a tensor in memory, outermost first."""
    if layout is None:
        return tuple((d, n, 1) for d, n in enumerate(shape))
    parts = []
    for d, p in layout.order:
        sizes = layout.parts(d, shape[d])
        parts.append((d, sizes[p], prod(sizes[p + 1 :])))
    return tuple(parts)


def _distance(step: float, parts: tuple[tuple[int, int], ...]) -> float:
    """Elements in memory by which a step along one dimension moves, by the largest part that it spans."""
    for stride, values in parts:
        if step >= values:
            return step / values * stride
    return float(parts[-1][0]) if parts else 0.0


@lru_cache(maxsize=4096)
def _parts_of(dimension: int, order: tuple[tuple[int, int, int], ...]) -> tuple[tuple[int, int], ...]:
    """(elements in memory between steps, values per step) of the parts of one dimension, outermost first."""
    return tuple(
        (prod(extent for _, extent, _ in order[i + 1 :]), values)
        for i, (d, _, values) in sorted(enumerate(order), key=lambda part: -part[1][2])
        if d == dimension
    )
