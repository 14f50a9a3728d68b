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
    """What to build: a trace, or the decisions of the workload's own space, or (with neither) the reference.

    most_lines  of LLVM IR that it may have; None: any number
    kept        whether to look for its code in the cache of kernels, and to leave it there: a build of the model will
                ask for it
    """

    target: Target
    decisions: Decisions | None = None
    trace: Mapping[str, Any] | None = None
    most_lines: int | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class BuildBatch:
    """Several builds of one task in one message; the answer holds a :class:`Built` or a :class:`NotBuilt` for each."""

    jobs: tuple[BuildJob, ...]


@dataclass(frozen=True, slots=True)
class Built:
    """A candidate that can be loaded. params: of the kernel, inputs first; build_s: from decisions to object code,
    seconds of one core.
    """

    objects: tuple[bytes, ...]
    params: tuple[Param, ...]
    program: Program
    build_s: float


@dataclass(frozen=True, slots=True)
class NotBuilt:
    """A candidate of a batch that cannot be built; the others of the batch are not concerned."""

    error: str


@dataclass(frozen=True, slots=True)
class LoadJob:
    """Load what the next :class:`TimeJob` will time, and lay out what it reads; this takes one core."""

    candidates: tuple[Built, ...]


@dataclass(frozen=True, slots=True)
class TimeJob:
    """Time candidates of one task against each other, and against the best so far.

    First a race: a candidate whose first run (after one that warms it up) takes more than ``race`` times the best, as
    fast as that is now, is dropped with that one timing; if it takes little more than that, it may try again. Those
    that remain are sampled in turn with the incumbent, each run once more before each sample unless ``cold``; one that
    after n samples, two at least, is slower than the best of them by more than ``contend`` / n is not sampled further.

    incumbent       the best so far, None where there is none; best_s: its time
    sample_s        least length of a sample
    total_s         time to spend on each contender, in ``min_samples`` to ``max_samples`` samples
    cold            read constants from memory, as a model does whose weights exceed the caches: before each run of a
                    sample they are evicted
    """

    candidates: tuple[Built, ...]
    best_s: float = float("inf")
    incumbent: Built | None = None
    sample_s: float = 0.0005
    total_s: float = 0.01
    min_samples: int = 5
    max_samples: int = 15
    race: float = 1.4
    contend: float = 0.5
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds per run: for each candidate of a :class:`TimeJob`, and its incumbent if there is one."""

    candidates: tuple[tuple[float, ...], ...]
    incumbent: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputsJob:
    """Compute a candidate's outputs, running it ``repeats`` times over the same memory."""

    candidate: Built
    repeats: int = 2


def reference_job(target: Target) -> BuildJob:
    """The job whose program computes the reference result (:mod:`.reference`), on one thread."""
    return BuildJob(replace(target, threads=1))
