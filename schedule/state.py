"""The state of a schedule: its stages, and how primitives find what they are given. Next: :mod:`.schedule`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, Union

from ..errors import ScheduleError
from ..te.expr import Axis, Expr, Read, Var
from ..te.tensor import Compute, Placeholder, Source, sources_of
from ..te.traversal import substitute
from ..te.workload import Workload
from .axis import LoopAxis
from .decide import Decisions
from .layout import BlockedLayout
from .stage import Stage, unique_name
from .trace import Names, Step, names_of

StageLike: TypeAlias = Union[str, Source, Stage]
AxisLike: TypeAlias = Union[str, Axis, LoopAxis]


class ScheduleState:
    """The stages of a workload as they stand; the primitives derive from it."""

    _depth = 0  # how many primitives are under way, one called by the other: the outermost is recorded

    def __init__(self, workload: Workload, names: Names | None = None) -> None:
        names = names_of(workload) if names is None else names
        if [len(n) for n in names] != [len(n) for n in names_of(workload)]:
            raise ScheduleError("the trace is of a workload with other stages or axes")
        self.workload = workload
        self.names = names
        self.stages: dict[str, Stage] = {}
        self.layouts: dict[Placeholder, BlockedLayout] = {}
        self.trace: list[Step] = []
        self.decisions: Decisions = {}
        first_stage = len(workload.inputs)
        self._inputs: dict[str, Placeholder] = {}
        for (name, *_), p in zip(names, workload.inputs, strict=False):
            self._inputs[unique_name(name, self._inputs)] = p
        for tensor, (name, *axes) in zip(workload.stages, names[first_stage:], strict=True):
            self._add_stage(name, tensor, axes)

    # ------------------------------------------------------------------ look-up

    def __getitem__(self, stage: str | Source | Stage) -> Stage:
        """Find a stage by its name or its tensor."""
        if isinstance(stage, Stage):
            if self.stages.get(stage.name) is stage:
                return stage
            raise ScheduleError(f"stage {stage.name!r} is of another schedule")
        if isinstance(stage, str):
            if stage in self.stages:
                return self.stages[stage]
            raise ScheduleError(f"no stage {stage!r}; the stages are {', '.join(self.stages)}")
        for s in self.stages.values():
            if s.tensor is stage:
                return s
        raise ScheduleError(f"{stage!r} is not computed by this schedule; the stages are {', '.join(self.stages)}")

    def live_stages(self) -> list[Stage]:
        """The stages that get code, producers first."""
        return [s for s in self.stages.values() if not s.inlined]

    def is_output(self, stage: Stage) -> bool:
        return any(stage.tensor is t for t in self.workload.outputs)

    def consumers(self, source: Source) -> list[Stage]:
        """The live stages that read a tensor."""
        return [s for s in self.live_stages() if source in sources_of(s.body)]

    def point_reader(self, stage: Stage, dimension: int) -> tuple[Stage, int] | None:
        """The stage inside whose loops this one is computed, and its dimension, if it alone reads this dimension point
        by point: then no coordinate is needed that the reader does not have.
        """
        consumer = stage.attach[0] if stage.attach else None
        if consumer is None or self.consumers(stage.tensor) != [consumer]:
            return None
        wanted = [r.indices[dimension] for r in consumer.reads() if r.source is stage.tensor]
        for d, axis in enumerate(consumer.tensor.axes):
            if all(i is axis.var for i in wanted):
                return consumer, d
        return None

    def accesses(self, stage: Stage, source: Source, through: bool = False) -> list[Read]:
        """Where a stage writes or reads a tensor, over its own axes.

        through: also what it reads by way of a stage that is computed inside the loops of a consumer.
        """
        if source is stage.tensor:
            return [Read(source, tuple(a.var for a in stage.tensor.axes), source.dtype)]
        direct = [r for r in stage.reads() if r.source is source]
        if direct or not through:
            return direct
        found = []
        for read in stage.reads():
            producer = self[read.source] if isinstance(read.source, Compute) else None
            if producer is not None and producer.attach is not None:
                point: dict[Var, Expr] = {a.var: i for a, i in zip(producer.tensor.axes, read.indices, strict=True)}
                wanted = [substitute(r, point) for r in producer.reads() if r.source is source]
                found += [r for r in wanted if isinstance(r, Read)]
        return found

    def tensor(self, name: str | Source | Stage) -> Source:
        """Find a stage's tensor or an input, by name or by itself."""
        if isinstance(name, Stage):
            return self[name].tensor
        if isinstance(name, str):
            return self._inputs[name] if name in self._inputs else self[name].tensor
        if isinstance(name, Placeholder) and name in self.workload.inputs:
            return name
        return self[name].tensor

    def name_of(self, source: Source) -> str:
        """What this schedule calls a tensor: its own name or, where a trace was replayed, that of the trace."""
        for name, p in self._inputs.items():
            if p is source:
                return name
        return self[source].name

    # ------------------------------------------------------------------ for the primitives

    def _add_stage(
        self, name: str, tensor: Compute, axis_names: Sequence[str] | None = None, before: Stage | None = None
    ) -> Stage:
        unique = unique_name(name, self.stages.keys() | self._inputs.keys())
        stage = Stage(unique, tensor, axis_names)
        if before is None:
            self.stages[unique] = stage
            return stage
        ordered: dict[str, Stage] = {}
        for key, s in self.stages.items():
            if s is before:
                ordered[unique] = stage
            ordered[key] = s
        self.stages = ordered
        return stage

    def _axis(self, stage: Stage, axis: AxisLike) -> LoopAxis:
        name = axis if isinstance(axis, str) else axis.name
        found = stage.axis(name)
        if isinstance(axis, LoopAxis) and found is not axis:
            raise ScheduleError(f"axis {name!r} is not of stage {stage.name}")
        return found

    def _leaf(self, stage: Stage, axis: AxisLike, primitive: str) -> LoopAxis:
        if isinstance(axis, LoopAxis) and axis in stage.leaves:
            return axis
        found = self._axis(stage, axis)
        if found not in stage.leaves:
            raise ScheduleError(
                f"{primitive}({stage.name}, {found.name}): {found.name} is no longer a loop; "
                f"the loops are {stage.loop_names()}"
            )
        return found
