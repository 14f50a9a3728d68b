"""A candidate: one point of a task's space, before it is measured."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..schedule.decide import Decisions
from .record import canonical_json, decisions_hash

Features = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A schedule's decisions and trace, with the features that a cost model ranks it by.

    trial      its number within the search of its task; 0 is the default schedule
    predicted  the cost model's score when it was proposed, larger is better; None: it was not asked
    """

    decisions: Decisions
    trace: Mapping[str, Any] | None = None
    space: str = ""
    features: Features | None = field(default=None, repr=False)
    trial: int = 0
    predicted: float | None = None

    def but(self, **changes: Any) -> Candidate:
        """The same schedule with other features, trial or prediction; the hashes that were computed stay."""
        changed = replace(self, **changes)
        changed.__dict__.update({k: v for k, v in self.__dict__.items() if k in ("hash", "schedule_hash")})
        return changed

    @cached_property
    def hash(self) -> str:
        """The part of a record's identity that comes from the schedule."""
        return decisions_hash(self.decisions, self.space)

    @cached_property
    def schedule_hash(self) -> str:
        """Equal for equal schedules, whatever decisions led there; the decisions' own where there is no trace."""
        if self.trace is None:
            return self.hash
        return hashlib.sha256(canonical_json(self.trace).encode()).hexdigest()[:24]
