"""One group of nodes to one workload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ExpressionError, InternalError, OnnxError
from ...te.ops.operand import Operand, define
from ...te.tensor import Compute, Placeholder, Tensor
from ...te.workload import Frame, Workload, workload
from ..ir import Graph, Group, Node, Value
from .context import Context
from .registry import rule_of


@dataclass(frozen=True, eq=False)
class LoweredGroup:
    """A group as a workload.

    workload   what the group's kernel computes, on physical shapes
    inputs     the value of each of ``workload.inputs``; one value may stand for several inputs
    constants  position in ``inputs`` -> array in that placeholder's shape (padded, blocked), for the constant ones
    outputs    the value of each of ``workload.outputs``; of one in a frame, the value that is the frame
    nodes      the nodes that it stands for, in order
    """

    workload: Workload
    inputs: tuple[Value, ...]
    constants: dict[int, np.ndarray[Any, Any]]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The ONNX names of the nodes."""
        return tuple(name for node in self.nodes for name in node.names)


def lower_group(group: Group, graph: Graph) -> LoweredGroup:
    """Make the workload of a kernel group.

    Errors: OnnxError, naming the node, for an operator that has no rule, or whose rule does not take its types or
    attributes.
    """
    ctx = Context(graph)
    for node in group.nodes:
        for value, tensor in zip(node.outputs, _lower_node(ctx, node), strict=True):
            _check(node, value, tensor)
            ctx.tensors[value] = tensor
    made = group.outputs if group.begin is None else group.nodes[-1].outputs
    outputs = tuple(_output(ctx, value) for value in made)
    frames = {} if group.begin is None else {outputs[0]: Frame(group.outputs[0].physical_shape, group.begin)}
    reads = workload(outputs).inputs
    inputs = tuple(p for p in ctx.inputs if p in reads)
    return LoweredGroup(
        workload(outputs, inputs, frames),
        tuple(ctx.inputs[p] for p in inputs),
        {i: ctx.arrays[p] for i, p in enumerate(inputs) if p in ctx.arrays},
        tuple(group.outputs),
        tuple(group.nodes),
    )


def _lower_node(ctx: Context, node: Node) -> list[Tensor]:
    entry = rule_of(node.op)
    if entry is None:
        raise OnnxError(f"{_title(node)}: operator {node.op} is not supported")
    try:
        result = entry.rule(ctx, node)
    except ExpressionError as error:
        raise OnnxError(f"{_title(node)} ({node.op}): {error}") from error
    return result if isinstance(result, list) else [result]


def _title(node: Node) -> str:
    return "+".join(node.names) or node.op


def _check(node: Node, value: Value, tensor: Tensor) -> None:
    if tensor.shape != value.physical_shape or tensor.dtype != value.dtype:
        raise InternalError(f"lowering of {node!r} made {tensor!r} for {value!r}")


def _output(ctx: Context, value: Value) -> Compute:
    """The compute of an output; what is an input as well (Identity) is copied."""
    tensor = ctx.tensor(value)
    if isinstance(tensor, Placeholder):
        x = Operand(tensor, value.shape, value.layout.block)
        return define(value.shape, x.at, block=value.layout.block, name="copy")
    return tensor
