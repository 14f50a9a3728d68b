"""How fast a core reads, for the estimates of the spaces.

Their unit of time is one multiply-add of full width: a cycle with 512-bit vectors, half a cycle with narrower ones, of
which a core starts two in a cycle. Rates are bytes in that time. Measured on Zen 4 (1 MB of second-level cache) and on
Zen 3 (512 KB), which meets memory more often: its unit is shorter, and a unit's operands are half as large.
"""

from __future__ import annotations

from ...target import Target

SHARED = 0.3
"""How much longer reading from memory takes for each other core that reads too."""


def is_wide(target: Target) -> bool:
    """Whether a multiply-add of full width takes a cycle of its own."""
    return target.vector_bits > 256


def memory_rate(target: Target) -> float:
    """What each core reads from memory, in order, when all of the target's threads do."""
    return (7.0 if is_wide(target) else 1.8) / (1.0 + SHARED * (target.threads - 1))


def l3_rate(target: Target) -> float:
    """What a core reads from the last-level cache."""
    return 14.0 if is_wide(target) else 5.0


def stays_in_l3(size_bytes: int, target: Target, alone: bool = False) -> bool:
    """Whether what was read once is found in the last-level cache when it is read again in the same kernel.

    alone: nothing as large passes through meanwhile. Others use that cache too, and narrow vectors were measured where
    it was shared by many: there a filter of 9 MB stays, and 4 MB beside such a filter do not.
    """
    return size_bytes < target.l3_bytes // (2 if is_wide(target) else 3 if alone else 9)


def l2_rate(target: Target) -> float:
    """What a core reads from its second-level cache while it multiplies."""
    return 24.0 if is_wide(target) else 5.5


def foreign_rate(target: Target) -> float:
    """How fast a core reads what another one has just written."""
    return 4.0 if is_wide(target) else 2.0
