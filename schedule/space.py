"""Search spaces: ordinary schedule functions with open decisions, found by operator family.

    @register("conv2d")
    def conv2d(s: Schedule, d: Decider, target: Target) -> None: ...

:func:`instantiate` runs the space of a workload with a decider; the result is a schedule that can be built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ..errors import ScheduleError
from ..target import Target
from ..te.workload import Workload
from .decide import Decider, Grid
from .schedule import Schedule

Space: TypeAlias = Callable[[Schedule, Decider, Target], None]

_SPACES: dict[str, Space] = {}


def register(*tags: str) -> Callable[[Space], Space]:
    """Make a function the space of workloads whose anchor has one of ``tags``."""

    def add(space: Space) -> Space:
        for tag in tags:
            _SPACES[tag] = space
        return space

    return add


def space_for(workload: Workload) -> Space:
    """The space of the workload's anchor; the general space (tag ``""``) when its family has none."""
    from . import spaces  # noqa: F401  (registers the spaces that ship)

    return _SPACES.get(workload.anchor.tag, _SPACES[""])


def instantiate(workload: Workload, decider: Decider, target: Target, space: Space | None = None) -> Schedule:
    """Run ``space`` (default: :func:`space_for` the workload) and return the finished schedule.

    Raises ScheduleError when a replayed decision is not legal.
    """
    schedule = Schedule(workload)
    (space or space_for(workload))(schedule, decider, target)
    schedule.decisions = dict(decider.decisions)
    return schedule


def enumerate_space(workload: Workload, target: Target, space: Space | None = None) -> Iterator[Schedule]:
    """Yield every schedule of the space, in lexical order of the decisions; illegal combinations are left out."""
    path: list[int] | None = []
    while path is not None:
        grid = Grid(path)
        try:
            yield instantiate(workload, grid, target, space)
        except ScheduleError:
            pass
        path = grid.following()
