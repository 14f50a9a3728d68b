"""How well scores rank measured candidates; for :mod:`.pretrain` and :mod:`.cost_model`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from luthier.errors import Error
from luthier.schedule.decide import Default
from luthier.schedule.space import instantiate
from luthier.target import Target
from luthier.te.parse import parse_workload
from luthier.tuner.cost_model import Sample
from luthier.tuner.database import Database
from luthier.tuner.experience import machine_of, samples_from
from luthier.tuner.record import Record, decisions_hash

Floats = NDArray[np.float64]

FAILURE_SLOWDOWN = 10.0
"""What a failure counts for when regret is averaged: this times the best."""


@dataclass(frozen=True)
class Group:
    """What a log holds of one task on one machine.

    default  position of the default schedule among the samples; None where it was not measured
    """

    name: str
    key: str
    threads: int
    samples: tuple[Sample, ...]
    default: int | None

    @property
    def features(self) -> NDArray[np.float32]:
        return np.stack([s.features for s in self.samples])

    @property
    def slowdowns(self) -> Floats:
        """Each time over the best."""
        times = np.array([s.run_s for s in self.samples])
        return np.minimum(times / times.min(), FAILURE_SLOWDOWN)


@dataclass(frozen=True)
class Quality:
    """How well candidates were ranked: correlations of score and speed; how much slower than the best of all the best
    of the 1 and of the 8 with the highest scores is (0.1: 10 %)."""

    spearman: float
    kendall: float
    top1: float
    top8: float


def groups_of(log: Database, least: int = 1) -> list[Group]:
    """The tasks of a log that have ``least`` samples or more, some of them good."""
    records: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for r in log.records():
        if not r.space:
            records[r.key, r.target_hash].append(r)
    groups = []
    for (key, _), found in records.items():
        if len(found) < least or not any(r.ok for r in found):
            continue
        machine = machine_of(found[0])
        samples, kept = samples_from(found, machine)
        if len(samples) >= least:
            default = _default_position(kept, machine)
            groups.append(Group(found[0].task, key, machine.threads, tuple(samples), default))
    return groups


def quality(group: Group, scores: Floats) -> Quality:
    """Compare scores (higher: expected to be faster) with what was measured."""
    slowdowns = group.slowdowns
    order = np.argsort(-scores, kind="stable")
    flat = len(set(scores)) < 2 or len(set(slowdowns)) < 2
    return Quality(
        0.0 if flat else float(spearmanr(scores, -slowdowns).statistic),
        0.0 if flat else float(kendalltau(scores, -slowdowns).statistic),
        float(slowdowns[order[0]] - 1),
        float(slowdowns[order[:8]].min() - 1),
    )


def mean(qualities: Sequence[Quality]) -> Quality:
    """The mean of each figure."""
    columns = zip(*((q.spearman, q.kendall, q.top1, q.top8) for q in qualities), strict=True)
    return Quality(*(float(np.mean(c)) for c in columns))


def average_over(groups: Sequence[Group], score: Callable[[Group], Floats]) -> Quality:
    return mean([quality(g, score(g)) for g in groups])


def _default_position(records: Sequence[Record], target: Target) -> int | None:
    try:
        default = instantiate(parse_workload(records[0].workload), Default(), target)
    except Error:
        return None
    wanted = decisions_hash(default.decisions)
    return next((i for i, r in enumerate(records) if r.decisions_hash == wanted), None)
