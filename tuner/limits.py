"""What a candidate may use while it is measured."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, for one job; memory in bytes of address space (0: no limit).

    race_s         for a run, besides a hundred times the best time of its task once that is known; at most run_s
    code_lines     of LLVM IR that a candidate may have, the default schedule aside: what is longer takes more than half
                   a second to compile, and no longer fits the instruction cache
    recycle_after  jobs after which a worker is replaced, and recycle_bytes: resident memory that it may grow by
    """

    build_s: float = 20.0
    run_s: float = 20.0
    race_s: float = 3.0
    reference_s: float = 300.0
    code_lines: int = 20_000
    build_bytes: int = 4 << 30
    run_bytes: int = field(default_factory=lambda: int(0.8 * memory_bytes()))
    recycle_after: int = 400
    recycle_bytes: int = field(default_factory=lambda: int(0.2 * memory_bytes()))


def memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
