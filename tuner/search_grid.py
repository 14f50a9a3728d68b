"""Grid search: the whole space in lexical order of the decisions; for small spaces and for studies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..schedule.schedule import Schedule
from ..schedule.space import enumerate_space
from .candidate import Candidate
from .search import SEARCHERS, SearchContext, Searcher


@SEARCHERS.register("grid")
class GridSearch(Searcher):
    """Every legal combination once, but for those whose code is too long (:meth:`.Searcher.candidate`)."""

    def __init__(self, context: SearchContext) -> None:
        super().__init__(context)
        task = context.task
        self._schedules: Iterator[Schedule] = enumerate_space(task.workload, context.target, task.space)

    def generate(self, n: int) -> Iterable[Candidate]:
        for schedule in self._schedules:
            candidate = self.candidate(schedule)
            if candidate is not None:
                yield candidate
