"""What a log holds, in numbers: task by task and in all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .database import Database
from .model_run import ModelRun
from .record import Record
from .task import is_wanted


@dataclass(frozen=True, slots=True)
class TaskStatistics:
    """One task on one machine. Times in seconds, infinity where unknown.

    default_s, best_s  of the default schedule (trial 0) and of the fastest verified one
    noise              of the fastest one's timings
    failures           how many records have each status but ok
    cold, warm         records timed with constants from memory, and from the caches
    """

    key: str
    name: str
    target_hash: str
    records: int
    default_s: float
    best_s: float
    noise: float
    failures: Mapping[str, int]
    cold: int
    warm: int

    @property
    def gain(self) -> float:
        """Default time over best time; NaN where either is unknown."""
        return self.default_s / self.best_s if math.isfinite(self.default_s + self.best_s) else math.nan


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """A whole log.

    machines        fingerprints by their hash
    failures        how many records have each status but ok
    causes          the commonest error texts (first lines) and their numbers
    workers, versions   who measured how many records, and which Luthier made them
    first_at, last_at   seconds since 1970 by the clocks of the time; 0 where no record has a date
    """

    tasks: tuple[TaskStatistics, ...]
    machines: Mapping[str, Mapping[str, Any]]
    records: int
    failures: Mapping[str, int]
    causes: tuple[tuple[str, int], ...]
    workers: Mapping[str, int]
    versions: Mapping[str, int]
    first_at: float
    last_at: float
    model_runs: tuple[ModelRun, ...]

    @property
    def gain(self) -> float:
        """Geometric mean of the tasks' gains; NaN where none is known."""
        gains = [t.gain for t in self.tasks if not math.isnan(t.gain)]
        return math.exp(sum(map(math.log, gains)) / len(gains)) if gains else math.nan


def statistics_of(log: Database, pattern: str | None = None, *, causes: int = 5) -> LogStatistics:
    """Read a log once and count. pattern: only tasks whose name or key matches (shell style)."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for r in log.records():
        if is_wanted(pattern, r.task, r.key):
            groups.setdefault((r.key, r.target_hash), []).append(r)
    records = [r for group in groups.values() for r in group]
    failed = [r for r in records if not r.ok]
    dates = [r.created_at for r in records if r.created_at > 0]
    texts = Counter(f"{r.status.value}: {(r.error.strip().splitlines() or ['?'])[0]}" for r in failed)
    return LogStatistics(
        tuple(_task(group) for group in groups.values()),
        {r.target_hash: r.target for r in records},
        len(records),
        Counter(r.status.value for r in failed),
        tuple(texts.most_common(causes)),
        Counter(r.worker for r in records),
        Counter(r.luthier_version or "?" for r in records),
        min(dates, default=0.0),
        max(dates, default=0.0),
        tuple(log.model_runs()),
    )


def _task(group: list[Record]) -> TaskStatistics:
    first = group[0]
    good = sorted((r for r in group if r.ok and r.verified), key=lambda r: r.best_s)
    default_s = next((r.best_s for r in good if r.trial == 0), math.inf)
    timed = [r for r in group if r.ok]
    return TaskStatistics(
        first.key,
        first.task,
        first.target_hash,
        len(group),
        default_s,
        good[0].best_s if good else math.inf,
        good[0].noise if good else 0.0,
        Counter(r.status.value for r in group if not r.ok),
        sum(r.cold for r in timed),
        sum(not r.cold for r in timed),
    )
