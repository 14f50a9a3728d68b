"""A tuning record: one candidate schedule of one task on one machine, and what came of measuring it.

Records are data only. Their identity is (task key, target hash, decisions hash); :mod:`.database` keeps one record per
identity, :mod:`.exchange` writes them as JSON lines.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import LogError
from ..target import Target, machine_identity

if TYPE_CHECKING:
    from ..schedule.decide import Decisions

LARGEST_NUMBER = (1 << 63) - 1
"""The largest whole number that a log can hold."""

ERROR_CHARACTERS = 2000
"""Error texts are cut to this length: the log is for schedules, not for compiler dumps."""


class Status(StrEnum):
    """The outcome of a measurement."""

    OK = "ok"
    BUILD_ERROR = "build_error"
    RUN_ERROR = "run_error"
    TIMEOUT = "timeout"
    WRONG_RESULT = "wrong_result"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Record:
    """One measured candidate.

    key         :attr:`Workload.key` of the task; ``workload`` is its canonical text, ``task`` its readable name
    target      :meth:`Target.fingerprint` of the machine
    decisions   what the space chose; ``space`` names a space of the user's own, "" for the ones that ship
    trace       the schedule as :meth:`Schedule.to_json` gives it; None where the schedule could not be made
    run_s       every timing, in seconds per run; empty unless the status is ok
    verified    whether the result was compared with the reference; only verified records can be a task's best
    compile_s   time from decisions to object code
    created_at  seconds since 1970, UTC, by a clock that may have been set meanwhile: for people, never for order
    trial       the candidate's number within its task's search, from 0 (the default schedule)
    predicted   the cost model's score when the candidate was proposed, larger is better; None where there was no model
    noise       spread of the timings: interquartile range over median (:func:`relative_spread`, which fills it in);
                0.05 says that half of the timings lie within 5 %
    cold        whether constants came from memory while it was timed, as in a model whose weights exceed the caches
    worker      name of the machine or process that measured it, "" for this one
    """

    key: str
    workload: str
    task: str
    target: Mapping[str, Any]
    decisions: Decisions
    status: Status
    run_s: tuple[float, ...] = ()
    verified: bool = False
    trace: Mapping[str, Any] | None = None
    space: str = ""
    error: str = ""
    compile_s: float = 0.0
    luthier_version: str = ""
    llvm_version: str = ""
    created_at: float = 0.0
    search: str = ""
    seed: int = 0
    trial: int = 0
    predicted: float | None = None
    noise: float = -1.0
    cold: bool = False
    worker: str = ""

    def __post_init__(self) -> None:
        if self.noise < 0:
            object.__setattr__(self, "noise", relative_spread(self.run_s))

    @cached_property
    def target_hash(self) -> str:
        return fingerprint_hash(self.target)

    @cached_property
    def decisions_hash(self) -> str:
        return decisions_hash(self.decisions, self.space)

    @property
    def identity(self) -> tuple[str, str, str]:
        return (self.key, self.target_hash, self.decisions_hash)

    @property
    def ok(self) -> bool:
        return self.status is Status.OK

    @cached_property
    def best_s(self) -> float:
        """The least timing: what the machine can do when nothing disturbs it; infinity for a failure."""
        return min(self.run_s) if self.ok and self.run_s else math.inf

    @cached_property
    def median_s(self) -> float:
        return statistics.median(self.run_s) if self.ok and self.run_s else math.inf

    @property
    def uncertainty(self) -> float:
        """How far the timings leave the true time open: the noise, at least 1 %, over the root of their number."""
        return max(self.noise, 0.01) / math.sqrt(len(self.run_s)) if self.run_s else math.inf

    def better_than(self, other: Record) -> bool:
        """Whether to keep this one rather than ``other`` of the same identity (two logs, or a re-measurement).

        1. A success before a failure, whatever the failure: another day's crash or time-out may have had other causes.
        2. A verified result before one that was not compared with the reference.
        3. The better founded time: more timings and less noise, that is, less :attr:`uncertainty`. Only its order of
           magnitude (base 2) counts, so that a fourth of the timings, or twice the noise, lose and small
           differences decide nothing.
        4. The shorter time: what disturbs a measurement makes it longer. Among failures, the later one.

        The rule is a total order of contents, so that merging logs in any order and any number of times gives the
        same log.
        """
        return self._order < other._order if self._order != other._order else self._text > other._text

    @cached_property
    def _order(self) -> tuple[Any, ...]:
        """The smaller, the better."""
        founded = round(math.log2(self.uncertainty)) if self.ok and self.run_s else 0
        return (not self.ok, not self.verified, founded, self.best_s, -self.created_at)

    @cached_property
    def _text(self) -> str:
        return canonical_json(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON data."""
        data = {name: getattr(self, name) for name in _FIELDS}
        return data | {"status": self.status.value, "run_s": list(self.run_s), "target": dict(self.target)}

    @staticmethod
    def from_json(data: object) -> Record:
        """Read a record, checking each field; LogError says which one is wrong."""
        if not isinstance(data, dict):
            raise LogError(f"a record must be a JSON object, not {type(data).__name__}")
        for name, kind in _FIELDS.items():
            if name not in data and name in _REQUIRED:
                raise LogError(f"the record lacks the field {name!r}")
            if name in data and (
                not isinstance(data[name], kind) or isinstance(data[name], bool) is not (kind is bool)
            ):
                raise LogError(
                    f"field {name!r} is {data[name]!r:.60}, which is not of the type that a record holds there"
                )
        values = {name: data[name] for name in _FIELDS if name in data}
        try:
            values["status"] = Status(data["status"])
        except ValueError:
            raise LogError(f"status {data['status']!r} is unknown; it must be one of {', '.join(Status)}") from None
        timings = values.get("run_s", ())
        if not all(isinstance(t, (int, float)) and math.isfinite(t) and t > 0 for t in timings):
            raise LogError(f"run_s {timings!r:.60} must hold positive numbers of seconds")
        values["run_s"] = tuple(float(t) for t in timings)
        for name in ("created_at", "compile_s", "predicted", "noise"):
            if not math.isfinite(values.get(name) or 0.0):
                raise LogError(f"field {name!r} is {values[name]!r}; it must be finite")
        for name in ("seed", "trial"):
            if not 0 <= values.get(name, 0) <= LARGEST_NUMBER:
                raise LogError(f"field {name!r} is {values[name]!r}; it must be from 0 to {LARGEST_NUMBER}")
        values["target"] = machine_identity(values["target"])  # format 1 held more of it
        return Record(**values)


