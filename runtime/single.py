"""The program of one kernel, with every parameter an argument; for operators and for measurement."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..codegen.emit_program import emit_program
from ..codegen.kernel import Kernel
from ..codegen.llvm import compile_object
from ..codegen.program import KernelCall, Program, Slot
from ..target import Target
from .arrays import aligned
from .executable import Executable, TensorSpec


def single_program(kernel: Kernel, threads: int, round_up: Callable[[int], int] = lambda size: size) -> Program:
    """A program of one call: every parameter is an input or output, scratch is in the arena.

    round_up: what room to give to scratch of a size. The arena ends where the last thread's scratch does all the same.
    """
    inputs = len(kernel.params) - kernel.outputs
    slots = [Slot("input", i) for i in range(inputs)] + [Slot("output", i) for i in range(kernel.outputs)]
    used = aligned(kernel.shared_bytes), aligned(kernel.thread_bytes)
    shared, thread = map(round_up, used)
    call = KernelCall(kernel.symbol, tuple(slots), shared=0, thread=shared, thread_bytes=thread)
    arena = shared + (threads - 1) * thread + used[1] if thread else used[0]
    return Program((call,), inputs, kernel.outputs, arena, threads)


def single_executable(
    kernel: Kernel, target: Target, compile_entry: Callable[[str, Target], bytes] = compile_object
) -> Executable:
    """What runs one kernel, compiled for ``target``, on arrays; its entry function goes through ``compile_entry``."""
    program = single_program(kernel, target.threads)
    entry = compile_entry(emit_program(program, target), target)
    names = [p.name for p in kernel.params]
    names = [f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]
    specs = [TensorSpec(name, p.dtype, p.shape) for name, p in zip(names, kernel.params, strict=True)]
    none = np.empty(0, np.uint8)
    split = program.inputs
    return Executable(program, (kernel.object_code, entry), none, specs[:split], specs[split:], target)
