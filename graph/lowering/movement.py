"""Operators that move elements: layout changes, reshapes, slices, concatenation, padding, gathering."""

from __future__ import annotations

from ...te.expr import const
from ...te.ops import indexing, layout, sort
from ...te.ops.operand import Operand
from ...te.tensor import Compute, Tensor
from ..ir import Node
from .context import Context, optional, required
from .registry import lowers


@lowers("LayoutConvert")
def layout_convert(ctx: Context, node: Node) -> Compute:
    return layout.layout_convert(_x(ctx, node), _block(node))


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(ctx: Context, node: Node) -> Compute:
    return layout.reshape(_x(ctx, node), node.outputs[0].shape, block=_block(node), name=node.op.lower())


@lowers("PhysicalFlatten")
def physical_flatten(ctx: Context, node: Node) -> Compute:
    """The elements in the order in which they lie in memory."""
    return layout.reshape(ctx.tensor(required(node)), node.outputs[0].shape, name="flatten")


@lowers("Transpose")
def transpose(ctx: Context, node: Node) -> Compute:
    return layout.transpose(_x(ctx, node), node.attrs["perm"], block=_block(node))


@lowers("Expand")
def expand(ctx: Context, node: Node) -> Compute:
    return layout.expand(_x(ctx, node), node.outputs[0].shape, block=_block(node))


@lowers("Tile")
def tile(ctx: Context, node: Node) -> Compute:
    return layout.tile(_x(ctx, node), node.attrs["repeats"], block=_block(node))


@lowers("DepthToSpace")
def depth_to_space(ctx: Context, node: Node) -> Compute:
    mode = str(node.attrs.get("mode", "DCR"))
    return layout.depth_to_space(_x(ctx, node), int(node.attrs["blocksize"]), mode, block=_block(node))


@lowers("SpaceToDepth")
def space_to_depth(ctx: Context, node: Node) -> Compute:
    mode = str(node.attrs.get("mode") or "DCR")
    return layout.space_to_depth(_x(ctx, node), int(node.attrs["blocksize"]), mode, block=_block(node))


@lowers("ChannelShuffle")
def channel_shuffle(ctx: Context, node: Node) -> Compute:
    return layout.channel_shuffle(_x(ctx, node), int(node.attrs["groups"]), block=_block(node))


@lowers("ConstantOfShape")
def constant_of_shape(ctx: Context, node: Node) -> Compute:
    y = node.outputs[0]
    return layout.full(y.shape, node.attrs["value"], y.dtype, block=_block(node))


@lowers("EyeLike")
def eye_like(ctx: Context, node: Node) -> Compute:
    y = node.outputs[0]
    return layout.eye(y.shape, int(node.attrs.get("k") or 0), y.dtype)


@lowers("Slice")
def strided_slice(ctx: Context, node: Node) -> Compute:
    a, y = node.attrs, node.outputs[0]
    sizes = [y.shape[axis] for axis in a["axes"]]
    return indexing.strided_slice(_x(ctx, node), a["axes"], a["starts"], a["steps"], sizes, block=_block(node))


@lowers("Split")
def split(ctx: Context, node: Node) -> list[Tensor]:
    blocks = [y.layout.block for y in node.outputs]
    return list(indexing.split(_x(ctx, node), node.attrs["axis"], node.attrs["split"], blocks=blocks))


@lowers("Concat")
def concat(ctx: Context, node: Node) -> Compute:
    parts = [ctx.operand(v) for v in node.inputs if v is not None]
    return indexing.concat(parts, node.attrs["axis"], block=_block(node))


@lowers("Pad")
def pad(ctx: Context, node: Node) -> Compute:
    a = node.attrs
    value = float(a.get("value") or 0.0)
    return indexing.pad(_x(ctx, node), a["pads"], str(a.get("mode", "constant")), value, block=_block(node))


@lowers("Gather")
def gather(ctx: Context, node: Node) -> Compute:
    x, indices = _two(ctx, node)
    return indexing.gather(x, indices, node.attrs["axis"], block=_block(node))


@lowers("GatherElements")
def gather_elements(ctx: Context, node: Node) -> Compute:
    x, indices = _two(ctx, node)
    return indexing.gather_elements(x, indices, node.attrs["axis"])


@lowers("GatherND")
def gather_nd(ctx: Context, node: Node) -> Compute:
    x, indices = _two(ctx, node)
    return indexing.gather_nd(x, indices, int(node.attrs.get("batch_dims", 0)))


@lowers("OneHot")
def one_hot(ctx: Context, node: Node) -> Compute:
    """The new dimension's size is the output's; the values are a pair (off, on)."""
    indices, values, y = required(node, 0), required(node, 2), node.outputs[0]
    axis = int(node.attrs.get("axis", -1)) % len(y.shape)
    return indexing.one_hot(ctx.operand(indices), y.shape[axis], ctx.operand(values), axis)


@lowers("Trilu")
def trilu(ctx: Context, node: Node) -> Compute:
    """The diagonal may be computed at run time."""
    y = node.outputs[0]
    k = optional(node, 1)
    diagonal = const(0) if k is None else ctx.operand(k).at(*(0,) * len(k.shape))
    return indexing.triangle(_x(ctx, node), diagonal, bool(node.attrs.get("upper", 1)), block=y.layout.block)


@lowers("Range")
def range_(ctx: Context, node: Node) -> Compute:
    start, delta = ctx.operand(required(node, 0)), ctx.operand(required(node, 2))
    y = node.outputs[0]
    return layout.arange(y.shape[0], start, delta, y.dtype)


@lowers("ReverseSequence")
def reverse_sequence(ctx: Context, node: Node) -> Compute:
    x, lengths = _two(ctx, node)
    batch, time = int(node.attrs.get("batch_axis", 1)), int(node.attrs.get("time_axis", 0))
    return indexing.reverse_sequence(x, lengths, batch, time)


@lowers("TopK")
def top_k(ctx: Context, node: Node) -> list[Tensor]:
    a = node.attrs
    return list(sort.top_k(_x(ctx, node), a["k"], a["axis"], largest=bool(a["largest"])))


def _x(ctx: Context, node: Node) -> Operand:
    """The data input."""
    return ctx.operand(required(node))


def _two(ctx: Context, node: Node) -> tuple[Operand, Operand]:
    return ctx.operand(required(node, 0)), ctx.operand(required(node, 1))


def _block(node: Node) -> int:
    return node.outputs[0].layout.block
