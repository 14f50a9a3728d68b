"""What is tuned: a workload with its name, its weight in the model and, if not the usual one, its space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Protocol

from ..errors import TuningError
from ..schedule.decide import Decider
from ..schedule.schedule import Schedule
from ..schedule.space import Space, instantiate
from ..target import Target
from ..te.workload import Workload


class ModelTask(Protocol):
    """The part of a task of :mod:`luthier.graph` that tuning needs."""

    @property
    def workload(self) -> Workload: ...
    @property
    def name(self) -> str: ...
    @property
    def uses(self) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class TuningTask:
    """One task.

    uses             how many times the model runs it
    space            the user's own, None for the one of its operator
    constants_bytes  constants of the whole model: whether they stay in the caches from one inference to the next
    """

    workload: Workload
    name: str
    uses: int = 1
    space: Space | None = None
    constants_bytes: int = 0

    @property
    def key(self) -> str:
        return self.workload.key

    @property
    def space_name(self) -> str:
        """How records tell spaces apart; "" for those that ship."""
        return "" if self.space is None else f"{self.space.__module__}.{self.space.__qualname__}"

    def instantiate(self, decider: Decider, target: Target) -> Schedule:
        """Make a schedule. Raises ScheduleError where the decisions are not legal."""
        return instantiate(self.workload, decider, target, self.space)


def is_wanted(pattern: str | None, name: str, key: str) -> bool:
    """Whether a task's name or key matches a pattern (shell style); without one, all do."""
    return pattern is None or fnmatchcase(name, pattern) or fnmatchcase(key, pattern)


def tuning_tasks(tasks: Iterable[ModelTask | TuningTask], pattern: str | None = None) -> list[TuningTask]:
    """Collect tasks whose name or key matches ``pattern`` (shell style), adding up the uses of equal ones.

    Raises TuningError when there is none.
    """
    found: dict[tuple[str, str], TuningTask] = {}
    names = []
    all_tasks = list(tasks)
    total = sum(p.size_bytes * t.uses for t in all_tasks for p in t.workload.inputs if p.constant)
    for t in all_tasks:
        known_bytes = getattr(t, "constants_bytes", 0)  # of more tasks than these, where some were chosen before
        task = TuningTask(t.workload, t.name, t.uses, getattr(t, "space", None), max(total, known_bytes))
        names.append(task.name)
        if not is_wanted(pattern, task.name, task.key):
            continue
        identity = (task.key, task.space_name)
        known = found.get(identity)
        if known is not None:
            task = replace(known, uses=known.uses + task.uses)
        found[identity] = task
    if not found and not names:
        raise TuningError("there is nothing to tune: the model has no task")
    if not found:
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise TuningError(f"task pattern {pattern!r} matches none of the {len(names)} tasks; their names are {some}")
    return list(found.values())
