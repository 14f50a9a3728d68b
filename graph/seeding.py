"""Realistic random weights for a model: what a benchmark of a model without trained weights runs on.

Constant weights, such as those of the models that ship with onnx, let activations explode, vanish or become equal.
Here every weight is drawn by its role (He et al., 2015): convolution and matrix weights so that a layer's output
has unit variance, given an estimate of its input's mean and variance that follows the data through the model;
normalisation by the statistics so estimated; biases and shifts small. The same seed gives the same weights,
whatever else the model contains.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..errors import OnnxError

Array = np.ndarray[Any, Any]
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_PASS = frozenset({"Unsqueeze", "Squeeze", "Reshape", "Identity", "Flatten", "Transpose"})
_MATRICES = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def seed_weights(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """Return a copy of ``model`` in which every weight is drawn anew; inputs are expected to be about N(0, 1).

    Weights are the float initialisers, and the results of ConstantOfShape, that a layer uses as weights, bias, scale,
    shift, mean or variance; shapes and scalars stay as they are. They all become initialisers.
    """
    seeder = _Seeder(model, seed)
    for node in model.graph.node:
        seeder.visit(node)
    return seeder.rebuild()


@dataclass(frozen=True, slots=True)
class _Moments:
    """Mean and variance of a tensor's elements, estimated."""

    mean: float = 0.0
    var: float = 1.0

    @property
    def square(self) -> float:
        """The mean square, kept away from zero."""
        return max(self.var + self.mean**2, 1e-6)


class _Seeder:
    def __init__(self, model: onnx.ModelProto, seed: int) -> None:
        self.model = model
        self.seed = seed
        self.shapes = _weight_shapes(model)  # of every tensor that may be a weight
        self.sources: dict[str, str] = {name: name for name in self.shapes}  # through Unsqueeze and the like
        self.moments: dict[str, _Moments] = {}
        self.drawn: dict[str, Array] = {}

    # ------------------------------------------------------------------------------------------ roles

    def visit(self, node: NodeProto) -> None:
        """Draw the weights of ``node``; estimate its output."""
        if node.op_type in _PASS and node.input[0] in self.sources:
            self.sources[node.output[0]] = self.sources[node.input[0]]
            return
        if node.op_type in ("ConstantOfShape", "Constant"):
            return
        data = [self.moments.get(name, _Moments()) for name in node.input if name and name not in self.sources]
        x = data[0] if data else _Moments()
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in _MATRICES:
            result = self._matrix(node, attrs, x)
        elif node.op_type == "BatchNormalization":
            result = self._batch_normalization(node, x)
        elif node.op_type in ("Mul", "Add", "Sub", "Div", "PRelu") and self._weights(node):
            result = self._vector(node, x)
        else:
            result = _propagate(node.op_type, attrs, data or [x])
        self.moments.update(dict.fromkeys(node.output, result))

    def _weights(self, node: NodeProto) -> list[str]:
        """The vectors among the node's inputs; scalars are part of what the model computes."""
        return [n for n in node.input if n in self.sources and math.prod(self._shape(n)) > 1]

    def _matrix(self, node: NodeProto, attrs: Mapping[str, Any], x: _Moments) -> _Moments:
        w = node.input[1]
        if w not in self.sources:
            return _Moments()
        shape = self._shape(w)
        match node.op_type:
            case "Conv":
                fan_in = float(math.prod(shape[1:]))
            case "ConvTranspose":
                strides = math.prod(attrs.get("strides") or (1,))
                fan_in = shape[0] / attrs.get("group", 1) * math.prod(shape[2:]) / strides
            case _:
                fan_in = shape[-1] if attrs.get("transB") or len(shape) < 2 else shape[-2]
        self._normal(w, 0, 1 / math.sqrt(max(fan_in, 1) * x.square))
        if len(node.input) > 2 and node.input[2] in self.sources:
            self._normal(node.input[2], 0, 0.05)
        return _Moments()

    def _batch_normalization(self, node: NodeProto, x: _Moments) -> _Moments:
        _, scale, bias, mean, var = node.input
        deviation = math.sqrt(max(x.var, 1e-6))
        self._uniform(scale, 0.8, 1.2)
        self._normal(bias, 0, 0.1)
        self._normal(mean, x.mean, 0.1 * deviation)
        self._uniform(var, 0.7 * deviation**2, 1.3 * deviation**2)
        return _Moments(0, 1.05)

    def _vector(self, node: NodeProto, x: _Moments) -> _Moments:
        for name in self._weights(node):
            match node.op_type:
                case "Mul" | "Div":
                    self._uniform(name, 0.8, 1.2)
                case "PRelu":
                    self._uniform(name, 0.1, 0.3)
                case _:
                    self._normal(name, 0, 0.1)
        return x

    # --------------------------------------------------------------------------------------- drawing

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[self.sources[name]][0]

    def _normal(self, name: str, mean: float, deviation: float) -> None:
        if (generator := self._generator(name)) is not None:
            array = generator.standard_normal(self._shape(name), dtype=np.float32)
            array *= np.float32(deviation)
            array += np.float32(mean)
            self._keep(name, array)

    def _uniform(self, name: str, low: float, high: float) -> None:
        if (generator := self._generator(name)) is not None:
            self._keep(name, generator.uniform(low, high, self._shape(name)))

    def _generator(self, name: str) -> np.random.Generator | None:
        """A generator for this tensor alone; None where it is no weight or has been drawn."""
        source = self.sources.get(name)
        if source is None or source in self.drawn:
            return None
        return np.random.default_rng([self.seed, zlib.crc32(source.encode())])

    def _keep(self, name: str, array: Array) -> None:
        source = self.sources[name]
        dtype = helper.tensor_dtype_to_np_dtype(self.shapes[source][1])
        self.drawn[source] = np.ascontiguousarray(array, dtype)

    # -------------------------------------------------------------------------------------- the result

    def rebuild(self) -> onnx.ModelProto:
        """The model with the drawn weights as initialisers."""
        old = self.model.graph
        nodes = [n for n in old.node if not any(o in self.drawn for o in n.output)]
        read = {name for n in nodes for name in n.input} | {o.name for o in old.output}
        kept = [t for t in old.initializer if t.name not in self.drawn and t.name in read]
        constants = {t.name for t in old.initializer}
        graph = onnx.GraphProto(name=old.name, doc_string=old.doc_string)
        graph.node.extend(nodes)
        graph.input.extend(i for i in old.input if i.name not in constants and i.name not in self.drawn)
        graph.output.extend(old.output)
        graph.initializer.extend(kept)
        graph.sparse_initializer.extend(old.sparse_initializer)
        for name in list(self.drawn):
            tensor = numpy_helper.from_array(self.drawn.pop(name), name)
            if name in read:
                graph.initializer.append(tensor)
        result = onnx.ModelProto(ir_version=max(self.model.ir_version, 4), producer_name=self.model.producer_name)
        result.opset_import.extend(self.model.opset_import)
        result.functions.extend(self.model.functions)
        result.graph.CopyFrom(graph)
        return result


