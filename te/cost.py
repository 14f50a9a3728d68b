"""Counts of arithmetic, straight from the expressions."""

from __future__ import annotations

from . import dtype as dt
from .expr import Binary, Call, Reduce
from .tensor import Compute
from .traversal import walk


def flops(stage: Compute) -> int:
    """Floating-point operations of one stage; comparisons, selects and conversions count nothing."""
    points = stage.elements
    for axis in stage.reduce_axes:
        points *= axis.extent
    ops = 0
    for e in walk(stage.body):
        if isinstance(e, (Binary, Call)) and dt.is_float(e.dtype):
            ops += 1
        elif isinstance(e, Reduce) and dt.is_float(e.dtype):
            ops += 1
    return points * ops
