"""The log database: where tuning keeps what it measured and where a build finds its schedules.

:class:`Database` is the interface. ``open_log(path)`` gives its SQLite implementation (:mod:`.sqlite`), one file that
several processes may write at once; ``MemoryDatabase`` keeps records for the life of the process. Both hold one record
per identity (task, target, decisions). JSON-lines files are read and written by :mod:`.exchange`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Literal

from ..target import Target
from .record import Record, TaskInfo, target_hash


class Database(ABC):
    """Records by identity. ``target`` arguments are Targets, their hashes, or None for all targets."""

    @abstractmethod
    def add(self, record: Record, *, replace: bool = False) -> bool:
        """Keep ``record``; it is safe when this returns. Of two with one identity the better stays.

        ``replace`` overwrites the older one in any case (a re-measurement). Returns whether the log changed.
        """

    @abstractmethod
    def records(self, key: str | None = None, target: Target | str | None = None) -> Iterator[Record]:
        """Yield records in the order in which they were added."""

    @abstractmethod
    def best(self, key: str, target: Target | str, space: str | None = None) -> Record | None:
        """The fastest verified record of a task; ``space`` restricts it to one space ("" those that ship)."""

    @abstractmethod
    def has(self, key: str, target: Target | str, decisions_hash: str) -> bool:
        """Whether this candidate was measured before, with whatever outcome."""

    @abstractmethod
    def identities(self, key: str, target: Target | str) -> set[str]:
        """Decision hashes of everything that was measured for a task."""

    @abstractmethod
    def tasks(self) -> list[TaskInfo]:
        """What is known of each (task, target), in the order in which they were first seen."""

    @abstractmethod
    def prune(self, keep: int) -> int:
        """Keep the ``keep`` best records of each (task, target), drop the others and all failures; returns how many."""

    @abstractmethod
    def close(self) -> None:
        """Release the log; closing twice does no harm."""

    def merge(self, records: Iterable[Record]) -> int:
        """Add records of another log; returns how many changed this one."""
        return sum(self.add(r) for r in records)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def open_log(path: str | os.PathLike[str], mode: Literal["r", "w"] = "w") -> Database:
    """Open the log file at ``path``. ``w`` creates it where it does not exist; ``r`` never changes the file.

    Raises LogError when it cannot be opened or is no log of this version.
    """
    from .sqlite import SqliteDatabase

    return SqliteDatabase(path, mode)


def hash_of(target: Target | str) -> str:
    """The hash under which records of ``target`` are stored."""
    return target if isinstance(target, str) else target_hash(target)


class MemoryDatabase(Database):
    """Records in a dictionary: for tuning that is not to be kept, and as the model of what a log does."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str, str], Record] = {}

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

    def best(self, key: str, target: Target | str, space: str | None = None) -> Record | None:
        good = [r for r in self.records(key, target) if r.ok and r.verified and space in (None, r.space)]
        return min(good, key=lambda r: r.best_s, default=None)

    def has(self, key: str, target: Target | str, decisions_hash: str) -> bool:
        return (key, hash_of(target), decisions_hash) in self._records

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
        kept = {r.identity for g in groups.values() for r in sorted(g, key=lambda r: (not r.verified, r.best_s))[:keep]}
        self._records = {i: r for i, r in self._records.items() if i in kept}
        return before - len(self._records)

    def close(self) -> None:
        pass
