"""Features: a schedule as a vector of fixed length, for a cost model to rank candidates by.

    extract(schedule, target) -> float32 array of FEATURES numbers

They come from the schedule itself (:mod:`.access`), which takes a fraction of a millisecond; lowering takes tens.
Sizes, extents and counts are base-2 logarithms. The sections, in order, are listed in :data:`SECTIONS`;
:func:`definition` identifies what the numbers mean, so that a model that was trained on other ones is not used.
"""

from __future__ import annotations

import io
import token
import tokenize
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256
from math import ceil, log2, prod
from pathlib import Path

import numpy as np

from ..schedule.decide import Json
from ..schedule.schedule import Schedule
from ..schedule.stage import Stage
from ..target import Target
from ..te.tensor import Compute
from .access import Access, Nest, arithmetic_of, nest_of
from .candidate import Features

_LOOPS = 10
_ACCESSES = 3
_OTHERS = 3
_SLOTS = 32
_KINDS = ("conv2d", "depthwise_conv2d", "pool", "matmul")
_BYTES_PER_CYCLE = (24.0, 14.0, 7.0)  # from the second-level cache, from the last-level one, from memory
_INSTRUCTION_BYTES = 8.0

SECTIONS = {
    "task": 16,  # what is computed: its kind, its size, how many threads
    "algorithm": 7,  # by what stages, and how much work more or less than the definition this makes
    "registers": 15,  # vectors, accumulators, operands and spills of the main nest's innermost body; code size
    "parallel": 5,  # iterations over threads
    "loops": _LOOPS * 5,  # the main nest's loops, innermost first
    "accesses": _ACCESSES * 9,  # its tensors, the result first, then the largest
    "caches": 18,  # where the working set meets each cache, and the traffic that this makes
    "others": _OTHERS * 6,  # the largest other stages
    "estimate": 4,  # cycles for each operation by a simple machine model
    "decisions": _SLOTS,  # what the space chose, by hash of the decision's name
}
FEATURES = sum(SECTIONS.values())


def extract(schedule: Schedule, target: Target) -> Features:
    """Return the features of a schedule: :data:`FEATURES` finite numbers."""
    stages = [s for s in schedule.live_stages() if not s.precomputed]
    work = sorted(((arithmetic_of(stage), i) for i, stage in enumerate(stages)), reverse=True)
    nests = [nest_of(schedule, stages[i], target.line_bytes) for _, i in work[: 1 + _OTHERS]]
    main = nests[0]
    body = _Body(main, target)
    share, balance = _of_parallel(main, target)
    caches, traffic = _of_caches(main, target)
    values = [
        *_of_task(schedule, target),
        *_of_algorithm(schedule, [amount for amount, _ in work]),
        *_of_registers(main, body, nests, target),
        *share,
        *_of_loops(main),
        *_of_accesses(main),
        *caches,
        *_of_others(nests[1:], target),
        *_of_estimate(main, body, sum(amount for amount, _ in work[1:]), traffic, balance, target),
        *_of_decisions(schedule),
    ]
    result: Features = np.nan_to_num(np.array(values, np.float32), posinf=1e4, neginf=-1e4)
    return result


def section(features: Features, name: str) -> Features:
    """The columns of one of :data:`SECTIONS`."""
    start = sum(n for _, n in list(SECTIONS.items())[: list(SECTIONS).index(name)])
    part: Features = features[..., start : start + SECTIONS[name]]
    return part


@cache
def definition() -> str:
    """Hash of the code that computes features, comments and layout aside: 16 hexadecimal digits."""
    files = [Path(__file__).with_name(name) for name in ("access.py", "features.py")]
    return code_hash(f.read_text(encoding="utf-8") for f in files)


def code_hash(sources: Iterable[str]) -> str:
    """Hash of Python code without its comments, docstrings and layout: 16 hexadecimal digits."""
    ignored = (token.COMMENT, token.NL, token.NEWLINE, token.INDENT, token.DEDENT, token.ENDMARKER)
    text = []
    for source in sources:
        for t in tokenize.generate_tokens(io.StringIO(source).readline):
            if t.type not in ignored and not t.string.startswith('"""'):
                text.append(t.string)
    return sha256(" ".join(text).encode()).hexdigest()[:16]


def _log(x: float) -> float:
    return log2(1.0 + max(x, 0.0))


