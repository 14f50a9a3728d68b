"""What the held-out layers promise: nothing was fitted to them."""

from __future__ import annotations

from benchmarks.held_out import HELD_OUT
from benchmarks.pretrain import LAYERS
from benchmarks.tuning_layers import task
from luthier.codegen.detect import named_target
from luthier.graph.onnx_import import bundled_models
from luthier.tuner.model_tasks import model_tasks


def test_no_model_and_no_training_holds_them():
    for name in ("x86-64-v3", "x86-64-v4"):
        target = named_target(name, 1)
        held_out = {task(layer, target).key for layer in HELD_OUT}
        assert len(held_out) == len(HELD_OUT) == 12
        assert not held_out & {task(layer, target).key for layer in LAYERS}
    for model in bundled_models().values():
        assert not held_out & {t.key for t in model_tasks(str(model), target)}


def test_names_are_unique():
    names = [layer.name for layer in (*HELD_OUT, *LAYERS)]
    assert len(set(names)) == len(names)
