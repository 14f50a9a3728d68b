"""What Winograd convolution costs: the estimates behind the defaults of :mod:`.winograd` and the choice of algorithm.

Cycles are of one full-width multiply-add on one core; rates and factors were fitted to measurements on Zen 4, which
they meet within 10 % from 7 x 7 to 56 x 56 images.
Those of narrow vectors were fitted on Zen 3, where twelve layers took 0.85 to 1.25 times the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, log2

from ...target import Target
from .common import equal_parts, tile_parts
from .products import channel_groups, default_streams
from .traffic import PerCore, foreign_rate, is_double, l3_rate, memory_rate, outruns_caches, stays_in_l3
from .winograd_size import Size
from .winograd_tiles import tile_options

BARRIER_CYCLES = 4000
UNHIDDEN = PerCore(0.2, 0.2, 0.3)
"""Share of the time for reading the filter that prefetches do not hide, or of the time for the products where that is
less: cores that start two multiply-adds in a cycle wait for memory longer, and what they ask of it comes at a lower
rate while they multiply."""

STREAMED = 1.15
"""How much faster a filter comes from memory that is read at several places at once."""

UNHIDDEN_AGAIN = 0.3
"""How much more is not hidden of reading a filter again for each block, where a core starts two 512-bit multiply-adds
and filter and block take twice the second-level cache: 256 channels at 56 x 56 took 10.2 ms with 14 tiles in a block,
and 9 with 28."""

STAYING = 0.75
"""How much less the transforms cost where blocks and filter fit in the second-level cache together."""

WHOLE_DOUBT, FOREIGN_DOUBT = PerCore(1.1, 1.45, 1.35), PerCore(1.25, 1.6, 1.25)
"""How much longer it takes than estimated to transform the whole input first: on one thread, and at least on
several threads, each of which reads what others wrote; that took up to half of the time of a layer when cores were
far from each other."""

LINES_DOUBT = PerCore(1.0, 1.1, 1.1)
"""How much longer it takes than estimated to keep a filter in lines, which was measured on Zen 4 only."""

LARGEST_GROUP, UNFITTING_GROUP = 6, 8
"""Blocks of output channels in a group. Where none fits in the second-level cache beside the transformed input, that is
read from further away, once for each group: with narrow vectors, 8 take 3 to 9 % less time than 2."""

CROWDING, MOST_CROWDED, DOUBLING = PerCore(0.012, 0.0, 0.05), PerCore(20.0, 0.0, 3.0), PerCore(0.0, 0.16, 0.0)
"""How much longer products take where what a block uses is twice the second-level cache, and up to how many times that
counts. On Zen 4, blocks of 5 MB take 4 % longer than those of 0.5 MB, and of 12 MB 20 to 60 %. Narrow vectors take 28
tiles as fast as 14 and up to 100 nearly so: the filter is read less often. On Emerald Rapids, each doubling beyond an
eighth of that cache costs: 64 channels at 56 x 56 took 1.14, 1.28 and 1.4 times as long with 28, 56 and 98 tiles as
with 14."""

RAGGED = PerCore(0.01, 0.0, 0.01)
"""How much longer incomplete last rows of blocks take than estimated, or a third of how much columns do."""

STEPS = PerCore(1.0, 0.77, 0.87)
"""What a step of the products takes, of what the estimate of register tiles says of it alone."""

NARROWEST = 7
"""Tiles of a row in a block, at least: the filter is read again for each block."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to go through the tiles.

    whole    transform the whole input first, then share out blocks of rows x groups of channels; else the threads share
            blocks of rows x parts of the filter, and each transforms the input that it needs
    parts    parts of the output channels: 1 if whole
    rows     rows of tiles in a block
    columns  tiles of each row in it
    group    blocks of output channels that are multiplied before they are transformed back
    cycles   estimate of the slowest thread's time
    """

    whole: bool
    parts: int
    rows: int
    columns: int
    group: int
    cycles: float


def estimated_cycles(size: Size, target: Target) -> float:
    """Cycles of the whole convolution, by the best plan."""
    return best_plan(best_kept(size, target), target).cycles


def best_kept(size: Size, target: Target) -> Size:
    """The size with its filter kept as the estimate prefers: at all points, or in lines."""
    if not size.may_keep_lines:
        return size
    return min(size, replace(size, lines=True), key=lambda kept: best_plan(kept, target).cycles)


def row_options(size: Size) -> list[int]:
    """Rows of tiles that a block may have."""
    return sorted({b for b in (1, 2, 3, 4, 5, 6, 7, 8, 10, 14) if b < size.tiles_y} | {size.tiles_y})


def part_options(size: Size, target: Target) -> list[int]:
    """Parts of the output channels; with groups, each has whole ones."""
    return equal_parts(size.groups if size.groups > 1 else size.out_blocks, target)


def column_options(size: Size, rows: int, whole: bool) -> list[int]:
    """Tiles of each row that a block may have: all, or a half to an eighth of one row of a large image."""
    parts = 1 if whole or rows > 1 else 8
    widths = {-(-size.tiles_x // k) for k in range(1, parts + 1)}
    return sorted(w for w in widths if w >= NARROWEST or w == size.tiles_x)


@lru_cache(maxsize=4096)
def best_plan(size: Size, target: Target, whole: bool | None = None, parts: int | None = None) -> Plan:
    """The plan with the least estimate; among equals the one with fewer blocks. whole, parts: of those that are so."""
    kinds = (False, True) if whole is None else (whole,)
    plans = [
        _plan(size, kind, of_parts, rows, columns, target)
        for kind in kinds
        for of_parts in ([1] if kind else part_options(size, target) if parts is None else [parts])
        for rows in row_options(size)
        for columns in column_options(size, rows, kind)
    ]
    ragged = [(size.tiles_y % p.rows != 0) + 3 * (size.tiles_x % p.columns != 0) for p in plans]
    costs = [p.cycles * (1.0 + RAGGED.of(target) * r) for p, r in zip(plans, ragged, strict=True)]
    return min(zip(costs, plans, strict=True), key=lambda found: (found[0], -found[1].rows))[1]


def default_group(planned: int, vectors: int, target: Target) -> int:
    """Blocks of output channels to multiply before they are transformed back: those of a plan, or a single one where a
    register tile has one vector, so that they are near (:data:`.winograd_tiles.STORED`)."""
    return 1 if vectors == 1 and not outruns_caches(target) else planned


def _plan(size: Size, whole: bool, parts: int, rows: int, columns: int, target: Target) -> Plan:
    """The slowest thread's time: products or the reading of the filter, whichever is longer, and the transforms."""
    block = _Block.of(size, whole, parts, rows, columns, target)
    share = _share_of_whole(size, block, target) if whole else _share_of_blocks(size, parts, block, target)
    # 0.1: the transformed input is read again for each group
    crowded = _crowded(block.used_bytes, target) + 0.1 / block.group
    products = _products(size, parts, rows, columns, target) * share.products * (1.0 + crowded)
    filters = share.first + share.again
    unhidden = UNHIDDEN.of(target) * (min(products, filters) if outruns_caches(target) else filters)
    if is_double(target) and share.again:
        far = (size.filter_bytes + block.used_bytes) / target.l2_bytes - 1.0
        unhidden += UNHIDDEN_AGAIN * min(max(far, 0.0), 1.0) * min(products, share.again)
        of_all = products / share.products / parts
        unhidden += share.products * _uneven(size, rows, columns, of_all, share.later / parts)
    doubt = share.doubt * (LINES_DOUBT.of(target) if size.lines else 1.0)
    cycles = doubt * (max(products, filters) + unhidden + share.transforms)
    return Plan(whole, parts, rows, columns, block.group, cycles)


