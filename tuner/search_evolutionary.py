"""The default search: evolution guided by a cost model (after Zheng et al., "Ansor", OSDI 2020, with fewer parts), then
coordinate descent around the best.

A pool holds candidates that were made and not measured: what is good for similar tasks of the log, the default schedule
of each algorithm, random ones, what is one step from the best (:mod:`.search_descent`), and children of the best
measured and of those that the model likes. The model ranks the whole pool; what the log hints at has a bonus, which
fades as hints disappoint, and what takes long to compile must promise more. The top is taken, with two exceptions. Each
*algorithm* (the decision of that name) is an arm of a bandit, which gets its share of trials by its promise: the upper
confidence bound of Auer et al. (Machine Learning, 2002), on the best rate of an arm and not the mean (as Cicirello and
Smith, AAAI 2005, for searches that look for a maximum). And when nothing better came for a while, every other trial is
one step from the best.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..errors import ScheduleError
from ..schedule.decide import Decisions, Json, Mutate, Random, Replay
from .candidate import Candidate
from .record import canonical_json
from .search import ALGORITHM, SEARCHERS, Observation, SearchContext, Searcher, algorithm_of, code_bytes
from .search_descent import Around, neighbours
from .search_random import ATTEMPTS

EXPLORATION = 0.12
CODE_PRICE = 0.01
"""The rate by which a candidate must be better for each time that its code doubles beyond ``CHEAP_BYTES``."""
CHEAP_BYTES = 2048
POOL = 1024
FIRST_POOL, FULL_POOL, POOL_GROWTH = 40, 80, 20
"""Candidates that the pool holds at least: at first, when a task has had a few batches, and how many more each time.
Making 80 takes half a second; most tasks of a short session have one batch."""
BROOD = 24
GENERATIONS = 2
ELITE = 24
RANDOM_SHARE = 0.06
RANDOM_PARENTS = 0.1
CROSSOVER = 0.3
MUTATION_RATES = (0.1, 0.25, 0.5)
HINT_BONUS, NEXT_HINT = 0.1, 0.5
"""Added to the score, the rate by which the model expects a candidate to run, of what is good for similar tasks; and by
how much less to each further hint, and for each that was measured since one was the best so far."""
STALLED_AFTER = 8
WORTH_NOTING = 0.01
LEAST_DOUBT = 0.02
PRIOR_DOUBT = 0.15
NEXT_TRIALS = 8


@SEARCHERS.register("evolutionary")
class EvolutionarySearch(Searcher):
    """See the module's docstring."""

    def __init__(self, context: SearchContext) -> None:
        super().__init__(context)
        self._measured: list[Observation] = []
        self._best: list[Observation] = []
        self._pool: dict[str, Candidate] = {}
        self._least = FIRST_POOL
        self._hinted: set[str] = set()
        self._disappointments = 0  # hints that were measured since one was the best so far
        self._begun = False
        self._near: set[str] = set()
        self._centre = ""
        self._since_better = 0
        self._gain: float | None = None
        self._gain_of = 0  # how much was measured when it was computed
        self.observe(context.known)

    def observe(self, results: Sequence[Observation]) -> None:
        good = [r for r in results if np.isfinite(r.run_s) and r.run_s > 0]
        before = self._best[0].run_s if self._best else math.inf
        self._judge_hints(results, before)
        self._best = sorted([*self._best, *good], key=lambda r: r.run_s)[:ELITE]
        self._measured += results
        if good and self._best[0].run_s < (1.0 - WORTH_NOTING) * before:
            self._since_better = 0
            self._gain = None
        else:
            self._since_better += len(results)
        if len(self._measured) >= self._gain_of + NEXT_TRIALS:
            self._gain = None

    def generate(self, n: int) -> Iterable[Candidate]:
        """Yield the population by the model's belief and the algorithms' promise, then random ones.

        Until the model is ready, what the log hints at comes first, then random ones, every other one a mutation of the
        best so far.
        """
        if not self._begun:
            self._begin()
        if self.context.cost_model.ready(self.context.task.key):
            self._evolve()
            yield from self._chosen(self._ranked())
        yield from [c for c in self._pool.values() if c.schedule_hash in self._hinted and self.is_new(c)]
        yield from self._random()

    def expected_gain(self) -> float | None:
        """The expected improvement (Jones et al., 1998) of the most promising candidates, by the model's predictions
        and by how far off they were for this task."""
        if len(self._measured) < NEXT_TRIALS or not self._best or not self._pool:
            return None
        if not self.context.cost_model.ready(self.context.task.key):
            return None
        if self._gain is None:
            self._gain, self._gain_of = self._expected_gain(), len(self._measured)
        return self._gain

    # ------------------------------------------------------------------ the population

    def _random(self) -> Iterator[Candidate]:
        """Fresh draws; before the model knows the task every other one is near the best so far."""
        misses = made = 0
        while misses < ATTEMPTS:
            near = self._best and made % 2 and not self.context.cost_model.ready(self.context.task.key)
            candidate = self.make(self._mutation(self._parents()) if near else Random(self.rng))
            misses = misses + 1 if candidate is None else 0
            if candidate is not None:
                made += 1
                yield candidate

    def _begin(self) -> None:
        """Put what the log hints at and each algorithm's default into the pool."""
        self._begun = True
        for decisions in self.context.hints():
            hint = self.make(Replay(decisions))
            if hint is not None:
                self._add(hint)
                self._hinted.add(hint.schedule_hash)
        for algorithm in self._algorithms():
            self._add(self.make(Around({ALGORITHM: algorithm})))

    def _evolve(self) -> None:
        """Keep the pool filled and up with the best, and breed."""
        for _ in range(self._least - len(self._pool)):
            self._add(self.make(Random(self.rng)))
        self._least = min(self._least + POOL_GROWTH, FULL_POOL)
        self._step_around_the_best()
        for _ in range(GENERATIONS):
            parents = self._parents()
            parents += [c.decisions for c, _ in self._ranked()[:ELITE]]
            for _ in range(BROOD):
                wild = self.rng.random() < RANDOM_PARENTS
                self._add(self.make(Random(self.rng) if wild else self._mutation(parents)))
        self._pool = {c.schedule_hash: c for c, _ in self._ranked()[:POOL]}

    def _add(self, candidate: Candidate | None) -> None:
        if candidate is not None:
            self._pool.setdefault(candidate.schedule_hash, candidate)

    def _step_around_the_best(self) -> None:
        """Put what is one step from the best, measured or default, into the pool."""
        centre = self._best[0].candidate.decisions if self._best else {}
        if canonical_json(centre) == self._centre:
            return
        self._centre = canonical_json(centre)
        self._near = set()
        for candidate in neighbours(self, centre):
            self._add(candidate)
            self._near.add(candidate.schedule_hash)

    def _algorithms(self) -> Sequence[Json]:
        probe = Around({})
        try:
            self.context.task.instantiate(probe, self.context.target)
        except ScheduleError:
            return []
        return probe.options.get(ALGORITHM, [])

    def _ranked(self) -> list[tuple[Candidate, float]]:
        """The candidates of the pool that are still to be measured with their scores, best first."""
        waiting = [c for c in self._pool.values() if self.is_new(c)]
        scored = list(zip(waiting, self.scores(waiting), strict=True))
        worth = {c.schedule_hash: score - _price(c) for c, score in scored}
        hints = sorted((h for h in self._hinted if h in worth), key=lambda h: (-worth[h], h))
        for place, h in enumerate(hints):
            worth[h] += HINT_BONUS * NEXT_HINT ** (self._disappointments + place)
        return sorted(scored, key=lambda pair: -worth[pair[0].schedule_hash])

    def _judge_hints(self, results: Sequence[Observation], best_s: float) -> None:
        """Count how many hints were no better than the best before them, ``best_s`` at first."""
        for r in results:
            if r.candidate.schedule_hash in self._hinted:
                better = 0 < r.run_s < best_s
                self._disappointments = 0 if better else self._disappointments + 1
            best_s = min(best_s, r.run_s) if r.run_s > 0 else best_s

    def _parents(self) -> list[Decisions]:
        return [r.candidate.decisions for r in self._best]

    def _mutation(self, parents: Sequence[Decisions]) -> Mutate | Random:
        """A child of one parent or two; better parents are likelier."""
        if not parents:
            return Random(self.rng)
        decisions = parents[self._rank(len(parents))]
        if self.rng.random() < CROSSOVER:
            other = parents[self._rank(len(parents))]
            mixed = {k: other.get(k, v) if self.rng.random() < 0.5 else v for k, v in decisions.items()}
            return Mutate(mixed, self.rng, MUTATION_RATES[0])
        return Mutate(decisions, self.rng, self.rng.choice(MUTATION_RATES))

    def _rank(self, count: int) -> int:
        return min(int(self.rng.expovariate(4.0 / count)), count - 1)

    # ------------------------------------------------------------------ the choice

    def _chosen(self, ranked: Sequence[tuple[Candidate, float]]) -> Iterator[Candidate]:
        """The pool in the order in which to measure it."""
        queues: dict[str, deque[Candidate]] = defaultdict(deque)
        promise: dict[str, float] = {}
        for place, (candidate, score) in enumerate(ranked):
            arm = algorithm_of(candidate.decisions)
            # before an arm was measured, its best candidate's place among all says what it promises
            promise.setdefault(arm, 1.0 - place / len(ranked))
            queues[arm].append(candidate.but(predicted=score if math.isfinite(score) else None))
        tried = Counter(algorithm_of(o.candidate.decisions) for o in self._measured)
        for arm in tried:
            promise[arm] = self._best_rate(arm)
        turn = 0
        while any(queues.values()):
            turn += 1
            total = sum(tried.values()) + 1
            arm = max(
                (a for a, q in queues.items() if q),
                key=lambda a: (
                    promise[a] + EXPLORATION * math.sqrt(2.0 * math.log(total) / (tried[a] + 1)) - _price(queues[a][0])
                ),
            )
            queue, position = queues[arm], 0
            if self.rng.random() < RANDOM_SHARE:
                position = self.rng.randrange(len(queue))
            elif self._since_better >= STALLED_AFTER and turn % 2:
                position = next((i for i, c in enumerate(queue) if c.schedule_hash in self._near), 0)
            candidate = queue[position]
            del queue[position]
            tried[arm] += 1
            yield candidate

    def _best_rate(self, arm: str) -> float:
        """The best rate of an algorithm over the best of all; 0 where only failures are known."""
        times = [o.run_s for o in self._measured if algorithm_of(o.candidate.decisions) == arm and o.run_s > 0]
        return self._best[0].run_s / min(times) if self._best and times else 0.0

    def _expected_gain(self) -> float:
        recent = [o for o in self._measured if o.candidate.features is not None][-8 * NEXT_TRIALS :]
        ranked = self._ranked()[:NEXT_TRIALS]
        if not ranked or not recent:
            return 0.0
        rates = np.array([self._best[0].run_s / o.run_s if o.run_s > 0 else 0.0 for o in recent])
        shift = float((rates - np.array(self.scores([o.candidate for o in recent]))).mean())
        # how far off the model was before it knew: what it was trained on it knows too well
        before = [o.candidate.predicted for o in recent]
        errors = [rate - p for rate, p in zip(rates, before, strict=True) if p is not None]
        doubt = max(float(np.std(errors)), LEAST_DOUBT) if len(errors) >= NEXT_TRIALS else PRIOR_DOUBT
        gain = 0.0
        for _, score in ranked:
            z = (score + shift - 1.0) / doubt
            gain += doubt * (
                z * 0.5 * math.erfc(-z / math.sqrt(2.0)) + math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
            )
        return min(max(gain / (1.0 + gain), 0.0), 1.0) if math.isfinite(gain) else 0.0


def _price(candidate: Candidate) -> float:
    """By how much a candidate must be better than one whose code compiles at once."""
    return (
        0.0 if candidate.features is None else CODE_PRICE * math.log2(1 + code_bytes(candidate.features) / CHEAP_BYTES)
    )
