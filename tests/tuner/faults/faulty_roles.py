"""Worker roles that go wrong on demand; worker processes import this module by its name."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from dataclasses import replace

import numpy as np

from luthier.tuner.builder import Builder
from luthier.tuner.jobs import BuildBatch, BuildJob, LoadJob, OutputsJob, TimeJob, Timings
from luthier.tuner.runner import Runner


class FaultyBuilder(Builder):
    """Builds well, but for candidates whose decision ``fault`` says otherwise."""

    def handle(self, task, job: BuildJob | BuildBatch):
        if isinstance(job, BuildBatch):
            return super().handle(task, job)
        fault = (job.decisions or {}).get("fault")
        if fault == "build crash":
            ctypes.string_at(1)
        if fault == "build hang":
            time.sleep(1000)
        if fault == "build endless":
            hoard = []
            while True:
                hoard.append(bytearray(1 << 26))
        if fault == "build print":
            print("noise\n" * 500_000)
        if fault == "build memory":
            raise MemoryError("no room for the code")
        if fault == "build error":
            raise ValueError("cannot be built")
        built = super().handle(task, replace(job, decisions=None, trace=None))
        return replace(built, build_s=_FAULTS.index(fault)) if fault in _FAULTS else built


_FAULTS = [
    None, "run crash", "run hang", "nan", "wrong", "slow", "overrun", "memory", "poison", "run spin", "run endless",
    "run print", "run exit", "run kill",
]  # fmt: skip


class FaultyRunner(Runner):
    """Runs well, but for candidates that :class:`FaultyBuilder` has marked."""

    def handle(self, task, job):
        if isinstance(job, LoadJob):
            return super().handle(task, job)
        candidates = job.candidates if isinstance(job, TimeJob) else (job.candidate,)
        faults = [_FAULTS[int(c.build_s)] if c.build_s >= 1 else None for c in candidates]
        if "run crash" in faults:
            ctypes.string_at(1)
        if "run hang" in faults:
            time.sleep(1000)
        if "run spin" in faults:
            while True:
                pass
        if "run endless" in faults:
            hoard = []
            while True:
                hoard.append(np.ones(1 << 24))
        if "run print" in faults:
            os.write(1, b"noise\n" * 500_000)
            print("noise\n" * 500_000, file=sys.stderr)
        if "run kill" in faults:
            os.kill(os.getpid(), signal.SIGKILL)
        if "run exit" in faults:
            os._exit(0)
        if "memory" in faults:
            raise MemoryError("arena")
        result = super().handle(task, job)
        if isinstance(job, OutputsJob):
            if faults == ["nan"]:
                result[0].flat[7] = np.nan
            if faults == ["wrong"]:
                result[0].flat[7] += 0.5
            if faults == ["overrun"]:
                raise ValueError("the candidate wrote past the end of its memory")
            if faults == ["poison"]:  # a well-behaved result, but everything that comes later is spoilt
                for a in self._task_data(task).logical:
                    a[...] = 7
                self._task_data(task)._physical = [type(p)() for p in self._task_data(task)._physical]
            return result
        slow = [tuple(9.0 for _ in t) if f == "slow" else t for t, f in zip(result.candidates, faults, strict=True)]
        return Timings(tuple(slow), result.incumbent)
