"""A tuning session: tasks in, records in the log out. Read this file first; each role has a file of its own.

    propose (:mod:`.search`) -> measure (:mod:`.measure`) -> record (:mod:`.database`) -> learn (:mod:`.cost_model`)

and :mod:`.scheduler` says for which task. In the end (:mod:`.ending`) the best few of each task are measured again,
then the whole model; the budget includes that. Whatever ends a session, all that was measured is in the log, and the
next session on the same log goes on from there.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from ..errors import ScheduleError, TuningError
from ..schedule.decide import Default
from ..schedule.space import Space
from ..target import Target
from ..te.workload import Workload
from .candidate import Candidate
from .cost_model import CostModel, Sample, make_cost_model
from .database import Database
from .ending import Ending
from .experience import samples_of
from .garbage import collecting_seldom
from .history import known_observations, make_record, replay
from .interrupts import shielded
from .measure import Measurer, MeasureResult
from .measurer import AbstractMeasurer, MeasurerLost
from .progress import Progress
from .record import LARGEST_NUMBER
from .report import Stop, TaskReport, TuneReport
from .scheduler import TaskProgress, TaskScheduler
from .search import Observation, SearchContext, make_searcher
from .task import ModelTask, TuningTask, tuning_tasks
from .transfer import hints
from .whole_model import ModelCheck

BATCH, LEAST_BATCH, BATCH_S = 16, 4, 4.0
"""Candidates of a task that are proposed at once, and how long they should take: while those of one task that take
seconds to compile fill the builders, all other tasks wait."""


def tune(
    tasks: Iterable[ModelTask | TuningTask],
    *,
    log: Database,
    target: Target,
    budget_s: float | None = None,
    trials: int | None = None,
    pattern: str | None = None,
    search: str = "evolutionary",
    cost_model: str = "xgboost",
    seed: int = 0,
    stop_below: float = 0.01,
    progress: bool = True,
    measurer: AbstractMeasurer | None = None,
    model: ModelCheck | None = None,
    note: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> TuneReport:
    """Search schedules for ``tasks`` on ``target`` until ``budget_s`` seconds have passed or ``trials`` were measured.

    pattern     only tasks whose name matches (shell style)
    search      name of a searcher; cost_model: name of the model that guides it
    seed        equal seeds propose equal candidates, as far as the search does not depend on timings
    stop_below  stop early when all remaining gain is expected to be less than this fraction; 0 to never do so
    measurer    where to measure, by default worker processes on this machine; it is closed when the session ends
    model       the model that the tasks are of, to be measured as a whole in the end
    note        without one, what the report is to say of that
    clock       seconds that never go back; for tests

    Ctrl-C ends the session early, with a report, and so does the loss of the last machine of a fleet.
    Raises TuningError for arguments that make no sense.
    """
    if (budget_s is None) == (trials is None):
        raise TuningError("tune: give either budget_s or trials, and not both")
    if not stop_below >= 0:
        raise TuningError(f"tune: stop_below={stop_below} must be a fraction, or 0 to never stop early")
    for name, value in (("budget_s", budget_s), ("trials", trials)):
        if value is not None and not value > 0:
            raise TuningError(f"tune: {name}={value} must be positive")
    if not 0 <= seed <= LARGEST_NUMBER:
        raise TuningError(f"tune: seed={seed} must be from 0 to {LARGEST_NUMBER}")
    start = clock()
    chosen = tuning_tasks(tasks, pattern)
    ranking = make_cost_model(cost_model, seed, target)
    with measurer or Measurer(target) as measurer, Progress(progress, budget_s, trials) as shown, collecting_seldom():
        known: list[Sample] = []
        states = [_start(t, log, target, search, ranking, seed, known) for t in chosen]
        ranking.update(known)
        scheduler = TaskScheduler(states, target, stop_below)
        session = _Session(log, target, measurer, ranking, scheduler, shown, search, seed, model, clock, start)
        session.ending.note = note
        if ranking.learns:
            session.experience = partial(samples_of, log, target, skip={t.key for t in chosen})
        return session.run(budget_s, trials)


def tune_workload(
    workload: Workload,
    *,
    log: Database,
    target: Target,
    space: Space | None = None,
    name: str = "workload",
    **options: Any,
) -> TuneReport:
    """Tune one workload, with ``space`` where it is not to be its operator's own; ``options`` as for :func:`tune`."""
    return tune([TuningTask(workload, name, 1, space)], log=log, target=target, **options)


def _start(
    task: TuningTask, log: Database, target: Target, search: str, model: CostModel, seed: int, samples: list[Sample]
) -> TaskProgress:
    """Set a task up with what the log knows of it; ``samples`` gets what the cost model can learn from that."""
    records = [r for r in log.records(task.key, target) if r.space == task.space_name]
    known = known_observations(task, target, records)
    samples += [Sample(task.key, o.candidate.features, o.run_s) for o in known if o.candidate.features is not None]
    context = SearchContext(task, target, seed, model, {r.decisions_hash for r in records}, known)
    if not task.space:
        context.hints = partial(hints, log, task.workload, target)
    state = TaskProgress(task, make_searcher(search, context))
    state.searcher.proposed = len(records)
    state.submitted = len(records)
    for r in records:
        # a time that can no longer be had is not one to beat
        better = r.verified and r.best_s < state.best_s and replay(task, target, r) is not None
        if state.add(r.best_s, better, r.compile_s):
            state.earlier = Candidate(r.decisions, r.trace, r.space, None, r.trial)
    try:
        schedule = task.instantiate(Default(), target)
    except ScheduleError as e:
        raise TuningError(f"task {task.name}: its default schedule is not legal: {e}") from e
    state.default = Candidate(schedule.decisions, schedule.to_json(), task.space_name)
    for r in records:
        if r.decisions_hash == state.default.hash:
            state.default_s, state.default_compile_s = r.best_s, r.compile_s
    return state


