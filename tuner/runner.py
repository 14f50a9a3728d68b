"""The running role of a worker: loads candidates, times them, and returns what they compute.

Timings exclude loading and data preparation. Each sample is a run of the program's native loop that is long
enough for the clock; candidates that are measured together are sampled in turns, so that a change of the machine's
speed meets all of them, and each finds the caches as it left them (or cold, where a model would).
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
from ..runtime.arrays import address_of, empty_pages
from ..runtime.loader import LoadedProgram, load_objects
from ..runtime.prepare import identity, prepared
from ..te import dtype as dt
from ..te.workload import Workload
from .evict import evict
from .inputs import Array, random_inputs
from .jobs import Built, LoadJob, OutputsJob, TimeJob, Timings

GUARD_BYTES = 1024
PAGE_BYTES = 4096
KEPT_TASKS = 2
KEPT_LAYOUTS = 8
MOST_REPEATS = 64
CLEARLY = 1.5
"""Times the limit of a race: what takes longer lost it."""
CHANCES = 4
"""How often what takes less may try again."""
FEW_RUNS = 4
"""Where a sample has fewer runs, that of the race tells how many; else so many are made to find out."""
_PATTERN = 0xFF  # NaN in every float type


class Runner:
    """See :class:`.worker.Role`; the task data is its Workload."""

    def __init__(self) -> None:
        self._data: OrderedDict[str, _TaskData] = OrderedDict()
        self._loaded: dict[tuple[str, *tuple[bytes, ...]], _Loaded] = {}

    def handle(self, task: Workload, job: LoadJob | TimeJob | OutputsJob) -> Timings | list[Array] | None:
        """Return the :class:`.jobs.Timings` of a TimeJob, or the output arrays of an OutputsJob.

        Raises TuningError when an OutputsJob's candidate wrote to memory that is not its own.
        """
        data = self._task_data(task)
        match job:
            case LoadJob():
                self._loaded = {(task.key, *c.objects): self._of(task, data, c) for c in job.candidates}
                return None
            case TimeJob():
                incumbent = self._of(task, data, job.incumbent) if job.incumbent else None
                return time_candidates([self._of(task, data, c) for c in job.candidates], incumbent, job)
            case OutputsJob():
                return _Loaded(job.candidate, data).outputs_of(job.repeats)

    def _of(self, task: Workload, data: _TaskData, built: Built) -> _Loaded:
        """A candidate, loaded unless it still is from the last job of its task."""
        return self._loaded.get((task.key, *built.objects)) or _Loaded(built, data)

    def _task_data(self, task: Workload) -> _TaskData:
        data = self._data.pop(task.key, None) or _TaskData(task)
        self._data[task.key] = data
        while len(self._data) > KEPT_TASKS:
            self._data.popitem(last=False)
        return data


class _TaskData:
    """The inputs of a task, the last few memory layouts of each, and memory that candidates write to by turns.

    In a model, kernels find the memory that they write to where others left it, in the caches; if each candidate had
    its own, the time of one would depend on how many others are measured with it.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.logical = random_inputs(workload)
        self._written: dict[int, Array] = {}
        self._physical: list[OrderedDict[str, Array]] = [OrderedDict() for _ in self.logical]

    def physical(self, position: int, param: Param) -> Array:
        """The input as the kernel wants it, aligned."""
        cache = self._physical[position]
        name = identity(param)
        array = cache.pop(name, None)
        if array is None:
            laid_out = prepared(param, self.logical[position])
            array = empty_pages(laid_out.nbytes)
            array[:] = laid_out.reshape(-1).view(np.uint8)
        cache[name] = array
        while len(cache) > KEPT_LAYOUTS:
            cache.popitem(last=False)
        return array

    def written(self, position: int, size_bytes: int) -> Array:
        """Memory for output ``position``, or with -1 for scratch, guards included; all candidates share it."""
        array = self._written.get(position)
        if array is None or array.nbytes < size_bytes:
            array = self._written[position] = empty_pages(size_bytes)
        return array[:size_bytes]


