"""Loading: object code becomes a native function of this process.

Comes in: the objects of a program's kernels and of its entry function (see :mod:`luthier.codegen.program`).
Goes out: a :class:`LoadedProgram`, which can be called. Each program has a just-in-time linker of its own (about one
millisecond), so that programs do not see each other's symbols and their memory goes with them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import llvmlite.binding as llvm
from llvmlite.binding.orcjit import LLJIT, ResourceTracker

from ..codegen.kernel import Kernel
from ..errors import InternalError
from . import openmp

ENTRY = "luthier_run"
PROTOTYPE = ctypes.CFUNCTYPE(
    ctypes.c_int64,  # result
    ctypes.c_void_p,  # inputs: array of pointers
    ctypes.c_void_p,  # outputs: array of pointers
    ctypes.c_void_p,  # constants
    ctypes.c_void_p,  # arena
    ctypes.c_int64,  # threads
    ctypes.c_int64,  # repeats
)

_SERIAL = """
define void @GOMP_parallel(ptr %body, ptr %data, i32 %threads, i32 %flags) {
  call void %body(ptr %data)
  ret void
}
define void @GOMP_barrier() {
  ret void
}
define i32 @omp_get_thread_num() {
  ret i32 0
}
define i32 @omp_get_num_threads() {
  ret i32 1
}
"""
"""Stand-ins for an OpenMP runtime: a team of one."""


class _Library:
    """Linked code; it is unloaded when the last reference goes."""

    def __init__(self, jit: LLJIT, tracker: ResourceTracker) -> None:
        self.jit = jit
        self.tracker = tracker

    def __del__(self) -> None:  # in this order: the linker owns what the tracker refers to
        self.tracker.close()
        self.jit.close()


class LoadedProgram:
    """A program in memory; call it with addresses. It may run in several Python threads at once.

    Its code stays as long as it, so whoever calls keeps a reference.
    """

    def __init__(self, library: _Library, entry: str, *, threaded: bool) -> None:
        self._library = library
        self._function = PROTOTYPE(library.tracker[entry])
        self.threaded = threaded

    def __call__(
        self,
        inputs: int | None,
        outputs: int | None,
        constants: int | None,
        arena: int | None,
        threads: int,
        repeats: int,
    ) -> int:
        """Run the program ``repeats`` times; the interpreter lock is free meanwhile."""
        team = openmp.team_size(threads) if self.threaded else 1
        return int(self._function(inputs, outputs, constants, arena, team, repeats))


def load_objects(objects: Sequence[bytes], entry: str = ENTRY) -> LoadedProgram:
    """Link relocatable ``objects`` into this process and return the function called ``entry``.

    Functions of libm and libc resolve to the process's own, those of OpenMP to :func:`.openmp.runtime` or, where there
    is none, to stand-ins for one thread. Raises InternalError when they do not link; LLVM then prints the missing
    symbols to stderr.
    """
    return load_entries(objects, [entry])[0]


def load_entries(objects: Sequence[bytes], entries: Sequence[str]) -> list[LoadedProgram]:
    """As :func:`load_objects`, for several functions of one library."""
    library = _linked(objects, entries)
    return [LoadedProgram(library, entry, threaded=openmp.runtime() is not None) for entry in entries]


class LoadedKernel:
    """A kernel in memory, without a program around it: for one thread, which runs all of it."""

    def __init__(self, kernel: Kernel) -> None:
        self._library = _linked([kernel.object_code], [kernel.symbol])
        pointers = [ctypes.c_void_p] * (len(kernel.params) + 2)
        prototype = ctypes.CFUNCTYPE(None, *pointers, ctypes.c_int64, ctypes.c_int64)
        self._function = prototype(self._library.tracker[kernel.symbol])

    def __call__(self, params: Sequence[int], shared: int, thread: int) -> None:
        """Run it once on the addresses of its parameters, inputs first, and of its scratch memory."""
        self._function(*params, shared, thread, 0, 1)


def _linked(objects: Sequence[bytes], symbols: Sequence[str]) -> _Library:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    builder = llvm.JITLibraryBuilder()
    for code in objects:
        builder.add_object_img(code)
    omp = openmp.runtime()
    if omp is None:
        builder.add_ir(_SERIAL)
    else:
        for name, address in omp.symbols.items():
            builder.import_symbol(name, address)
    builder.add_current_process()
    for symbol in symbols:
        builder.export_symbol(symbol)
    jit = llvm.create_lljit_compiler(use_jit_link=True)
    try:
        tracker = builder.link(jit, "luthier")
    except RuntimeError as error:
        jit.close()
        raise InternalError(f"loading {len(objects)} objects: {', '.join(symbols)} cannot be linked: {error}") from None
    return _Library(jit, tracker)
