"""From the log back to schedules: what a build asks for each of its tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import Error, ScheduleError
from ..graph.compile import Found
from ..runtime.report import Origin
from ..schedule.decide import Replay
from ..schedule.schedule import Schedule
from ..schedule.space import instantiate
from ..target import Target
from ..te.workload import Workload
from .database import Database
from .record import Record, target_hash

_SAME_CODE = ("triple", "vector_bits", "vector_registers")
"""What two machines must share for one's schedule to be worth a try on the other."""


class ScheduleLookup:
    """``lookup(workload, target)`` returns the best decisions that a log has for it, or None; see
    :data:`luthier.graph.compile.Schedules`.

    A record of this very machine and thread count gives a ``tuned`` schedule. Without one, the record of the most
    similar machine gives a ``reused`` one, if ``reuse`` allows it. :attr:`counts` says how often each happened, so that
    no build misses the log silently; ``stale`` counts records that this version's space no longer understands.
    """

    def __init__(self, log: Database, target: Target | None = None, *, reuse: bool = True) -> None:
        self.log, self.target, self.reuse = log, target, reuse
        self.counts: Counter[str] = Counter(tuned=0, reused=0, default=0, stale=0)

    def __call__(self, workload: Workload, target: Target | None = None) -> Found | None:
        machine = target or self.target
        if machine is None:
            raise Error("schedules_from_log: no target was given, neither here nor when the lookup was made")
        for record, origin in self._candidates(workload.key, machine):
            if _fits(record, workload, machine):
                self.counts[origin] += 1
                return Found(dict(record.decisions), origin)
            self.counts["stale"] += 1
        self.counts["default"] += 1
        return None

    def _candidates(self, key: str, target: Target) -> Iterator[tuple[Record, Origin]]:
        """Records that might do, best first: those of this machine, then those of ever less similar ones."""
        for record in sorted(filter(_is_good, self.log.records(key, target)), key=lambda r: r.best_s):
            yield record, "tuned"
        if self.reuse:
            wanted, own = target.fingerprint(), target_hash(target)
            others = [r for r in self.log.records(key) if _is_good(r) and r.target_hash != own]
            similar = [r for r in others if all(r.target.get(f) == wanted[f] for f in _SAME_CODE)]
            for record in sorted(similar, key=lambda r: (_distance(r.target, wanted), r.best_s)):
                yield record, "reused"

    def __str__(self) -> str:
        c = self.counts
        stale = f", {c['stale']} of the records from another version" if c["stale"] else ""
        return f"{c['tuned']} tuned, {c['reused']} reused, {c['default']} default{stale}"


def schedules_from_log(log: Database, target: Target | None = None, *, reuse: bool = True) -> ScheduleLookup:
    """Make a lookup for :func:`luthier.graph.compile.compile_model`; ``target`` stands in where a call names none."""
    return ScheduleLookup(log, target, reuse=reuse)


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


def _is_good(record: Record) -> bool:
    return record.ok and record.verified and not record.space


def _fits(record: Record, workload: Workload, target: Target) -> bool:
    try:
        instantiate(workload, Replay(record.decisions), target)
    except ScheduleError:
        return False
    return True


def _distance(a: Mapping[str, Any], b: Mapping[str, Any]) -> int:
    return sum(a.get(field) != b.get(field) for field in {*a, *b})
