"""What every searcher must do, whether it ships or comes from an entry point of another package."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from made_up_machine import measured

from luthier.errors import ScheduleError
from luthier.schedule.decide import Default, Replay
from luthier.schedule.space import enumerate_space
from luthier.tuner.candidate import Candidate
from luthier.tuner.cost_model import CostModel, Sample, make_cost_model
from luthier.tuner.features import FEATURES
from luthier.tuner.search import SEARCHERS, Observation, SearchContext, find_searcher, make_searcher
from luthier.tuner.task import TuningTask

find_searcher("random")  # registers those that ship
EVERY = SEARCHERS.names()


class Broken(CostModel):
    """Knows everything, and answers with anything but numbers."""

    def update(self, samples):
        pass

    def predict(self, task, features):
        return np.resize([np.nan, np.inf, -np.inf, 0.0], len(features))

    def ready(self, task):
        return True


def test_the_ones_that_ship_are_there():
    assert {"random", "grid", "evolutionary", "descent"} <= set(EVERY)


def run(name, task, target, batches=5, size=8, times=measured, **options):
    """Search on a made-up machine; returns all candidates in order."""
    model = options.pop("cost_model", None) or make_cost_model("xgboost", target=target)
    searcher = make_searcher(name, SearchContext(task, target, cost_model=model, **options))
    found = []
    for _ in range(batches):
        batch = searcher.propose(size)
        found += batch
        results = [times(c) for c in batch]
        searcher.observe(results)
        model.update([Sample(task.key, o.candidate.features, o.run_s) for o in results])
    return found


@pytest.mark.parametrize("name", EVERY)
class TestEverySearcher:
    def test_trial_0_is_the_default(self, name, matmul, host):
        first, *others = run(name, matmul, host, batches=1, size=5)
        assert first.decisions == matmul.instantiate(Default(), host).decisions
        assert [c.trial for c in (first, *others)] == [0, 1, 2, 3, 4]

    def test_candidates_are_complete_and_legal(self, name, matmul, host):
        for c in run(name, matmul, host, batches=3):
            assert c.features.shape == (FEATURES,) and np.isfinite(c.features).all()
            assert c.trace["steps"] and c.space == ""
            again = matmul.instantiate(Replay(c.decisions), host)
            assert json.dumps(again.to_json()) == json.dumps(c.trace)

    def test_no_more_than_asked_for(self, name, matmul, host):
        searcher = make_searcher(name, SearchContext(matmul, host))
        assert [len(searcher.propose(n)) for n in (1, 3, 0, 2)] == [1, 3, 0, 2]

    def test_nothing_is_proposed_twice(self, name, matmul, host):
        found = run(name, matmul, host, batches=6)
        assert len({c.hash for c in found}) == len({c.schedule_hash for c in found}) == len(found) == 48

    def test_equal_schedules_count_as_one(self, name, tiny, host):
        def idle(s, d, target):
            factor = d.choose("factor", [4, 8], 4)
            d.choose("without effect", list(range(8)), 0)
            (stage,) = s.live_stages()
            s.split(stage, stage.leaves[0], factor)

        task = TuningTask(tiny.workload, "idle", 1, idle)
        assert sorted(c.decisions["factor"] for c in run(name, task, host)) == [4, 8]

    def test_nothing_from_the_log_is_proposed(self, name, tiny, host):
        every = {}
        for s in enumerate_space(tiny.workload, host, tiny.space):
            c = Candidate(s.decisions, None, tiny.space_name)
            every[c.hash] = c
        seen = set(list(every)[:4])
        proposed = make_searcher(name, SearchContext(tiny, host, seen=set(seen))).propose(10)
        assert {c.hash for c in proposed} == set(every) - seen

    def test_a_small_space_is_exhausted(self, name, tiny, host):
        searcher = make_searcher(name, SearchContext(tiny, host))
        proposed = [c for _ in range(4) for c in searcher.propose(3)]
        assert len({c.hash for c in proposed}) == len(proposed) == 6
        assert searcher.propose(3) == []

    def test_a_space_without_decisions(self, name, tiny, host):
        def fixed(s, d, target):
            (stage,) = s.live_stages()
            s.split(stage, stage.leaves[0], 4)

        assert len(run(name, TuningTask(tiny.workload, "fixed", 1, fixed), host)) == 1

    def test_combinations_that_are_not_legal_are_left_out(self, name, tiny, host):
        def picky(s, d, target):
            factor = d.choose("factor", [4, 5, 8], 4)
            if factor == 5:
                raise ScheduleError("5 does not fit")
            (stage,) = s.live_stages()
            s.split(stage, stage.leaves[0], factor)

        found = run(name, TuningTask(tiny.workload, "picky", 1, picky), host)
        assert sorted(c.decisions["factor"] for c in found) == [4, 8]

    def test_values_of_every_kind(self, name, tiny, host):
        """Decisions may be any JSON data, and some exist only where others allow them."""

        def odd(s, d, target):
            (stage,) = s.live_stages()
            if d.choose("cut", [None, {"by": 4}, {"by": 8}], None) is not None:
                _, inner = s.split(stage, stage.leaves[0], (d.choose("by", [2, 4.0, "8"], 2) in (2, 4.0) and 4) or 8)
                if d.choose("how", [["a", 1], ["b", 1], ["b", 2]], ["a", 1])[0] == "b":
                    s.unroll(stage, inner)

        found = run(name, TuningTask(tiny.workload, "odd", 1, odd), host)
        assert len({json.dumps(c.trace) for c in found}) == len(found) == 5

    def test_a_seed_makes_proposals_reproducible(self, name, matmul, host):
        def decisions(seed):
            return [c.decisions for c in run(name, matmul, host, batches=3, size=6, seed=seed)]

        assert decisions(1) == decisions(1)

    def test_late_and_partial_results_do_no_harm(self, name, matmul, host):
        searcher = make_searcher(name, SearchContext(matmul, host))
        first, second = searcher.propose(4), searcher.propose(4)
        searcher.observe([measured(c) for c in second[::-1]])
        searcher.observe([Observation(first[0], math.inf)])
        searcher.observe([])
        assert len(searcher.propose(4)) == 4

    @pytest.mark.parametrize("time", [math.inf, math.nan, 0.0, 1e-3])
    def test_failures_and_odd_times_do_no_harm(self, name, matmul, host, time):
        assert len(run(name, matmul, host, times=lambda c: Observation(c, time))) == 40

    def test_models_that_answer_nonsense_do_no_harm(self, name, matmul, host):
        found = run(name, matmul, host, cost_model=Broken())
        assert len({c.hash for c in found}) == 40
        assert all(c.predicted is None or math.isfinite(c.predicted) for c in found)

    def test_what_it_expects_is_a_fraction(self, name, matmul, host):
        model = make_cost_model("xgboost")
        searcher = make_searcher(name, SearchContext(matmul, host, cost_model=model))
        for times in (measured, measured, lambda c: Observation(c, math.inf)):
            gain = searcher.expected_gain()
            assert gain is None or 0.0 <= gain <= 1.0
            searcher.observe([times(c) for c in searcher.propose(8)])

    def test_it_goes_on_from_an_earlier_session(self, name, matmul, host):
        earlier = run(name, matmul, host, batches=2)
        known = [measured(c) for c in earlier]
        later = run(name, matmul, host, batches=2, known=known, seen={c.hash for c in earlier})
        assert not {c.schedule_hash for c in earlier} & {c.schedule_hash for c in later}
