"""What a session and the workers of its fleet tell each other. Plain data; both ends run the same luthier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import __version__
from ...codegen.cached import sources_hash
from ...schedule.decide import Decisions
from ...target import Target


@dataclass(frozen=True, slots=True)
class Greeting:
    """How a worker introduces itself.

    name      for people and records: the host, or what ``luthier worker --name`` said
    machine   equal for workers that share a machine, of which only one may measure at a time
    target    what it measures for; its ``threads`` are the most that it can run with
    runs      whether it can run code of the target that it was asked about
    """

    name: str
    machine: str
    target: Target
    runs: bool = True


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """A task, sent to each worker once. data: the pickled workload; own_space: whether candidates come as traces."""

    data: bytes
    name: str
    own_space: bool
    constants_bytes: int


@dataclass(frozen=True, slots=True)
class Order:
    """One candidate to measure; the ticket is the session's number for it.

    trial  its number within the search of its task; 0 is the default schedule
    group  of a comparison: what has the same number is timed in turns, and answered together
    """

    ticket: int
    key: str
    decisions: Decisions
    trace: Mapping[str, Any] | None
    trial: int = 0
    group: int | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One message to a worker: new orders, in return for results.

    engagement  names this use of the worker by this session; it begins with ``target`` and ends when it is released
    target      what to measure for, in the first message of an engagement only
    tasks       those that this worker does not have yet
    drop        whether to forget earlier orders first
    best        best times that were found elsewhere, in seconds, by task
    wait_s      how long to wait for a result
    """

    engagement: str
    target: Target | None = None
    tasks: Mapping[str, RemoteTask] = field(default_factory=dict)
    orders: tuple[Order, ...] = ()
    best: Mapping[str, float] = field(default_factory=dict)
    drop: bool = False
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result: the fields of :class:`..measure.MeasureResult` but for the task and the candidate."""

    ticket: int
    values: Mapping[str, Any]


def _identity() -> str:
    root = Path(__file__).resolve().parents[2]
    sources = sources_hash(tuple(root / name for name in ("te", "schedule", "codegen", "runtime", "tuner")))
    return f"{__version__}, sources {sources[:12]}"


IDENTITY = _identity()
"""What must be equal at both ends: the version, and the sources that make schedules, code and measurements."""
