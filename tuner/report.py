"""What a tuning session reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .whole_model import ModelTimes

Stop = Literal["budget", "trials", "converged", "exhausted", "interrupted", "lost"]

_REASONS: dict[Stop, str] = {
    "budget": "the time was up",
    "trials": "all trials were made",
    "converged": "more trials would gain too little (--stop-below)",
    "exhausted": "every candidate of every space was measured",
    "interrupted": "it was interrupted",
    "lost": "no worker was left to measure with",
}


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task. Times in seconds, infinity where nothing worked; trials: of this session.

    noise         half of the best schedule's timings lie within this fraction of their median
    kept_default  whether the default schedule stays, since what was found is no faster beyond noise
    """

    name: str
    key: str
    uses: int
    trials: int
    default_s: float
    best_s: float
    gflops: float
    noise: float = 0.0
    kept_default: bool = False

    @property
    def speedup(self) -> float:
        """Default time over best time; 1 where one of them is unknown."""
        known = math.isfinite(self.default_s) and math.isfinite(self.best_s)
        return self.default_s / self.best_s if known else 1.0


@dataclass(frozen=True, slots=True)
class TuneReport:
    """A session. statuses: how many trials ended in each way; stopped: why the session ended.

    model  the whole model's latencies, where they were measured; note: why not, where they were to be
    """

    tasks: tuple[TaskReport, ...]
    trials: int
    elapsed_s: float
    stopped: Stop
    statuses: Mapping[str, int]
    model: ModelTimes | None = None
    note: str = ""

    @property
    def default_s(self) -> float:
        """Estimated time of the model with default schedules (with the best where no default was measured)."""
        return sum(t.uses * (t.default_s if math.isfinite(t.default_s) else t.best_s) for t in self._known())

    @property
    def best_s(self) -> float:
        """Estimated time of the model with the best schedules: the sum of its tasks."""
        return sum(t.uses * t.best_s for t in self._known())

    @property
    def complete(self) -> bool:
        """Whether every task has a schedule that was measured and verified."""
        return len(self._known()) == len(self.tasks)

    def _known(self) -> list[TaskReport]:
        return [t for t in self.tasks if math.isfinite(t.best_s)]

    def __str__(self) -> str:
        width = max([4, *(len(t.name) for t in self.tasks)])
        lines = [f"{'task':<{width}}  uses  trials  default us     best us  speedup  noise  GFLOP/s"]
        for t in sorted(self.tasks, key=lambda t: -t.uses * (t.best_s if math.isfinite(t.best_s) else 0.0)):
            lines.append(
                f"{t.name:<{width}}  {t.uses:4}  {t.trials:6}  {_us(t.default_s)}  {_us(t.best_s)}  {t.speedup:6.2f}x  "
                f"{t.noise:4.0%}  {t.gflops:7.1f}{'  default' * t.kept_default}"
            )
        outcomes = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items()) if count)
        lines.append(
            f"{self.trials} trials in {self.elapsed_s:.0f} s ({outcomes or 'none'}): {_REASONS[self.stopped]}."
        )
        if self._known():
            times = f"{self.default_s * 1e3:.3f} ms by default, {self.best_s * 1e3:.3f} ms tuned"
            lines.append(f"Estimated time of the model: {times}.")
        missing = len(self.tasks) - len(self._known())
        if missing:
            lines.append(f"{missing} of {len(self.tasks)} tasks have no measured schedule; they keep the default one.")
        if self.model is not None:
            lines.append(str(self.model))
        if self.note:
            lines.append(self.note)
        return "\n".join(lines)


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:10.1f}" if math.isfinite(seconds) else f"{'-':>10}"
