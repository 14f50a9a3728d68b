"""Measurements of a whole model: what a tuning session gained in the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

from ..errors import LogError
from ..target import machine_identity
from .record import fingerprint_hash

Kept = Literal["tuned", "default"]


@dataclass(frozen=True)
class ModelRun:
    """One model, measured with default schedules and with those of the log, in turn.

    model       the model's name or file name
    target      :meth:`Target.fingerprint` of the machine
    default_s, tuned_s   latency of one inference, least of the timings
    kept        which of the two the session recommends
    default_noise, tuned_noise   spread of the timings, as :attr:`.record.Record.noise`
    trials, elapsed_s   candidates measured, and seconds spent, in the session
    accuracy    the build's
    created_at  seconds since 1970, UTC
    """

    model: str
    target: Mapping[str, Any]
    default_s: float
    tuned_s: float
    kept: Kept
    default_noise: float = 0.0
    tuned_noise: float = 0.0
    trials: int = 0
    elapsed_s: float = 0.0
    accuracy: str = "fast"
    luthier_version: str = ""
    created_at: float = 0.0

    @cached_property
    def target_hash(self) -> str:
        return fingerprint_hash(self.target)

    @property
    def gain(self) -> float:
        """Default latency over tuned latency."""
        return self.default_s / self.tuned_s

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON data."""
        return asdict(self) | {"target": dict(self.target)}

    @staticmethod
    def from_json(data: object) -> ModelRun:
        """Read one, checking each field; LogError says which one is wrong."""
        if not isinstance(data, dict):
            raise LogError(f"a model run must be a JSON object, not {type(data).__name__}")
        kinds = {"str": str, "Mapping[str, Any]": dict, "float": (int, float), "int": int, "Kept": str}
        values: dict[str, Any] = {}
        for field in fields(ModelRun):
            if field.name not in data:
                if field.name in ("model", "target", "default_s", "tuned_s", "kept"):
                    raise LogError(f"the model run lacks the field {field.name!r}")
                continue
            value = values[field.name] = data[field.name]
            wrong = isinstance(value, bool) or not isinstance(value, kinds[str(field.type)])  # type: ignore[arg-type]
            if wrong or (isinstance(value, float) and not math.isfinite(value)):
                raise LogError(f"field {field.name!r} of a model run is {value!r:.60}; it must be a {field.type}")
        if values["kept"] not in get_args(Kept):
            raise LogError(f"kept {values['kept']!r} is unknown; it must be one of {', '.join(get_args(Kept))}")
        if not (values["default_s"] > 0 and values["tuned_s"] > 0):
            raise LogError("default_s and tuned_s must be positive numbers of seconds")
        return ModelRun(**(values | {"target": machine_identity(values["target"])}))
