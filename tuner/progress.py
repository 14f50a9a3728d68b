"""The progress bar of a session, on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from .record import Record
from .scheduler import TaskScheduler


class Progress:
    """Shows time or trials used, the model's estimated time so far, and trials a second."""

    def __init__(self, shown: bool, budget_s: float | None, trials: int | None) -> None:
        self.start = time.monotonic()
        self.by_time = budget_s is not None
        self.count = self.failed = 0
        self._bar: Any = None
        if not shown:
            return
        from tqdm import tqdm

        if budget_s is not None:
            total, style = budget_s, "{l_bar}{bar}| {n:.0f}/{total:.0f} s{postfix}"
        else:
            total, style = float(trials or 0), "{l_bar}{bar}| {n:.0f}/{total:.0f} trials, {remaining} left{postfix}"
        quiet_s = 0.1 if sys.stderr.isatty() else 10.0  # in a file each update is a line
        self._bar = tqdm(total=total, desc="tuning", bar_format=style, dynamic_ncols=True, mininterval=quiet_s)

    def trial(self, scheduler: TaskScheduler, record: Record) -> None:
        """Count one finished trial."""
        self.count += 1
        self.failed += not record.ok
        if self._bar is None:
            return
        elapsed = time.monotonic() - self.start
        values = {
            "model": f"{scheduler.latency_s * 1e3:.3f} ms",
            "trials": str(self.count),
            "trials/s": f"{self.count / max(elapsed, 1e-9):.1f}",
        }
        if self.failed:
            values["failed"] = str(self.failed)
        self._bar.set_postfix(values, refresh=False)
        position = min(elapsed, self._bar.total) if self.by_time else self.count
        self._bar.update(position - self._bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
