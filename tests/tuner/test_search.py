"""What is special to each searcher and cost model; what all must do is in conformance/."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from made_up_machine import measured

from luthier.errors import TuningError
from luthier.schedule.decide import Default, Random
from luthier.schedule.space import enumerate_space
from luthier.tuner.cost_model import COST_MODELS, CostModel, Sample, make_cost_model
from luthier.tuner.features import FEATURES, SECTIONS, code_hash, extract, section
from luthier.tuner.search import SEARCHERS, SearchContext, Searcher, make_searcher
from luthier.tuner.xgboost_model import XgboostModel, relative_throughput


def context(task, target, **options) -> SearchContext:
    return SearchContext(task, target, **options)


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
    model = XgboostModel(pretrained=False)
    model.update([Sample(matmul.key, o.candidate.features, o.run_s) for o in known])
    options = {"known": known, "seen": {c.hash for c in first}, "cost_model": model}
    searcher = make_searcher("evolutionary", context(matmul, host, **options))
    best = min(known, key=lambda o: o.run_s).candidate.decisions
    near = [c for c in searcher.propose(12) if sum(c.decisions[k] != v for k, v in best.items()) <= 1]
    assert near


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

    def test_the_register_tile_is_seen(self, matmul, host):
        for s in enumerate_space(matmul.workload, host):
            rows, vectors = s.decisions["tile"]
            accumulators = rows * min(vectors, 48 // host.lanes())
            registers = section(extract(s, host), "registers")
            assert registers[1] == 1.0  # one full vector
            assert registers[6] == pytest.approx(accumulators / host.vector_registers)
            assert (registers[8] > 0) == (registers[7] > 1.0 - 1.5 / host.vector_registers)  # spills

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
