"""Measures on a fleet: what a session sees of it. Its event loop (:mod:`.dispatch`) runs in a thread of its own."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import threading
import time
import warnings
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

from ...codegen.detect import can_run, host_target
from ...errors import TuningError
from ...runtime.openmp import usable_threads
from ...target import Target
from ..candidate import Candidate
from ..cpu import Cores, available_cores
from ..measure import Measurer, MeasureResult
from ..measurer import AbstractMeasurer, MeasurerLost
from ..task import TuningTask
from .choose import misfit
from .connect import dask_distributed
from .dispatch import DEPTH, Dispatcher, Event, Finished, Lost, NotCompared, Note, Patience
from .messages import Greeting, Order, RemoteTask


class FleetMeasurer(AbstractMeasurer):
    """Measures candidates for ``target`` on the workers of the dask scheduler at ``url``.

    any_target  use workers of other targets too, if they can run the code; their times count as the target's
    fallback    measure on this machine when no worker is left; else the session ends then

    Raises TuningError for a malformed address, where dask is missing, or for a fallback to a machine that does not fit.
    """

    def __init__(
        self,
        url: str,
        target: Target,
        *,
        any_target: bool = False,
        fallback: bool = False,
        patience: Patience | None = None,
    ) -> None:
        dask_distributed(url)
        self.target, self.fallback = target, fallback
        self.cores = Cores(available_cores())
        if fallback:
            here = Greeting("", "", host_target(usable_threads(self.cores.count)), can_run(target))
            if reason := misfit(here, target, any_target):
                raise TuningError(f"this machine cannot measure when no worker is left: {reason}; leave fallback out")
        self.pending = 0
        self._tickets = itertools.count()
        self._jobs: dict[int, tuple[TuningTask, Candidate]] = {}
        self._tasks: dict[str, RemoteTask] = {}
        self._best: dict[str, tuple[TuningTask, float]] = {}
        self._events: SimpleQueue[Event | BaseException] = SimpleQueue()
        self._local: Measurer | None = None
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._dispatcher = Dispatcher(url, target, any_target, patience or Patience(), self._events.put)
        self._thread = threading.Thread(target=self._run, name="luthier-fleet", daemon=True)
        self._thread.start()

    @property
    def capacity(self) -> int:
        """Enough for all workers that are there now."""
        return DEPTH * max(self._dispatcher.active, 1)

    def set_best(self, task: TuningTask, best_s: float, earlier: Candidate | None = None) -> None:
        key = _key(task)
        self._best[key] = (task, best_s)
        if self._local is not None:
            self._local.set_best(task, best_s)
        else:
            self._tell(self._dispatcher.set_best, key, best_s)

    def submit(self, task: TuningTask, candidate: Candidate) -> None:
        if self._closed:
            raise TuningError("this measurer was closed")
        if self._local is not None:
            self._local.submit(task, candidate)
        else:
            sent, order = self._packed(task), self._order(task, candidate)
            self._jobs[order.ticket] = (task, candidate)
            self._tell(self._dispatcher.add, order, sent)
        self.pending += 1

    def next_result(self, timeout_s: float | None = None) -> MeasureResult | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.pending:
            left_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if self._local is not None:
                result = self._local.next_result(left_s)
                self.pending -= result is not None
                return result
            try:
                event = self._events.get(timeout=left_s)
            except Empty:
                return None
            finished = self._handle(event)
            if finished is not None:
                self.pending -= 1
                return finished
        return None

    def drop_pending(self) -> None:
        self._jobs.clear()
        self.pending = 0
        if self._local is not None:
            self._local.drop_pending()
        else:
            self._tell(self._dispatcher.drop)

    def compare(
        self, task: TuningTask, candidates: Sequence[Candidate], timeout_s: float | None = None
    ) -> list[MeasureResult]:
        if self._closed:
            raise TuningError("this measurer was closed")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        group = next(self._tickets)
        orders = tuple(self._order(task, c, group) for c in candidates)
        wanted = {order.ticket: candidate for order, candidate in zip(orders, candidates, strict=True)}
        if self._local is None and orders:
            self._tell(self._dispatcher.add_group, orders, self._packed(task))
        found: list[MeasureResult] = []
        while self._local is None and len(found) < len(candidates):
            try:
                event = self._events.get(timeout=None if deadline is None else max(deadline - time.monotonic(), 0.0))
            except Empty:
                self._tell(self._dispatcher.drop)
                return []
            if event == NotCompared(group):
                return []
            if isinstance(event, Finished) and event.outcome.ticket in wanted:
                candidate = wanted[event.outcome.ticket]
                found.append(MeasureResult(task, candidate, **event.outcome.values, worker=event.worker))
            else:
                self._handle(event)
        if self._local is not None:
            left_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            return self._local.compare(task, candidates, left_s)
        return found

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.pending = 0
        self._jobs.clear()
        if self._local is not None:
            self._local.close()
        self._end_loop()

    def _order(self, task: TuningTask, candidate: Candidate, group: int | None = None) -> Order:
        trace = None if task.space is None else candidate.trace
        return Order(next(self._tickets), _key(task), candidate.decisions, trace, candidate.trial, group)

    def _packed(self, task: TuningTask) -> RemoteTask:
        key = _key(task)
        if key not in self._tasks:
            self._tasks[key] = _packed(task)
        return self._tasks[key]

    # ------------------------------------------------------------------ the other thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._dispatcher.run())
        except BaseException as error:  # a defect; next_result raises it
            self._events.put(error)

    def _tell(self, function: Any, *arguments: object) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)

    def _end_loop(self) -> None:
        if not self._loop.is_closed():
            self._tell(self._dispatcher.stop)
            self._thread.join(15.0)
            if not self._thread.is_alive():
                self._loop.close()

    def _handle(self, event: Event | BaseException) -> MeasureResult | None:
        match event:
            case Note(text):
                warnings.warn(text, RuntimeWarning, stacklevel=3)
            case Lost(text):
                self._go_on_here(text)
            case Finished(outcome, worker):
                job = self._jobs.pop(outcome.ticket, None)
                if job is not None:
                    return MeasureResult(*job, **outcome.values, worker=worker)
            case BaseException():
                self.close()
                raise event
        return None

    def _go_on_here(self, why: str) -> None:
        """Measure the rest on this machine. Raises MeasurerLost where that is not wanted."""
        if not self.fallback:
            self.close()
            raise MeasurerLost(why)
        warnings.warn(f"{why} -- measuring goes on on this machine", RuntimeWarning, stacklevel=4)
        self._end_loop()
        self._local = Measurer(self.target, cores=self.cores)
        for task, best_s in self._best.values():
            self._local.set_best(task, best_s)
        for task, candidate in self._jobs.values():
            self._local.submit(task, candidate)
        self._jobs.clear()


def _key(task: TuningTask) -> str:
    """What tells tasks apart, those with spaces of their own too."""
    return f"{task.key}/{task.space_name}"


def _packed(task: TuningTask) -> RemoteTask:
    try:
        data = pickle.dumps(task.workload, pickle.HIGHEST_PROTOCOL)
    except RecursionError:
        raise TuningError(f"task {task.name}: its expressions are nested too deeply to be sent away") from None
    return RemoteTask(data, task.name, task.space is not None, task.constants_bytes)
