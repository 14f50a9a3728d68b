"""The memory plan, checked by running random graphs on a model of memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.codegen.program import Slot
from luthier.errors import InternalError
from luthier.graph.ir import Group, Layout, Value
from luthier.graph.memory import Needs, arrange, plan_memory, value_bytes

THREADS = 2


def value(name: str, *shape: int, block: int = 0) -> Value:
    return Value(name, "float32", shape, Layout(block))


def kernel(inputs: list[Value], *outputs: Value) -> Group:
    return Group("kernel", [], inputs, list(outputs))


def view(source: Value, result: Value) -> Group:
    return Group("view", [], [source], [result])


def concat(parts: list[Value], result: Value, extends: bool = False) -> Group:
    offsets = np.cumsum([0] + [value_bytes(p) for p in parts[:-1]])
    return Group("view", [], parts, [result], tuple(int(o) for o in offsets), extends)


def part(source: Value, result: Value, start: int) -> Group:
    return Group("part", [], [source], [result], start=start)


def framed(sources: list[list[Value]], result: Value) -> list[Group]:
    """Kernels that write one row each of ``result``."""
    return [Group("kernel", [], reads, [result], begin=(row, 0)) for row, reads in enumerate(sources)]


# ---------------------------------------------------------------------------- a model of memory


@dataclass
class Graph:
    groups: list[Group]
    inputs: list[Value]
    outputs: list[Value]
    constants: list[Value] = field(default_factory=list)
    in_place: bool = True


class Machine:
    """Memory whose bytes are tokens: each byte of each computed value has a token of its own."""

    def __init__(self, graph: Graph, sizes: dict[str, int]) -> None:
        self.tokens = count(1)
        self.memory: dict[tuple[str, int], np.ndarray] = {}
        self.sizes = sizes
        self.expected: dict[Value, np.ndarray] = {}
        for group in graph.groups:
            for v in group.inputs:
                if v in (*graph.inputs, *graph.constants):
                    self.expected.setdefault(v, self.fresh(v))

    def fresh(self, v: Value) -> np.ndarray:
        return np.array([next(self.tokens) for _ in range(value_bytes(v) // 4)], dtype=np.int64)

    def region(self, slot: Slot, size: int) -> np.ndarray:
        key = (slot.segment, slot.index)
        room = self.sizes.get(slot.segment, 1 << 16)
        block = self.memory.setdefault(key, np.zeros(room // 4, np.int64))
        assert slot.offset % 64 == 0
        assert slot.offset + size <= room
        return block[slot.offset // 4 : (slot.offset + size) // 4]


def simulate(graph: Graph) -> None:
    """Run the plan of ``graph``, all calls of an epoch at once, and check that each reads what was written for it."""
    arrangement = arrange(graph.groups, graph.inputs, graph.outputs, graph.constants)
    needs = []
    for k, call in enumerate(arrangement.calls):
        pairs = tuple((i, o) for i in range(len(call.inputs)) for o in range(len(call.outputs)))
        may = graph.in_place and call.kind == "kernel" and call.begin is None
        needs.append(Needs(64 * (k % 3), 32 * (k % 4), pairs if may else ()))
    plan = plan_memory(arrangement, needs, THREADS)
    assert plan.live_bytes <= plan.arena_bytes
    machine = Machine(graph, {"arena": plan.arena_bytes})

    def constant(v: Value) -> bool:
        return v not in plan.slots

    def content(v: Value) -> np.ndarray:
        return machine.region(plan.slots[v], value_bytes(v))

    def made(call: Group, array: np.ndarray) -> np.ndarray:
        """The bytes of an output that the call makes: all, or those of its row."""
        return array if call.begin is None else array.reshape(call.outputs[0].shape)[call.begin[0]]

    for v in graph.inputs:
        if v in plan.slots:
            machine.expected.setdefault(v, machine.fresh(v))
            content(v)[:] = machine.expected[v]
    for v in graph.constants:
        machine.expected.setdefault(v, machine.fresh(v))
    truth = dict(machine.expected)

    def resolve(v: Value) -> np.ndarray:
        """What ``v`` must hold, by the meaning of the graph."""
        if v not in truth:
            for g in graph.groups:
                if g.kind == "view" and g.outputs[0] is v:
                    truth[v] = np.concatenate([resolve(p) for p in g.inputs])
                elif g.kind == "part" and g.outputs[0] is v:
                    truth[v] = resolve(g.inputs[0])[g.start // 4 :][: value_bytes(v) // 4]
        return truth[v]

    start = 0
    while start < len(plan.waits):
        stop = plan.waits.index(True, start) + 1
        epoch = range(start, stop)
        for k in epoch:  # all read before anything of this epoch is written
            for v in arrangement.calls[k].inputs:
                assert constant(v) or np.array_equal(content(v), resolve(v)), f"{v} was overwritten or never made"
        for k in epoch:
            call, need = arrangement.calls[k], needs[k]
            for v in call.outputs:
                fresh = resolve(call.inputs[0]).copy() if call.kind == "copy" else machine.fresh(v)
                made(call, truth.setdefault(v, fresh))[:] = made(call, fresh)
                made(call, content(v))[:] = made(call, truth[v])
            machine.region(Slot("arena", 0, plan.shared[k]), need.shared_bytes)[:] = -1
            stride = plan.thread_bytes[k]
            assert stride >= need.thread_bytes and stride % 64 == 0
            machine.region(Slot("arena", 0, plan.thread[k]), stride * THREADS)[:] = -1
        for k in epoch:  # what one call wrote has destroyed nothing that another reads or made
            call, need = arrangement.calls[k], needs[k]
            mine = [plan.slots[v] for v in call.outputs]
            for v in call.outputs:
                same = np.array_equal(made(call, content(v)), made(call, truth[v]))
                assert same, f"{v} was overwritten in its own epoch"
            for i, v in enumerate(call.inputs):
                if constant(v) or any(plan.slots[v] == s and (i, o) in need.in_place for o, s in enumerate(mine)):
                    continue
                assert np.array_equal(content(v), resolve(v)), f"{v} was overwritten while it is read"
        start = stop
    for index, v in enumerate(graph.outputs):
        output = machine.region(Slot("output", index), value_bytes(v))
        assert np.array_equal(output, resolve(v)), f"output {index} does not hold {v}"
    for v in graph.inputs:
        if v in plan.slots:
            assert np.array_equal(content(v), machine.expected[v]), f"input {v} was written"


def test_a_value_is_not_overwritten_while_a_part_of_it_is_read_at_another_place():
    x, copy, both, result = value("x", 16), value("copy", 16), value("both", 32), value("result", 32)
    groups = [concat([x], copy), concat([x, copy], both), kernel([both, copy], result)]
    simulate(Graph(groups, [x], [x]))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = count()

    def new(elements: int) -> Value:
        return value(f"v{next(names)}", elements)

    inputs = [new(16 * n) for n in draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))]
    constants = [new(16 * n) for n in draw(st.lists(st.integers(1, 3), max_size=2))]
    known = [*inputs, *constants]
    groups: list[Group] = []
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(["kernel", "kernel", "kernel", "view", "concat", "part", "frame"]))
        if kind == "kernel":
            sources = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
            same = draw(st.booleans())
            results = [new(prod(sources[0].shape) if same else 16 * draw(st.integers(1, 4)))]
            if draw(st.integers(0, 4)) == 0:
                results.append(new(16 * draw(st.integers(1, 4))))
            groups.append(kernel(sources, *results))
        elif kind == "view":
            source = draw(st.sampled_from(known))
            results = [new(prod(source.shape))]
            groups.append(view(source, results[0]))
        elif kind == "part":
            source = draw(st.sampled_from(known))
            first = draw(st.integers(0, prod(source.shape) // 16 - 1))
            results = [new(16 * draw(st.integers(1, prod(source.shape) // 16 - first)))]
            groups.append(part(source, results[0], 64 * first))
        elif kind == "frame":
            reads = draw(st.lists(st.lists(st.sampled_from(known), min_size=1, max_size=2), min_size=2, max_size=3))
            between = [new(16), new(16)]
            results = [value(f"v{next(names)}", len(reads), 16 * draw(st.integers(1, 2))), *between]
            rows = framed(reads, results[0])
            groups += [rows[0], kernel(reads[1], between[0]), *rows[1:], kernel([between[0]], between[1])]
        else:
            parts = draw(st.lists(st.sampled_from(known), min_size=1, max_size=4))
            results = [new(sum(prod(p.shape) for p in parts))]
            groups.append(concat(parts, results[0], draw(st.booleans())))
        known += results
    outputs = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
    return Graph(groups, inputs, outputs, constants, draw(st.booleans()))


@settings(max_examples=300, deadline=None)
@given(graphs())
def test_no_value_is_overwritten_while_it_is_needed(graph: Graph) -> None:
    simulate(graph)


# -------------------------------------------------------------------------------------- examples


def test_a_chain_in_place_needs_one_buffer() -> None:
    x, a, b, c = (value(n, 256) for n in "xabc")
    y = value("y", 1)
    groups = [kernel([x], a), kernel([a], b), kernel([b], c), kernel([c], y)]
    arrangement = arrange(groups, [x], [y], [])
    in_place = Needs(in_place=((0, 0),))
    assert plan_memory(arrangement, [in_place] * 4).arena_bytes == 1024
    assert plan_memory(arrangement, [Needs()] * 4).arena_bytes == 2048


def test_in_place_reaches_the_callers_output() -> None:
    x, a, y = (value(n, 256) for n in "xay")
    arrangement = arrange([kernel([x], a), kernel([a], y)], [x], [y], [])
    plan = plan_memory(arrangement, [Needs(), Needs(in_place=((0, 0),))])
    assert plan.arena_bytes == 0
    assert plan.slots[a] == plan.slots[y] == Slot("output", 0)


def test_inputs_are_not_written_in_place() -> None:
    x, y = value("x", 256), value("y", 256)
    arrangement = arrange([kernel([x], y)], [x], [y], [])
    plan = plan_memory(arrangement, [Needs(in_place=((0, 0),))])
    assert plan.slots[x] == Slot("input", 0)
    assert plan.slots[y] == Slot("output", 0)


def test_an_operand_that_is_read_twice_is_not_overwritten_unless_both_reads_allow_it() -> None:
    x, a, b, y = (value(n, 256) for n in "xaby")
    arrangement = arrange([kernel([x], a), kernel([a, a], b), kernel([b], y)], [x], [y], [])
    one = [Needs(), Needs(in_place=((0, 0),)), Needs()]
    both = [Needs(), Needs(in_place=((0, 0), (1, 0))), Needs()]
    assert plan_memory(arrangement, one).slots[a] != plan_memory(arrangement, one).slots[b]
    assert plan_memory(arrangement, both).slots[a] == plan_memory(arrangement, both).slots[b]


def test_nested_concatenations_need_no_copy() -> None:
    x, a, b, c = (value(n, 1, 16, 2, 2, block=16) for n in "xabc")
    ab, abc = value("ab", 1, 32, 2, 2, block=16), value("abc", 1, 48, 2, 2, block=16)
    y = value("y", 1)
    groups = [kernel([x], a), kernel([x], b), concat([a, b], ab), kernel([ab], c), concat([ab, c], abc)]
    arrangement = arrange([*groups, kernel([abc], y)], [x], [y], [])
    assert [g.kind for g in arrangement.calls] == ["kernel"] * 4
    plan = plan_memory(arrangement, [Needs()] * 4)
    assert plan.arena_bytes == value_bytes(abc)
    assert [plan.slots[v].offset - plan.slots[abc].offset for v in (a, b, c)] == [0, 256, 512]


def test_a_value_in_two_concatenations_is_copied_once() -> None:
    x, a, b = (value(n, 16) for n in "xab")
    ab, ba = value("ab", 32), value("ba", 32)
    arrangement = arrange([kernel([x], a), kernel([x], b), concat([a, b], ab), concat([b, a], ba)], [x], [ab, ba], [])
    assert [g.kind for g in arrangement.calls] == ["kernel", "kernel", "copy", "copy"]


def test_the_end_of_a_value_becomes_the_first_part_of_a_concatenation_without_a_copy() -> None:
    x, whole, b, y = value("x", 16), value("whole", 1, 48, block=16), value("b", 1, 32, block=16), value("y", 1)
    first, end, both = value("first", 1, 32, block=16), value("end", 1, 16, block=16), value("both", 1, 48, block=16)
    groups = [kernel([x], whole), part(whole, first, 0), part(whole, end, 128), kernel([first], b)]
    groups += [concat([end, b], both, extends=True), kernel([both], y)]
    arrangement = arrange(groups, [x], [y], [])
    assert [g.kind for g in arrangement.calls] == ["kernel"] * 3
    plan = plan_memory(arrangement, [Needs()] * 3)
    assert plan.arena_bytes == 128 + value_bytes(both)
    offsets = [plan.slots[v].offset - plan.slots[whole].offset for v in (first, end, both, b)]
    assert offsets == [0, 128, 128, 192]
    simulate(Graph(groups, [x], [y]))


@pytest.mark.parametrize("last", [False, True])
def test_a_part_that_cannot_be_extended_is_copied(last: bool) -> None:
    """Because it is not the end of its value, or because that is an input."""
    x, whole, y = value("x", 32), value("whole", 32), value("y", 1)
    end, both = value("end", 16), value("both", 32)
    source = x if last else whole
    groups = [kernel([x], whole), part(source, end, 64 if last else 0), concat([end, end], both, extends=True)]
    groups.append(kernel([both, whole], y))
    arrangement = arrange(groups, [x], [y], [])
    assert [g.kind for g in arrangement.calls] == ["kernel", "copy", "copy", "kernel"]
    simulate(Graph(groups, [x], [y]))


def test_kernels_that_write_into_one_frame_share_its_memory_from_the_first_on() -> None:
    x, a, joint, y = value("x", 16), value("a", 16), value("joint", 2, 16), value("y", 1)
    rows = framed([[x], [a]], joint)
    groups = [rows[0], kernel([x], a), rows[1], kernel([joint], y)]
    plan = plan_memory(arrange(groups, [x], [y], []), [Needs()] * 4)
    assert plan.arena_bytes == value_bytes(joint) + value_bytes(a)
    assert plan.waits == (False, True, True, True)
    simulate(Graph(groups, [x], [y]))


@pytest.mark.parametrize("start", [32, 64, -64])
def test_a_slice_that_is_no_part_is_refused(start: int) -> None:
    x, a, y = value("x", 16), value("a", 32), value("y", 32)
    with pytest.raises(InternalError, match="make this slice a kernel"):
        arrange([kernel([x], a), part(a, y, start)], [x], [y], [])


@pytest.mark.parametrize("source", ["input", "constant", "output"])
def test_an_output_that_is_something_else_is_copied(source: str) -> None:
    x, c, y, seen = (value(n, 16) for n in ("x", "c", "y", "seen"))
    root = {"input": x, "constant": c, "output": y}[source]
    graph = Graph([kernel([x, c], y), view(root, seen)], [x], [y, seen], [c])
    arrangement = arrange(graph.groups, graph.inputs, graph.outputs, graph.constants)
    assert [g.kind for g in arrangement.calls] == ["kernel", "copy"]
    assert arrangement.calls[1].inputs == [seen]
    simulate(graph)


def test_independent_calls_do_not_wait() -> None:
    x, a, b, y = (value(n, 16) for n in "xaby")
    arrangement = arrange([kernel([x], a), kernel([x], b), kernel([a, b], y)], [x], [y], [])
    plan = plan_memory(arrangement, [Needs(shared_bytes=64)] * 3)
    assert plan.waits == (False, True, True)
    assert plan.shared[0] != plan.shared[1]


def test_a_part_that_is_not_aligned_is_refused() -> None:
    x, a, b, y = value("x", 3), value("a", 3), value("b", 3), value("y", 6)
    with pytest.raises(InternalError, match="aligned to 64"):
        arrange([kernel([x], a), kernel([x], b), concat([a, b], y)], [x], [y], [])


def test_a_view_of_another_size_is_refused() -> None:
    x, a, b = value("x", 16), value("a", 16), value("b", 32)
    with pytest.raises(InternalError, match="sizes differ"):
        arrange([kernel([x], a), view(a, b)], [x], [b], [])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 8), st.integers(0, 4)), max_size=30))
def test_allocation_is_disjoint_and_near_the_lower_bound(rows: list[tuple[int, int, int]]) -> None:
    x = value("x", 16)
    ends: dict[int, list[Value]] = {}
    groups, needs, makers = [], [], 9
    made = {k: [] for k in range(makers)}
    for size, first, length in rows:
        v = value("v", size)
        made[first].append(v)
        ends.setdefault(min(first + length, makers) + 1, []).append(v)
    token = x
    for k in range(makers + 2):
        following = value(f"t{k}", 16)
        groups.append(kernel([token, *ends.get(k, [])], following, *made.get(k, [])))
        needs.append(Needs())
        token = following
    arrangement = arrange(groups, [x], [token], [])
    plan = plan_memory(arrangement, needs)
    assert plan.arena_bytes <= 2 * plan.live_bytes
