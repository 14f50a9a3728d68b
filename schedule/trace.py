"""The trace: the steps that made a schedule, as data."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..errors import ScheduleError
from ..te.expr import Axis
from ..te.tensor import Source
from ..te.workload import Workload
from .axis import LoopAxis
from .decide import to_json
from .stage import Stage

if TYPE_CHECKING:
    from .schedule import Schedule

P = ParamSpec("P")
R = TypeVar("R")

Names = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One primitive with its arguments; stages and axes by name."""

    primitive: str
    arguments: Mapping[str, Any]

    def apply(self, schedule: Schedule) -> None:
        """Carry the step out."""
        method = getattr(schedule, self.primitive, None)
        if method is None or not getattr(method, "is_primitive", False):
            raise ScheduleError(f"the trace has a step {self.primitive!r} that this version does not know")
        try:
            inspect.signature(method).bind(**self.arguments)
        except TypeError as e:
            raise ScheduleError(f"step {self.primitive}: {e}") from None
        method(**self.arguments)

    def __str__(self) -> str:
        return f"{self.primitive}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"


@dataclass(frozen=True, slots=True)
class Trace:
    """names: those of :func:`names_of`, which the steps refer to. They are restored when the trace is replayed, so that
    it fits every workload of the same key, whatever its author called things."""

    names: Names
    steps: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        return {"names": [list(n) for n in self.names], "steps": [[s.primitive, dict(s.arguments)] for s in self.steps]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Trace:
        try:
            names = tuple(tuple(str(x) for x in n) for n in data["names"])
            return Trace(names, tuple(Step(str(p), dict(a)) for p, a in data["steps"]))
        except (KeyError, TypeError, ValueError) as e:
            raise ScheduleError(f"this is not a schedule trace: {e!r}") from None


def names_of(workload: Workload) -> Names:
    """Names of inputs and stages, with their axes, in an order that depends on the workload's structure alone."""
    inputs = tuple((p.name,) for p in workload.inputs)
    return inputs + tuple((t.name, *(a.name for a in (*t.axes, *t.reduce_axes))) for t in workload.stages)


def primitive(method: Callable[P, R]) -> Callable[P, R]:
    """Mark a method of Schedule as a primitive: calls that succeed are recorded."""
    _, *names = inspect.signature(method).parameters

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        schedule: Any = args[0]
        depth = schedule._depth
        recorded = {}
        if not depth:  # arguments that do not fit are the method's own error
            given = {**dict(zip(names, args[1:], strict=False)), **kwargs}
            recorded = {k: _record(schedule, v) for k, v in given.items()}
        schedule._depth = depth + 1
        try:
            result = method(*args, **kwargs)
        finally:
            schedule._depth = depth
        if not depth:
            schedule.trace.append(Step(method.__name__, recorded))
        return result

    wrapper.is_primitive = True  # type: ignore[attr-defined]
    return wrapper


def _record(schedule: Schedule, argument: object) -> Any:
    if isinstance(argument, (LoopAxis, Stage, Axis)):
        return argument.name
    if isinstance(argument, (str, int)):
        return argument
    if isinstance(argument, Source):
        return schedule.name_of(argument)
    if isinstance(argument, (list, tuple)):
        return [_record(schedule, a) for a in argument]
    return to_json(argument)
