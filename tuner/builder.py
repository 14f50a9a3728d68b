"""The building role of a worker: decisions in, object code of a program that can be measured out.

A candidate is built as a model is: through :func:`luthier.codegen.build.build_kernel`, with an entry function like a
model's around its one kernel. What is measured is what a build deploys.
"""

from __future__ import annotations

import time

from ..codegen.build import build_kernel
from ..codegen.emit_program import emit_program
from ..codegen.kernel import Kernel
from ..codegen.llvm import compile_object
from ..codegen.program import KernelCall, Program, Slot
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


def single_program(kernel: Kernel, threads: int) -> Program:
    """A program of one call: every parameter is an argument, scratch is in the arena."""
    inputs = len(kernel.params) - kernel.outputs
    slots = [Slot("input", i) for i in range(inputs)] + [Slot("output", i) for i in range(kernel.outputs)]
    shared = _aligned(kernel.shared_bytes)
    thread = _aligned(kernel.thread_bytes)
    call = KernelCall(kernel.symbol, tuple(slots), shared=0, thread=shared, thread_bytes=thread)
    return Program((call,), inputs, kernel.outputs, shared + threads * thread, threads)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // 64) * 64
