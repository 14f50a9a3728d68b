"""The one way from (workload, decisions, target) to object code; tuning and building both take it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from ..errors import ScheduleError
from ..schedule.cost import arithmetic
from ..schedule.layout import BlockedLayout
from ..schedule.schedule import Schedule
from ..target import Target
from ..te.expr import Const
from ..te.tensor import Placeholder
from . import emit, llvm, pipeline
from .detect import host_target
from .kernel import Kernel, Param
from .nodes import Buffer, For, Function, walk_stmts


def build_kernel(
    schedule: Schedule, target: Target, symbol: str | None = None, most_lines: int | None = None
) -> Kernel:
    """Lower a schedule and compile it to relocatable object code for ``target``.

    symbol  the function's name; default: one that is unique for (workload, decisions, target), as a program of several
            kernels needs it
    most_lines  of LLVM IR that the kernel may have: a thousand take some 30 ms to compile; default: any number

    Raises ScheduleError when the schedule cannot be lowered or its code is too long, InternalError when LLVM rejects
    the result.
    """
    name = symbol or pipeline.kernel_name(schedule.workload, schedule, target)
    pipeline.dump(schedule, target, name)
    fn = pipeline.lower_schedule(schedule, target, name)
    inputs = schedule.workload.inputs
    params = []
    for position, buffer in enumerate(fn.params):
        source = inputs[position] if position < len(inputs) else None
        layout = schedule.layouts.get(source) if source else None
        prepare = None
        if source is not None and schedule.precomputed_for(source) is not None:
            prepare, layout = _preparation(schedule, source), None
        params.append(_param(buffer, layout, prepare))
    metadata = {"decisions": dict(schedule.decisions), "flops": arithmetic(schedule)}
    text = emit.emit_function(fn, target)
    if most_lines is not None and (lines := text.count("\n")) > most_lines:
        raise ScheduleError(f"the code is {lines} lines long, and at most {most_lines} are allowed; unroll less")
    return _kernel(fn, params, metadata, llvm.compile_object(text, target))


def _preparation(schedule: Schedule, source: Placeholder) -> Kernel:
    """What computes the constant that a kernel reads in place of ``source``; kernels that share it share its symbol."""
    position = schedule.workload.inputs.index(source)
    steps = repr((schedule.names, schedule.preparation_steps(source)))
    return _prepared(_Preparation(schedule.workload.key, position, steps, schedule, source))


@dataclass(frozen=True, slots=True)
class _Preparation:
    """A constant input with what is computed from it; equal where the same steps made it of the same workload."""

    workload: str
    position: int
    steps: str
    schedule: Schedule = field(compare=False)
    source: Placeholder = field(compare=False)


@lru_cache(maxsize=256)
def _prepared(asked: _Preparation) -> Kernel:
    """Kept for a whole model: candidates for one convolution transform its filter in few ways, eight or so."""
    target = host_target(1)  # it runs where the model is built, whatever the target
    fn = pipeline.lower_preparation(asked.schedule, asked.source, target, "prepare")
    unnamed = emit.emit_function(fn, target)
    symbol = f"prepare_{hashlib.sha256(unnamed.encode()).hexdigest()[:16]}"
    text = unnamed.replace(f"@{fn.name}(", f"@{symbol}(", 1)
    params = [_param(b) for b in fn.params]
    return _kernel(replace(fn, name=symbol), params, {}, llvm.compile_object(text, target))


def _kernel(fn: Function, params: list[Param], metadata: dict[str, Any], object_code: bytes) -> Kernel:
    return Kernel(
        symbol=fn.name,
        object_code=object_code,
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
