"""Measurement: candidates go in, their outcomes come out in order of completion.

    with Measurer(target) as measurer:
        measurer.submit(task, candidate)
        result = measurer.next_result()

Builder processes run ahead of the one runner process, whose side is :mod:`.bench`. They give way (:mod:`.cpu`): they
compute on the cores that neither a measurement nor the search is using at the moment, and rest where a measurement uses
all of them. Whatever a candidate does to a worker is a status of its result. A candidate that would become its task's
best is compared with the reference's result first.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from queue import Empty, Queue
from typing import Any

from ..errors import TuningError
from ..target import Target
from .bench import Bench, BuiltJob, MeasureResult, build_job, failed
from .candidate import Candidate
from .cpu import Cores, available_cores
from .interrupts import shielded
from .jobs import BuildBatch, NotBuilt
from .limits import Limits
from .measurer import AbstractMeasurer
from .process import Failure, Worker
from .record import Status
from .task import TuningTask

__all__ = ["Limits", "MeasureResult", "Measurer"]

_Job = tuple[TuningTask, Candidate]
_Results = Queue[MeasureResult | BaseException]


class Measurer(AbstractMeasurer):
    """Measures candidates for ``target`` (its ``threads`` are those that the kernels run with).

    builders  how many build at once; default: one per core, and one more for when another waits for its next job
    group     how many finished builds of one task are timed together at most
    batch     builds in one message
    cores     the machine's, where several measurers share them
    Worker roles are parameters so that tests can put a faulty one in.
    """

    def __init__(
        self,
        target: Target,
        limits: Limits | None = None,
        *,
        cores: Cores | None = None,
        builders: int | None = None,
        group: int = 8,
        batch: int = 4,
        builder_role: str = "luthier.tuner.builder:Builder",
        runner_role: str = "luthier.tuner.runner:Runner",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.target = target
        self.cores = cores or Cores(available_cores())
        self.group = group
        self.batch = batch
        limits = limits or Limits()
        options: dict[str, Any] = {
            "recycle_after": limits.recycle_after,
            "recycle_bytes": limits.recycle_bytes,
            "environment": environment,
        }
        count = builders or self.cores.count + 1
        build_options = {"memory_bytes": limits.build_bytes, **options}
        self._builders = [Worker(builder_role, background=True, **build_options) for _ in range(count)]
        self._runner = Worker(runner_role, memory_bytes=limits.run_bytes, **options)
        self._reference_builder = Worker(builder_role, **build_options)
        self._bench = Bench(target, limits, self.cores, self._runner, self._reference_builder, self._builders)
        self._jobs: deque[_Job] = deque()
        self._built: deque[BuiltJob] = deque()
        self._comparisons: deque[tuple[TuningTask, Sequence[Candidate], _Results]] = deque()
        self._building: Counter[str] = Counter()  # by task: candidates queued or in a builder
        self._changed = threading.Condition()
        self._results: Queue[tuple[int, MeasureResult | BaseException]] = Queue()
        self._generation = 0
        self._closed = False
        self.pending = 0
        self._threads = [threading.Thread(target=self._build_loop, args=(w,), daemon=True) for w in self._builders]
        self._threads.append(threading.Thread(target=self._run_loop, daemon=True))
        for t in self._threads:
            t.start()

    @property
    def limits(self) -> Limits:
        """What a candidate may use; it can be changed between jobs."""
        return self._bench.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._bench.limits = limits

    @property
    def capacity(self) -> int:
        return max(16, 4 * (len(self._builders) + self.group))

    def set_best(self, task: TuningTask, best_s: float, earlier: Candidate | None = None) -> None:
        self._bench.set_best(task, best_s, earlier)

    def submit(self, task: TuningTask, candidate: Candidate) -> None:
        """Queue a candidate. Raises TuningError after close."""
        if self._closed:
            raise TuningError("this measurer was closed")
        self._bench.state(task)
        self.pending += 1
        with self._changed:
            self._jobs.append((task, candidate))
            self._building[task.key] += 1
            self._changed.notify_all()

    def next_result(self, timeout_s: float | None = None) -> MeasureResult | None:
        """Wait for an outcome; None when nothing is pending, or when ``timeout_s`` passed.

        Raises TuningError when no worker process can be started.
        """
        while self.pending:
            try:
                generation, result = self._results.get(timeout=timeout_s)
            except Empty:
                return None
            if isinstance(result, BaseException):
                self.close()
                raise result
            if generation == self._generation:
                self.pending -= 1
                return result
        return None

    def drop_pending(self) -> None:
        """Forget all that was submitted and has no result yet."""
        with self._changed:
            self._generation += 1
            self._jobs.clear()
            self._built.clear()
            self._building.clear()
            self.pending = 0

    def compare(
        self, task: TuningTask, candidates: Sequence[Candidate], timeout_s: float | None = None
    ) -> list[MeasureResult]:
        """Time candidates again that were measured before, in turns; all of them are checked. [] after ``timeout_s``.

        Raises TuningError when no worker process can be started.
        """
        if self._closed:
            raise TuningError("this measurer was closed")
        results: _Results = Queue()
        with self._changed:
            self._comparisons.append((task, candidates, results))
            self._changed.notify_all()
        found: list[MeasureResult] = []
        try:
            while len(found) < len(candidates):
                result = results.get(timeout=timeout_s)
                if isinstance(result, BaseException):
                    raise result
                found.append(result)
        except Empty:
            return []
        return found

    def close(self) -> None:
        """Drop what is pending and end the workers, in the middle of a job if need be."""
        with shielded():
            self._close()

    def _close(self) -> None:
        self._closed = True
        self.drop_pending()
        workers = (*self._builders, self._reference_builder, self._runner)
        for w in workers:
            w.kill()
        with self._changed:
            self._changed.notify_all()
        for t in self._threads:
            t.join(10.0)  # they are daemons: not worth waiting for beyond reason
        for w in workers:
            w.close()

    # ------------------------------------------------------------------ building

    def _build_loop(self, worker: Worker) -> None:
        worker.start()
        while batch := self._take_batch():
            generation, jobs = batch
            try:
                self._build(worker, generation, jobs)
            except Exception as e:  # else who waits for a result would wait for ever
                self._results.put((generation, e))
                return

    def _take_batch(self) -> tuple[int, list[_Job]] | None:
        """The next candidates of one task, a fair share of those that wait; None when the measurer closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._jobs))
            if self._closed:
                return None
            jobs = [self._jobs.popleft()]
            most = min(self.batch, 1 + len(self._jobs) // len(self._builders))
            while len(jobs) < most and self._jobs and self._jobs[0][0] is jobs[0][0]:
                jobs.append(self._jobs.popleft())
            return self._generation, jobs

    def _build(self, worker: Worker, generation: int, jobs: list[_Job]) -> None:
        """Build candidates of one task; where a batch fails as a whole, one by one."""
        if generation != self._generation:
            return
        task = jobs[0][0]
        lines = self.limits.code_lines
        message = BuildBatch(tuple(build_job(self.target, t, c, lines) for t, c in jobs))
        outcome = self._bench.call_build(worker, task, message, self.limits.build_s * len(jobs))
        if isinstance(outcome, Failure) and len(jobs) > 1:
            for job in jobs:
                self._build(worker, generation, [job])
            return
        answers = [outcome] if isinstance(outcome, Failure) else outcome.value
        with self._changed:
            for (_, candidate), answer in zip(jobs, answers, strict=True):
                if generation != self._generation:
                    continue
                self._building[task.key] -= 1
                failure = Failure(None, answer.error) if isinstance(answer, NotBuilt) else answer
                if isinstance(failure, Failure):
                    result = failed(task, candidate, failure, Status.BUILD_ERROR, "the build")
                    self._results.put((generation, result))
                else:
                    self._built.append((task, candidate, failure))
            self._changed.notify_all()
        if self._bench.checks_from_the_start(task):
            self._bench.build_reference(worker, task)

    # ------------------------------------------------------------------ running

    def _run_loop(self) -> None:
        self._runner.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(self._comparisons) or bool(self._group()))
                if self._closed:
                    return
                comparison = self._comparisons.popleft() if self._comparisons else None
                generation, group = self._generation, [] if comparison else self._group()
                for job in group:
                    self._built.remove(job)
            try:
                if comparison is not None:
                    task, candidates, answers = comparison
                    for result in self._bench.compare(task, candidates):
                        answers.put(result)
                else:
                    for result in self._bench.measure(group):
                        self._results.put((generation, result))
            except Exception as e:
                self._results.put((generation, e))
                if comparison is not None:
                    comparison[2].put(e)
                return

    def _group(self) -> list[BuiltJob]:
        """Builds of one task that are worth a measurement: a whole group, or all that will come for now."""
        by_task: dict[int, list[BuiltJob]] = defaultdict(list)
        for job in self._built:
            by_task[id(job[0])].append(job)
        for jobs in by_task.values():
            if len(jobs) >= self.group or not self._building[jobs[0][0].key]:
                return jobs[: self.group]
        return []
