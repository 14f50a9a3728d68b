"""Shared by the tuner's tests: made-up records, and a small real task."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier import te
from luthier.schedule.decide import Decider
from luthier.schedule.schedule import Schedule
from luthier.target import Target
from luthier.tuner.record import Record, Status
from luthier.tuner.task import TuningTask

MakeRecord = Callable[..., Record]


@pytest.fixture
def machine() -> Target:
    return Target("test", "x86_64-unknown-linux-gnu", "x86-64-v3", "+avx2,+fma", 256, 16)


@pytest.fixture
def make_record(machine: Target) -> MakeRecord:
    def make(tile: int = 8, run_s: float = 1e-3, **changes: Any) -> Record:
        status = changes.pop("status", Status.OK)
        values: dict[str, Any] = {
            "key": "v1:task",
            "workload": "C[i] = A[i]",
            "task": "copy",
            "target": machine.fingerprint(),
            "decisions": {"tile": tile, "order": ["i", "j"]},
            "status": status,
            "run_s": (run_s, run_s * 1.5, run_s * 1.1) if status is Status.OK else (),
            "verified": status is Status.OK,
            "trace": {"names": [["A"]], "steps": [["split", {"stage": "C", "factor": tile}]]},
            "created_at": 1.7e9,
            "search": "random",
        }
        return Record(**(values | changes))

    return make


@pytest.fixture(scope="session")
def repository_env() -> dict[str, str]:
    """An environment in which a child process imports the same luthier as this one."""
    import luthier

    root = str(Path(luthier.__file__).parent.parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}


@pytest.fixture(scope="session")
def wide() -> Target:
    """A target with 32 registers of 512 bits, whatever this machine has: for what runs no code."""
    from luthier.codegen.detect import named_target

    return named_target("x86-64-v4", threads=1)


@pytest.fixture(scope="session")
def host() -> Target:
    from luthier.codegen.detect import host_target

    return host_target(1)


@pytest.fixture(scope="session")
def matmul() -> TuningTask:
    """A product of two matrices with an epilogue: a real space, kernels of a few microseconds."""
    a, b = te.placeholder((24, 32), name="a"), te.placeholder((32, 48), name="b", constant=True)
    bias = te.placeholder(48, name="bias", constant=True)
    k = te.reduce_axis(32, "k")
    product = te.compute((24, 48), lambda i, j: te.sum(a[i, k] * b[k, j], k), "product", tag="matmul")
    out = te.compute((24, 48), lambda i, j: te.maximum(product[i, j] + bias[j], 0.0), "out")
    return TuningTask(te.workload(out, [a, b, bias]), "matmul", 3)


def tiny_space(s: Schedule, d: Decider, target: Target) -> None:
    """Six schedules of a one-dimensional compute."""
    (stage,) = s.live_stages()
    (axis,) = stage.leaves
    factor = d.choose("factor", [4, 8, 16], 8)
    _, inner = s.split(stage, axis, factor)
    if d.choose("how", ["vectorize", "unroll"], "vectorize") == "vectorize":
        s.vectorize(stage, inner)
    else:
        s.unroll(stage, inner)


@pytest.fixture(scope="session")
def tiny() -> TuningTask:
    """A task with a space of the user's own that has six points."""
    x = te.placeholder(64, name="x")
    return TuningTask(te.workload(te.compute(64, lambda i: x[i] * 2.0, "y")), "tiny", 1, tiny_space)
