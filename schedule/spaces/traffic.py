"""How fast a core reads, for the estimates of the spaces, and the kinds of cores that these tell apart.

Their unit of time is one multiply-add of full width: a cycle with 512-bit vectors, half a cycle where a core starts two
such, or with narrower ones. Rates are bytes in that time. Measured on Zen 4 (wide; 1 MB of second-level cache), on
Emerald Rapids (double; 2 MB) and on Zen 3 (narrow; 512 KB). Memory is farther from the latter two. Zen 5 (even) starts
two multiply-adds and reads its own caches twice as fast as Zen 4: it has the numbers of wide but for those given.
"""

from __future__ import annotations

from typing import NamedTuple

from ...target import WITH_TILES, Target

DOUBLE = WITH_TILES | {"skylake-avx512", "cascadelake", "cooperlake", "icelake-server"}
"""CPUs, by LLVM's names, that start two multiply-adds of 512 bits in a cycle, and additions in the same two units."""

EVEN = frozenset({"znver5"})
"""CPUs that start as many multiply-adds of 512 bits in a cycle as they read vectors from the first-level cache: two."""


class PerCore(NamedTuple):
    """A number that was measured on each kind of core; None: the same as on wide ones."""

    wide: float
    double: float
    narrow: float
    even: float | None = None

    def of(self, target: Target) -> float:
        value: float | None = getattr(self, kind_of_core(target))
        return self.wide if value is None else value


MEMORY, L3 = PerCore(7.0, 2.8, 1.8, 5.0), PerCore(14.0, 4.6, 5.0, 5.0)
L2, FOREIGN = PerCore(24.0, 12.0, 5.5), PerCore(4.0, 2.0, 2.0)
SHARED = PerCore(0.3, 0.5, 0.3)
"""How much longer reading from memory takes for each other core that reads too."""


L3_PARTS, L3_ALONE = PerCore(2.0, 9.0, 9.0), PerCore(2.0, 5.0, 3.0)
"""What part of the last-level cache, 1 / n, a kernel can count on, and what part where nothing else as large passes
through. Others use it too: where narrow vectors were measured (32 MB), 9 MB stay alone, but not 4 MB beside as much;
on Emerald Rapids (300 MB for 60 cores) 60 MB stay."""


def is_wide(target: Target) -> bool:
    """Whether vectors have 512 bits, and there are 32 of them."""
    return target.vector_bits > 256


def is_double(target: Target) -> bool:
    """Whether two 512-bit multiply-adds are started in a cycle (Intel's servers)."""
    return is_wide(target) and target.cpu in DOUBLE


def is_even(target: Target) -> bool:
    """Whether no more vectors are read in a cycle than there are multiply-adds started, of 512 bits (Zen 5)."""
    return is_wide(target) and target.cpu in EVEN


def kind_of_core(target: Target) -> str:
    """Which of the fields of a :class:`PerCore` is for a target."""
    if not is_wide(target):
        return "narrow"
    return "double" if is_double(target) else "even" if is_even(target) else "wide"


def outruns_caches(target: Target) -> bool:
    """Whether a core starts two multiply-adds of full width in a cycle, and reads its caches no faster for that: the
    unit is then half a cycle, and what is multiplied comes from twice as far away."""
    return is_double(target) or not is_wide(target)


def memory_rate(target: Target) -> float:
    """What each core reads from memory, in order, when all of the target's threads do."""
    return MEMORY.of(target) / (1.0 + SHARED.of(target) * (target.threads - 1))


def l3_rate(target: Target) -> float:
    """What a core reads from the last-level cache."""
    return L3.of(target)


def stays_in_l3(size_bytes: int, target: Target, alone: bool = False) -> bool:
    """Whether what was read once is found in the last-level cache when it is read again in the same kernel.

    alone: nothing as large passes through meanwhile.
    """
    return size_bytes < target.l3_bytes / (L3_ALONE if alone else L3_PARTS).of(target)


def l2_rate(target: Target) -> float:
    """What a core reads from its second-level cache while it multiplies."""
    return L2.of(target)


def foreign_rate(target: Target) -> float:
    """How fast a core reads what another one has just written."""
    return FOREIGN.of(target)
