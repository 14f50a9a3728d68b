"""Which inputs of a kernel may share their buffer with an output."""

from __future__ import annotations

from ..schedule.schedule import Schedule
from ..te.expr import Read


def in_place_pairs(schedule: Schedule) -> tuple[tuple[int, int], ...]:
    """Pairs (input, output) by position: the output may overwrite the input.

    That is so when the input is read only by the stage that makes the output, only at the very element that is being
    stored, and neither the schedule nor a frame makes it lie in another way; then each element is read before it is
    written, by the same thread.
    """
    pairs = []
    for o, output in enumerate(schedule.workload.outputs):
        if output in schedule.workload.frames:
            continue
        stage = schedule[output]
        here = tuple(a.var for a in stage.tensor.axes)
        for i, source in enumerate(schedule.workload.inputs):
            if source.constant or source.shape != output.shape or source.dtype != output.dtype:
                continue
            readers = schedule.consumers(source)
            reads: list[Read] = [r for s in readers for r in s.reads() if r.source is source]
            same = all(
                len(r.indices) == len(here) and all(a is b for a, b in zip(r.indices, here, strict=True)) for r in reads
            )
            if readers == [stage] and same and not stage.reduce_axes:
                pairs.append((i, o))
    return tuple(pairs)
