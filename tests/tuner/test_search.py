"""One conformance suite for every searcher, one for every cost model; then what is special to each."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from luthier.errors import ScheduleError, TuningError
from luthier.schedule.decide import Default, Random
from luthier.schedule.space import enumerate_space
from luthier.tuner.candidate import Candidate
from luthier.tuner.cost_model import COST_MODELS, CostModel, Sample, make_cost_model
from luthier.tuner.features import FEATURES, SECTIONS, extract
from luthier.tuner.search import SEARCHERS, Observation, SearchContext, Searcher, make_searcher
from luthier.tuner.task import TuningTask
from luthier.tuner.xgboost_model import XgboostModel, relative_throughput


def context(task, target, **options) -> SearchContext:
    return SearchContext(task, target, **options)


def measured(candidate: Candidate) -> Observation:
    """A made-up machine: fast where tiles are large, up to the registers; some candidates fail."""
    tile = candidate.decisions.get("tile", [candidate.decisions.get("factor", 1), 1])
    rows, vectors = tile[0], tile[-1]
    if rows == 3:
        return Observation(candidate, math.inf)
    return Observation(candidate, 1.0 / min(rows * vectors, 24) + 0.01 * candidate.decisions.get("unroll_k", 1))


@pytest.mark.parametrize("name", ["random", "grid", "evolutionary"])
class TestEverySearcher:
    def test_trial_0_is_the_default(self, name, matmul, host):
        first, *others = make_searcher(name, context(matmul, host)).propose(5)
        assert first.decisions == matmul.instantiate(Default(), host).decisions
        assert [c.trial for c in (first, *others)] == [0, 1, 2, 3, 4]

    def test_candidates_are_complete_and_legal(self, name, matmul, host):
        for c in make_searcher(name, context(matmul, host)).propose(6):
            assert c.features.shape == (FEATURES,)
            assert c.trace["steps"] and c.space == ""

    def test_nothing_is_proposed_twice(self, name, matmul, host):
        searcher = make_searcher(name, context(matmul, host, cost_model=make_cost_model("xgboost")))
        hashes = []
        for _ in range(6):
            batch = searcher.propose(8)
            hashes += [c.hash for c in batch]
            searcher.observe([measured(c) for c in batch])
            searcher.context.cost_model.update([Sample(matmul.key, c.features, measured(c).run_s) for c in batch])
        assert len(hashes) == len(set(hashes)) == 48

    def test_nothing_from_the_log_is_proposed(self, name, tiny, host):
        every = {}
        for s in enumerate_space(tiny.workload, host, tiny.space):
            c = Candidate(s.decisions, None, tiny.space_name)
            every[c.hash] = c
        seen = set(list(every)[:4])
        proposed = make_searcher(name, context(tiny, host, seen=set(seen))).propose(10)
        assert {c.hash for c in proposed} == set(every) - seen

    def test_a_small_space_is_exhausted(self, name, tiny, host):
        searcher = make_searcher(name, context(tiny, host))
        proposed = [c for _ in range(4) for c in searcher.propose(3)]
        assert len({c.hash for c in proposed}) == len(proposed) == 6
        assert searcher.propose(3) == []

    def test_a_seed_makes_proposals_reproducible(self, name, matmul, host):
        def run(seed):
            searcher = make_searcher(name, context(matmul, host, seed=seed))
            batches = [searcher.propose(6) for _ in range(2)]
            return [c.decisions for b in batches for c in b]

        assert run(1) == run(1)
        assert name == "grid" or run(1) != run(2)

    def test_late_and_partial_results_do_no_harm(self, name, matmul, host):
        searcher = make_searcher(name, context(matmul, host))
        first, second = searcher.propose(4), searcher.propose(4)
        searcher.observe([measured(c) for c in second[::-1]])
        searcher.observe([Observation(first[0], math.inf)])
        searcher.observe([])
        assert len(searcher.propose(4)) == 4

    def test_combinations_that_are_not_legal_are_left_out(self, name, tiny, host):
        def picky(s, d, target):
            factor = d.choose("factor", [4, 5, 8], 4)
            if factor == 5:
                raise ScheduleError("5 does not fit")
            (stage,) = s.live_stages()
            s.split(stage, stage.leaves[0], factor)

        proposed = make_searcher(name, context(TuningTask(tiny.workload, "picky", 1, picky), host)).propose(10)
        assert sorted(c.decisions["factor"] for c in proposed) == [4, 8]


def test_evolution_finds_better_candidates_than_chance(matmul, host):
    """On the made-up machine, with the same number of trials."""

    def best(name: str, seed: int) -> float:
        model = make_cost_model("xgboost", seed)
        searcher = make_searcher(name, context(matmul, host, seed=seed, cost_model=model))
        found = []
        for _ in range(6):
            batch = [measured(c) for c in searcher.propose(6)]
            searcher.observe(batch)
            model.update([Sample(matmul.key, o.candidate.features, o.run_s) for o in batch])
            found += [o.run_s for o in batch]
        return float(np.mean(sorted(found[12:])[:12]))  # how good is what it proposes once it has learnt

    seeds = range(3)
    assert np.mean([best("evolutionary", s) for s in seeds]) < 0.9 * np.mean([best("random", s) for s in seeds])


def test_evolution_goes_on_from_what_is_known(matmul, host):
    first = make_searcher("random", context(matmul, host)).propose(10)
    known = [measured(c) for c in first]
    searcher = make_searcher("evolutionary", context(matmul, host, known=known, seen={c.hash for c in first}))
    best = min(known, key=lambda o: o.run_s).candidate.decisions
    near = [c for c in searcher.propose(12) if sum(c.decisions[k] != v for k, v in best.items()) <= 1]
    assert near


def learn(model: CostModel, count: int, seed: int = 0, task: str = "t") -> None:
    rng = np.random.default_rng(seed)
    for _ in range(2):
        rows = rng.normal(size=(count // 2, FEATURES)).astype(np.float32)
        model.update([Sample(task, r, float(np.exp(r[3]))) for r in rows])


@pytest.mark.parametrize("name", ["random", "xgboost"])
class TestEveryCostModel:
    def test_scores_are_finite_one_each(self, name):
        model = make_cost_model(name)
        for learnt in (0, 10, 40):
            learn(model, learnt)
            for n in (0, 1, 7):
                scores = model.predict("t", np.zeros((n, FEATURES), np.float32))
                assert scores.shape == (n,) and np.isfinite(scores).all()

    def test_failures_and_equal_times_do_no_harm(self, name):
        model = make_cost_model(name)
        rows = np.random.default_rng(0).normal(size=(30, FEATURES)).astype(np.float32)
        model.update([Sample("only failures", r, math.inf) for r in rows])
        model.update([Sample("all equal", r, 1.0) for r in rows])
        model.update([])
        model.update([Sample("single", rows[0], 2.0)])
        assert np.isfinite(model.predict("only failures", rows)).all()

    def test_equal_seeds_score_equally(self, name):
        rows = np.random.default_rng(1).normal(size=(5, FEATURES)).astype(np.float32)
        scores = []
        for _ in range(2):
            model = make_cost_model(name, seed=3)
            learn(model, 50)
            scores.append(model.predict("t", rows))
        assert np.array_equal(*scores)


@pytest.mark.parametrize("objective", ["rank:pairwise", "reg:squarederror"])
def test_xgboost_learns_the_order(objective):
    model = XgboostModel(objective=objective)
    assert not model.ready("t")
    learn(model, 200)
    assert model.ready("t") and not model.ready("another")
    rows = np.random.default_rng(9).normal(size=(100, FEATURES)).astype(np.float32)
    scores = model.predict("t", rows)
    fast, slow = scores[rows[:, 3] < -0.5], scores[rows[:, 3] > 0.5]
    assert np.mean(fast[:, None] > slow[None, :]) > 0.8


def test_xgboost_ranks_failures_last():
    rows = np.random.default_rng(2).normal(size=(200, FEATURES)).astype(np.float32)
    model = XgboostModel()
    model.update([Sample("t", r, math.inf if r[5] > 0 else 1.0 + 0.1 * r[6]) for r in rows])
    scores = model.predict("t", rows)
    assert np.median(scores[rows[:, 5] > 0]) < np.median(scores[rows[:, 5] <= 0])


def test_relative_throughput():
    samples = [Sample("t", np.zeros(1, np.float32), s) for s in (2.0, 1.0, math.inf)]
    assert relative_throughput(samples).tolist() == [0.5, 1.0, 0.0]


class TestFeatures:
    def test_length_type_and_sections(self, matmul, host):
        for seed in range(20):
            f = extract(matmul.instantiate(Random(random.Random(seed)), host), host)
            assert f.shape == (FEATURES,) == (sum(SECTIONS.values()),)
            assert f.dtype == np.float32 and np.isfinite(f).all()

    def test_different_decisions_differ(self, matmul, host):
        found = {}
        for s in enumerate_space(matmul.workload, host):
            found[tuple(map(str, s.decisions.values()))] = extract(s, host).tobytes()
        assert len(set(found.values())) == len(found) > 20

    def test_the_register_tile_is_seen(self, matmul, host):
        """Section 'kinds' holds the vector extent and the tile's share of the registers."""
        start = SECTIONS["schedule"]
        for s in enumerate_space(matmul.workload, host):
            rows, vectors = s.decisions["tile"]
            kinds = extract(s, host)[start : start + SECTIONS["kinds"]]
            assert kinds[1] == 1.0  # one full vector
            assert kinds[9] == pytest.approx(rows * min(vectors, 48 // host.lanes()) / host.vector_registers)

    def test_equal_schedules_are_equal(self, matmul, host):
        a, b = (extract(matmul.instantiate(Default(), host), host) for _ in range(2))
        assert np.array_equal(a, b)


class TestRegistry:
    def test_unknown_names_list_what_there_is(self, matmul, host):
        with pytest.raises(TuningError, match="evolutionary, grid, random"):
            make_searcher("annealing", context(matmul, host))
        with pytest.raises(TuningError, match="random, xgboost"):
            make_cost_model("oracle")

    def test_only_classes_of_the_right_kind(self):
        with pytest.raises(TuningError, match="derived from Searcher"):
            SEARCHERS.register("wrong")(dict)

    def test_entry_points(self, tmp_path, monkeypatch, matmul, host):
        (tmp_path / "extension.py").write_text(
            "from luthier.tuner.search_random import RandomSearch\n"
            "from luthier.tuner.cost_model import RandomModel\n"
            "class Mine(RandomSearch): pass\n"
            "class Model(RandomModel): pass\n"
        )
        info = tmp_path / "extension-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extension\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[luthier.searchers]\nmine = extension:Mine\nbroken = nowhere:Mine\n"
            "[luthier.cost_models]\nmine = extension:Model\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        searcher = make_searcher("mine", context(matmul, host))
        assert isinstance(searcher, Searcher) and type(searcher).__name__ == "Mine"
        assert len(searcher.propose(3)) == 3
        assert type(make_cost_model("mine")).__name__ == "Model"
        assert {"mine", "broken", "random"} <= set(SEARCHERS.names()) and "mine" in COST_MODELS.names()
        with pytest.raises(TuningError, match=r"broken.*cannot be loaded.*nowhere"):
            make_searcher("broken", context(matmul, host))
