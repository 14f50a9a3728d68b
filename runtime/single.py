"""The program of one kernel, with every parameter an argument; for operators and for measurement."""

from __future__ import annotations

from ..codegen.kernel import Kernel
from ..codegen.program import KernelCall, Program, Slot
from .arrays import ALIGNMENT


def single_program(kernel: Kernel, threads: int) -> Program:
    """A program of one call: every parameter is an input or output, scratch is in the arena."""
    inputs = len(kernel.params) - kernel.outputs
    slots = [Slot("input", i) for i in range(inputs)] + [Slot("output", i) for i in range(kernel.outputs)]
    shared, thread = (-(-n // ALIGNMENT) * ALIGNMENT for n in (kernel.shared_bytes, kernel.thread_bytes))
    call = KernelCall(kernel.symbol, tuple(slots), shared=0, thread=shared, thread_bytes=thread)
    return Program((call,), inputs, kernel.outputs, shared + threads * thread, threads)
