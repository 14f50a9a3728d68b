"""Evolutionary search guided by a cost model (after Zheng et al., "Ansor", OSDI 2020, with fewer parts).

A pool holds candidates that were made and not measured. Each proposal breeds more, from the best measured ones, from
those of the pool that the model likes, and at random; then the model ranks the whole pool, and the top is taken. A
share of every batch is random, so that the model also sees what it does not believe in. Until the model is ready,
proposals are random, half of them mutations of the best so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..schedule.decide import Decisions, Mutate, Random
from .candidate import Candidate
from .search import SEARCHERS, Observation, SearchContext, Searcher
from .search_random import ATTEMPTS

POOL = 1024
BROOD = 32
GENERATIONS = 2
ELITE = 24
RANDOM_SHARE = 0.15
RANDOM_PARENTS = 0.25
CROSSOVER = 0.3
MUTATION_RATES = (0.1, 0.25, 0.5)


@SEARCHERS.register("evolutionary")
class EvolutionarySearch(Searcher):
    """See the module's docstring."""

    def __init__(self, context: SearchContext) -> None:
        super().__init__(context)
        self._best: list[Observation] = []
        self._pool: dict[str, Candidate] = {}
        self.observe(context.known)

    def observe(self, results: Sequence[Observation]) -> None:
        good = [r for r in results if np.isfinite(r.run_s)]
        self._best = sorted([*self._best, *good], key=lambda r: r.run_s)[:ELITE]

    def generate(self, n: int) -> Iterable[Candidate]:
        """Yield the population in the order of the model's belief, random candidates mixed in; then random ones."""
        if self.context.cost_model.ready(self.context.task.key):
            ranked = self._evolve()
            guided = max(1, n - sum(self.rng.random() < RANDOM_SHARE for _ in range(n)))
            yield from ranked[:guided]
            yield from self._random(n - guided)
            yield from ranked[guided:]
        yield from self._random(n)

    def _random(self, n: int) -> Iterable[Candidate]:
        """Fresh draws; before the model knows the task every other one is near the best so far."""
        misses = made = 0
        while misses < ATTEMPTS and made < n:
            near = self._best and made % 2 and not self.context.cost_model.ready(self.context.task.key)
            candidate = self.make(self._mutation(self._parents()) if near else Random(self.rng))
            misses = misses + 1 if candidate is None else 0
            if candidate is not None:
                made += 1
                yield candidate

    def _evolve(self) -> list[Candidate]:
        """Breed, and return the pool, best score first."""
        ranked = self._ranked()
        for _ in range(GENERATIONS):
            parents = self._parents()
            parents += [c.decisions for c in ranked[:ELITE]]
            for _ in range(BROOD):
                wild = self.rng.random() < RANDOM_PARENTS
                candidate = self.make(Random(self.rng) if wild else self._mutation(parents))
                if candidate is not None:
                    self._pool[candidate.hash] = candidate
            ranked = self._ranked()
        self._pool = {c.hash: c for c in ranked[:POOL]}
        return ranked

    def _ranked(self) -> list[Candidate]:
        """The candidates of the pool that are still to be measured, best score first."""
        waiting = [c for c in self._pool.values() if c.hash not in self.context.seen]
        order = np.argsort(-np.array(self._scores(waiting)), kind="stable")
        return [waiting[i] for i in order]

    def _scores(self, candidates: Sequence[Candidate]) -> list[float]:
        if not candidates:
            return []
        features = np.stack([c.features for c in candidates if c.features is not None])
        return [float(x) for x in self.context.cost_model.predict(self.context.task.key, features)]

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
