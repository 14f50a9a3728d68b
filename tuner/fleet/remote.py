"""What a worker of a fleet does. These functions run inside of dask worker processes; :mod:`.dispatch` calls them.

A worker measures for one session in an *engagement*, which has a Measurer: builder and runner processes, so that a
candidate's faults stay there. Messages are short: an exchange hands in orders, waits a little and takes away what is
finished, while building and measuring go on between one and the next. A worker whose silence exceeds its deadline is
therefore in trouble, however long its candidates take.
"""

from __future__ import annotations

import pickle
import platform
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from queue import Empty, Queue

from ...codegen.detect import can_run, host_target, named_target
from ...errors import TargetError, TuningError
from ...runtime.openmp import default_threads, usable_threads
from ...schedule.decide import Decider
from ...schedule.schedule import Schedule
from ...target import Target
from ..candidate import Candidate
from ..cpu import Cores, available_cores
from ..measure import Measurer, MeasureResult
from ..task import TuningTask
from .messages import IDENTITY, Exchange, Greeting, Order, Outcome, RemoteTask

IDLE_S = 60.0
"""A session that has not been heard of for so long is over."""
LINGER_S = 0.2
"""Time to wait for more results than one, as every message takes the machine's time."""
COMPARE_S = 600.0
"""Time for a comparison, after which this worker is of no use for it."""
_PER_RESULT = tuple(f.name for f in fields(MeasureResult) if f.name not in ("task", "candidate", "worker"))


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``luthier worker`` was told; None: find out. For what each means see :class:`.messages.Greeting`."""

    name: str | None = None
    machine: str | None = None
    target: str = "host"
    threads: int | None = None


settings = Settings()
"""Of this process; set before it connects."""

_cores = Cores(available_cores())
_engagements: dict[str, _Engagement] = {}
_lock = threading.Lock()


def greet(session_identity: str, target: Target | None = None) -> Greeting:
    """Introduce this worker to a session. Raises TuningError where the two have different versions of Luthier."""
    if session_identity != IDENTITY:
        raise TuningError(f"it has luthier {IDENTITY}, the session has {session_identity}: install the same on both")
    own = own_target()
    return Greeting(
        settings.name or socket.gethostname(),
        settings.machine or _machine(),
        own,
        target is None or (can_run(target) and target.threads <= own.threads),
    )


def own_target() -> Target:
    """What this worker measures for. Raises TargetError for a target that this machine cannot run."""
    threads = usable_threads(settings.threads or default_threads())
    if settings.target == "host":
        return host_target(threads)
    target = named_target(settings.target, threads)
    if not can_run(target):
        raise TargetError(f"this machine ({host_target().cpu}) cannot run code for {settings.target}")
    return target


def exchange(message: Exchange) -> list[Outcome]:
    """Take orders in and return outcomes: at least one, unless ``wait_s`` passes first.

    Raises TuningError for an engagement that this process knows nothing of, and where it cannot measure.
    """
    with _lock:
        earlier = []
        if message.target is not None and message.engagement not in _engagements:
            session = message.engagement.partition("/")[0]
            earlier = [name for name in _engagements if name.partition("/")[0] == session]
            _engagements[message.engagement] = _Engagement(message.target)
            threading.Thread(target=_end_when_idle, args=(message.engagement,), daemon=True).start()
        engagement = _engagements.get(message.engagement)
    for name in earlier:
        release(name)  # given up by their session, while this process could not answer
    if engagement is None:
        raise TuningError("it was restarted, or not asked for too long")
    return engagement.exchange(message)


def release(engagement: str) -> None:
    """End an engagement and its processes; what it had not finished is dropped."""
    with _lock:
        ended = _engagements.pop(engagement, None)
    if ended is not None:
        ended.measurer.close()


class _Engagement:
    def __init__(self, target: Target) -> None:
        # sessions that share this worker measure in turns; no model is built here, so that no code need be kept
        self.measurer = Measurer(target, cores=_cores, environment={"LUTHIER_CACHE": ""})
        self.busy = threading.Lock()
        self.heard_s = time.monotonic()
        self._tasks: dict[str, TuningTask] = {}
        self._comparing = 0
        self._compared: Queue[list[MeasureResult] | BaseException] = Queue()

    def exchange(self, message: Exchange) -> list[Outcome]:
        with self.busy:
            for key, sent in message.tasks.items():
                self._tasks[key] = _task(sent)
            if message.drop:
                self.measurer.drop_pending()
            for key, best_s in message.best.items():
                self.measurer.set_best(self._tasks[key], best_s)
            for group, orders in groupby(message.orders, lambda order: order.group):
                self._submit(list(orders), group is not None)
            results = self._collect(message.wait_s)
            self.heard_s = time.monotonic()
        return results

    def _submit(self, orders: list[Order], together: bool) -> None:
        jobs = [(self._tasks[o.key], _Ordered(o.decisions, o.trace, trial=o.trial, ticket=o.ticket)) for o in orders]
        if together:
            self._comparing += 1
            task, candidates = jobs[0][0], [candidate for _, candidate in jobs]
            threading.Thread(target=self._compare, args=(task, candidates), daemon=True).start()
            return
        for job in jobs:
            self.measurer.submit(*job)

    def _compare(self, task: TuningTask, candidates: Sequence[Candidate]) -> None:
        try:
            results = self.measurer.compare(task, candidates, COMPARE_S)
            self._compared.put(results or TuningError(f"a comparison took longer than {COMPARE_S:g} s"))
        except BaseException as error:
            self._compared.put(error)

    def _collect(self, wait_s: float) -> list[Outcome]:
        start = time.monotonic()
        many = self.measurer.pending // 2
        found: list[MeasureResult] = []
        while self.measurer.pending:
            until = start + (min(wait_s, LINGER_S) if found else wait_s)
            result = self.measurer.next_result(max(until - time.monotonic(), 0.0))
            if result is None:
                break
            found.append(result)
            if len(found) > many:
                break
        if self._comparing:
            left_s = 0.0 if found else start + wait_s - time.monotonic()
            found += self._take_comparison(max(left_s, 0.0))
        return [_outcome(r) for r in found]

    def _take_comparison(self, wait_s: float) -> list[MeasureResult]:
        try:
            compared = self._compared.get(timeout=wait_s)
        except Empty:
            return []
        self._comparing -= 1
        if isinstance(compared, BaseException):
            raise compared
        return compared


@dataclass(frozen=True, eq=False)
class _Ordered(Candidate):
    """A candidate with the session's number for it."""

    ticket: int = -1


def _outcome(result: MeasureResult) -> Outcome:
    assert isinstance(result.candidate, _Ordered)
    return Outcome(result.candidate.ticket, {name: getattr(result, name) for name in _PER_RESULT})


def _task(sent: RemoteTask) -> TuningTask:
    space = _elsewhere if sent.own_space else None
    return TuningTask(pickle.loads(sent.data), sent.name, 1, space, sent.constants_bytes)


def _elsewhere(s: Schedule, d: Decider, target: Target) -> None:
    """Stand in for a space of the user's own: candidates of such a task come with their traces."""
    raise TuningError("this space is not here; its candidates are built from their traces")


def _end_when_idle(name: str) -> None:
    while (engagement := _engagements.get(name)) is not None:
        time.sleep(IDLE_S / 10)
        if not engagement.busy.locked() and time.monotonic() - engagement.heard_s > IDLE_S:
            release(name)


def _machine() -> str:
    """What tells machines apart whose hosts have equal names; containers of one host are one machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()
