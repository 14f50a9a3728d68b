"""TVM's side of :mod:`.against_tvm`: run by the Python of an environment that has apache-tvm, and without Luthier.

    python tvm_side.py tune LAYER FOLDER SECONDS      search with meta_schedule, records into FOLDER
    python tvm_side.py time LAYER FOLDER              build the best record; answer each line of input with a time

LAYER is the JSON of :class:`.against_tvm.Layer`. Convolutions are given to TVM as its own x86 backend has them:
channels in blocks as wide as a vector, weights packed by output and input block.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

os.environ.setdefault("TVM_NUM_THREADS", "1")

import numpy as np
import tvm
from tvm import te
from tvm.s_tir import meta_schedule as ms

BATCH = 16
"""Candidates between two writes of records. Of TVM's own 64, five minutes on a slow machine do not see the end."""
WORKER_S = 120
"""Within TVM's own 30 s a worker must also import TVM, which takes longer on a slow machine: none would ever build."""
TARGET = {"kind": "llvm", "mcpu": "native", "num-cores": 1}


def target():
    import platform

    from tvm.target import Target

    cpu = tvm.get_global_func("target.llvm_get_system_cpu", allow_missing=True)
    mcpu = cpu() if cpu else platform.machine()
    return Target({**TARGET, "mcpu": mcpu})


def workload(layer):
    """The layer as a PrimFunc, and the shapes of its inputs."""
    if layer["kind"] == "matmul":
        m, n, k = layer["m"], layer["n"], layer["k"]
        a, b = te.placeholder((m, k), name="a"), te.placeholder((k, n), name="b")
        r = te.reduce_axis((0, k), "r")
        y = te.compute((m, n), lambda i, j: te.sum(a[i, r] * b[r, j], r), "y")
        return te.create_prim_func([a, b, y]), [(m, k), (k, n), (m, n)]
    names = ("channels", "outputs", "size", "kernel", "stride", "block")
    c, o, size, kernel, stride, block = (layer[name] for name in names)
    pad = kernel // 2
    out = (size + 2 * pad - kernel) // stride + 1
    x = te.placeholder((1, c // block, size, size, block), name="x")
    w = te.placeholder((o // block, c // block, kernel, kernel, block, block), name="w")
    padded = x
    if pad:
        inside = lambda h, v: tvm.tirx.all(h >= pad, h < size + pad, v >= pad, v < size + pad)  # noqa: E731
        padded = te.compute(
            (1, c // block, size + 2 * pad, size + 2 * pad, block),
            lambda n, co, h, v, ci: te.if_then_else(inside(h, v), x[n, co, h - pad, v - pad, ci], 0.0),
            "padded",
        )
    rc, rh, rv, ri = (te.reduce_axis((0, e)) for e in (c // block, kernel, kernel, block))
    y = te.compute(
        (1, o // block, out, out, block),
        lambda n, oo, h, v, oi: te.sum(
            padded[n, rc, h * stride + rh, v * stride + rv, ri] * w[oo, rc, rh, rv, ri, oi], [rc, rh, rv, ri]
        ),
        "y",
    )
    shapes = [tuple(int(d) for d in t.shape) for t in (x, w, y)]
    return te.create_prim_func([x, w, y]), shapes


def tune(layer, folder, seconds):
    """Search until the time is up, then end without ceremony: records are written after each batch."""
    threading.Timer(seconds, lambda: os.killpg(0, signal.SIGKILL)).start()
    ms.tune_tir(
        mod=workload(layer)[0],
        target=target(),
        work_dir=folder,
        max_trials_global=100_000,
        num_trials_per_iter=BATCH,
        builder=ms.builder.LocalBuilder(timeout_sec=WORKER_S),
        runner=ms.runner.LocalRunner(timeout_sec=WORKER_S),
    )


def serve(layer, folder):
    """Say how many records there are and how far the result is off, then time once for each line of input."""
    function, shapes = workload(layer)
    database = ms.database.JSONDatabase(work_dir=folder)
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    records = database.get_all_tuning_records()
    if not records:
        raise SystemExit(f"{folder} holds no record of TVM's: remove the folder and give a longer --budget")
    schedule = ms.tir_integration.compile_tir(database, module, target())
    built = tvm.build(schedule.mod, target=target())
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype("float32") for s in shapes[:-1]] + [np.zeros(shapes[-1], "float32")]
    device = tvm.cpu()
    tensors = [tvm.runtime.tensor(a, device) for a in arrays]
    evaluator = built.time_evaluator("main", device, number=1, repeat=10)
    built["main"](*tensors)
    print(json.dumps({"records": len(records), "sum": float(np.abs(tensors[-1].numpy()).sum())}), flush=True)
    for _ in sys.stdin:
        print(json.dumps([float(t) for t in evaluator(*tensors).results]), flush=True)


if __name__ == "__main__":
    command, text, folder, *rest = sys.argv[1:]
    layer = json.loads(text)
    if command == "tune":
        begin = time.monotonic()
        tune(layer, folder, float(rest[0]))
        print(f"ended after {time.monotonic() - begin:.0f} s")
    else:
        serve(layer, folder)
