"""Layout assignment: which values lie in channel blocks, and where they are converted.

Values that an operator wants in one layout (an elementwise operator's operands and result, a pool's input and output,
the parts of a concatenation) form a region. Convolutions separate regions: their input and output may differ. Every
region takes the cheapest of three kinds; the cost is the number of bytes that conversions at its border would move:

    plain     as ONNX has it; graph inputs and outputs, and all operators that know nothing of layouts
    blocked   NCHWc with c = ``block``, the vector's lanes; the last block's lanes past C hold nothing
    whole     NCHWc with c = C (NHWC); for grouped convolutions whose groups could not be made to fill blocks

A convolution reads plain input directly where it has fewer channels than a block (the first layer). Before anything
else, :func:`.passes.groups.fit_groups` merges the groups of grouped convolutions until they fill blocks, where it can.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..errors import Error
from ..te import dtype as dt
from .ir import PLAIN, Graph, Layout, Node, Value
from .kinds import ELEMENTWISE, GLOBAL_POOLS, PER_CHANNEL, POOLS, is_depthwise, same_memory
from .passes.clean import eliminate_dead
from .passes.groups import fit_groups

Kind = Literal["plain", "blocked", "whole"]
_KINDS: tuple[Kind, ...] = ("plain", "blocked", "whole")
_CONVOLUTION_FIRST = 1.1
"""A conversion at a convolution costs more than one elsewhere: it keeps the nodes between them from fusing with it."""
_PREFER_BLOCKED = 0.1
"""Cost, as a part of a value's bytes, of a whole region where a blocked one is possible: vectors straddle pixels."""


def assign_layouts(graph: Graph, block: int) -> Graph:
    """Return the graph with layouts on its values and ``LayoutConvert`` nodes where they change.

    block  channels in a block: the vector's lanes (16 or 8 floats); at least 1

    Graph inputs, outputs and constants stay plain. A flattening of a blocked image before constant weights becomes
    ``PhysicalFlatten``, and the weights' rows are permuted instead.
    """
    if block < 1:
        raise Error(f"assign_layouts(block={block}): must be at least 1; use the target's number of lanes")
    return eliminate_dead(_Assigner(fit_groups(graph, block), block).run())


@dataclass(slots=True)
class _Region:
    """cost: bytes moved by conversions, for each kind."""

    cost: dict[Kind, float] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0.0))

    @property
    def kind(self) -> Kind:
        return min(_KINDS, key=lambda k: self.cost[k])


