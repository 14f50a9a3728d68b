"""What timings tell that were taken in turns.

In each round both sides were timed one right after the other, so that what disturbs a machine for a while disturbs
both. Differences of least or middle times have to exceed the spread of all of them, which is 30 % where neighbours use
the machine too; who was faster in most rounds is known all the same (the sign test).
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def mostly_less(a: Sequence[float], b: Sequence[float], deviations: float) -> bool:
    """Whether ``a`` was less than ``b`` in more rounds than chance explains, by so many standard deviations.

    Times of a round have one index; rounds that only one side has are left out, and a tie counts half. Of few rounds,
    all must be won. False where there are none.
    """
    rounds = list(zip(a, b, strict=False))
    won = sum(1.0 if x < y else 0.5 if x == y else 0.0 for x, y in rounds)
    enough = len(rounds) / 2 + deviations * math.sqrt(len(rounds)) / 2
    return bool(rounds) and won >= min(enough, len(rounds))
