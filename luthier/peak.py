"""What this machine can do at most, measured in the same run as what is compared with it.

:func:`measure` gives both of the following, for the rooflines of a profile.
:func:`fma_peak` times a loop that holds nothing but fused multiply-adds on registers, :func:`read_peak` one that reads
memory. Both are functions of the loop IR that take the compiler's ordinary way to machine code. :class:`FmaMeter` takes
single readings of the former, for comparisons in turn: a core's rate changes with what else runs on the machine.
"""

from __future__ import annotations

import time
from math import prod

import numpy as np

from .codegen import emit, llvm
from .codegen.emit_program import emit_program
from .codegen.nodes import Alloc, Buffer, For, Function, LoopKind, Stmt, Store, seq
from .codegen.program import KernelCall, Program, Slot
from .runtime.arrays import Array, address_of, empty_aligned
from .runtime.loader import LoadedProgram, load_objects
from .runtime.profile import Peaks
from .target import Target
from .te.expr import ExprLike, Var, as_expr

STREAMS = (1, 8)
"""At how many places at once memory is read: some cores read more with one, others with several."""
CHAINS = 12
"""Independent accumulators: more than latency (4) times units (2), fewer than the 16 registers of AVX2."""
STEPS = 1 << 17


def measure(target: Target) -> Peaks:
    """Both peaks of ``target.threads`` threads with the vectors of ``target``; about a second."""
    return Peaks(fma_peak(target), read_peak(target))


class FmaMeter:
    """Readings of the multiply-adds that all ``target.threads`` do in registers, f32; one takes a millisecond."""

    def __init__(self, target: Target) -> None:
        lanes, self._threads = target.lanes(), target.threads
        self._x = _aligned(np.full((2, lanes), 0.5, np.float32))
        self._out = empty_aligned((self._threads, CHAINS, lanes), np.dtype(np.float32))
        self._program = _load(_fma_loop(lanes, self._threads), target)
        self._flops = 2.0 * lanes * CHAINS * STEPS * self._threads

    def read(self, repeats: int = 1) -> float:
        """Floating-point operations per second (an FMA counts two), at the best of ``repeats``."""
        return self._flops / _best(self._program, [self._x], [self._out], self._threads, repeats)


def fma_peak(target: Target, repeats: int = 40) -> float:
    """Floating-point operations per second of all ``target.threads`` in f32 (an FMA counts two), at the best repeat."""
    return FmaMeter(target).read(repeats)


def read_peak(target: Target, size_bytes: int = 1 << 28, repeats: int = 5) -> float:
    """Bytes per second that all ``target.threads`` read from memory together; ``size_bytes`` exceeds the caches.

    Each thread reads its share from one place on, or from several at once, whichever is faster.
    """
    lanes, threads = target.lanes(), target.threads
    values = empty_aligned((size_bytes // 4,), np.dtype(np.float32))
    values.fill(1.0)
    rates = []
    for streams in STREAMS:
        shape = threads, streams, CHAINS // streams or 1, lanes
        rows = values.size // prod(shape)
        x = values[: rows * prod(shape)].reshape(threads, streams, rows, *shape[2:])
        out = empty_aligned(shape, values.dtype)
        best_s = _best(_load(_read_loop(x.shape), target), [x], [out], threads, repeats)
        rates.append(x.nbytes / best_s)
    return max(rates)


def _fma_loop(lanes: int, threads: int, steps: int = STEPS) -> Function:
    """acc[c] = acc[c] * x[0] + x[1], ``steps`` times, for CHAINS accumulators on each thread."""
    x = Buffer("x", (2, lanes), "float32")
    out = Buffer("out", (threads, CHAINS, lanes), "float32")
    acc = Buffer("acc", (CHAINS, lanes), "float32", "register")
    chain, lane, step, thread = Var("c"), Var("l"), Var("step"), Var("t")
    update = Store(acc, (chain, lane), acc[chain, lane] * x[0, lane] + x[1, lane])
    body = seq(
        _tile(chain, lane, lanes, Store(acc, (chain, lane), x[0, lane])),
        _loop(step, steps, "serial", _tile(chain, lane, lanes, update)),
        _tile(chain, lane, lanes, Store(out, (thread, chain, lane), acc[chain, lane])),
    )
    return Function("fma_peak", (x, out), 1, _loop(thread, threads, "parallel", Alloc(acc, body)))


def _read_loop(shape: tuple[int, ...]) -> Function:
    """acc[stream, c] += x[stream, row, c] over all rows of a thread's share; ``shape`` is that of x."""
    threads, streams, rows, chains, lanes = shape
    x = Buffer("x", shape, "float32")
    out = Buffer("out", (threads, streams, chains, lanes), "float32")
    acc = Buffer("acc", (streams, chains, lanes), "float32", "register")
    stream, chain, lane, row, thread = Var("s"), Var("c"), Var("l"), Var("row"), Var("t")

    def tile(body: Stmt) -> For:
        return _loop(stream, streams, "unroll", _tile(chain, lane, lanes, body, chains))

    at = stream, chain, lane
    update = Store(acc, at, acc[stream, chain, lane] + x[thread, stream, row, chain, lane])
    body = seq(
        tile(Store(acc, at, as_expr(0.0))),
        _loop(row, rows, "serial", tile(update)),
        tile(Store(out, (thread, *at), acc[stream, chain, lane])),
    )
    return Function("read_peak", (x, out), 1, _loop(thread, threads, "parallel", Alloc(acc, body)))


def _loop(var: Var, extent: ExprLike, kind: LoopKind, body: Stmt) -> For:
    return For(var, as_expr(0), as_expr(extent), kind, body)


def _tile(chain: Var, lane: Var, lanes: int, body: Stmt, chains: int = CHAINS) -> For:
    """Run ``body`` on all lanes of all chains, without loops in the code."""
    return _loop(chain, chains, "unroll", _loop(lane, lanes, "vectorize", body))


def _load(fn: Function, target: Target) -> LoadedProgram:
    arguments = (Slot("input", 0), Slot("output", 0))
    program = Program((KernelCall(fn.name, arguments),), 1, 1, 0, target.threads)
    texts = (emit.emit_function(fn, target), emit_program(program, target))
    return load_objects([llvm.compile_object(text, target) for text in texts])


def _best(program: LoadedProgram, inputs: list[Array], outputs: list[Array], threads: int, repeats: int) -> float:
    """Seconds of the fastest of ``repeats`` calls."""
    pointers = [np.array([address_of(a) for a in arrays], np.uintp) for arrays in (inputs, outputs)]
    best_s = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        program(address_of(pointers[0]), address_of(pointers[1]), None, None, threads, 1)
        best_s = min(best_s, time.perf_counter() - start)
    return best_s


def _aligned(array: Array) -> Array:
    copy = empty_aligned(array.shape, array.dtype)
    np.copyto(copy, array)
    return copy
