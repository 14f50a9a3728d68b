"""Run emitted code directly, and compare it with the interpreter."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence

import llvmlite.binding as llvm
import numpy as np
import targets

from luthier.codegen import emit, interpret, verify
from luthier.codegen import llvm as backend
from luthier.codegen.detect import host_target
from luthier.codegen.nodes import Buffer, For, Function, LoopKind, Stmt
from luthier.target import Target
from luthier.te import dtype as dt
from luthier.te.expr import ExprLike, Var, as_expr

_numbers = itertools.count()

GUARD = 64  # bytes before and after each array that a kernel must leave alone


def loop(var: Var, extent: ExprLike, kind: LoopKind, body: Stmt, begin: ExprLike = 0) -> For:
    return For(var, as_expr(begin), as_expr(extent), kind, body)


def buffer(name: str, shape: tuple[int, ...], dtype: str = "float32", scope: str = "param") -> Buffer:
    return Buffer(name, shape, dtype, scope)  # type: ignore[arg-type]


class Guarded:
    """A copy of an array, aligned to 64 bytes and surrounded by a pattern."""

    def __init__(self, array: np.ndarray) -> None:
        raw = np.full(array.nbytes + 2 * GUARD + 64, 0xA5, np.uint8)
        start = GUARD + -(raw.ctypes.data + GUARD) % 64
        self.raw, self.start, self.end = raw, start, start + array.nbytes
        self.array = raw[start : self.end].view(array.dtype).reshape(array.shape)
        self.array[...] = array

    def check(self) -> None:
        assert (self.raw[: self.start] == 0xA5).all() and (self.raw[self.end :] == 0xA5).all(), "wrote out of bounds"


class Native:
    """A function compiled and loaded; call it once per thread number."""

    def __init__(self, fn: Function, target: Target | None = None) -> None:
        self.fn = fn
        verify.verify(fn)
        code = backend.compile_object(emit.emit_function(fn, target or host_target(1)), target or host_target(1))
        name = f"test{next(_numbers)}"
        llvm.load_library_permanently("libm.so.6")
        library = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(fn.name)
        self.jit = llvm.create_lljit_compiler(use_jit_link=True)
        self.tracker = library.link(self.jit, name)
        kinds = [ctypes.c_void_p] * (len(fn.params) + 2) + [ctypes.c_int64] * 2
        self.entry = ctypes.CFUNCTYPE(None, *kinds)(self.tracker[fn.name])

    def __call__(self, arrays: Sequence[np.ndarray], threads: int = 1) -> list[np.ndarray]:
        """Run all threads, one after another, on copies; return the parameters afterwards."""
        copies = [Guarded(a) for a in arrays]
        scratch = [np.full(emit.scratch_layout(b)[1] + 64, 0xFF, np.uint8) for b in (self.fn.shared, self.fn.thread)]
        pointers = [c.array.ctypes.data for c in copies] + [s.ctypes.data + -s.ctypes.data % 64 for s in scratch]
        for tid in range(threads):
            self.entry(*pointers, tid, threads)
        for c in copies:
            c.check()
        return [c.array for c in copies]


def random_array(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dt.is_float(dtype):
        return rng.standard_normal(shape).astype(dt.to_numpy(dtype))
    low = -100 if dtype in dt.SIGNED else 0
    return rng.integers(low, 100, shape).astype(dt.to_numpy(dtype))


def arrays_for(fn: Function, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [random_array(rng, b.shape, b.dtype) for b in fn.params]


def check(
    fn: Function,
    arrays: Sequence[np.ndarray] | None = None,
    *,
    threads: int = 1,
    target: Target | None = None,
    rtol: float = 1e-5,
) -> list[np.ndarray]:
    """Compare emitted code with the interpreter on every parameter; return the outputs."""
    given = list(arrays) if arrays is not None else arrays_for(fn)
    expected = [a.copy() for a in given]
    interpret.interpret(fn, expected, threads)
    actual = Native(fn, target)(given, threads)
    for b, want, have in zip(fn.params, expected, actual, strict=True):
        if dt.is_float(b.dtype):
            wide = want.astype(np.float64)
            scale = np.abs(wide[np.isfinite(wide)]).max(initial=1e-30)
            np.testing.assert_allclose(have.astype(np.float64), wide, rtol=rtol, atol=rtol * scale, err_msg=b.name)
        else:
            np.testing.assert_array_equal(have, want, err_msg=b.name)
    return actual[len(actual) - fn.outputs :]


TARGETS = [host_target(1), *(t.with_threads(1) for t in targets.TARGETS.values())]
