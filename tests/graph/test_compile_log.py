"""Builds that take their schedules from a log."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import luthier
from luthier import config
from luthier.codegen.detect import host_target
from luthier.schedule import Default
from luthier.schedule.space import instantiate
from luthier.target import Target
from luthier.tuner.database import MemoryDatabase
from luthier.tuner.model_tasks import model_tasks
from luthier.tuner.record import Record, Status


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    weight = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4, name="conv"),
        helper.make_node("MaxPool", ["a"], ["y"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (1, 16, 8, 8)), ("y", (1, 16, 4, 4)))
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def log_for(model: onnx.ModelProto, target: Target, tags: set[str]) -> MemoryDatabase:
    """A log with the default schedule of every task whose anchor has one of ``tags``."""
    log = MemoryDatabase()
    for task in model_tasks(model, target):
        if task.workload.anchor.tag in tags:
            decisions = instantiate(task.workload, Default(), target).decisions
            fingerprint = target.fingerprint()
            log.add(Record(task.key, task.workload.text, task.name, fingerprint, decisions, Status.OK, (1e-5,), True))
    return log


def origins(executable: luthier.runtime.executable.Executable) -> list[int]:  # type: ignore[name-defined]
    report = executable.report
    assert report is not None
    return [report.count(o) for o in ("tuned", "reused", "default")]


def test_a_log_gives_the_schedules_and_what_it_lacks_is_said(model: onnx.ModelProto) -> None:
    log = log_for(model, host_target(1), {"conv2d"})
    with pytest.warns(UserWarning, match=r"no schedule for \d+ of \d+ tasks on this machine"):
        executable = luthier.compile(model, log=log, threads=1)
    tuned, reused, default = origins(executable)
    assert tuned == 1
    assert reused == 0
    assert default >= 1
    feed = executable.example_inputs()
    np.testing.assert_array_equal(executable.run(None, feed)[0], luthier.compile(model, threads=1).run(None, feed)[0])


def test_records_of_a_similar_machine_are_reused_and_of_another_one_are_not(model: onnx.ModelProto) -> None:
    everything = {t.workload.anchor.tag for t in model_tasks(model, host_target(1))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        executable = luthier.compile(model, log=log_for(model, host_target(2), everything), threads=1)
    assert origins(executable)[1] == len(executable.report.tasks)
    other = replace(host_target(1), vector_bits=64)
    with pytest.warns(UserWarning, match="no schedule for"):
        executable = luthier.compile(model, log=log_for(model, other, {"conv2d"}), threads=1)
    assert origins(executable)[2] == len(executable.report.tasks)


def test_without_openmp_a_build_is_for_one_thread(model: onnx.ModelProto) -> None:
    with config.override(openmp=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        executable = luthier.compile(model, threads=2)
        assert executable.target.threads == executable.threads == 1
        alone = executable.run(None, executable.example_inputs())[0]
    together = luthier.compile(model, threads=2).run(None, executable.example_inputs())[0]
    np.testing.assert_allclose(alone, together, rtol=0, atol=2e-5 * np.abs(alone).max())  # other default schedules
