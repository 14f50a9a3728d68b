"""The one way from (workload, decisions, target) to object code; tuning and building both take it."""

from __future__ import annotations

from ..schedule.schedule import Schedule
from ..target import Target
from ..te.expr import Const
from . import emit, llvm, pipeline
from .kernel import Kernel, Param
from .nodes import Buffer, For, Function, walk_stmts


def build_kernel(schedule: Schedule, target: Target) -> Kernel:
    """Lower a schedule and compile it to relocatable object code for ``target``.

    Raises ScheduleError when the schedule cannot be lowered, InternalError when LLVM rejects the result.
    """
    name = pipeline.kernel_name(schedule.workload, schedule, target)
    fn = pipeline.lower_schedule(schedule, target, name)
    pipeline.dump(schedule, target, name)
    code = llvm.compile_object(emit.emit_function(fn, target), target)
    return kernel_of(fn, schedule, code)


def kernel_of(fn: Function, schedule: Schedule, code: bytes) -> Kernel:
    """Describe a compiled function to its callers."""
    params = []
    layouts = [schedule.layouts.get(p) for p in schedule.workload.inputs]
    for position, buffer in enumerate(fn.params):
        layout = layouts[position] if position < len(layouts) else None
        params.append(
            Param(buffer.name, buffer.shape, buffer.dtype, buffer.size_bytes, layout.to_json() if layout else None)
        )
    return Kernel(
        symbol=fn.name,
        object_code=code,
        params=tuple(params),
        outputs=fn.outputs,
        shared_bytes=_scratch_bytes(fn.shared),
        thread_bytes=_scratch_bytes(fn.thread),
        parallel=_chunks(fn),
        in_place=fn.in_place,
        metadata={"decisions": dict(schedule.decisions)},
    )


def _scratch_bytes(buffers: tuple[Buffer, ...]) -> int:
    return emit.scratch_layout(buffers)[1]


def _chunks(fn: Function) -> int:
    """The most iterations that any parallel loop of the function has; 1 without one."""
    extents = [
        int(s.extent.value)
        for s in walk_stmts(fn.body)
        if isinstance(s, For) and s.kind == "parallel" and isinstance(s.extent, Const)
    ]
    return max(extents, default=1)

