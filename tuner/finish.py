"""The end of a task's search: its best few and its default schedule, measured again in turns.

The least of many noisy timings wins a search, and the default is measured first, while the worker is cold. So the
fastest candidates are measured once more, against the default and with more samples, and those that were never the best
are checked then: what is a little better than a lucky time does not show in the search. The default stays where the
difference is noise. The log then says so: the records hold the new timings, and whatever would still be found before
the winner is marked as not verified, with the reason as its error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from ..target import Target
from .bench import MeasureResult
from .candidate import Candidate
from .database import Database
from .history import make_record, replay
from .interrupts import shielded
from .measurer import AbstractMeasurer
from .record import Record, Status
from .rounds import mostly_less
from .task import TuningTask

NEAR = 1.1
MOST_FINALISTS = 4
MOST_ROUNDS = 3
LEAST_GAIN = 0.01
"""A gain of less than this fraction is not told from noise, however quiet the machine seems."""
DEVIATIONS = 2.0
"""In how many more rounds than by chance a winner must have been faster, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Times of a task's winner and of its default schedule, measured in turns; noise: of the winner."""

    best_s: float
    default_s: float
    noise: float
    kept_default: bool


def finalists(
    log: Database, task: TuningTask, target: Target, default: Candidate, unchecked: bool = False
) -> list[Record]:
    """The records that are near a task's best, fastest first, without the default's: the verified ones, and those that
    were never checked (``unchecked``), but none that was found to be no good."""
    found: list[Record] = []
    limit_s = math.inf
    for r in log.ranked(task.key, target, task.space_name, verified=not unchecked):
        if r.best_s > limit_s or len(found) == MOST_FINALISTS:
            break
        if (r.verified or not r.error) and replay(task, target, r) is not None:
            limit_s = min(limit_s, NEAR * r.best_s)
            if r.decisions_hash != default.hash:
                found.append(r)
    return found


def settle(
    task: TuningTask,
    default: Candidate,
    log: Database,
    target: Target,
    measurer: AbstractMeasurer,
    timeout_s: float | None,
) -> Settled | None:
    """Decide what a task's schedule is, and make the log say so. None where there is nothing to decide, or no time.

    timeout_s: for all rounds; what is known when it has passed decides
    """
    end = math.inf if timeout_s is None else time.monotonic() + timeout_s
    there = log.identities(task.key, target)
    latest: dict[str, MeasureResult] = {}
    beside: dict[str, MeasureResult | None] = {}  # the default as it was in the same rounds
    for _ in range(MOST_ROUNDS):
        # timings that were too good are gone after a round, and others may be the best now
        near = finalists(log, task, target, default, unchecked=not latest)
        new = [r for r in near if r.decisions_hash not in latest]
        left_s = end - time.monotonic()
        if not new or left_s <= 0:
            break
        known = sorted((r for r in latest.values() if r.run_s), key=lambda r: min(r.run_s))[:1]
        again = [r.candidate for r in known if r.candidate.hash != default.hash]
        candidates = [default, *again, *(Candidate(r.decisions, r.trace, r.space, None, r.trial) for r in new)]
        results = measurer.compare(task, candidates, None if timeout_s is None else left_s)
        if not results:
            break
        results = _at_pace(results, _timed(results, default), _timed(latest.values(), default))
        beside |= dict.fromkeys((r.candidate.hash for r in results), _timed(results, default))
        with shielded():
            _note(log, target, results)
        latest |= {r.candidate.hash: r for r in results}
    good = [r for r in latest.values() if r.status is Status.OK]
    if not good:
        return None
    fastest = min(good, key=lambda r: min(r.run_s))
    ours, other = _timed(good, default), beside[fastest.candidate.hash]
    stays = other is not None and not clearly_faster(fastest, other)
    winner = ours if ours is not None and stays else fastest
    reason = (
        "no faster than the default schedule beyond noise" if winner is ours else "not the best when measured again"
    )
    with shielded():
        demote(log, task, target, min(winner.run_s), winner.candidate.hash, reason, there)
    default_s = math.inf if ours is None else min(ours.run_s)
    return Settled(min(winner.run_s), default_s, winner.noise, winner is ours)


def _timed(results: Iterable[MeasureResult], candidate: Candidate) -> MeasureResult | None:
    """The result of a candidate that ran and was right; None where there is none."""
    return next((r for r in results if r.candidate.hash == candidate.hash and r.status is Status.OK), None)


def _at_pace(
    results: list[MeasureResult], now: MeasureResult | None, usual: MeasureResult | None
) -> list[MeasureResult]:
    """Results with the times that they would have if the machine were as fast as it was for ``usual``, not ``now``; as
    they are where one of these is not known."""
    if now is None or usual is None:
        return results
    pace = min(now.run_s) / min(usual.run_s)
    return [replace(r, run_s=tuple(t / pace for t in r.run_s)) for r in results]


def _note(log: Database, target: Target, results: Sequence[MeasureResult]) -> None:
    """Put new timings of a task's candidates in the place of the old ones."""
    for result in results:
        old = log.find(result.task.key, target, result.candidate.hash)
        if old is not None and old.ok and result.status is Status.RUN_ERROR:
            continue  # no fault of the schedule's: the reference was not to be had, say
        search, seed, predicted = (old.search, old.seed, old.predicted) if old is not None else ("", 0, None)
        record = make_record(result, target, search, seed, predicted=predicted, cold=result.cold)
        log.add(record, replace=True)


def clearly_faster(a: MeasureResult, b: MeasureResult) -> bool:
    """Whether ``a`` is faster than ``b``, timed in the same rounds, by more than the timings leave open."""
    gains = min(a.run_s) < (1.0 - LEAST_GAIN) * min(b.run_s)
    return gains and mostly_less(a.run_s, b.run_s, DEVIATIONS)


def demote(
    log: Database, task: TuningTask, target: Target, best_s: float, winner: str, reason: str, known: Container[str]
) -> int:
    """Mark the records that a look-up would prefer to ``winner`` (a decisions hash) as not verified; returns how many.

    Their timings stay, for the cost model. known: hashes of those that were there when it was decided: what another
    session has added since, nobody has compared.
    """
    before = takewhile(lambda r: r.best_s <= best_s, log.ranked(task.key, target, task.space_name))
    faster = [r for r in before if r.decisions_hash in known and r.decisions_hash != winner]
    for r in faster:
        log.add(replace(r, verified=False, error=reason), replace=True)
    return len(faster)


def keep_defaults(
    log: Database, tasks: Sequence[tuple[TuningTask, Candidate]], target: Target, known: Mapping[str, Container[str]]
) -> int:
    """Make the default schedules those that a look-up finds; returns how many tasks that changed.

    A task without a verified record of its default schedule is left alone. known: by a task's key, the hashes of what
    the log held when the model was built.
    """
    changed = 0
    for task, default in tasks:
        own = log.find(task.key, target, default.hash)
        if own is not None and own.ok and own.verified:
            reason = "slower than the default schedules inside the model"
            changed += demote(log, task, target, own.best_s, own.decisions_hash, reason, known[task.key]) > 0
    return changed
