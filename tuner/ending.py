"""The end of a session: settle each task, measure the whole model, and say beforehand how long that will take."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..codegen import cached
from ..target import Target
from .database import Database
from .finish import keep_defaults, settle
from .interrupts import shielded
from .measurer import AbstractMeasurer
from .scheduler import TaskProgress, TaskScheduler
from .whole_model import INSIDE_S, RACE_S, ModelCheck, ModelTimes

CHECK_SHARE = 0.5
"""Of the budget, what measuring the whole model may take; where it would take more, it is left out."""
SETTLE_SHARE = 0.1
"""Of the budget, what measuring the best few of each task again may take; where it ends, light tasks are left out."""
READING_S = 1e-5
"""What settling a task takes longer for each of its records: those are found by their times, and few are read."""
LATE_SHARE = 0.03
"""Of the budget, what a session may take longer rather than leave the whole model out; a third of it for tasks."""


class Ending:
    """What is done after the search. Deadlines are of ``clock``, infinity where there is none.

    model  the model that the tasks are of; None to leave it out
    times  the model's latencies, when they were measured; note: why not, where they were to be
    """

    def __init__(
        self,
        log: Database,
        target: Target,
        measurer: AbstractMeasurer,
        scheduler: TaskScheduler,
        model: ModelCheck | None,
        clock: Callable[[], float],
        start: float,
    ) -> None:
        self.log, self.target, self.measurer, self.scheduler = log, target, measurer, scheduler
        self.model, self.clock, self.start = model, clock, start
        self.times: ModelTimes | None = None
        self.note = ""

    def needed_s(self, deadline: float) -> float:
        """Time to keep for the end."""
        if math.isinf(deadline):
            return 0.0
        settling_s = min(sum(map(_settling_s, self._unsettled())), SETTLE_SHARE * (deadline - self.start))
        return settling_s + self._model_s(deadline)

    def run(self, deadline: float, trials: int) -> None:
        """Settle each task, the heaviest first, then measure the model; what the time does not allow is left out.

        trials: of this session, for the log
        """
        late_s = LATE_SHARE * (deadline - self.start)
        for state in sorted(self._unsettled(), key=self.scheduler.weight, reverse=True):
            if math.isinf(deadline):
                self._settle(state, None)
                continue
            left_s = deadline - self.clock() - self._model_s(deadline) + late_s / 3
            if left_s >= _settling_s(state):
                self._settle(state, left_s)
        if self.model is None:
            return
        needed_s, left_s = self._model_s(deadline), deadline - self.clock()
        if not needed_s or left_s < needed_s - late_s:
            self.note = "The budget is too short to measure the whole model too."
            return
        # what came before took longer than thought: that is no reason to compare the builds by a run or two
        model_deadline = min(max(deadline, self.clock() + needed_s), deadline + late_s)
        self.measurer.close()  # its processes must not be in the way
        known = {t.task.key: self.log.identities(t.task.key, self.target) for t in self.scheduler.tasks}

        def keep(keys: set[str]) -> None:
            defaults = [(t.task, t.default) for t in self.scheduler.tasks if t.task.key in keys]
            with shielded():
                keep_defaults(self.log, defaults, self.target, known)

        self.times = self.model.run(self.log, model_deadline, self.clock, keep)
        with shielded():
            self.log.add_model_run(self.times.record(self.model, trials, self.clock() - self.start))
            if self.times.kept == "default":
                keep(set(known))

    def _settle(self, state: TaskProgress, timeout_s: float | None) -> None:
        settled = settle(state.task, state.default, self.log, self.target, self.measurer, timeout_s)
        if settled is not None:
            state.best_s, state.default_s, state.noise = settled.best_s, settled.default_s, settled.noise
            state.kept_default = settled.kept_default

    def _unsettled(self) -> list[TaskProgress]:
        """Tasks of which more than the default schedule is known to work."""
        return [t for t in self.scheduler.tasks if t.best_s < math.inf and len(t.history) > 1]

    def _model_s(self, deadline: float) -> float:
        """Time to keep for the whole model; 0 where it is not to be measured."""
        if self.model is None:
            return 0.0
        if math.isinf(deadline):
            return 1.0
        constants_bytes = max((t.task.constants_bytes for t in self.scheduler.tasks), default=0)
        run_s = min(RACE_S + INSIDE_S, 0.08 * (deadline - self.start)) + 24 * self.scheduler.latency_s
        kept = cached.in_use()
        compile_s = sum(t.builds_s(kept) for t in self.scheduler.tasks)
        needed_s = self.model.build_s(compile_s, constants_bytes) + run_s
        return needed_s if needed_s <= CHECK_SHARE * (deadline - self.start) else 0.0


def _settling_s(state: TaskProgress) -> float:
    """How long settling a task takes, about: five candidates, half a hundred runs of each."""
    return 0.15 + 5 * max(0.06, 20 * state.best_s) + READING_S * len(state.history)
