"""Fusion: which nodes become one kernel, and which become no code at all.

Comes in: a graph with layouts. Goes out: groups in an order in which every input is made before it is read. The rules:

* **Epilogue**: an elementwise node joins the kernel that makes one of its operands, if nobody else reads that operand
  and it has the shape and layout of the result. Other operands (a residual, a bias) are inputs of the kernel; the
  kernel moves down to the place where they exist.
* **Prologue**: an elementwise kernel whose only reader is a global pool joins it, or whose only reader is an ungrouped
  1x1 convolution from channel blocks to channel blocks of the same size. Its schedule computes the prologue once for
  each block of pixels, while the block is in the cache, which saves a pass over memory. With larger windows that pass
  is little beside the convolution: measured, 3x3 gained or lost up to 5 %, so that they are left apart
  (``conv_prologues``).
* **Channel shuffles** join the convolution after them: it reads another channel, at no cost.
* **Layout changes** join elementwise kernels, pools and other movers of data, at either end, but not convolutions.
* **Views**: reshapes, layout changes that leave memory as it is, and concatenations along the outermost dimension
  that is not 1. Parts of such a concatenation are made in place; a concatenation of which most must be copied
  (inputs, constants, parts of another one) is a kernel.
* **Parts**: a slice along that dimension is memory of its input. The end of a larger value can still be the first part
  of one concatenation, whose memory then begins inside of that value's and reaches further.
* **Frames**: where the parts of another concatenation lie in rows (channels of NHWC, images of a batch), kernels write
  their part into the joint value, if each part is made by a kernel for nothing else.

:mod:`.memory` gives the views their addresses, :mod:`.lowering` makes a workload of each kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..te import dtype as dt
from .ir import Graph, Group, Node, Value
from .kinds import ELEMENTWISE, GLOBAL_POOLS, POOLS, data_inputs, is_view

ALIGNMENT = 64
"""Bytes to which the parts of a concatenation in memory must be aligned."""

_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_MOVERS = frozenset({"ChannelShuffle", "Concat", "Expand", "Gather", "Pad", "Resize", "Slice", "Tile", "Transpose"})
_CONVERTIBLE = ELEMENTWISE | POOLS | GLOBAL_POOLS | _MOVERS
_PROLOGUE_NODES = 4


Prologues: TypeAlias = Literal["none", "1x1", "all"]


def partition(graph: Graph, *, conv_prologues: Prologues = "1x1") -> list[Group]:
    """Divide the nodes of ``graph`` into groups, in execution order.

    conv_prologues  which ungrouped convolutions over channel blocks an elementwise kernel before them joins
    """
    return _Partitioner(graph, conv_prologues).run()


@dataclass(eq=False, slots=True)
class _Part:
    """A group under construction. nodes in order; output: what the last one makes; the rest: see :class:`.ir.Group`."""

    kind: str
    nodes: list[Node]
    offsets: tuple[int, ...] = ()
    extends: bool = False
    start: int = 0
    frame: Value | None = None
    begin: tuple[int, ...] | None = None

    @property
    def output(self) -> Value:
        return self.nodes[-1].outputs[0]

    @property
    def single(self) -> bool:
        return len(self.nodes[-1].outputs) == 1

    @property
    def elementwise(self) -> bool:
        return self.kind == "kernel" and all(n.op in ELEMENTWISE for n in self.nodes)

    @property
    def heavy(self) -> bool:
        return any(n.op in _HEAVY for n in self.nodes)

    @property
    def convertible(self) -> bool:
        return all(n.op in _CONVERTIBLE for n in self.nodes)


class _Partitioner:
    def __init__(self, graph: Graph, conv_prologues: Prologues) -> None:
        self.graph = graph
        self.conv_prologues = conv_prologues
        self.order = {id(n): i for i, n in enumerate(graph.nodes)}
        self.consumers = graph.consumers()
        self.outputs = set(graph.outputs)
        self.fixed = {*graph.inputs, *graph.constants}
        self.parts: dict[_Part, None] = {}  # in execution order
        self.makers: dict[Value, _Part] = {}
        self.roots: dict[Value, Value] = {}  # value -> the value whose memory it is a view of
        for node in graph.nodes:
            if is_view(node) and node.inputs[0] is not None:
                self.roots[node.outputs[0]] = self._root(node.inputs[0])
        # memory that is bound to a graph output or a concatenation
        self.placed = {self._root(v) for v in graph.outputs}
        self.inside: dict[Value, Value] = {}  # parts, and concatenations that extend: the value that they begin in
        self.ends: set[Value] = set()  # those of them that are the end of that value

    def run(self) -> list[Group]:
        for node in self.graph.nodes:
            self._place(node)
        return [_group(p, self.consumers, self.outputs) for p in self.parts]

    def _place(self, node: Node) -> None:
        if is_view(node):
            self._append(_Part("view", [node]))
        elif node.op == "Slice" and (start := self._start(node)) is not None:
            self._append(_Part("part", [node], start=start))
        elif node.op == "Concat" and (join := self._joining(node)) is not None:
            self._append(join)
        elif node.op == "Concat" and (begins := self._begins(node)) is not None:
            self._append(self._framed(node, begins))
        elif node.op in ELEMENTWISE or node.op == "LayoutConvert":
            self._append(self._joined(node))
        else:
            self._append(self._with_prologue(node))

    def _append(self, part: _Part) -> None:
        """Put ``part`` at the end: all that it reads exists there, and only its last node's readers need it."""
        self.parts.pop(part, None)
        self.parts[part] = None
        for value in part.nodes[-1].outputs:
            self.makers[value] = part

    def _root(self, value: Value) -> Value:
        return self.roots.get(value, value)

    def _sole_maker(self, value: Value) -> _Part | None:
        """The kernel that makes ``value``, if one node reads that and it is no graph output."""
        part = self.makers.get(value)
        if part is None or part.kind != "kernel" or not part.single or value in self.outputs:
            return None
        readers = self.consumers.get(value, [])
        return part if len({id(n) for n in readers}) == 1 else None

    # -------------------------------------------------------------------------------- epilogue, prologue

    def _joined(self, node: Node) -> _Part:
        """Add the elementwise ``node`` to a kernel that makes one of its operands, or start a new one."""
        hosts = [p for v in dict.fromkeys(data_inputs(node)) if (p := self._host(node, v)) is not None]
        if not hosts:
            return _Part("kernel", [node])
        place = {part: i for i, part in enumerate(self.parts)}
        host = max(hosts, key=lambda p: (p.heavy, place[p]))
        for other in hosts:
            if other is not host and other.elementwise:
                host.nodes = self._merged(other.nodes, host.nodes)
                del self.parts[other]
        host.nodes = [*host.nodes, node]
        return host

    def _host(self, node: Node, operand: Value) -> _Part | None:
        """The kernel that makes ``operand`` and that ``node`` may join as its last node."""
        part, y = self._sole_maker(operand), node.outputs[0]
        if part is None or operand.shape != y.shape:
            return None
        if node.op == "LayoutConvert":
            return part if part.convertible else None
        return part if operand.layout == y.layout else None

    def _with_prologue(self, node: Node) -> _Part:
        """A kernel with the anchor ``node``, and the elementwise kernel before it where that may join."""
        x = node.inputs[0] if node.inputs else None
        part = self._sole_maker(x) if x is not None else None
        takes = node.op in GLOBAL_POOLS or self._takes_prologue(node)
        if takes and part is not None and part.elementwise and len(part.nodes) <= _PROLOGUE_NODES:
            del self.parts[part]
            return _Part("kernel", [*part.nodes, node])
        if node.op == "Conv" and part is not None and [n.op for n in part.nodes] == ["ChannelShuffle"]:
            del self.parts[part]
            return _Part("kernel", [*part.nodes, node])
        return _Part("kernel", [node])

    def _takes_prologue(self, node: Node) -> bool:
        """Whether a prologue may join ``node``, a convolution that is to compute it for a block of pixels at a time."""
        if node.op != "Conv" or node.attrs["group"] != 1 or node.inputs[0] in node.inputs[1:]:
            return False
        x, weights, y = node.inputs[0], node.inputs[1], node.outputs[0]
        if x is None or weights is None or len(x.shape) != 4 or not x.layout.block or x.layout != y.layout:
            return False
        pointwise = all(taps == 1 for taps in weights.shape[2:])
        return self.conv_prologues == "all" or (self.conv_prologues == "1x1" and pointwise)

    def _merged(self, *lists: Iterable[Node]) -> list[Node]:
        return sorted((n for nodes in lists for n in nodes), key=lambda n: self.order[id(n)])

    # ------------------------------------------------------------------------------------ concatenation

    def _start(self, node: Node) -> int | None:
        """The byte at which the slice begins in its input's memory, if it is a part of that; None if it is none."""
        x, y, axes = node.inputs[0], node.outputs[0], node.attrs["axes"]
        if x is None or self._root(x) in self.graph.constants or self._root(y) in self.placed:
            return None
        if len(axes) != 1 or node.attrs["steps"] != (1,) or x.layout != y.layout:
            return None
        (axis,), (begin,) = axes, node.attrs["starts"]
        if not _contiguous(x, axis) or not math.prod(y.shape):
            return None
        if axis == 1 and x.layout.block:
            if begin % x.layout.block:
                return None
            begin //= x.layout.block
        start = int(begin) * math.prod(x.physical_shape[axis + 1 :]) * dt.size_bytes(x.dtype)
        if start % ALIGNMENT:
            return None
        self.inside[y] = self._root(x)
        if start + _size_bytes(y) == _size_bytes(x) and self._root(x) not in self.inside:
            self.ends.add(y)
        return start

    def _joining(self, node: Node) -> _Part | None:
        """The view that a concatenation is, if its parts can be made in place; None if it must be a kernel."""
        y = node.outputs[0]
        parts = [v for v in node.inputs if v is not None]
        if not _contiguous(y, node.attrs["axis"]) or any(v.layout != y.layout or v.dtype != y.dtype for v in parts):
            return None
        offsets, end = [], 0
        for i, part in enumerate(parts):
            if end % ALIGNMENT or (i < len(parts) - 1 and not _whole_blocks(part, node.attrs["axis"])):
                return None
            offsets.append(end)
            end += _size_bytes(part)
        extended = self._extended(parts[0], y)
        free = [] if extended is None else [parts[0]]
        for part in parts:
            root = self._root(part)
            taken = root in self.fixed or root in self.placed or root in self.inside
            if not taken and root not in free:
                free.append(root)
        if 2 * sum(map(_size_bytes, free)) < end:
            return None
        self.placed.update(free)
        if extended is not None:
            self.placed.add(extended)
            self.inside[y] = extended
        return _Part("view", [node], tuple(offsets), extended is not None)

    def _extended(self, part: Value, result: Value) -> Value | None:
        """The value of which ``part`` is the end and that ``result`` may extend."""
        part = self._root(part)
        whole = self.inside.get(part) if part in self.ends else None
        if whole is None or whole in self.fixed or whole in self.placed or self._root(result) in self.placed:
            return None
        return whole

    # --------------------------------------------------------------------------------------------- frames

    def _begins(self, node: Node) -> list[tuple[int, ...]] | None:
        """The physical index of each part in the result, if all are made by kernels that can write it there."""
        y, axis = node.outputs[0], node.attrs["axis"]
        parts = [v for v in node.inputs if v is not None]
        if len(set(parts)) < len(parts) or any(self._sole_maker(v) is None or v.dtype != y.dtype for v in parts):
            return None
        whole = axis == 1 and y.layout.block == y.shape[1]
        if whole and any(v.layout.block != v.shape[1] for v in parts):
            return None
        if not whole and any(v.layout != y.layout or not _whole_blocks(v, axis) for v in parts[:-1]):
            return None
        if not whole and parts[-1].layout != y.layout:
            return None
        rank = len(y.physical_shape)
        dimension = rank - 1 if whole else axis
        begins, end = [], 0
        for part in parts:
            begins.append((*(0,) * dimension, end, *(0,) * (rank - 1 - dimension)))
            end += part.physical_shape[dimension]
        return begins

    def _framed(self, node: Node, begins: list[tuple[int, ...]]) -> _Part:
        """Let the makers of the parts write into the concatenation ``node``; the group that stands for it."""
        parts = [v for v in node.inputs if v is not None]
        for part, begin in zip(parts, begins, strict=True):
            maker = self.makers[part]
            maker.frame, maker.begin = node.outputs[0], begin
        return _Part("framed", [node])