class _Body:
    """The innermost body of a nest: what is unrolled and vectorised.

    chunks        vector registers along the vectorised loop
    unrolled      copies of the body for points of the result; repeated: for steps of the reduction
    accumulators  vector registers that hold results
    vectors       operands that are loaded as vectors for each step, and scalars: those that are broadcast
    """

    def __init__(self, n: Nest, target: Target) -> None:
        lanes = target.lanes()
        self.vector = prod(a.extent for a in n.loops if a.own and a.annotation == "vectorize")
        self.chunks = max(1, ceil(self.vector / lanes))
        marked = [(i, a) for i, a in enumerate(n.loops) if a.own and a.annotation == "unroll"]
        self.unrolled = prod(a.extent for _, a in marked if not a.reduce)
        self.repeated = prod(a.extent for _, a in marked if a.reduce)
        self.accumulators = self.unrolled * self.chunks
        lane = next((i for i, a in enumerate(n.loops) if a.own and a.annotation == "vectorize"), None)
        self.vectors = self.scalars = 0.0
        for access in n.accesses:
            if not access.written:
                copies = float(prod(a.extent for i, a in marked if not a.reduce and access.strides[i]))
                if lane is not None and access.strides[lane]:
                    self.vectors += copies * self.chunks
                else:
                    self.scalars += copies
        # of one kind of operand a value is used up before the next is loaded
        self.live = self.accumulators + min(self.vectors, self.scalars + self.chunks)
        self.spills = max(0.0, self.live + 1 - target.vector_registers)
        self.steps = n.points / max(self.unrolled * self.vector, 1)

    def cycles(self, target: Target) -> float:
        """Cycles of one step of the reduction on the whole body; the unit is a multiply-add of full width."""
        wide = target.vector_bits > 256
        loads = (self.vectors + self.scalars + 2.0 * self.spills) / (1.5 if wide else 1.0)
        return max(self.accumulators, loads, (4.0 if wide else 8.0) / self.repeated)


def _of_task(s: Schedule, target: Target) -> list[float]:
    anchor = s.workload.anchor
    flops, moved = s.workload.flops, s.workload.bytes_moved
    reduced = [a.extent for a in anchor.reduce_axes]
    shape = anchor.shape
    rows, columns = (shape[2], shape[3]) if len(shape) == 5 else (1, shape[-2] if len(shape) > 1 else 1)
    kernel, stride = _pair(anchor, "kernel"), _pair(anchor, "strides")
    return [
        _log(flops),
        _log(moved),
        _log(flops / max(moved, 1)),
        *(float(anchor.tag == kind) for kind in _KINDS),
        _log(rows),
        _log(columns),
        _log(anchor.elements / max(rows * columns, 1)),
        _log(prod(reduced)),
        _log(_constant_bytes(s)),
        kernel,
        stride,
        float(len(s.workload.stages)),
        float(target.threads),
    ]


def _constant_bytes(s: Schedule) -> int:
    """Bytes of the weights as the kernel reads them: those that are transformed when the model is built, so."""
    made = [s.precomputed_for(p) or p for p in s.workload.inputs if p.constant]
    return sum(prod(m.tensor.shape) * 4 if isinstance(m, Stage) else m.size_bytes for m in made)


def _pair(anchor: Compute, name: str) -> float:
    value = anchor.attrs.get(name, 1)
    first = value[0] if isinstance(value, tuple) and value else value
    return float(first) if isinstance(first, (int, float)) else 1.0


def _of_algorithm(s: Schedule, work: Sequence[float]) -> list[float]:
    stages = list(s.stages.values())
    product = next((t.tensor for t in stages if t.tensor.tag == "winograd_product"), None)
    return [
        float(product is not None),
        0.0 if product is None else float(product.shape[2]),
        float(len(work)),
        float(sum(stage.attach is not None for stage in stages)),
        float(len(s.layouts) + sum(stage.layout is not None for stage in stages)),
        _log(sum(work)) - _log(s.workload.flops),
        work[0] / max(sum(work), 1.0),
    ]


def _of_registers(n: Nest, body: _Body, nests: Sequence[Nest], target: Target) -> list[float]:
    lanes = target.lanes()
    registers = target.vector_registers
    code = [
        prod(a.extent for a in o.loops if a.own and a.annotation == "unroll")
        * max(1.0, prod(a.extent for a in o.loops if a.own and a.annotation == "vectorize") / lanes)
        * max(o.ops, 1)
        * prod(a.bodies for a in o.loops)
        * _INSTRUCTION_BYTES
        for o in nests
    ]
    return [
        _log(body.vector),
        body.vector / lanes,
        float(body.vector % lanes != 0 and body.vector > 1),
        _log(body.unrolled),
        _log(body.repeated),
        _log(body.accumulators),
        body.accumulators / registers,
        body.live / registers,
        _log(body.spills),
        _log(body.vectors),
        _log(body.scalars),
        body.accumulators / max(body.vectors + body.scalars, 1.0),
        _log(code[0]),
        _log(sum(code)),
        n.points / max(n.domain, 1.0),
    ]


def _of_parallel(n: Nest, target: Target) -> tuple[list[float], float]:
    """The section, and the share of the time of the busiest thread in which the others have work."""
    loops = [i for i, a in enumerate(n.loops) if a.annotation == "parallel"]
    iterations = prod(n.loops[i].extent for i in loops)
    threads = max(target.threads, 1)
    balance = iterations / (ceil(iterations / threads) * threads)
    values = [
        _log(iterations),
        _log(iterations / threads),
        balance,
        _log(n.arithmetic / max(iterations, 1)),
        float(len(loops)),
    ]
    return values, balance


