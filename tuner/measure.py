"""Measurement: candidates go in, their outcomes come out in order of completion.

    with Measurer(target) as measurer:
        measurer.submit(task, candidate)
        result = measurer.next_result()

Builder processes run ahead of the one runner process; a share of the machine's cores (:mod:`.cpu`) is held for
each job, so that a measurement on all cores has them for itself. Whatever a candidate does to a worker is a status
of its result. A candidate that would become its task's best is compared with the naive loop nest's result first.
"""

from __future__ import annotations

import math
import os
import pickle
import threading
from collections import deque
from dataclasses import dataclass, field
from queue import Empty, Queue
from types import TracebackType
from typing import Any

from ..errors import TuningError
from ..target import Target
from .candidate import Candidate
from .cpu import Cores, available_cores
from .inputs import Array, differences
from .jobs import BuildJob, Built, OutputsJob, TimeJob, reference_job
from .process import Answer, Failure, Worker
from .record import Status
from .task import TuningTask


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate may use. Times in seconds, for one job; memory in bytes of address space (0: no limit)."""

    build_s: float = 20.0
    run_s: float = 20.0
    reference_s: float = 300.0
    build_bytes: int = 4 << 30
    run_bytes: int = field(default_factory=lambda: int(0.8 * _memory_bytes()))
    recycle_after: int = 400


@dataclass(frozen=True, slots=True)
class MeasureResult:
    """The outcome of one candidate; the fields are those of :class:`.record.Record`."""

    task: TuningTask
    candidate: Candidate
    status: Status
    run_s: tuple[float, ...] = ()
    verified: bool = False
    error: str = ""
    compile_s: float = 0.0


@dataclass(slots=True)
class _TaskState:
    data: bytes
    best_s: float = math.inf
    reference: list[Array] | Failure | None = None
    reference_is_clean: bool = False


_Job = tuple[TuningTask, Candidate]
_BuiltJob = tuple[TuningTask, Candidate, Built]


class Measurer:
    """Measures candidates for ``target`` (its ``threads`` are those that the kernels run with).

    builders  how many build at once; default: one per core, which take turns with the runner
    group     how many finished builds of one task are timed against each other at most
    Worker roles are parameters so that tests can put a faulty one in.
    """

    def __init__(
        self,
        target: Target,
        limits: Limits | None = None,
        *,
        builders: int | None = None,
        group: int = 4,
        builder_role: str = "luthier.tuner.builder:Builder",
        runner_role: str = "luthier.tuner.runner:Runner",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.target, self.limits = target, limits or Limits()
        self.cores = Cores(available_cores())
        self.group = group
        count = builders or self.cores.count
        options: dict[str, Any] = {"recycle_after": self.limits.recycle_after, "environment": environment}
        self._builders = [Worker(builder_role, memory_bytes=self.limits.build_bytes, **options) for _ in range(count)]
        self._reference_builder = Worker(builder_role, memory_bytes=self.limits.build_bytes, **options)
        self._runner = Worker(runner_role, memory_bytes=self.limits.run_bytes, **options)
        self._tasks: dict[str, _TaskState] = {}
        self._jobs: Queue[_Job | None] = Queue()
        self._built: deque[_BuiltJob] = deque()
        self._ready = threading.Condition()
        self._results: Queue[MeasureResult | BaseException] = Queue()
        self._closed = False
        self.pending = 0
        self._threads = [threading.Thread(target=self._build_loop, args=(w,), daemon=True) for w in self._builders]
        self._threads.append(threading.Thread(target=self._run_loop, daemon=True))
        for t in self._threads:
            t.start()

    def set_best(self, task: TuningTask, best_s: float) -> None:
        """Tell what is already known: only a faster candidate is checked, a much slower one is sampled less."""
        self._state(task).best_s = best_s

    def submit(self, task: TuningTask, candidate: Candidate) -> None:
        """Queue a candidate. Raises TuningError after close."""
        if self._closed:
            raise TuningError("this measurer was closed")
        self._state(task)
        self.pending += 1
        self._jobs.put((task, candidate))

    def next_result(self, timeout_s: float | None = None) -> MeasureResult | None:
        """Wait for an outcome; None when nothing is pending, or when ``timeout_s`` passed.

        Raises TuningError when no worker process can be started.
        """
        if not self.pending:
            return None
        try:
            result = self._results.get(timeout=timeout_s)
        except Empty:
            return None
        if isinstance(result, BaseException):
            self.close()
            raise result
        self.pending -= 1
        return result

    def close(self) -> None:
        """Drop what is pending and end the workers, in the middle of a job if need be."""
        self._closed = True
        self.pending = 0
        workers = (*self._builders, self._reference_builder, self._runner)
        for w in workers:
            w.kill()
        for _ in self._builders:
            self._jobs.put(None)
        with self._ready:
            self._ready.notify_all()
        for t in self._threads:
            t.join(10.0)  # they are daemons: not worth waiting for beyond reason
        for w in workers:
            w.close()

    def __enter__(self) -> Measurer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------ building

    def _build_loop(self, worker: Worker) -> None:
        while not self._closed and (job := self._jobs.get()) is not None:
            task, candidate = job
            try:
                with self.cores.take(1):
                    outcome = self._build(worker, task, candidate)
            except TuningError as e:
                self._results.put(e)
                return
            if isinstance(outcome, Failure):
                self._fail(task, candidate, outcome, Status.BUILD_ERROR, "the build")
                continue
            with self._ready:
                self._built.append((task, candidate, outcome))
                self._ready.notify()

    def _build(self, worker: Worker, task: TuningTask, candidate: Candidate) -> Built | Failure:
        trace = None if task.space is None else candidate.trace
        return self._call_build(worker, task, BuildJob(self.target, candidate.decisions, trace), self.limits.build_s)

    def _call_build(self, worker: Worker, task: TuningTask, job: BuildJob, timeout_s: float) -> Built | Failure:
        outcome = worker.call(task.key, self._state(task).data, job, timeout_s)
        if isinstance(outcome, Answer):
            built: Built = outcome.value
            return built
        return outcome

    # ------------------------------------------------------------------ running

    def _run_loop(self) -> None:
        while not self._closed:
            with self._ready:
                self._ready.wait_for(lambda: self._closed or bool(self._built))
                group = [] if self._closed else self._take_group()
            try:
                if group:
                    self._run_group(group)
            except TuningError as e:
                self._results.put(e)
                return

    def _take_group(self) -> list[_BuiltJob]:
        """Up to ``group`` builds of one task, from those that wait."""
        task = self._built[0][0]
        group: list[_BuiltJob] = []
        while self._built and len(group) < self.group and self._built[0][0] is task:
            group.append(self._built.popleft())
        return group

    def _run_group(self, group: list[_BuiltJob]) -> None:
        task = group[0][0]
        state = self._state(task)
        cold_bytes = 4 * self.target.l3_bytes if task.constants_bytes > self.target.l3_bytes // 2 else 0
        job = TimeJob(tuple(built for _, _, built in group), state.best_s, cold_bytes=cold_bytes)
        with self.cores.take(self.target.threads):
            outcome = self._runner.call(task.key, state.data, job, self.limits.run_s * len(group))
        if isinstance(outcome, Failure) and len(group) > 1:
            for one in group:  # one of them is to blame, and the others are not
                self._run_group([one])
            return
        for i, (_, candidate, built) in enumerate(group):
            if isinstance(outcome, Failure):
                self._fail(task, candidate, outcome, Status.RUN_ERROR, "the run", built.build_s)
            else:
                self._results.put(self._checked(task, candidate, built, tuple(outcome.value[i])))

    def _checked(self, task: TuningTask, candidate: Candidate, built: Built, run_s: tuple[float, ...]) -> MeasureResult:
        """The result of a timed candidate, compared with the reference if it is the fastest so far."""
        state = self._state(task)
        values: dict[str, Any] = {"compile_s": built.build_s}
        if min(run_s) >= state.best_s:
            return MeasureResult(task, candidate, Status.OK, run_s, **values)
        verdict = self._verify(task, state, built)
        if verdict is not None:
            # An earlier candidate may have damaged the runner's memory: only a fresh process can condemn one.
            self._runner.close()
            if not state.reference_is_clean:
                state.reference = None
            verdict = self._verify(task, state, built)
        if verdict is not None:
            self._runner.close()
            status, error = verdict
            return MeasureResult(task, candidate, status, error=error, **values)
        state.best_s = min(run_s)
        return MeasureResult(task, candidate, Status.OK, run_s, verified=True, **values)

    def _verify(self, task: TuningTask, state: _TaskState, built: Built) -> tuple[Status, str] | None:
        """Compare a candidate's outputs with the reference; None if they agree."""
        if state.reference is None:
            state.reference_is_clean = self._runner.idle_since_start
            state.reference = self._reference(task, state)
        if isinstance(state.reference, Failure):
            error = state.reference.error
            return Status.RUN_ERROR, f"not verified, as the reference result cannot be computed: {error}"
        with self.cores.take(self.target.threads):
            outputs = self._runner.call(task.key, state.data, OutputsJob(built), self.limits.run_s)
        if isinstance(outputs, Failure):
            return outputs.status or Status.WRONG_RESULT, f"the check: {outputs.error}"
        wrong = differences(task.workload.outputs, state.reference, outputs.value)
        return (Status.WRONG_RESULT, wrong) if wrong else None

    def _reference(self, task: TuningTask, state: _TaskState) -> list[Array] | Failure:
        """The result of the naive loop nest, computed once."""
        with self.cores.take(1):
            built = self._call_build(self._reference_builder, task, reference_job(self.target), self.limits.reference_s)
        if isinstance(built, Failure):
            return built
        with self.cores.take(1):
            outcome = self._runner.call(task.key, state.data, OutputsJob(built, 1), self.limits.reference_s)
        return outcome if isinstance(outcome, Failure) else list(outcome.value)

    # ------------------------------------------------------------------ shared

    def _state(self, task: TuningTask) -> _TaskState:
        state = self._tasks.get(task.key)
        if state is None:
            try:
                state = _TaskState(pickle.dumps(task.workload, pickle.HIGHEST_PROTOCOL))
            except RecursionError:
                raise TuningError(f"task {task.name}: its expressions are nested too deeply to be sent away") from None
            self._tasks[task.key] = state
        return state

    def _fail(
        self,
        task: TuningTask,
        candidate: Candidate,
        failure: Failure,
        otherwise: Status,
        what: str,
        build_s: float = 0.0,
    ) -> None:
        if self._closed:
            return
        error = failure.error if failure.status is None else f"{what} {failure.error}"
        status = failure.status or otherwise
        self._results.put(MeasureResult(task, candidate, status, error=error, compile_s=build_s))


def _memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
