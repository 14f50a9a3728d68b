"""What the spaces have in common: inlining, borders, register tiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ...errors import ScheduleError
from ...target import Target
from ...te.expr import Call, Reduce
from ...te.tensor import Placeholder
from ...te.traversal import walk
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..stage import Stage
from .traffic import PerCore, is_double, is_even, is_wide, l2_rate, memory_rate, outruns_caches

NEAR_BYTES = 4096
"""How far to ask ahead in weights that are read once."""

PREFETCH = PerCore(0.0, 2.0, 0.0)
"""What it costs a step to ask for a vector of weights ahead of time."""

UNHIDDEN = PerCore(0.0, 0.05, 0.0)
"""The share of the way from the second-level cache that is not hidden behind the arithmetic."""

PAST_CACHES_PART = 6
"""Outputs of a sixth of the last-level cache and more may be written past it. On Zen 4 (32 MB) 3x3 convolutions of 64
channels at 224 x 224 and of 128 at 112 x 112 then take 3 to 4 % less time, and whole models 0 to 1 % (VGG-19, ZF-512);
with outputs of 3 MB they took up to 3 % more, since the next kernel reads them from memory."""

NEAR_PANEL = 0.3
"""The share of the first-level cache that a panel of weights may take and still be found there by every tile."""


def output_of(s: Schedule) -> Stage:
    """The single output's stage."""
    if len(s.workload.outputs) != 1:
        raise ScheduleError(f"this space is for one output, not {len(s.workload.outputs)}")
    return s[s.workload.outputs[0]]


def inline_elementwise(s: Schedule, keep: Iterable[Stage] = ()) -> None:
    """Inline each stage that is no reduction and no output, unless it is kept or costly and read more than once."""
    kept = list(keep)
    for stage in list(s.live_stages()):
        if stage in kept or s.is_output(stage) or isinstance(stage.body, Reduce):
            continue
        uses = sum(r.source is stage.tensor for c in s.consumers(stage.tensor) for r in c.reads())
        if uses > 1 and any(isinstance(e, Call) for e in walk(stage.body)):
            continue
        if uses:
            s.compute_inline(stage)


def isolate_anchor(s: Schedule, keep: Iterable[Stage] = ()) -> tuple[Stage, Stage] | None:
    """Inline what is elementwise around the anchor; returns the output's stage and the one that computes the anchor.

    The two differ, so that the anchor can be computed in registers inside the output's loops. None where the output has
    another shape than the anchor. ``keep``: stages that stay as they are.
    """
    out, stage = output_of(s), s[s.workload.anchor]
    inline_elementwise(s, keep=[stage, *keep])
    if out.tensor.shape != stage.tensor.shape:
        return None
    return (out, s.cache_write(out)) if out is stage else (out, stage)


def fuse_all(s: Schedule, stage: Stage, axes: Sequence[LoopAxis]) -> LoopAxis:
    """Fuse neighbouring loops, outermost first, into one."""
    fused = axes[0]
    for a in axes[1:]:
        fused = s.fuse(stage, fused, a)
    return fused


def mark_tile(s: Schedule, stage: Stage, unrolled: list[LoopAxis], lane: LoopAxis) -> None:
    """Unroll the loops of a register tile and vectorise its lanes."""
    for a in unrolled:
        s.unroll(stage, a)
    s.vectorize(stage, lane)


def equal_parts(extent: int, target: Target) -> list[int]:
    """Numbers of equal parts of an extent, no more than threads."""
    return [p for p in range(1, target.threads + 1) if extent % p == 0]


