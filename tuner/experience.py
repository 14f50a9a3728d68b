"""What a log teaches a cost model: samples of every task in it, made again from its records.

A record holds the text of its workload and its decisions, so that neither the model that a task came from nor the
session that measured it is needed, and features are always those of this version.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import fields

from ..errors import Error
from ..schedule.decide import Replay
from ..schedule.space import instantiate
from ..target import Target
from ..te.parse import parse_workload
from .cost_model import Sample
from .database import Database
from .features import extract
from .record import Record, target_hash
from .transfer import same_code

MOST_SAMPLES = 1000
"""Samples that a session takes from tasks other than its own: making them takes one to four milliseconds each."""
SIMILAR_WEIGHT = 0.3
"""Of a sample from another machine or number of threads, against one from this."""

_TARGET_FIELDS = frozenset(f.name for f in fields(Target))


def samples_of(log: Database, target: Target, skip: Container[str] = (), most: int = MOST_SAMPLES) -> list[Sample]:
    """Samples of the tasks in a log, but for this machine's of those whose keys are in ``skip``, from the spaces that
    ship.

    Those of machines with other code are left out, and so are records that this version no longer understands. Of more
    than ``most``, every task keeps its fastest, and the others evenly over their times.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    wanted, own = target.fingerprint(), target_hash(target)
    for r in log.records():
        if (r.key not in skip or r.target_hash != own) and not r.space and same_code(r.target, wanted):
            groups[r.key, r.target_hash].append(r)
    share = max(2, most // max(len(groups), 1))
    samples: list[Sample] = []
    for group in groups.values():
        made, _ = samples_from(_spread(group, share), machine_of(group[0]))
        if group[0].target_hash != own:
            # only times of one machine compare: a group of its own
            name = group[0].key + "@" + group[0].target_hash
            made = [Sample(name, s.features, s.run_s, SIMILAR_WEIGHT) for s in made]
        samples += made
    return samples


def samples_from(records: Sequence[Record], machine: Target) -> tuple[list[Sample], list[Record]]:
    """Samples of one task on one machine, with their records; those that this version does not understand are left
    out."""
    samples: list[Sample] = []
    kept: list[Record] = []
    try:
        workload = parse_workload(records[0].workload)
    except Error:
        return samples, kept  # a text of another version
    for r in records:
        try:
            schedule = instantiate(workload, Replay(r.decisions), machine)
        except Error:
            continue  # decisions of another version of the space
        run_s = r.best_s if r.ok else math.inf
        samples.append(Sample(workload.key, extract(schedule, machine), run_s))
        kept.append(r)
    return samples, kept


def machine_of(record: Record) -> Target:
    """The machine that a record was measured on. Fields of other versions are left out."""
    return Target(**{k: v for k, v in record.target.items() if k in _TARGET_FIELDS})


def _spread(group: Sequence[Record], count: int) -> list[Record]:
    """The fastest, and others evenly over the ranks of their times."""
    ranked = sorted(group, key=lambda r: r.best_s)
    if len(ranked) <= count:
        return ranked
    return [ranked[round(i * (len(ranked) - 1) / (count - 1))] for i in range(count)]