def _of_loops(n: Nest) -> list[float]:
    values: list[float] = []
    for a in [a for a in reversed(n.loops) if a.extent > 1][:_LOOPS]:
        values += [
            _log(a.extent),
            float(a.reduce),
            float(("serial", "unroll", "vectorize", "parallel").index(a.annotation)),
            float(a.own),
            float(a.bodies),
        ]
    return values + [0.0] * (_LOOPS * 5 - len(values))


def _of_accesses(n: Nest) -> list[float]:
    vector = next((i for i, a in enumerate(n.loops) if a.own and a.annotation == "vectorize"), None)
    # the loops that run: where each iteration of the innermost one and the one around it lead
    serial = [i for i, a in enumerate(n.loops) if a.annotation in ("serial", "parallel") and a.extent > 1][-2:]
    values: list[float] = []
    for a in sorted(n.accesses, key=lambda a: (not a.written, -a.size_bytes))[:_ACCESSES]:
        stride = 0.0 if vector is None else float(a.strides[vector])
        steps = [_log(float(a.strides[i]) * a.element) for i in reversed(serial)]
        values += [
            1.0 + a.written + 2.0 * a.constant,
            _log(a.size_bytes),
            float(stride == 1),
            _log(stride),
            *steps,
            *([0.0] * (2 - len(steps))),
            _log(float(a.moved[min(serial[-1] + 1, len(a.moved) - 1)]) if serial else 0.0),
            _log(float(a.moved[serial[-1]]) if serial else 0.0),
            _log(n.points * a.element / max(float(a.moved[0]), 1.0)),
        ]
    return values + [0.0] * (_ACCESSES * 9 - len(values))


def _of_caches(n: Nest, target: Target) -> tuple[list[float], list[float]]:
    """For each cache: how many of the loops fit, what they touch, the bytes moved from beyond, and which tensors move.

    A tensor moves again in each iteration of a loop outside of the part that fits, unless the loop right around that
    part leaves it where it is. Also the traffic in bytes, for each cache.
    """
    moved = np.array([a.moved for a in n.accesses])
    working = moved.sum(axis=0)
    trips = np.concatenate([[1.0], np.cumprod([max(a.extent, 1) for a in n.loops])])
    values: list[float] = []
    beyond: list[float] = []
    for size in (target.l1_bytes, target.l2_bytes, target.l3_bytes):
        fits = working <= 0.8 * size
        level = int(np.argmax(fits)) if fits.any() else len(working) - 1
        each = [_fetched(a, n, level, trips) for a in n.accesses]
        traffic = sum(each)
        weights = sum(t for t, a in zip(each, n.accesses, strict=True) if a.constant)
        beyond.append(traffic)
        values += [
            float(len(n.loops) - level),
            _log(float(working[level])),
            _log(float(working[max(level - 1, 0)])),
            _log(traffic),
            _log(n.arithmetic / max(traffic, 1.0)),
            weights / max(traffic, 1.0),
        ]
    return values, beyond


def _fetched(a: Access, n: Nest, level: int, trips: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Bytes of a tensor that come into a cache which holds what the loops from ``level`` on touch."""
    while level > 0 and not a.strides[level - 1] and n.loops[level - 1].extent > 1:
        level -= 1
        if n.loops[level].extent > 1:
            break
    return float(a.moved[level] * trips[level])


def _of_others(nests: Sequence[Nest], target: Target) -> list[float]:
    values: list[float] = []
    for n in nests:
        own = [a for a in n.loops if a.own]
        working = np.sum([a.moved for a in n.accesses], axis=0)
        values += [
            _log(n.arithmetic),
            _log(prod(a.extent for a in own if a.annotation == "vectorize")),
            _log(prod(a.extent for a in own if a.annotation == "unroll")),
            float(len(n.loops) - len(own)),
            _log(float(working[len(n.loops) - len(own)])),
            n.points / max(n.domain, 1.0),
        ]
    return values + [0.0] * (_OTHERS * 6 - len(values))


def _of_estimate(
    n: Nest, body: _Body, other_work: float, traffic: Sequence[float], balance: float, target: Target
) -> list[float]:
    """Logarithms of cycles for each vector operation that the body, memory, and the other stages take, and of all."""
    unit = max(n.arithmetic / 2.0 / target.lanes(), 1.0)
    compute = body.steps * body.cycles(target)
    memory = sum(t / rate for t, rate in zip(traffic, _BYTES_PER_CYCLE, strict=True))
    others = other_work / target.lanes()
    total = (max(compute, memory) + 0.2 * min(compute, memory) + others) / balance
    return [log2(1e-3 + x / unit) for x in (compute, memory, others, total)]


def _of_decisions(s: Schedule) -> list[float]:
    slots = [0.0] * _SLOTS
    for name, value in s.decisions.items():
        for part, number in enumerate(_numbers(value)):
            slots[_slot(name, part)] += number
    return slots


@cache
def _slot(name: str, part: int) -> int:
    return zlib.crc32((name + "/" + str(part)).encode()) % _SLOTS


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
