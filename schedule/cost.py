"""Counts of arithmetic of a schedule: what its algorithms do, beside what the operator's definition says."""

from __future__ import annotations

from math import prod

from ..te import dtype as dt
from ..te.expr import Binary, Call, Expr, Reduce, Select, children
from .schedule import Schedule


def arithmetic(schedule: Schedule) -> int:
    """Floating-point operations at run time, counted as :attr:`Workload.flops` counts them.

    The same as that unless ``use_algorithm`` put other stages in place of one. Then every element of each stage counts
    once, also where tiles overlap, without the stages that are computed when the model is built; of a ``Select`` the
    dearer side counts.
    """
    if all(step.primitive != "use_algorithm" for step in schedule.trace):
        return schedule.workload.flops
    total = 0
    for stage in schedule.live_stages():
        if not stage.precomputed:
            # not the loops, which cover a tile where the stage is computed inside of another
            points = prod(stage.tensor.shape) * prod(axis.extent for axis in stage.reduce_axes)
            total += points * _operations(stage.body, {})
    return total


def _operations(e: Expr, known: dict[Expr, int]) -> int:
    if e not in known:
        own = int(isinstance(e, (Binary, Call, Reduce)) and dt.is_float(e.dtype))
        if isinstance(e, Select):
            known[e] = max(_operations(e.a, known), _operations(e.b, known))
        else:
            known[e] = own + sum(_operations(c, known) for c in children(e))
    return known[e]
