"""Schedules: HOW to compute a workload. Read :mod:`.schedule` first, then :mod:`.space` and :mod:`.decide`."""

from .axis import LoopAxis
from .decide import Decider, Default, Grid, Mutate, Random, Replay
from .layout import BlockedLayout, apply_layout
from .schedule import Schedule
from .space import Space, enumerate_space, instantiate, register, space_for
from .stage import Stage

__all__ = [
    "BlockedLayout",
    "Decider",
    "Default",
    "Grid",
    "LoopAxis",
    "Mutate",
    "Random",
    "Replay",
    "Schedule",
    "Space",
    "Stage",
    "apply_layout",
    "enumerate_space",
    "instantiate",
    "register",
    "space_for",
]
