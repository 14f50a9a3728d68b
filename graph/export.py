"""Graph back to ONNX: for debugging, for evaluating constants, and as the oracle of the passes' tests.

The exported model computes what the graph computes, on logical shapes: layouts are dropped and ``LayoutConvert``
becomes Identity, so that a graph can be checked after layout assignment as well as before. Operators of Luthier's own
(see :mod:`.passes`) become the ONNX operators that they stand for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from ..errors import OnnxError
from ..te import dtype as dt
from .ir import Graph, Node, Value

OPSET = 21
_INT64_MIN = -(2**63)


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """Return a model with the graph's inputs, outputs, constants and one or more ONNX nodes for each node."""
    writer = _Writer()
    for value in (*graph.outputs, *graph.inputs):
        writer.name(value)
    for node in graph.nodes:
        writer.write(node)
    read = {name for proto in writer.nodes for name in proto.input}
    for value, array in graph.constants.items():
        if writer.name(value) in read:
            writer.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), writer.name(value)))
    proto = helper.make_graph(
        writer.nodes,
        graph.name or "model",
        [_info(writer.name(v), v) for v in graph.inputs],
        [_info(writer.name(v), v) for v in graph.outputs],
        writer.initializers,
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _info(name: str, value: Value) -> onnx.ValueInfoProto:
    code = helper.np_dtype_to_tensor_dtype(dt.to_numpy(value.dtype))
    return helper.make_tensor_value_info(name, code, value.shape)


class _Writer:
    """Collects NodeProtos; gives every value a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.counter = itertools.count()

    def name(self, value: Value) -> str:
        """The name of ``value`` in the model: its own, unless another value has it."""
        if value not in self.names:
            name = value.name
            while not name or name in self.taken:
                name = f"{value.name}__{next(self.counter)}"
            self.taken.add(name)
            self.names[value] = name
        return self.names[value]

    def fresh(self, hint: str) -> str:
        name = f"{hint}__{next(self.counter)}"
        self.taken.add(name)
        return name

    def constant(self, array: Any, dtype: str) -> str:
        """Add an initialiser, return its name."""
        name = self.fresh("const")
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dt.to_numpy(dtype)), name))
        return name

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(list(values), "int64")

    def emit(self, op: str, inputs: Sequence[str], output: str | Sequence[str] | None = None, **attrs: Any) -> str:
        """Add a node; returns the name of its (first) output."""
        outputs = [self.fresh(op)] if output is None else [output] if isinstance(output, str) else list(output)
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=self.fresh(op), **attrs))
        return outputs[0]

    def write(self, node: Node) -> None:
        """Add the ONNX nodes for ``node``."""
        x = ["" if v is None else self.name(v) for v in node.inputs]
        while x and not x[-1]:
            x.pop()
        y = [self.name(v) for v in node.outputs]
        a, out = node.attrs, node.outputs[0]
        match node.op:
            case "LayoutConvert" | "Dropout":
                self.emit("Identity", x, y)
            case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze":
                self.emit("Reshape", [x[0], self.ints(out.shape)], y, allowzero=1)
            case "Expand":
                self.emit("Expand", [x[0], self.ints(a["shape"])], y)
            case "Tile":
                self.emit("Tile", [x[0], self.ints(a["repeats"])], y)
            case "Split":
                self.emit("Split", [x[0], self.ints(a["split"])], y, axis=a["axis"])
            case "Slice":
                ends = [_INT64_MIN if e < 0 else e for e in a["ends"]]
                self.emit("Slice", [x[0], *(self.ints(v) for v in (a["starts"], ends, a["axes"], a["steps"]))], y)
            case "Pad":
                self.emit("Pad", [x[0], self.ints(a["pads"]), self.constant(a["value"], out.dtype)], y, mode=a["mode"])
            case "Clip" if a:
                bounds = ["" if a[k] is None else self.constant(a[k], out.dtype) for k in ("min", "max")]
                self.emit("Clip", [x[0], *bounds], y)
            case "Cast":
                self.emit("Cast", x, y, to=helper.np_dtype_to_tensor_dtype(dt.to_numpy(a["to"])))
            case "ConstantOfShape":
                value = numpy_helper.from_array(np.array([a["value"]], dt.to_numpy(out.dtype)))
                self.emit("ConstantOfShape", [self.ints(a["shape"])], y, value=value)
            case "CumSum":
                axis = self.constant(a["axis"], "int64")
                self.emit("CumSum", [x[0], axis], y, exclusive=a["exclusive"], reverse=a["reverse"])
            case "TopK":
                attrs = {k: v for k, v in a.items() if k != "k"}
                self.emit("TopK", [x[0], self.ints([a["k"]])], y, **attrs)
            case "Softmax" | "LogSoftmax" | "Hardmax":
                self._softmax(node, x[0], y[0])
            case "Resize":
                self._resize(node, x[0], y[0])
            case "ScaleShift":
                shape = self.ints([-1] + [1] * (len(out.shape) - 2))
                scale, shift = (self.emit("Reshape", [v, shape]) for v in x[1:])
                self.emit("Add", [self.emit("Mul", [x[0], scale]), shift], y)
            case "ChannelShuffle":
                n, c, *spatial = out.shape
                parts = self.ints([n, a["groups"], c // a["groups"], *spatial])
                perm = [0, 2, 1, *range(3, len(spatial) + 3)]
                turned = self.emit("Transpose", [self.emit("Reshape", [x[0], parts])], perm=perm)
                self.emit("Reshape", [turned, self.ints(out.shape)], y)
            case "PhysicalFlatten":
                n, c, *spatial = node.inputs[0].shape  # type: ignore[union-attr]
                parts = self.ints([n, c // a["block"], a["block"], *spatial])
                perm = [0, 1, *range(3, len(spatial) + 3), 2]
                turned = self.emit("Transpose", [self.emit("Reshape", [x[0], parts])], perm=perm)
                self.emit("Reshape", [turned, self.ints(out.shape)], y)
            case op if op.startswith("Reduce"):
                self.emit(op, [x[0], self.ints(a["axes"])], y, keepdims=a["keepdims"])
            case op:
                try:
                    self.emit(op, x, y, **{k: v for k, v in a.items() if v is not None})
                except (TypeError, ValueError) as error:
                    raise OnnxError(f"{'+'.join(node.names)} ({op}) cannot be exported to ONNX: {error}") from None

    def _softmax(self, node: Node, x: str, y: str) -> None:
        shape, axis = node.outputs[0].shape, node.attrs["axis"]
        if not node.attrs["flatten"]:
            self.emit(node.op, [x], y, axis=axis)
            return
        rows = int(np.prod(shape[:axis], dtype=np.int64))
        columns = int(np.prod(shape[axis:], dtype=np.int64))
        flat = self.emit("Reshape", [x, self.ints([rows, columns])])
        self.emit("Reshape", [self.emit(node.op, [flat], axis=1), self.ints(shape)], y)

    def _resize(self, node: Node, x: str, y: str) -> None:
        a, source, out = dict(node.attrs), node.inputs[0], node.outputs[0]
        assert source is not None
        scales, roi = a.pop("scales"), a.pop("roi")
        region = self.constant(roi, "float32") if roi else ""
        if all(abs(s * i - o) < 1e-6 * o for s, i, o in zip(scales, source.shape, out.shape, strict=True)):
            self.emit("Resize", [x, region, "", self.ints(out.shape)], y, **a)
        else:
            self.emit("Resize", [x, region, self.constant(scales, "float32")], y, **a)
