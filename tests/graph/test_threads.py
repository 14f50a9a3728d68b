"""Whole models on several threads: more of them than cores, fewer than asked for, and several callers at once.

What a thread does must not depend on how many others there are: results are those of one thread, up to rounding.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

import luthier
from luthier.runtime import openmp

from .nets import Net, feed_of

pytestmark = pytest.mark.skipif(openmp.runtime() is None, reason="no OpenMP runtime on this machine")


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """Direct and Winograd convolutions, a residual sum, pooling, a matrix product, softmax: kernels of every space."""
    net = Net(x=(1, 3, 32, 32))
    stem = net.add("Relu", net.conv("x", 3, 32, 7, strides=[2, 2]))
    wide = net.add("Relu", net.conv(stem, 32, 64, 3))
    same = net.conv(wide, 64, 64, 3)
    depthwise = net.conv(net.add("Relu", net.add("Add", same, wide)), 64, 64, 3, group=64)
    pooled = net.add("MaxPool", net.conv(depthwise, 64, 48, 1), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    flat = net.add("Flatten", net.add("GlobalAveragePool", pooled))
    return net.model(pooled, net.add("Softmax", net.add("MatMul", flat, net.weight(48, 37))))


@pytest.fixture(scope="module")
def folder(model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the model as an artifact for four threads, and in serial.npz its input and what one thread computes."""
    path = tmp_path_factory.mktemp("model")
    luthier.compile(model, threads=4).save(path / "four.luthier")
    feed = feed_of(model)
    outputs = luthier.compile(model, threads=1).run(None, feed)
    np.savez(path / "serial.npz", x=feed["x"], **{f"y{i}": y for i, y in enumerate(outputs)})
    return path


def check_alone(folder: Path, before: str = "", **environment: str) -> None:
    """In a process of its own, run ``before``, then the model on four threads, and compare with the serial results."""
    script = """
        import numpy as np, luthier
        model, serial = luthier.load("four.luthier"), np.load("serial.npz")
        assert model.threads == 4
        for _ in range(5):
            for i, y in enumerate(model.run(None, {"x": serial["x"]})):
                one = serial[f"y{i}"]
                np.testing.assert_allclose(y, one, rtol=1e-4, atol=2e-6 * np.abs(one).max())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(before) + textwrap.dedent(script)],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
@pytest.mark.parametrize("policy", ["", "active", "passive"])
def test_more_threads_than_cores_finish(folder: Path, policy: str) -> None:
    """As under ``taskset -c 0``: who waits at a barrier must let those go on for whom it waits."""
    one_cpu = """
        import os
        from luthier.runtime.openmp import default_threads
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        assert default_threads() == 1
    """
    check_alone(folder, one_cpu, **({"OMP_WAIT_POLICY": policy} if policy else {}))


def test_a_number_of_threads_that_was_given_wins_over_the_environment(folder: Path) -> None:
    check_alone(folder, OMP_NUM_THREADS="1,2")


@pytest.mark.parametrize("limits", [{"OMP_THREAD_LIMIT": "3"}, {"OMP_THREAD_LIMIT": "1"}, {"OMP_DYNAMIC": "true"}])
def test_a_runtime_may_grant_fewer_threads(folder: Path, limits: dict[str, str]) -> None:
    check_alone(folder, **limits)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_several_python_threads_call_one_model(model: onnx.ModelProto, threads: int) -> None:
    executable = luthier.compile(model, threads=threads)
    feeds = [feed_of(model, seed) for seed in range(6)]
    expected = [executable.run(None, feed) for feed in feeds]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: executable.run(None, feeds[n % 6]), range(60)))
    for n, outputs in enumerate(found):
        for y, alone in zip(outputs, expected[n % 6], strict=True):
            np.testing.assert_array_equal(y, alone)


def test_several_python_threads_call_different_models(model: onnx.ModelProto) -> None:
    executables = [luthier.compile(model, threads=threads) for threads in (1, 2, 4)]
    feed = feed_of(model)
    expected = [e.run(None, feed) for e in executables]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda n: executables[n % 3].run(None, feed), range(30)))
    for n, outputs in enumerate(found):
        for y, alone in zip(outputs, expected[n % 3], strict=True):
            np.testing.assert_array_equal(y, alone)