@dataclass(frozen=True, slots=True)
class _Block:
    """What is multiplied before the next tiles are turned to.

    count        blocks in all images
    tiles        of each
    group        blocks of output channels whose products are kept at a time
    input_bytes  transformed input, where each block makes its own
    used_bytes   that, and the products
    """

    count: int
    tiles: int
    group: int
    input_bytes: int
    used_bytes: int

    @staticmethod
    def of(size: Size, whole: bool, parts: int, rows: int, columns: int, target: Target) -> _Block:
        tiles = rows * columns
        input_bytes = 0 if whole else tiles * size.inputs * size.in_blocks * size.lanes * 4
        product_bytes = tiles * size.points * size.lanes * 4
        group = _group(size.out_blocks // parts, product_bytes, input_bytes, target)
        count = size.images * -(-size.tiles_y // rows) * -(-size.tiles_x // columns)
        return _Block(count, tiles, group, input_bytes, group * product_bytes + input_bytes)


@dataclass(frozen=True, slots=True)
class _Share:
    """What the slowest thread does; cycles but for the first and the last.

    products    its share of them
    first       reading its part of the filter for its first block
    again       reading it for the others
    later       reading the whole filter once more
    transforms  of input and output
    doubt       how much longer all takes than estimated
    """

    products: float
    first: float
    again: float
    later: float
    transforms: float
    doubt: float


def _share_of_whole(size: Size, block: _Block, target: Target) -> _Share:
    """Where the whole input is transformed first, and threads share blocks x groups of output channels."""
    threads = target.threads
    groups = -(-size.out_blocks // block.group)
    share = -(-groups * block.count // threads) / (groups * block.count)
    first = _first_reading(size, block, target) * min(1.0, ceil(groups * share) / groups)
    transforms = sum(size.transforms(target)) / threads + BARRIER_CYCLES * (threads > 1)
    all_bytes = size.transformed_bytes
    if all_bytes > target.l2_bytes // 2:  # written, and read again for each group of channels
        near = stays_in_l3(all_bytes, target)
        rate = l3_rate(target) if near else memory_rate(target.with_threads(1))
        transforms += 0.7 * (groups * share + 1.0 / threads) * all_bytes / rate
    alone = WHOLE_DOUBT.of(target)
    doubt = alone if threads == 1 else max(alone, FOREIGN_DOUBT.of(target))
    return _Share(share, first, 0.0, 0.0, transforms, doubt)


def _share_of_blocks(size: Size, parts: int, block: _Block, target: Target) -> _Share:
    """Where threads share blocks x parts of the output channels, and each transforms the input that it needs."""
    taken = -(-block.count * parts // target.threads)  # of the blocks' parts
    share = min(1.0, taken * block.tiles / (parts * size.tiles))
    near = stays_in_l3(size.filter_bytes, target, alone=True)
    later = size.filter_bytes / (l3_rate(target) if near else _filter_rate(size, block, target))
    again = max(taken - parts, 0) * later / parts
    first = min(taken, parts) * _first_reading(size, block, target) / parts
    stays = block.used_bytes + size.filter_bytes / parts <= target.l2_bytes
    of_input, of_output = size.transforms(target)
    transforms = (of_input * min(1.0, parts * share) + of_output * share) * (STAYING if stays else 1.0)
    transforms += (1.0 - 1.0 / parts) * size.input_bytes / foreign_rate(target)
    if outruns_caches(target) and not stays_in_l3(block.input_bytes, target):  # read again for each group of channels
        transforms += size.out_blocks / block.group * share * size.transformed_bytes / _filter_rate(size, block, target)
    return _Share(share, first, again, later, transforms, 1.0)


def _first_reading(size: Size, block: _Block, target: Target) -> float:
    """Cycles of reading the filter for the first time."""
    far = size.filter_bytes > target.l2_bytes
    return size.filter_bytes / (_filter_rate(size, block, target) if far else l3_rate(target))


def _filter_rate(size: Size, block: _Block, target: Target) -> float:
    """How fast the filter comes from memory."""
    streams = default_streams(size.in_blocks // size.groups, size.filter_bytes, block.tiles, target)
    return memory_rate(target) * (STREAMED if streams > 1 else 1.0)


def _crowded(used_bytes: int, target: Target) -> float:
    """How much longer products take since a block uses so much."""
    over = max(used_bytes / (0.8 * target.l2_bytes) - 1.0, 0.0)
    doublings = log2(max(8 * used_bytes / target.l2_bytes, 1.0))
    return CROWDING.of(target) * min(over, MOST_CROWDED.of(target)) + DOUBLING.of(target) * doublings


def _group(out_blocks: int, product_bytes: int, input_bytes: int, target: Target) -> int:
    """The largest group that is good, for products of so many bytes for each of its blocks."""
    groups = channel_groups(out_blocks)
    room = 0.75 * target.l2_bytes - input_bytes
    fitting = [g for g in groups if g <= LARGEST_GROUP and g * product_bytes <= room]
    return max(fitting or [g for g in groups if g <= (UNFITTING_GROUP if outruns_caches(target) else 1)])


def _uneven(size: Size, rows: int, columns: int, products: float, filter_: float) -> float:
    """Cycles that incomplete blocks wait for the filter.

    products  cycles of all blocks' products
    filter_   cycles of reading the filter once, as each block does
    """
    blocks = [
        (size.images * of_rows * of_columns, y * x)
        for of_rows, y in tile_parts(size.tiles_y, rows)
        for of_columns, x in tile_parts(size.tiles_x, columns)
    ]
    each = products / size.tiles
    apart = sum(count * max(each * tiles, filter_) for count, tiles in blocks)
    return apart - max(products, filter_ * sum(count for count, _ in blocks))


def _products(size: Size, parts: int, rows: int, columns: int, target: Target) -> float:
    """Cycles of all products; of the best register tile, ragged ones included, but for whole filters on wide cores."""
    if not outruns_caches(target) and not size.lines:
        return size.products
    steps = tile_options(size, parts, rows, columns, target)[2] * size.images * parts
    return STEPS.of(target) * steps * size.inputs * size.in_blocks // size.groups * size.lanes
