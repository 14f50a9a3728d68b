"""The memory plan: where every value of a model lives while it runs.

Comes in: groups in execution order (kernels and views). Goes out, in two steps:

1. :func:`arrange`, before kernels are built: resolves views to (storage, offset), binds graph outputs, and adds a copy
   where a view cannot be had without one (a graph output that is an input or a part of something, a value that two
   concatenations want, ...).
2. :func:`plan_memory`, when it is known what scratch each kernel needs and what it can do in place: one arena, whose
   parts are shared by values that are not live at the same time.

Graph inputs and outputs are bound to the caller's arrays and never copied; an input is never written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ..codegen.program import Slot
from ..errors import InternalError
from ..runtime.arrays import ALIGNMENT, aligned
from ..te import dtype as dt
from .ir import Group, Value


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes ``offset .. offset + size`` of a storage. A storage is named by the one value that fills it."""

    storage: Value
    offset: int
    size: int

    def overlaps(self, other: Place) -> bool:
        """Whether both share a byte of memory."""
        return (
            self.storage is other.storage
            and self.offset < other.offset + other.size
            and other.offset < self.offset + self.size
        )


@dataclass(frozen=True, slots=True)
class Arrangement:
    """calls: groups of kind ``kernel`` or ``copy`` in order. places: of every value. bound: storages that are graph
    inputs, outputs or constants; every other one gets a part of the arena."""

    calls: tuple[Group, ...]
    places: Mapping[Value, Place]
    bound: Mapping[Value, Slot]


