"""The runner's side of measurement: times built candidates, checks would-be bests, compares finalists.

:class:`Bench` owns the runner process and what it knows of each task: its data, its best so far, its reference result.
It is used by one thread of :mod:`.measure`, which hands it groups of built candidates.
"""

from __future__ import annotations

import math
import pickle
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import TuningError
from ..schedule.spaces.traffic import stays_in_l3
from ..target import Target
from .candidate import Candidate
from .cpu import Cores
from .inputs import Array, differences
from .jobs import BuildJob, Built, LoadJob, OutputsJob, TimeJob, Timings, reference_job
from .limits import Limits
from .process import Answer, Failure, Outcome, Worker
from .record import Status, relative_spread
from .task import TuningTask

SUDDEN = 1.5
"""A race in which everything takes so much longer than in the last one is run once more."""

MOST_CHANGE = 2.5
"""What neighbours of a shared machine, its clock, and two threads on one core may change; more is no matter of pace."""

WORTH_TRYING = 0.01
"""The fraction by which a candidate must seem faster than the best so far to be timed against it."""

KEPT_BUILDS = 6
"""Built candidates kept of a task, for the comparison of its finalists: its default schedule and the fastest."""


@dataclass(frozen=True, slots=True)
class MeasureResult:
    """The outcome of one candidate; the fields are those of :class:`.record.Record`.

    cold    whether constants came from memory in every sample
    worker  the machine of a fleet that measured it; "" for this one
    """

    task: TuningTask
    candidate: Candidate
    status: Status
    run_s: tuple[float, ...] = ()
    verified: bool = False
    error: str = ""
    compile_s: float = 0.0
    cold: bool = False
    worker: str = ""

    @property
    def noise(self) -> float:
        """Spread of the timings, as a record has it."""
        return relative_spread(self.run_s)


BuiltJob = tuple[TuningTask, Candidate, Built]


@dataclass(slots=True)
class TaskState:
    """What measurement knows of a task.

    data       the pickled workload
    best_s     time of the best verified candidate, incumbent: its code, if it was measured here
    earlier    the best candidate of an earlier session, until it was built to be the incumbent
    anchor     the first incumbent, as a rule the default schedule, and its time: all noted times are relative to it. If
               each best were timed against the one before it, whose time is partly luck, they would sink from best to
               best; and a machine may run twice as fast for minutes as it did when a time was noted
    last_pace  of the last race
    reference_code  the program that computes the reference result, or what became of its build, once somebody builds it
    finalists  built candidates by hash, with their times: the fastest, and those that stay, whose time is 0: the
               default schedule, and what was built to be compared
    """

    data: bytes
    best_s: float = math.inf
    incumbent: Built | None = None
    earlier: Candidate | None = None
    anchor: Built | None = None
    anchor_s: float = math.inf
    last_pace: float = 1.0
    reference_code: Future[Outcome] | None = None
    reference: list[Array] | Failure | None = None
    reference_is_clean: bool = False
    finalists: dict[str, tuple[Built, float]] = field(default_factory=dict)
    verified: set[str] = field(default_factory=set)

    def set_best(self, best_s: float, incumbent: Built | None = None) -> None:
        """Tell what is the best from now on; the first that is measured here is what all others' times refer to."""
        self.best_s, self.incumbent = best_s, incumbent
        if self.anchor is None and incumbent is not None:
            self.anchor, self.anchor_s = incumbent, best_s

    def keep(self, candidate: Candidate, built: Built, run_s: float) -> None:
        """Keep what was built for the comparison at the end, while it is among the fastest."""
        self.finalists[candidate.hash] = built, run_s if candidate.trial != 0 else 0.0
        if len(self.finalists) > KEPT_BUILDS:
            slowest = max(self.finalists, key=lambda name: self.finalists[name][1])
            if self.finalists[slowest][1] > 0:
                del self.finalists[slowest]

    def pace(self, incumbent: Sequence[float]) -> float:
        """How much longer everything takes than usual, by the incumbent's times now; 1 where it was not measured."""
        if self.incumbent is None or not incumbent:
            return 1.0
        return pace_of(incumbent, self.best_s)


