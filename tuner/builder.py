"""The building role of a worker: decisions in, object code of a program that can be measured out.

A candidate is built as a model is: through :func:`luthier.codegen.build.build_kernel`, with an entry function like a
model's around its one kernel. What is measured is what a build deploys.
"""

from __future__ import annotations

import time

from ..codegen.build import build_kernel
from ..codegen.emit_program import emit_program
from ..codegen.llvm import compile_object
from ..runtime.single import single_program
from ..schedule.decide import Replay
from ..schedule.schedule import Schedule
from ..schedule.space import instantiate
from ..te.workload import Workload
from .jobs import BuildJob, Built


class Builder:
    """See :class:`.worker.Role`; the task data is its Workload."""

    def handle(self, task: Workload, job: BuildJob) -> Built:
        """Build one candidate. Raises ScheduleError or InternalError where it cannot be built."""
        start = time.perf_counter()
        schedule = schedule_of(task, job)
        kernel = build_kernel(schedule, job.target)
        build_s = time.perf_counter() - start
        program = single_program(kernel, job.target.threads)
        entry = compile_object(emit_program(program, job.target), job.target)
        return Built((kernel.object_code, entry), kernel.params, program, build_s)


def schedule_of(workload: Workload, job: BuildJob) -> Schedule:
    """The schedule that a job describes."""
    if job.trace is not None:
        schedule = Schedule.replay(workload, job.trace)
        schedule.decisions = dict(job.decisions or {})
        return schedule
    if job.decisions is not None:
        return instantiate(workload, Replay(job.decisions), job.target)
    return Schedule(workload)
