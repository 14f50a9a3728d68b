"""Convolution and pooling."""

from __future__ import annotations

from ...te.ops import conv as conv_ops
from ...te.ops import pool
from ...te.ops.conv import conv
from ...te.ops.conv_transpose import conv_transpose
from ...te.ops.elementwise import elementwise
from ...te.ops.operand import Operand
from ...te.tensor import Compute, Tensor
from ..ir import Node, Value
from .context import Context, optional, pad_to_multiple, required
from .registry import lowers


@lowers("Conv")
def convolution(ctx: Context, node: Node) -> Compute:
    """Convolution; the bias is a stage of its own, so that a schedule treats it as it treats every epilogue."""
    x, w, bias = required(node, 0), required(node, 1), optional(node, 2)
    y, a = node.outputs[0], node.attrs
    result = conv(
        ctx.tensor(x),
        _weight(ctx, w, y.layout.block),
        in_channels=x.shape[1],
        out_channels=y.shape[1],
        strides=a["strides"],
        pads=a["pads"],
        dilations=a["dilations"],
        groups=a["group"],
        in_block=x.layout.block,
        out_block=y.layout.block,
        accuracy=ctx.graph.accuracy,
    )
    return _with_bias(ctx, result, bias, y)


@lowers("ConvTranspose")
def transposed_convolution(ctx: Context, node: Node) -> Compute:
    x, w, bias = required(node, 0), required(node, 1), optional(node, 2)
    y, a = node.outputs[0], node.attrs
    result = conv_transpose(
        ctx.operand(x),
        ctx.operand(w),
        outputs=y.shape[2:],
        strides=a["strides"],
        pads=a["pads"],
        dilations=a["dilations"],
        groups=a["group"],
        block=y.layout.block,
    )
    return _with_bias(ctx, result, bias, y)


def _with_bias(ctx: Context, result: Compute, bias: Value | None, y: Value) -> Compute:
    if bias is None:
        return result
    operands = [Operand(result, y.shape, y.layout.block), ctx.broadcast(bias, y, axis=1)]
    return elementwise(lambda v, b: v + b, operands, name="bias")


def _weight(ctx: Context, w: Value, block: int) -> Tensor:
    """Weights with their output channels filled up to whole blocks."""
    array = ctx.array(w)
    if array is not None:
        padded = pad_to_multiple(array, block) if block else array
        return ctx.constant(w, padded, ("weight", padded.shape), "weight")
    weight = ctx.plain(w)
    return conv_ops.pad_weight(weight, block) if block and w.shape[0] % block else weight


@lowers("MaxPool", "AveragePool", "LpPool")
def pooling(ctx: Context, node: Node) -> Compute:
    x, y, a = ctx.operand(required(node)), node.outputs[0], node.attrs
    window = (a["kernel_shape"], a["strides"], a["pads"], a["dilations"])
    outputs, block = y.shape[2:], y.layout.block
    match node.op:
        case "MaxPool":
            return pool.max_pool(x, *window, outputs=outputs, block=block)
        case "AveragePool":
            include = bool(a.get("count_include_pad", 0))
            return pool.avg_pool(x, *window, count_include_pad=include, outputs=outputs, block=block)
        case _:
            return pool.lp_pool(x, *window, p=a["p"], outputs=outputs, block=block)


@lowers("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(ctx: Context, node: Node) -> Compute:
    x, block = ctx.operand(required(node)), node.outputs[0].layout.block
    match node.op:
        case "GlobalAveragePool":
            return pool.global_avg_pool(x, block=block)
        case "GlobalMaxPool":
            return pool.global_max_pool(x, block=block)
        case _:
            return pool.global_lp_pool(x, int(node.attrs.get("p", 2)), block=block)
