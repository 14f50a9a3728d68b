"""Builds from several logs, timed in turns."""

import pytest

from benchmarks.budgets import measure, report
from luthier.errors import Error
from luthier.peers import Timing


def test_the_last_log_is_what_others_are_compared_with():
    lines = report([Timing("default", (2e-3, 3e-3, 9e-3), ()), Timing("a.db", (2e-3, 2e-3, 4e-3), ())]).splitlines()
    assert lines[1].split() == ["default", "3.000", "2.000", "1.500", "1.000"]
    assert lines[2].split() == ["a.db", "2.000", "2.000", "1.000", "1.000"]


def test_a_log_that_is_not_there(tmp_path):
    with pytest.raises(Error, match="no such file"):
        measure("light_squeezenet", [str(tmp_path / "none.db")], 1, 1)
