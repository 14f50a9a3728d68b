"""What is measured again: luck decides neither what is the best nor how good it is."""

from __future__ import annotations

import math
import random
import statistics
from types import SimpleNamespace

from benchmarks.settle import Settled, finalists, settle
from luthier.tuner.candidate import Candidate


class NoisyMeasurer:
    """A candidate's true time is its decision; medians are off by about 5 %, and the machine's pace by up to 50 %."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def compare(self, task, candidates):
        pace = self.rng.uniform(1.0, 1.5)
        return [SimpleNamespace(candidate=c, run_s=self.samples(c.decisions["time"] * pace)) for c in candidates]

    def samples(self, true_s):
        return [true_s * self.rng.gauss(1.0, 0.05)] if true_s else []


def candidates(*times):
    return [Candidate({"time": t, "number": i}) for i, t in enumerate(times)]


def test_the_best_of_equals_does_not_count_for_its_luck():
    equals, middle_pace = candidates(*[1.0] * 30), 1.25
    found = [settle(NoisyMeasurer(seed), None, equals) for seed in range(60)]
    assert statistics.mean(min(s.choosing.values()) for s in found) < 0.95 * middle_pace
    for times in ([s.best_s for s in found], [t for s in found for t in s.times.values()]):
        assert abs(statistics.mean(times) / middle_pace - 1.0) < 0.03


def test_what_is_far_from_the_best_and_what_fails_is_told_apart():
    some = candidates(1.0, 1.3, 0.0, 0.7, 0.71)
    one = settle(NoisyMeasurer(0), None, some)
    names = [c.hash for c in some]
    assert abs(one.times[names[1]] / one.times[names[3]] - 1.3 / 0.7) < 0.4
    assert one.times[names[2]] == math.inf
    curve = one.curve([[names[1]], [names[1], names[0]], [names[0], names[3], names[1]]])
    assert curve == [one.times[names[i]] for i in (1, 0, 3)]


def test_a_single_candidate_is_the_best():
    (only,) = candidates(2.0)
    one = settle(NoisyMeasurer(1), None, [only])
    assert one.best_s == one.times[only.hash] and 1.8 < one.best_s < 3.3


def test_a_curve_takes_what_was_chosen_and_no_later_luck():
    one = Settled({"a": 1.0, "b": 0.9, "c": 0.95}, {"a": 1.0, "b": 0.97, "c": 0.90})
    assert one.curve(["a", "ab", "abc"]) == [1.0, 0.97, 0.97] and one.best_s == 0.97
    assert one.curve([["failed"], ["failed", "a"]]) == [math.inf, 1.0]


def test_the_default_and_the_fastest_are_compared():
    times = [("default", 9.0), ("a", 4.0), ("b", math.inf), ("c", 2.0), ("d", 3.0), ("e", 1.0), ("f", 2.5)]
    after = finalists(times)
    assert [set(some) for some in after[:3]] == [{"default"}, {"default", "a"}, {"default", "a", "b"}]
    assert set(after[-1]) == {"default", "e", "c", "f", "d"} and len(after) == len(times)
