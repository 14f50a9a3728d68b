"""The task scheduler: spends trials where the model as a whole gains most, and says when to stop.

A task's search is taken to make equal steps each time its trials double: what the last doubling gained, the next
one may gain half of. A task that was hardly explored has a prior instead, scaled by its headroom: how far it is from
a roofline made of the target's arithmetic rate (or the best seen, if higher) and of its memory's; where the searcher
predicts less, that counts (:meth:`.Searcher.expected_gain`), so that tuning stops when its model sees nothing better.
What counts is the gain for each second: trials of one task may take ten times as long as another's to compile.
(Compare the gradient of Zheng et al., "Ansor", OSDI 2020; weights are uses x time there too.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..schedule.spaces.traffic import stays_in_l3
from ..target import Target
from .candidate import Candidate
from .search import Searcher
from .task import TuningTask

PRIOR_GAIN = 0.5
PRIOR_TRIALS = 32.0
LEAST_HEADROOM, LEAST_AT_MEMORY = 0.1, 0.02
ASSUMED_CLOCK_HZ = 3.5e9
ASSUMED_BYTES_PER_S = 25e9
UNKNOWN_SLOWDOWN = 10.0
TRIAL_S, RUNS = 0.05, 20
"""What a trial takes besides its compilation, and how often a candidate runs until its time is known."""


@dataclass(slots=True)
class TaskProgress:
    """What tuning knows of one task.

    history    best time after each trial, earlier sessions included; infinity while nothing worked
    default_s  time of the default schedule, once known
    submitted  trials that were handed to measurement, finished or not
    compile_s  time that the trials of the history took to compile; of the default schedule and of the best one
    noise      relative spread of the best schedule's timings
    kept_default  whether the default schedule won the comparison at the end
    earlier    the best candidate of earlier sessions
    """

    task: TuningTask
    searcher: Searcher
    history: list[float] = field(default_factory=list)
    best_s: float = math.inf
    default_s: float = math.inf
    submitted: int = 0
    compile_s: float = 0.0
    default_compile_s: float = 0.0
    best_compile_s: float = 0.0
    exhausted: bool = False
    noise: float = 0.0
    kept_default: bool = False
    default: Candidate = field(default_factory=lambda: Candidate({}))
    earlier: Candidate | None = None

    def add(self, run_s: float, verified: bool, compile_s: float = 0.0) -> bool:
        """Count one trial; returns whether it is the best so far."""
        self.compile_s += compile_s
        better = verified and run_s < self.best_s
        if better:
            self.best_s, self.best_compile_s = run_s, compile_s
        self.history.append(self.best_s)
        return better

    @property
    def trial_s(self) -> float:
        """How long a trial takes."""
        runs_s = RUNS * self.best_s if math.isfinite(self.best_s) else 0.0
        return TRIAL_S + runs_s + self.compile_s / max(len(self.history), 1)

    def builds_s(self, kept: bool) -> float:
        """Time to compile the default schedule, unless it was kept when measured, and the best if it is another."""
        default_s = 0.0 if kept else self.default_compile_s
        return default_s + (self.best_compile_s if self.best_s < self.default_s else 0.0)


class TaskScheduler:
    """Picks the task to spend the next trials on.

    stop_below  end when all tasks together can be expected to gain less than this fraction; 0: never
    """

    def __init__(self, tasks: Sequence[TaskProgress], target: Target, stop_below: float = 0.01) -> None:
        self.tasks, self.stop_below = list(tasks), stop_below
        flops_per_cycle = 2.0 * target.fma_units * target.lanes()
        self._target = target
        self._flops_per_s = flops_per_cycle * ASSUMED_CLOCK_HZ * max(target.threads, 1)
        self._peaks_at: tuple[list[float], float, float] = [], 0.0, 0.0

    def next(self) -> TaskProgress | None:
        """The task whose next trials promise most; None when all are exhausted or the rest is not worth its time.

        Every task first gets one trial, its default schedule, the heaviest first. What these tell is waited for: None
        also while several tasks wait for the first result of any.
        """
        open_tasks = [t for t in self.tasks if not t.exhausted]
        if not open_tasks:
            return None
        fresh = [t for t in open_tasks if t.submitted == 0]
        if fresh:
            return max(fresh, key=self.weight)
        known = [t for t in open_tasks if t.history]
        if self.converged or (not known and len(open_tasks) > 1):
            return None
        return max(
            known or open_tasks, key=lambda t: self.weight(t) * self.doubling_gain(t) / (t.submitted * t.trial_s)
        )

    @property
    def exhausted(self) -> bool:
        """Whether no task has another candidate."""
        return all(t.exhausted for t in self.tasks)

    @property
    def converged(self) -> bool:
        """Whether twice as many trials could be expected to gain less than ``stop_below``."""
        return self.expected_gain < self.stop_below

    @property
    def expected_gain(self) -> float:
        """The fraction of the model's time that doubling all trials is expected to save."""
        total = sum(map(self.weight, self.tasks))
        gain = sum(self.weight(t) * self.doubling_gain(t) for t in self.tasks if not t.exhausted)
        return gain / total if total > 0 else 0.0

    def weight(self, t: TaskProgress) -> float:
        """Seconds that the model spends in a task, by its best schedule so far."""
        seconds = t.best_s if math.isfinite(t.best_s) else UNKNOWN_SLOWDOWN * self.least_s(t)
        return max(t.task.uses, 1) * seconds

    def doubling_gain(self, t: TaskProgress) -> float:
        """The fraction of a task's time that as many trials again are expected to save."""
        prior = PRIOR_GAIN / (1.0 + t.submitted / PRIOR_TRIALS) * self.headroom(t)
        predicted = t.searcher.expected_gain() if t.searcher is not None else None
        if predicted is not None:
            prior = min(prior, predicted)
        half = t.history[len(t.history) // 2 - 1] if len(t.history) >= 2 else math.inf
        if not math.isfinite(half) or not math.isfinite(t.best_s):
            return prior
        return max(prior, 0.5 * (1.0 - t.best_s / half))

    def headroom(self, t: TaskProgress) -> float:
        """How much of a task's time is more than the roofline allows for; a part at least, as better algorithms exist,
        if not for reading memory."""
        if not math.isfinite(t.best_s):
            return 1.0
        arithmetic_s, reading_s = self._roofs(t)
        least = LEAST_HEADROOM if arithmetic_s > reading_s else LEAST_AT_MEMORY
        return min(max(1.0 - max(arithmetic_s, reading_s) / t.best_s, least), 1.0)

    def least_s(self, t: TaskProgress) -> float:
        """The roofline's time for a task."""
        return max(*self._roofs(t), 1e-9)

    def _roofs(self, t: TaskProgress) -> tuple[float, float]:
        """Times of a task's arithmetic alone, and of its reading and writing alone: at memory's rate, as far as tasks
        tell that no cache holds."""
        times = [o.best_s for o in self.tasks]
        if times != self._peaks_at[0]:
            self._peaks_at = times, *self._peaks()
        _, flops_per_s, bytes_per_s = self._peaks_at
        return t.task.workload.flops / flops_per_s, t.task.workload.bytes_moved / bytes_per_s

    def _peaks(self) -> tuple[float, float]:
        """The most FLOPs a second of any task so far, and bytes a second from memory."""
        done = [o for o in self.tasks if math.isfinite(o.best_s)]
        flops_per_s = max([self._flops_per_s, *(o.task.workload.flops / o.best_s for o in done)])
        large = [o for o in done if not stays_in_l3(o.task.workload.bytes_moved // 2, self._target, alone=True)]
        bytes_per_s = max((o.task.workload.bytes_moved / o.best_s for o in large), default=ASSUMED_BYTES_PER_S)
        return flops_per_s, bytes_per_s

    @property
    def latency_s(self) -> float:
        """The model's time with the best schedules so far, as the sum of its tasks; unmeasured tasks are left out."""
        return sum(max(t.task.uses, 1) * t.best_s for t in self.tasks if math.isfinite(t.best_s))
