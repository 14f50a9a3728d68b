"""The log database as one SQLite file, in write-ahead mode.

Several processes may write at once: every record is a transaction of its own, and a writer that finds the file
locked waits. A record that :meth:`SqliteDatabase.add` has returned for survives ``kill -9`` of any process (not, with
``synchronous=NORMAL``, a loss of power; the file stays sound then too). The format number is SQLite's ``user_version``.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import quote

from ..errors import LogError
from ..target import Target
from .database import Database, hash_of
from .record import Record, TaskInfo, canonical_json, shorten

FORMAT_VERSION = 1
APPLICATION_ID = 0x4C555448  # "LUTH"; `file` shows it, and it tells our files from other programs' databases
BUSY_TIMEOUT_S = 20.0

_SCHEMA = """
CREATE TABLE tasks (key TEXT PRIMARY KEY, workload TEXT NOT NULL, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE targets (hash TEXT PRIMARY KEY, fingerprint TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL REFERENCES tasks, target TEXT NOT NULL REFERENCES targets, decisions_hash TEXT NOT NULL,
    space TEXT NOT NULL, decisions TEXT NOT NULL, trace TEXT,
    status TEXT NOT NULL, verified INTEGER NOT NULL, best_s REAL, median_s REAL, run_s TEXT NOT NULL,
    error TEXT NOT NULL, compile_s REAL NOT NULL, luthier_version TEXT NOT NULL, llvm_version TEXT NOT NULL,
    created_at REAL NOT NULL, search TEXT NOT NULL, seed INTEGER NOT NULL, trial INTEGER NOT NULL,
    UNIQUE (key, target, decisions_hash)
);
CREATE INDEX by_time ON records (key, target, best_s);
"""

_COLUMNS = (
    "key, target, decisions_hash, space, decisions, trace, status, verified, best_s, median_s, run_s, error, "
    "compile_s, luthier_version, llvm_version, created_at, search, seed, trial"
)
_SELECT = (
    "SELECT r.key, t.workload, t.name, g.fingerprint, r.decisions, r.status, r.run_s, r.verified, r.trace, r.space, "
    "r.error, r.compile_s, r.luthier_version, r.llvm_version, r.created_at, r.search, r.seed, r.trial "
    "FROM records r JOIN tasks t ON t.key = r.key JOIN targets g ON g.hash = r.target "
)
_GOOD = "r.status = 'ok' AND r.verified"


class SqliteDatabase(Database):
    """See :class:`.database.Database`. Use one object in one thread."""

    def __init__(self, path: str | os.PathLike[str], mode: Literal["r", "w"] = "w") -> None:
        if mode not in ("r", "w"):
            raise LogError(f"open_log: mode {mode!r} must be 'r' or 'w'")
        self.path, self.mode = Path(path), mode
        self._check_path()
        with self._errors():
            self._connection = self._connect()
        try:
            with self._errors():
                self._check_format()
        except BaseException:
            self._connection.close()
            raise

    # ------------------------------------------------------------------ writing

    def add(self, record: Record, *, replace: bool = False) -> bool:
        self._check_writable()
        with self._errors(), self._transaction():
            return self._add(record, replace)

    def merge(self, records: Iterable[Record]) -> int:
        """Add many records in one transaction: all or, on an error, none."""
        self._check_writable()
        with self._errors(), self._transaction():
            return sum(self._add(r, False) for r in records)

    def _add(self, record: Record, replace: bool) -> bool:
        c = self._connection
        if not replace:
            rows = c.execute(
                _SELECT + "WHERE r.key = ? AND r.target = ? AND r.decisions_hash = ?", record.identity
            ).fetchall()
            if rows and not record.better_than(self._record(rows[0])):
                return False
        c.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?, ?)", (record.key, record.workload, record.task))
        fingerprint = canonical_json(dict(record.target))
        c.execute("INSERT OR IGNORE INTO targets VALUES (?, ?)", (record.target_hash, fingerprint))
        timed = record.ok and record.run_s
        values = (
            *record.identity,
            record.space,
            canonical_json(record.decisions),
            None if record.trace is None else json.dumps(record.trace, separators=(",", ":")),
            record.status.value,
            int(record.verified),
            record.best_s if timed else None,
            record.median_s if timed else None,
            json.dumps(list(record.run_s)),
            shorten(record.error),
            record.compile_s,
            record.luthier_version,
            record.llvm_version,
            record.created_at,
            record.search,
            record.seed,
            record.trial,
        )
        updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[3:])
        c.execute(
            f"INSERT INTO records ({_COLUMNS}) VALUES ({', '.join('?' * len(values))}) "
            f"ON CONFLICT (key, target, decisions_hash) DO UPDATE SET {updates}",
            values,
        )
        return True

    def prune(self, keep: int) -> int:
        if keep < 0:
            raise LogError(f"prune: keep={keep} must not be negative")
        self._check_writable()
        with self._errors():
            with self._transaction():
                gone = self._connection.execute(
                    "DELETE FROM records WHERE status != 'ok' OR id IN (SELECT id FROM (SELECT id, row_number() "
                    "OVER (PARTITION BY key, target ORDER BY verified DESC, best_s) AS place "
                    "FROM records WHERE status = 'ok') WHERE place > ?)",
                    (keep,),
                ).rowcount
            self._connection.execute("VACUUM")
        return gone

    def close(self) -> None:
        with self._errors():
            self._connection.close()

    # ------------------------------------------------------------------ reading

    def records(self, key: str | None = None, target: Target | str | None = None) -> Iterator[Record]:
        where, values = self._filter(key, target)
        with self._errors():
            # one statement sees one moment of the log, however many others write
            for row in self._connection.execute(f"{_SELECT} WHERE {where} ORDER BY r.id", values).fetchall():
                yield self._record(row)

    def best(self, key: str, target: Target | str, space: str | None = None) -> Record | None:
        where, values = self._filter(key, target)
        if space is not None:
            where, values = f"{where} AND r.space = ?", [*values, space]
        with self._errors():
            query = f"{_SELECT} WHERE {where} AND {_GOOD} ORDER BY r.best_s LIMIT 1"
            row = self._connection.execute(query, values).fetchone()
            return None if row is None else self._record(row)

    def has(self, key: str, target: Target | str, decisions_hash: str) -> bool:
        with self._errors():
            query = "SELECT 1 FROM records WHERE key = ? AND target = ? AND decisions_hash = ?"
            return self._connection.execute(query, (key, hash_of(target), decisions_hash)).fetchone() is not None

    def identities(self, key: str, target: Target | str) -> set[str]:
        with self._errors():
            query = "SELECT decisions_hash FROM records WHERE key = ? AND target = ?"
            return {row[0] for row in self._connection.execute(query, (key, hash_of(target)))}

    def tasks(self) -> list[TaskInfo]:
        query = (
            "SELECT r.key, t.name, r.target, r.status, count(*), "
            "min(CASE WHEN r.verified THEN r.best_s END), min(r.id) AS first "
            "FROM records r JOIN tasks t ON t.key = r.key GROUP BY r.key, r.target, r.status ORDER BY first"
        )
        groups: dict[tuple[str, str], tuple[str, dict[str, int]]] = {}
        with self._errors():
            for key, name, target, status, count, _, _ in self._connection.execute(query):
                groups.setdefault((key, target), (name, {}))[1][status] = count
            infos = []
            for (key, target), (name, statuses) in groups.items():
                best = self.best(key, target)
                times = (best.best_s, best.median_s) if best else (float("inf"), float("inf"))
                count = sum(statuses.values())
                infos.append(TaskInfo(key, name, target, count, statuses.get("ok", 0), *times, statuses))
        return infos

    @staticmethod
    def _filter(key: str | None, target: Target | str | None) -> tuple[str, list[Any]]:
        parts: list[str] = ["1"]
        values: list[Any] = []
        if key is not None:
            parts, values = [*parts, "r.key = ?"], [*values, key]
        if target is not None:
            parts, values = [*parts, "r.target = ?"], [*values, hash_of(target)]
        return " AND ".join(parts), values

    @staticmethod
    def _record(row: tuple[Any, ...]) -> Record:
        (key, workload, name, target, decisions, status, run_s, verified, trace, *rest) = row
        space, error, compile_s, luthier_version, llvm_version, created_at, search, seed, trial = rest
        return Record.from_json(
            {
                "key": key,
                "workload": workload,
                "task": name,
                "target": json.loads(target),
                "decisions": json.loads(decisions),
                "status": status,
                "run_s": json.loads(run_s),
                "verified": bool(verified),
                "trace": None if trace is None else json.loads(trace),
                "space": space,
                "error": error,
                "compile_s": compile_s,
                "luthier_version": luthier_version,
                "llvm_version": llvm_version,
                "created_at": created_at,
                "search": search,
                "seed": seed,
                "trial": trial,
            }
        )

    # ------------------------------------------------------------------ opening

    def _check_path(self) -> None:
        if self.path.is_dir():
            raise LogError(f"log {self.path}: this is a directory; give the path of a file")
        if not self.path.parent.is_dir():
            raise LogError(f"log {self.path}: the directory {self.path.parent} does not exist; create it first")
        if not self.path.exists():
            if self.mode == "r":
                raise LogError(f"log {self.path}: there is no such file; tune first, or correct the path")
            return
        self._check_header()

    def _check_header(self) -> None:
        """Tell a file of something else, or half a file, before SQLite touches it."""
        try:
            with self.path.open("rb") as f:
                head = f.read(100)
        except OSError as e:
            raise LogError(f"log {self.path}: cannot be read: {e.strerror}; check its permissions") from None
        if not head:
            return  # an empty file becomes a new log, as for SQLite
        if not head.startswith(b"SQLite format 3\0"):
            raise LogError(f"log {self.path}: this file is not a Luthier log; give another path")
        wal = Path(f"{self.path}-wal")
        if len(head) == 100 and not (wal.exists() and wal.stat().st_size):
            page_bytes, pages = struct.unpack(">H", head[16:18])[0], struct.unpack(">I", head[28:32])[0]
            expected = (65536 if page_bytes == 1 else page_bytes) * pages
            if self.path.stat().st_size >= expected:
                return
        elif len(head) == 100:
            return
        raise LogError(f"log {self.path}: the file is truncated; restore a copy, or delete it and tune again")

    def _connect(self) -> sqlite3.Connection:
        if self.mode == "w":
            return self._prepared(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None))
        uri = f"file:{quote(str(self.path.absolute()))}?mode=ro"
        connection = sqlite3.connect(uri, timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=True)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return connection
        except sqlite3.OperationalError:
            connection.close()
            if Path(f"{self.path}-wal").exists():
                raise
            # A log on a read-only disk: without room for a -shm file SQLite reads it only if nobody can write.
            return sqlite3.connect(f"{uri}&immutable=1", isolation_level=None, uri=True)

    def _prepared(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _check_format(self) -> None:
        c = self._connection
        if self.mode == "w" and self._is_empty():
            self._create()
        application = c.execute("PRAGMA application_id").fetchone()[0]
        version = c.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise LogError(f"log {self.path}: this is a database of another program; give another path")
        if version > FORMAT_VERSION:
            raise LogError(
                f"log {self.path}: it has format {version}, this Luthier reads up to {FORMAT_VERSION}; update Luthier"
            )

    def _is_empty(self) -> bool:
        c = self._connection
        return not c.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] and not any(
            c.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
        )

    def _create(self) -> None:
        self._enter_wal_mode()
        with self._transaction():
            if not self._is_empty():
                return  # another process was faster
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")

    def _enter_wal_mode(self) -> None:
        """Change the journal mode. Where two processes try at once SQLite fails one without waiting, so wait here."""
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as e:
                if "locked" not in str(e) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    # ------------------------------------------------------------------ errors

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _check_writable(self) -> None:
        if self.mode == "r":
            raise LogError(f"log {self.path}: it was opened for reading; open it with mode='w' to change it")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as e:
            self._explain(e)
        except ValueError as e:
            raise LogError(f"log {self.path}: a record is damaged ({e}); restore a copy, or delete the file") from e

    def _explain(self, error: sqlite3.Error) -> NoReturn:
        text = str(error).lower()
        for sign, advice in _ADVICE.items():
            if sign in text:
                raise LogError(f"log {self.path}: {advice}") from error
        raise LogError(f"log {self.path}: SQLite says: {error}") from error


_ADVICE = {
    "locked": f"another process has kept it locked for {BUSY_TIMEOUT_S:.0f} s; wait for it to end, or use another log",
    "readonly": "the file or its directory is read-only; make both writable, or copy the log",
    "disk is full": "the disk is full; free some space and start again, nothing recorded is lost",
    "disk i/o error": "the disk reports an I/O error; check the disk, then restore a copy of the log",
    "malformed": "the file is damaged; restore a copy, or save what is left with `sqlite3 FILE .recover`",
    "not a database": "this file is not a Luthier log; give another path",
    "no such table": "the file is damaged (a table is missing); restore a copy, or delete it and tune again",
    "no such column": "the file is damaged (a column is missing); restore a copy, or delete it and tune again",
    "unable to open": "it cannot be opened; check that the file and its directory can be read and written",
    "closed database": "it was closed already; open it again",
}
