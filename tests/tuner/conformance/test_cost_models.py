"""What every cost model must do, whether it ships or comes from an entry point of another package."""

from __future__ import annotations

import math

import numpy as np
import pytest

from luthier.tuner.cost_model import COST_MODELS, Sample, make_cost_model
from luthier.tuner.features import FEATURES

make_cost_model("random")  # registers those that ship
EVERY = COST_MODELS.names()


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, FEATURES)).astype(np.float32)


def learn(model, count, seed=0, task="t", weight=1.0):
    made = rows(count, seed)
    for half in (made[: count // 2], made[count // 2 :]):
        model.update([Sample(task, r, float(np.exp(r[3])), weight) for r in half])


def test_the_ones_that_ship_are_there():
    assert {"random", "xgboost", "xgboost-local"} <= set(EVERY)


def test_without_the_model_that_ships_a_new_task_is_ranked_by_what_many_others_showed():
    model = make_cost_model("xgboost-local")
    for i in range(8):
        assert not model.ready("never seen")
        learn(model, 40, seed=i, task=f"t{i}")
    assert model.ready("never seen")
    unknown = rows(100, seed=99)
    scores = model.predict("never seen", unknown)
    assert np.corrcoef(scores, -unknown[:, 3])[0, 1] > 0.8


@pytest.mark.parametrize("name", EVERY)
class TestEveryCostModel:
    def test_scores_are_finite_one_each(self, name):
        model = make_cost_model(name)
        for learnt in (0, 10, 40):
            learn(model, learnt)
            for n in (0, 1, 7):
                scores = model.predict("t", np.zeros((n, FEATURES), np.float32))
                assert scores.shape == (n,) and np.isfinite(scores).all()

    def test_failures_and_odd_times_do_no_harm(self, name):
        model = make_cost_model(name)
        made = rows(30)
        model.update([Sample("only failures", r, math.inf) for r in made])
        model.update([Sample("all equal", r, 1.0) for r in made])
        model.update([Sample("odd", r, (math.nan, 0.0, 1.0)[i % 3]) for i, r in enumerate(made)])
        model.update([])
        model.update([Sample("single", made[0], 2.0)])
        for task in ("only failures", "odd", "single", "never seen"):
            assert np.isfinite(model.predict(task, made)).all()

    def test_features_that_no_training_had_do_no_harm(self, name):
        model = make_cost_model(name)
        learn(model, 40)
        extreme = np.stack([np.full(FEATURES, v, np.float32) for v in (0.0, -1e4, 1e4, 1e30)])
        assert np.isfinite(model.predict("t", extreme)).all()

    def test_weights_are_taken(self, name):
        model = make_cost_model(name)
        learn(model, 20)
        learn(model, 20, seed=1, task="another", weight=0.1)
        assert np.isfinite(model.predict("another", rows(3))).all()

    def test_equal_seeds_score_equally(self, name):
        scores = []
        for _ in range(2):
            model = make_cost_model(name, seed=3)
            learn(model, 50)
            scores.append(model.predict("t", rows(5, 1)))
        assert np.array_equal(*scores)

    def test_readiness_is_known_for_every_task(self, name):
        model = make_cost_model(name)
        learn(model, 40)
        assert model.ready("t") is True
        assert isinstance(model.ready("never seen"), bool)
