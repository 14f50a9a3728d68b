"""Measurements of whole models that a log may hold: the one place that knows how the log gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..tuner.database import Database


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """One model with default schedules and with tuned ones, measured in turn. Times in seconds; kept: which stays."""

    model: str
    default_s: float
    tuned_s: float
    kept: str = ""
    default_noise: float = 0.0
    tuned_noise: float = 0.0
    trials: int = 0
    elapsed_s: float = 0.0
    accuracy: str = ""
    luthier_version: str = ""
    created_at: float = 0.0


def measured_models(log: Database, target_hash: str) -> list[MeasuredModel]:
    """The measurements made on one machine, oldest first; none where the log's format has no place for them."""
    runs: Callable[[], Iterable[Any]] | None = getattr(log, "model_runs", None)
    if runs is None:
        return []
    fields = MeasuredModel.__dataclass_fields__
    return [
        MeasuredModel(**{name: getattr(run, name) for name in fields if hasattr(run, name)})
        for run in runs()
        if run.target_hash == target_hash
    ]
