"""Timings taken in turns."""

import random

import pytest

from luthier.tuner.rounds import mostly_less


def test_who_wins_most_rounds():
    assert mostly_less((1.0,) * 9, (1.1,) * 9, 2.0) and not mostly_less((1.1,) * 9, (1.0,) * 9, 0.0)
    assert not mostly_less((1.0,) * 9, (1.0,) * 9, 1.0)  # ties
    assert mostly_less((1.0, 1.0, 1.0), (1.1, 9.0, 1.1), 2.0)  # few: all of them
    assert not mostly_less((1.0, 1.0, 1.2), (1.1, 9.0, 1.1), 2.0)
    assert mostly_less((1.0, 1.0), (1.1, 1.1, 0.1), 2.0)  # what only one side has does not count


@pytest.mark.parametrize("a, b", [((), ()), ((1.0,), ()), ((), (1.0,))])
def test_no_rounds_tell_nothing(a, b):
    assert not mostly_less(a, b, 0.0)


def test_chance_seldom_does():
    rng = random.Random(0)
    rounds = [[[rng.random() for _ in range(25)] for _ in "ab"] for _ in range(1000)]
    assert sum(mostly_less(a, b, 2.0) for a, b in rounds) < 50  # 2.3 % by the normal distribution
