"""Loop nests that lowering builds: prefetches, tiles that stick out, scratch that pieces share."""

import textwrap

import numpy as np
import pytest
from targets import TARGETS
from workloads import conv_relu, matmul

from luthier import te
from luthier.codegen.build import build_kernel
from luthier.codegen.detect import host_target
from luthier.codegen.lower import lower
from luthier.codegen.nodes import Alloc, If, Prefetch, walk_stmts
from luthier.codegen.printer import format_function
from luthier.errors import ScheduleError
from luthier.runtime.function import Function
from luthier.schedule.decide import Default
from luthier.schedule.schedule import Schedule
from luthier.schedule.space import instantiate


def body(schedule, skip=1):
    return format_function(lower(schedule)).splitlines()[skip:]


def nest(text):
    return ["  " + line for line in textwrap.dedent(text).strip("\n").splitlines()]


def test_a_prefetch_asks_for_one_line_a_vector_and_goes_on_past_the_loop():
    s = Schedule(matmul(4, 32, 6, constant=True))
    s.transform_layout("B", [[], [16]], [(1, 0), (0, 0), (1, 1)])
    j_o, j_i = s.split("C", "j", 16)
    s.reorder("C", ["i", j_o, "k", j_i])
    s.vectorize("C", j_i)
    s.prefetch("C", "B", "k", 6)
    lines = body(s)
    at = next(n for n, line in enumerate(lines) if "prefetch" in line)
    assert lines[at].strip() == "prefetch B[j.o, k + 6, 0] locality 2"
    assert lines[at - 1].strip() == "for k in 0..6:"


def test_a_prefetch_for_an_attached_stage_asks_for_all_that_its_next_tile_reads():
    s = Schedule(matmul(4, 32, 40))
    local = s.cache_write("C")
    s.compute_at(local, "C", "i")
    s.prefetch(local, "A", None, 2)
    lines = body(s)
    at = next(n for n, line in enumerate(lines) if "prefetch" in line)
    assert lines[at].strip() == "prefetch A[i + 2, k] locality 2"
    assert lines[at - 1].strip() == "for k in 0..40:"


def test_a_prefetch_along_an_outer_loop_asks_for_what_a_stage_between_reads():
    """One line for each row of 16 elements; past the last block it goes on through memory."""
    x, w = te.placeholder((6, 2, 16), name="x"), te.placeholder((2, 16, 4), name="w")
    o, i = te.reduce_axis(2, "o"), te.reduce_axis(16, "i")
    y = te.compute(x.shape, lambda r, a, b: te.maximum(x[r, a, b], 0.0), name="y")
    z = te.compute((6, 4), lambda r, j: te.sum(y[r, o, i] * w[o, i, j], (o, i)), name="z")
    s = Schedule(te.workload(z))
    local = s.cache_write("z")
    block, row = s.split("z", "r", 3)
    s.compute_at(local, "z", row)
    s.compute_at("y", "z", block)
    s.reorder(local, ["o", "i", "r", "j"])
    s.prefetch(local, "x", "o", 1, along=block)
    lines = body(s)
    at = next(n for n, line in enumerate(lines) if "prefetch" in line)
    assert lines[at].strip() == "prefetch x[r.o * 3 + r.i + 3, o, 0] locality 2"
    assert lines[at - 1].strip() == "for o in 0..2:"


@pytest.mark.parametrize(
    ("tiles", "loop", "step"),
    [
        (1, "unroll k.i.share in 0..4:", "k.i.share"),
        (2, "unroll k.i.share in 0..2:", "k.i.share * 2 + i.o"),
        (3, "unroll k.i.share in 0..2:", "k.i.share * 3 + i.o"),
        (7, "for k.o in 0..8:", "i.o"),
    ],
)
def test_iterations_that_share_a_prefetch_take_turns_in_the_steps(tiles, loop, step):
    s = Schedule(matmul(6 * tiles, 64, 32, constant=True))
    s.transform_layout("B", [[], [16]], [(1, 0), (0, 0), (1, 1)])
    local = s.cache_write("C")
    tile, row = s.split("C", "i", 6)
    panel, lane = s.split("C", "j", 16)
    s.reorder("C", [panel, tile, row, lane])
    s.compute_at(local, "C", tile)
    k_o, k_i = s.split(local, "k", 4)
    s.reorder(local, [k_o, k_i, *local.roots])
    s.unroll(local, k_i)
    s.vectorize(local, local.roots[-1])
    s.prefetch(local, "B", k_o, 8, share=tile)
    lines = body(s)
    (at,) = (n for n, line in enumerate(lines) if "prefetch" in line)
    assert lines[at].strip() == f"prefetch B[j.o, (k.o + 8) * 4 + {step}, 0] locality 2"
    assert lines[at - 1].strip() == loop
    target, rng = host_target(1), np.random.default_rng(0)
    a, b = (rng.standard_normal(shape, np.float32) for shape in ((6 * tiles, 32), (32, 64)))
    found = Function(s, build_kernel(s, target), target)(a, b)
    np.testing.assert_allclose(found, a @ b, rtol=1e-4, atol=1e-5)


