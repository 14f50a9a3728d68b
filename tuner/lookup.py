"""From the log back to schedules: what a build asks for each of its tasks."""

from __future__ import annotations

from ..errors import ScheduleError
from ..schedule.decide import Decisions, Replay
from ..schedule.schedule import Schedule
from ..schedule.space import instantiate
from ..target import Target
from ..te.workload import Workload
from .database import Database


class ScheduleLookup:
    """``lookup(workload, target)`` returns the best decisions that a log has for it, or None.

    Counts what it answered, so that no build misses the log silently: ``tuned``, ``default`` (nothing in the log for
    this task and machine) and ``stale`` (a record that this version's space no longer understands).
    """

    def __init__(self, log: Database, target: Target | None = None) -> None:
        self.log, self.target = log, target
        self.tuned = self.default = self.stale = 0

    def __call__(self, workload: Workload, target: Target | None = None) -> Decisions | None:
        machine = target or self.target
        if machine is None:
            raise ScheduleError("schedules_from_log: no target was given, here or when the lookup was made")
        record = self.log.best(workload.key, machine, space="")
        if record is None:
            self.default += 1
            return None
        try:
            instantiate(workload, Replay(record.decisions), machine)
        except ScheduleError:
            self.stale += 1
            return None
        self.tuned += 1
        return dict(record.decisions)

    def __str__(self) -> str:
        stale = f", {self.stale} recorded by another version" if self.stale else ""
        return f"{self.tuned} tuned, {self.default} default{stale}"


def schedules_from_log(log: Database, target: Target | None = None) -> ScheduleLookup:
    """Make a lookup for :func:`luthier.graph.compile`; ``target`` is the machine to look for when a call names none."""
    return ScheduleLookup(log, target)


def best_schedule(log: Database, workload: Workload, target: Target, space: str | None = None) -> Schedule | None:
    """The fastest schedule recorded for a workload, from a space of one's own too; None where there is none.

    ``space`` restricts it to one space by its name. Raises ScheduleError when the trace no longer fits.
    """
    record = log.best(workload.key, target, space)
    if record is None or record.trace is None:
        return None
    schedule = Schedule.replay(workload, record.trace)
    schedule.decisions = dict(record.decisions)
    return schedule
