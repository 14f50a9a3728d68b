"""Shared by the tuner's tests: made-up records, and a small real task."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.target import Target
from luthier.tuner.record import Record, Status

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


@pytest.fixture
def repository_env() -> dict[str, str]:
    """An environment in which a child process imports the same luthier as this one."""
    import luthier

    root = str(Path(luthier.__file__).parent.parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
