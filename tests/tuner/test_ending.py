"""The end of a session: what the time is spent on."""

from __future__ import annotations

import pytest

from luthier.tuner.database import MemoryDatabase
from luthier.tuner.ending import Ending
from luthier.tuner.scheduler import TaskScheduler
from luthier.tuner.whole_model import ModelCheck, ModelTimes


class Check(ModelCheck):
    """Takes 2 s to build, by estimate; notes until when it may measure."""

    until: float | None = None

    def build_s(self, compile_s, constants_bytes):
        return 2.0

    def run(self, log, deadline, clock, keep_defaults):
        self.until = deadline
        return ModelTimes((0.002,), (0.001,), "tuned")


class Closed:
    def close(self):
        pass


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (900.0, 1000.0),
        (995.0, 1003.0),  # 2 s for the builds and 6 for measuring them
        (1004.0, 1012.0),
        (1021.0, 1029.0),
        (1025.0, None),  # a session may be late by 3 %
    ],
)
def test_the_model_has_its_time_where_settling_took_longer_than_thought(host, now, until):
    model = Check("net", host)
    log = MemoryDatabase()
    ending = Ending(log, host, Closed(), TaskScheduler([], host), model, lambda: now, 0.0)
    ending.run(1000.0, 7)
    assert model.until == until
    assert ("too short" in ending.note) == (until is None)
    assert len(log.model_runs()) == (until is not None)
