"""How often Python looks for cyclic garbage while schedules are made.

Schedules are trees of many small objects, hardly any of them cyclic. Looking for cycles as often as usual takes a tenth
of the time in which they are made, lowered and emitted.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLD = (50_000, 20, 100)


def collect_seldom() -> None:
    """Do so from now on; what there is already is not looked at again."""
    gc.freeze()
    gc.set_threshold(*THRESHOLD)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Do so within a ``with`` block, in a process that belongs to somebody else."""
    before = gc.get_threshold()
    if before[0]:  # else it is switched off
        gc.set_threshold(*map(max, before, THRESHOLD))
    try:
        yield
    finally:
        gc.set_threshold(*before)
