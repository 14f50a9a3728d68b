"""What is special to each searcher and cost model; what all must do is in conformance/."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from made_up_machine import measured

from luthier import te
from luthier.errors import TuningError
from luthier.schedule.decide import Default, Random
from luthier.schedule.space import enumerate_space
from luthier.te.ops.conv import conv
from luthier.tuner.cost_model import COST_MODELS, CostModel, Sample, make_cost_model
from luthier.tuner.features import FEATURES, SECTIONS, code_hash, extract, section
from luthier.tuner.search import (
    LONGER,
    MOST_CODE_BYTES,
    SEARCHERS,
    Observation,
    SearchContext,
    Searcher,
    code_bytes,
    make_searcher,
)
from luthier.tuner.search_descent import steps
from luthier.tuner.task import TuningTask
from luthier.tuner.xgboost_model import XgboostModel, relative_throughput


def context(task, target, **options) -> SearchContext:
    return SearchContext(task, target, **options)


def test_evolution_finds_better_candidates_than_chance(matmul, host):
    """On the made-up machine, with the same number of trials."""

    def best(name: str, seed: int) -> float:
        model = make_cost_model("xgboost", seed, host)
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
    model = XgboostModel(pretrained=False)
    model.update([Sample(matmul.key, o.candidate.features, o.run_s) for o in known])
    options = {"known": known, "seen": {c.hash for c in first}, "cost_model": model}
    searcher = make_searcher("evolutionary", context(matmul, host, **options))
    best = min(known, key=lambda o: o.run_s).candidate.decisions
    near = [c for c in searcher.propose(12) if sum(c.decisions[k] != v for k, v in best.items()) <= 1]
    assert near


def algorithms_space(s, d, target):
    """Three algorithms of 64 schedules each."""
    (stage,) = s.live_stages()
    which = ["slow", "good", "late"].index(d.choose("algorithm", ["slow", "good", "late"], "slow"))
    s.split(stage, stage.leaves[0], 4 + 64 * which + d.choose("factor", list(range(64)), 0), tail="guard")


def trials_by_algorithm(tiny, host, times, trials=48):
    task = TuningTask(tiny.workload, "algorithms", 1, algorithms_space)
    model = XgboostModel(pretrained=False)
    model.ready = lambda task: True  # it ranks from the start, as the pretrained one does
    searcher = make_searcher("evolutionary", context(task, host, cost_model=model))
    tried = Counter()
    while sum(tried.values()) < trials:
        batch = [Observation(c, times(c.decisions)) for c in searcher.propose(6)]
        searcher.observe(batch)
        model.update([Sample(task.key, o.candidate.features, o.run_s) for o in batch])
        tried.update(o.candidate.decisions["algorithm"] for o in batch)
    return tried


class TestLongCode:
    def test_only_a_default_may_be_longer_than_the_limit(self, matmul, host, monkeypatch):
        sizes = {code_bytes(extract(matmul.instantiate(Random(random.Random(i)), host), host)) for i in range(30)}
        limit = sorted(sizes)[len(sizes) // 2]
        monkeypatch.setattr("luthier.tuner.search.MOST_CODE_BYTES", limit)
        monkeypatch.setattr("luthier.tuner.search.LONGER", 0)
        for name in ("random", "evolutionary", "descent"):
            first, *others = make_searcher(name, context(matmul, host)).propose(24)
            assert len(others) > 8 and all(code_bytes(c.features) <= limit for c in others), name
        monkeypatch.setattr("luthier.tuner.search.MOST_CODE_BYTES", 0)
        assert [c.hash for c in make_searcher("random", context(matmul, host)).propose(4)] == [first.hash]

    def test_an_algorithm_that_is_long_by_default_is_searched_too(self, wide):
        x = te.placeholder((1, 4, 20, 20, 16), name="x")
        w = te.placeholder((64, 64, 5, 5), name="w", constant=True)
        sizes = {"in_channels": 64, "out_channels": 64, "in_block": 16, "out_block": 16, "strides": [1, 1]}
        task = TuningTask(te.workload(conv(x, w, pads=[2] * 4, **sizes), [x, w]), "5x5", 1)
        for name in ("random", "descent", "evolutionary"):
            first, *others = make_searcher(name, context(task, wide)).propose(48)
            usual = code_bytes(first.features)
            assert first.decisions["algorithm"] == "winograd4" and usual > MOST_CODE_BYTES
            sizes = [code_bytes(c.features) for c in others if c.decisions["algorithm"] == "winograd4"]
            assert len(sizes) > 3 and max(sizes) <= LONGER * usual, name
            others = [code_bytes(c.features) for c in others if c.decisions["algorithm"] != "winograd4"]
            assert not others or max(others) <= MOST_CODE_BYTES, name

    def test_of_equal_promise_the_shorter_goes_first(self, matmul, host):
        class Indifferent(CostModel):
            def update(self, samples): ...
            def predict(self, task, features):
                return np.zeros(len(features))

            def ready(self, task):
                return True

        model = Indifferent()
        searcher = make_searcher("evolutionary", context(matmul, host, cost_model=model))
        searcher.propose(1)
        searcher._evolve()
        ranked = [code_bytes(c.features) for c, _ in searcher._ranked()]
        assert len(set(ranked)) > 3 and ranked == sorted(ranked)


class TestArms:
    """Algorithms get trials by their promise."""

    def test_one_that_is_far_off_is_left_alone_soon(self, tiny, host):
        tried = trials_by_algorithm(tiny, host, lambda d: {"slow": 2.0, "good": 1.0, "late": 1.5}[d["algorithm"]])
        assert tried["good"] > 36 and 1 <= tried["slow"] <= 6 and 1 <= tried["late"] <= 6

    def test_equal_ones_share(self, tiny, host):
        tried = trials_by_algorithm(tiny, host, lambda d: 1.0 + 0.001 * d["factor"])
        assert min(tried.values()) >= 8

    def test_one_that_only_fails_is_left_alone(self, tiny, host):
        tried = trials_by_algorithm(tiny, host, lambda d: math.inf if d["algorithm"] == "late" else 1.0)
        assert tried["late"] <= 3


class TestDescent:
    def test_steps(self):
        assert steps(4, [1, 2, 4, 8, 16]) == [2, 8]
        assert steps(1, [1, 2]) == [2] and steps("a", ["b", "a", "c"]) == ["b", "c"]
        assert steps(True, [False, True]) == [False] and steps(None, [None]) == []
        tiles = [[r, c] for r in (1, 2, 4) for c in (1, 2, 3) if r * c < 8]
        assert steps([2, 2], tiles) == [[1, 2], [2, 1], [2, 3]]
        assert steps([2, 3], tiles) == [[1, 3], [2, 2]]

    def test_it_walks_down_to_the_optimum(self, tiny, host):
        def bowl(s, d, target):
            (stage,) = s.live_stages()
            x, y = d.choose("x", list(range(1, 41)), 1), d.choose("y", list(range(1, 41)), 1)
            s.split(stage, stage.leaves[0], x, tail="guard")
            s.split(stage, stage.leaves[0], y, tail="guard")

        task = TuningTask(tiny.workload, "bowl", 1, bowl)
        searcher = make_searcher("descent", context(task, host, cost_model=XgboostModel(pretrained=False)))
        best = math.inf
        for _ in range(30):
            made = [(c, c.decisions["x"] - 9, c.decisions["y"] - 7) for c in searcher.propose(4)]
            batch = [Observation(c, 1.0 + abs(x) + abs(y)) for c, x, y in made]
            searcher.observe(batch)
            best = min([best, *(o.run_s for o in batch)])
        assert best == 1.0  # of 1600 schedules, after 120


def test_the_expected_gain_falls_as_nothing_better_comes(matmul, host):
    model = make_cost_model("xgboost", target=host)
    searcher = make_searcher("evolutionary", context(matmul, host, cost_model=model))
    assert searcher.expected_gain() is None
    gains = []
    for _ in range(12):
        batch = [measured(c) for c in searcher.propose(8)]
        searcher.observe(batch)
        model.update([Sample(matmul.key, o.candidate.features, o.run_s) for o in batch])
        gains.append(searcher.expected_gain())
    assert gains[1] > 0.01 > gains[-1] or gains[-1] < 0.5 * gains[1]


def learn(model: CostModel, count: int, seed: int = 0, task: str = "t") -> None:
    rng = np.random.default_rng(seed)
    for _ in range(2):
        rows = rng.normal(size=(count // 2, FEATURES)).astype(np.float32)
        model.update([Sample(task, r, float(np.exp(r[3]))) for r in rows])


@pytest.mark.parametrize("objective", ["rank:pairwise", "reg:squarederror"])
def test_xgboost_learns_the_order(objective):
    model = XgboostModel(objective=objective, pretrained=False)
    assert not model.ready("t")
    learn(model, 200)
    assert model.ready("t") and not model.ready("another")
    rows = np.random.default_rng(9).normal(size=(100, FEATURES)).astype(np.float32)
    scores = model.predict("t", rows)
    fast, slow = scores[rows[:, 3] < -0.5], scores[rows[:, 3] > 0.5]
    assert np.mean(fast[:, None] > slow[None, :]) > 0.8


def test_xgboost_ranks_failures_last():
    rows = np.random.default_rng(2).normal(size=(200, FEATURES)).astype(np.float32)
    model = XgboostModel(pretrained=False)
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

    def test_the_register_tile_is_seen(self, matmul, wide):
        for s in enumerate_space(matmul.workload, wide):
            rows, vectors = s.decisions["tile"]
            accumulators = rows * min(vectors, 48 // wide.lanes())
            registers = section(extract(s, wide), "registers")
            assert registers[1] == 1.0  # one full vector
            assert registers[6] == pytest.approx(accumulators / wide.vector_registers)
            assert (registers[8] > 0) == (registers[7] > 1.0 - 1.5 / wide.vector_registers)  # spills

    def test_the_definition_is_of_the_code_alone(self):
        code = 'def f(x):\n    """Doc."""\n    return x + 1\n'
        assert code_hash([code]) == code_hash(['def f(x):\n    # how\n\n    """Other."""\n    return x  +  1\n'])
        assert code_hash([code]) != code_hash([code.replace("1", "2")])

    def test_equal_schedules_are_equal(self, matmul, host):
        a, b = (extract(matmul.instantiate(Default(), host), host) for _ in range(2))
        assert np.array_equal(a, b)


class TestRegistry:
    def test_unknown_names_list_what_there_is(self, matmul, host):
        with pytest.raises(TuningError, match="descent, evolutionary, grid, random"):
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
