"""Measure many candidates of single layers into a log, evenly; for :mod:`.pretrain` and :mod:`.search`.

A log holds everything that is known: what was interrupted goes on from there.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.tuning_layers import Layer, task
from luthier.target import Target
from luthier.tuner.candidate import Candidate
from luthier.tuner.cost_model import CostModel, Sample, make_cost_model
from luthier.tuner.database import Database
from luthier.tuner.history import known_observations, make_record
from luthier.tuner.measure import Measurer, MeasureResult
from luthier.tuner.record import Record
from luthier.tuner.search import Observation, SearchContext, Searcher, make_searcher
from luthier.tuner.task import TuningTask

BATCH = 12


def collect(
    log: Database,
    target: Target,
    layers: Sequence[Layer],
    searchers: Sequence[str],
    budget_s: float = math.inf,
    most: float = math.inf,
) -> Counter[str]:
    """Measure batches of candidates, by turns of each searcher, the layer with the fewest records first.

    Ends when ``budget_s`` seconds have passed, or when each layer has ``most`` records or no more candidates. Returns
    how many outcomes there were of each status.
    """
    deadline = time.monotonic() + budget_s
    model = make_cost_model("xgboost", target=target)
    turns = [_Turn(task(layer, target), target, log, model, searchers) for layer in layers]
    by_task = {id(t.task): t for t in turns}
    outcomes: Counter[str] = Counter()
    with Measurer(target) as measurer:
        while time.monotonic() < deadline:
            turns = [t for t in turns if t.count < most]
            if turns:
                turn = min(turns, key=lambda t: t.count)
                candidates = turn.propose(BATCH)
                if not candidates:
                    turns.remove(turn)
                for c in candidates:
                    measurer.submit(turn.task, c)
            elif not measurer.pending:
                break
            while measurer.pending > (BATCH if turns else 0) and time.monotonic() < deadline:
                result = measurer.next_result(min(deadline - time.monotonic(), 600.0))
                if result is not None:
                    log.add(by_task[id(result.task)].observe(result, target))
                    outcomes[result.status.value] += 1
                    if sum(outcomes.values()) % 100 == 0:
                        print(f"{sum(outcomes.values())} candidates, {dict(outcomes)}", flush=True)
    return outcomes


class _Turn:
    """One layer: its searchers, which share what was proposed, and how many candidates it had."""

    def __init__(
        self, task: TuningTask, target: Target, log: Database, model: CostModel, searchers: Sequence[str]
    ) -> None:
        records = list(log.records(task.key, target))
        known = known_observations(task, target, records)
        context = SearchContext(task, target, 0, model, {r.decisions_hash for r in records}, known)
        self.task, self.model, self.count, self.rounds = task, model, len(records), len(records) // BATCH
        self.searchers: list[Searcher] = [make_searcher(name, context) for name in searchers]
        self.spent: set[int] = set()
        self.learn(known)

    def learn(self, observations: Sequence[Observation]) -> None:
        features = [(o.candidate.features, o.run_s) for o in observations]
        self.model.update([Sample(self.task.key, f, s) for f, s in features if f is not None])

    def propose(self, n: int) -> list[Candidate]:
        """The next batch, of the searchers by turns; none when all have nothing more."""
        while len(self.spent) < len(self.searchers):
            self.rounds += 1
            number = self.rounds % len(self.searchers)
            candidates = self.searchers[number].propose(n) if number not in self.spent else []
            self.count += len(candidates)
            if candidates:
                return candidates
            self.spent.add(number)
        return []

    def observe(self, result: MeasureResult, target: Target) -> Record:
        record = make_record(result, target, "collect", 0)
        observation = Observation(result.candidate, record.best_s)
        self.learn([observation])
        for s in self.searchers:
            s.observe([observation])
        return record
