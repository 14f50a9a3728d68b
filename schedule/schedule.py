"""A schedule: the loops, storage and layouts by which a workload is computed, and the trace that made them.

    s = Schedule(workload)
    yo, yi = s.split(C, "y", 4)
    s.vectorize(C, xi)
    print(s)                    # the loop nest as it stands

Primitives name a stage by its tensor, its name or the Stage, and an axis by its name or the LoopAxis. Each checks
its arguments (ScheduleError), changes the loops, and appends one step to :attr:`Schedule.trace`; replaying the trace on
the same workload (:meth:`Schedule.replay`) gives the same schedule. The primitives are in :mod:`.primitives` (loops),
:mod:`.placement` (where stages are computed and how they lie in memory) and :mod:`.algorithms`; spaces that use them
are in :mod:`.spaces`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..te.workload import Workload
from .algorithms import Algorithms
from .placement import Placement
from .primitives import LoopPrimitives
from .trace import Trace


class Schedule(LoopPrimitives, Placement, Algorithms):
    """How to compute a workload.

    workload    what to compute
    stages      name -> Stage, producers before consumers; inlined stages stay, marked so
    layouts     memory layout of constant inputs that are not row-major
    trace       the steps taken so far
    decisions   what a space chose, when one made this schedule
    """

    def to_json(self) -> dict[str, Any]:
        """The trace as JSON data; stage and axis names come along, so that it also fits an equal workload."""
        return Trace(self.names, tuple(self.trace)).to_json()

    @staticmethod
    def replay(workload: Workload, data: Mapping[str, Any]) -> Schedule:
        """Apply a trace from :meth:`to_json` to an equal workload. Raises ScheduleError where it does not fit."""
        trace = Trace.from_json(data)
        schedule = Schedule(workload, trace.names)
        for step in trace.steps:
            step.apply(schedule)
        return schedule

    def __str__(self) -> str:
        from .printer import format_schedule

        return format_schedule(self)
