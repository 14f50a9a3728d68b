"""Small ONNX models for tests, and ONNX Runtime as the oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from luthier.graph.export import to_onnx
from luthier.graph.ir import Graph
from luthier.graph.onnx_import import load_model
from luthier.graph.passes.clean import eliminate_dead

Array = np.ndarray[Any, Any]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None,
    opset: int = 17,
    dtype: int = onnx.TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of float inputs; constants are arrays, or lists of floats or ints."""
    arrays = {}
    for name, value in (constants or {}).items():
        array = np.asarray(value)
        arrays[name] = array.astype(np.float32) if array.dtype == np.float64 else array
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, dtype, s) for n, s in inputs.items()],
        [onnx.ValueInfoProto(name=n) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    for info in graph.output:
        info.type.tensor_type.elem_type = dtype
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op: str, inputs: str, outputs: str, name: str = "", **attrs: Any) -> onnx.NodeProto:
    """A node; inputs and outputs are names separated by blanks, ``-`` an absent one."""

    def names(text: str) -> list[str]:
        return ["" if n == "-" else n for n in text.split()]

    return helper.make_node(op, names(inputs), names(outputs), name=name, **attrs)


def onnxruntime_outputs(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """What ONNX Runtime computes, without its graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def random_feeds(graph: Graph, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {v.name: rng.standard_normal(v.shape).astype(v.dtype) for v in graph.inputs}


def graph_outputs(graph: Graph, feeds: Mapping[str, Array] | None = None) -> list[Array]:
    """What the graph computes, according to ONNX Runtime."""
    return onnxruntime_outputs(to_onnx(graph), random_feeds(graph) if feeds is None else feeds)


def assert_same(before: Graph, after: Graph, rtol: float = 2e-5, atol: float = 1e-5) -> None:
    """Both graphs have the same interface and compute the same for random inputs."""
    assert [(v.name, v.shape) for v in before.inputs] == [(v.name, v.shape) for v in after.inputs]
    assert [(v.name, v.dtype, v.shape) for v in before.outputs] == [(v.name, v.dtype, v.shape) for v in after.outputs]
    for x, y in zip(graph_outputs(before), graph_outputs(after), strict=True):
        np.testing.assert_allclose(y, x, rtol=rtol, atol=atol)


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def check_consistent(graph: Graph) -> None:
    """Every value is defined before it is read, once; every constant has its value's shape and dtype."""
    defined = {*graph.inputs, *graph.constants}
    for n in graph.nodes:
        assert n.names, n
        for v in n.inputs:
            assert v is None or v in defined, (n, v)
        for v in n.outputs:
            assert v not in defined, (n, v)
            defined.add(v)
    assert set(graph.outputs) <= defined
    for v, a in graph.constants.items():
        assert (v.shape, v.dtype) == (a.shape, a.dtype.name), v


# --------------------------------------------------------------------------------- building blocks

_RNG = np.random.default_rng(0)


def weights(*shape: int) -> Array:
    return _RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> Array:
    return _RNG.uniform(0.5, 2, shape).astype(np.float32)


def load(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int],
    constants: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
) -> Graph:
    """The graph of ``nodes`` with one input ``x``."""
    return load_model(model(nodes, {"x": shape}, list(outputs), constants, opset))


def _snapshot(graph: Graph) -> tuple[Any, ...]:
    nodes = [(n, n.op, list(n.inputs), list(n.outputs), dict(n.attrs), n.names) for n in graph.nodes]
    return nodes, dict(graph.constants), list(graph.outputs)


def apply_passes(graph: Graph, *passes: Callable[[Graph], Graph]) -> Graph:
    """Run passes, then drop dead code; check the invariants of every pass."""
    before = _snapshot(graph)
    result = graph
    for one in passes:
        result = one(result)
        check_consistent(result)
    assert _snapshot(graph) == before
    result = eliminate_dead(result)
    check_consistent(result)
    assert_same(graph, result)
    return result


def batch_norm(source: str, target: str) -> onnx.NodeProto:
    return node("BatchNormalization", f"{source} s b m v", target, epsilon=1e-3, name=f"bn_{target}")


def norm(channels: int) -> dict[str, Array]:
    """The constants of :func:`batch_norm`."""
    return {"s": weights(channels), "b": weights(channels), "m": weights(channels), "v": positive(channels)}
