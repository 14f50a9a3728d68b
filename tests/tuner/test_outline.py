"""Outlines: records without their schedules, from every kind of log alike."""

import math
import sqlite3

import pytest

from luthier.errors import LogError
from luthier.tuner.database import MemoryDatabase, open_log
from luthier.tuner.outline import outline
from luthier.tuner.record import Status


@pytest.fixture
def records(make_record):
    return [
        make_record(tile=4, run_s=2e-3, trial=0),
        make_record(tile=8, status=Status.CRASHED, error="signal 11\nline two", trial=1),
        make_record(tile=16, run_s=1e-3, verified=False, key="v1:other", task="other", trial=2),
    ]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_outlines_say_what_records_say(kind, records, tmp_path):
    with MemoryDatabase() if kind == "memory" else open_log(tmp_path / "log.db") as log:
        log.merge(records)
        found = list(log.outlines())
    assert found == [outline(r) for r in records]
    assert [o.best_s for o in found] == [2e-3, math.inf, 1e-3]
    assert [o.run_s for o in found] == [r.run_s for r in records]
    assert [(o.target_hash, o.verified) for o in found] == [(r.target_hash, r.verified) for r in records]
    assert found[1].error == "signal 11\nline two" and found[1].status is Status.CRASHED
    assert math.isnan(found[1].noise) and found[0].noise == pytest.approx((1.3 - 1.05) / 1.1)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("run_s", '"fast"'), ("run_s", "[NaN]"), ("run_s", "[-1.0]"), ("run_s", '["1"]'), ("run_s", "[1e-3"),
        ("status", "great"), ("error", b"\xff"), ("created_at", math.inf), ("trial", "first"),
    ],
)  # fmt: skip
def test_damaged_values_are_refused(column, value, records, tmp_path):
    path = tmp_path / "log.db"
    with open_log(path) as log:
        log.merge(records)
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE records SET {column} = ? WHERE trial = 0", (value,))
    connection.close()
    with open_log(path, "r") as log, pytest.raises(LogError, match="damaged"):
        list(log.outlines())