class _Session:
    """The loop, with what it counts.

    experience  makes the samples that other tasks of the log give; asked while the first candidates are built
    """

    def __init__(
        self,
        log: Database,
        target: Target,
        measurer: AbstractMeasurer,
        ranking: CostModel,
        scheduler: TaskScheduler,
        progress: Progress,
        search: str,
        seed: int,
        model: ModelCheck | None,
        clock: Callable[[], float],
        start: float,
    ) -> None:
        self.log, self.target, self.measurer, self.ranking = log, target, measurer, ranking
        self.scheduler, self.progress, self.search, self.seed = scheduler, progress, search, seed
        self.clock, self.start = clock, start
        self.states = {id(t.task): t for t in scheduler.tasks}
        self.samples: list[Sample] = []
        self.experience: Callable[[], list[Sample]] | None = None
        self.statuses: Counter[str] = Counter()
        self.done: Counter[int] = Counter()
        self.ending = Ending(log, target, measurer, scheduler, model, clock, start)

    def run(self, budget_s: float | None, trials: int | None) -> TuneReport:
        deadline = self.start + (math.inf if budget_s is None else budget_s)
        for state in self.scheduler.tasks:
            self.measurer.set_best(state.task, state.best_s, state.earlier)
        try:
            stopped = self._loop(deadline, trials)
            with shielded():
                self._note_what_is_there()
                self.measurer.drop_pending()
            self.ending.run(deadline, sum(self.done.values()))
        except KeyboardInterrupt:
            stopped = "interrupted"
            with shielded(), suppress(TuningError):
                self._note_what_is_there()
        except MeasurerLost as lost:
            warnings.warn(f"{lost} -- what was measured is in the log", RuntimeWarning, stacklevel=3)
            stopped = "lost"
        return self._report(stopped)

    def _loop(self, deadline: float, trials: int | None) -> Stop:
        left = trials
        while True:
            left_s = deadline - self.clock() - self.ending.needed_s(deadline)
            if left_s <= 0:
                return "budget"
            state = self.scheduler.next() if left is None or left > 0 else None
            # what waits is proposed without what the last batch tells; with other tasks to turn to, that costs little
            ahead = self.measurer.capacity // (1 if len(self.states) > 1 else 4)
            if state is not None and self.measurer.pending <= ahead:
                batch = min(BATCH, max(LEAST_BATCH, round(BATCH_S / state.trial_s)))
                submitted = self._submit(state, batch if left is None else min(batch, left))
                left = None if left is None else left - submitted
                continue
            if self.experience is not None:
                with self.measurer.cores.take(1):
                    self.samples += self.experience()
                self.experience = None
            if state is None and not self.measurer.pending:
                return "trials" if left == 0 else "exhausted" if self.scheduler.exhausted else "converged"
            result = self.measurer.next_result(None if math.isinf(left_s) else left_s)
            if result is not None:
                with shielded():
                    self._observe(result)

    def _submit(self, state: TaskProgress, n: int) -> int:
        """Propose and hand over up to ``n`` candidates; a fresh task gets its default schedule only."""
        with self.measurer.cores.take(1):  # searching must not disturb a measurement that needs all cores
            self.ranking.update(self.samples)
            self.samples.clear()
            candidates = state.searcher.propose(n if state.submitted else 1)
        state.exhausted = not candidates
        state.submitted += len(candidates)
        for c in candidates:
            self.measurer.submit(state.task, c)
        return len(candidates)

    def _note_what_is_there(self) -> None:
        """Record what was measured and not asked for yet; nothing is waited for."""
        while (result := self.measurer.next_result(0.0)) is not None:
            self._observe(result)

    def _observe(self, result: MeasureResult) -> None:
        state, candidate = self.states[id(result.task)], result.candidate
        record = make_record(result, self.target, self.search, self.seed, cold=result.cold)
        self.log.add(record)
        if state.add(record.best_s, record.verified, record.compile_s):
            state.noise = result.noise
        if candidate.trial == 0:
            state.default_s, state.default_compile_s = record.best_s, record.compile_s
        state.searcher.observe([Observation(candidate, record.best_s)])
        if candidate.features is not None:
            self.samples.append(Sample(state.task.key, candidate.features, record.best_s))
        self.statuses[record.status.value] += 1
        self.done[id(state.task)] += 1
        self.progress.trial(self.scheduler, record)

    def _report(self, stopped: Stop) -> TuneReport:
        reports = []
        for t in self.scheduler.tasks:
            work = t.task.workload.flops / 1e9
            trials = self.done[id(t.task)]
            times = (t.default_s, t.best_s, work / t.best_s)
            reports.append(TaskReport(t.task.name, t.task.key, t.task.uses, trials, *times, t.noise, t.kept_default))
        elapsed_s = self.clock() - self.start
        trials = sum(self.done.values())
        return TuneReport(
            tuple(reports), trials, elapsed_s, stopped, dict(self.statuses), self.ending.times, self.ending.note
        )
