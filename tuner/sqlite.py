"""The log database as one SQLite file, in write-ahead mode.

Several processes may write at once: every record is a transaction of its own, and a writer that finds the file
locked waits. A record that :meth:`SqliteDatabase.add` has returned for survives ``kill -9`` of any process (not, with
``synchronous=NORMAL``, a loss of power; the file stays sound then too). Files of older formats are brought up to date
when they are opened for writing, and read through a copy in memory when they are opened for reading.

Next: :mod:`.sqlite_format` for the tables, :mod:`.sqlite_rows`, :mod:`.sqlite_file` for opening and errors.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from ..errors import LogError
from ..target import Target
from . import sqlite_file, sqlite_format
from .database import Database, hash_of
from .family import family_of
from .model_run import ModelRun
from .outline import Outline, read_outline
from .record import KnownTask, Record, TaskInfo, canonical_json
from .sqlite_rows import COLUMNS, SELECT, record_of, row_of

BUSY_TIMEOUT_S = 20.0
_OUTLINES = (
    "SELECT r.key, t.name, r.target, r.status, r.run_s, r.verified, r.error, r.compile_s, r.luthier_version, "
    "r.llvm_version, r.created_at, r.search, r.seed, r.trial, r.predicted FROM records r JOIN tasks t ON t.key = r.key "
    "ORDER BY r.id"
)
_OK = "r.status = 'ok'"
_VERIFIED = f"{_OK} AND r.verified"


class SqliteDatabase(Database):
    """See :class:`.database.Database`. Use one object in one thread.

    busy_s: how long to wait for a file that another process has locked; default :data:`BUSY_TIMEOUT_S`
    """

    def __init__(
        self, path: str | os.PathLike[str], mode: Literal["r", "w"] = "w", busy_s: float | None = None
    ) -> None:
        if mode not in ("r", "w"):
            raise LogError(f"open_log: mode {mode!r} must be 'r' or 'w'")
        self.path, self.mode = Path(path), mode
        self.busy_s = BUSY_TIMEOUT_S if busy_s is None else busy_s
        self._opened: tuple[int, int] | None = None
        with sqlite_file.OPENING:
            sqlite_file.check_path(self.path, mode)
            with self._errors():
                self._connection = sqlite_file.connect(self.path, mode, self.busy_s)
            try:
                with self._errors():
                    self._prepare()
            except BaseException:
                self._connection.close()
                raise
            self._opened = sqlite_file.identity_of(self.path)
            sqlite_file.note_open(self._opened)
        self._closed = False

    # ------------------------------------------------------------------ writing

    def add(self, record: Record, *, replace: bool = False) -> bool:
        with self._writing():
            return self._add(record, replace)

    def merge(self, records: Iterable[Record], runs: Iterable[ModelRun] = ()) -> int:
        """Add many records and model runs in one transaction: all or, on an error, none."""
        with self._writing():
            changed = sum(self._add(r, False) for r in records)
            for run in runs:
                self._add_model_run(run)
            return changed

    def _add(self, record: Record, replace: bool) -> bool:
        c = self._connection
        if not replace:
            old = self._find(record.identity)
            if old is not None and not record.better_than(old):
                return False
        task = (record.key, record.workload, record.task, family_of(record.workload).signature)
        c.execute("INSERT OR IGNORE INTO tasks (key, workload, name, family) VALUES (?, ?, ?, ?)", task)
        fingerprint = canonical_json(dict(record.target))
        c.execute("INSERT OR IGNORE INTO targets VALUES (?, ?)", (record.target_hash, fingerprint))
        updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[3:])
        c.execute(
            f"INSERT INTO records ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
            f"ON CONFLICT (key, target, decisions_hash) DO UPDATE SET {updates}",
            row_of(record),
        )
        return True

    def add_model_run(self, run: ModelRun) -> bool:
        with self._writing():
            return self._add_model_run(run)

    def _add_model_run(self, run: ModelRun) -> bool:
        values = (run.model, run.target_hash, canonical_json(run.to_json()))
        added = self._connection.execute(
            "INSERT OR IGNORE INTO model_runs (model, target, run) VALUES (?, ?, ?)", values
        )
        return added.rowcount > 0

    def prune(self, keep: int) -> int:
        if keep < 0:
            raise LogError(f"prune: keep={keep} must not be negative")
        with self._writing():
            gone = self._connection.execute(
                "DELETE FROM records WHERE status != 'ok' OR id IN (SELECT id FROM (SELECT id, "
                "row_number() OVER (PARTITION BY key, target ORDER BY verified DESC, best_s) AS place, "
                "verified AND trial = 0 AS is_default, "
                "row_number() OVER (PARTITION BY key, target, space, verified AND trial = 0 ORDER BY best_s) AS nth "
                "FROM records WHERE status = 'ok') WHERE place > ?1 AND NOT (is_default AND nth = 1 AND ?1 > 0))",
                (keep,),
            ).rowcount
        try:
            with self._errors():
                self._connection.execute("VACUUM")
        except LogError as error:
            warnings.warn(f"{error} -- the records are gone, but the file stays as large", RuntimeWarning, stacklevel=2)
        return gone

    def close(self) -> None:
        with self._errors():
            self._connection.close()
        if not self._closed:
            self._closed = True
            sqlite_file.note_closed(self._opened)

    # ------------------------------------------------------------------ reading

    def records(self, key: str | None = None, target: Target | str | None = None) -> Iterator[Record]:
        where, values = self._filter(key, target)
        with self._errors():
            # one statement sees one moment of the log, however many others write
            for row in self._connection.execute(f"{SELECT} WHERE {where} ORDER BY r.id", values).fetchall():
                yield record_of(row)

    def outlines(self) -> Iterator[Outline]:
        with self._errors():
            yield from map(read_outline, self._connection.execute(_OUTLINES).fetchall())

    def ranked(
        self, key: str, target: Target | str, space: str | None = None, *, verified: bool = True
    ) -> Iterator[Record]:
        where, values = self._filter(key, target)
        good = _VERIFIED if verified else _OK
        if space is not None:
            where, values = f"{where} AND r.space = ?", [*values, space]
        with self._errors():
            # the rows are read one by one, most callers want the first; their order is that of one moment
            query = f"SELECT r.id FROM records r WHERE {where} AND {good} ORDER BY r.best_s, r.id"
            for (number,) in self._connection.execute(query, values).fetchall():
                row = self._connection.execute(f"{SELECT} WHERE r.id = ?", (number,)).fetchone()
                if row is not None:
                    yield record_of(row)

    def targets(self, key: str) -> list[dict[str, Any]]:
        query = "SELECT fingerprint FROM targets WHERE hash IN (SELECT target FROM records WHERE key = ?) ORDER BY hash"
        with self._errors():
            return [json.loads(row[0]) for row in self._connection.execute(query, (key,)).fetchall()]

    def family(self, family: str) -> list[KnownTask]:
        query = (
            "SELECT t.key, t.name, t.workload FROM tasks t JOIN records r ON r.key = t.key "
            "WHERE t.family = ? GROUP BY t.key ORDER BY min(r.id)"
        )
        with self._errors():
            return [KnownTask(*row) for row in self._connection.execute(query, (family,)).fetchall()]

    def model_runs(self, model: str | None = None, target: Target | str | None = None) -> list[ModelRun]:
        query = (
            "SELECT run FROM model_runs WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR target = ?2) ORDER BY id"
        )
        values = (model, None if target is None else hash_of(target))
        with self._errors():
            return [
                ModelRun.from_json(json.loads(row[0])) for row in self._connection.execute(query, values).fetchall()
            ]

    def find(self, key: str, target: Target | str, decisions_hash: str) -> Record | None:
        with self._errors():
            return self._find((key, hash_of(target), decisions_hash))

    def _find(self, identity: tuple[str, str, str]) -> Record | None:
        query = f"{SELECT} WHERE r.key = ? AND r.target = ? AND r.decisions_hash = ?"
        row = self._connection.execute(query, identity).fetchone()
        return None if row is None else record_of(row)

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

    # ------------------------------------------------------------------ opening

    def _prepare(self) -> None:
        """Make a new file a log, or bring an old one up to date; refuse what is neither."""
        c = self._connection
        if self.mode == "w" and sqlite_format.is_empty(c):
            self._patiently(lambda: c.execute("PRAGMA journal_mode = WAL"))
            with self._transaction():
                if sqlite_format.is_empty(c):  # else another process was faster
                    sqlite_format.create(c)
        elif sqlite_format.is_empty(c):
            raise LogError(f"log {self.path}: it is empty; tune first, or correct the path")
        if c.execute("PRAGMA application_id").fetchone()[0] != sqlite_format.APPLICATION_ID:
            raise LogError(f"log {self.path}: this is a database of another program; give another path")
        version = sqlite_format.version_of(c)
        if version > sqlite_format.FORMAT_VERSION:
            raise LogError(
                f"log {self.path}: it has format {version}, this Luthier reads up to "
                f"{sqlite_format.FORMAT_VERSION}; update Luthier"
            )
        if not sqlite_format.is_current(c):
            if self.mode == "r":
                c = self._connection = sqlite_file.copy_in_memory(c)
            with self._transaction():
                sqlite_format.migrate(c)

    def _patiently(self, action: Callable[[], object]) -> None:
        """Do what SQLite refuses without waiting where two processes try at once, such as changing the journal mode."""
        deadline = time.monotonic() + self.busy_s
        while True:
            try:
                action()
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
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self.mode == "r":
            raise LogError(f"log {self.path}: it was opened for reading; open it with mode='w' to change it")
        sqlite_file.check_same_file(self.path, self._opened)
        with self._errors(), self._transaction():
            yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as e:
            sqlite_file.explain(self.path, e, self.busy_s)
        except ValueError as e:
            raise LogError(f"log {self.path}: a record is damaged ({e}); restore a copy, or delete the file") from e
