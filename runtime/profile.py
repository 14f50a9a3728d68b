"""Where an inference spends its time, kernel by kernel, measured inside of the one native function.

Comes in: an :class:`~.executable.Executable`. Goes out: a :class:`Profile`. A timed variant of the program is made that
differs from the deployed one in that each thread notes the time before and after every call (:mod:`..codegen.program`):
same kernels, same team of threads, same barriers, caches as an inference leaves them. Runs of it and of the deployed
program take turns, so that the sum of the kernels can be held against the latency.

The time of a kernel is that of the team: from the moment at which a thread begins it to that at which the thread begins
the next, waiting at the barrier included, as the mean over threads. These times add up to the whole.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..codegen.emit_program import TIMED_ENTRY, emit_program
from ..codegen.llvm import compile_object
from ..codegen.program import stamps_per_thread
from ..errors import InputError
from .arrays import Array, address_of, empty_aligned
from .loader import load_objects
from .report import TaskReport

if TYPE_CHECKING:
    from .executable import Executable

SECONDS = 3.0
"""How long a profile measures when it is not told how many rounds to take."""
FEWEST, MOST = 10, 500


@dataclass(frozen=True, slots=True)
class Peaks:
    """What a machine can do at most with so many threads: see :func:`luthier.peak.measure`."""

    flops_per_s: float
    bytes_per_s: float

    def least_s(self, flops: int, size_bytes: int) -> float:
        """The roofline: seconds below which nobody can do ``flops`` and move ``size_bytes`` from memory."""
        return max(flops / self.flops_per_s, size_bytes / self.bytes_per_s)


@dataclass(frozen=True, slots=True)
class KernelProfile:
    """One call of a kernel.

    nodes     names of the ONNX nodes that it computes; none for a copy
    task      what is computed, and how; None for an executable without a report
    median_s  seconds of the team, the median over rounds; min_s: the least
    wait_s    the part of ``median_s`` in which threads waited for others, as the mean over threads
    """

    symbol: str
    nodes: tuple[str, ...]
    task: TaskReport | None
    median_s: float
    min_s: float
    wait_s: float

    @property
    def is_known(self) -> bool:
        """Whether arithmetic and bytes are known; they are not in artifacts of format 1."""
        return self.task is not None and self.task.bytes_moved > 0

    @property
    def name(self) -> str:
        """For people: ``conv2d_3x3_s1_64x56x56_64+relu``."""
        return (self.task.name if self.task is not None else "") or self.symbol

    @property
    def flops_per_s(self) -> float:
        """By the operator's definition, so that algorithms compare; 0 where it is not known."""
        return self.task.flops / self.median_s if self.task is not None and self.median_s else 0.0

    @property
    def bytes_per_s(self) -> float:
        """Every input, constant and output once, as the kernel has them; 0 where it is not known."""
        return self.task.algorithm_bytes / self.median_s if self.task is not None and self.median_s else 0.0

    def roofline_s(self, peaks: Peaks) -> float:
        """Least time of the operator as it is defined, 0 where it is not known: a Winograd kernel can be quicker."""
        task = self.task
        return peaks.least_s(task.flops, task.bytes_moved) if task is not None and self.is_known else 0.0

    def algorithm_roofline_s(self, peaks: Peaks) -> float:
        """Least time of the algorithm that was chosen, with its own arithmetic and its own transformed filter."""
        task = self.task
        return peaks.least_s(task.algorithm_flops, task.algorithm_bytes) if task is not None and self.is_known else 0.0

    def to_json(self, peaks: Peaks | None = None) -> dict[str, Any]:
        data: dict[str, Any] = {"name": self.name, "symbol": self.symbol, "nodes": list(self.nodes)}
        data |= {"median_s": self.median_s, "min_s": self.min_s, "wait_s": self.wait_s}
        if self.task is not None:
            known = ("origin", "algorithm", "decisions", "flops", "bytes_moved", "algorithm_flops", "algorithm_bytes")
            data |= {name: getattr(self.task, name) for name in known}
            data |= {"flops_per_s": self.flops_per_s, "bytes_per_s": self.bytes_per_s}
            if peaks is not None:
                data["roofline_s"] = self.roofline_s(peaks)
                data["algorithm_roofline_s"] = self.algorithm_roofline_s(peaks)
        return data


