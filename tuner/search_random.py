"""Random search: the baseline for all others."""

from __future__ import annotations

from collections.abc import Iterable

from ..schedule.decide import Random
from .candidate import Candidate
from .search import SEARCHERS, Searcher

ATTEMPTS = 64
"""Draws in a row without a new candidate after which a space counts as exhausted."""


@SEARCHERS.register("random")
class RandomSearch(Searcher):
    """Draws each decision uniformly."""

    def generate(self, n: int) -> Iterable[Candidate]:
        misses = 0
        while misses < ATTEMPTS:
            candidate = self.make(Random(self.rng))
            misses = misses + 1 if candidate is None else 0
            if candidate is not None:
                yield candidate
