"""The general space: any workload, vectorised and parallel by rule.

Elementwise stages are inlined. Each stage that remains runs on its own: its outer loops are fused and shared among
threads, its most contiguous dimension is vectorised, and a reduction that does not run along that dimension keeps a
short vector of accumulators in registers. Where addresses are more than one running count (neighbouring channels, a
transpose), rows stay loops of their own, so that little is computed for each vector.
"""

from __future__ import annotations

from math import prod

from ...target import Target
from ...te import dtype as dt
from ...te.expr import Compare, Expr, Read, Reduce, Var, binary
from ...te.simplify import linear, simplify
from ...te.traversal import distinct, free_vars
from ..axis import LoopAxis
from ..decide import Decider
from ..schedule import Schedule
from ..space import register
from ..stage import Stage
from .common import fuse_all, inline_elementwise, tail_cut

SHORTEST_ROW, GRAINS = 4, 8
"""Iterations of a row that is worth a loop of its own, and parallel iterations that each thread should have then."""

MOST_PIECES = 9
"""Parts of a stage that have code of their own."""


@register("")
def general(s: Schedule, d: Decider, target: Target) -> None:
    """Schedule every stage by rule; the decisions are the lanes and the unrolling of each."""
    inline_elementwise(s)
    for number, stage in enumerate(s.live_stages()):
        if stage.attach is None and 0 not in [r.extent for r in stage.roots]:
            schedule_stage(s, d, target, stage, f"s{number}.")


def schedule_stage(s: Schedule, d: Decider, target: Target, stage: Stage, prefix: str) -> None:
    """Vectorise and parallelise one root stage."""
    if not stage.leaves:
        return
    lanes = target.lanes(max(8, dt.bits(stage.tensor.dtype)))
    axis = vector_axis(stage)
    if axis is None:
        if stage.roots:
            s.parallel(stage, fuse_all(s, stage, list(stage.roots)))
        return
    choices, preferred = [lanes, 2 * lanes, 4 * lanes], lanes
    limits = boundaries(stage, stage.tensor.axes[stage.roots.index(axis)].var)
    if any(b % lanes for b in limits):  # vectors that do not straddle a boundary need no mask
        narrow = [w for w in (4, 8, 16, 32) if w < lanes and all(b % w == 0 for b in limits)]
        choices = [*narrow, *choices]
        preferred = narrow[-1] if narrow else lanes
    width = min(d.choose(prefix + "lanes", choices, preferred), axis.extent)
    local: Stage | None = None
    if isinstance(stage.body, Reduce):
        local = s.cache_write(stage)
        axis = stage.axis(axis.name)
    outer_lane, lane = s.split(stage, axis, width, tail="guard")
    others = [a for a in stage.leaves if a not in (outer_lane, lane)]
    s.reorder(stage, [*others, outer_lane, lane])
    s.partition(stage, outer_lane, tail_cut(axis.extent, width))
    if local is not None:
        s.compute_at(local, stage, outer_lane)
        position = stage.roots.index(axis)
        local_lane = local.roots[position]
        rest = [a for a in local.leaves if a is not local_lane]
        s.reorder(
            local, [*[a for a in rest if a.kind == "reduce"], *[a for a in rest if a.kind == "spatial"], local_lane]
        )
        s.vectorize(local, local_lane)
    s.vectorize(stage, lane)
    rows = d.choose(prefix + "rows", [False, True], _rows_pay(stage, others, target)) if len(others) > 1 else False
    _cut_at_boundaries(s, stage, others)
    s.parallel(stage, fuse_all(s, stage, others[:-1] if rows else [*others, outer_lane]))


def _rows_pay(stage: Stage, outer: list[LoopAxis], target: Target) -> bool:
    """Whether to keep the last outer loop inside of the parallel one by default.

    Not where all is read as it is written, since there one count is all that the loops need.
    """
    own = tuple(stage.tensor.axes)
    plain = all(tuple(r.indices) == tuple(a.var for a in own) for r in stage.reads())
    return (
        not plain and outer[-1].extent >= SHORTEST_ROW and prod(a.extent for a in outer[:-1]) >= GRAINS * target.threads
    )


def _cut_at_boundaries(s: Schedule, stage: Stage, outer: list[LoopAxis]) -> None:
    """Code of their own for the parts of the outer dimensions between which conditions change, where they are few."""
    pieces = 1
    for axis in outer:
        limits = boundaries(stage, stage.tensor.axes[stage.roots.index(axis)].var)
        cuts = sorted({b for b in limits if 0 < b < axis.extent})
        if cuts and pieces * (len(cuts) + 1) <= MOST_PIECES:
            pieces *= len(cuts) + 1
            s.partition(stage, axis, cuts)


def boundaries(stage: Stage, var: Var) -> list[int]:
    """Values of a variable where its comparison with a constant changes: where parts of a concatenation meet, say."""
    found = []
    for e in distinct(stage.body):
        if not isinstance(e, Compare) or not dt.is_integer(e.a.dtype):
            continue
        form = linear(binary("sub", e.a, e.b))
        if form is not None and len(form.terms) == 1 and form.terms[0][0] is var and abs(form.terms[0][1]) == 1:
            grows = form.terms[0][1] > 0
            value = -form.const if grows else form.const  # that ``var`` is compared with
            if e.op in ("eq", "ne"):
                found += [value, value + 1]
            else:
                found.append(value if (e.op in ("lt", "ge")) == grows else value + 1)
    return found


def vector_axis(stage: Stage) -> LoopAxis | None:
    """The dimension along which vectors pay: the one in which the stores and most reads are contiguous.

    The last dimension of the tensor, unless the reads stride along it while another dimension is contiguous in them.
    """
    if not stage.roots:
        return None
    last = stage.roots[-1]
    candidates = [(a, r) for a, r in zip(stage.tensor.axes, stage.roots, strict=True) if r.extent > 1]
    if not candidates:
        return None
    if last.extent >= 8:
        return last
    if isinstance(stage.body, Reduce):
        return max(candidates, key=lambda c: (_contiguous_reads(stage, c[0].var), c[1].extent))[1]
    return candidates[-1][1]


def _contiguous_reads(stage: Stage, var: Var) -> int:
    """How many reads have stride 1 in ``var``, less those that stride otherwise."""
    score = 0
    for read in stage.reads():
        stride = read_stride(read, var)
        score += 1 if stride == 1 else 0 if stride == 0 else -1
    return score


def read_stride(read: Read, var: Var) -> int | None:
    """Elements by which a read's address moves when ``var`` does by one; None when that is not constant."""
    total = 0
    size = 1
    for extent, index in zip(reversed(read.source.shape), reversed(read.indices), strict=True):
        step = _coefficient(index, var)
        if step is None:
            return None
        total += step * size
        size *= extent
    return total


def _coefficient(index: Expr, var: Var) -> int | None:
    form = linear(simplify(index, {}))
    if form is None:
        return None
    total = 0
    for atom, c in form.terms:
        if atom is var:
            total += c
        elif not isinstance(atom, Var) and any(v is var for v in free_vars(atom)):
            return None
    return total
