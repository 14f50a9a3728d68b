"""The end of a session: finalists measured again, the default kept where nothing is clearly faster."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from luthier.schedule.decide import Default, Random
from luthier.tuner.bench import MeasureResult
from luthier.tuner.candidate import Candidate
from luthier.tuner.database import MemoryDatabase
from luthier.tuner.finish import clearly_faster, finalists, keep_defaults, settle
from luthier.tuner.lookup import schedules_from_log
from luthier.tuner.record import Record, Status


class Again:
    """Stands for the measurer: says what a second measurement gives, by decisions hash."""

    def __init__(self, times):
        self.times, self.asked = times, []

    def compare(self, task, candidates, timeout_s=None):
        self.asked.append(candidates)
        return [MeasureResult(task, c, Status.OK, self.times[c.hash], True) for c in candidates]


def spread(middle, noise):
    """Timings whose half lies within ``noise`` of ``middle``."""
    return tuple(middle * (1 + noise * k / 10) for k in range(-10, 11))


def shuffled(middle, noise, seed=0):
    """The same in some order."""
    times = list(spread(middle, noise))
    random.Random(seed).shuffle(times)
    return tuple(times)


@pytest.fixture
def some(matmul, host):
    """The default schedule and three others."""
    rng, made = random.Random(1), {}
    while len(made) < 4:
        s = matmul.instantiate(Random(rng) if made else Default(), host)
        c = Candidate(s.decisions, s.to_json(), trial=len(made))
        made.setdefault(c.hash, c)
    return list(made.values())


def fill(log, task, target, candidates, times, **changes):
    for c, run_s in zip(candidates, times, strict=True):
        values = {"verified": True, "trace": c.trace, "trial": c.trial, "search": "random"} | changes
        fingerprint = target.fingerprint()
        log.add(
            Record(task.key, task.workload.text, task.name, fingerprint, c.decisions, Status.OK, (run_s,), **values)
        )


def found(log, task, target):
    return Candidate(schedules_from_log(log)(task.workload, target).decisions).hash


def test_a_lucky_timing_does_not_win(matmul, host, some):
    log = MemoryDatabase()
    fill(log, matmul, host, some, [1.0, 0.95, 0.99, 0.5])
    default, good, slow, lucky = some
    again = Again({default.hash: (1.0,) * 20, good.hash: (0.9,) * 20, slow.hash: (1.1,) * 20, lucky.hash: (1.2,) * 20})
    assert found(log, matmul, host) == lucky.hash
    settled = settle(matmul, default, log, host, again, None)
    assert found(log, matmul, host) == good.hash
    assert (settled.best_s, settled.default_s) == (0.9, 1.0)
    # first what was near the lucky timing, then what is near the best that is left
    assert [{c.hash for c in asked} for asked in again.asked] == [
        {default.hash, lucky.hash},
        {default.hash, good.hash, slow.hash},
    ]


def test_the_best_of_the_near_ones_wins_and_is_what_a_look_up_gives(matmul, host, some):
    log = MemoryDatabase()
    default, good, slow, lucky = some
    fill(log, matmul, host, some, [1.0, 0.85, 0.84, 0.83])
    again = Again(
        {default.hash: (1.0,) * 20, good.hash: (0.86,) * 20, slow.hash: (0.9,) * 20, lucky.hash: (0.99,) * 20}
    )
    settled = settle(matmul, default, log, host, again, None)
    assert (settled.best_s, settled.default_s, settled.kept_default) == (0.86, 1.0, False)
    assert found(log, matmul, host) == good.hash
    assert log.best(matmul.key, host).run_s == (0.86,) * 20


def test_the_default_stays_where_the_difference_is_noise(matmul, host, some):
    log = MemoryDatabase()
    default, good, *_ = some
    fill(log, matmul, host, some[:2], [1.0, 0.9])
    settled = settle(
        matmul, default, log, host, Again({default.hash: spread(1.0, 0.1), good.hash: spread(0.99, 0.1)}), None
    )
    assert settled.kept_default and found(log, matmul, host) == default.hash
    (demoted,) = [r for r in log.records(matmul.key) if not r.verified]
    assert "noise" in demoted.error and demoted.ok and demoted.run_s == spread(0.99, 0.1)


def test_clearly_faster(matmul, some):
    def result(times):
        return MeasureResult(matmul, some[0], Status.OK, times, True)

    assert clearly_faster(result((0.9,) * 9), result((1.0,) * 9))
    assert not clearly_faster(result((0.995,) * 9), result((1.0,) * 9))  # quiet, but too little
    assert not clearly_faster(result(shuffled(0.95, 0.3)), result(shuffled(1.0, 0.3, seed=1)))
    assert clearly_faster(result(shuffled(0.5, 0.3)), result(shuffled(1.0, 0.3, seed=1)))


def test_what_disturbs_both_hides_no_gain(matmul, some):
    """Half of the rounds take up to twice as long, for either."""

    def result(factor):
        return MeasureResult(matmul, some[0], Status.OK, tuple(factor * t for t in shuffled(1.5, 0.3)), True)

    assert clearly_faster(result(0.97), result(1.0)) and not clearly_faster(result(1.0), result(0.97))
    assert result(1.0).noise > 0.2


def test_the_default_is_compared_in_its_own_rounds(matmul, host, some):
    """The machine is twice as fast when a finalist that was found late is measured, with the default and the best."""
    log = MemoryDatabase()
    default, best, second, late = some
    fill(log, matmul, host, some, [1.0, 0.5, 0.51, 2.0])
    rounds = [
        {default.hash: 1.0, best.hash: 0.5, second.hash: 0.51},
        {default.hash: 0.5, best.hash: 0.6, late.hash: 1.0},
    ]

    class Faster(Again):
        def compare(self, task, candidates, timeout_s=None):
            self.times = {name: (time_s,) * 15 for name, time_s in rounds[len(self.asked)].items()}
            fill(log, matmul, host, [late], [0.4])
            return super().compare(task, candidates)

    settled = settle(matmul, default, log, host, Faster({}), None)
    assert not settled.kept_default and found(log, matmul, host) == second.hash


def test_what_another_session_adds_meanwhile_is_left_alone(matmul, host, some):
    """Nobody compared it with anything: it was not slower, and it stays what a look-up finds."""
    log = MemoryDatabase()
    default, ours, theirs, _ = some
    fill(log, matmul, host, [default, ours], [1.0, 0.9])
    known = {matmul.key: log.identities(matmul.key, host)}

    class Meanwhile(Again):
        def compare(self, task, candidates, timeout_s=None):
            fill(log, matmul, host, [theirs], [0.5])
            return super().compare(task, [c for c in candidates if c.hash != theirs.hash])

    settle(matmul, default, log, host, Meanwhile({default.hash: (1.0,) * 9, ours.hash: (0.9,) * 9}), None)
    assert found(log, matmul, host) == theirs.hash
    keep_defaults(log, [(matmul, default)], host, known)
    assert found(log, matmul, host) == theirs.hash
    assert not next(r for r in log.records() if r.decisions_hash == ours.hash).verified


def test_a_result_that_could_not_be_checked_again_is_not_forgotten(matmul, host, some):
    log = MemoryDatabase()
    default, good, *_ = some
    fill(log, matmul, host, [default, good], [1.0, 0.9])
    before = list(log.records())

    class Unchecked(Again):
        def compare(self, task, candidates, timeout_s=None):
            return [MeasureResult(task, c, Status.RUN_ERROR, error="not verified") for c in candidates]

    assert settle(matmul, default, log, host, Unchecked({}), None) is None
    assert list(log.records()) == before


def test_a_default_that_fails_cannot_stay(matmul, host, some):
    log = MemoryDatabase()
    default, good, *_ = some
    fill(log, matmul, host, [good], [0.9])

    class Broken(Again):
        def compare(self, task, candidates, timeout_s=None):
            bad = MeasureResult(task, default, Status.CRASHED, error="SIGSEGV")
            return [bad, MeasureResult(task, good, Status.OK, (0.91,) * 9, True)]

    settled = settle(matmul, default, log, host, Broken({}), None)
    assert (settled.best_s, settled.default_s, settled.kept_default) == (0.91, math.inf, False)
    assert found(log, matmul, host) == good.hash


def test_nothing_to_settle(matmul, host, some):
    log = MemoryDatabase()
    assert settle(matmul, some[0], log, host, Again({}), None) is None
    fill(log, matmul, host, some[:1], [1.0])
    assert finalists(log, matmul, host, some[0]) == []
    assert settle(matmul, some[0], log, host, Again({}), None) is None
    fill(log, matmul, host, some[1:2], [0.9], verified=False, error="slower when measured again")
    assert settle(matmul, some[0], log, host, Again({}), None) is None


def test_what_was_never_the_best_may_win(matmul, host, some):
    """It is checked by the comparison; what a lucky time hid is found."""
    log = MemoryDatabase()
    default, lucky, hidden, slow = some
    fill(log, matmul, host, [default, lucky], [1.0, 0.9])
    fill(log, matmul, host, [hidden, slow], [0.91, 1.4], verified=False)
    again = Again({default.hash: (1.0,) * 20, lucky.hash: (0.95,) * 20, hidden.hash: (0.9,) * 20})
    settled = settle(matmul, default, log, host, again, None)
    assert settled.best_s == 0.9 and found(log, matmul, host) == hidden.hash
    assert [{c.hash for c in asked} for asked in again.asked] == [{default.hash, lucky.hash, hidden.hash}]


def test_a_comparison_that_ran_out_of_time_changes_nothing(matmul, host, some):
    log, late = MemoryDatabase(), Again({})
    fill(log, matmul, host, some[:2], [1.0, 0.9])
    late.compare = lambda *a: []
    before = list(log.records())
    assert settle(matmul, some[0], log, host, late, 0.1) is None
    assert list(log.records()) == before


def test_defaults_are_kept_where_the_model_is_slower_with_the_log(matmul, tiny, host, some):
    log = MemoryDatabase()
    fill(log, matmul, host, some, [1.0, 0.9, 0.8, 1.2])
    other = replace(tiny, space=None)
    known = {matmul.key: log.identities(matmul.key, host)}
    assert keep_defaults(log, [(matmul, some[0]), (other, Candidate({}))], host, known) == 1
    assert found(log, matmul, host) == some[0].hash
    assert sorted(r.best_s for r in log.records() if r.verified) == [1.0, 1.2]
