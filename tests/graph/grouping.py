"""Groups of a graph for tests: made, checked, and evaluated as the memory plan lays them out."""

from __future__ import annotations

import math

import numpy as np
from onnx_graphs import node

from luthier.graph.fusion import partition
from luthier.graph.layouts import assign_layouts
from luthier.graph.lowering import lower_group
from luthier.graph.lowering.context import to_logical, to_physical
from luthier.graph.passes import run_passes
from luthier.te.evaluate import evaluate


def groups_of(graph, block=4, **options):
    laid = assign_layouts(run_passes(graph), block)
    groups = partition(laid, **options)
    check(laid, groups)
    return groups


def kinds(groups):
    return [f"{g.kind} {' '.join(n.op for n in g.nodes)}" for g in groups]


def size_bytes(value):
    return math.prod(value.physical_shape) * np.dtype(value.dtype).itemsize


def check(graph, groups):
    """Every node is in one group; groups read only what is there; views are the size of their memory."""
    assert sorted(id(n) for g in groups for n in g.nodes) == sorted(map(id, graph.nodes))
    there = {*graph.inputs, *graph.constants}
    for g in groups:
        assert set(g.inputs) <= there, g
        inner = set()
        if g.kind == "framed":
            assert g.nodes[0].outputs[0] in there, g
            continue
        for n in g.nodes:
            assert {v for v in n.inputs if v is not None} <= there | inner, g
            inner.update(n.outputs)
        there.update(g.outputs)
        if g.kind == "view":
            (y,) = g.outputs
            assert sum(map(size_bytes, g.inputs)) == size_bytes(y), g
            assert all(offset % 64 == 0 for offset in g.offsets)
        if g.kind == "part":
            assert g.start % 64 == 0, g
            assert 0 <= g.start <= size_bytes(g.inputs[0]) - size_bytes(g.outputs[0]), g
    assert set(graph.outputs) <= there


def run_groups(graph, groups, feeds):
    """Evaluate the kernels' workloads; make views of memory as the memory plan does."""
    memory = {v: to_physical(feeds[v.name], v.layout.block) for v in graph.inputs}
    memory.update(graph.constants)
    for g in groups:
        if g.kind == "view":
            (y,) = g.outputs
            if g.offsets:
                data = np.zeros(size_bytes(y), np.uint8)
                for v, offset in zip(g.inputs, g.offsets, strict=True):
                    part = np.ascontiguousarray(memory[v]).reshape(-1).view(np.uint8)
                    data[offset : offset + part.size] = part
                memory[y] = data.view(y.dtype).reshape(y.physical_shape)
            else:
                memory[y] = np.ascontiguousarray(memory[g.inputs[0]]).reshape(y.physical_shape)
            continue
        if g.kind == "part":
            (y,) = g.outputs
            data = np.ascontiguousarray(memory[g.inputs[0]]).reshape(-1).view(np.uint8)[g.start :][: size_bytes(y)]
            memory[y] = data.view(y.dtype).reshape(y.physical_shape)
        if g.kind != "kernel":
            continue
        lowered = lower_group(g, graph)
        arrays = [lowered.constants.get(i, memory.get(v)) for i, v in enumerate(lowered.inputs)]
        made = evaluate(lowered.workload, arrays)
        for value, tensor, array in zip(lowered.outputs, lowered.workload.outputs, made, strict=True):
            frame = lowered.workload.frames.get(tensor)
            if frame is None:
                memory[value] = array
            else:
                assert frame.shape == value.physical_shape
                joint = memory.setdefault(value, np.full(frame.shape, np.nan, value.dtype))
                joint[tuple(slice(b, b + n) for b, n in zip(frame.begin, array.shape, strict=True))] = array
    return [to_logical(memory[v], v.shape, v.layout.block) for v in graph.outputs]


def conv(x, w, y, **attrs):
    return node("Conv", f"{x} {w}", y, **attrs)
