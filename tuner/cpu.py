"""Who computes when: searches and measurements share the machine's cores out, builds take what they leave.

Priorities alone do not keep builds from a measurement on several threads: when the system finds a core busy, if only
with a build, it may put two threads of a team on another one, where each waits for the other's time slice to end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STOPPABLE = sys.platform == "linux"
"""Whether processes may be stopped for a while: elsewhere, one whose parent is killed meanwhile would stay for ever."""

_SET_PARENT_DEATH_SIGNAL = 1  # of prctl


class Cores:
    """A semaphore over ``count`` cores, served in order of arrival: nobody who needs all of them is overtaken."""

    def __init__(self, count: int) -> None:
        self.count = max(count, 1)
        self._free = self.count
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, cores: int) -> Iterator[None]:
        """Hold ``cores`` cores (at most all there are) for the length of a ``with`` block."""
        cores = max(1, min(cores, self.count))
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self._free >= cores)
                self._free -= cores
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += cores
                self._changed.notify_all()


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def give_way() -> None:
    """Let this process run only where no other wants to, as far as the system knows such a thing.

    Linux may give each session of processes an equal share (``sched_autogroup_enabled``), whatever their priorities:
    this one, which must lead a session of its own, then takes the least.
    """
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")


def end_with_parent() -> None:
    """Let the system end this process with the thread that started it, even while it is stopped (Linux)."""
    if STOPPABLE:
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
