"""A record without its schedule: what a report of many trials needs, at a twentieth of the time to read it.

``log.outlines()`` yields them in the order in which the records were added; :mod:`.record` says what the fields mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from .record import Record, Status, relative_spread


class Outline(NamedTuple):
    """One trial.

    run_s, best_s  every timing, and the least; none and infinity for a failure
    predicted      the cost model's score when it was proposed, larger is better; None where there is none
    """

    key: str
    task: str
    target_hash: str
    status: Status
    run_s: tuple[float, ...]
    best_s: float
    verified: bool
    error: str
    compile_s: float
    luthier_version: str
    llvm_version: str
    created_at: float
    search: str
    seed: int
    trial: int
    predicted: float | None

    @property
    def noise(self) -> float:
        """As :attr:`.record.Record.noise`, but NaN where there are fewer than two timings."""
        if len(self.run_s) < 2:
            return math.nan
        return relative_spread(self.run_s)


def read_outline(row: Sequence[Any]) -> Outline:
    """Make one of a database's row, in the order of the fields; ``status`` and ``run_s`` (JSON) are texts.

    Raises ValueError where a value is not of its type: a log may come from anywhere.
    """
    if not _is_plain(tuple(map(type, row))):
        raise ValueError(f"its values are {row!r:.200}")
    key, task, target, status, text, verified, error, compile_s, *rest = row
    run_s = json.loads(text)
    if status not in _STATUS:
        raise ValueError(f"status is {status!r:.60}")
    try:
        sound = type(run_s) is list and (not run_s or (min(run_s) > 0 and math.isfinite(sum(run_s))))
    except TypeError:
        sound = False
    if not sound:
        raise ValueError(f"run_s is {text!r:.60}")
    outcome = _STATUS[status]
    timings = tuple(run_s) if outcome is Status.OK else ()
    found = Outline(
        key, task, target, outcome, timings, min(timings, default=math.inf), bool(verified), error, compile_s, *rest
    )
    if not (math.isfinite(found.created_at) and math.isfinite(found.predicted or 0.0)):
        raise ValueError(f"created_at is {found.created_at}, predicted {found.predicted}; both must be finite")
    return found


_STATUS = {s.value: s for s in Status}
_REAL = (int, float)
_TYPES = (
    (str,),
    (str,),
    (str,),
    (str,),
    (str,),
    (int,),
    (str,),
    _REAL,
    (str,),
    (str,),
    _REAL,
    (str,),
    (int,),
    (int,),
    (*_REAL, type(None)),
)


@cache
def _is_plain(types: tuple[type, ...]) -> bool:
    """Whether a row's values are of the right types; rows of a log are of few kinds."""
    return all(t in allowed for t, allowed in zip(types, _TYPES, strict=True))


def outline(record: Record) -> Outline:
    """Leave the schedule out of a record."""
    return Outline(
        record.key,
        record.task,
        record.target_hash,
        record.status,
        record.run_s if record.ok else (),
        record.best_s,
        record.verified,
        record.error,
        record.compile_s,
        record.luthier_version,
        record.llvm_version,
        record.created_at,
        record.search,
        record.seed,
        record.trial,
        record.predicted,
    )
