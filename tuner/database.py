"""The log database: where tuning keeps what it measured and where a build finds its schedules.

:class:`Database` is the interface. ``open_log(path)`` gives its SQLite implementation (:mod:`.sqlite`), one file that
several processes may write at once; ``MemoryDatabase`` keeps records for the life of the process. Both hold one record
per identity (task, target, decisions), and measurements of whole models. JSON-lines files are read and written by
:mod:`.exchange`; :mod:`.patient` is for writers that must not stop where the file cannot be written for a while.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Literal

from ..target import Target
from .family import family_of
from .model_run import ModelRun
from .outline import Outline, outline
from .record import KnownTask, Record, TaskInfo, target_hash


class Database(ABC):
    """Records by identity. ``target`` arguments are Targets, their hashes, or None for all targets."""

    @abstractmethod
    def add(self, record: Record, *, replace: bool = False) -> bool:
        """Keep ``record``; it is safe when this returns. Of two with one identity one stays: see
        :meth:`.record.Record.better_than`.

        ``replace`` overwrites the older one in any case (a re-measurement). Returns whether the log changed.
        """

    @abstractmethod
    def records(self, key: str | None = None, target: Target | str | None = None) -> Iterator[Record]:
        """Yield records in the order in which they were added."""

    @abstractmethod
    def ranked(
        self, key: str, target: Target | str, space: str | None = None, *, verified: bool = True
    ) -> Iterator[Record]:
        """Yield the verified records of a task, fastest first, or with ``verified=False`` all of those that ran;
        ``space`` restricts them to one space ("" those that ship). Records are read as they are asked for."""

    @abstractmethod
    def targets(self, key: str) -> list[dict[str, Any]]:
        """The fingerprints of all machines on which a task was measured."""

    @abstractmethod
    def family(self, family: str) -> list[KnownTask]:
        """The tasks of one operator family (:func:`.family.family_of`), in the order in which they were first seen."""

    @abstractmethod
    def add_model_run(self, run: ModelRun) -> bool:
        """Keep a measurement of a whole model; False where the log holds exactly this one already."""

    @abstractmethod
    def model_runs(self, model: str | None = None, target: Target | str | None = None) -> list[ModelRun]:
        """Measurements of whole models, in the order in which they were added."""

    @abstractmethod
    def find(self, key: str, target: Target | str, decisions_hash: str) -> Record | None:
        """The record of one candidate, whatever its outcome; None where it was not measured."""

    @abstractmethod
    def identities(self, key: str, target: Target | str) -> set[str]:
        """Decision hashes of everything that was measured for a task."""

    @abstractmethod
    def tasks(self) -> list[TaskInfo]:
        """What is known of each (task, target), in the order in which they were first seen."""

    @abstractmethod
    def prune(self, keep: int) -> int:
        """Keep the ``keep`` best records of each (task, target) and the one of the default schedule, by which the gain
        is known; drop the others and all failures. Returns how many."""

    @abstractmethod
    def close(self) -> None:
        """Release the log; closing twice does no harm."""

    def outlines(self) -> Iterator[Outline]:
        """Yield all records without their schedules, in the order in which they were added; for many, and quick."""
        return map(outline, self.records())

    def has(self, key: str, target: Target | str, decisions_hash: str) -> bool:
        """Whether this candidate was measured before, with whatever outcome."""
        return self.find(key, target, decisions_hash) is not None

    def best(self, key: str, target: Target | str, space: str | None = None) -> Record | None:
        """The first of :meth:`ranked`; None where there is none."""
        return next(self.ranked(key, target, space), None)

    def default(self, key: str, target: Target | str, space: str | None = None) -> Record | None:
        """The verified record of a task's default schedule (trial 0), the fastest where there are several."""
        return next((r for r in self.ranked(key, target, space) if r.trial == 0), None)

    def merge(self, records: Iterable[Record], runs: Iterable[ModelRun] = ()) -> int:
        """Add records and model runs of another log; returns how many records changed this one.

        Of two records with one identity one stays, by the rule of :meth:`.record.Record.better_than`: the verified
        success, then the better founded time (count of timings and noise), then the shorter one. The rule does not
        depend on which log is merged into which.
        """
        changed = sum(self.add(r) for r in records)
        for run in runs:
            self.add_model_run(run)
        return changed

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def open_log(path: str | os.PathLike[str], mode: Literal["r", "w"] = "w", *, busy_s: float | None = None) -> Database:
    """Open the log file at ``path``. ``w`` creates it where it does not exist and brings one of an older format up to
    date; ``r`` never changes the file. busy_s: how long to wait where another process has locked it; default 20.

    Raises LogError when it cannot be opened or is no log of this version.
    """
    from .sqlite import SqliteDatabase

    return SqliteDatabase(path, mode, busy_s)


