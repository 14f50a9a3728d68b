"""Workloads for tests: small, with odd sizes and tails."""

from luthier import te
from luthier.te.ops.conv import conv, pad_weight
from luthier.te.ops.operand import Operand
from luthier.te.ops.pool import avg_pool


def matmul(m=8, n=12, k=6, constant=False):
    a = te.placeholder((m, k), name="A")
    b = te.placeholder((k, n), name="B", constant=constant)
    r = te.reduce_axis(k, "k")
    return te.workload(te.compute((m, n), lambda i, j: te.sum(a[i, r] * b[r, j], r), name="C", tag="matmul"), [a, b])


def conv_relu(
    channels=16,
    size=(9, 11),
    outputs=32,
    kernel=(3, 3),
    stride=1,
    pad=1,
    groups=1,
    dilation=1,
    block=16,
    out_block=None,
    plain=False,
    residual=False,
    accuracy="fast",
    batch=1,
    prologue=False,
):
    """Convolution, bias, ReLU (and a residual add) in a channel-blocked layout; before it a scale-shift and a ReLU."""
    h, w = size
    out_block = out_block or block
    shape = (batch, channels, h, w) if plain else (batch, -(-channels // block), h, w, block)
    x = te.placeholder(shape, name="x")
    padded = -(-outputs // out_block) * out_block
    weight = te.placeholder((padded, channels // groups, *kernel), name="w", constant=True)
    bias = te.placeholder((padded // out_block, out_block), name="b", constant=True)
    inputs = [x, weight, bias]
    data = x
    if prologue:
        scale, shift = (te.placeholder((shape[1], block), name=name, constant=True) for name in ("scale", "shift"))
        inputs += [scale, shift]
        scaled = te.compute(shape, lambda n, o, i, j, c: x[n, o, i, j, c] * scale[o, c] + shift[o, c], name="scaled")
        data = te.compute(shape, lambda *i: te.maximum(scaled[i], 0.0), name="positive")
    y = conv(
        data,
        weight,
        in_channels=channels,
        out_channels=outputs,
        strides=(stride, stride),
        pads=(pad, pad, pad, pad),
        dilations=(dilation, dilation),
        groups=groups,
        in_block=0 if plain else block,
        out_block=out_block,
        accuracy=accuracy,
    )
    skip = te.placeholder(y.shape, name="r")

    def result(n, o, i, j, c):
        total = y[n, o, i, j, c] + bias[o, c]
        return te.maximum(total + skip[n, o, i, j, c] if residual else total, 0.0)

    return te.workload(te.compute(y.shape, result, name="out"), [*inputs, skip] if residual else inputs)


def conv_nd(
    data, weight, channels, outputs, pad=0, stride=1, dilation=1, groups=1, block=16, out_block=None, constant=True
):
    """Convolution and ReLU over images of any rank in a channel-blocked layout.

    data  images and sizes of their dimensions; weight  sizes of the filter's dimensions; block  0: plain data
    """
    out_block = out_block or block
    batch, *size = data
    rank = len(size)
    shape = (batch, -(-channels // block), *size, block) if block else (batch, channels, *size)
    x = te.placeholder(shape, name="x")
    padded = -(-outputs // out_block) * out_block
    w = te.placeholder((padded if constant else outputs, channels // groups, *weight), name="w", constant=constant)
    y = conv(
        x,
        w if constant else pad_weight(w, out_block),
        in_channels=channels,
        out_channels=outputs,
        strides=(stride,) * rank,
        pads=(pad,) * (2 * rank),
        dilations=(dilation,) * rank,
        groups=groups,
        in_block=block,
        out_block=out_block,
    )
    return te.workload(te.compute(y.shape, lambda *i: te.maximum(y[i], 0.0), name="out"), [x, w])


def pool_nd(data, kernel, channels=32, pad=1, stride=2, block=16):
    """Average pooling of blocked images of any rank; arguments as for :func:`conv_nd`."""
    batch, *size = data
    x = te.placeholder((batch, channels // block, *size, block), name="x")
    rank = len(size)
    operand = Operand(x, (batch, channels, *size), block)
    return te.workload(avg_pool(operand, kernel, (stride,) * rank, (pad,) * (2 * rank), block=block), [x])


def softmax(rows=3, columns=37):
    x = te.placeholder((rows, columns), name="x")
    k1, k2 = te.reduce_axis(columns, "k1"), te.reduce_axis(columns, "k2")
    top = te.compute((rows,), lambda i: te.max(x[i, k1], k1), name="top")
    power = te.compute((rows, columns), lambda i, j: te.call("exp", x[i, j] - top[i]), name="power")
    total = te.compute((rows,), lambda i: te.sum(power[i, k2], k2), name="total")
    return te.workload(te.compute((rows, columns), lambda i, j: power[i, j] / total[i], name="softmax"))
