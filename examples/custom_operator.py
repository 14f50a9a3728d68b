"""An operator of one's own with a search space of one's own, tuned and called.

    python examples/custom_operator.py

The operator is the table of squared distances of two sets of points, d[i, j] = sum over k of (x[i, k] - y[j, k])^2.
It is written as a tensor expression. Its space is an ordinary function that schedules it and leaves three decisions
open; tuning tries answers to them, on this machine, and keeps what it measures in a log.
"""

import tempfile
from pathlib import Path

import numpy as np

import luthier
from luthier import te
from luthier.codegen.detect import host_target
from luthier.schedule.decide import Decider, Default
from luthier.schedule.schedule import Schedule
from luthier.schedule.space import instantiate
from luthier.target import Target
from luthier.tuner.database import open_log
from luthier.tuner.lookup import best_schedule
from luthier.tuner.session import tune_workload

POINTS, CENTRES, DIMENSIONS = 2000, 256, 64


def distances() -> te.Workload:
    """What: x (POINTS, DIMENSIONS), y (CENTRES, DIMENSIONS) -> d (POINTS, CENTRES). y is known beforehand."""
    x = te.placeholder((POINTS, DIMENSIONS), name="x")
    y = te.placeholder((CENTRES, DIMENSIONS), name="y", constant=True)
    k = te.reduce_axis(DIMENSIONS, "k")

    def distance(i: te.Var, j: te.Var) -> te.Expr:
        difference = x[i, k] - y[j, k]
        return te.sum(difference * difference, k)

    return te.workload(te.compute((POINTS, CENTRES), distance, name="d"), [x, y])


def space(s: Schedule, d: Decider, target: Target) -> None:
    """How: tiles of rows x vectors in registers; their size and the unrolling of k are open."""
    lanes = target.lanes()
    vectors = d.choose("vectors", [v for v in (1, 2, 4) if CENTRES % (v * lanes) == 0], 1)
    rows = d.choose("rows", [r for r in (1, 2, 4, 5, 8, 10) if r * vectors <= target.vector_registers - 4], 1)
    steps = d.choose("unroll_k", [1, 2, 4], 1)
    panel = vectors * lanes
    s.transform_layout("y", [[panel], []], [(0, 0), (1, 0), (0, 1)])  # the centres of a tile lie side by side

    local = s.cache_write("d")
    i_o, i_i = s.split("d", "i", rows)
    j_o, j_i = s.split("d", "j", panel)
    j_v, j_l = s.split("d", j_i, lanes)
    s.reorder("d", [j_o, i_o, i_i, j_v, j_l])
    s.compute_at(local, "d", i_o)
    s.unroll("d", i_i)
    s.unroll("d", j_v)
    s.vectorize("d", j_l)
    s.parallel("d", s.fuse("d", j_o, i_o))

    v, lane = s.split(local, "j", lanes)
    k_o, k_i = s.split(local, "k", steps)
    s.reorder(local, [k_o, k_i, "i", v, lane])
    for axis in (k_i, "i", v):
        s.unroll(local, axis)
    s.vectorize(local, lane)


def main() -> None:
    target = host_target()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((POINTS, DIMENSIONS), np.float32)
    y = rng.standard_normal((CENTRES, DIMENSIONS), np.float32)
    reference = ((x[:, None, :].astype(np.float64) - y[None]) ** 2).sum(axis=2)

    work = distances()
    first = instantiate(work, Default(), target, space)
    with tempfile.TemporaryDirectory() as folder, open_log(Path(folder) / "distances.db") as log:
        print(tune_workload(work, log=log, target=target, space=space, name="distances", trials=40))
        best = best_schedule(log, work, target) or first

    for name, schedule in (("default decisions", first), ("tuned decisions", best)):
        function = luthier.build(schedule, target)
        best_s = min(function.time(x, y, repeats=10, number=5))
        error = np.max(np.abs(function(x, y) - reference)) / np.max(reference)
        print(f"{name}: {schedule.decisions}: {best_s * 1e6:.0f} us, error {error:.0e}")


if __name__ == "__main__":
    main()
