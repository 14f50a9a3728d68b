"""Convolution over images of any rank, plain (N, C, *spatial) or blocked (N, ceil(C / b), *spatial, b).

Padding is the domain of the reduction: a tap outside the image is not part of the sum, and no padded copy is made.
The body is always ``sum(data[...] * weight[...], axes, where)`` over

    (ic_o, *taps, ic_i)  blocked data whose channels per group fill whole blocks (or that has one group)
    (ic, *taps)          plain data, or groups that cut blocks
    (*taps,)             depthwise convolution

Tags: ``conv2d`` and ``depthwise_conv2d`` (1 and 3 for images of those ranks).
Attrs: kernel, strides, pads, dilations, groups, in_channels, out_channels, in_block, out_block;
accuracy, where that is "exact" and an algorithm that rounds differently would apply.
Next: :mod:`.pool`, the same windows with another combiner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...accuracy import Accuracy, check_accuracy
from ...errors import ExpressionError
from ..expr import Axis, Expr, Var, select
from ..simplify import simplify
from ..tensor import Attr, Compute, Tensor, compute, reduce_axis
from ..tensor import sum as reduce_sum
from . import strassen, winograd
from .operand import OperandLike, axis_names, conjunction, define, named, operand, physical_shape
from .window import window


@dataclass(frozen=True, slots=True)
class _Channels:
    """How the channels of a convolution lie in its operands."""

    inputs: int
    outputs: int
    groups: int
    in_block: int
    out_block: int

    @property
    def group_inputs(self) -> int:
        return self.inputs // self.groups

    @property
    def group_outputs(self) -> int:
        return self.outputs // self.groups

    @property
    def depthwise(self) -> bool:
        """One input channel per group, each read in the lane in which its output is stored."""
        same = self.inputs == self.outputs and self.in_block == self.out_block
        return self.groups > 1 and self.groups == self.inputs and same

    @property
    def whole_blocks(self) -> bool:
        """Blocked data of which every group owns whole blocks."""
        return bool(self.in_block) and (self.groups == 1 or self.group_inputs % self.in_block == 0)


def conv(
    data: Tensor,
    weight: Tensor,
    *,
    in_channels: int,
    out_channels: int,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
    in_block: int = 0,
    out_block: int = 0,
    accuracy: Accuracy = "fast",
    name: str = "conv",
) -> Compute:
    """Convolve ``data`` with ``weight``.

    data       (N, C, *spatial), or (N, ceil(C / in_block), *spatial, in_block) when ``in_block`` is positive
    weight     (O, C / groups, *kernel); with ``out_block``, O is padded to a multiple of it (see :func:`pad_weight`)
    strides, dilations  one per spatial dimension (default 1); pads: all begins, then all ends (default 0)
    accuracy   "exact" forbids schedules to use an algorithm that rounds differently, Winograd's or Strassen's. It is
               part of the workload's text, and so of its key, only where there is such an algorithm: all other
               workloads, and what is known of them, are the same for both
    returns    (N, O, *out), or (N, ceil(O / out_block), *out, out_block)

    Errors: ExpressionError when shapes, channels and groups do not fit; Error for an unknown ``accuracy``.
    """
    exact = check_accuracy(accuracy) == "exact"
    ch = _Channels(in_channels, out_channels, groups, in_block, out_block)
    _check(data, weight, ch)
    n, spatial = data.shape[0], data.shape[2 : len(data.shape) - (1 if in_block else 0)]
    w = window(spatial, weight.shape[2:], strides, pads, dilations)
    rank = len(spatial)
    attrs: dict[str, Attr] = {
        **w.attrs(),
        "groups": groups,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "in_block": in_block,
        "out_block": out_block,
    }
    tag = f"{'depthwise_' if ch.depthwise else ''}conv{rank}d"
    shape = physical_shape((n, out_channels, *w.outputs), out_block)

    def body(*axes: Var) -> Expr:
        if out_block:
            n_, oc_o, *out, oc_i = axes
            oc: Expr = oc_o * out_block + oc_i
        else:
            n_, oc, *out = axes
        taps = w.axes()
        where = w.inside(out, taps)
        position = w.positions(out, taps)
        bounds = {v: (0, extent - 1) for v, extent in zip(axes, shape, strict=True)}
        if ch.depthwise:
            channel: tuple[tuple[Expr, ...], tuple[Expr, ...]] = ((axes[1],), (axes[-1],) if in_block else ())
            ic: Expr | int = 0
            reduced = taps
        else:
            group = simplify(oc // ch.group_outputs, bounds) if groups > 1 else 0
            if groups > 1 and out_block and out_channels % out_block:
                where.append(oc < out_channels)
            channel, ic, outer, inner, exists = _input_channel(ch, group, bounds)
            reduced = (*outer, *taps, *inner)
            where.append(exists)
        before, after = channel
        term = data[(n_, *before, *position, *after)] * weight[(oc, ic, *(t.var for t in taps))]
        return reduce_sum(term, reduced, where=conjunction(where))

    names = axis_names(rank + 2)
    names[1] = "oc"
    if out_block:
        names = [names[0], "oc_o", *names[2:], "oc_i"]
    result = compute(shape, named(body, names), name, tag=tag, attrs=attrs)
    if exact and (strassen.levels_of(result) or winograd.applies(result)):
        return replace(result, attrs={**result.attrs, "accuracy": "exact"})
    return result


def pad_weight(weight: OperandLike, block: int, axis: int = 0) -> Compute:
    """Fill dimension ``axis`` of weights up to a multiple of ``block`` with zeros (weights that are known only at
    run time)."""
    w = operand(weight)
    size = w.shape[axis]
    shape = (*w.shape[:axis], -(-size // block) * block, *w.shape[axis + 1 :])
    return define(shape, lambda *i: select(i[axis] < size, w.at(*i), 0), name="pad_weight")


def _input_channel(
    ch: _Channels, group: Expr | int, bounds: dict[Var, tuple[int, int]]
) -> tuple[tuple[tuple[Expr, ...], tuple[Expr, ...]], Expr, tuple[Axis, ...], tuple[Axis, ...], Expr | None]:
    """The data's indices before and after the spatial ones, the weight's input channel, axes outside and inside of
    the taps, and the condition under which the channel exists."""
    b = ch.in_block
    if ch.whole_blocks:
        blocks = -(-ch.group_inputs // b)
        outer, inner = reduce_axis(blocks, "ic_o"), reduce_axis(min(b, ch.group_inputs), "ic_i")
        ic = outer.var * b + inner.var if blocks > 1 else inner.var
        exists = ic < ch.group_inputs if blocks > 1 and ch.group_inputs % b else None
        first = outer.var if isinstance(group, int) else group * blocks + outer.var
        return ((first,), (inner.var,)), ic, (outer,), (inner,), exists
    k = reduce_axis(ch.group_inputs, "ic")
    c = k.var if isinstance(group, int) else group * ch.group_inputs + k.var
    if not b:
        return ((c,), ()), k.var, (k,), (), None
    known = {**bounds, k.var: (0, k.extent - 1)}
    return ((simplify(c // b, known),), (simplify(c % b, known),)), k.var, (k,), (), None


def _check(data: Tensor, weight: Tensor, ch: _Channels) -> None:
    blocked = 1 if ch.in_block else 0
    rank = len(data.shape) - 2 - blocked
    if rank < 1 or len(weight.shape) != rank + 2:
        raise ExpressionError(
            f"conv: data {data.shape} (block {ch.in_block}) and weight {weight.shape} must have the same number of "
            "spatial dimensions, at least one"
        )
    if ch.groups < 1 or ch.inputs % ch.groups or ch.outputs % ch.groups:
        raise ExpressionError(
            f"conv: groups is {ch.groups}, but must divide in_channels {ch.inputs} and out_channels {ch.outputs}"
        )
    stored = physical_shape((1, ch.inputs, *(1,) * rank), ch.in_block)
    if data.shape[1] != stored[1] or (ch.in_block and data.shape[-1] != ch.in_block):
        raise ExpressionError(f"conv: data {data.shape} does not hold {ch.inputs} channels in blocks of {ch.in_block}")
    padded = -(-ch.outputs // ch.out_block) * ch.out_block if ch.out_block else ch.outputs
    if weight.shape[:2] != (padded, ch.group_inputs):
        raise ExpressionError(
            f"conv: weight {weight.shape} must begin with ({padded}, {ch.group_inputs}): output channels"
            f"{' padded to a multiple of out_block' if ch.out_block else ''}, input channels per group"
        )
