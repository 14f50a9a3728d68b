import random

import pytest

from luthier.errors import ScheduleError
from luthier.schedule.decide import Adapt, Default, Grid, Mutate, Random, Replay


def ask(decider):
    a = decider.choose("a", [1, 2, 4], 2)
    b = decider.choose("b", [(1, 1), (2, 2)], (2, 2))
    c = decider.choose("c", ["x", "y"], "x") if a > 1 else None
    return a, b, c


def test_default_takes_the_defaults_and_records_them_as_json():
    decider = Default()
    assert ask(decider) == (2, (2, 2), "x")
    assert decider.decisions == {"a": 2, "b": [2, 2], "c": "x"}


def test_replay_repeats_and_rejects_what_is_not_legal():
    recorded = {"a": 4, "b": [1, 1], "c": "y"}
    assert ask(Replay(recorded)) == (4, (1, 1), "y")
    with pytest.raises(ScheduleError, match="not recorded"):
        ask(Replay({"a": 4, "b": [1, 1]}))
    with pytest.raises(ScheduleError, match="not among the options"):
        ask(Replay({**recorded, "a": 3}))


def test_what_is_older_than_a_decision_stands_for_what_was_done_before():
    """Whatever the default is today; where only some decisions are given, the others get their defaults."""

    def asked(decider):
        return decider.choose("a", [1, 2, 4], 2), decider.choose("new", [1, 2, 4], 4, before=1)

    assert asked(Default()) == (2, 4)
    for decider in (Replay({"a": 4}), Adapt({"a": 4}, whole=True)):
        assert asked(decider) == (4, 1) and decider.decisions == {"a": 4, "new": 1}
    assert Adapt({"a": 4}, whole=True).filled == []
    assert asked(Adapt({"a": 4})) == (4, 4)
    assert asked(Adapt({}, whole=True)) == (2, 4)
    assert asked(Replay({"a": 4, "new": 2})) == asked(Adapt({"a": 4, "new": 2}, whole=True)) == (4, 2)
    with pytest.raises(ScheduleError, match="not among the options"):
        Replay({}).choose("new", [2, 4], 4, before=1)


def test_random_is_reproducible_and_covers_the_space():
    drawn = {ask(Random(random.Random(seed))) for seed in range(200)}
    assert drawn == {(a, b, c) for a in (2, 4) for b in ((1, 1), (2, 2)) for c in "xy"} | {
        (1, (1, 1), None),
        (1, (2, 2), None),
    }
    assert ask(Random(random.Random(7))) == ask(Random(random.Random(7)))


def test_mutate_keeps_all_at_rate_zero_and_repairs_what_became_illegal():
    base = {"a": 4, "b": [1, 1], "c": "y"}
    assert ask(Mutate(base, random.Random(0), rate=0.0)) == (4, (1, 1), "y")
    assert ask(Mutate({**base, "a": 3}, random.Random(0), rate=0.0))[0] in (1, 2, 4)
    changed = [ask(Mutate(base, random.Random(seed), rate=0.3)) for seed in range(100)]
    assert len(set(changed)) > 3


def test_grid_visits_each_combination_once():
    seen, path = [], []
    while path is not None:
        grid = Grid(path)
        seen.append(ask(grid))
        path = grid.following()
    assert len(seen) == len(set(seen)) == 2 * 2 * 2 + 2


def test_a_decision_is_made_once_and_from_options():
    decider = Default()
    decider.choose("a", [1], 1)
    with pytest.raises(ScheduleError, match="already made"):
        decider.choose("a", [1], 1)
    with pytest.raises(ScheduleError, match="no options"):
        decider.choose("b", [], 1)
    with pytest.raises(ScheduleError, match="not among"):
        decider.choose("c", [1, 2], 3)
    with pytest.raises(ScheduleError, match="JSON"):
        decider.choose("d", [object()], 3)
