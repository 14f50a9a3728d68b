"""What a session learns from the log's other tasks."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from luthier.schedule.space import enumerate_space
from luthier.tuner.database import MemoryDatabase
from luthier.tuner.experience import SIMILAR_WEIGHT, samples_of
from luthier.tuner.features import extract
from luthier.tuner.record import Record, Status


@pytest.fixture
def log(matmul, host):
    """Twelve records of the matrix product, one a failure."""
    log = MemoryDatabase()
    for i, s in zip(range(12), enumerate_space(matmul.workload, host), strict=False):
        status = Status.CRASHED if i == 3 else Status.OK
        log.add(record(matmul, host, s.decisions, 1e-3 * (i + 1), status=status))
    return log


def record(task, target, decisions, run_s, **changes):
    values = {
        "key": task.key,
        "workload": task.workload.text,
        "task": task.name,
        "target": target.fingerprint(),
        "decisions": decisions,
        "status": Status.OK,
        "run_s": (run_s,),
        "verified": True,
    }
    values |= changes
    if values["status"] is not Status.OK:
        values |= {"run_s": (), "verified": False}
    return Record(**values)


def test_features_are_those_of_the_task_itself(log, matmul, host):
    samples = samples_of(log, host)
    own = [extract(s, host) for _, s in zip(range(12), enumerate_space(matmul.workload, host), strict=False)]
    assert {s.features.tobytes() for s in samples} == {f.tobytes() for f in own}
    assert {s.task for s in samples} == {matmul.key} and {s.weight for s in samples} == {1.0}
    assert sorted(s.run_s for s in samples)[-1] == math.inf and min(s.run_s for s in samples) == 1e-3


def test_the_sessions_own_tasks_are_left_out(log, matmul, host):
    assert samples_of(log, host, skip={matmul.key}) == []


def test_of_many_the_fastest_is_kept_and_the_others_are_spread(log, host):
    times = sorted(s.run_s for s in samples_of(log, host, most=4))
    assert len(times) == 4 and times[0] == 1e-3 and times[-1] == math.inf


def test_other_machines_count_less_and_apart(log, matmul, host):
    threads = dataclasses.replace(host, threads=host.threads + 1)
    samples = samples_of(log, threads)
    assert len(samples) == 12 and {s.weight for s in samples} == {SIMILAR_WEIGHT}
    assert matmul.key not in {s.task for s in samples}


def test_machines_with_other_code_are_left_out(log, host):
    assert samples_of(log, dataclasses.replace(host, vector_bits=128, vector_registers=16)) == []


def test_what_this_version_does_not_understand_is_left_out(log, matmul, host):
    log.add(record(matmul, host, {"tile": [1000, 1]}, 1e-3))
    log.add(record(matmul, host, {"other": 1}, 1e-3))
    log.add(record(matmul, host, {}, 1e-3, key="v1-other", workload="C[i] = A[i]"))
    log.add(record(matmul, host, {"mine": 1}, 1e-3, space="mine.space"))
    samples = samples_of(log, host)
    assert len(samples) == 12
    assert all(np.isfinite(s.features).all() for s in samples)
