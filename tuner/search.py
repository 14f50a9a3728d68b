"""Searchers: which candidates of a task to measure next. One searcher serves one task.

    searcher = make_searcher("evolutionary", context)
    candidates = searcher.propose(16)        # measure them ...
    searcher.observe(results)                # ... and let it learn

Whatever the searcher, trial 0 is the default schedule, and no schedule is proposed twice or after it is in the log: not
under other decisions either. Next: :mod:`.search_random`, :mod:`.search_grid`,
:mod:`.search_descent`, :mod:`.search_evolutionary`.
"""

from __future__ import annotations

import math
import random
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import ScheduleError
from ..schedule.decide import Adapt, Decider, Decisions, Default
from ..schedule.schedule import Schedule
from ..target import Target
from .candidate import Candidate, Features
from .cost_model import CostModel, RandomModel
from .features import extract, section
from .record import canonical_json
from .registry import Registry
from .task import TuningTask

ALGORITHM = "algorithm"
"""The decision that says by what algorithm an operator is computed, in spaces that have several."""

MOST_CODE_BYTES = 24 * 1024
"""Schedules with more code, by estimate, are not proposed: it would not stay in the instruction cache, and compiling it
takes as long as ten others. An algorithm that by default takes that much may have ``LONGER`` times its default's."""
LONGER = 1.5


@dataclass(frozen=True, slots=True)
class Observation:
    """A measured candidate, in this session or an earlier one; run_s: best time, infinity for a failure."""

    candidate: Candidate
    run_s: float


@dataclass(slots=True)
class SearchContext:
    """What a searcher works with.

    seen       hashes of candidates that must not be proposed: those in the log, then also those that were proposed
    schedules  the same by :attr:`.Candidate.schedule_hash`: other decisions may make the same schedule
    known      what an earlier session measured
    hints      tells decisions that are good for similar tasks, as far as the log knows when it is asked
    """

    task: TuningTask
    target: Target
    seed: int = 0
    cost_model: CostModel = field(default_factory=RandomModel)
    seen: set[str] = field(default_factory=set)
    known: Sequence[Observation] = ()
    hints: Callable[[], Sequence[Decisions]] = tuple
    schedules: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.schedules.update(o.candidate.schedule_hash for o in self.known)


class Searcher(ABC):
    """Base of all searchers: :meth:`generate` and, where it learns, :meth:`observe` are what one implements."""

    def __init__(self, context: SearchContext) -> None:
        self.context = context
        self.rng = random.Random(context.seed * 0x9E3779B1 + zlib.crc32(context.task.key.encode()))
        self.proposed = 0
        self._started = False
        self._code_limits: dict[str, float] = {}

    def propose(self, n: int) -> list[Candidate]:
        """Return up to ``n`` new candidates; none when the space is exhausted, as far as this searcher can tell."""
        chosen: list[Candidate] = []
        if not self._started:
            self._started = True
            default = self.make(Default())
            if default is not None:
                chosen.append(self._take(default).but(trial=0))  # also where older records come before it
        if len(chosen) < n:
            for candidate in self.generate(n - len(chosen)):
                if self.is_new(candidate):
                    chosen.append(self._take(candidate))
                if len(chosen) == n:
                    break
        return chosen

    @abstractmethod
    def generate(self, n: int) -> Iterable[Candidate]:
        """Yield candidates, best first, until ``n`` were new. Candidates that were seen are dropped by the caller."""

    def observe(self, results: Sequence[Observation]) -> None:  # noqa: B027  (not all searchers learn)
        """Learn from measured candidates; they need not be all that were proposed, or be in that order."""

    def expected_gain(self) -> float | None:
        """The fraction of the task's time that its next trials can be expected to save; None: this cannot be told."""
        return None

    def is_new(self, candidate: Candidate) -> bool:
        """Whether neither these decisions nor this schedule were proposed or are in the log."""
        return candidate.hash not in self.context.seen and candidate.schedule_hash not in self.context.schedules

    def scores(self, candidates: Sequence[Candidate]) -> list[float]:
        """What the cost model thinks of candidates; one finite number each, larger is better."""
        if not candidates:
            return []
        features = np.stack([c.features for c in candidates if c.features is not None])
        scores = self.context.cost_model.predict(self.context.task.key, features)
        return [float(s) if math.isfinite(s) else -math.inf for s in scores]

    def make(self, decider: Decider) -> Candidate | None:
        """Run the task's space; None where the decisions do not go together, and as for :meth:`candidate`."""
        try:
            schedule = self.context.task.instantiate(decider, self.context.target)
        except ScheduleError:
            return None
        return self.candidate(schedule)

    def candidate(self, schedule: Schedule) -> Candidate | None:
        """Describe a schedule; None where it was seen before, or where its code is too long."""
        bare = Candidate(schedule.decisions, None, self.context.task.space_name)
        if bare.hash in self.context.seen:
            return None
        made = Candidate(schedule.decisions, schedule.to_json(), bare.space)
        if made.schedule_hash in self.context.schedules:
            self.context.seen.add(made.hash)  # the same schedule by other decisions
            return None
        features = extract(schedule, self.context.target)
        if self.proposed and code_bytes(features) > self._code_limit(schedule.decisions):
            return None
        return made.but(features=features)

    def _code_limit(self, decisions: Decisions) -> float:
        """How much code a schedule of these decisions' algorithm may have."""
        algorithm = algorithm_of(decisions)
        if algorithm not in self._code_limits:
            task, target = self.context.task, self.context.target
            given = {ALGORITHM: decisions[ALGORITHM]} if ALGORITHM in decisions else {}
            try:
                usual = code_bytes(extract(task.instantiate(Adapt(given), target), target))
            except ScheduleError:
                usual = 0.0
            self._code_limits[algorithm] = max(MOST_CODE_BYTES, LONGER * usual)
        return self._code_limits[algorithm]

    def _take(self, candidate: Candidate) -> Candidate:
        self.context.seen.add(candidate.hash)
        self.context.schedules.add(candidate.schedule_hash)
        predicted = candidate.predicted
        if (
            predicted is None
            and candidate.features is not None
            and self.context.cost_model.ready(self.context.task.key)
        ):
            predicted = next((s for s in self.scores([candidate]) if math.isfinite(s)), None)
        numbered = candidate.but(trial=self.proposed, predicted=predicted)
        self.proposed += 1
        return numbered


def algorithm_of(decisions: Decisions) -> str:
    """What tells these decisions' algorithm from others, the same for all where the space has only one."""
    return canonical_json(decisions.get(ALGORITHM))


def code_bytes(features: Features) -> float:
    """The size of a candidate's code, by its features."""
    return float(2.0 ** section(features, "registers")[-2]) - 1.0


SEARCHERS: Registry[Searcher] = Registry("search", "luthier.searchers", Searcher)  # type: ignore[type-abstract]


def find_searcher(name: str) -> type[Searcher]:
    """The class of a searcher. Raises TuningError when the name is unknown."""
    from . import search_descent, search_evolutionary, search_grid, search_random  # noqa: F401  (they register themselves)

    return SEARCHERS.get(name)


def make_searcher(name: str, context: SearchContext) -> Searcher:
    """Make a searcher by name. Raises TuningError when it is unknown."""
    return find_searcher(name)(context)
