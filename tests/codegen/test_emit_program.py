"""The native entry: arguments reach the kernels, threads meet, repetitions count."""

from __future__ import annotations

import ctypes
import time

import numpy as np
import pytest
from loop_harness import buffer, loop

from luthier.codegen import emit, llvm
from luthier.codegen.detect import host_target
from luthier.codegen.emit_program import ENTRY, TIMED_ENTRY, emit_program
from luthier.codegen.nodes import Barrier, Function, Store, seq
from luthier.codegen.program import KernelCall, Program, Slot, stamps_per_thread
from luthier.runtime.loader import load_entries, load_objects
from luthier.te.expr import Var

N = 1024


def scale_and_add() -> Function:
    """out[i] = a[N-1-i] + w[i], by way of shared scratch and a barrier, and of the thread's own."""
    a, w, out = buffer("a", (N,)), buffer("w", (N,)), buffer("out", (N,))
    shared, own = buffer("s", (N,), scope="shared"), buffer("t", (16,), scope="thread")
    i, j, k, v = Var("i"), Var("j"), Var("k"), Var("v")
    first = loop(i, N, "parallel", Store(shared, (i,), a[i]))
    row = seq(
        loop(v, 16, "vectorize", Store(own, (v,), shared[N - 1 - (j * 16 + v)])),
        loop(k, 16, "vectorize", Store(out, (j * 16 + k,), own[k] + w[j * 16 + k])),
    )
    body = seq(first, Barrier(), loop(j, N // 16, "parallel", row))
    return Function("scale_and_add", (a, w, out), 1, body, (shared,), (own,))


def aligned(size_bytes: int) -> np.ndarray:
    raw = np.zeros(size_bytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size_bytes]


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("repeats", [0, 1, 3])
def test_two_kernels(threads, repeats, wait):
    """The same kernel twice: input -> arena -> output, with a constant at an offset."""
    fn, target = scale_and_add(), host_target(1)
    one = N * 4
    scratch = {"shared": 2 * one, "thread": 3 * one, "thread_bytes": 64}
    weights = Slot("constant", offset=64)
    calls = (
        KernelCall(fn.name, (Slot("input", 1), weights, Slot("arena", offset=one)), **scratch),
        KernelCall(fn.name, (Slot("arena", offset=one), weights, Slot("output", 0)), **scratch, wait=wait),
    )
    program = Program(calls, inputs=2, outputs=1, arena_bytes=3 * one + 64 * threads, threads=threads)
    objects = [
        llvm.compile_object(text, target) for text in (emit.emit_function(fn, target), emit_program(program, target))
    ]
    loaded = load_objects(objects)
    rng = np.random.default_rng(0)
    unused, x, y = (aligned(one).view(np.float32) for _ in range(3))
    constants = aligned(64 + one)
    x[:] = rng.standard_normal(N)
    w = constants[64:].view(np.float32)
    w[:] = rng.standard_normal(N)
    arena = aligned(program.arena_bytes)
    inputs = (ctypes.c_void_p * 2)(unused.ctypes.data, x.ctypes.data)
    outputs = (ctypes.c_void_p * 1)(y.ctypes.data)
    status = loaded(
        ctypes.addressof(inputs), ctypes.addressof(outputs), constants.ctypes.data, arena.ctypes.data, threads, repeats
    )
    assert status == 0
    want = (x[::-1] + w)[::-1] + w if repeats else np.zeros(N, np.float32)
    np.testing.assert_array_equal(y, want)


def test_one_thread_needs_no_openmp():
    """The path for one thread reaches no OpenMP call: the team's block is the only one that does."""
    fn = scale_and_add()
    call = KernelCall(fn.name, (Slot("input", 0), Slot("constant"), Slot("output", 0)))
    text = emit_program(Program((call,), 1, 1, 0), host_target(1))
    alone = text[text.index("alone:") : text.index("team:")]
    assert "GOMP" not in alone and "omp_" not in alone and "@luthier_sequence" in alone


@pytest.mark.parametrize("timed", [False, True])
def test_empty_program_compiles(timed):
    target = host_target(1)
    assert llvm.compile_object(emit_program(Program((), 0, 0, 0), target, timed=timed), target)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_timed_variant_computes_the_same_and_notes_when(threads):
    fn, target = scale_and_add(), host_target(1)
    one = N * 4
    scratch = {"shared": one, "thread": 2 * one, "thread_bytes": 64}
    first = KernelCall(fn.name, (Slot("input", 0), Slot("constant"), Slot("arena")), **scratch)
    second = KernelCall(fn.name, (Slot("input", 0), Slot("constant"), Slot("output", 0)), **scratch, wait=False)
    program = Program((first, second), inputs=1, outputs=1, arena_bytes=2 * one + 64 * threads, threads=threads)
    texts = [emit_program(program, target), emit_program(program, target, timed=True)]
    objects = [llvm.compile_object(text, target) for text in (emit.emit_function(fn, target), *texts)]
    plain, timed = load_entries(objects, [ENTRY, TIMED_ENTRY])  # both fit into one library
    arena, constants = aligned(program.arena_bytes), aligned(one)
    x = aligned(one).view(np.float32)
    x[:] = np.random.default_rng(0).standard_normal(N)
    constants.view(np.float32)[:] = np.arange(N)
    stamps = np.zeros((threads, stamps_per_thread(program), 2), np.int64)
    results = []
    before_ns = time.perf_counter_ns()
    for entry in (plain, timed):
        y = aligned(one).view(np.float32)
        inputs = (ctypes.c_void_p * 2)(x.ctypes.data, stamps.ctypes.data)
        outputs = (ctypes.c_void_p * 1)(y.ctypes.data)
        tables = ctypes.addressof(inputs), ctypes.addressof(outputs)
        assert entry(*tables, constants.ctypes.data, arena.ctypes.data, threads, 1) == 0
        results.append(y)
    after_ns = time.perf_counter_ns()
    np.testing.assert_array_equal(results[1], x[::-1] + constants.view(np.float32))
    np.testing.assert_array_equal(results[0], results[1])
    ns = stamps[..., 0] * 1_000_000_000 + stamps[..., 1]
    used = ns[:, : 2 * len(program.calls) + 1]
    assert (used >= before_ns).all() and (used <= after_ns).all()  # Python's clock
    assert (np.diff(used) >= 0).all()
    assert not ns[:, used.shape[1] :].any()
    begin_of_second, end_of_first = used[:, 2], used[:, 1]
    assert begin_of_second.min() >= end_of_first.max()  # a barrier is between them
    assert used[:, 4].min() >= used[:, 3].max()  # and one at the end