class Bench:
    """Times and checks candidates in ``runner``; references are built by ``builder``, candidates by ``builders``."""

    def __init__(
        self,
        target: Target,
        limits: Limits,
        cores: Cores,
        runner: Worker,
        builder: Worker,
        builders: Sequence[Worker] = (),
    ) -> None:
        self.target, self.limits, self.cores, self.runner, self.builder = target, limits, cores, runner, builder
        self.builders = builders
        self._tasks: dict[str, TaskState] = {}
        self._lock = threading.Lock()

    def state(self, task: TuningTask) -> TaskState:
        """What is known of a task, by its key. Raises TuningError where its workload cannot be sent to a process."""
        state = self._tasks.get(task.key)
        if state is None:
            try:
                state = TaskState(pickle.dumps(task.workload, pickle.HIGHEST_PROTOCOL))
            except RecursionError:
                raise TuningError(f"task {task.name}: its expressions are nested too deeply to be sent away") from None
            self._tasks[task.key] = state
        return state

    def measure(self, group: Sequence[BuiltJob]) -> list[MeasureResult]:
        """Time candidates of one task together; one that seems to beat the best so far is checked and timed again.

        Their times are what they would usually be, as far as the incumbent's now tell.
        """
        task, state = group[0][0], self.state(group[0][0])
        self._bring_back(task, state)
        built = tuple(b for _, _, b in group)
        for _ in range(2):
            outcome = self._time(task, TimeJob(built, state.best_s, state.incumbent, cold=self._is_cold(task)))
            if isinstance(outcome, Failure):
                if len(group) > 1:  # one of them is to blame, and the others are not
                    return [result for one in group for result in self.measure([one])]
                ((_, candidate, one_built),) = group
                return [failed(task, candidate, outcome, Status.RUN_ERROR, "the run", one_built.build_s)]
            timings: Timings = outcome.value
            pace = state.pace(timings.incumbent)
            if pace < SUDDEN * state.last_pace:  # else two threads may have shared a core
                break
        state.last_pace = pace
        times = [tuple(t / pace for t in run_s) for run_s in timings.candidates]
        # the default schedule first, as what all others are to beat; then the fastest, so that few seem to be the best
        order = sorted(range(len(group)), key=lambda i: (group[i][1].trial != 0, min(times[i])))
        results = {i: self._checked(*group[i], times[i]) for i in order}
        return [results[i] for i in range(len(group))]

    def compare(self, task: TuningTask, candidates: Sequence[Candidate]) -> list[MeasureResult]:
        """Time finished candidates again, all of them in turns and with more samples; each is checked if it was not."""
        state = self.state(task)
        results: list[MeasureResult] = []
        chosen: list[tuple[Candidate, Built]] = []
        for c in candidates:
            built = state.finalists[c.hash][0] if c.hash in state.finalists else self._rebuilt(task, c)
            verdict: MeasureResult | None = None
            if isinstance(built, Failure):
                verdict = failed(task, c, built, Status.BUILD_ERROR, "the build")
            elif c.hash not in state.verified and (wrong := self._verdict(task, state, built)) is not None:
                verdict = MeasureResult(task, c, wrong[0], error=wrong[1], compile_s=built.build_s)
            else:
                state.verified.add(c.hash)
                chosen.append((c, built))
            if verdict is not None:
                results.append(verdict)
        cold = self._is_cold(task)
        job = TimeJob(
            tuple(b for _, b in chosen), total_s=0.04, min_samples=15, max_samples=40, race=math.inf, contend=math.inf,
            cold=cold,
        )  # fmt: skip
        outcome = self._time(task, job) if chosen else Answer(Timings(()))
        if isinstance(outcome, Failure):
            if len(chosen) > 1:  # one of them is to blame, and the others are not
                return [*results, *(result for c, _ in chosen for result in self.compare(task, [c]))]
            return [*results, *(failed(task, c, outcome, Status.RUN_ERROR, "the run", b.build_s) for c, b in chosen)]
        for (c, b), run_s in zip(chosen, outcome.value.candidates, strict=True):
            values: dict[str, Any] = {"compile_s": b.build_s, "cold": cold}
            results.append(MeasureResult(task, c, Status.OK, run_s, verified=True, **values))
        return results

    def set_best(self, task: TuningTask, best_s: float, earlier: Candidate | None) -> None:
        """Tell what an earlier session found: how fast the machine is now is seen by it, once it was built."""
        state = self.state(task)
        state.set_best(best_s)
        state.earlier = earlier

    def _bring_back(self, task: TuningTask, state: TaskState) -> None:
        """Make an earlier session's best the incumbent. Where it cannot be built or run, its time alone counts."""
        earlier, state.earlier = state.earlier, None
        if earlier is not None and state.incumbent is None:
            built = self._rebuilt(task, earlier)
            if isinstance(built, Built) and isinstance(self._time(task, TimeJob((built,))), Answer):
                state.set_best(state.best_s, built)

    def checks_from_the_start(self, task: TuningTask) -> bool:
        """Whether the first candidate that works will be the best one, and be checked."""
        return math.isinf(self.state(task).best_s)

    def build_reference(self, worker: Worker, task: TuningTask) -> Future[Outcome]:
        """Let a builder make the program of the reference result, unless one did or does; returns what comes of it.

        Builders do so after a task's first candidates, so that the reference is there when these have been timed.
        """
        state = self.state(task)
        with self._lock:
            code, mine = state.reference_code, state.reference_code is None
            if code is None:
                code = state.reference_code = Future()
        if mine:
            try:
                job = reference_job(self.target)
                code.set_result(self.call_build(worker, task, job, self.limits.reference_s))
            except BaseException as e:
                code.set_exception(e)
                raise
        return code

    def call_build(self, worker: Worker, task: TuningTask, job: object, timeout_s: float) -> Outcome:
        """Let a builder carry out a job."""
        return called(worker, task.key, self.state(task).data, job, timeout_s)

    # ------------------------------------------------------------------ timing

    def _is_cold(self, task: TuningTask) -> bool:
        """Whether the model's constants leave the caches from one inference to the next."""
        return not stays_in_l3(task.constants_bytes, self.target, alone=True)

    def _time(self, task: TuningTask, job: TimeJob) -> Outcome:
        """Load on one core, then time on those that the target has."""
        state = self.state(task)
        with self.cores.take(1):
            load = LoadJob((*job.candidates, job.incumbent) if job.incumbent else job.candidates)
            outcome = self.runner.call(task.key, state.data, load, self.limits.run_s)
        if isinstance(outcome, Failure):
            return self._again(task, job, outcome)
        limit_s = self._limit_s(state, job)
        with self._quiet():
            outcome = self.runner.call(task.key, state.data, job, limit_s)
        return self._again(task, job, outcome) if isinstance(outcome, Failure) else outcome

    def _again(self, task: TuningTask, job: TimeJob, failure: Failure) -> Outcome:
        """Of one candidate that somebody else's SIGKILL met, the second failure counts."""
        if not failure.killed or len(job.candidates) > 1:
            return failure
        state = self.state(task)
        with self._quiet():
            return self.runner.call(task.key, state.data, job, self._limit_s(state, job))

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Cores for the target's threads; if there are several, builders rest but for one for each other core."""
        threads = self.target.threads
        others = max(self.cores.count - threads, 0) if threads > 1 else len(self.builders)
        with self.cores.take(threads), ExitStack() as resting:
            for builder in self.builders[others:]:
                resting.enter_context(builder.paused())
            yield

    def _limit_s(self, state: TaskState, job: TimeJob) -> float:
        """How long a job may run: no use in waiting for what is a hundred times slower than the best; but as many
        samples as are taken of each of its candidates, a run to warm up before each, are no fault of theirs."""
        others = len(job.candidates) - 1
        if not math.isfinite(state.best_s):
            return self.limits.run_s * (1.0 + 0.25 * others)
        one_s = min(self.limits.run_s, self.limits.race_s + 100 * state.best_s)
        return one_s * (1.0 + 0.25 * others) + 4 * job.min_samples * (1 + others) * state.best_s

    # ------------------------------------------------------------------ checking

    def _checked(self, task: TuningTask, candidate: Candidate, built: Built, run_s: tuple[float, ...]) -> MeasureResult:
        """The result of a timed candidate; what seems the fastest so far is checked, and timed again."""
        state = self.state(task)
        values: dict[str, Any] = {"compile_s": built.build_s}
        values["cold"] = self._is_cold(task)
        state.keep(candidate, built, min(run_s))
        if min(run_s) >= (1.0 - WORTH_TRYING) * state.best_s:
            return MeasureResult(task, candidate, Status.OK, run_s, **values)
        wrong = self._verdict(task, state, built)
        if wrong is not None:
            state.finalists.pop(candidate.hash, None)
            return MeasureResult(task, candidate, wrong[0], error=wrong[1], compile_s=built.build_s)
        state.verified.add(candidate.hash)
        if state.incumbent is None:
            state.set_best(min(run_s), built)
        else:
            again = self._against_the_best(task, state, built)
            if isinstance(again, Failure):
                state.finalists.pop(candidate.hash, None)
                return failed(task, candidate, again, Status.RUN_ERROR, "the second run", built.build_s)
            run_s = again
            state.keep(candidate, built, min(run_s))
        return MeasureResult(task, candidate, Status.OK, run_s, verified=True, **values)

    def _against_the_best(self, task: TuningTask, state: TaskState, built: Built) -> tuple[float, ...] | Failure:
        """New times of what seems the best, in turns with the incumbent, which it replaces if it still is faster, and
        with the first one."""
        assert state.incumbent is not None and state.anchor is not None
        others = [state.incumbent] if state.incumbent is state.anchor else [state.incumbent, state.anchor]
        job = TimeJob(
            (built, *others), total_s=0.008, min_samples=8, max_samples=16, race=math.inf, contend=math.inf,
            cold=self._is_cold(task),
        )  # fmt: skip
        outcome = self._time(task, job)
        if isinstance(outcome, Failure):
            return outcome
        own, incumbent, *_ = outcome.value.candidates
        pace = pace_of(outcome.value.candidates[-1], state.anchor_s)
        if min(own) < min(incumbent):
            state.set_best(min(own) / pace, built)
        return tuple(t / pace for t in own)

    def _verdict(self, task: TuningTask, state: TaskState, built: Built) -> tuple[Status, str] | None:
        """What is wrong with a candidate's outputs; None if nothing.

        An earlier candidate may have damaged the runner's memory: only a fresh process can condemn one.
        """
        wrong = self._verify(task, state, built)
        if wrong is not None:
            self.runner.close()
            if not state.reference_is_clean:
                state.reference = None
            wrong = self._verify(task, state, built)
        if wrong is not None:
            self.runner.close()
        return wrong

    def _verify(self, task: TuningTask, state: TaskState, built: Built) -> tuple[Status, str] | None:
        """Compare a candidate's outputs with the reference; None if they agree."""
        if state.reference is None:
            state.reference_is_clean = self.runner.idle_since_start
            state.reference = self._reference(task, state)
        if isinstance(state.reference, Failure):
            error = state.reference.error
            return Status.RUN_ERROR, f"not verified, as the reference result cannot be computed: {error}"
        with self.cores.take(self.target.threads):
            outputs = called(self.runner, task.key, state.data, OutputsJob(built), self.limits.run_s)
        if isinstance(outputs, Failure):
            return outputs.status or Status.WRONG_RESULT, f"the check: {outputs.error}"
        wrong = differences(task.workload.outputs, state.reference, outputs.value)
        return (Status.WRONG_RESULT, wrong) if wrong else None

    def _reference(self, task: TuningTask, state: TaskState) -> list[Array] | Failure:
        """The result of the reference's schedule (:mod:`.reference`), computed once."""
        code = state.reference_code
        if code is None:
            with self.cores.take(1):
                code = self.build_reference(self.builder, task)
        built = code.result()
        if isinstance(built, Failure):
            return built
        job = OutputsJob(built.value, 1)
        with self.cores.take(1):
            outcome = called(self.runner, task.key, state.data, job, self.limits.reference_s)
        return outcome if isinstance(outcome, Failure) else list(outcome.value)

    def _rebuilt(self, task: TuningTask, candidate: Candidate) -> Built | Failure:
        """Build a candidate of an earlier session."""
        with self.cores.take(1):
            outcome = self.call_build(self.builder, task, build_job(self.target, task, candidate), self.limits.build_s)
        if isinstance(outcome, Failure):
            return outcome
        built: Built = outcome.value
        self.state(task).finalists[candidate.hash] = built, 0.0
        return built


