"""Ctrl-C, real signals at random moments: start-up, search, writing, the measurements at the end."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import all_end, children

from luthier.tuner.database import open_log
from luthier.tuner.interrupts import shielded

SCRIPT = """
import sys
print("started", flush=True)
from luthier.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Two layers in an ONNX file."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.standard_normal((32, 16, 3, 3)).astype(np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["y"]),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 16, 14, 14))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 32, 14, 14))],
        [weights],
    )
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_ctrl_c_at_random_moments(model, tmp_path, repository_env):
    """A whole session, ends included, takes some seconds; each run is cut at a moment of its own."""
    path, seed = tmp_path / "a.db", int.from_bytes(os.urandom(4), "little")
    rng = random.Random(seed)
    command = [sys.executable, "-c", SCRIPT, "tune", str(model), "--trials", "12", "--threads", "1", "--log", str(path)]
    start = time.monotonic()
    whole = subprocess.run(command, env=repository_env, capture_output=True, text=True, timeout=300)
    assert whole.returncode == 0, whole.stderr
    length_s = time.monotonic() - start
    known = 12
    for moment in [rng.uniform(0.3 * n, 0.3 * (n + 1)) for n in range(4)]:
        run = subprocess.Popen(
            command, env=repository_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert run.stdout is not None and run.stdout.readline() == "started\n"
        time.sleep(moment * length_s)
        workers = children(run.pid)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
        assert run.returncode in (130, 0, -signal.SIGINT), (seed, moment, errors)
        assert "Traceback" not in errors or run.returncode == -signal.SIGINT, (seed, moment, errors)
        assert all_end(workers), (seed, moment)
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",), (seed, moment)
        with open_log(path) as log:
            records = list(log.records())
        assert len(records) >= known, (seed, moment)  # nothing that was in the log is lost
        known = len(records)


def test_a_signal_waits_for_the_end_of_the_block():
    order = []
    with pytest.raises(KeyboardInterrupt):
        with shielded():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            order.append("written")
        order.append("never")
    assert order == ["written"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_signal_nothing_happens():
    with shielded(), shielded():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