def _group(part: _Part, consumers: dict[Value, list[Node]], outputs: set[Value]) -> Group:
    """The finished group: what it reads, in order of first use, and what others read of it."""
    if part.kind == "framed":
        return Group(part.kind, part.nodes, [], [])
    inner = {v for n in part.nodes for v in n.outputs}
    inputs = dict.fromkeys(v for n in part.nodes for v in n.inputs if v is not None and v not in inner)
    if part.offsets:  # one offset for each part, also where one value is two parts
        reads = [v for v in part.nodes[0].inputs if v is not None]
    else:
        reads = list(inputs)
    last = part.nodes[-1].outputs
    made = list(last) if len(last) == 1 else [v for v in last if v in consumers or v in outputs]
    if part.frame is not None:
        made = [part.frame]
    return Group(part.kind, part.nodes, reads, made, part.offsets, part.extends, part.start, part.begin)


def _contiguous(value: Value, axis: int) -> bool:
    """Whether parts along the logical ``axis`` follow one another in the memory of ``value``."""
    if not value.layout.block:
        return math.prod(value.shape[:axis]) == 1
    if value.layout.block >= value.shape[1] and axis == 1:  # one block: channels lie innermost
        return math.prod(value.shape[:1] + value.shape[2:]) == 1
    return math.prod(value.physical_shape[:axis]) == 1


def _whole_blocks(value: Value, axis: int) -> bool:
    """Whether another part may follow ``value`` in memory: its last block of channels is full."""
    return axis != 1 or not value.layout.block or value.shape[1] % value.layout.block == 0


def _size_bytes(value: Value) -> int:
    return math.prod(value.physical_shape) * dt.size_bytes(value.dtype)