def equal_shares(extent: int, most: int) -> list[int]:
    """Sizes of equal parts of an extent, up to ``most``, of which only the last may be smaller."""
    return [size for size in range(1, min(extent, most) + 1) if -(-extent // -(-extent // size)) == size]


def stores_past_caches(s: Schedule, d: Decider, out: Stage, target: Target) -> bool:
    """Ask whether to write the output past the caches, where it is too large to be found there by what reads it; and do
    so. An operand of its shape may lie in the same memory, and is in the caches then."""
    found_later = out.tensor.size_bytes <= max(target.l3_bytes, target.l2_bytes) // PAST_CACHES_PART
    if found_later or not s.is_output(out):
        return False
    if any(isinstance(x, Placeholder) and x.shape == out.tensor.shape for x in out.inputs()):
        return False
    chosen = d.choose("store_past_caches", [False, True], not outruns_caches(target), before=False)
    if chosen:
        s.store_past_caches(out)
    return chosen


def tail_cut(extent: int, factor: int) -> list[int]:
    """Cut before the incomplete last iteration of a loop split by ``factor``, if there is one."""
    full = extent // factor
    return [full] if extent % factor and full else []


@dataclass(frozen=True, slots=True)
class Window:
    """One dimension of a sliding window: output extent, taps, and where they fall on the input."""

    outputs: int
    inputs: int
    taps: int
    stride: int
    dilation: int
    pad_before: int

    @staticmethod
    def pointwise(outputs: int) -> Window:
        """One tap of stride 1 without padding."""
        return Window(outputs, outputs, 1, 1, 1, 0)

    def inside(self, output: int) -> bool:
        """Whether every tap of an output lies on the input."""
        first = output * self.stride - self.pad_before
        return first >= 0 and first + (self.taps - 1) * self.dilation < self.inputs

    def loads(self, outputs: int) -> float:
        """Elements under the windows of so many neighbouring outputs, for each tap: fewer than there are outputs where
        windows overlap."""
        if self.stride > 1 or self.dilation > 1:
            return outputs
        return (outputs + self.taps - 1) / self.taps

    def share_inside(self) -> float:
        """Share of all taps of all outputs that lie on the input."""
        taps = [t * self.dilation - self.pad_before for t in range(self.taps)]
        inside = sum(0 <= o * self.stride + t < self.inputs for o in range(self.outputs) for t in taps)
        return inside / max(1, self.outputs * self.taps)

    @lru_cache(maxsize=4096)  # noqa: B019  (windows are small and few)
    def border_cuts(self, tile: int, limit: int = 3) -> list[int]:
        """Cuts of the loop over tiles of outputs that set apart the tiles where some tap falls on padding.

        Up to ``limit`` border tiles at each end get a body of their own; with more, each end is one piece.
        """
        tiles = -(-self.outputs // tile)
        clean = [
            all(self.inside(o) for o in range(t * tile, min((t + 1) * tile, self.outputs)))
            and (t + 1) * tile <= self.outputs
            for t in range(tiles)
        ]
        if not any(clean):
            return list(range(1, tiles)) if tiles <= 2 * limit else []
        first = clean.index(True)
        last = tiles - clean[::-1].index(True)
        cuts = set(range(1, first + 1)) if first <= limit else {first}
        cuts |= set(range(last, tiles)) if tiles - last <= limit else {last}
        return sorted(c for c in cuts if 0 < c < tiles)

    def has_border(self) -> bool:
        return not (self.inside(0) and self.inside(self.outputs - 1)) if self.outputs else False


def tile_vectors(target: Target) -> tuple[int, ...]:
    """Vectors that a register tile of a convolution may have; with few registers, 4 x 3 fill them best."""
    return (1, 2, 4) if is_wide(target) else (1, 2, 3, 4)


def register_tiles(
    rows: Sequence[int], columns: Sequence[int], vectors: Sequence[int], target: Target
) -> Iterator[tuple[int, int, int]]:
    """Tiles (row, column, vector) whose accumulators and operands fit the vector registers."""
    for r in rows:
        for c in columns:
            for v in vectors:
                if r * c * v + v + 1 <= target.vector_registers:
                    yield r, c, v


def tile_parts(extent: int, size: int) -> list[tuple[int, int]]:
    """How tiles of ``size`` cover an extent: (number of tiles, their size), the incomplete last one apart."""
    full, rest = divmod(extent, size)
    return [(full, size)] * (full > 0) + [(1, rest)] * (rest > 0)


def rows_in_first_cache(stride_bytes: int) -> int:
    """Of how many rows, ``stride_bytes`` apart, the first-level cache (64 sets of 8 lines of 64 bytes) can hold a line.

    A register tile of more rows, of which each step reads one element, reads every line again and again from afar.
    """
    period = 64 * 64
    return 8 * (period // math.gcd(max(stride_bytes, 64), period))


def step_cycles(points: int, vectors: int, target: Target, broadcasts: float | None = None) -> float:
    """Estimated cycles of one reduction step on a tile of ``points`` x ``vectors`` accumulators.

    broadcasts: loads of single elements in a step, where neighbouring taps share them; by default one for each point.

    The multiply-adds, the loads (one broadcast a point, one load a vector), and the latency that a small tile cannot
    hide bound it. The unit is that of :mod:`.traffic`. Narrow vectors take more instructions, and a core that works for
    two starts fewer of them: measured so, loads are not hidden behind the arithmetic.
    """
    fma, loads = points * vectors, points + vectors
    broadcasts = points if broadcasts is None else broadcasts
    if is_double(target):
        return max(fma, 1.4 * loads, 8.0) + 0.5 * broadcasts + 0.5 * vectors
    if is_even(target):
        return max(fma, 1.1 * loads, 8.0) + 0.04 * points + 0.8 * vectors
    if is_wide(target):
        return max(fma, loads / 1.5, 4.0) + 0.02 * points + 0.12 * vectors
    return max(fma, 1.25 * loads, 8.0) + 0.45 * broadcasts + 0.15 * vectors


def panel_cycles(vectors: int, panel_bytes: int, target: Target) -> float:
    """Cycles in which a step's ``vectors`` of weights come from a panel of that size, which each tile reads from end to
    end: from the second-level cache if it fits there, else from further away. Small ones stay in the first-level cache,
    which counts where vectors are multiplied so fast that the second one holds them up."""
    if outruns_caches(target) and panel_bytes <= NEAR_PANEL * target.l1_bytes:
        return 0.0
    rate = l2_rate(target) if panel_bytes < 0.7 * target.l2_bytes else memory_rate(target.with_threads(1))
    return vectors * target.vector_bits / 8 / rate


def step_from_panel(points: int, vectors: int, panel_bytes: int, target: Target) -> float:
    """:func:`step_cycles`, or what its weights take to come from a panel, where a core waits for them."""
    waiting = panel_cycles(vectors, panel_bytes, target) if outruns_caches(target) else 0.0
    return overlapped(step_cycles(points, vectors, target), waiting, target)


def overlapped(cycles: float, waiting: float, target: Target) -> float:
    """The cycles of a step together with what its weights take to come, most of which happens meanwhile."""
    return max(cycles, waiting) + UNHIDDEN.of(target) * min(cycles, waiting)


def default_unroll(accumulators: int, target: Target, taps: int = 1) -> int:
    """Reduction steps to unroll, each for so many taps: a small tile needs more work in each iteration; with one that
    takes most registers LLVM begins to spill as soon as there are two steps. Narrow vectors need more work in any case,
    and spill nothing."""
    if not is_wide(target) and taps == 1:
        return 4
    share = accumulators / target.vector_registers
    if is_double(target) and taps == 1:
        return 2 if share >= 0.3 else 4
    return 1 if share >= 0.6 else 2 if share >= 0.3 else 4


def stream_options(in_blocks: int) -> list[int]:
    """At how many places a panel over so many blocks of input channels may be read at once: parts of a sum, side by
    side, which the core's own prefetchers follow each. Other numbers than powers of two gained nothing."""
    return [n for n in (1, 2, 4, 8) if in_blocks % n == 0]


def several_streams(in_blocks: int) -> int:
    """At how many of four places at most."""
    return min(4, stream_options(in_blocks)[-1])


def split_streams(s: Schedule, stage: Stage, blocks: LoopAxis, streams: int) -> tuple[list[LoopAxis], LoopAxis]:
    """Split the loop over blocks of input channels for so many streams: an unrolled loop over them, to go inside of the
    loops of the sum, if there are several, and the loop that is left."""
    if streams == 1:
        return [], blocks
    parts, blocks = s.split(stage, blocks, blocks.extent // streams)
    s.unroll(stage, parts)
    return [parts], blocks
