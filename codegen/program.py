"""A program: kernels in order, and where each of their arguments lives. One native function runs it.

    int64 luthier_run(void *const *inputs, void *const *outputs, const char *constants, char *arena,
                      int64_t threads, int64_t repeats)

The function opens one team of threads (``GOMP_parallel``; none when ``threads`` is 1), each thread calls every
kernel in order, and the team meets at a barrier after each. ``repeats`` runs the whole sequence that many times
(measurement). It is made as LLVM IR by :func:`emit_program` and compiled like a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Segment = Literal["input", "output", "constant", "arena"]


@dataclass(frozen=True, slots=True)
class Slot:
    """An address: the n-th input or output pointer, the constants or the arena; plus an offset in bytes."""

    segment: Segment
    index: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One call. shared, thread: arena offsets of its scratch; each thread's is thread_bytes further on.

    wait  whether the team meets at a barrier after the call (False where the next kernel is independent)
    """

    symbol: str
    args: tuple[Slot, ...]
    shared: int = 0
    thread: int = 0
    thread_bytes: int = 0
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Program:
    """Everything that the native entry function needs. Sizes in bytes."""

    calls: tuple[KernelCall, ...]
    inputs: int
    outputs: int
    arena_bytes: int
    threads: int = 1