def _weight_shapes(model: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape and element type of the float initialisers and of what ConstantOfShape makes from a constant shape."""
    integers = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.INT64}
    shapes = {t.name: (tuple(t.dims), int(t.data_type)) for t in model.graph.initializer if t.data_type in _FLOATS}
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in integers:
            continue
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        dtype = TensorProto.FLOAT if value is None else value.data_type
        if dtype in _FLOATS:
            try:
                shape = numpy_helper.to_array(integers[node.input[0]])
            except ValueError as error:
                raise OnnxError(f"the shape {node.input[0]!r} cannot be read: {error}") from None
            shapes[node.output[0]] = (tuple(int(s) for s in shape), int(dtype))
    return shapes


def _propagate(op: str, attrs: Mapping[str, Any], data: Sequence[_Moments]) -> _Moments:
    """Estimate the output of an operator without weights."""
    x = data[0]
    deviation = math.sqrt(max(x.var, 1e-12))
    match op:
        case "Relu" | "LeakyRelu" | "Clip" | "Elu":  # of a normal distribution
            ratio = x.mean / deviation
            density = math.exp(-ratio * ratio / 2) / math.sqrt(2 * math.pi)
            below = 0.5 * (1 + math.erf(ratio / math.sqrt(2)))
            mean = x.mean * below + deviation * density
            square = (x.mean**2 + x.var) * below + x.mean * deviation * density
            return _Moments(mean, max(square - mean**2, 1e-12))
        case "MaxPool" | "GlobalMaxPool":  # of overlapping windows, as measured
            return _Moments(x.mean + 0.7 * deviation, x.var)
        case "AveragePool" | "GlobalAveragePool" | "ReduceMean":  # neighbours are correlated
            size = math.prod(attrs.get("kernel_shape") or (7, 7))
            return _Moments(x.mean, x.var / math.sqrt(size))
        case "Concat":
            mean = sum(m.mean for m in data) / len(data)
            return _Moments(mean, sum(m.square for m in data) / len(data) - mean**2)
        case "Add" | "Sum" | "Sub":
            sign = -1 if op == "Sub" else 1
            return _Moments(x.mean + sign * sum(m.mean for m in data[1:]), sum(m.var for m in data))
        case "LRN":
            factor = (attrs.get("bias", 1.0) + attrs.get("alpha", 1e-4) * x.square) ** -attrs.get("beta", 0.75)
            return _Moments(x.mean * factor, x.var * factor**2)
        case "Sigmoid" | "HardSigmoid":
            return _Moments(0.5, 0.05)
        case _:
            return x
