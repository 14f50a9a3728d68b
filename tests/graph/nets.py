"""Small models for tests of whole builds, and what ONNX's own implementation says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import luthier
from luthier.runtime.executable import Executable

FLOAT = TensorProto.FLOAT


class Net:
    """Writes a model, node by node."""

    def __init__(self, **inputs: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(0)
        self.inputs = [helper.make_tensor_value_info(n, FLOAT, s) for n, s in inputs.items()]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, name: str = "", outputs: int = 1, **attrs: Any) -> str:
        name = name or f"{op.lower()}{len(self.nodes)}"
        made = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=f"node_{name}", **attrs))
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape).astype(np.float32) / 4)

    def constant(self, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"w{len(self.constants)}"))
        return self.constants[-1].name

    def conv(self, x: str, inputs: int, outputs: int, size: int = 3, **attrs: Any) -> str:
        pad = size // 2
        weights = self.weight(outputs, inputs // attrs.get("group", 1), size, size), self.weight(outputs)
        return self.add("Conv", x, *weights, pads=[pad] * 4, kernel_shape=[size, size], **attrs)

    def model(self, *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_empty_tensor_value_info(o) for o in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, infos, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        inferred = onnx.shape_inference.infer_shapes(model)
        known = {v.name: v for v in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)}
        for tensor in self.constants:
            known[tensor.name] = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        del inferred.graph.output[:]
        inferred.graph.output.extend(known[o] for o in outputs)
        return inferred


def feed_of(model: onnx.ModelProto, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def reference(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return list(ReferenceEvaluator(model).run(None, dict(feed)))


def check(model: onnx.ModelProto, **options: Any) -> Executable:
    """Compile a model, run it twice and compare it with the reference; inputs must stay as they are."""
    executable = luthier.compile(model, **options)
    feed = feed_of(model)
    before = {n: a.copy() for n, a in feed.items()}
    for _ in range(2):  # the second run finds the arena as the first one left it
        found, expected = executable.run(None, feed), reference(model, feed)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    for name, array in feed.items():
        np.testing.assert_array_equal(array, before[name])
    return executable
