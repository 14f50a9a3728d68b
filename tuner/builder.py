"""The building role of a worker: decisions in, object code of a program that can be measured out.

A candidate is built as a model is: through :func:`luthier.codegen.build.build_kernel`, with an entry function like a
model's around its one kernel. What is measured is what a build deploys.
"""

from __future__ import annotations

import time
from functools import lru_cache

from ..codegen import cached
from ..codegen.build import build_kernel
from ..codegen.emit_program import emit_program
from ..codegen.kernel import Kernel
from ..codegen.llvm import compile_object
from ..errors import Error
from ..runtime.single import single_program
from ..schedule.decide import Default, Replay
from ..schedule.schedule import Schedule
from ..schedule.space import instantiate
from ..target import Target
from ..te.workload import Workload
from .jobs import BuildBatch, BuildJob, Built, NotBuilt
from .reference import reference_schedule

SYMBOL = "candidate"
"""What a candidate's kernel is called, so that candidates with equal arguments share an entry function; one that is
kept for builds of models has a name of its own."""

LEAST_ROOM = 1 << 15
"""Bytes of scratch that a candidate has room for, if it has any at all."""


class Builder:
    """See :class:`.worker.Role`; the task data is its Workload."""

    def handle(self, task: Workload, job: BuildJob | BuildBatch) -> Built | list[Built | NotBuilt]:
        """Build one candidate, or several. Raises ScheduleError or InternalError where a single one cannot be built."""
        if isinstance(job, BuildBatch):
            return [self._of_batch(task, one) for one in job.jobs]
        start = time.process_time()
        schedule = schedule_of(task, job)
        if job.kept:
            kernel = _kept(task, schedule, job.target)
        else:
            kernel = build_kernel(schedule, job.target, SYMBOL, job.most_lines)
        build_s = time.process_time() - start
        program = single_program(kernel, job.target.threads, _scratch_room)
        entry = _entry(emit_program(program, job.target), job.target)
        return Built((kernel.object_code, entry), kernel.params, program, build_s)

    def _of_batch(self, task: Workload, job: BuildJob) -> Built | NotBuilt:
        try:
            built = self.handle(task, job)
        except MemoryError:
            raise  # the whole batch is tried again, one by one
        except Error as e:
            return NotBuilt(str(e))
        except Exception as e:  # a candidate may fail in any way at all; it is the outcome of its measurement
            return NotBuilt(f"{type(e).__name__}: {e}")
        assert isinstance(built, Built)
        return built


def _kept(task: Workload, schedule: Schedule, target: Target) -> Kernel:
    """The kernel as builds of models have it, from the cache or left there for them."""
    by_default = instantiate(task, Default(), target).decisions == schedule.decisions
    recipe = cached.DEFAULT if by_default else schedule.decisions
    return cached.kernel_for(task, recipe, target, lambda: build_kernel(schedule, target))[0]


def _scratch_room(size: int) -> int:
    """Room for scratch, one of few sizes: candidates with equal ones share an entry function, which takes 8 ms."""
    bits = max(size - 1, LEAST_ROOM - 1).bit_length()
    return 1 << (-(-bits // 3) * 3) if size else 0


@lru_cache(maxsize=256)
def _entry(text: str, target: Target) -> bytes:
    """The entry function's object code; candidates of a task differ in it only by the room for their scratch."""
    return compile_object(text, target)


def schedule_of(workload: Workload, job: BuildJob) -> Schedule:
    """The schedule that a job describes."""
    if job.trace is not None:
        schedule = Schedule.replay(workload, job.trace)
        schedule.decisions = dict(job.decisions or {})
        return schedule
    if job.decisions is not None:
        return instantiate(workload, Replay(job.decisions), job.target)
    return reference_schedule(workload, job.target)