def test_a_prefetch_of_a_stage_s_own_tensor_asks_for_what_it_will_write():
    s = Schedule(matmul(4, 32, 6))
    local = s.cache_write("C")
    _, j_i = s.split("C", "j", 16)
    s.vectorize("C", j_i)
    s.compute_at(local, "C", "j.o")
    s.prefetch("C", "C", "j.o", 0)
    lines = [line.strip() for line in body(s)]
    at = lines.index("prefetch C[i, j.o * 16] to write")
    assert lines[at - 1] == "for j.o in 0..2:"
    with pytest.raises(ScheduleError, match="neither reads nor makes it"):
        s.prefetch(local, "C", "k", 0)


def test_a_prefetch_changes_no_result():
    target = host_target(1)
    workload = matmul(5, 37, 11, constant=True)
    s = Schedule(workload)
    s.prefetch("C", "B", "k", 1000)
    a, b = (np.random.default_rng(0).standard_normal(p.shape).astype(np.float32) for p in workload.inputs)
    found = Function(s, build_kernel(s, target), target)(a, b)
    np.testing.assert_allclose(found, a @ b, rtol=1e-5, atol=1e-5)


def test_distance_zero_stands_before_the_stages_inside_the_loop():
    workload = conv_relu(kernel=(1, 1), pad=0, residual=True)
    s = instantiate(workload, Default(), TARGETS["x86-64-v4"])
    found = [x for x in walk_stmts(lower(s).body) if isinstance(x, Prefetch)]
    assert {(x.buffer.name, x.write) for x in found} == {("r", False), (workload.outputs[0].name, True)}


def padded_rows():
    """A copy of an image with a row of zeros above it and a column to its left."""
    x = te.placeholder((4, 6), name="x")
    inside = lambda i, j: te.all_of(i >= 1, j >= 1)  # noqa: E731
    y = te.compute((5, 7), lambda i, j: te.select(inside(i, j), x[i - 1, j - 1], 0.0), name="y")
    z = te.compute(y.shape, lambda i, j: y[i, j] * 2.0, name="z")
    s = Schedule(te.workload(z))
    s.compute_at("y", "z", "i")
    return s


def test_unswitched_conditions_are_tested_before_the_loops():
    plain, s = padded_rows(), padded_rows()
    s.unswitch("y")
    assert "in two copies" in str(s) and "in two copies" not in str(plain)
    lines = [line.strip() for line in body(s)]
    at = lines.index("if i >= 1:")
    assert lines[at + 1 : at + 3] == ["for j in 0..7:", "y[0, j] = select(j >= 1, x[i - 1, j - 1], 0.0)"]
    assert not any(line.startswith("if") for line in map(str.strip, body(plain)))
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    target = host_target(1)
    for schedule in (plain, s):
        found = Function(schedule, build_kernel(schedule, target), target)(x)
        np.testing.assert_array_equal(found, 2 * np.pad(x, ((1, 0), (1, 0))))
    assert Schedule.replay(s.workload, s.to_json()).to_json() == s.to_json()


def tiled_sum(rows, tile):
    """Row sums, squared, in tiles of rows inside blocks of ``rows``."""
    x = te.placeholder((10, 8), name="x")
    k = te.reduce_axis(8, "k")
    y = te.compute((10,), lambda i: te.sum(x[i, k], k), name="y")
    z = te.compute((10,), lambda i: y[i] * y[i], name="z")
    s = Schedule(te.workload(z))
    local = s.cache_write("y")
    i_o, _ = s.split("z", "i", rows, tail="guard")
    s.compute_at("y", "z", i_o)
    t_o, _ = s.split("y", "i", tile, tail="guard")
    s.compute_at(local, "y", t_o)
    return s, local, t_o


