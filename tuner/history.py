"""Between measurements and records: what is stored of a result, and what a later session learns from it again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache

from ..errors import ScheduleError
from ..schedule.decide import Replay
from ..schedule.schedule import Schedule
from ..target import Target
from .candidate import Candidate
from .features import extract
from .measure import MeasureResult
from .record import Record, shorten
from .search import Observation
from .task import TuningTask

MOST_OBSERVATIONS = 400
"""Records of one task that a session learns from again: making their features takes about 2 ms each."""


def make_record(
    result: MeasureResult,
    target: Target,
    search: str,
    seed: int,
    *,
    predicted: float | None = None,
    cold: bool = False,
) -> Record:
    """The record of a measurement made now. predicted, cold: as :class:`.record.Record` has them."""
    task, candidate = result.task, result.candidate
    luthier_version, llvm_version = versions()
    return Record(
        key=task.key,
        workload=task.workload.text,
        task=task.name,
        target=target.fingerprint(),
        decisions=candidate.decisions,
        status=result.status,
        run_s=result.run_s,
        verified=result.verified,
        trace=candidate.trace,
        space=candidate.space,
        error=shorten(result.error),
        compile_s=result.compile_s,
        luthier_version=luthier_version,
        llvm_version=llvm_version,
        created_at=time.time(),
        search=search,
        seed=seed,
        trial=candidate.trial,
        predicted=candidate.predicted if predicted is None else predicted,
        cold=cold,
        worker=result.worker,
    )


def known_observations(task: TuningTask, target: Target, records: Sequence[Record]) -> list[Observation]:
    """Make earlier records of a task into observations, with features.

    Of many, the fastest half and the newest half are taken; those that the space no longer understands are left out.
    """
    chosen = list(records)
    if len(chosen) > MOST_OBSERVATIONS:
        half = MOST_OBSERVATIONS // 2
        fastest = sorted(chosen, key=lambda r: r.best_s)[:half]
        taken = set(map(id, fastest))
        chosen = fastest + [r for r in chosen[-half:] if id(r) not in taken]
    observations = []
    for r in chosen:
        schedule = replay(task, target, r)
        if schedule is not None:
            # the trace with this session's names: equal for equal schedules
            candidate = Candidate(r.decisions, schedule.to_json(), r.space, extract(schedule, target), r.trial)
            observations.append(Observation(candidate, r.best_s))
    return observations


def replay(task: TuningTask, target: Target, record: Record) -> Schedule | None:
    """Make a recorded schedule again; None where it is of a version of the space that is no more."""
    try:
        if task.space is None or record.trace is None:
            return task.instantiate(Replay(record.decisions), target)
        schedule = Schedule.replay(task.workload, record.trace)
        schedule.decisions = dict(record.decisions)
        return schedule
    except ScheduleError:
        return None


@cache
def versions() -> tuple[str, str]:
    """Versions of Luthier and of LLVM."""
    import llvmlite.binding as llvm

    from .. import __version__

    return __version__, ".".join(map(str, llvm.llvm_version_info))
