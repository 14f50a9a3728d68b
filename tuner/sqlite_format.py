"""The tables of a log file, by format number (SQLite's ``user_version``), and the way from older formats to this one.

1  records, tasks, targets
2  records have ``predicted``, ``noise``, ``cold`` and ``worker``; tasks have their operator family, for the nearest
   shapes; ``model_runs``; a machine's identity no longer holds the cores that a process was allowed to use, so that
   records which differed in nothing else have become one (:meth:`.record.Record.better_than` says which)

A migration is one transaction: it happens as a whole or, on any error, not at all.
"""

from __future__ import annotations

import json
import sqlite3

from ..target import machine_identity
from .family import FAMILY_VERSION, family_of
from .record import canonical_json, fingerprint_hash, relative_spread
from .sqlite_rows import SELECT, record_of

FORMAT_VERSION = 2
APPLICATION_ID = 0x4C555448  # "LUTH"; `file` shows it, and it tells our files from other programs' databases

_SCHEMA = """
CREATE TABLE tasks (
    key TEXT PRIMARY KEY, workload TEXT NOT NULL, name TEXT NOT NULL, family TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE targets (hash TEXT PRIMARY KEY, fingerprint TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL REFERENCES tasks, target TEXT NOT NULL REFERENCES targets, decisions_hash TEXT NOT NULL,
    space TEXT NOT NULL, decisions TEXT NOT NULL, trace TEXT,
    status TEXT NOT NULL, verified INTEGER NOT NULL, best_s REAL, median_s REAL, run_s TEXT NOT NULL,
    error TEXT NOT NULL, compile_s REAL NOT NULL, luthier_version TEXT NOT NULL, llvm_version TEXT NOT NULL,
    created_at REAL NOT NULL, search TEXT NOT NULL, seed INTEGER NOT NULL, trial INTEGER NOT NULL,
    predicted REAL, noise REAL NOT NULL DEFAULT 0, cold INTEGER NOT NULL DEFAULT 0, worker TEXT NOT NULL DEFAULT '',
    UNIQUE (key, target, decisions_hash)
);
CREATE INDEX by_time ON records (key, target, best_s);
"""
_ADDED_IN_2 = """
CREATE INDEX by_family ON tasks (family);
CREATE TABLE model_runs (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, target TEXT NOT NULL, run TEXT NOT NULL UNIQUE
);
"""
_FROM_1 = """
ALTER TABLE tasks ADD COLUMN family TEXT NOT NULL DEFAULT '';
ALTER TABLE records ADD COLUMN predicted REAL;
ALTER TABLE records ADD COLUMN noise REAL NOT NULL DEFAULT 0;
ALTER TABLE records ADD COLUMN cold INTEGER NOT NULL DEFAULT 0;
ALTER TABLE records ADD COLUMN worker TEXT NOT NULL DEFAULT '';
"""


def is_empty(c: sqlite3.Connection) -> bool:
    """Whether nobody has made a database of the file yet."""
    return not c.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] and not any(
        c.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
    )


def version_of(c: sqlite3.Connection) -> int:
    """The file's format number."""
    return int(c.execute("PRAGMA user_version").fetchone()[0])


def create(c: sqlite3.Connection) -> None:
    """Make the tables of an empty file; call it within a transaction."""
    _run(c, _SCHEMA + _ADDED_IN_2)
    c.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    c.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def is_current(c: sqlite3.Connection) -> bool:
    """Whether :func:`migrate` has nothing to do."""
    if version_of(c) != FORMAT_VERSION:
        return False
    query = "SELECT 1 FROM tasks WHERE family NOT LIKE ? LIMIT 1"
    return c.execute(query, (f"{FAMILY_VERSION}%",)).fetchone() is None


def migrate(c: sqlite3.Connection) -> None:
    """Bring an older file to this format; call it within a transaction.

    Raises LogError or ValueError where a record cannot be read, and sqlite3.Error.
    """
    if version_of(c) < 2:
        _run(c, _FROM_1 + _ADDED_IN_2)
        for number, run_s in c.execute("SELECT id, run_s FROM records WHERE status = 'ok'").fetchall():
            c.execute("UPDATE records SET noise = ? WHERE id = ?", (relative_spread(json.loads(run_s)), number))
        _merge_machines(c)
        c.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    outdated = "SELECT key, workload FROM tasks WHERE family NOT LIKE ?"
    for key, workload in c.execute(outdated, (f"{FAMILY_VERSION}%",)).fetchall():
        c.execute("UPDATE tasks SET family = ? WHERE key = ?", (family_of(workload).signature, key))


def _merge_machines(c: sqlite3.Connection) -> None:
    """Store targets under what identifies a machine now; where two become one, settle what both have measured."""
    for old, text in c.execute("SELECT hash, fingerprint FROM targets ORDER BY hash").fetchall():
        identity = machine_identity(json.loads(text))
        new = fingerprint_hash(identity)
        if new == old:
            continue
        c.execute("INSERT OR IGNORE INTO targets VALUES (?, ?)", (new, canonical_json(identity)))
        both = (
            "SELECT a.id, b.id FROM records a JOIN records b USING (key, decisions_hash) "
            "WHERE a.target = ? AND b.target = ?"
        )
        for mine, theirs in c.execute(both, (old, new)).fetchall():
            a, b = (record_of(c.execute(f"{SELECT} WHERE r.id = ?", (i,)).fetchone()) for i in (mine, theirs))
            c.execute("DELETE FROM records WHERE id = ?", (theirs if a.better_than(b) else mine,))
        c.execute("UPDATE records SET target = ? WHERE target = ?", (new, old))
        c.execute("DELETE FROM targets WHERE hash = ?", (old,))


def _run(c: sqlite3.Connection, statements: str) -> None:
    for statement in filter(str.strip, statements.split(";")):
        c.execute(statement)
