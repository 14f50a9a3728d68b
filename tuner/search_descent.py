"""Coordinate descent: from the best schedule known to its neighbours, one decision at a time (after Canesche et al.,
"The Droplet Search Algorithm for Kernel Scheduling", ACM TACO 2024).

A neighbour differs from a schedule in one decision, whose value is one step away; of a tile, in one of its extents. The
cost model, once it knows the task, says which neighbours to measure first. Where all neighbours of the best were
measured, those of the next best follow, then schedules two steps away, then random ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..errors import ScheduleError
from ..schedule.decide import Decider, Decisions, Default, Json
from .candidate import Candidate
from .search import SEARCHERS, Observation, SearchContext, Searcher
from .search_random import draws

CENTRES = 4
"""Schedules whose neighbours are tried, best first, before steps get longer."""


class Around(Decider):
    """Takes ``changes``, else what ``base`` says where that is legal, else the default; notes the options it saw."""

    def __init__(self, base: Mapping[str, Json], changes: Mapping[str, Json] | None = None) -> None:
        super().__init__()
        self.base, self.changes = base, changes or {}
        self.options: dict[str, Sequence[Json]] = {}

    def pick(self, name: str, options: Sequence[Json], default: Json) -> int:
        self.options[name] = options
        if name in self.changes:
            if self.changes[name] not in options:
                raise ScheduleError(f"decision {name!r}: {self.changes[name]!r} is not among the options")
            return options.index(self.changes[name])
        value = self.base.get(name, default)
        return options.index(value if name in self.base and value in options else default)


def steps(value: Json, options: Sequence[Json]) -> list[Json]:
    """The options that are one step from ``value``.

    Numbers: the next smaller and larger; lists of numbers: those that differ in one place only, there by one step;
    everything else: all other options.
    """
    if _is_number(value) and all(map(_is_number, options)):
        return _nearest([(o, o) for o in options], value)
    if isinstance(value, list) and all(isinstance(o, list) and len(o) == len(value) for o in options):
        found: list[Json] = []
        for place, part in enumerate(value):
            alike = [o for o in options if isinstance(o, list) and _differs_only(o, value, place)]
            numeric = _is_number(part) and all(_is_number(o[place]) for o in alike)
            found += _nearest([(o[place], o) for o in alike], part) if numeric else [o for o in alike if o != value]
        return found
    return [o for o in options if o != value]


def neighbours(searcher: Searcher, decisions: Decisions) -> Iterator[Candidate]:
    """The new candidates that are one step from given decisions."""
    for base, change in changes(searcher, decisions):
        candidate = searcher.make(Around(base, change))
        if candidate is not None:
            yield candidate


def changes(searcher: Searcher, decisions: Decisions) -> Iterator[tuple[Decisions, Decisions]]:
    """All steps from given decisions, each with these as they are where they are complete; none where they are not
    legal."""
    probe = Around(decisions)
    try:
        searcher.context.task.instantiate(probe, searcher.context.target)
    except ScheduleError:
        return
    for name, options in probe.options.items():
        for value in steps(probe.decisions[name], options):
            yield probe.decisions, {name: value}


@SEARCHERS.register("descent")
class DescentSearch(Searcher):
    """See the module's docstring."""

    def __init__(self, context: SearchContext) -> None:
        super().__init__(context)
        self._best: list[Observation] = []
        self.observe(context.known)

    def observe(self, results: Sequence[Observation]) -> None:
        good = [r for r in results if np.isfinite(r.run_s) and r.run_s > 0]
        self._best = sorted([*self._best, *good], key=lambda r: r.run_s)[: 2 * CENTRES]

    def generate(self, n: int) -> Iterable[Candidate]:
        """Yield neighbours of the best, then of the next best, then neighbours of neighbours, then random ones."""
        yield from self._around([o.candidate.decisions for o in self._best[:CENTRES]] or [self._default()])
        two_away = [base | change for o in self._best[:1] for base, change in changes(self, o.candidate.decisions)]
        self.rng.shuffle(two_away)
        yield from self._around(two_away[:n])
        yield from draws(self)

    def _around(self, centres: Iterable[Decisions]) -> Iterator[Candidate]:
        for decisions in centres:
            made = {c.schedule_hash: c for c in neighbours(self, decisions)}
            found = list(made.values())
            if self.context.cost_model.ready(self.context.task.key):
                scores = self.scores(found)
                found = [found[i] for i in sorted(range(len(found)), key=lambda i: -scores[i])]
            else:
                self.rng.shuffle(found)
            yield from (c for c in found if self.is_new(c))

    def _default(self) -> Decisions:
        return self.context.task.instantiate(Default(), self.context.target).decisions


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _differs_only(a: Sequence[Json], b: Sequence[Json], place: int) -> bool:
    return all(x == y for i, (x, y) in enumerate(zip(a, b, strict=True)) if i != place)


def _nearest(options: Iterable[tuple[Json, Json]], value: Json) -> list[Json]:
    """The options whose key is next below and next above ``value``."""
    keyed = [(float(k), o) for k, o in options if isinstance(k, (int, float))]
    centre = float(value) if isinstance(value, (int, float)) else 0.0
    below = max((p for p in keyed if p[0] < centre), key=lambda p: p[0], default=None)
    above = min((p for p in keyed if p[0] > centre), key=lambda p: p[0], default=None)
    return [p[1] for p in (below, above) if p is not None]
