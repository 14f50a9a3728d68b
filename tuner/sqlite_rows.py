"""Records as rows of SQLite tables, and back. Next: :mod:`.sqlite_format`, where the tables are made."""

from __future__ import annotations

import json
from typing import Any

from .record import Record, canonical_json, shorten

COLUMNS = (
    "key, target, decisions_hash, space, decisions, trace, status, verified, best_s, median_s, run_s, error, "
    "compile_s, luthier_version, llvm_version, created_at, search, seed, trial, predicted, noise, cold, worker"
).split(", ")
"""The columns of the table ``records`` in the order of :func:`row_of`; the first three are a record's identity."""

_FIELDS = {
    "key": "r.key", "workload": "t.workload", "task": "t.name", "target": "g.fingerprint", "decisions": "r.decisions",
    "status": "r.status", "run_s": "r.run_s", "verified": "r.verified", "trace": "r.trace", "space": "r.space",
    "error": "r.error", "compile_s": "r.compile_s", "luthier_version": "r.luthier_version",
    "llvm_version": "r.llvm_version", "created_at": "r.created_at", "search": "r.search", "seed": "r.seed",
    "trial": "r.trial", "predicted": "r.predicted", "noise": "r.noise", "cold": "r.cold", "worker": "r.worker",
}  # fmt: skip
_JSON = ("target", "decisions", "run_s", "trace")

SELECT = (
    f"SELECT {', '.join(_FIELDS.values())} "
    "FROM records r JOIN tasks t ON t.key = r.key JOIN targets g ON g.hash = r.target "
)
"""A query whose rows :func:`record_of` reads; a WHERE clause may follow it."""


def row_of(record: Record) -> tuple[Any, ...]:
    """The values of :data:`COLUMNS`."""
    timed = record.ok and record.run_s
    return (
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
        record.predicted,
        record.noise,
        int(record.cold),
        record.worker,
    )


def record_of(row: tuple[Any, ...]) -> Record:
    """Read a row of :data:`SELECT`. Raises ValueError or LogError for a damaged one."""
    data = dict(zip(_FIELDS, row, strict=True))
    for name in _JSON:
        data[name] = None if data[name] is None else json.loads(data[name])
    return Record.from_json(data | {"verified": bool(data["verified"]), "cold": bool(data["cold"])})
