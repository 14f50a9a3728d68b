"""Softmax and normalisations."""

from __future__ import annotations

from ...te.ops import normalization as norm
from ...te.ops.layout import reshape
from ...te.ops.operand import Operand, OperandLike, define
from ...te.tensor import Compute
from ..ir import Node, Value
from .context import Context, optional, required
from .registry import lowers


@lowers("Softmax", "LogSoftmax", "Hardmax")
def softmax(ctx: Context, node: Node) -> Compute:
    """Over one axis or, with ``flatten``, jointly over all from that axis on."""
    x, y, axis = required(node), node.outputs[0], node.attrs["axis"]
    axes = range(axis, len(x.shape)) if node.attrs.get("flatten") else [axis]
    if node.op == "Hardmax":
        return norm.hardmax(ctx.operand(x), axes, block=y.layout.block)
    apply = norm.softmax if node.op == "Softmax" else norm.log_softmax
    return apply(ctx.operand(x), axes, block=y.layout.block)


@lowers("LRN")
def lrn(ctx: Context, node: Node) -> Compute:
    a = node.attrs
    return norm.lrn(
        ctx.operand(required(node)),
        int(a["size"]),
        float(a.get("alpha", 1e-4)),
        float(a.get("beta", 0.75)),
        float(a.get("bias", 1.0)),
        block=node.outputs[0].layout.block,
    )


@lowers("LayerNormalization")
def layer_normalization(ctx: Context, node: Node) -> Compute:
    x, scale, bias = required(node), optional(node, 1), optional(node, 2)
    y, axis = node.outputs[0], node.attrs["axis"]
    factors = [None if v is None else ctx.broadcast(v, y) for v in (scale, bias)]
    axes = range(axis, len(x.shape))
    return norm.layer_norm(ctx.operand(x), axes, *factors, epsilon=node.attrs["epsilon"], block=y.layout.block)


@lowers("RMSNormalization")
def rms_normalization(ctx: Context, node: Node) -> Compute:
    x, scale = required(node, 0), required(node, 1)
    y, axis = node.outputs[0], int(node.attrs.get("axis", -1)) % len(x.shape)
    epsilon = float(node.attrs.get("epsilon", 1e-5))
    return norm.rms_norm(
        ctx.operand(x), range(axis, len(x.shape)), ctx.broadcast(scale, y), epsilon=epsilon, block=y.layout.block
    )


@lowers("InstanceNormalization")
def instance_normalization(ctx: Context, node: Node) -> Compute:
    x, scale, bias = (required(node, i) for i in range(3))
    y = node.outputs[0]
    factors = [ctx.broadcast(v, y, axis=1) for v in (scale, bias)]
    epsilon = float(node.attrs.get("epsilon", 1e-5))
    return norm.layer_norm(ctx.operand(x), range(2, len(x.shape)), *factors, epsilon=epsilon, block=y.layout.block)


@lowers("GroupNormalization")
def group_normalization(ctx: Context, node: Node) -> Compute:
    x, scale, bias = (required(node, i) for i in range(3))
    y, groups = node.outputs[0], int(node.attrs["num_groups"])
    factors = [_per_channel(ctx, v, y) for v in (scale, bias)]
    epsilon = float(node.attrs.get("epsilon", 1e-5))
    return norm.group_norm(ctx.operand(x), groups, *factors, epsilon=epsilon, block=y.layout.block)


def _per_channel(ctx: Context, v: Value, y: Value) -> OperandLike:
    """Scale or bias, one for each channel; before opset 21 it was one for each group."""
    if v.shape[0] == y.shape[1]:
        return ctx.broadcast(v, y, axis=1)
    x = ctx.operand(v)
    size = y.shape[1] // v.shape[0]
    spread = define((y.shape[1],), lambda c: x.at(c // size), name="per_channel")
    shape = (1, y.shape[1], *(1,) * (len(y.shape) - 2))
    return Operand(reshape(spread, shape), shape)


@lowers("LpNormalization")
def lp_normalization(ctx: Context, node: Node) -> Compute:
    x, y = required(node), node.outputs[0]
    axis = int(node.attrs.get("axis", -1)) % len(x.shape)
    return norm.lp_normalize(ctx.operand(x), axis, int(node.attrs.get("p", 2)), block=y.layout.block)


@lowers("MeanVarianceNormalization")
def mean_variance_normalization(ctx: Context, node: Node) -> Compute:
    x, y = required(node), node.outputs[0]
    axes = [int(a) % len(x.shape) for a in node.attrs.get("axes", (0, 2, 3))]
    return norm.mean_variance_normalize(ctx.operand(x), axes, epsilon=1e-9, block=y.layout.block)