class _Loaded:
    """A candidate in memory with its arguments."""

    def __init__(self, built: Built, data: _TaskData) -> None:
        self.built = built
        params = built.params[: built.program.inputs]
        self.inputs = [data.physical(i, param) for i, param in enumerate(params)]
        sources = zip(self.inputs, data.workload.inputs, strict=True)
        self.constants = [array for array, source in sources if source.constant]
        outputs = built.params[built.program.inputs :]
        self.guarded = [data.written(i, p.size_bytes + 2 * GUARD_BYTES) for i, p in enumerate(outputs)]
        self.arena = data.written(-1, built.program.arena_bytes + GUARD_BYTES)
        self.program: LoadedProgram = load_objects(built.objects)
        self._inputs = (ctypes.c_void_p * max(len(self.inputs), 1))(*map(address_of, self.inputs))
        self._outputs = (ctypes.c_void_p * max(len(self.guarded), 1))(
            *(address_of(g) + GUARD_BYTES for g in self.guarded)
        )
        self._arguments = (
            *(ctypes.addressof(self._inputs), ctypes.addressof(self._outputs), None),
            *(address_of(self.arena), built.program.threads),
        )

    def run(self, repeats: int, cold: bool = False) -> float:
        """Run ``repeats`` times; return the seconds that one run took. cold: with the constants in no cache."""
        if not cold:
            start = time.perf_counter_ns()
            self.program(*self._arguments, repeats)
            return (time.perf_counter_ns() - start) / 1e9 / repeats
        spent = 0
        for _ in range(repeats):
            for constant in self.constants:
                evict(constant)
            start = time.perf_counter_ns()
            self.program(*self._arguments, 1)
            spent += time.perf_counter_ns() - start
        return spent / 1e9 / repeats

    def outputs_of(self, repeats: int) -> list[Array]:
        """The outputs, from memory that holds a pattern: what a candidate forgets to write cannot pass for a result."""
        self.arena[...] = _PATTERN
        for g in self.guarded:
            g[...] = _PATTERN
        before = [_sums(a) for a in self.inputs]
        self.run(repeats)
        outside = [self.arena[self.built.program.arena_bytes :]]
        outside += [part for g in self.guarded for part in (g[:GUARD_BYTES], g[-GUARD_BYTES:])]
        if any((part != _PATTERN).any() for part in outside):
            raise TuningError("the candidate wrote past the end of its memory")
        if any(not np.array_equal(_sums(a), b) for a, b in zip(self.inputs, before, strict=True)):
            raise TuningError("the candidate changed its inputs")
        params = self.built.params[self.built.program.inputs :]
        return [_view(g, p).copy() for g, p in zip(self.guarded, params, strict=True)]


def _sums(array: Array) -> Array:
    """Sums of the words of each page of a contiguous array: what a change of it shows in, without a copy of it."""
    data = array.reshape(-1).view(np.uint8)
    whole = data.nbytes // PAGE_BYTES * PAGE_BYTES
    sums = data[:whole].view(np.uint64).reshape(-1, PAGE_BYTES // 8).sum(axis=1)
    return np.concatenate([sums, data[whole:]])


def _view(guarded: Array, param: Param) -> Array:
    return guarded[GUARD_BYTES : GUARD_BYTES + param.size_bytes].view(dt.to_numpy(param.dtype)).reshape(param.shape)


def time_candidates(candidates: list[_Loaded], incumbent: _Loaded | None, job: TimeJob) -> Timings:
    """Race the candidates, then sample those that are left in turns with the incumbent; see :class:`TimeJob`."""
    gc.disable()
    try:
        plans = [_Plan(c, job) for c in candidates]
        against = [_Plan(incumbent, job)] if incumbent else []
        for p in against:
            p.contends(job.best_s)  # its time now is what counts
        best_s = min([*([p.estimate_s for p in against] or [job.best_s]), *(p.estimate_s for p in plans)])
        contenders = [p for p in plans if p.contends(job.race * best_s)]
        if contenders:
            _in_turns([*contenders, *against], job)
        return Timings(
            tuple(tuple(p.timings or [p.estimate_s]) for p in plans),
            tuple(t for p in against for t in p.timings or [p.estimate_s]),
        )
    finally:
        gc.enable()


def _in_turns(plans: list[_Plan], job: TimeJob) -> None:
    for p in plans:
        p.start()
    while waiting := [p for p in plans if not p.done]:
        for p in waiting:
            p.sample()
        least_s = min(min(p.timings) for p in plans)
        for p in waiting:
            count = len(p.timings)
            p.beaten = count > 1 and min(p.timings) > (1.0 + job.contend / count) * least_s


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
        self.beaten = False
        candidate.run(1)  # page faults and cold caches
        self.estimate_s = self._estimate(1)

    def contends(self, limit_s: float) -> bool:
        """Whether a run takes no longer than ``limit_s``; what does not seem to is run again, if it is near that often.

        Whoever else uses the machine may have slowed it down; and of a short kernel, one run is mostly the call.
        """
        short = self.estimate_s < self.job.sample_s
        for _ in range(CHANCES if self.estimate_s < CLEARLY * limit_s else int(short)):
            if self.estimate_s > limit_s:
                repeats = max(1, min(round(self.job.sample_s / self.estimate_s), MOST_REPEATS))
                self.estimate_s = min(self.estimate_s, self._estimate(repeats))
        return self.estimate_s <= limit_s

    def start(self) -> None:
        """Make ready for samples."""
        job = self.job
        if self.estimate_s < job.sample_s / FEW_RUNS:
            self.estimate_s = self._estimate(FEW_RUNS)
        self.repeats = max(1, round(job.sample_s / self.estimate_s))
        once_s = self.estimate_s * self.repeats
        self.samples = int(min(max(job.total_s / once_s, job.min_samples), job.max_samples))
        if self.estimate_s > 10 * job.total_s:
            self.samples = min(self.samples, 3)

    @property
    def done(self) -> bool:
        if self.beaten:
            return True
        if len(self.timings) < self.samples:
            return False
        enough = self.calm >= min(self.samples, self.job.min_samples)
        return enough or len(self.timings) >= self.job.max_samples or self.spent_s > 10 * self.job.total_s

    def sample(self) -> None:
        if not self.job.cold:  # some of the candidates share constants, which would be in the caches for them alone
            self.candidate.run(1)
            self.spent_s += self.estimate_s
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
        seconds = max(self.candidate.run(repeats, self.job.cold), 1e-12)
        self.spent_s += seconds * repeats
        return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw == before
