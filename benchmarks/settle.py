"""How good what a session would compare in its end really is, by times taken together.

Of many equal times the least is one that was lucky. So candidates are measured again in turns, those near the best many
times; the best of several is chosen by one half of these times and stands for what the other half says.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from luthier.tuner.candidate import Candidate
from luthier.tuner.finish import MOST_FINALISTS
from luthier.tuner.measure import Measurer
from luthier.tuner.task import TuningTask

TOGETHER = 7
"""How many are measured in turns, with the one that seemed best: what they read must not leave the caches."""
NEAR = 0.08
"""How near to the best those were then that are measured again and again."""
ROUNDS = 3
"""How often, for each half of the times."""


@dataclass(frozen=True)
class Settled:
    """Times by a candidate's hash: ``choosing`` says which of several is the best, ``times`` how long that takes."""

    choosing: Mapping[str, float]
    times: Mapping[str, float]

    @property
    def best_s(self) -> float:
        return self.times[min(self.choosing, key=self.choosing.__getitem__)]

    def curve(self, finalists: Iterable[Sequence[str]]) -> list[float]:
        """The time of the best of the :func:`finalists` after each trial.

        What was not measured takes infinitely long.
        """
        best = (min(some, key=lambda name: self.choosing.get(name, math.inf)) for some in finalists)
        return [self.times.get(name, math.inf) for name in best]


def finalists(noted: Sequence[tuple[str, float]]) -> list[list[str]]:
    """After each trial, what a session that ended there would compare: the default schedule, which is trial 0, and the
    fastest by their times so far (:func:`luthier.tuner.finish.finalists`).

    noted: hashes and times in the order of the trials
    """
    fastest: list[tuple[float, int]] = []
    found = []
    for trial, (_, time_s) in enumerate(noted):
        if trial > 0:
            fastest = sorted([*fastest, (time_s, trial)])[:MOST_FINALISTS]
        found.append([noted[0][0], *(noted[t][0] for _, t in fastest)])
    return found


def settle(measurer: Measurer, task: TuningTask, candidates: Sequence[Candidate]) -> Settled:
    """Measure ``candidates``, one at least, the presumably best one first; what fails takes infinitely long."""
    anchor = candidates[0]
    first, _ = _in_turns(measurer, task, candidates)
    best = min(candidates, key=lambda c: first[c.hash])
    limit, seconds, rng = (1 + NEAR) * first[best.hash], [], random.Random(0)
    rounds: dict[str, list[float]] = {best.hash: [1.0] * 2 * ROUNDS}
    # the best is that partly by luck: against what it is found to be, more may be near it
    while near := [c for c in candidates if c.hash not in rounds and (c is anchor or first[c.hash] <= limit)]:
        for _ in range(2 * ROUNDS):
            ratios, best_s = _in_turns(measurer, task, [best, *rng.sample(near, len(near))])
            seconds.append(best_s)
            for c in near:
                rounds.setdefault(c.hash, []).append(ratios[c.hash])
        middle = {name: statistics.median(ratios) for name, ratios in rounds.items()}
        limit = (1 + NEAR) * min(middle.values()) / middle[anchor.hash]
    best_s = statistics.median(seconds) if seconds else _in_turns(measurer, task, [best])[1]
    halves = []
    for half in (0, 1):
        times = {name: best_s * statistics.median(ratios[half::2]) for name, ratios in rounds.items()}
        halves.append({name: ratio * times[anchor.hash] for name, ratio in first.items()} | times)
    return Settled(*halves)


def _in_turns(measurer: Measurer, task: TuningTask, candidates: Sequence[Candidate]) -> tuple[dict[str, float], float]:
    """Median times by hash as parts of the first candidate's, a few measured at a time; and its own in seconds."""
    anchor, *others = candidates
    ratios, anchor_s = {anchor.hash: 1.0}, []
    for first in range(0, max(len(others), 1), TOGETHER):
        results = measurer.compare(task, [anchor, *others[first : first + TOGETHER]])
        times = {r.candidate.hash: statistics.median(r.run_s) if r.run_s else math.inf for r in results}
        anchor_s.append(times.pop(anchor.hash))
        ratios |= {name: t / anchor_s[-1] for name, t in times.items()}
    return ratios, statistics.median(anchor_s)
