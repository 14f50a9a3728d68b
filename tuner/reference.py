"""The schedule of the reference result that candidates are compared with: the naive loop nest, on vectors.

Every stage runs its loops in the order in which the workload names them, whole, one after the other, on one thread.
Two things are done to be quick, since sessions wait for it: the most contiguous dimension is computed in vectors, and
constants are laid out so that vectors of them are contiguous. Nothing is tiled, unrolled, cut at borders, fused, moved
or computed by another algorithm: of what makes candidates differ, and may be wrong in them, the reference has nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ScheduleError
from ..schedule.schedule import Schedule
from ..schedule.spaces.general import read_stride, vector_axis
from ..schedule.stage import Stage
from ..target import Target
from ..te import dtype as dt
from ..te.expr import Reduce, Var
from ..te.tensor import Placeholder
from ..te.traversal import free_vars
from ..te.workload import Workload


def reference_schedule(workload: Workload, target: Target) -> Schedule:
    """The naive loop nest of ``workload``, in vectors where that is possible."""
    schedule = Schedule(workload)
    try:
        for stage in schedule.live_stages():
            _vectorize(schedule, stage, target)
    except ScheduleError:  # an operation that has no vector form
        return Schedule(workload)
    return schedule


def _vectorize(s: Schedule, stage: Stage, target: Target) -> None:
    axis = vector_axis(stage) if 0 not in [r.extent for r in stage.roots] else None
    if axis is None or axis.extent < 2:
        return
    var = stage.tensor.axes[stage.roots.index(axis)].var
    for source, dimension in _strided(s, stage, var):
        rank = len(source.shape)
        order = [(d, 0) for d in range(rank) if d != dimension] + [(dimension, 0)]
        s.transform_layout(source, [()] * rank, order)
    lanes = target.lanes(max(8, dt.bits(stage.tensor.dtype)))
    lane = axis if axis.extent <= lanes else s.split(stage, axis, lanes, tail="guard")[1]
    if isinstance(stage.body, Reduce) or stage.leaves[-1] is not lane:
        s.reorder(stage, [*[a for a in stage.leaves if a is not lane], lane])
    s.vectorize(stage, lane)


def _strided(s: Schedule, stage: Stage, var: Var) -> Iterator[tuple[Placeholder, int]]:
    """Constants that are read once, in this stage and not contiguously along ``var``; and the dimension it indexes."""
    for source in s.workload.inputs:
        reads = [(t.tensor, r) for t in s.live_stages() for r in t.reads() if r.source is source]
        if not source.constant or len(reads) != 1 or reads[0][0] is not stage.tensor:
            continue
        read = reads[0][1]
        along = [d for d, index in enumerate(read.indices) if any(v is var for v in free_vars(index))]
        if len(along) == 1 and read_stride(read, var) not in (0, 1, None):
            yield source, along[0]