@dataclass(frozen=True, slots=True)
class Needs:
    """What one call needs beside its arguments: as the fields of :class:`~luthier.codegen.kernel.Kernel`."""

    shared_bytes: int = 0
    thread_bytes: int = 0
    in_place: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Sizes and offsets in bytes.

    slots    address of every value that is not a constant
    shared, thread  arena offsets of the scratch of each call
    thread_bytes  distance between the scratch of neighbouring threads, for each call
    waits    for each call, whether the next one must wait for it
    live_bytes  most bytes that are in use at once: no plan can be smaller than that
    """

    arena_bytes: int
    slots: Mapping[Value, Slot]
    shared: tuple[int, ...]
    thread: tuple[int, ...]
    thread_bytes: tuple[int, ...]
    waits: tuple[bool, ...]
    live_bytes: int


def value_bytes(value: Value) -> int:
    """Size of the buffer that holds ``value``."""
    return prod(value.physical_shape) * dt.size_bytes(value.dtype)


# -------------------------------------------------------------------------------------------- views


def arrange(
    groups: Sequence[Group], inputs: Sequence[Value], outputs: Sequence[Value], constants: Sequence[Value]
) -> Arrangement:
    """Resolve the views among ``groups``; add groups of kind ``copy`` (one input, one output) where they are needed.

    Raises InternalError when a view cannot be one: sizes differ, or a part is not aligned to 64 bytes.
    """
    return _Arranger(inputs, constants).run(groups, outputs)


class _Arranger:
    def __init__(self, inputs: Sequence[Value], constants: Sequence[Value]) -> None:
        self.bound = {v: Slot("input", i) for i, v in enumerate(inputs)} | {v: Slot("constant") for v in constants}
        self.parents: dict[Value, tuple[Value, int]] = {}
        self.calls: list[Group] = []

    def run(self, groups: Sequence[Group], outputs: Sequence[Value]) -> Arrangement:
        for group in groups:
            if group.kind == "kernel":
                self.calls.append(group)
            elif group.kind == "part":
                self.cut(group)
            elif group.offsets:
                self.concatenate(group)
            elif group.kind == "view":
                self.alias(group)
        for index, value in enumerate(outputs):
            storage, _ = self.root(value)
            if not self.is_free(value) or storage in self.bound:
                storage = self.copy(value)
            self.bound[storage] = Slot("output", index)
        values = {v: None for g in (*groups, *self.calls) for v in (*g.inputs, *g.outputs)} | dict.fromkeys(self.bound)
        return Arrangement(tuple(self.calls), {v: self.place(v) for v in values}, self.bound)

    def root(self, value: Value) -> tuple[Value, int]:
        """Follow the views of ``value`` to its storage."""
        offset = 0
        while value in self.parents:
            value, step = self.parents[value]
            offset += step
        return value, offset

    def place(self, value: Value) -> Place:
        return Place(*self.root(value), value_bytes(value))

    def is_free(self, value: Value) -> bool:
        """Whether ``value`` fills its storage, and that may still be put anywhere."""
        storage, _ = self.root(value)
        return storage not in self.bound and value_bytes(storage) == value_bytes(value)

    def alias(self, group: Group) -> None:
        source, result = group.inputs[0], group.outputs[0]
        if value_bytes(source) != value_bytes(result):
            raise InternalError(f"memory plan: {_names(group)}: {result} cannot be a view of {source}: sizes differ")
        self.parents[result] = (source, 0)

    def cut(self, group: Group) -> None:
        source, result, start = group.inputs[0], group.outputs[0], group.start
        if start % ALIGNMENT or not 0 <= start <= value_bytes(source) - value_bytes(result):
            raise InternalError(
                f"memory plan: {_names(group)}: {result} cannot be at byte {start} of {source}: a part must lie "
                f"inside and be aligned to {ALIGNMENT}; make this slice a kernel"
            )
        self.parents[result] = (source, start)

    def extend(self, part: Value, result: Value) -> bool:
        """Make ``result`` begin where ``part`` is, if that is the end of its storage and more may follow there."""
        storage, offset = self.root(part)
        end = offset + value_bytes(part)
        if storage in self.bound or end != value_bytes(storage) or offset % ALIGNMENT or storage is result:
            return False
        size = (offset + value_bytes(result)) // dt.size_bytes(result.dtype)
        grown = Value(f"{storage.name}.{result.name}", result.dtype, (size,))
        self.parents[storage], self.parents[result] = (grown, 0), (grown, offset)
        return True

    def concatenate(self, group: Group) -> None:
        result = group.outputs[0]
        extended = group.extends and self.extend(group.inputs[0], result)
        for position, (part, offset) in enumerate(zip(group.inputs, group.offsets, strict=True)):
            if extended and not position:
                continue
            if offset % ALIGNMENT or offset + value_bytes(part) > value_bytes(result):
                raise InternalError(
                    f"memory plan: {_names(group)}: {part} cannot be at byte {offset} of {result}: a part must lie "
                    f"inside and be aligned to {ALIGNMENT}; make this concatenation a kernel"
                )
            storage, _ = self.root(part)
            if not self.is_free(part) or storage is result:
                storage = self.copy(part)
            self.parents[storage] = (result, offset)

    def copy(self, value: Value) -> Value:
        """Add a call that copies ``value``; return the new value."""
        copied = Value(f"{value.name}.copy", value.dtype, value.shape, value.layout)
        self.calls.append(Group("copy", [], [value], [copied]))
        return copied


def _names(group: Group) -> str:
    return "+".join(name for node in group.nodes for name in node.names) or group.kind


# ------------------------------------------------------------------------------------------ liveness


def plan_memory(arrangement: Arrangement, needs: Sequence[Needs], threads: int = 1) -> MemoryPlan:
    """Give every value an address. needs: one for each call of the arrangement.

    Calls that do not depend on one another form an epoch: only its last one waits. Memory is shared between values
    whose epochs do not overlap, so that calls of one epoch may run at the same time.
    """
    calls, places = arrangement.calls, arrangement.places
    epochs = _epochs(calls, places)
    spans = _spans(calls, places, epochs)
    merged = _in_place(arrangement, needs, epochs, spans)
    for storage, into in merged.items():  # in order of calls: a chain of values ends up in one storage
        first, last = spans.pop(storage)
        spans[into] = (min(first, spans[into][0]), max(last, spans[into][1]))

    strides = [aligned(n.thread_bytes) for n in needs]
    items = [_Interval(value_bytes(s), *span) for s, span in spans.items() if s not in arrangement.bound]
    in_arena = [s for s in spans if s not in arrangement.bound]
    items += [_Interval(n.shared_bytes, e, e) for n, e in zip(needs, epochs, strict=True)]
    items += [_Interval(stride * threads, e, e) for stride, e in zip(strides, epochs, strict=True)]
    offsets, arena_bytes = allocate(items)

    bases = dict(arrangement.bound) | {s: Slot("arena", 0, o) for s, o in zip(in_arena, offsets, strict=False)}
    slots = {}
    for value, place in places.items():
        base = bases.get(_final(place.storage, merged))
        if base is not None and base.segment != "constant":
            slots[value] = Slot(base.segment, base.index, base.offset + place.offset)
    scratch = offsets[len(in_arena) :]
    return MemoryPlan(
        arena_bytes=arena_bytes,
        slots=slots,
        shared=tuple(scratch[: len(calls)]),
        thread=tuple(scratch[len(calls) :]),
        thread_bytes=tuple(strides),
        waits=tuple(k + 1 == len(epochs) or epochs[k + 1] != e for k, e in enumerate(epochs)),
        live_bytes=_live_bytes(items),
    )


def _epochs(calls: Sequence[Group], places: Mapping[Value, Place]) -> list[int]:
    """Number the calls: a call joins the epoch of the one before unless it reads what is written in that epoch."""
    epochs: list[int] = []
    written: list[Place] = []
    epoch = 0
    for call in calls:
        reads = [places[v] for v in call.inputs]
        if any(r.overlaps(w) for r in reads for w in written):
            epoch, written = epoch + 1, []
        written += [places[v] for v in call.outputs]
        epochs.append(epoch)
    return epochs


def _spans(
    calls: Sequence[Group], places: Mapping[Value, Place], epochs: Sequence[int]
) -> dict[Value, tuple[int, int]]:
    """First and last epoch in which each storage is used."""
    spans: dict[Value, tuple[int, int]] = {}
    for call, epoch in zip(calls, epochs, strict=True):
        for v in (*call.inputs, *call.outputs):
            storage = places[v].storage
            spans[storage] = (spans.get(storage, (epoch, 0))[0], epoch)
    return spans


def _in_place(
    arrangement: Arrangement, needs: Sequence[Needs], epochs: Sequence[int], spans: Mapping[Value, tuple[int, int]]
) -> dict[Value, Value]:
    """Map each storage that an output may overwrite to the storage of that output."""
    merged: dict[Value, Value] = {}
    users: dict[tuple[int, Value], int] = {}
    for call, epoch in zip(arrangement.calls, epochs, strict=True):
        for storage in {arrangement.places[v].storage for v in (*call.inputs, *call.outputs)}:
            users[epoch, storage] = users.get((epoch, storage), 0) + 1
    for call, need, epoch in zip(arrangement.calls, needs, epochs, strict=True):
        taken: set[Value] = set()
        for i, o in need.in_place:
            source, result = arrangement.places[call.inputs[i]], arrangement.places[call.outputs[o]]
            readers = {k: arrangement.places[v] for k, v in enumerate(call.inputs)}
            readers = {k: place for k, place in readers.items() if place.storage is source.storage}
            if (
                _fills(source)
                and _fills(result)
                and source.size == result.size
                and source.storage not in arrangement.bound
                and spans[source.storage][1] == epoch  # nobody reads it later,
                and users[epoch, source.storage] == 1  # nor at the same time,
                and all(p == source and (k, o) in need.in_place for k, p in readers.items())  # nor this call otherwise
                and result.storage not in taken
                and source.storage not in merged
            ):
                merged[source.storage] = result.storage
                taken.add(result.storage)
    return merged


def _fills(place: Place) -> bool:
    return place.offset == 0 and place.size == value_bytes(place.storage)


def _final(storage: Value, merged: Mapping[Value, Value]) -> Value:
    while storage in merged:
        storage = merged[storage]
    return storage


# ---------------------------------------------------------------------------------------- allocation


@dataclass(frozen=True, slots=True)
class _Interval:
    """``size`` bytes in use from epoch ``first`` to epoch ``last``, both included."""

    size: int
    first: int
    last: int


def allocate(items: Sequence[_Interval]) -> tuple[list[int], int]:
    """Return an offset, a multiple of 64, for each item, and the size of the arena.

    Items that are in use at the same time do not overlap. Greedy: in several orders, largest first among them, each
    item takes the smallest gap that holds it (Pisarchyk and Lee, 2020); the best of the orders is kept.
    """
    numbers = range(len(items))
    orders = [
        sorted(numbers, key=lambda k: (-items[k].size, items[k].first)),
        sorted(numbers, key=lambda k: (items[k].first, -items[k].size)),
        sorted(numbers, key=lambda k: (-items[k].size * (items[k].last - items[k].first + 1), items[k].first)),
        sorted(numbers, key=lambda k: (items[k].first - items[k].last, -items[k].size)),
    ]
    return min((_best_fit(items, order) for order in orders), key=lambda found: found[1])


def _best_fit(items: Sequence[_Interval], order: Sequence[int]) -> tuple[list[int], int]:
    offsets = [0] * len(items)
    placed: list[tuple[int, int, _Interval]] = []  # begin, end, item
    for k in order:
        item = items[k]
        size = aligned(item.size)
        if not size:
            continue
        neighbours = sorted((b, e) for b, e, x in placed if x.first <= item.last and item.first <= x.last)
        offset, gap, end = None, 0, 0
        for begin, stop in neighbours:
            if size <= begin - end and (offset is None or begin - end < gap):
                offset, gap = end, begin - end
            end = max(end, stop)
        offsets[k] = end if offset is None else offset
        placed.append((offsets[k], offsets[k] + size, item))
    return offsets, max((end for _, end, _ in placed), default=0)


def _live_bytes(items: Sequence[_Interval]) -> int:
    change: dict[int, int] = {}
    for item in items:
        change[item.first] = change.get(item.first, 0) + aligned(item.size)
        change[item.last + 1] = change.get(item.last + 1, 0) - aligned(item.size)
    live = most = 0
    for epoch in sorted(change):
        live += change[epoch]
        most = max(most, live)
    return most
