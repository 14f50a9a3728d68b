"""Where lowering keeps tensors: their buffers, and the places of coordinates in them. Part of :mod:`.lower`."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ScheduleError
from ..schedule.layout import BlockedLayout
from ..schedule.schedule import Schedule
from ..schedule.stage import Stage
from ..te import dtype as dt
from ..te.expr import Expr, Read, Var, binary
from ..te.simplify import simplify
from ..te.tensor import Compute, Placeholder, Source
from ..te.traversal import rewrite
from ..te.workload import Frame
from .nodes import Buffer, Stmt, Store
from .nodes import Scope as BufferScope
from .scope import Scope

STACK_LIMIT_BYTES = 32 * 1024
"""Larger buffers of an attached stage live in the thread's scratch memory."""


class Storage:
    """The buffers of a schedule's tensors; those of attached stages are known to the :class:`.scope.Scope` around.

    memory  buffers of inputs, outputs and stages that run by themselves
    thread  scratch memory of each thread, one for all pieces of a loop: they run one after another
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.memory: dict[Source, Buffer] = {}
        self.thread: dict[Stage, Buffer] = {}

    def input(self, source: Placeholder) -> Buffer:
        """The parameter for an input: in the layout that the schedule gave it, or what was precomputed from it."""
        stand_in = self.schedule.precomputed_for(source)
        if stand_in is not None:
            self.memory[stand_in.tensor] = self.buffer(stand_in, "param")
            return self.memory[stand_in.tensor]
        layout = self.schedule.layouts.get(source)
        shape = layout.physical_shape(source.shape) if layout else source.shape
        self.memory[source] = Buffer(source.name, shape, source.dtype, "param")
        return self.memory[source]

    def root_buffers(self, stages: Sequence[Stage], outputs: Sequence[Compute]) -> tuple[Buffer, ...]:
        """Give every root stage a buffer; returns those that are scratch memory."""
        shared: list[Buffer] = []
        for stage in stages:
            if stage.attach is None:
                output = any(stage.tensor is t for t in outputs)
                buffer = self.memory[stage.tensor] = self.buffer(stage, "param" if output else "shared")
                if not output:
                    shared.append(buffer)
        return tuple(shared)

    def buffer(self, stage: Stage, scope: BufferScope) -> Buffer:
        """A buffer for all of a stage: in its layout, or within the frame of what it is a part of."""
        frame = self.frame(stage.tensor) if scope == "param" else None
        if frame is not None:
            return Buffer(stage.name, frame.shape, stage.tensor.dtype, scope, past_caches=stage.past_caches)
        shape = stage.layout.physical_shape(stage.tensor.shape) if stage.layout else stage.tensor.shape
        return Buffer(stage.name, shape, stage.tensor.dtype, scope, past_caches=stage.past_caches)

    def frame(self, source: Source) -> Frame | None:
        """The joint buffer of which a result is a part, and where it begins there."""
        return self.schedule.workload.frames.get(source) if isinstance(source, Compute) else None

    def scope_of(self, stage: Stage, shape: tuple[int, ...]) -> BufferScope:
        """Where a stage that is computed inside of another one keeps a region of that shape."""
        if stage.scope != "auto":
            return stage.scope
        size = dt.size_bytes(stage.tensor.dtype)
        for n in shape:
            size *= n
        return "stack" if size <= STACK_LIMIT_BYTES else "thread"

    def locate(self, source: Source, coordinates: Sequence[Expr], scope: Scope) -> tuple[Buffer, tuple[Expr, ...]]:
        """The buffer that holds a tensor, and the indices of a coordinate in it."""
        if source in scope.buffers:
            buffer, origin = scope.buffers[source]
            indices = tuple(binary("sub", c, o) for c, o in zip(coordinates, origin, strict=True))
        elif source in self.memory:
            buffer, indices = self.memory[source], tuple(coordinates)
            frame = self.frame(source)
            if frame is not None:
                indices = tuple(binary("add", c, b) for c, b in zip(indices, frame.begin, strict=True))
        else:
            raise ScheduleError(
                f"{source.name} is read where it is not available: the stage is computed inside a loop that does not "
                "surround all of its readers"
            )
        layout = self.layout(source)
        return buffer, layout.physical_indices(indices) if layout else indices

    def layout(self, source: Source) -> BlockedLayout | None:
        """How a tensor lies in memory; None: row by row."""
        return self.schedule.layouts.get(source) if isinstance(source, Placeholder) else self.schedule[source].layout

    def store(self, target: tuple[Buffer, tuple[Expr, ...]], value: Expr, scope: Scope) -> Stmt:
        """Store a value at what :meth:`locate` found."""
        buffer, indices = target
        moved = self.located(value, scope)
        return Store(buffer, tuple(scope.simplify(i) for i in indices), simplify(moved, scope.bounds))

    def located(self, value: Expr, scope: Scope) -> Expr:
        """Turn reads of tensors into reads of their buffers, and variables into what they stand for."""
        done: dict[Expr, Expr] = {}
        done_inside: dict[Expr, Expr] = {}

        def moved(e: Expr) -> Expr | None:
            return scope.values.get(e) if isinstance(e, Var) else inside(e)

        def inside(e: Expr) -> Expr | None:
            """Of indices: their variables are left to the simplifier."""
            if not isinstance(e, Read):
                return None
            indices = tuple(rewrite(i, inside, done_inside) for i in e.indices)
            buffer, indices = (
                (e.source, indices) if isinstance(e.source, Buffer) else self.locate(e.source, indices, scope)
            )
            return Read(buffer, tuple(scope.simplify(i) for i in indices), e.dtype)

        return rewrite(value, moved, done)