def test_a_tile_computes_no_more_than_its_reader_needs():
    s, _, t_o = tiled_sum(rows=5, tile=2)
    s.partition("y", t_o, [2])
    text = format_function(lower(s))
    assert not [x for x in walk_stmts(lower(s).body) if isinstance(x, If)]
    # the last tile of a block of five holds one row
    assert "y.local[0] = y.local[0] + x[i.o * 5 + 4, k]" in text


@pytest.mark.parametrize(("rows", "tile", "cuts"), [(7, 2, [1, 3]), (8, 3, [2])])
def test_tiles_past_the_end_of_a_block_are_left_out(rows, tile, cuts):
    s, _, t_o = tiled_sum(rows, tile)  # the last block has three rows, or two: its last tile is the second, or first
    s.partition("z", s["z"].leaves[0], [1])
    s.partition("y", t_o, cuts)
    assert not [x for x in walk_stmts(lower(s).body) if isinstance(x, If)]
    x, target = np.random.default_rng(0).random((10, 8), dtype=np.float32), host_target(1)
    np.testing.assert_allclose(Function(s, build_kernel(s, target), target)(x), x.sum(1) ** 2, rtol=1e-6)


def test_a_stage_ends_where_a_guarded_split_of_its_reader_does():
    x = te.placeholder((12,), name="x")
    y = te.compute((12,), lambda i: x[i] * 2.0, name="y")
    z = te.compute((12,), lambda i: y[i] + 1.0, name="z")
    s = Schedule(te.workload(z))
    _, member = s.split("z", "i", 6)
    tile, _ = s.split("z", member, 4, tail="guard")  # tiles of four and two
    s.compute_at("y", "z", tile)
    s.partition("z", tile, [1])
    assert body(s) == nest("""
        for i.o in 0..2:
          stack y: float32[4]
          for i in 0..4:
            y[i] = x[i.o * 6 + i] * 2.0
          for i.i.i in 0..4:
            z[i.o * 6 + i.i.i] = y[i.i.i] + 1.0
          stack y: float32[4]
          for i in 0..2:
            y[i] = x[i.o * 6 + i + 4] * 2.0
          for i.i.i in 0..2:
            z[i.o * 6 + i.i.i + 4] = y[i.i.i] + 1.0
    """)


def test_regions_leave_out_what_a_guarded_split_rounds_up():
    x = te.placeholder((10,), name="x")
    w = te.compute((10,), lambda i: x[i] * 2.0, name="w")
    y = te.compute((10,), lambda i: w[i] + 1.0, name="y")
    z = te.compute((10,), lambda i: y[i] * y[i], name="z")
    s = Schedule(te.workload(z))
    outer, _ = s.split("z", "i", 5)
    s.compute_at("y", "z", outer)
    s.split("y", "i", 3, tail="guard")
    s.compute_at("w", "z", outer)
    assert [r.extent for r in s["w"].roots] == [5]


@pytest.mark.parametrize("attached", [True, False])
def test_padding_keeps_rows_apart_and_changes_no_result(attached):
    x = te.placeholder((6, 8), name="x")
    y = te.compute((6, 8), lambda i, j: x[i, j] * 2.0, name="y")
    z = te.compute((8, 6), lambda i, j: y[j, i] + 1.0, name="z")
    s = Schedule(te.workload(z))
    outer, _ = s.split("z", "i", 4)
    if attached:
        s.compute_at("y", "z", outer)
    s.transform_layout("y", [[], []], [(1, 0), (0, 0)], [0, 3])
    function, target = lower(s), host_target(1)
    allocated = [n.buffer for n in walk_stmts(function.body) if isinstance(n, Alloc)]
    assert [b.shape for b in (*function.shared, *allocated)] == [(4 if attached else 8, 6 + 3)]
    data = np.random.default_rng(0).random((6, 8), dtype=np.float32)
    np.testing.assert_array_equal(Function(s, build_kernel(s, target), target)(data), data.T * 2 + 1)
    assert Schedule.replay(s.workload, s.to_json()).to_json() == s.to_json()


def test_the_pieces_of_a_cut_loop_share_scratch_memory():
    x = te.placeholder((6, 10000), name="x")
    y = te.compute((6, 10000), lambda i, j: x[i, j] * 2.0, name="y")
    z = te.compute((6, 10000), lambda i, j: y[i, j] + 1.0, name="z")
    s = Schedule(te.workload(z))
    s.compute_at("y", "z", "i")
    s.partition("z", "i", [1, 5])
    function = lower(s)
    assert [b.name for b in function.thread] == ["y"]
