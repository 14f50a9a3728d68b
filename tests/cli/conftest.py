"""A tiny model, records for logs, and a way to run commands in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from luthier.cli import main
from luthier.codegen.detect import host_target
from luthier.schedule.decide import Default
from luthier.target import Target
from luthier.tuner.database import open_log
from luthier.tuner.model_tasks import model_tasks
from luthier.tuner.record import Record, Status


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of a request that was refused."""
        assert self.code == 2, self
        assert self.out == "" or not self.out.endswith("Traceback"), self
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("luthier: error: "), self.err
        return lines[0]


@pytest.fixture
def luthier(capsys, tmp_path, monkeypatch) -> Callable[..., Finished]:
    """``luthier("run", path)`` runs the command in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Finished:
        capsys.readouterr()
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        printed = capsys.readouterr()
        return Finished(code, printed.out, printed.err)

    return run


def _tiny_model(batch: int | str) -> onnx.ModelProto:
    """Convolution, ReLU, flatten, Gemm: x (batch, 3, 8, 8) -> y (batch, 5)."""
    rng = np.random.default_rng(0)
    weights = {
        "conv.weight": rng.standard_normal((16, 3, 3, 3), np.float32) / 5,
        "conv.bias": rng.standard_normal(16, np.float32),
        "fc.weight": rng.standard_normal((5, 16 * 8 * 8), np.float32) / 30,
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "fc.weight"], ["y"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def save_tiny(tmp_path):
    """``save_tiny(name, batch)`` writes the tiny model; a batch that is a text leaves the dimension open."""

    def save(name: str, batch: int | str = 1):
        onnx.save(_tiny_model(batch), tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def tiny(save_tiny):
    return save_tiny("tiny.onnx")


@pytest.fixture
def make_log(tmp_path):
    """Write a log of ``count`` ok records of one task, the fastest last, and a failure."""

    def make(name: str = "some.db", count: int = 3, first: int = 0):
        path = tmp_path / name
        with open_log(path) as log:
            for i in range(first, first + count):
                log.add(_record(i, Status.OK, (1e-3 / (i + 1),)))
            log.add(_record(-1, Status.TIMEOUT, ()))
        return path

    return make


@pytest.fixture(scope="session")
def machine() -> Target:
    return host_target(1)


@pytest.fixture
def tuned(tiny, machine):
    """``tuned(name, trials, **changes)`` writes a log of the tiny model, with made-up times: for each task some trials,
    of which the first is slowest and the last has the default schedule, and a failure."""

    def write(name: str = "tiny.db", trials: int = 6, **changes):
        with open_log(tiny.parent / name) as log:
            for task in model_tasks(tiny, machine):
                schedule = task.instantiate(Default(), machine)
                for i in range(trials):
                    last = i == trials - 1
                    record = Record(
                        key=task.key,
                        workload=task.workload.text,
                        task=task.name,
                        target=machine.fingerprint(),
                        decisions=schedule.decisions if last else {"made up": i},
                        trace=schedule.to_json() if last else None,
                        status=Status.OK,
                        run_s=tuple(1e-3 / (1 + i) * f for f in (1.0, 1.02, 1.1)),
                        verified=True,
                        created_at=1.7e9 + i,
                        search="evolutionary",
                        trial=i,
                        luthier_version="0.1.0",
                    )
                    log.add(replace(record, **changes))
                failed = {"status": Status.TIMEOUT, "run_s": (), "verified": False, "error": f"took {task.uses}.5 s"}
                log.add(replace(record, **(changes | {"decisions": {"failed": trials}, "trial": trials} | failed)))
        return tiny.parent / name

    return write


def _record(number: int, status: Status, run_s: tuple[float, ...]) -> Record:
    return Record(
        key="v1-0123456789abcdef",
        workload="C[i] = A[i]",
        task="conv2d_3x3",
        target={"name": "host", "model": "Some CPU", "threads": 2},
        decisions={"tile": number},
        status=status,
        run_s=run_s,
        verified=status is Status.OK,
        created_at=1.7e9,
        search="random",
        trial=max(number, 0),
        luthier_version="0.1.0",
    )
