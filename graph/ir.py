"""The graph IR: a model as values and nodes.

    Graph := inputs, outputs: values; constants: value -> array; nodes in execution order
    Node  := op, inputs (None where an optional one is absent), outputs, attrs, names

``op`` is the ONNX operator's name, or one of Luthier's own: ``LayoutConvert`` (same value in another layout).
A value has a logical shape (as ONNX sees it) and a layout, which says how it lies in memory. ``names`` are the
ONNX node names that a node stands for; they survive every pass, so that an error or a profile can name them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..accuracy import Accuracy


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tensor lies in memory.

    block 0: row-major, as ONNX has it. block c > 0: the channel axis 1 is cut in blocks of c that move innermost,
    (N, C, *spatial) -> (N, ceil(C / c), *spatial, c), NCHWc for images. Lanes past C hold unspecified values; c = C is
    NHWC.
    """

    block: int = 0

    def physical_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the buffer that holds a tensor of logical ``shape``."""
        if not self.block:
            return tuple(shape)
        n, c, *spatial = shape
        return (n, -(-c // self.block), *spatial, self.block)

    def __str__(self) -> str:
        return f"NC*{self.block}c" if self.block else "plain"


PLAIN = Layout()


@dataclass(eq=False, slots=True)
class Value:
    """An edge of the graph: one tensor. dtype is a name of :mod:`luthier.te.dtype`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: Layout = PLAIN

    @property
    def physical_shape(self) -> tuple[int, ...]:
        return self.layout.physical_shape(self.shape)

    def __repr__(self) -> str:
        return f"Value({self.name}: {self.dtype}{list(self.shape)} {self.layout})"


@dataclass(eq=False, slots=True)
class Node:
    """An operator applied to values. attrs: ONNX attributes as Python ints, floats, strings, tuples or arrays."""

    op: str
    inputs: list[Value | None]
    outputs: list[Value]
    attrs: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Node({self.op} {'+'.join(self.names)})"


@dataclass(eq=False, slots=True)
class Graph:
    """A model. nodes are kept in an order in which every input is made before it is read.

    accuracy  what its convolutions may be computed by; see :mod:`luthier.accuracy`
    """

    inputs: list[Value]
    outputs: list[Value]
    nodes: list[Node]
    constants: dict[Value, np.ndarray[Any, Any]]
    name: str = "model"
    accuracy: Accuracy = "fast"

    def producers(self) -> dict[Value, Node]:
        """Map each computed value to the node that makes it."""
        return {v: n for n in self.nodes for v in n.outputs}

    def consumers(self) -> dict[Value, list[Node]]:
        """Map each value to the nodes that read it (a node twice if it reads the value twice)."""
        result: dict[Value, list[Node]] = {}
        for n in self.nodes:
            for v in n.inputs:
                if v is not None:
                    result.setdefault(v, []).append(n)
        return result

    def remove(self, nodes: Iterable[Node]) -> None:
        """Drop nodes; the caller has redirected the readers of their outputs."""
        gone = {id(n) for n in nodes}
        self.nodes = [n for n in self.nodes if id(n) not in gone]


@dataclass(eq=False, slots=True)
class Group:
    """Nodes that become one kernel (kind "kernel") or no code at all (kinds "view", "part" and "framed").

    A kernel group computes ``outputs`` from ``inputs`` (constants included, in order of first use) by running
    ``nodes`` in order; values between them never reach memory. A view group makes its single output an alias:
    ``output`` is ``inputs[0]``'s memory seen with another shape (Reshape, Flatten, Squeeze, Identity, Dropout, ...),
    or, for a Concat, each input is a part of the output's memory at the byte offset in ``offsets``. Where a Concat
    ``extends``, its first input is the end of a larger value, to whose memory the others are added. A part group
    (Slice) makes its output the bytes of ``inputs[0]`` from ``start`` on. A framed group (Concat) has neither inputs
    nor outputs: the kernels of its parts write into the joint value, which is the ``outputs`` of each. Such a kernel
    group has a ``begin``: the physical index in that value of the first element that its last node makes.
    """

    kind: str
    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Value]
    offsets: tuple[int, ...] = ()
    extends: bool = False
    start: int = 0
    begin: tuple[int, ...] | None = None
