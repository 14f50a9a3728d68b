"""The code of a task's best schedule, made again from its record: loop nest, loop IR and assembly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..codegen import pipeline
from ..errors import Error, InternalError, ScheduleError
from ..schedule.decide import Replay
from ..schedule.schedule import Schedule
from ..schedule.space import instantiate
from ..target import Target
from ..te.workload import Workload
from ..tuner.record import Record

MOST_CHARACTERS = 40_000
"""A longer listing is cut in its middle: an unrolled kernel can have ten thousand lines."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One level of a kernel's code. lines: of the whole; cut: how many of them are not in ``text``."""

    title: str
    text: str
    lines: int
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """listings: of each level that the page shows. problem: what a reader must know of them, or why there are none."""

    listings: Sequence[Listing] = ()
    problem: str = ""


def rebuild(workload: Workload, record: Record, target: Target) -> Rebuilt:
    """Make a record's schedule and its code again.

    Where this version's space no longer has the record's decisions, the recorded trace tells how the schedule was.
    """
    try:
        schedule, problem = _schedule(workload, record, target)
        levels = pipeline.levels(schedule, target)
        return Rebuilt(
            [
                _listing("Loop nest (schedule)", levels["schedule"]()),
                _listing("Loops after lowering", levels["loops"]()),
                _listing("Assembly", levels["asm"]()),
            ],
            problem,
        )
    except (Error, InternalError, RuntimeError, ValueError, TypeError, KeyError, ArithmeticError, MemoryError) as e:
        # the record may be of another version, for a CPU that this LLVM does not know, or made up
        return Rebuilt(problem=f"the best schedule cannot be made again by this version: {type(e).__name__}: {e}")


def _schedule(workload: Workload, record: Record, target: Target) -> tuple[Schedule, str]:
    if record.space and record.trace is not None:  # a space of the user's own, which only its trace tells of
        return Schedule.replay(workload, record.trace), ""
    try:
        return instantiate(workload, Replay(record.decisions), target), ""
    except ScheduleError as e:
        if record.trace is None:
            raise
        schedule = Schedule.replay(workload, record.trace)
        return schedule, f"this version does not build from the record ({e}); the code is of the schedule as recorded"


def _listing(title: str, text: str) -> Listing:
    text = text.strip("\n")
    lines = text.count("\n") + 1
    if len(text) <= MOST_CHARACTERS:
        return Listing(title, text, lines)
    head = text[: MOST_CHARACTERS * 2 // 3].rpartition("\n")[0]
    tail = text[-MOST_CHARACTERS // 3 :].partition("\n")[2]
    cut = lines - head.count("\n") - tail.count("\n") - 2
    return Listing(title, f"{head}\n\n... {cut} lines left out ...\n\n{tail}", lines, cut)
