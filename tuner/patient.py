"""A log for writers that must not stop: where its file cannot be written, records wait in memory and follow later.

    with open_patiently("net.tuning.db") as log:
        tune(tasks, log=log, ...)

What can go wrong while a session runs: another process keeps the file locked, the disk fills up, the file is damaged,
deleted or replaced by another one. A warning says so once; every few seconds an attempt is made to write what waits.
What cannot be written even when the log is closed goes to an exported file beside it (or in the folder for temporary
files), which ``luthier log import`` takes.
"""

from __future__ import annotations

import os
import shlex
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import LogError, LogUnavailableError
from ..target import Target
from .database import Database, MemoryDatabase, open_log
from .exchange import export_records
from .interrupts import shielded
from .model_run import ModelRun
from .record import KnownTask, Record, TaskInfo
from .sqlite_file import LOCKED

BUSY_S = 2.0
RETRY_S = 5.0
LAST_S = 20.0


def open_patiently(path: str | os.PathLike[str]) -> PatientLog:
    """Open a log file for a session.

    Raises LogError as :func:`.database.open_log` does, and where it cannot be written now: before the session starts
    there is nothing to lose.
    """
    with open_log(path) as log:  # with the usual patience
        log.merge([])
    return PatientLog(path)


class PatientLog(Database):
    """See :class:`.database.Database`; :attr:`waiting` is the number of records and runs that are not in the file yet.

    busy_s    how long each attempt waits for a lock
    retry_s   time between attempts
    last_s    how long :meth:`close` goes on trying where the file is locked
    """

    def __init__(
        self, path: str | os.PathLike[str], *, busy_s: float = BUSY_S, retry_s: float = RETRY_S, last_s: float = LAST_S
    ) -> None:
        self.path = Path(path)
        self._file = open_log(path, busy_s=busy_s)
        self._retry_s, self._last_s = retry_s, last_s
        self._next_try = 0.0
        self._queue: list[tuple[Record | ModelRun, bool]] = []
        self._trouble = ""
        self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def add(self, record: Record, *, replace: bool = False) -> bool:
        if not self._queue:
            try:
                return self._file.add(record, replace=replace)
            except LogUnavailableError as error:
                self._warn(error)
        self._queue.append((record, replace))
        self._flush()
        return True

    def add_model_run(self, run: ModelRun) -> bool:
        if not self._queue:
            try:
                return self._file.add_model_run(run)
            except LogUnavailableError as error:
                self._warn(error)
        self._queue.append((run, False))
        self._flush()
        return True

    def records(self, key: str | None = None, target: Target | str | None = None) -> Iterator[Record]:
        return self._whole(key, target).records(key, target)

    def ranked(
        self, key: str, target: Target | str, space: str | None = None, *, verified: bool = True
    ) -> Iterator[Record]:
        return self._whole(key, target).ranked(key, target, space, verified=verified)

    def targets(self, key: str) -> list[dict[str, Any]]:
        return self._whole(key).targets(key)

    def family(self, family: str) -> list[KnownTask]:
        return self._whole().family(family)

    def model_runs(self, model: str | None = None, target: Target | str | None = None) -> list[ModelRun]:
        return self._whole().model_runs(model, target)

    def find(self, key: str, target: Target | str, decisions_hash: str) -> Record | None:
        return self._whole(key, target).find(key, target, decisions_hash)

    def identities(self, key: str, target: Target | str) -> set[str]:
        return self._whole(key, target).identities(key, target)

    def tasks(self) -> list[TaskInfo]:
        return self._whole().tasks()

    def prune(self, keep: int) -> int:
        self._flush(at_once=True)
        if self._queue:
            raise LogError(f"log {self.path}: {self.waiting} records wait to be written; prune it when they are")
        return self._file.prune(keep)

    def close(self) -> None:
        """Write what waits, to the file or else to a rescue file, of which a warning gives the name.

        Raises LogError only where neither was possible.
        """
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + self._last_s
        try:
            self._flush(at_once=True)
            while self._queue and LOCKED in self._trouble and time.monotonic() < deadline:
                time.sleep(0.05)
                self._flush(at_once=True)
        finally:  # Ctrl-C ends the waiting, not what it was for
            with shielded():
                try:
                    if self._queue:
                        self._rescue()
                finally:
                    self._file.close()

    def _whole(self, key: str | None = None, target: Target | str | None = None) -> Database:
        """The file, or what it would be if all that waits were in it."""
        if not self._queue:
            return self._file
        both = MemoryDatabase()
        both.merge(self._file.records(key, target), self._file.model_runs())
        for entry, replace in self._queue:
            _put(both, entry, replace)
        return both

    def _flush(self, *, at_once: bool = False) -> None:
        if not at_once and time.monotonic() < self._next_try:
            return
        done = 0
        try:
            for entry, replace in self._queue:
                _put(self._file, entry, replace)
                done += 1
        except LogUnavailableError as error:
            self._trouble = str(error)
            self._next_try = time.monotonic() + self._retry_s
        finally:
            del self._queue[:done]

    def _warn(self, error: LogError) -> None:
        self._trouble = str(error)
        self._next_try = time.monotonic() + self._retry_s
        warnings.warn(f"{error} -- until then records are kept in memory", RuntimeWarning, stacklevel=3)

    def _rescue(self) -> None:
        kept = MemoryDatabase()
        # a file that was deleted or replaced is still there for those who have it open
        with suppress(LogError):
            kept.merge(self._file.records())
        with suppress(LogError):
            kept.merge((), self._file.model_runs())
        for entry, replace in self._queue:
            _put(kept, entry, replace)
        for folder in (self.path.parent, Path(tempfile.gettempdir())):
            target = _unused(folder, f"{self.path.name}.rescued-{os.getpid()}")
            try:
                written = export_records(kept, target)
            except LogError:
                continue
            warnings.warn(
                f"{self._trouble} -- it could not be written; its {written} records are in {target}: "
                f"luthier log import {shlex.quote(str(self.path))} {shlex.quote(str(target))}",
                RuntimeWarning,
                stacklevel=3,
            )
            return
        raise LogError(
            f"log {self.path}: {self.waiting} records could be written neither there nor to a file beside it nor in "
            f"{tempfile.gettempdir()}, and are lost; free some space and tune again"
        )


def _unused(folder: Path, name: str) -> Path:
    """A path for a new ``.jsonl`` file: a process may rescue several sessions, and its number may come again."""
    paths = (folder / f"{name}{f'-{n}' if n else ''}.jsonl" for n in count())
    return next(path for path in paths if not path.exists())


def _put(log: Database, entry: Record | ModelRun, replace: bool) -> None:
    if isinstance(entry, Record):
        log.add(entry, replace=replace)
    else:
        log.add_model_run(entry)
