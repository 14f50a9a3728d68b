"""Nodes that do nothing, and nodes that are a longer word for something simpler."""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ..kinds import UNARY
from ..shapes import broadcast
from .rewrite import Rewriter


def canonicalize(graph: Graph) -> Graph:
    """Write what ONNX can say in several ways in one.

    Sum, and Max and Min of more than two, become chains of two-operand nodes (Sum of Add), from the left as in ONNX. An
    AveragePool whose only window is the whole image, and a ReduceMean over all of it, become GlobalAveragePool.
    """
    rewriter = Rewriter(graph)

    def expand(node: Node) -> bool:
        if _is_global(node):
            node.op, node.attrs = "GlobalAveragePool", {}
            return False
        op = {"Sum": "Add", "Max": "Max", "Min": "Min"}.get(node.op)
        values = [v for v in node.inputs if v is not None]
        if op is None or len(values) < 2 or (op == node.op and len(values) == 2):
            return False
        left = values[0]
        for i, right in enumerate(values[1:]):
            last = i == len(values) - 2
            out = (
                node.outputs[0]
                if last
                else Value(f"{node.outputs[0].name}_{i}", left.dtype, broadcast(left.shape, right.shape))
            )
            rewriter.emit(Node(op, [left, right], [out], {}, node.names))
            left = out
        return True

    return rewriter.run(expand)


def remove_identities(graph: Graph) -> Graph:
    """Drop nodes that return their input: Identity, Dropout, and those that their shapes or constants make so."""
    rewriter = Rewriter(graph)

    def drop(node: Node) -> bool:
        kept = _same_as(node, rewriter)
        return kept is not None and rewriter.replace(node, kept)

    return rewriter.run(drop)


def sink_activations(graph: Graph) -> Graph:
    """Apply a unary operator to the parts of a concatenation instead of its result, so that it fuses with their makers.

    Only where nobody else reads the concatenation or a part, and every part is computed for it.
    """
    rewriter = Rewriter(graph)

    def sink(node: Node) -> bool:
        concat = rewriter.producer(node.inputs[0], "Concat") if node.op in UNARY and len(node.inputs) == 1 else None
        if concat is None or not rewriter.sole(concat.outputs[0]):
            return False
        parts = [v for v in concat.inputs if v is not None]
        makers = [rewriter.producer(v) for v in parts]
        if not all(rewriter.sole(v) for v in parts) or any(m is None or m.op in ("Concat", "Split") for m in makers):
            return False
        y = node.outputs[0]
        values = [Value(f"{y.name}_part{i}", y.dtype, v.shape) for i, v in enumerate(parts)]
        rewriter.graph.remove([concat])
        for part, value in zip(parts, values, strict=True):
            rewriter.emit(Node(node.op, [part], [value], dict(node.attrs), node.names))
        rewriter.emit(Node("Concat", list(values), [y], concat.attrs, concat.names))
        return True

    return rewriter.run(sink)


def _is_global(node: Node) -> bool:
    """Whether ``node`` averages the whole image to one pixel."""
    x, a = node.inputs[0] if node.inputs else None, node.attrs
    if x is None or len(x.shape) < 3:
        return False
    match node.op:
        case "AveragePool":
            return a["kernel_shape"] == x.shape[2:] and not any(a["pads"]) and all(d == 1 for d in a["dilations"])
        case "ReduceMean":
            return a["axes"] == tuple(range(2, len(x.shape))) and bool(a["keepdims"])
        case _:
            return False


def _same_as(node: Node, rewriter: Rewriter) -> Value | None:
    """The input that ``node`` returns unchanged, if there is one."""
    x = node.inputs[0] if node.inputs else None
    y = node.outputs[0]
    if x is None or len(node.outputs) != 1 or x.dtype != y.dtype or x.layout != y.layout:
        return None
    same = x.shape == y.shape
    match node.op:
        case "Identity" | "Dropout" | "LayoutConvert":
            return x
        case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" | "Tile" | "Cast" if same:
            return x
        case "Transpose" if node.attrs["perm"] == tuple(range(len(x.shape))):
            return x
        case "Pad" if not any(node.attrs["pads"]):
            return x
        case "Slice" if same and all(s > 0 for s in node.attrs["steps"]):
            return x
        case "Split" if same:
            return x
        case "Resize" if same and not node.attrs["roi"] and all(s == 1 for s in node.attrs["scales"]):
            return x
        case "Concat" | "Sum" | "Mean" | "Max" | "Min" if len(node.inputs) == 1:
            return x
        case "AveragePool" | "MaxPool" if same and all(k == 1 for k in node.attrs["kernel_shape"]):
            return None if any(node.attrs["pads"]) else x
        case "ChannelShuffle" if node.attrs["groups"] in (1, x.shape[1]):
            return x
        case "Add" | "Sub" | "Mul" | "Div" | "Pow":
            return _neutral(node, rewriter)
        case _:
            return None


def _neutral(node: Node, rewriter: Rewriter) -> Value | None:
    """``x`` of x + 0, x - 0, x * 1, x / 1 and x ** 1, where the constant does not widen the shape."""
    a, b = node.inputs
    neutral = 0 if node.op in ("Add", "Sub") else 1
    sides = ((a, b), (b, a)) if node.op in ("Add", "Mul") else ((a, b),)
    for x, other in sides:
        array = rewriter.constant(other)
        if x is None or array is None or x in rewriter.constants or array.size > 1 << 16:
            continue
        same = x.shape == node.outputs[0].shape and x.dtype == node.outputs[0].dtype
        if same and bool((array == neutral).all()):
            return x
    return None
