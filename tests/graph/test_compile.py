"""Whole models against ONNX's own reference implementation."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import luthier
from luthier.codegen.detect import named_target
from luthier.errors import ArtifactError, Error, OnnxError, TargetError
from luthier.graph.compile import Found, compile_model
from luthier.schedule import Default
from luthier.schedule.space import instantiate

from .nets import FLOAT, Net, check, feed_of, reference


def residual() -> onnx.ModelProto:
    net = Net(x=(1, 3, 12, 12))
    a = net.add("Relu", net.conv("x", 3, 32, strides=[2, 2]))
    b = net.add("Relu", net.conv(a, 32, 32))
    s = net.add("Relu", net.add("Add", net.conv(b, 32, 32), a))
    flat = net.add("Flatten", net.add("GlobalAveragePool", s))
    return net.model(net.add("Softmax", net.add("Gemm", flat, net.weight(32, 10), net.weight(10))))


def inception() -> onnx.ModelProto:
    net = Net(x=(1, 16, 8, 8))
    branches = [net.add("Relu", net.conv("x", 16, 16, size)) for size in (1, 3, 5)]
    pooled = net.add("MaxPool", "x", kernel_shape=[3, 3], pads=[1] * 4)
    first = net.add("Concat", *branches, pooled, axis=1)
    again = net.add("Concat", first, net.conv(first, 64, 16, 1), branches[0], axis=1)  # one branch is in both
    return net.model(net.conv(again, 96, 20, 1))


def shuffle() -> onnx.ModelProto:
    net = Net(x=(1, 24, 6, 6))
    a = net.conv("x", 24, 24, 1, group=3)
    parts = net.add("Reshape", a, net.constant(np.array([1, 3, 8, 6, 6])))
    turned = net.add("Transpose", parts, perm=[0, 2, 1, 3, 4])
    b = net.add("Reshape", turned, net.constant(np.array([1, 24, 6, 6])))
    return net.model(net.conv(b, 24, 24, 3, group=24))


def odd_concat() -> onnx.ModelProto:
    net = Net(x=(1, 3, 5, 5), y=(1, 4, 5, 5))
    return net.model(net.add("Concat", net.add("Relu", "x"), net.add("Exp", "y"), "x", axis=1))


def batch() -> onnx.ModelProto:
    net = Net(x=(3, 16, 5, 5))
    a, b = net.conv("x", 16, 32), net.conv("x", 16, 16)
    return net.model(net.add("Concat", a, b, axis=1), a)


def dense() -> onnx.ModelProto:
    """Convolutions with a prologue; they write into the buffer of which they read the other part."""
    net = Net(x=(1, 16, 9, 7))
    seen, channels = net.conv("x", 16, 32, strides=[2, 1]), 32
    for size in (1, 3, 1):
        scale, shift, mean = (net.weight(channels) for _ in range(3))
        variance = net.constant(net.rng.uniform(0.5, 1.5, channels).astype(np.float32))
        normal = net.add("Relu", net.add("BatchNormalization", seen, scale, shift, mean, variance))
        made = net.conv(normal, channels, 16, size)
        seen, channels = net.add("Concat", seen, made, axis=1), channels + 16
    return net.model(net.add("GlobalAveragePool", seen))


def test_a_dense_block_reads_and_writes_one_buffer() -> None:
    report = luthier.compile(dense(), threads=1).report
    assert report is not None
    assert report.copies == 0
    names = [task.name for task in report.tasks]
    assert sum(name.startswith("scaleshift+relu+conv2d_1x1") for name in names) == 2
    assert sum(name.startswith("scaleshift") and "conv2d" not in name for name in names) == 1  # before the 3x3


@pytest.mark.parametrize(
    ("make", "threads"),
    [
        (dense, 1),
        (dense, 2),
        (residual, 1),
        (residual, 2),
        (inception, 2),
        (shuffle, 2),
        (odd_concat, 1),
        (odd_concat, 2),
        (batch, 2),
    ],
)
def test_models_compute_what_onnx_says(make: Callable[[], onnx.ModelProto], threads: int) -> None:
    executable = check(make(), threads=threads)
    assert executable.report is not None
    assert executable.report.count("default") == len(executable.report.tasks)


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3"])
def test_models_run_on_lesser_cpus(name: str) -> None:
    check(residual(), target=name, threads=2)


def test_inception_concatenates_without_copies_but_one() -> None:
    report = luthier.compile(inception(), threads=1).report
    assert report is not None
    assert report.copies == 1


# ----------------------------------------------------------------------- outputs that are no kernel's


def output_is_input() -> onnx.ModelProto:
    net = Net(x=(2, 8))
    return net.model("x", net.add("Relu", "x"))


def output_is_reshaped_input() -> onnx.ModelProto:
    net = Net(x=(2, 8))
    return net.model(net.add("Reshape", "x", net.constant(np.array([4, 4]))))


def output_is_constant() -> onnx.ModelProto:
    net = Net(x=(2, 8))
    weight = net.weight(2, 8)
    return net.model(weight, net.add("Add", "x", weight))


def output_twice() -> onnx.ModelProto:
    net = Net(x=(2, 8))
    a = net.add("Relu", "x")
    return net.model(a, net.add("Reshape", a, net.constant(np.array([16]))), net.add("Exp", a))


def output_is_part_of_another() -> onnx.ModelProto:
    net = Net(x=(1, 16, 3, 3))
    a, b = net.add("Relu", "x"), net.add("Exp", "x")
    return net.model(net.add("Concat", a, b, axis=1), b)


def output_is_integer() -> onnx.ModelProto:
    net = Net(x=(3, 7))
    return net.model(net.add("ArgMax", "x", axis=1), net.add("Greater", "x", net.constant(np.float32(0.5))))


def chain_in_place() -> onnx.ModelProto:
    net = Net(x=(4, 4))
    a = net.add("Softmax", "x")
    b = net.add("Softmax", net.add("Mul", a, a), axis=0)
    return net.model(net.add("Add", net.add("Softmax", b), "x"))


@pytest.mark.parametrize(
    "make",
    [
        output_is_input,
        output_is_reshaped_input,
        output_is_constant,
        output_twice,
        output_is_part_of_another,
        output_is_integer,
        chain_in_place,
    ],
)
def test_outputs_of_every_kind(make: Callable[[], onnx.ModelProto]) -> None:
    check(make(), threads=2)


def test_an_empty_tensor() -> None:
    net = Net(x=(4, 4))
    bounds = [net.constant(np.array([i])) for i in (1, 1, 0)]
    empty = net.add("Relu", net.add("Slice", "x", *bounds))
    check(net.model(empty, net.add("Concat", empty, "x", axis=0)), threads=2)


# ----------------------------------------------------------------------------------- options, errors


def test_an_artifact_runs_as_the_model_did(tmp_path: Path) -> None:
    model = residual()
    built = luthier.compile(model, threads=2)
    built.save(tmp_path / "m.luthier")
    loaded = luthier.load(tmp_path / "m.luthier")
    feed = feed_of(model)
    np.testing.assert_array_equal(loaded.run(None, feed)[0], built.run(None, feed)[0])
    assert loaded.report == built.report
    assert [k.symbol for k in loaded.profile(2).kernels] == [c.symbol for c in built.program.calls]


def test_python_threads_share_a_model() -> None:
    model = inception()
    executable = luthier.compile(model, threads=2)
    feeds = [feed_of(model, seed) for seed in range(12)]
    alone = [executable.run(None, f)[0] for f in feeds]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda f: executable.run(None, f)[0], feeds))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_equal_tasks_are_built_once_and_equal_weights_kept_once() -> None:
    def chain(length: int) -> luthier.runtime.report.BuildReport:  # type: ignore[name-defined]
        net = Net(x=(1, 16, 6, 6))
        weight, x = net.weight(16, 16, 3, 3), "x"
        for _ in range(length):
            x = net.add("Conv", x, weight, pads=[1] * 4)
        return luthier.compile(net.model(x), threads=1).report

    short, long = chain(3), chain(6)
    assert long.kernels == short.kernels + 3
    assert [t.key for t in long.tasks] == [t.key for t in short.tasks]
    assert sum(t.uses for t in long.tasks) == long.kernels
    assert long.constants_bytes == short.constants_bytes
    assert long.code_bytes < 1.5 * short.code_bytes


def test_decisions_come_from_the_caller() -> None:
    model = residual()
    asked = []

    def schedules(work: Any, target: Any) -> Found | None:
        asked.append(work.key)
        if work.anchor.tag != "conv2d":
            return None
        return Found(instantiate(work, Default(), target).decisions, "reused" if len(asked) % 2 else "tuned")

    executable = compile_model(model, threads=1, schedules=schedules)
    report = executable.report
    assert report is not None
    assert sorted(asked) == sorted(t.key for t in report.tasks)
    assert report.count("tuned") >= 1
    assert report.count("reused") >= 1
    assert report.count("default") >= 1
    feed = feed_of(model)
    np.testing.assert_allclose(executable.run(None, feed)[0], reference(model, feed)[0], rtol=1e-4, atol=1e-5)


def test_decisions_that_no_longer_fit_fall_back_and_say_so() -> None:
    with pytest.warns(UserWarning, match="no longer fits"):
        executable = compile_model(residual(), threads=1, schedules=lambda work, target: Found({"no such": 1}))
    assert executable.report is not None
    assert executable.report.count("tuned") < len(executable.report.tasks)


def test_jobs_do_not_change_the_result() -> None:
    model = inception()
    one, many = (luthier.compile(model, threads=1, jobs=jobs) for jobs in (1, 3))
    assert one.objects == many.objects
    assert one.program == many.program


@pytest.mark.parametrize("option", ["threads", "jobs"])
def test_counts_must_be_positive(option: str) -> None:
    with pytest.raises(Error, match=f"{option} is 0"):
        compile_model(residual(), **{option: 0})


def test_all_unsupported_nodes_are_named_at_once() -> None:
    net = Net(x=(2, 2))
    net.add("Det", "x", name="first")
    net.add("Det", net.add("Relu", "x"), name="second")
    outputs = [helper.make_tensor_value_info(name, FLOAT, ()) for name in ("first", "second")]
    graph = helper.make_graph(net.nodes, "net", net.inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(OnnxError, match=r"2 unsupported node.*node_first.*node_second"):
        luthier.compile(model)


def test_a_model_for_another_machine_can_be_saved_but_not_run(tmp_path: Path) -> None:
    model = residual()
    executable = luthier.compile(model, target="aarch64", threads=1)
    for run in (lambda: executable.run(None, feed_of(model)), executable.time, executable.profile):
        with pytest.raises(TargetError, match=r"the code is for aarch64 .*; save it and load it there"):
            run()
    executable.save(tmp_path / "m.luthier")
    with pytest.raises(ArtifactError, match=r"made for aarch64, this machine is"):
        luthier.load(tmp_path / "m.luthier")


def test_a_target_with_another_instruction_set_can_be_built_and_saved(tmp_path: Path) -> None:
    executable = luthier.compile(residual(), target=named_target("x86-64-v3"))
    assert executable.target.name == "x86-64-v3"
    executable.save(tmp_path / "m.luthier")
    assert luthier.load(tmp_path / "m.luthier").target == executable.target
