"""How a stage's loops walk through memory, in numbers; what the features of :mod:`.features` are made from.

Nothing is lowered: the loops of a stage say how far each of its dimensions extends inside each loop, and the index
expressions, taken as linear, say how much of each tensor that touches. The numbers are estimates for a cost model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..schedule.axis import LoopAxis
from ..schedule.stage import Stage
from ..te import dtype as dt
from ..te.expr import Binary, Const, Expr, Read, Reduce, Select, Var, children, walk
from ..te.tensor import Compute, Source

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Access:
    """One tensor that a stage touches.

    size_bytes  of the whole tensor
    element     bytes of one element
    moved       bytes in cache lines touched from inside each loop (index 0: all loops; last: one point)
    strides     elements between neighbouring iterations of each loop
    """

    size_bytes: int
    element: int
    moved: FloatArray
    strides: FloatArray
    written: bool


@dataclass(frozen=True, slots=True)
class Nest:
    """The loops around one stage's values, outermost first, those of the stages it is attached to included."""

    loops: tuple[LoopAxis, ...]
    own: int
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


def nest_of(stage: Stage, line_bytes: int) -> Nest:
    """Describe the loops of one stage."""
    loops = [*_outer_loops(stage), *stage.leaves]
    own = len(stage.leaves)
    roots = [*stage.roots, *stage.reduce_roots]
    count, stride = _spread(stage.leaves, roots)
    # inside[l, r]: how many values root r takes inside loop l of the stage's own loops; one more row for a single point
    inside = np.ones((own + 1, len(roots)))
    for level in range(own - 1, -1, -1):
        inside[level] = inside[level + 1] * count[level]
    extents = np.array([a.extent for a in roots], float)
    inside = np.minimum(inside, np.maximum(extents, 1.0))
    ops, reads = _reads_of(stage.tensor, stage.body)
    accesses = [_access(r.shape, r.dtype, matrix, inside, stride, line_bytes, False) for r, matrix in reads]
    identity = np.eye(len(stage.roots), len(roots))
    accesses.append(_access(stage.tensor.shape, stage.tensor.dtype, identity, inside, stride, line_bytes, True))
    points = float(prod(max(a.extent, 1) for a in loops))
    domain = float(max(prod(extents.tolist()), 1.0)) * prod(max(a.extent, 1) for a in loops[: len(loops) - own])
    return Nest(tuple(loops), own, points, domain, ops, tuple(accesses))


@lru_cache(maxsize=4096)
def _reads_of(tensor: Compute, body: Expr) -> tuple[int, list[tuple[Source, FloatArray]]]:
    """Operations per point, and the tensors read, each with its :func:`_coefficients`; reads that differ by a
    constant offset only count once. Schedules of one workload mostly share their bodies, hence the cache."""
    variables = [a.var for a in tensor.axes]
    if isinstance(body, Reduce):
        variables += [a.var for a in body.axes]
    ops = 0
    found: dict[tuple[int, bytes], tuple[Source, FloatArray]] = {}
    for e in walk(body.term if isinstance(body, Reduce) else body):
        if isinstance(e, Read):
            matrix = _coefficients(e.indices, variables)
            found.setdefault((id(e.source), matrix.tobytes()), (e.source, matrix))
        elif not isinstance(e, (Var, Const)) and dt.is_float(e.dtype):
            ops += 1
    return ops + isinstance(body, Reduce), list(found.values())


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


def _spread(leaves: list[LoopAxis], roots: list[LoopAxis]) -> tuple[FloatArray, FloatArray]:
    """For each loop and root: how many values of the root the loop runs through, and how far apart they are."""
    place = {id(a): i for i, a in enumerate(leaves)}
    count, stride = np.ones((len(leaves), len(roots))), np.zeros((len(leaves), len(roots)))
    for r, root in enumerate(roots):
        for leaf, step, values in _pieces(root):
            i = place.get(id(leaf))
            if i is not None:
                count[i, r] *= values
                stride[i, r] = step
    return count, stride


def _pieces(axis: LoopAxis) -> Iterator[tuple[LoopAxis, int, int]]:
    """The loops that an axis became: (loop, step in the axis's values, number of values)."""
    if axis.split is not None:
        for leaf, step, values in _pieces(axis.split.outer):
            yield leaf, step * axis.split.factor, values
        yield from _pieces(axis.split.inner)
    elif axis.fused_into is not None and axis.fused_into.fuse is not None:
        fused, inner = axis.fused_into, axis.fused_into.fuse.inner
        for leaf, step, values in _pieces(fused):
            if axis is inner:
                if step < inner.extent:
                    yield leaf, step, min(values, -(-inner.extent // step))
            elif step * values > inner.extent:
                yield leaf, max(step // inner.extent, 1), -(-step * values // max(inner.extent, step))
    else:
        yield axis, 1, axis.extent


def _coefficients(indices: tuple[Expr, ...], variables: list[Var]) -> FloatArray:
    """How much each index grows with each variable."""
    position = {v: i for i, v in enumerate(variables)}
    matrix = np.zeros((len(indices), len(variables)))
    for row, index in zip(matrix, indices, strict=True):
        _add_terms(index, 1.0, position, row)
    return matrix


def _add_terms(e: Expr, factor: float, position: dict[Var, int], row: FloatArray) -> None:
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


def _access(
    shape: tuple[int, ...],
    dtype: str,
    matrix: FloatArray,
    inside: FloatArray,
    stride: FloatArray,
    line_bytes: int,
    written: bool,
) -> Access:
    element = dt.size_bytes(dtype)
    size = prod(shape) * element
    if not shape:
        return Access(size, element, np.full(len(inside), float(element)), np.zeros(len(stride)), written)
    reach = np.minimum(1.0 + (inside - 1.0) @ np.abs(matrix).T, np.maximum(np.array(shape, float), 1.0))
    # neighbours along the last dimension share a cache line, all others start a new one
    moved = np.maximum(reach[:, -1] * element, float(line_bytes)) * reach[:, :-1].prod(axis=1)
    weights = np.cumprod([1, *shape[:0:-1]])[::-1]
    strides = stride @ (matrix.T @ weights)
    return Access(size, element, np.minimum(moved, max(size, line_bytes)), strides, written)