def pace_of(times: Sequence[float], usual_s: float) -> float:
    """How much longer something takes than usual, within what can be."""
    return min(max(min(times) / usual_s, 1.0 / MOST_CHANGE), MOST_CHANGE)


def build_job(target: Target, task: TuningTask, candidate: Candidate, code_lines: int | None = None) -> BuildJob:
    """How a candidate is built: by its decisions, or where the space is the user's own by its trace."""
    own_space, first = task.space is not None, candidate.trial == 0  # the first is the default schedule, as a rule
    trace, lines = candidate.trace if own_space else None, None if first else code_lines
    return BuildJob(target, candidate.decisions, trace, lines, kept=first and not own_space)


def called(worker: Worker, key: str, data: bytes, job: object, timeout_s: float) -> Outcome:
    """Call a worker, and once more where somebody else killed it: one SIGKILL does not condemn a candidate."""
    outcome = worker.call(key, data, job, timeout_s)
    if isinstance(outcome, Failure) and outcome.killed:
        outcome = worker.call(key, data, job, timeout_s)
    return outcome


def failed(
    task: TuningTask, candidate: Candidate, failure: Failure, otherwise: Status, what: str, build_s: float = 0.0
) -> MeasureResult:
    """The result of a candidate that could not be built or run."""
    error = failure.error if failure.status is None else f"{what} {failure.error}"
    return MeasureResult(task, candidate, failure.status or otherwise, error=error, compile_s=build_s)