_FIELDS: dict[str, Any] = {
    "key": str,
    "workload": str,
    "task": str,
    "target": dict,
    "decisions": dict,
    "status": str,
    "run_s": list,
    "verified": bool,
    "trace": (dict, type(None)),
    "space": str,
    "error": str,
    "compile_s": (int, float),
    "luthier_version": str,
    "llvm_version": str,
    "created_at": (int, float),
    "search": str,
    "seed": int,
    "trial": int,
    "predicted": (int, float, type(None)),
    "noise": (int, float),
    "cold": bool,
    "worker": str,
}
_REQUIRED = ("key", "workload", "task", "target", "decisions", "status")


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What a log holds of one task on one target. Times in seconds; infinity where nothing good was found."""

    key: str
    name: str
    target_hash: str
    records: int
    ok: int
    best_s: float
    median_s: float
    statuses: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownTask:
    """A task that a log has records of, and what it computes (:attr:`Workload.text`)."""

    key: str
    name: str
    workload: str


def relative_spread(run_s: Sequence[float]) -> float:
    """Interquartile range of timings over their median; 1 for a single one, of which nothing is known, 0 for none."""
    if len(run_s) < 2:
        return float(len(run_s))
    low, middle, high = statistics.quantiles(run_s, n=4, method="inclusive")
    return (high - low) / middle


def canonical_json(data: object) -> str:
    """One text for equal data: sorted keys, no spaces. Raises ValueError for NaN and infinity."""
    return _ENCODER.encode(data)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint_hash(fingerprint: Mapping[str, Any]) -> str:
    """Hash of a target's fingerprint, 16 hexadecimal digits."""
    return hashlib.sha256(canonical_json(dict(fingerprint)).encode()).hexdigest()[:16]


def target_hash(target: Target) -> str:
    """The part of a record's identity that comes from the machine."""
    return fingerprint_hash(target.fingerprint())


def decisions_hash(decisions: Decisions, space: str = "") -> str:
    """The part of a record's identity that comes from the schedule, 24 hexadecimal digits."""
    return hashlib.sha256(f"{space}\n{canonical_json(decisions)}".encode()).hexdigest()[:24]


def shorten(text: str, limit: int = ERROR_CHARACTERS) -> str:
    """Keep the start and the end of a long error text; in a compiler's output both can matter."""
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
