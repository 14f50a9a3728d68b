"""What a log holds, in numbers."""

from __future__ import annotations

import math

import pytest

from luthier.tuner.database import MemoryDatabase
from luthier.tuner.model_run import ModelRun
from luthier.tuner.record import Status
from luthier.tuner.statistics import statistics_of


@pytest.fixture
def log(make_record, machine) -> MemoryDatabase:
    log = MemoryDatabase()
    log.add(make_record(1, 4e-3, created_at=1000.0))
    log.add(make_record(2, 1e-3, trial=1, created_at=500.0, worker="node", cold=True, noise=0.25))
    log.add(make_record(3, 1e-4, trial=2, verified=False))
    log.add(make_record(4, status=Status.TIMEOUT, error="took longer than 10 s\nmore"))
    log.add(make_record(5, status=Status.TIMEOUT, error="took longer than 10 s\nless"))
    log.add(make_record(6, status=Status.CRASHED, error=""))
    log.add(make_record(1, 1e-3, key="v1:other", task="matmul"))
    log.add(make_record(1, 2e-3, key="v1:none", task="none", trial=3, target=machine.with_threads(2).fingerprint()))
    log.add_model_run(ModelRun("net", machine.fingerprint(), 2.0, 1.0, "tuned"))
    return log


def test_counts(log):
    found = statistics_of(log)
    copy, other, none = found.tasks
    assert (copy.records, copy.default_s, copy.best_s, copy.gain, copy.noise) == (6, 4e-3, 1e-3, 4, 0.25)
    assert copy.failures == {"timeout": 2, "crashed": 1} and (copy.cold, copy.warm) == (1, 2)
    assert other.gain == 1 and math.isnan(none.gain) and math.isinf(none.default_s)
    assert found.gain == pytest.approx(2)  # of those whose gain is known
    assert (found.records, len(found.machines)) == (8, 2)
    assert found.failures == {"timeout": 2, "crashed": 1}
    assert found.causes == (("timeout: took longer than 10 s", 2), ("crashed: ?", 1))
    assert found.workers == {"": 7, "node": 1}
    assert (found.first_at, found.last_at) == (500.0, 1.7e9)
    assert len(found.model_runs) == 1


def test_pattern(log):
    assert [t.name for t in statistics_of(log, "mat*").tasks] == ["matmul"]
    assert [t.name for t in statistics_of(log, "v1:none").tasks] == ["none"]
    assert statistics_of(log, "nothing").records == 0


def test_an_empty_log():
    found = statistics_of(MemoryDatabase())
    assert (found.tasks, found.records, found.first_at) == ((), 0, 0.0) and math.isnan(found.gain)
