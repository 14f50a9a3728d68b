"""Opening a log file, and what can go wrong with it: every error of SQLite becomes a LogError that says what to do.

A process must not open and close the file by other means than SQLite while it has it open: POSIX would then drop the
locks that SQLite holds on it, and the last other process to leave would take the write-ahead log away under our feet.
Hence :data:`OPENING` and the list of files that are open.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
from collections import Counter
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import quote

from ..errors import LogError, LogUnavailableError

Mode = Literal["r", "w"]
LOCKED = "another process has kept it locked"
OPENING = threading.RLock()
"""Held while a file is looked into and opened."""
_open: Counter[tuple[int, int]] = Counter()


def check_path(path: Path, mode: Mode) -> None:
    """Refuse a path at which there can be no log, before SQLite touches it."""
    if path.is_dir():
        raise LogError(f"log {path}: this is a directory; give the path of a file")
    if not path.parent.is_dir():
        raise LogError(f"log {path}: the directory {path.parent} does not exist; create it first")
    if not path.exists():
        if mode == "r":
            raise LogError(f"log {path}: there is no such file; tune first, or correct the path")
        return
    _check_header(path)


def connect(path: Path, mode: Mode, busy_s: float) -> sqlite3.Connection:
    """Open the file; a reader never changes it."""
    if mode == "w":
        connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, timeout=busy_s, isolation_level=None, uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return connection
    except sqlite3.OperationalError:
        connection.close()
        if Path(f"{path}-wal").exists():
            raise
        # A log on a read-only disk: without room for a -shm file SQLite reads it only if nobody can write.
        return sqlite3.connect(f"{uri}&immutable=1", isolation_level=None, uri=True)


def copy_in_memory(source: sqlite3.Connection) -> sqlite3.Connection:
    """The whole database as one in memory, and ``source`` closed."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        source.backup(copy)
    except BaseException:
        copy.close()
        raise
    finally:
        source.close()
    return copy


def is_sqlite(path: Path) -> bool:
    """Whether the file at ``path`` is a database. Raises OSError where it cannot be read."""
    with OPENING:
        if _open[identity_of(path) or (-1, -1)]:
            return True
        with path.open("rb") as f:
            return f.read(16) == b"SQLite format 3\0"


def note_open(identity: tuple[int, int] | None) -> None:
    """Remember that this process has a file open; call it with :data:`OPENING` held."""
    if identity is not None:
        _open[identity] += 1


def note_closed(identity: tuple[int, int] | None) -> None:
    """Undo :func:`note_open`."""
    with OPENING:
        if identity is not None:
            _open[identity] -= 1
            if not _open[identity]:
                del _open[identity]


def identity_of(path: Path) -> tuple[int, int] | None:
    """What tells this file from another one at the same path; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def check_same_file(path: Path, opened: tuple[int, int] | None) -> None:
    """Refuse to go on where the path no longer leads to the file that was opened: what is written there is lost.

    Raises LogUnavailableError.
    """
    try:
        now = identity_of(path)
    except OSError as e:
        raise LogUnavailableError(f"log {path}: it can no longer be reached ({e.strerror}); check its disk") from None
    if now != opened:
        what = "deleted" if now is None else "replaced by another file"
        raise LogUnavailableError(
            f"log {path}: it was {what} while it was open; nothing more is written to it: put it back, or start again"
        )


def explain(path: str | os.PathLike[str], error: sqlite3.Error, busy_s: float) -> NoReturn:
    """Raise the LogError that stands for an error of SQLite: LogUnavailableError where trying later may succeed."""
    text = str(error).lower()
    for sign, (advice, passing) in _ADVICE.items():
        if sign in text:
            kind = LogUnavailableError if passing else LogError
            raise kind(f"log {path}: {advice.format(busy_s=busy_s)}") from error
    raise LogError(f"log {path}: SQLite says: {error}") from error


def _check_header(path: Path) -> None:
    """Tell a file of something else, or half a file."""
    if _open[identity_of(path) or (-1, -1)]:
        return  # it was looked at when it was opened first
    try:
        with path.open("rb") as f:
            head = f.read(100)
    except OSError as e:
        raise LogError(f"log {path}: cannot be read: {e.strerror}; check its permissions") from None
    if not head:
        return  # an empty file becomes a new log, as for SQLite
    if not head.startswith(b"SQLite format 3\0"):
        raise LogError(f"log {path}: this file is not a Luthier log; give another path")
    if len(head) == 100 and not _size(Path(f"{path}-wal")):
        page_bytes, pages = struct.unpack(">H", head[16:18])[0], struct.unpack(">I", head[28:32])[0]
        expected = (65536 if page_bytes == 1 else page_bytes) * pages
        if path.stat().st_size >= expected:
            return
    elif len(head) == 100:
        return
    raise LogError(f"log {path}: the file is truncated; restore a copy, or delete it and tune again")


def _size(path: Path) -> int:
    """In bytes; 0 where there is no such file, as when the last writer has just left."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


_ADVICE = {  # what SQLite says: what to do, and whether the trouble may pass while the program runs
    "locked": (
        LOCKED + " for {busy_s:.0f} s; wait for it to end, or use another log", True
    ),
    "readonly": ("the file or its directory is read-only; make both writable, or copy the log", True),
    "disk is full": ("the disk is full; free some space and start again, nothing recorded is lost", True),
    "disk i/o error": (
        "the disk reports an I/O error (no space, a file size limit, or a defect); check it, then try again or "
        "restore a copy of the log", True
    ),
    "malformed": ("the file is damaged; restore a copy, or save what is left with `sqlite3 FILE .recover`", True),
    "not a database": ("this file is not a Luthier log; give another path", True),
    "no such table": (
        "the file is damaged (a table is missing); restore a copy, or delete it and tune again", True
    ),
    "no such column": (
        "the file is damaged (a column is missing); restore a copy, or delete it and tune again", True
    ),
    "unable to open": ("it cannot be opened; check that the file and its directory can be read and written", True),
    "closed database": ("it was closed already; open it again", False),
}  # fmt: skip
