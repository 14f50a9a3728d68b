"""Searchers: which candidates of a task to measure next. One searcher serves one task.

    searcher = make_searcher("evolutionary", context)
    candidates = searcher.propose(16)        # measure them ...
    searcher.observe(results)                # ... and let it learn

Whatever the searcher, trial 0 is the default schedule, and no candidate is proposed twice or after it is in the log.
Next: :mod:`.search_random`, :mod:`.search_grid`, :mod:`.search_evolutionary`.
"""

from __future__ import annotations

import random
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import ScheduleError
from ..schedule.decide import Decider, Default
from ..schedule.schedule import Schedule
from ..target import Target
from .candidate import Candidate
from .cost_model import CostModel, RandomModel
from .features import extract
from .registry import Registry
from .task import TuningTask


@dataclass(frozen=True, slots=True)
class Observation:
    """A measured candidate, in this session or an earlier one; run_s: best time, infinity for a failure."""

    candidate: Candidate
    run_s: float


@dataclass(slots=True)
class SearchContext:
    """What a searcher works with.

    seen    hashes of candidates that must not be proposed: those in the log, then also those that were proposed
    known   what an earlier session measured
    """

    task: TuningTask
    target: Target
    seed: int = 0
    cost_model: CostModel = field(default_factory=RandomModel)
    seen: set[str] = field(default_factory=set)
    known: Sequence[Observation] = ()


class Searcher(ABC):
    """Base of all searchers: :meth:`generate` and, where it learns, :meth:`observe` are what one implements."""

    def __init__(self, context: SearchContext) -> None:
        self.context = context
        self.rng = random.Random(context.seed * 0x9E3779B1 + zlib.crc32(context.task.key.encode()))
        self.proposed = 0
        self._started = False

    def propose(self, n: int) -> list[Candidate]:
        """Return up to ``n`` new candidates; none when the space is exhausted, as far as this searcher can tell."""
        chosen: list[Candidate] = []
        if not self._started:
            self._started = True
            default = self.make(Default())
            if default is not None:
                chosen.append(self._take(default))
        if len(chosen) < n:
            for candidate in self.generate(n - len(chosen)):
                if candidate.hash not in self.context.seen:
                    chosen.append(self._take(candidate))
                if len(chosen) == n:
                    break
        return chosen

    @abstractmethod
    def generate(self, n: int) -> Iterable[Candidate]:
        """Yield candidates, best first, until ``n`` were new. Candidates that were seen are dropped by the caller."""

    def observe(self, results: Sequence[Observation]) -> None:  # noqa: B027  (not all searchers learn)
        """Learn from measured candidates; they need not be all that were proposed, or be in that order."""

    def make(self, decider: Decider) -> Candidate | None:
        """Run the task's space; None where the decisions do not go together, or the candidate was seen before."""
        try:
            schedule = self.context.task.instantiate(decider, self.context.target)
        except ScheduleError:
            return None
        return self.candidate(schedule)

    def candidate(self, schedule: Schedule) -> Candidate | None:
        """Describe a schedule; None where it was seen before."""
        bare = Candidate(schedule.decisions, None, self.context.task.space_name)
        if bare.hash in self.context.seen:
            return None
        features = extract(schedule, self.context.target)
        return Candidate(schedule.decisions, schedule.to_json(), bare.space, features)

    def _take(self, candidate: Candidate) -> Candidate:
        self.context.seen.add(candidate.hash)
        numbered = Candidate(candidate.decisions, candidate.trace, candidate.space, candidate.features, self.proposed)
        self.proposed += 1
        return numbered


SEARCHERS: Registry[Searcher] = Registry("search", "luthier.searchers", Searcher)  # type: ignore[type-abstract]


def find_searcher(name: str) -> type[Searcher]:
    """The class of a searcher. Raises TuningError when the name is unknown."""
    from . import search_evolutionary, search_grid, search_random  # noqa: F401  (they register themselves)

    return SEARCHERS.get(name)


def make_searcher(name: str, context: SearchContext) -> Searcher:
    """Make a searcher by name. Raises TuningError when it is unknown."""
    return find_searcher(name)(context)
