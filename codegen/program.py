"""A program: kernels in order, and where each of their arguments lives. One native function runs it.

    int64 luthier_run(void *const *inputs, void *const *outputs, const char *constants, char *arena,
                      int64_t threads, int64_t repeats)

The function opens one team of threads (``GOMP_parallel``; none when ``threads`` is 1), each thread calls every
kernel in order, and the team meets at a barrier after each. ``repeats`` runs the whole sequence that many times
(measurement). It is made as LLVM IR by :func:`emit_program` and compiled like a kernel.

A profile runs the *timed* variant, ``luthier_timed_run``: the same calls and barriers, and each thread notes the time
before and after every call. Its table of inputs has one more pointer at the end, to the stamps: for each thread a row
of :func:`stamps_per_thread` pairs of int64, seconds and nanoseconds of the monotonic clock (``time.perf_counter_ns``).
Stamp 2k is the begin of call k, 2k + 1 its end before the barrier, and the last one the end of all.
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


STAMP_BYTES = 16


def stamps_per_thread(program: Program) -> int:
    """Pairs in each thread's row of stamps; rows fill whole cache lines, so that threads do not disturb each other."""
    return -(-(2 * len(program.calls) + 1) // 4) * 4