class _Assigner:
    def __init__(self, graph: Graph, block: int) -> None:
        self.graph = graph
        self.block = block
        self.consumers = graph.consumers()
        self.parents: dict[Value, Value] = {}
        self.regions: dict[Value, _Region] = defaultdict(_Region)
        self.nodes: list[Node] = []
        self.made: dict[Value, Value] = {}  # value -> the one that its producer makes, in the producer's layout
        self.converted: dict[tuple[Value, Layout], Value] = {}
        self.permuted: dict[tuple[Value, int, int, bool], Value] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self._tie(node)
        for node in self.graph.nodes:
            self._charge(node)
        for value in (*self.graph.inputs, *self.graph.outputs):
            self._charge_plain(value)
        for node in self.graph.nodes:
            self._emit(node)
        outputs = [self._read(v, PLAIN) for v in self.graph.outputs]
        return Graph(self.graph.inputs, outputs, self.nodes, self.graph.constants, self.graph.name)

    # ----------------------------------------------------------------------------------------- regions

    def _root(self, value: Value) -> Value:
        while (parent := self.parents.get(value, value)) is not value:
            self.parents[value] = self.parents.get(parent, parent)
            value = parent
        return value

    def _region(self, value: Value) -> _Region:
        return self.regions[self._root(value)]

    def _tie(self, node: Node) -> None:
        values = self._tied(node)
        for value in values[1:]:
            self.parents[self._root(value)] = self._root(values[0])

    def _tied(self, node: Node) -> list[Value]:
        """The values, output first, that ``node`` wants in one layout; none for operators that want plain ones."""
        y = node.outputs[0]
        x = node.inputs[0] if node.inputs else None
        if len(y.shape) < 3 or x is None:
            return []
        match node.op:
            case op if op in PER_CHANNEL or op in POOLS or op in GLOBAL_POOLS or op in ("LRN", "ChannelShuffle"):
                return [y, x]
            case op if op in ELEMENTWISE:
                computed = [v for v in node.inputs if v is not None and v not in self.graph.constants]
                return [y, *(v for v in computed if len(v.shape) == len(y.shape) and v.shape[1] == y.shape[1])]
            case "Conv" if is_depthwise(node):
                return [y, x]
            case "Concat":
                parts = [v for v in node.inputs if v is not None]
                return [] if any(v in self.graph.constants for v in parts) else [y, *parts]
            case "Slice" | "Resize" if x.shape[:2] == y.shape[:2]:
                return [y, x]
            case "Pad" if x.shape[:2] == y.shape[:2] and node.attrs["mode"] == "constant":
                return [y, x]
            case "Slice" if node.attrs["axes"] == (1,) and node.attrs["steps"] == (1,):
                return [y, x]
            case _:
                return []

    def _charge(self, node: Node) -> None:
        """Add to the regions around ``node`` what each kind would cost at this node."""
        x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op == "Conv" and x is not None:
            for value in (x, y):
                cost = self._region(value).cost
                for kind in _KINDS:
                    if not self._conv_takes(node, value, self._layout(value, kind)):
                        cost[kind] += _CONVOLUTION_FIRST * _size_bytes(value)
                if self._conv_takes(node, value, Layout(self.block)):
                    cost["whole"] += _PREFER_BLOCKED * _size_bytes(value)
            return
        if self._tied(node) or node.op == "ConvTranspose":  # the latter reads and writes any layout
            return
        absorbed = x if self._absorbs_flatten(node) else None
        for touched in dict.fromkeys((*node.inputs, *node.outputs)):
            if touched is not None and touched is not absorbed and touched not in self.graph.constants:
                self._charge_plain(touched)

    def _charge_plain(self, value: Value) -> None:
        """``value`` is wanted plain."""
        if len(value.shape) < 3:
            return
        region = self._region(value)
        for kind in _KINDS:
            if not same_memory(value.shape, self._layout(value, kind), PLAIN):
                region.cost[kind] += _size_bytes(value)

    def _layout(self, value: Value, kind: Kind) -> Layout:
        if kind == "plain" or len(value.shape) < 3:
            return PLAIN
        return Layout(self.block if kind == "blocked" else value.shape[1])

    def _chosen(self, value: Value) -> Layout:
        return self._layout(value, self._region(value).kind)

    def _conv_takes(self, node: Node, value: Value, layout: Layout) -> bool:
        """Whether the convolution reads (or writes) ``value`` in ``layout`` as it is."""
        x, y = node.inputs[0], node.outputs[0]
        assert x is not None
        group = node.attrs["group"]
        if not layout.block:
            return value is x and group == 1 and value.shape[1] < self.block
        if group == 1:
            return value is x or layout.block in (self.block, value.shape[1])
        if layout.block == value.shape[1] or is_depthwise(node):
            return True
        return all(v.shape[1] // group % layout.block == 0 for v in (x, y))

    # ---------------------------------------------------------------------------------------- emission

    def _emit(self, node: Node) -> None:
        if self._absorbs_flatten(node):
            source = node.inputs[0]
            assert source is not None
            layout = self._chosen(source)
            if layout.block and not same_memory(source.shape, layout, PLAIN):
                node.op, node.attrs = "PhysicalFlatten", {"block": layout.block}
                node.inputs = [self._read(source, layout)]
                self._permute_readers(node.outputs[0], source, layout.block)
                self.nodes.append(node)
                return
        tied = {*self._tied(node)}
        if node.op == "ConvTranspose" and (x := node.inputs[0]) is not None:
            tied = {x, node.outputs[0]}
        if node.op == "Conv" and (x := node.inputs[0]) is not None:
            reads, writes = self._conv_layout(node, x), self._conv_layout(node, node.outputs[0])
            rest = node.inputs[1:]
            node.inputs = [self._read(x, reads), *(None if v is None else self._read(v, PLAIN) for v in rest)]
            self._write(node, writes)
            return
        node.inputs = [
            None if v is None else self._read(v, self._chosen(v) if v in tied else PLAIN) for v in node.inputs
        ]
        self._write(node, self._chosen(node.outputs[0]) if tied else PLAIN)

    def _conv_layout(self, node: Node, value: Value) -> Layout:
        """The layout in which the convolution reads or writes ``value``: the region's if it takes it."""
        wanted = [self._chosen(value), self._layout(value, "blocked"), self._layout(value, "whole")]
        return next(layout for layout in wanted if self._conv_takes(node, value, layout))

    def _write(self, node: Node, layout: Layout) -> None:
        """Append ``node``, its outputs in ``layout``."""
        if layout.block:
            outputs = [Value(f"{v.name}_{layout}", v.dtype, v.shape, layout) for v in node.outputs]
            self.made.update(zip(node.outputs, outputs, strict=True))
            node.outputs = outputs
        self.nodes.append(node)

    def _read(self, value: Value, layout: Layout) -> Value:
        """``value`` in ``layout``, converted (once) if it is made in another."""
        made = self.made.get(value, value)
        if made.layout == layout:
            return made
        key = (value, layout)
        if key not in self.converted:
            if layout == PLAIN:  # the plain value keeps its identity and name
                result = value
            else:
                result = Value(f"{value.name}_{layout}", value.dtype, value.shape, layout)
            self.converted[key] = result
            self.nodes.append(Node("LayoutConvert", [made], [result], {}, (f"{value.name}_to_{layout}",)))
        return self.converted[key]

    # ----------------------------------------------------------------------------------------- flatten

    def _absorbs_flatten(self, node: Node) -> bool:
        """Whether ``node`` flattens an image for constant weights only: their rows can be permuted instead."""
        x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op not in ("Reshape", "Flatten") or x is None or x in self.graph.constants or y in self.graph.outputs:
            return False
        if len(x.shape) < 3 or x.shape[1] % self.block or y.shape != (x.shape[0], math.prod(x.shape[1:])):
            return False
        readers = self.consumers.get(y, [])
        return bool(readers) and all(self._permutable(reader, y) for reader in readers)

    def _permutable(self, reader: Node, value: Value) -> bool:
        if reader.op not in ("Gemm", "MatMul") or reader.inputs[0] is not value or reader.attrs.get("transA"):
            return False
        w = reader.inputs[1]
        return w in self.graph.constants and w is not None and len(w.shape) == 2 and value not in reader.inputs[1:]

    def _permute_readers(self, flat: Value, image: Value, block: int) -> None:
        for reader in self.consumers[flat]:
            w = reader.inputs[1]
            assert w is not None
            transposed = bool(reader.attrs.get("transB"))
            key = (w, image.shape[1], block, transposed)
            if key not in self.permuted:
                array = _permute_rows(self.graph.constants[w], image.shape[1], block, transposed)
                self.permuted[key] = Value(f"{w.name}_rows_{block}c{image.shape[1]}", w.dtype, w.shape)
                self.graph.constants[self.permuted[key]] = array
            reader.inputs[1] = self.permuted[key]


def _permute_rows(weights: np.ndarray[Any, Any], channels: int, block: int, transposed: bool) -> np.ndarray[Any, Any]:
    """Reorder the K rows (columns where ``transposed``) of ``weights`` from C, pixels to C / block, pixels, block."""
    k = weights.shape[1] if transposed else weights.shape[0]
    order = np.arange(k).reshape(channels // block, block, k // channels).transpose(0, 2, 1).reshape(-1)
    if not transposed:
        return weights[order]
    result = np.empty_like(weights)
    for row, permuted in zip(weights, result, strict=True):  # several times faster than indexing the whole
        np.take(row, order, out=permuted, mode="clip")
    return result


def _size_bytes(value: Value) -> int:
    return math.prod(value.shape) * dt.size_bytes(value.dtype)
