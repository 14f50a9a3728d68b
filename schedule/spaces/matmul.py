"""Matrix products: C[m, n] = sum over k of A[m, k] * B[k, n], with any epilogue.

Panels of B are packed (constant B when the model is built; any other into scratch memory first), a tile of
``rows x vectors`` accumulators stays in registers over the whole of k, panels are outermost (Goto and van de Geijn,
TOMS 2008, for the structure; without blocking k, because a panel fits the second-level cache here).
"""

from __future__ import annotations

from math import prod

from ...target import Target
from ...te.expr import Read, Var
from ...te.tensor import Placeholder, Source
from ..decide import Decider
from ..schedule import Schedule
from ..space import register
from ..stage import Stage
from .common import (
    NEAR_BYTES,
    fuse_all,
    isolate_anchor,
    register_tiles,
    rows_in_first_cache,
    step_from_panel,
    tail_cut,
    tile_parts,
)
from .general import general
from .traffic import PerCore, is_wide, outruns_caches

FEW_ROWS = 2
"""Rows up to which reading the right-hand side may be all of the work."""
STREAMS, MOST_STREAMS = PerCore(1, 8, 3), 8
"""At how many places it is then best read, by default and at most."""


@register("matmul")
def matmul(s: Schedule, d: Decider, target: Target) -> None:
    """The space of matrix products, batched or not, that end in one output of the same shape."""
    anchor = s.workload.anchor
    lanes = target.lanes()
    suits = len(s.workload.outputs) == 1 and len(anchor.shape) >= 2 and len(anchor.reduce_axes) == 1
    if not suits or 0 in anchor.shape or anchor.shape[-1] < lanes:
        general(s, d, target)
        return
    isolated = isolate_anchor(s)
    if isolated is None:
        general(s, d, target)
        return
    out, product = isolated
    m, n, k = anchor.shape[-2], anchor.shape[-1], anchor.reduce_axes[0].extent
    row_options = [r for r in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 28) if r <= m]
    vector_options = [1, 2, 3, 4, MOST_STREAMS] if m <= FEW_ROWS else [1, 2, 3, 4]
    tiles = [(r, v) for r, _, v in register_tiles(row_options, [1], vector_options, target)]
    best = min(tiles, key=lambda t: _tile_cost(t, m, n, k, lanes, target))
    several, streamed = gains_streams(product, m, target), (m, int(STREAMS.of(target)))
    if several and streamed in tiles:
        best = streamed
    rows, vectors = d.choose("tile", [list(t) for t in tiles], list(best))
    panels = 1  # of which a tile reads, each from its own place
    if m <= FEW_ROWS:
        divisors = [p for p in range(1, vectors + 1) if vectors % p == 0]
        panels = d.choose("streams", divisors, vectors if several else 1, before=1)
    steps = d.choose("unroll_k", [1, 2, 4, 8], default_k_unroll(rows * vectors, target))
    order = d.choose("order", ["panels", "rows"], "panels")
    aheads = ["none", "near", "panel"] if panels == 1 else ["none", "near"]
    ahead = d.choose("prefetch", aheads, default_prefetch(product, m, target))

    panel = vectors * lanes
    *batch, mi, ni = out.leaves
    n_o, n_i = s.split(out, ni, panel, tail="guard")
    n_v, n_l = s.split(out, n_i, lanes)
    m_o, m_i = s.split(out, mi, rows, tail="guard")
    outer = [*batch, n_o, m_o] if order == "panels" else [*batch, m_o, n_o]
    s.reorder(out, [*outer, m_i, n_v, n_l])
    s.compute_at(product, out, outer[-1])
    for axis in (m_i, n_v):
        s.unroll(out, axis)
    s.vectorize(out, n_l)
    s.partition(out, m_o, tail_cut(m, rows))
    s.partition(out, n_o, tail_cut(n, panel))
    s.parallel(out, fuse_all(s, out, outer))

    *product_batch, p_m, p_n = product.roots
    (p_k,) = product.reduce_roots
    p_v, p_l = s.split(product, p_n, lanes, tail="guard")
    s.reorder(product, [*product_batch, p_k, p_m, p_v, p_l])
    if k % steps == 0 and steps > 1:
        p_k, step = s.split(product, p_k, steps)
        s.unroll(product, step)
    for axis in (p_m, p_v):
        s.unroll(product, axis)
    s.vectorize(product, p_l)
    packed = panel // panels
    pack_right(s, product, packed, lanes)
    right = right_hand_side(product)
    if ahead != "none" and right is not None:
        row_bytes = packed * 4 * (k // p_k.extent)
        s.prefetch(product, right[0], p_k, p_k.extent if ahead == "panel" else max(1, NEAR_BYTES // row_bytes))


def default_k_unroll(accumulators: int, target: Target) -> int:
    """Steps in an iteration: a small tile needs more of them, and so do narrow vectors."""
    share = accumulators / target.vector_registers
    wanted = 4 if share < 0.25 else 2 if share < 0.5 else 1
    return wanted if is_wide(target) else max(wanted, 2)


def gains_streams(product: Stage, rows: int, target: Target) -> bool:
    """Whether a right-hand side that comes from memory had better be read at several places at once.

    A core that follows each place by itself has more lines under way so: on Emerald Rapids one gives 11 to 14 GB/s,
    eight give 14 to 19, by what others read from memory meanwhile. On Zen 3, three take 0.73 to 0.76 of the time of one
    (8 to 150 MB), on two threads 0.88 to 0.93, and four a little more.
    """
    right = right_hand_side(product)
    return (
        outruns_caches(target) and rows <= FEW_ROWS and right is not None and 4 * prod(right[0].shape) > target.l2_bytes
    )


def default_prefetch(product: Stage, rows: int, target: Target) -> str:
    """What to ask for ahead of a right-hand side that comes from far: the next lines of one that is used once (the core
    asks for those by itself where vectors are narrow), the next panel of one that several tiles of rows use."""
    right = right_hand_side(product)
    if right is None or 4 * prod(right[0].shape) <= target.l2_bytes // 2:
        return "none"
    if rows > 8:
        return "panel"
    return "near" if is_wide(target) else "none"


def _tile_cost(tile: tuple[int, int], m: int, n: int, k: int, lanes: int, target: Target) -> float:
    """Estimated cycles of one reduction step over all tiles."""
    rows, vectors = tile
    panels = -(-n // (vectors * lanes))
    full, rest = divmod(m, rows)
    panel_bytes = vectors * lanes * 4 * k
    cost = sum(count * step_from_panel(part, vectors, panel_bytes, target) for count, part in tile_parts(m, rows))
    if rows > rows_in_first_cache(4 * k):
        cost *= 1.5
    return panels * (cost + (0.5 if is_wide(target) else 2.0) * (full + (rest > 0)))


def pack_right(s: Schedule, product: Stage, panel: int, lanes: int) -> None:
    """Store the right-hand side panel by panel: [N / panel][K][panel]."""
    found = right_hand_side(product)
    if found is None:
        return
    source, n_dim, k_dim = found
    rank = len(source.shape)
    factors: list[list[int]] = [[] for _ in range(rank)]
    factors[n_dim] = [panel]
    lead = [(dim, 0) for dim in range(rank) if dim not in (n_dim, k_dim)]
    order = [*lead, (n_dim, 0), (k_dim, 0), (n_dim, 1)]
    if isinstance(source, Placeholder) and source.constant:
        s.transform_layout(source, factors, order)
        return
    copy = s.cache_read(source, [product])
    s.transform_layout(copy, factors, order)
    k_axis, n_axis = copy.leaves[k_dim], copy.leaves[n_dim]
    width = min(lanes, source.shape[n_dim])
    n_outer, n_lane = s.split(copy, n_axis, width, tail="guard")
    leading = [a for a in copy.leaves if a not in (k_axis, n_outer, n_lane)]
    s.reorder(copy, [*leading, n_outer, k_axis, n_lane])
    if n_dim == rank - 1:
        s.vectorize(copy, n_lane)
    s.partition(copy, n_outer, tail_cut(source.shape[n_dim], width))
    s.parallel(copy, fuse_all(s, copy, [*leading, n_outer]))


def right_hand_side(product: Stage) -> tuple[Source, int, int] | None:
    """The operand indexed by the last output axis and the reduction, with the positions of those dimensions."""
    column = product.tensor.axes[-1].var
    (reduced,) = product.reduce_axes
    for read in product.reads():
        if any(i is column for i in read.indices) and any(i is reduced.var for i in read.indices):
            return read.source, _index_of(read, column), _index_of(read, reduced.var)
    return None


def _index_of(read: Read, var: Var) -> int:
    return next(d for d, i in enumerate(read.indices) if i is var)
