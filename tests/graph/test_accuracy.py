"""What ``accuracy`` allows a build to do, and that what was tuned for one is not used for the other."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import luthier
from luthier.accuracy import Accuracy
from luthier.codegen.detect import host_target
from luthier.errors import Error
from luthier.schedule import Default, Random
from luthier.schedule.decide import Decider
from luthier.schedule.space import instantiate
from luthier.tuner.database import MemoryDatabase
from luthier.tuner.model_tasks import model_tasks
from luthier.tuner.record import Record, Status

RNG = np.random.default_rng(0)
CHANNELS, SIZE = 64, 28
WEIGHTS = RNG.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
POINTWISE = RNG.standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
LARGE = RNG.standard_normal((CHANNELS, CHANNELS, 7, 7)).astype(np.float32)
IMAGE = RNG.standard_normal((1, CHANNELS, SIZE, SIZE)).astype(np.float32)


def model_of(*convolutions: np.ndarray) -> onnx.ModelProto:
    """Convolutions in a row, with same padding."""
    nodes, values = [], ["x", *(f"v{i}" for i in range(len(convolutions) - 1)), "y"]
    for i, w in enumerate(convolutions):
        pads = [w.shape[2] // 2] * 4
        nodes.append(helper.make_node("Conv", [values[i], f"w{i}"], [values[i + 1]], f"conv{i}", pads=pads))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, IMAGE.shape) for n in "xy"]
    constants = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(convolutions)]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return model_of(WEIGHTS)


def algorithms(model: onnx.ModelProto, accuracy: Accuracy, decider: Decider) -> set[object]:
    target = host_target(1)
    schedules = [instantiate(t.workload, decider, target) for t in model_tasks(model, target, accuracy=accuracy)[:1]]
    return {s.decisions.get("algorithm") for s in schedules}


def convolved(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A 3x3 convolution with same padding, in float64."""
    padded = np.pad(image[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    taps = [(i, j) for i in range(3) for j in range(3)]
    parts = [
        np.tensordot(weights[:, :, i, j].astype(np.float64), padded[:, i : i + SIZE, j : j + SIZE], 1) for i, j in taps
    ]
    return sum(parts)[None]


def test_an_exact_build_holds_no_winograd_and_is_nearer_to_the_truth(model: onnx.ModelProto) -> None:
    fast, exact = (luthier.compile(model, threads=1, accuracy=a) for a in ("fast", "exact"))
    assert (fast.report.accuracy, exact.report.accuracy) == ("fast", "exact")
    assert "exact accuracy" in str(exact.report)
    # transformed filters are larger than the filters
    assert exact.report.constants_bytes < 1.5 * WEIGHTS.nbytes
    assert fast.report.constants_bytes > 1.5 * WEIGHTS.nbytes
    truth = convolved(IMAGE, WEIGHTS)
    errors = [np.abs(e.run(None, {"x": IMAGE})[0] - truth).max() / np.abs(truth).max() for e in (fast, exact)]
    assert errors[1] < errors[0] < 1e-4
    assert errors[1] < 1e-5


def test_no_decision_of_an_exact_task_leads_to_winograd(model: onnx.ModelProto) -> None:
    drawn = {a: set() for a in ("fast", "exact")}
    for accuracy, seen in drawn.items():
        for seed in range(20):
            seen |= algorithms(model, accuracy, Random(random.Random(seed)))
    assert any("winograd" in a for a in drawn["fast"])
    assert not any("winograd" in a for a in drawn["exact"])


def test_only_tasks_for_which_it_matters_are_told_apart() -> None:
    all_three = model_of(WEIGHTS, POINTWISE, LARGE)
    fast, exact = (
        {t.name: t.key for t in model_tasks(all_three, host_target(1), accuracy=a)} for a in ("fast", "exact")
    )
    same = {name for name in fast if fast[name] == exact.get(name)}
    assert any("7x7" in name for name in same)
    for kernel in ("3x3", "1x1"):
        assert not any(kernel in name for name in same)
        assert any(kernel in name and name.endswith("exact") for name in exact)


def test_what_was_tuned_fast_is_not_used_for_an_exact_build(model: onnx.ModelProto) -> None:
    target, log = host_target(1), MemoryDatabase()
    for task in model_tasks(model, target):
        decisions = instantiate(task.workload, Default(), target).decisions
        log.add(
            Record(task.key, task.workload.text, task.name, target.fingerprint(), decisions, Status.OK, (1e-5,), True)
        )
    fast = luthier.compile(model, threads=1, log=log)
    assert fast.report.count("tuned") == len(fast.report.tasks)
    with pytest.warns(UserWarning, match="no schedule for 1 of"):
        exact = luthier.compile(model, threads=1, log=log, accuracy="exact")
    assert exact.report.count("default") == 1
    assert exact.report.constants_bytes < 1.5 * WEIGHTS.nbytes


def test_tuning_for_exact_serves_exact_builds(model: onnx.ModelProto) -> None:
    log = MemoryDatabase()
    report = luthier.tune(model, log=log, trials=2, threads=1, accuracy="exact", tasks="conv2d*", progress=False)
    assert report.trials == 2
    assert all(r.task.endswith("exact") and r.decisions["algorithm"] == "direct" for r in log.records())
    with pytest.warns(UserWarning, match="no schedule for"):
        exact = luthier.compile(model, threads=1, log=log, accuracy="exact")
    assert exact.report.count("tuned") == 1


def test_an_unknown_accuracy_is_refused(model: onnx.ModelProto) -> None:
    for call in (luthier.compile, lambda m, **o: luthier.tune(m, log=MemoryDatabase(), trials=1, **o)):
        with pytest.raises(Error, match=r"accuracy is 'best'; it must be 'fast' .* or 'exact'"):
            call(model, accuracy="best")  # type: ignore[arg-type]
