"""The running role of a worker: loads candidates, times them, and returns what they compute.

Timings exclude loading and data preparation. Each sample is a run of the program's native loop that is long
enough for the clock; candidates that are measured together are sampled in turns, so that a change of the machine's
speed meets all of them.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from collections import OrderedDict

import numpy as np

from ..codegen.kernel import Param
from ..errors import TuningError
from ..runtime.arrays import address_of, empty_aligned, empty_pages
from ..runtime.loader import LoadedProgram, load_objects
from ..runtime.prepare import identity, prepared
from ..te import dtype as dt
from ..te.workload import Workload
from .inputs import Array, random_inputs
from .jobs import Built, OutputsJob, TimeJob

GUARD_BYTES = 1024
KEPT_TASKS = 2
KEPT_LAYOUTS = 3
MOST_COPIES = 64
PAGE_BYTES = 4096
_PATTERN = 0xFF  # NaN in every float type


class Runner:
    """See :class:`.worker.Role`; the task data is its Workload."""

    def __init__(self) -> None:
        self._data: OrderedDict[str, _TaskData] = OrderedDict()

    def handle(self, task: Workload, job: TimeJob | OutputsJob) -> list[tuple[float, ...]] | list[Array]:
        """Return seconds per run for each candidate of a TimeJob, or the output arrays of an OutputsJob.

        Raises TuningError when an OutputsJob's candidate wrote to memory that is not its own.
        """
        data = self._task_data(task)
        match job:
            case TimeJob():
                return time_candidates([_Loaded(c, data, job.cold_bytes) for c in job.candidates], job)
            case OutputsJob():
                return _Loaded(job.candidate, data).outputs_of(job.repeats)

    def _task_data(self, task: Workload) -> _TaskData:
        data = self._data.pop(task.key, None) or _TaskData(task)
        self._data[task.key] = data
        while len(self._data) > KEPT_TASKS:
            self._data.popitem(last=False)
        return data


class _TaskData:
    """The inputs of a task, and the last few memory layouts of each."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.logical = random_inputs(workload)
        self._physical: list[OrderedDict[tuple[str, int], Array]] = [OrderedDict() for _ in self.logical]

    def physical(self, position: int, param: Param, copies: int = 1) -> Array:
        """The input as the kernel wants it, ``copies`` times; each is aligned."""
        cache = self._physical[position]
        name = (identity(param), copies)
        array = cache.pop(name, None)
        if array is None:
            laid_out = prepared(param, self.logical[position])
            stride = -(-laid_out.nbytes // PAGE_BYTES) * PAGE_BYTES if copies > 1 else laid_out.nbytes
            array = empty_pages(copies * stride).reshape(copies, stride)
            array[:, : laid_out.nbytes] = laid_out.reshape(-1).view(np.uint8)
        cache[name] = array
        while len(cache) > KEPT_LAYOUTS:
            cache.popitem(last=False)
        return array


class _Loaded:
    """A candidate in memory with its arguments."""

    def __init__(self, built: Built, data: _TaskData, cold_bytes: int = 0) -> None:
        self.built = built
        constant = [p.constant for p in data.workload.inputs]
        params = built.params[: built.program.inputs]
        constant_bytes = sum(p.size_bytes for p, c in zip(params, constant, strict=True) if c)
        copies = min(MOST_COPIES, -(-cold_bytes // constant_bytes)) if cold_bytes and constant_bytes else 1
        self.inputs = [
            data.physical(i, p, copies if c else 1) for i, (p, c) in enumerate(zip(params, constant, strict=True))
        ]
        self.guarded = [_guarded(p) for p in built.params[built.program.inputs :]]
        self.arena = empty_pages(built.program.arena_bytes + GUARD_BYTES)
        self.program: LoadedProgram = load_objects(built.objects)
        self._inputs = [
            (ctypes.c_void_p * max(len(self.inputs), 1))(*(address_of(a[k % len(a)]) for a in self.inputs))
            for k in range(copies)
        ]
        self._next = 0
        self._outputs = (ctypes.c_void_p * max(len(self.guarded), 1))(
            *(address_of(g) + GUARD_BYTES for g in self.guarded)
        )

    def run(self, repeats: int) -> float:
        """Run ``repeats`` times; return the seconds that one run took."""
        outputs, arena, threads = ctypes.addressof(self._outputs), address_of(self.arena), self.built.program.threads
        copies = len(self._inputs)
        calls, per_call = (repeats, 1) if copies > 1 else (1, repeats)
        addresses = [ctypes.addressof(self._inputs[(self._next + k) % copies]) for k in range(calls)]
        self._next = (self._next + calls) % copies
        start = time.perf_counter_ns()
        for inputs in addresses:
            self.program(inputs, outputs, None, arena, threads, per_call)
        return (time.perf_counter_ns() - start) / 1e9 / repeats

    def outputs_of(self, repeats: int) -> list[Array]:
        """The outputs, from memory that holds a pattern: what a candidate forgets to write cannot pass for a result."""
        self.arena[...] = _PATTERN
        for g in self.guarded:
            g[...] = _PATTERN
        before = [a.tobytes() for a in self.inputs]
        self.run(repeats)
        outside = [self.arena[self.built.program.arena_bytes :]]
        outside += [part for g in self.guarded for part in (g[:GUARD_BYTES], g[-GUARD_BYTES:])]
        if any((part != _PATTERN).any() for part in outside):
            raise TuningError("the candidate wrote past the end of its memory")
        if any(a.tobytes() != b for a, b in zip(self.inputs, before, strict=True)):
            raise TuningError("the candidate changed its inputs")
        params = self.built.params[self.built.program.inputs :]
        return [_view(g, p).copy() for g, p in zip(self.guarded, params, strict=True)]


def _guarded(param: Param) -> Array:
    return empty_aligned((param.size_bytes + 2 * GUARD_BYTES,), np.dtype(np.uint8))


def _view(guarded: Array, param: Param) -> Array:
    return guarded[GUARD_BYTES : GUARD_BYTES + param.size_bytes].view(dt.to_numpy(param.dtype)).reshape(param.shape)


def time_candidates(candidates: list[_Loaded], job: TimeJob) -> list[tuple[float, ...]]:
    """Sample the candidates in turns; see :class:`TimeJob`."""
    gc.disable()
    try:
        plans = [_Plan(c, job) for c in candidates]
        while waiting := [p for p in plans if not p.done]:
            for p in waiting:
                p.sample()
        return [tuple(p.timings) for p in plans]
    finally:
        gc.enable()


class _Plan:
    """How often to run one candidate, found from a few runs that warm it up.

    A sample during which the system took a core away tells little, on several threads nothing at all. Such samples are
    kept, but more are taken in their stead while there is time.
    """

    def __init__(self, candidate: _Loaded, job: TimeJob) -> None:
        self.candidate, self.job = candidate, job
        self.timings: list[float] = []
        self.calm = 0
        self.spent_s = 0.0
        candidate.run(1)  # page faults and cold caches
        estimate = self._estimate(1)
        if estimate < job.sample_s:
            estimate = self._estimate(3)
        self.repeats = max(1, round(job.sample_s / estimate))
        self.samples = int(min(max(job.total_s / (estimate * self.repeats), job.min_samples), job.max_samples))
        if estimate > job.hopeless * job.best_s:
            self.samples = 2
        elif estimate > 10 * job.total_s:
            self.samples = 3

    @property
    def done(self) -> bool:
        if len(self.timings) < self.samples:
            return False
        enough = self.calm >= min(self.samples, self.job.min_samples)
        return enough or len(self.timings) >= self.job.max_samples or self.spent_s > 10 * self.job.total_s

    def sample(self) -> None:
        seconds, calm = self._run(self.repeats)
        self.timings.append(seconds)
        self.calm += calm

    def _estimate(self, repeats: int) -> float:
        least = float("inf")
        for _ in range(4):
            seconds, calm = self._run(repeats)
            least = min(least, seconds)
            if calm:
                break
        return least

    def _run(self, repeats: int) -> tuple[float, bool]:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        seconds = max(self.candidate.run(repeats), 1e-12)
        self.spent_s += seconds * repeats
        return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw == before
