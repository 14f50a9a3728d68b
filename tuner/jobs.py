"""What the parent asks of its workers: see :mod:`.builder` and :mod:`.runner` for how it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..codegen.kernel import Param
from ..codegen.program import Program
from ..schedule.decide import Decisions
from ..target import Target


@dataclass(frozen=True, slots=True)
class BuildJob:
    """What to build: a trace, or the decisions of the workload's own space, or (with neither) the naive loop nest."""

    target: Target
    decisions: Decisions | None = None
    trace: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """A candidate that can be loaded. params: of the kernel, inputs first; build_s: from decisions to object code."""

    objects: tuple[bytes, ...]
    params: tuple[Param, ...]
    program: Program
    build_s: float


@dataclass(frozen=True, slots=True)
class TimeJob:
    """Time candidates of one task against each other.

    best_s          time to beat; a candidate several times slower is sampled only twice
    sample_s        least length of a sample
    total_s         time to spend on each candidate, in ``min_samples`` to ``max_samples`` samples
    cold_bytes      read constants from memory, as a model does whose weights exceed the caches: each run takes another
                    of several copies, this many bytes in all; 0: the same ones each time
    """

    candidates: tuple[Built, ...]
    best_s: float = float("inf")
    sample_s: float = 0.0005
    total_s: float = 0.015
    min_samples: int = 5
    max_samples: int = 25
    hopeless: float = 3.0
    cold_bytes: int = 0


@dataclass(frozen=True, slots=True)
class OutputsJob:
    """Compute a candidate's outputs, running it ``repeats`` times over the same memory."""

    candidate: Built
    repeats: int = 2


def reference_job(target: Target) -> BuildJob:
    """The job whose program computes the reference result: no scheduling, one thread."""
    return BuildJob(replace(target, threads=1))