@dataclass(frozen=True, slots=True)
class Span:
    """One call on one thread in the run that :attr:`Profile.timeline` shows: seconds since the run's first stamp.

    end_s is before the barrier; until left_s the thread waits there for the others.
    """

    kernel: int
    thread: int
    begin_s: float
    end_s: float
    left_s: float


@dataclass(frozen=True)
class Profile:
    """Where the time of an inference goes.

    kernels    in order of execution
    latency_s  of the deployed program, without stamps: the median of runs that alternated with those of the timed one
    outside_s  of a timed run, what is before the first kernel and after the last: the call, waking the team
    rounds     runs of each that the medians are over
    timeline   one run, that of the median duration, thread by thread
    views      names of the ONNX nodes that became no code
    peaks      what the machine can do at most; None where that was not measured
    """

    model: str
    threads: int
    kernels: tuple[KernelProfile, ...]
    latency_s: float
    outside_s: float
    rounds: int
    timeline: tuple[Span, ...]
    views: tuple[str, ...] = ()
    peaks: Peaks | None = None

    @cached_property
    def kernels_s(self) -> float:
        """Seconds of all kernels together."""
        return sum(k.median_s for k in self.kernels)

    @property
    def total_s(self) -> float:
        """Kernels and what is outside of them: to be held against ``latency_s``."""
        return self.kernels_s + self.outside_s

    def roofline_s(self, *, algorithms: bool = False) -> float:
        """Sum of the kernels' rooflines: of the operators, or of the algorithms chosen; 0 without peaks."""
        if self.peaks is None:
            return 0.0
        return sum(k.algorithm_roofline_s(self.peaks) if algorithms else k.roofline_s(self.peaks) for k in self.kernels)

    def share(self, kernel: KernelProfile) -> float:
        """The part of ``total_s`` that a kernel takes; those of all kernels and of ``outside_s`` sum to 1."""
        return kernel.median_s / self.total_s if self.total_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything but the timeline, in seconds, operations and bytes."""
        return {
            "model": self.model,
            "threads": self.threads,
            "rounds": self.rounds,
            "latency_s": self.latency_s,
            "kernels_s": self.kernels_s,
            "outside_s": self.outside_s,
            "roofline_s": self.roofline_s(),
            "algorithm_roofline_s": self.roofline_s(algorithms=True),
            "peaks": None if self.peaks is None else asdict(self.peaks),
            "kernels": [{"share": self.share(k), **k.to_json(self.peaks)} for k in self.kernels],
            "views": list(self.views),
        }

    def __str__(self) -> str:
        lines = [f"{self.model}, {self.threads} threads: {self.latency_s * 1e3:.3f} ms, of which"]
        for k in self.kernels:
            rate = f"{k.flops_per_s / 1e9:8.1f} GFLOP/s" if k.flops_per_s else " " * 16
            lines.append(
                f"{k.median_s * 1e6:10.1f} us {100 * self.share(k):5.1f}% {rate}  {k.name}  {'+'.join(k.nodes)}"
            )
        lines.append(f"{self.outside_s * 1e6:10.1f} us {100 * self.outside_s / (self.total_s or 1.0):5.1f}%"
                     f"{' ' * 19}outside of kernels")  # fmt: skip
        return "\n".join(lines)


def profile(
    executable: Executable,
    rounds: int | None = None,
    inputs: Mapping[str, Any] | None = None,
    peaks: Peaks | None = None,
) -> Profile:
    """Measure a :class:`Profile`; see :meth:`.executable.Executable.profile` for the arguments and errors."""
    if rounds is not None and rounds < 1:
        raise InputError(f"profile: rounds is {rounds}; it must be at least 1")
    plain_s, whole_s, stamps = _measure(executable, rounds, inputs)
    ends = stamps[..., 1::2]  # (rounds, threads, calls)
    spans = _spans(stamps)
    waits = (stamps[..., 2::2] - ends).mean(axis=1) / 1e9
    report, calls = executable.report, executable.program.calls
    tasks = {t.symbol: t for t in report.tasks} if report is not None else {}
    names = report.call_nodes if report is not None and len(report.call_nodes) == len(calls) else None
    kernels = []
    for i, call in enumerate(calls):
        task = tasks.get(call.symbol)
        nodes = names[i] if names is not None else task.nodes if task is not None else ()
        median_s, min_s = float(np.median(spans[:, i])), float(np.min(spans[:, i]))
        kernels.append(KernelProfile(call.symbol, nodes, task, median_s, min_s, float(np.median(waits[:, i]))))
    middle = int(np.argsort(whole_s)[len(whole_s) // 2])
    shown = (stamps[middle] - stamps[middle].min()) / 1e9
    timeline = tuple(
        Span(k, thread, *map(float, row[2 * k : 2 * k + 3]))
        for thread, row in enumerate(shown)
        for k in range(len(calls))
    )
    return Profile(
        model=report.model if report is not None else "program",
        threads=stamps.shape[1],
        kernels=tuple(kernels),
        latency_s=statistics.median(plain_s),
        outside_s=float(np.median(np.asarray(whole_s) - spans.sum(axis=1))),
        rounds=len(plain_s),
        timeline=timeline,
        views=report.view_nodes if report is not None else (),
        peaks=peaks,
    )


def repetitions(rounds: int | None) -> Iterator[int]:
    """Count measurements: ``rounds``, or as many as fit into some seconds, within reason."""
    stop, done = time.perf_counter() + SECONDS, 0
    while done < (rounds or FEWEST) or (rounds is None and done < MOST and time.perf_counter() < stop):
        yield done
        done += 1


def _measure(
    executable: Executable, rounds: int | None, inputs: Mapping[str, Any] | None
) -> tuple[list[float], list[float], Array]:
    """Seconds of the deployed program and of the timed one, and stamps (rounds, threads, 2 * calls + 1) in ns."""
    plain_s, whole_s, taken = [], [], []
    with _runs(executable, inputs) as (plain, timed):
        plain()
        timed()
        for _ in repetitions(rounds):
            plain_s.append(plain())
            seconds, stamps = timed()
            whole_s.append(seconds)
            taken.append(stamps)
    return plain_s, whole_s, _of_the_team(np.stack(taken))


@contextmanager
def kernel_times(executable: Executable, inputs: Mapping[str, Any] | None = None) -> Iterator[Callable[[], Array]]:
    """Give a function that runs the program once and returns the seconds of each of its calls, as a profile has them.

    So the kernels of two builds of a model can be compared where they are used, in turns.
    """
    with _runs(executable, inputs) as (_, timed):
        timed()
        yield lambda: _spans(_of_the_team(timed()[1][None]))[0]


@contextmanager
def _runs(
    executable: Executable, inputs: Mapping[str, Any] | None
) -> Iterator[tuple[Callable[[], float], Callable[[], tuple[float, Array]]]]:
    """Functions that run the deployed program once, and the timed one; the latter also returns its stamps."""
    program, native = executable.program, executable.native()
    entry = compile_object(emit_program(program, executable.target, timed=True), executable.target)
    loaded = load_objects([*executable.objects, entry], TIMED_ENTRY)
    pairs = empty_aligned((executable.threads, stamps_per_thread(program), 2), np.dtype(np.int64))
    used = 2 * len(program.calls) + 1
    with executable.bound(inputs) as call:

        def timed() -> tuple[float, Array]:
            pairs.fill(0)
            seconds = call(loaded, 1, address_of(pairs)) / 1e9
            return seconds, (pairs[..., 0] * 1_000_000_000 + pairs[..., 1])[:, :used]

        yield lambda: call(native, 1, None) / 1e9, timed


def _of_the_team(stamps: Array) -> Array:
    """Those of threads that ran: a team may be smaller than was asked for. stamps: (rounds, threads, 2 * calls + 1)"""
    return stamps[:, (stamps[..., -1] > 0).all(axis=0)]


def _spans(stamps: Array) -> Array:
    """Seconds of each call, of shape (rounds, calls): from its beginning to that of the next, the mean over threads."""
    spans: Array = np.diff(stamps[..., ::2]).mean(axis=1) / 1e9
    return spans
