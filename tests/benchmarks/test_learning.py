"""What `benchmarks.learning` makes of the trials that tasks needed."""

from __future__ import annotations

import math

from benchmarks.learning import Needed, summary


def test_a_session_that_never_came_near_counts_as_all_its_trials():
    assert Needed(math.inf, 4, 16).share == 0.25
    assert Needed(8, 4, 16).share == 0.5
    assert Needed(8, math.inf, 16).share == math.inf


def test_what_another_model_knew_needs_nothing():
    assert Needed(8, 0, 16).share == 0


def test_medians_count_tasks_that_neither_came_near():
    tasks = [Needed(2, 1, 16), Needed(math.inf, 4, 16), Needed(math.inf, 16, 16), Needed(10, math.inf, 16)]
    assert summary("tasks", tasks[:3]) == "tasks (3): inf trials in the median, 4.0 with the log; median of shares 0.50"
    assert summary("tasks", tasks).endswith("median of shares 0.75")


def test_no_tasks_are_said_so():
    assert summary("tasks", []) == "tasks: none"
