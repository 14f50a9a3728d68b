"""Features: a schedule as a vector of fixed length, for a cost model to rank candidates by.

    extract(schedule, target) -> float32 array of FEATURES numbers

They come from the schedule itself (:mod:`.access`), which takes well under a millisecond; lowering takes tens. Sizes,
extents and counts are base-2 logarithms. The sections, in order, are listed in :data:`SECTIONS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import log2, prod

import numpy as np

from ..schedule.decide import Json
from ..schedule.schedule import Schedule
from ..target import Target
from .access import FloatArray, Nest, arithmetic_of, nest_of
from .candidate import Features

_LOOPS = 10
_ACCESSES = 4
_OTHERS = 3
_SLOTS = 32

SECTIONS = {
    "schedule": 10,  # size of the problem, how its stages are placed
    "kinds": 14,  # how much of the main nest is vectorised, unrolled, parallel; register use; wasted points
    "loops": _LOOPS * 5,  # the main nest's loops, innermost first
    "accesses": _ACCESSES * 8,  # its tensors, largest first
    "caches": 12,  # where the working set meets each cache, and the traffic that this makes
    "others": _OTHERS * 6,  # the largest other stages
    "decisions": _SLOTS,  # what the space chose, by hash of the decision's name
}
FEATURES = sum(SECTIONS.values())


def extract(schedule: Schedule, target: Target) -> Features:
    """Return the features of a schedule: :data:`FEATURES` finite numbers."""
    stages = schedule.live_stages()
    work = sorted(((arithmetic_of(stage), i) for i, stage in enumerate(stages)), reverse=True)
    nests = [nest_of(stages[i], target.line_bytes) for _, i in work[: 1 + _OTHERS]]
    main = nests[0]
    lanes = target.lanes()
    values = [
        *_of_schedule(schedule, [amount for amount, _ in work], target),
        *_of_kinds(main, target, lanes),
        *_of_loops(main),
        *_of_accesses(main),
        *_of_caches(main, target),
        *_of_others(nests[1:]),
        *_of_decisions(schedule),
    ]
    result: Features = np.nan_to_num(np.array(values, np.float32), posinf=1e4, neginf=-1e4)
    return result


def _log(x: float) -> float:
    return log2(1.0 + max(x, 0.0))


def _of_schedule(s: Schedule, work: Sequence[float], target: Target) -> list[float]:
    stages = list(s.stages.values())
    flops, moved = s.workload.flops, s.workload.bytes_moved
    return [
        _log(flops),
        _log(moved),
        _log(flops / max(moved, 1)),
        len(work),
        sum(stage.inlined for stage in stages),
        sum(stage.attach is not None for stage in stages),
        len(s.layouts) + sum(stage.layout is not None for stage in stages),
        _log(sum(work)),
        work[0] / max(sum(work), 1.0),
        float(target.threads),
    ]


def _of_kinds(n: Nest, target: Target, lanes: int) -> list[float]:
    def extent(annotation: str, kind: str | None = None) -> float:
        return float(prod(a.extent for a in n.loops if a.annotation == annotation and kind in (None, a.kind)))

    vector = extent("vectorize")
    unrolled, unrolled_reduce = extent("unroll", "spatial"), extent("unroll", "reduce")
    parallel = extent("parallel")
    tile = unrolled * max(vector / lanes, 1.0)
    cuts = sum(len(a.cuts) for a in n.loops)
    chunks = max(1.0, -(-parallel // max(target.threads, 1)))
    level = next((i for i, a in enumerate(n.loops) if a.annotation == "parallel"), -1)
    return [
        _log(vector),
        vector / lanes,
        float(vector % lanes != 0 and vector > 1),
        _log(unrolled),
        _log(unrolled_reduce),
        _log(parallel),
        parallel / (chunks * target.threads),
        float(level),
        _log(tile),
        tile / target.vector_registers,
        float(tile > target.vector_registers - 2),
        _log(tile * unrolled_reduce),
        n.points / max(n.domain, 1.0),
        _log(cuts),
    ]


def _of_loops(n: Nest) -> list[float]:
    values: list[float] = []
    for a in list(reversed(n.loops))[:_LOOPS]:
        values += [
            _log(a.extent),
            float(a.kind == "reduce"),
            float(a.annotation == "vectorize"),
            float(a.annotation == "unroll"),
            float(a.annotation == "parallel"),
        ]
    return values + [0.0] * (_LOOPS * 5 - len(values))


def _of_accesses(n: Nest) -> list[float]:
    loops = n.loops[len(n.loops) - n.own :]
    vector = next((i for i, a in enumerate(loops) if a.annotation == "vectorize"), None)
    serial = max((i for i, a in enumerate(loops) if a.annotation == "serial" and a.extent > 1), default=0)
    values: list[float] = []
    for a in sorted(n.accesses, key=lambda a: (not a.written, a.size_bytes), reverse=True)[:_ACCESSES]:
        stride = 0.0 if vector is None else abs(float(a.strides[vector]))
        values += [
            1.0 + float(a.written),
            _log(a.size_bytes),
            float(stride == 1),
            float(stride == 0),
            _log(stride),
            _log(abs(float(a.strides[serial])) * a.element) if len(a.strides) else 0.0,
            _log(float(a.moved[min(serial + 1, len(a.moved) - 1)])),
            _log(n.points * a.element / max(float(a.moved[0]), 1.0)),
        ]
    return values + [0.0] * (_ACCESSES * 8 - len(values))


def _of_caches(n: Nest, target: Target) -> list[float]:
    """For each cache: how many of the loops fit, what they touch, and the bytes moved from beyond, per operation."""
    loops = n.loops[len(n.loops) - n.own :]
    outside = n.points / max(prod(a.extent for a in loops), 1)
    working: FloatArray = np.sum([a.moved for a in n.accesses], axis=0)
    trips = np.concatenate([[1.0], np.cumprod([max(a.extent, 1) for a in loops])])
    values: list[float] = []
    for size in (target.l1_bytes, target.l2_bytes, target.l3_bytes):
        level = int(np.argmax(working <= size)) if (working <= size).any() else len(working) - 1
        traffic = float(working[level]) * float(trips[level]) * outside
        values += [
            float(len(loops) - level),
            _log(float(working[level])),
            _log(traffic),
            _log(n.arithmetic / max(traffic, 1.0)),
        ]
    return values


def _of_others(nests: Sequence[Nest]) -> list[float]:
    values: list[float] = []
    for n in nests:
        vector = prod(a.extent for a in n.loops if a.annotation == "vectorize")
        values += [
            _log(n.arithmetic),
            _log(vector),
            _log(prod(a.extent for a in n.loops if a.annotation == "unroll")),
            float(len(n.loops) - n.own),
            _log(sum(float(a.moved[0]) for a in n.accesses)),
            n.points / max(n.domain, 1.0),
        ]
    return values + [0.0] * (_OTHERS * 6 - len(values))


def _of_decisions(s: Schedule) -> list[float]:
    slots = [0.0] * _SLOTS
    for name, value in s.decisions.items():
        for part, number in enumerate(_numbers(value)):
            slots[zlib.crc32(f"{name}/{part}".encode()) % _SLOTS] += number
    return slots


def _numbers(value: Json) -> list[float]:
    """A decision's value as numbers: sizes by logarithm, names by a hash."""
    if value is None or isinstance(value, bool):
        return [float(bool(value))]
    if isinstance(value, (int, float)):
        return [_log(float(value)) if value >= 0 else -_log(-float(value))]
    if isinstance(value, str):
        return [zlib.crc32(value.encode()) % 97 / 97.0]
    parts = value.values() if isinstance(value, dict) else value
    return [n for v in list(parts)[:4] for n in _numbers(v)]
