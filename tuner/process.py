"""The supervisor of one worker process (:mod:`.worker`): starts it, talks to it, kills it, replaces it.

Workers are plain child processes rather than ``multiprocessing`` ones, so that a user's script needs no
``if __name__ == "__main__"`` guard and is not run again in each of them.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, Union

from .. import config, errors
from ..errors import TuningError
from .cpu import STOPPABLE
from .record import Status, shorten
from .worker import HEADER

START_TIMEOUT_S = 120.0
KEPT_OUTPUT_BYTES = 4000
LARGEST_REPLY_BYTES = 1 << 32


@dataclass(frozen=True, slots=True)
class Answer:
    """The job was carried out."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """The job failed. ``status`` is None where the worker itself reported an error and is still well.

    killed  whether a SIGKILL ended the worker that was not the parent's: of the system, or of somebody else
    """

    status: Status | None
    error: str
    killed: bool = False


Outcome: TypeAlias = Union[Answer, Failure]


class _Gone(Exception):
    """The worker closed its end of the pipe."""


class _KilledAtStart(TuningError):
    """A SIGKILL that was not the parent's met the worker before it was ready."""


class _TooLate(Exception):
    """The deadline passed."""


class Worker:
    """One worker, started when first needed and again after it died, did ``recycle_after`` jobs or grew. Not
    thread-safe.

    role           ``module:class`` of what it does (see :class:`.worker.Role`)
    memory_bytes   limit on its address space; 0 for none
    recycle_bytes  resident memory by which it may have grown since its start before it is replaced; 0: any
    background     whether it computes only while others leave it a core (:func:`.cpu.give_way`), and may be paused; it
                   ends with the thread that started it, if not before
    """

    def __init__(
        self,
        role: str,
        *,
        memory_bytes: int = 0,
        recycle_after: int = 500,
        recycle_bytes: int = 0,
        environment: dict[str, str] | None = None,
        background: bool = False,
    ) -> None:
        self.role, self.memory_bytes, self.recycle_after = role, memory_bytes, recycle_after
        self.recycle_bytes, self._first_bytes = recycle_bytes, 0
        self.environment, self.background = environment or {}, background
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._output: deque[bytes] = deque(maxlen=16)
        self._reader: threading.Thread | None = None
        self._known: set[str] = set()
        self._jobs = 0
        self._killed = False
        self._rested_s = 0.0
        self._resting_since: float | None = None

    def call(self, key: str, data: bytes, job: object, timeout_s: float) -> Outcome:
        """Carry out ``job``; ``data`` is the pickled task of ``key``, sent only when this worker lacks it.

        A worker that dies or is late is replaced at the next call. Raises TuningError when none can be started.
        """
        if self._killed:
            raise TuningError(f"the worker process ({self.role}) was ended")
        if self._jobs >= self.recycle_after or self._has_grown():
            self.close()
        process = self._process or self._started()
        self._jobs += 1
        message = pickle.dumps((key, None if key in self._known else data, job), pickle.HIGHEST_PROTOCOL)
        self._known.add(key)
        deadline = self._clock() + timeout_s
        try:
            self._write(process, HEADER.pack(len(message)) + message, deadline)
            kind, value = self._read_reply(process, deadline)
        except _TooLate:
            self.close()
            return Failure(Status.TIMEOUT, f"took longer than {timeout_s:g} s")
        except _Gone:
            return self._post_mortem()
        match kind:
            case "ok":
                return Answer(value)
            case "memory":
                return Failure(Status.OUT_OF_MEMORY, f"needs more than {self._limit()}: {value}")
            case _:
                return Failure(None, shorten(str(value)))

    def start(self) -> None:
        """Start the process, so that the first call need not wait for it. What fails now fails again at that call."""
        if self._process is None and not self._killed:
            with suppress(TuningError):
                self._started()

    @property
    def idle_since_start(self) -> bool:
        """Whether the next call meets a worker that has done nothing yet."""
        return self._process is None or self._jobs == 0

    def _has_grown(self) -> bool:
        if self._process is None or not self.recycle_bytes:
            return False
        return _resident_bytes(self._process.pid) > self._first_bytes + self.recycle_bytes

    def kill(self) -> None:
        """End the worker now, from any thread: a call in flight returns a Failure, later ones raise TuningError."""
        self._killed = True
        _signal(self._process, signal.SIGKILL)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let a worker in the background rest for the length of a ``with`` block; from any thread."""
        if not self.background or not STOPPABLE:
            yield
            return
        process = self._process
        self._resting_since = time.monotonic()
        _signal(process, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(process, signal.SIGCONT)
            self._rested_s += time.monotonic() - self._resting_since
            self._resting_since = None

    def _clock(self) -> float:
        """Seconds that stand still while this worker rests: a call's time is what it had for itself."""
        since = self._resting_since
        now = time.monotonic() if since is None else since
        return now - self._rested_s

    def close(self) -> None:
        """End the worker, if there is one; a later call starts another."""
        process, self._process = self._process, None
        self._known.clear()
        self._jobs = 0
        if process is None:
            return
        _signal(process, signal.SIGKILL)
        process.wait()
        if self._reader is not None:
            self._reader.join()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    # ------------------------------------------------------------------ starting

    def _started(self) -> subprocess.Popen[bytes]:
        """A new worker that is ready; one that somebody kills before it is gets a second chance."""
        try:
            return self._start()
        except _KilledAtStart:
            return self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        root = str(Path(errors.__file__).parent.parent)
        environment = {
            **os.environ,
            # NumPy's BLAS would start a thread per core in each worker, and nothing here uses it
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONSAFEPATH": "1",
            **config.environment(),
            **self.environment,
        }
        paths = [root, *environment.get("PYTHONPATH", "").split(os.pathsep)]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        command = [sys.executable, "-m", "luthier.tuner.worker", self.role, str(self.memory_bytes)]
        command += ["background"] * self.background
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        except OSError as e:
            raise TuningError(
                f"a worker process ({self.role}) cannot be started: {e.strerror}; end other programs"
            ) from None
        assert process.stdin and process.stdout and process.stderr
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        self._output = deque(maxlen=16)
        self._reader = threading.Thread(target=_drain, args=(process.stderr, self._output), daemon=True)
        self._reader.start()
        self._process = process
        self.starts += 1
        if self._killed:
            self.close()
            raise TuningError(f"the worker process ({self.role}) was ended")
        try:
            self._read_reply(process, self._clock() + START_TIMEOUT_S)
        except (_Gone, _TooLate) as e:
            by_others = isinstance(e, _Gone) and _exit_code(process) == -signal.SIGKILL and not self._killed
            self.close()
            error = f"a worker process ({self.role}) cannot be started: {self._last_output()}"
            raise (_KilledAtStart if by_others else TuningError)(error) from None
        self._first_bytes = _resident_bytes(process.pid)
        return process

    # ------------------------------------------------------------------ messages

    def _write(self, process: subprocess.Popen[bytes], message: bytes, deadline: float) -> None:
        assert process.stdin is not None
        fd, rest = process.stdin.fileno(), memoryview(message)
        while rest:
            self._wait(fd, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise _Gone from None

    def _read_reply(self, process: subprocess.Popen[bytes], deadline: float) -> tuple[str, Any]:
        (size,) = HEADER.unpack(self._read(process, HEADER.size, deadline))
        if size > LARGEST_REPLY_BYTES:
            raise _Gone
        try:
            kind, value = pickle.loads(self._read(process, size, deadline))
        except (pickle.UnpicklingError, ValueError, TypeError, EOFError, AttributeError, ImportError, IndexError):
            raise _Gone from None  # a job that overwrote the worker's memory
        return kind, value

    def _read(self, process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
        assert process.stdout is not None
        fd, parts = process.stdout.fileno(), []
        while size:
            self._wait(fd, select.POLLIN, deadline)
            try:
                part = os.read(fd, min(size, 1 << 20))
            except BlockingIOError:
                continue
            if not part:
                raise _Gone
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _wait(self, fd: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(fd, event)
        while not poll.poll(max(0.0, min(deadline - self._clock(), 3600.0)) * 1000):
            if self._clock() >= deadline:
                raise _TooLate

    # ------------------------------------------------------------------ failures

    def _post_mortem(self) -> Failure:
        process = self._process
        assert process is not None
        code = _exit_code(process)
        self.close()
        output = self._last_output()
        lower = output.lower()
        if any(sign in lower for sign in ("bad_alloc", "out of memory", "memoryerror", "cannot allocate memory")):
            return Failure(Status.OUT_OF_MEMORY, f"needs more than {self._limit()}: {output}")
        if code == -signal.SIGKILL:
            error = "was killed by SIGKILL, most likely by the system, because memory ran out"
            return Failure(Status.OUT_OF_MEMORY, error, killed=True)
        if code is not None and code < 0:
            what = f"was killed by {signal.Signals(-code).name}"
        else:
            what = "sent a damaged reply" if code is None else f"ended with exit code {code}"
        return Failure(Status.CRASHED, shorten(f"{what}: {output}" if output else what))

    def _last_output(self) -> str:
        text = b"".join(self._output)[-KEPT_OUTPUT_BYTES:].decode(errors="replace").strip()
        return "\n".join(text.splitlines()[-5:])

    def _limit(self) -> str:
        return f"{self.memory_bytes / 2**30:.1f} GiB" if self.memory_bytes else "the memory of this machine"


def _resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def _signal(process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    if process is not None and process.returncode is None:  # not waited for yet, so the number is still its own
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)  # it leads a session of its own


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """How a worker ended that closed its pipe; None where it lives, and sent nonsense."""
    try:
        return process.wait(1.0)
    except subprocess.TimeoutExpired:
        return None


def _drain(stream: IO[bytes], kept: deque[bytes]) -> None:
    """Read all that a worker prints, keep the end of it."""
    with stream:
        while part := os.read(stream.fileno(), 4096):
            kept.append(part)
