"""From the log back to schedules: what a build asks for each of its tasks.

In this order: a record of the task on this very machine and thread count (``tuned``); one of a similar machine
(``reused``); what was found for the nearest shape of its operator family (``transferred``, see :mod:`.transfer`); and
else nothing, so that the build takes the default rule's schedule (``default``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import cache

from ..errors import Error, ScheduleError
from ..graph.compile import Found
from ..runtime.report import ORIGINS, Origin
from ..schedule.decide import Adapt, Default
from ..schedule.schedule import Schedule
from ..schedule.space import instantiate
from ..target import Target
from ..te.workload import Workload
from .database import Database
from .record import Record, fingerprint_hash, target_hash
from .transfer import machine_distance, same_code, transfer


class ScheduleLookup:
    """``lookup(workload, target)`` returns the best decisions that a log has for it, and why these; see
    :data:`luthier.graph.compile.Schedules`.

    reuse     whether records of similar machines will do
    transfer  whether records of other shapes will do

    A record that lacks decisions because it is older than they are gets their defaults, if that is legal and the
    default rule still makes the decisions that it made for the record's contemporaries; it counts as ``completed``
    besides its origin. :attr:`counts` says how often each happened, so that no build misses the log silently; ``stale``
    counts records that were passed over.
    """

    def __init__(
        self, log: Database, target: Target | None = None, *, reuse: bool = True, transfer: bool = True
    ) -> None:
        self.log, self.target, self.reuse, self.transfer = log, target, reuse, transfer
        self.counts: Counter[str] = Counter(dict.fromkeys((*ORIGINS, "stale", "completed"), 0))

    def __call__(self, workload: Workload, target: Target | None = None) -> Found:
        machine = target or self.target
        if machine is None:
            raise Error("schedules_from_log: no target was given, neither here nor when the lookup was made")
        found = self._found(workload, machine)
        self.counts[found.origin] += 1
        self.counts["stale"] += found.stale
        self.counts["completed"] += bool(found.completed)
        return found

    def _found(self, workload: Workload, target: Target) -> Found:
        stale: list[str] = []
        changed_rule = cache(lambda: self._changed_rule(workload, target))
        for record, origin in self._candidates(workload.key, target):
            decider = Adapt(record.decisions, whole=True)
            try:
                schedule = instantiate(workload, decider, target)
            except ScheduleError as error:
                stale.append(str(error))
                continue
            filled = tuple(decider.filled)
            if schedule.decisions and schedule.decisions.keys().isdisjoint(record.decisions):
                stale.append(f"nothing is left of its decisions ({', '.join(sorted(record.decisions)) or 'none'})")
            elif filled and origin == "tuned" and changed_rule():
                rule = f"the default rule has changed since in {', '.join(changed_rule())}"
                stale.append(f"the record is older than {', '.join(filled)}, and {rule}")
            else:
                why = self._why(record, origin, target, filled) + _passed_over(stale)
                return Found(dict(schedule.decisions), origin, why, len(stale), filled)
        none = "no record of it fits" if stale else "no record of it"
        if self.transfer:
            decisions, why = transfer(self.log, workload, target, other_machines=self.reuse)
            if decisions is not None:
                return Found(decisions, "transferred", why + _passed_over(stale), len(stale))
            return Found(None, "default", f"{none}; {why}{_passed_over(stale)}", len(stale))
        return Found(None, "default", f"{none}{_passed_over(stale)}", len(stale))

    def _candidates(self, key: str, target: Target) -> Iterator[tuple[Record, Origin]]:
        """Records that might do, best first: those of this machine, then those of ever less similar ones."""
        own, wanted = target_hash(target), target.fingerprint()
        for record in self.log.ranked(key, own, ""):
            yield record, "tuned"
        if self.reuse:
            others = [m for m in self.log.targets(key) if m != wanted and same_code(m, wanted)]
            for machine in sorted(others, key=lambda m: machine_distance(m, wanted)):
                for record in self.log.ranked(key, fingerprint_hash(machine), ""):
                    yield record, "reused"

    def _changed_rule(self, workload: Workload, target: Target) -> list[str]:
        """Recorded decisions of the task's default schedule that today's default rule makes otherwise.

        An incomplete record is known to be good only in comparison with the default of its day.
        """
        default = self.log.default(workload.key, target, "")
        if default is None:
            return []
        own = instantiate(workload, Default(), target).decisions
        return sorted(name for name, value in default.decisions.items() if own.get(name, _NONE) != value)

    def _why(self, record: Record, origin: Origin, target: Target, filled: tuple[str, ...]) -> str:
        text = f"record of {time.strftime('%Y-%m-%d', time.gmtime(record.created_at))}" if _dated(record) else "record"
        default = self.log.default(record.key, record.target_hash, "")
        text += f", trial {record.trial}, {record.best_s * 1e6:.4g} us"
        if default is not None:
            text += f", {default.best_s / record.best_s:.2f}x as fast as its default"
        if origin == "reused":
            wanted = target.fingerprint()
            other = sorted(n for n in {*wanted, *record.target} if wanted.get(n) != record.target.get(n))
            text += f"; of {record.target.get('model') or 'a machine'} with other {', '.join(other)}"
        if filled:
            text += f"; it is older than {', '.join(filled)}: default"
        return text

    def __str__(self) -> str:
        c = self.counts
        parts = [f"{c[origin]} {origin}" for origin in ORIGINS]
        parts += [f"{c['stale']} of the records from another version"] if c["stale"] else []
        parts += [f"{c['completed']} completed with defaults"] if c["completed"] else []
        return ", ".join(parts)


def schedules_from_log(
    log: Database, target: Target | None = None, *, reuse: bool = True, transfer: bool = True
) -> ScheduleLookup:
    """Make a lookup for :func:`luthier.graph.compile.compile_model`; ``target`` stands in where a call names none."""
    return ScheduleLookup(log, target, reuse=reuse, transfer=transfer)


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


def _dated(record: Record) -> bool:
    return 0 < record.created_at < _YEAR_3000


_NONE = object()
_YEAR_3000 = 32503680000.0


def _passed_over(stale: list[str]) -> str:
    more = f" (the first: {stale[0]})" if stale else ""
    return f"; {len(stale)} stale record{'s' * (len(stale) != 1)} passed over{more}" if stale else ""
