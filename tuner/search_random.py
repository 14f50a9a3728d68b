"""Random search: the baseline for all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..schedule.decide import Random
from .candidate import Candidate
from .search import SEARCHERS, Searcher

ATTEMPTS = 64
"""Draws in a row without a new candidate after which a space counts as exhausted."""


def draws(searcher: Searcher) -> Iterator[Candidate]:
    """Candidates that are new to ``searcher``, each decision drawn uniformly, until the space counts as exhausted."""
    misses = 0
    while misses < ATTEMPTS:
        candidate = searcher.make(Random(searcher.rng))
        misses = misses + 1 if candidate is None else 0
        if candidate is not None:
            yield candidate


@SEARCHERS.register("random")
class RandomSearch(Searcher):
    """Draws each decision uniformly."""

    def generate(self, n: int) -> Iterable[Candidate]:
        yield from draws(self)
