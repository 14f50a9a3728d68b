"""The cost model that ships, and what becomes of one that does not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from luthier.codegen.detect import named_target
from luthier.tuner.cost_model import Sample, make_cost_model
from luthier.tuner.features import FEATURES, definition
from luthier.tuner.pretrained import FOLDERS, MODEL, PROVENANCE, folder_for, load_pretrained
from luthier.tuner.xgboost_model import XgboostModel


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_model_that_ships_fits_and_says_where_it_comes_from(kind, recwarn):
    model = load_pretrained(FOLDERS[kind])
    assert model is not None and not recwarn.list
    assert model.num_features() == FEATURES
    provenance = json.loads((FOLDERS[kind] / PROVENANCE).read_text())
    assert provenance["features"] == definition()
    assert provenance["samples"] > 1000 and len(provenance["layers"]) > 50
    assert {"commit", "logs", "machine", "parameters", "xgboost"} <= set(provenance)
    assert provenance["on_unknown_layers"]["spearman"] > 0.3


def test_it_ranks_a_task_that_was_never_measured(matmul, host):
    from luthier.schedule.space import enumerate_space
    from luthier.tuner.features import extract

    model = make_cost_model("xgboost", target=host)
    assert model.ready("never seen")
    schedules = list(enumerate_space(matmul.workload, host))
    scores = model.predict("never seen", np.stack([extract(s, host) for s in schedules]))
    rows = np.array([s.decisions["tile"][0] for s in schedules])
    assert scores[rows >= 6].mean() > scores[rows == 1].mean()


def test_what_other_tasks_taught_counts_with_what_was_measured_of_the_task():
    rng = np.random.default_rng(0)
    features = rng.random((64, FEATURES)).astype(np.float32)
    target = named_target("x86-64-v3")
    model, shipped = (make_cost_model("xgboost", target=target) for _ in range(2))
    assert isinstance(model, XgboostModel)
    model.update([Sample("other", f, 1e-3 * (1 + f[3])) for f in features])
    assert model._booster is not None
    usual = shipped.predict("new", features)
    new, known = model.predict("new", features) - usual, model.predict("other", features) - usual
    assert np.corrcoef(new, features[:, 3])[0, 1] < -0.5
    assert np.std(known) > 2 * np.std(new)
    model.update([Sample(f"other{i % 8}", f, 1e-3 * (1 + f[3])) for i, f in enumerate(np.tile(features, (8, 1)))])
    assert np.std(model.predict("new", features) - usual) > 2 * np.std(new)


def test_each_kind_of_core_has_a_model_of_its_own():
    named = [named_target(name) for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4")]
    named += [replace(named[2], cpu=cpu) for cpu in ("sapphirerapids", "znver5")]
    kinds = ("narrow", "narrow", "wide", "double", "even")
    assert [folder_for(t) for t in named] == [FOLDERS[kind] for kind in kinds]


@pytest.fixture
def folder(tmp_path):
    for name in (MODEL, PROVENANCE):
        shutil.copy(FOLDERS["wide"] / name, tmp_path / name)
    return tmp_path


def test_a_model_of_other_features_is_not_used(folder):
    provenance = json.loads((folder / PROVENANCE).read_text())
    (folder / PROVENANCE).write_text(json.dumps(provenance | {"features": "0" * 16}))
    with pytest.warns(RuntimeWarning, match="it is for features 0000000000000000.*pretrain train"):
        assert load_pretrained(folder) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / MODEL).unlink(),
        lambda f: (f / MODEL).write_bytes(b"no model"),
        lambda f: (f / PROVENANCE).unlink(),
        lambda f: (f / PROVENANCE).write_text("{"),
        lambda f: (f / PROVENANCE).write_text("[]"),
    ],
)
def test_a_damaged_model_is_not_used(folder, damage):
    damage(folder)
    with pytest.warns(RuntimeWarning, match="not used.*cannot be read"):
        assert load_pretrained(folder) is None