def hash_of(target: Target | str) -> str:
    """The hash under which records of ``target`` are stored."""
    return target if isinstance(target, str) else target_hash(target)


class MemoryDatabase(Database):
    """Records in a dictionary: for tuning that is not to be kept, and as the model of what a log does."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str, str], Record] = {}
        self._runs: list[ModelRun] = []

    def add(self, record: Record, *, replace: bool = False) -> bool:
        old = self._records.get(record.identity)
        if old is not None and not replace and not record.better_than(old):
            return False
        self._records[record.identity] = record
        return True

    def records(self, key: str | None = None, target: Target | str | None = None) -> Iterator[Record]:
        wanted = None if target is None else hash_of(target)
        for r in list(self._records.values()):
            if key in (None, r.key) and wanted in (None, r.target_hash):
                yield r

    def ranked(
        self, key: str, target: Target | str, space: str | None = None, *, verified: bool = True
    ) -> Iterator[Record]:
        known = self.records(key, target)
        good = [r for r in known if r.ok and (r.verified or not verified) and space in (None, r.space)]
        yield from sorted(good, key=lambda r: r.best_s)

    def targets(self, key: str) -> list[dict[str, Any]]:
        return list({r.target_hash: dict(r.target) for r in self.records(key)}.values())

    def family(self, family: str) -> list[KnownTask]:
        known: dict[str, KnownTask] = {}
        for r in self._records.values():
            known.setdefault(r.key, KnownTask(r.key, r.task, r.workload))
        return [t for t in known.values() if family_of(t.workload).signature == family]

    def add_model_run(self, run: ModelRun) -> bool:
        new = run not in self._runs
        if new:
            self._runs.append(run)
        return new

    def model_runs(self, model: str | None = None, target: Target | str | None = None) -> list[ModelRun]:
        wanted = None if target is None else hash_of(target)
        return [r for r in self._runs if model in (None, r.model) and wanted in (None, r.target_hash)]

    def find(self, key: str, target: Target | str, decisions_hash: str) -> Record | None:
        return self._records.get((key, hash_of(target), decisions_hash))

    def identities(self, key: str, target: Target | str) -> set[str]:
        return {r.decisions_hash for r in self.records(key, target)}

    def tasks(self) -> list[TaskInfo]:
        groups: dict[tuple[str, str], list[Record]] = {}
        for r in self._records.values():
            groups.setdefault((r.key, r.target_hash), []).append(r)
        infos = []
        for (key, target), group in groups.items():
            best = self.best(key, target)
            times = (best.best_s, best.median_s) if best else (float("inf"), float("inf"))
            statuses = Counter(r.status.value for r in group)
            infos.append(TaskInfo(key, group[0].task, target, len(group), statuses["ok"], *times, dict(statuses)))
        return infos

    def prune(self, keep: int) -> int:
        before = len(self._records)
        groups: dict[tuple[str, str], list[Record]] = {}
        for r in self._records.values():
            if r.ok:
                groups.setdefault((r.key, r.target_hash), []).append(r)
        kept = set()
        for group in groups.values():
            best = sorted(group, key=lambda r: (not r.verified, r.best_s))
            defaults = {r.space: r for r in reversed(best) if r.verified and r.trial == 0 and keep}
            kept |= {r.identity for r in (*best[:keep], *defaults.values())}
        self._records = {i: r for i, r in self._records.items() if i in kept}
        return before - len(self._records)

    def close(self) -> None:
        pass
