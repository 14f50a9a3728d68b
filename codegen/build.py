"""The one way from (workload, decisions, target) to object code; tuning and building both take it."""

from __future__ import annotations

from typing import Any

from ..schedule.cost import arithmetic
from ..schedule.layout import BlockedLayout
from ..schedule.schedule import Schedule
from ..target import Target
from ..te.expr import Const
from . import emit, llvm, pipeline
from .detect import host_target
from .kernel import Kernel, Param
from .nodes import Buffer, For, Function, walk_stmts


def build_kernel(schedule: Schedule, target: Target) -> Kernel:
    """Lower a schedule and compile it to relocatable object code for ``target``.

    Raises ScheduleError when the schedule cannot be lowered, InternalError when LLVM rejects the result.
    """
    name = pipeline.kernel_name(schedule.workload, schedule, target)
    pipeline.dump(schedule, target, name)
    fn = pipeline.lower_schedule(schedule, target, name)
    inputs = schedule.workload.inputs
    params = []
    for position, buffer in enumerate(fn.params):
        source = inputs[position] if position < len(inputs) else None
        layout = schedule.layouts.get(source) if source else None
        prepare = None
        if source is not None and schedule.precomputed_for(source) is not None:
            builder = host_target(1)  # it runs where the model is built, whatever the target
            preparation = pipeline.lower_preparation(schedule, source, builder, f"{name}_prepare{position}")
            prepare, layout = _compiled(preparation, [_param(b) for b in preparation.params], {}, builder), None
        params.append(_param(buffer, layout, prepare))
    metadata = {"decisions": dict(schedule.decisions), "flops": arithmetic(schedule)}
    return _compiled(fn, params, metadata, target)


def _compiled(fn: Function, params: list[Param], metadata: dict[str, Any], target: Target) -> Kernel:
    return Kernel(
        symbol=fn.name,
        object_code=llvm.compile_object(emit.emit_function(fn, target), target),
        params=tuple(params),
        outputs=fn.outputs,
        shared_bytes=_scratch_bytes(fn.shared),
        thread_bytes=_scratch_bytes(fn.thread),
        parallel=_chunks(fn),
        in_place=fn.in_place,
        metadata=metadata,
    )


def _param(buffer: Buffer, layout: BlockedLayout | None = None, prepare: Kernel | None = None) -> Param:
    json = layout.to_json() if layout else None
    return Param(buffer.name, buffer.shape, buffer.dtype, buffer.size_bytes, json, prepare)


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
