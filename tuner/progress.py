"""What a session shows while it runs, on standard error.

On a terminal: a line for each task in work, and below them one for the model with what is left of the budget. In a file
or a pipe: a plain line now and then.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any

from .outline import outline
from .record import Record
from .scheduler import TaskProgress, TaskScheduler

MOST_TASKS = 8
"""Lines of tasks on a terminal: those that had a trial last."""
REFRESH_S = 0.1
LINES = 30
"""About how many plain lines a session writes, ..."""
LEAST_INTERVAL_S = 10.0
"""... and how long it waits between two at least."""


class Progress:
    """Counts the trials of a session and shows where it stands; ``shown`` False only counts."""

    def __init__(self, shown: bool, budget_s: float | None, trials: int | None) -> None:
        self.start = time.monotonic()
        self.budget_s, self.trials = budget_s, trials
        self.count = self.failed = 0
        self.noise: dict[str, float] = {}
        self._view: _View | None = None
        if shown:
            self._view = _Terminal(self) if sys.stderr.isatty() else _Lines(self)

    def trial(self, scheduler: TaskScheduler, record: Record) -> None:
        """Count one finished trial."""
        self.count += 1
        self.failed += not record.ok
        state = next((t for t in scheduler.tasks if t.task.key == record.key), None)
        if state is None or self._view is None:
            return
        if record.ok and record.best_s == state.best_s:
            self.noise[record.key] = outline(record).noise
        self._view.update(scheduler, state)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.start

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._view is not None:
            self._view.close()


def task_line(scheduler: TaskScheduler, state: TaskProgress, noise: float = math.nan, width: int = 120) -> str:
    """Name, best time, rate, share of the roofline, trials, gain over the default, noise of the best.

    The roofline is the scheduler's: as high as the best rate of any task, so that a task for which there is no Winograd
    may stay far below.
    """
    best_s = state.best_s
    if math.isfinite(best_s):
        rate = f"{state.task.workload.flops / best_s / 1e9:7.1f} GFLOP/s"
        numbers = f"{best_s * 1e6:10.1f} us  {rate}  {100 * scheduler.least_s(state) / best_s:4.0f}% of roof"
    else:
        numbers = "no verified schedule yet"
    gain = f"{state.default_s / best_s:5.2f}x" if math.isfinite(state.default_s) and math.isfinite(best_s) else "     -"
    spread = f"{100 * noise:4.1f}%" if math.isfinite(noise) else "    -"
    tail = f"  {numbers:>44}  {len(state.history):5} trials  {gain}  noise {spread}"
    room = max(width - len(tail), 12)
    name = state.task.name
    name = name if len(name) <= room else f"{name[: room // 2 - 1]}..{name[len(name) - (room - room // 2 - 1) :]}"
    return f"{name:<{room}}{tail}"[:width]


def model_text(progress: Progress, scheduler: TaskScheduler) -> str:
    """The model's estimated time and gain, trials, their rate and how many failed."""
    after_s, before_s = scheduler.latency_s, _default_s(scheduler)
    gain = f" ({before_s / after_s:.2f}x)" if after_s > 0 else ""
    failed = f", {progress.failed} failed" if progress.failed else ""
    rate = progress.count / max(progress.elapsed_s, 1e-9)
    return f"model {after_s * 1e3:.3f} ms{gain}, {progress.count} trials, {rate:.1f}/s{failed}"


def _default_s(scheduler: TaskScheduler) -> float:
    """The model's time by default schedules, as :attr:`TaskScheduler.latency_s` is by the best."""
    known = [t for t in scheduler.tasks if math.isfinite(t.best_s)]
    return sum(max(t.task.uses, 1) * (t.default_s if math.isfinite(t.default_s) else t.best_s) for t in known)


class _View(ABC):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    @abstractmethod
    def update(self, scheduler: TaskScheduler, state: TaskProgress) -> None:
        """Show where things stand after a trial of the task ``state``."""

    @abstractmethod
    def close(self) -> None:
        """Leave the stream at the beginning of a line."""


class _Lines(_View):
    """Plain lines, the more seldom the longer the session is to take."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self.interval_s = max(LEAST_INTERVAL_S, (progress.budget_s or 0.0) / LINES)
        self.next_s = 0.0
        self._last = ""

    def update(self, scheduler: TaskScheduler, state: TaskProgress) -> None:
        p = self.progress
        if p.budget_s is not None:
            used = f"{p.elapsed_s:.0f} of {p.budget_s:.0f} s"
        else:
            used = f"{p.count} of {p.trials} trials"
        best = f"{state.best_s * 1e6:.1f} us" if math.isfinite(state.best_s) else "-"
        self._last = f"tuning: {used}, {model_text(p, scheduler)}; now {state.task.name}, {best}"
        if p.elapsed_s >= self.next_s:
            self._write()

    def _write(self) -> None:
        self.next_s = self.progress.elapsed_s + self.interval_s
        print(self._last, file=sys.stderr, flush=True)
        self._last = ""

    def close(self) -> None:
        if self._last:
            self._write()


class _Terminal(_View):
    """Lines that are written over: one for each of the tasks that had a trial last, one for the model."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self.slots: list[TaskProgress] = []
        self._tasks: list[Any] = []
        self._model: Any = None
        self._used: dict[int, int] = {}
        self._next_s = 0.0

    def update(self, scheduler: TaskScheduler, state: TaskProgress) -> None:
        if self._model is None:
            self._open(scheduler)
        p = self.progress
        self._used[id(state)] = p.count
        if not any(s is state for s in self.slots):
            if len(self.slots) < len(self._tasks):
                self.slots.append(state)
            elif self.slots:
                oldest = min(range(len(self.slots)), key=lambda i: self._used[id(self.slots[i])])
                self.slots[oldest] = state
        position = p.count if p.budget_s is None else min(p.elapsed_s, p.budget_s)
        if p.elapsed_s < self._next_s and position < self._model.total:
            return
        self._next_s = p.elapsed_s + REFRESH_S
        width = shutil.get_terminal_size().columns - 1
        for bar, shown in zip(self._tasks, self.slots, strict=False):
            bar.set_description_str(task_line(scheduler, shown, p.noise.get(shown.task.key, math.nan), width))
        left = "" if p.budget_s is None else f"{max(p.budget_s - p.elapsed_s, 0.0):.0f} s left, "
        self._model.set_postfix_str(left + model_text(p, scheduler), refresh=False)
        self._model.n = position
        self._model.refresh()

    def _open(self, scheduler: TaskScheduler) -> None:
        from tqdm import tqdm

        rows = min(MOST_TASKS, len(scheduler.tasks), max(shutil.get_terminal_size().lines - 2, 0))
        self._tasks = [tqdm(bar_format="{desc}", position=i, leave=False, file=sys.stderr) for i in range(rows)]
        p = self.progress
        unit = "trials" if p.budget_s is None else "s"
        total = float(p.trials or 0) if p.budget_s is None else p.budget_s
        style = f"{{l_bar}}{{bar}}| {{n:.0f}}/{{total:.0f}} {unit}{{postfix}}"
        self._model = tqdm(
            total=total, desc="tuning", bar_format=style, dynamic_ncols=True, position=rows, leave=True, file=sys.stderr
        )

    def close(self) -> None:
        for bar in self._tasks:
            bar.close()
        if self._model is not None:
            self._model.clear()  # it is written once more where the first task's line was
            self._model.close()
