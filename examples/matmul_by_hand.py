"""A matrix product scheduled by hand, one idea at a time, with its speed after each.

    python examples/matmul_by_hand.py

What is computed never changes; each step adds a few primitives to how. The last schedule is what the space of matrix
products (schedule/spaces/matmul.py) would choose among many.
"""

import numpy as np

import luthier
from luthier import te
from luthier.codegen.detect import host_target
from luthier.schedule.schedule import Schedule

M, N, K = 512, 512, 512
TARGET = host_target(threads=1)
ROWS, VECTORS = (6, 4) if TARGET.vector_registers >= 32 else (6, 2)  # the tile of the result that stays in registers
LANES = TARGET.lanes()


def product() -> te.Workload:
    """C[i, j] = sum over k of A[i, k] * B[k, j]; B is known when code is built."""
    a = te.placeholder((M, K), name="A")
    b = te.placeholder((K, N), name="B", constant=True)
    k = te.reduce_axis(K, "k")
    c = te.compute((M, N), lambda i, j: te.sum(a[i, k] * b[k, j], k), name="C")
    return te.workload(c, [a, b])


def naive(s: Schedule) -> None:
    """Three loops, one multiply-add at a time."""


def vectorised(s: Schedule) -> None:
    """A vector of neighbouring columns at once; k goes outside of them, so that B is read in order."""
    local = s.cache_write("C")
    j_o, j_i = s.split("C", "j", LANES)
    s.compute_at(local, "C", j_o)
    s.vectorize("C", j_i)
    s.reorder(local, ["k", "j"])
    s.vectorize(local, "j")


def register_tile(s: Schedule) -> None:
    """ROWS x VECTORS sums stay in registers over the whole of k: what is loaded is used many times."""
    local = s.cache_write("C")
    i_o, i_i = s.split("C", "i", ROWS, tail="guard")
    j_o, j_i = s.split("C", "j", VECTORS * LANES)
    j_v, j_l = s.split("C", j_i, LANES)
    s.reorder("C", [j_o, i_o, i_i, j_v, j_l])
    s.compute_at(local, "C", i_o)
    for axis in (i_i, j_v):
        s.unroll("C", axis)
    s.vectorize("C", j_l)
    if M % ROWS:
        s.partition("C", i_o, [M // ROWS])  # the guard is needed in the last tile only
    v, lane = s.split(local, "j", LANES)
    s.reorder(local, ["k", "i", v, lane])
    for axis in ("i", v):
        s.unroll(local, axis)
    s.vectorize(local, lane)


def packed(s: Schedule) -> None:
    """B lies in memory as it is read, panel by panel: no jump from row to row, no miss in the address cache."""
    register_tile(s)
    s.transform_layout("B", [[], [VECTORS * LANES]], [(1, 0), (0, 0), (1, 1)])


def main() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((M, K), np.float32), rng.standard_normal((K, N), np.float32)
    reference = np.matmul(a, b, dtype=np.float64)
    steps = (naive, vectorised, register_tile, packed)
    for step in steps:
        schedule = Schedule(product())
        step(schedule)
        function = luthier.build(schedule, TARGET)
        error = np.max(np.abs(function(a, b) - reference)) / np.max(np.abs(reference))
        best_s = min(function.time(a, b, repeats=5))
        print(f"{step.__name__:<14} {2e-9 * M * N * K / best_s:7.1f} GFLOP/s   error {error:.0e}   {step.__doc__}")
    print("\nThe last schedule, as a loop nest:\n")
    print(schedule)


if __name__ == "__main__":
    main()
