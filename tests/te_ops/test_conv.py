"""Convolution against a direct NumPy sum over taps, in every combination of layouts."""

import itertools

import numpy as np
import pytest
from operators import data, load, make, run, store

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.evaluate import evaluate
from luthier.te.ops.conv import conv, pad_weight
from luthier.te.ops.conv_transpose import conv_transpose
from luthier.te.ops.operand import Operand, physical_shape


def reference(x, w, strides, pads, dilations, groups):
    """Pad, then add up one shifted image per tap, in float64."""
    rank = x.ndim - 2
    n, channels = x.shape[:2]
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    out = [(padded.shape[2 + d] - (w.shape[2 + d] - 1) * dilations[d] - 1) // strides[d] + 1 for d in range(rank)]
    result = np.zeros((n, w.shape[0], *out))
    for taps in itertools.product(*map(range, w.shape[2:])):
        window = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(taps, dilations, out, strides, strict=True)
        )
        shifted = padded[(slice(None), slice(None), *window)]
        for g in range(groups):
            i, o = channels // groups, w.shape[0] // groups
            term = np.einsum(
                "ni...,oi->no...", shifted[:, g * i : (g + 1) * i], w[(slice(g * o, (g + 1) * o), slice(None), *taps)]
            )
            result[:, g * o : (g + 1) * o] += term
    return result


def check(x_shape, out_channels, kernel, *, strides=None, pads=None, dilations=None, groups=1, in_block=0, out_block=0):
    rank = len(kernel)
    strides, dilations, pads = strides or (1,) * rank, dilations or (1,) * rank, pads or (0,) * (2 * rank)
    x, w = data(*x_shape), data(out_channels, x_shape[1] // groups, *kernel, seed=1)
    stored_channels = -(-out_channels // out_block) * out_block if out_block else out_channels
    weight = np.zeros((stored_channels, *w.shape[1:]), np.float32)
    weight[:out_channels] = w
    px = te.placeholder(physical_shape(x.shape, in_block), name="x")
    pw = te.placeholder(weight.shape, name="w", constant=True)
    y = conv(
        px,
        pw,
        in_channels=x_shape[1],
        out_channels=out_channels,
        strides=strides,
        pads=pads,
        dilations=dilations,
        groups=groups,
        in_block=in_block,
        out_block=out_block,
    )
    expected = reference(x, w, strides, pads, dilations, groups)
    assert y.shape == physical_shape(expected.shape, out_block)
    (result,) = evaluate(te.workload(y, [px, pw]), [store(x, in_block), weight])
    np.testing.assert_allclose(load(result, expected.shape, out_block), expected, rtol=1e-4, atol=1e-4)
    return y


@pytest.mark.parametrize("in_block,out_block", [(0, 0), (0, 4), (4, 0), (4, 4), (7, 6), (8, 3)])
def test_layouts_with_tails(in_block, out_block):
    check((2, 7, 6, 5), 6, (3, 3), pads=(1, 1, 1, 1), in_block=in_block, out_block=out_block)


@pytest.mark.parametrize("in_block,out_block", [(0, 0), (4, 4), (8, 4), (16, 16), (3, 5)])
@pytest.mark.parametrize("groups", [2, 4])
def test_groups(groups, in_block, out_block):
    check((1, 16, 4, 5), 8, (3, 2), pads=(1, 0, 0, 1), groups=groups, in_block=in_block, out_block=out_block)


@pytest.mark.parametrize("in_block,out_block", [(0, 0), (4, 4), (4, 8), (6, 6), (12, 12)])
def test_groups_that_cut_blocks(in_block, out_block):
    check((1, 12, 3, 4), 12, (1, 3), pads=(0, 1, 0, 1), groups=2, in_block=in_block, out_block=out_block)


@pytest.mark.parametrize("block", [0, 4, 5, 10])
def test_depthwise(block):
    y = check((1, 10, 6, 7), 10, (3, 3), pads=(1, 1, 1, 1), strides=(2, 1), groups=10, in_block=block, out_block=block)
    assert y.tag == "depthwise_conv2d"
    assert [a.name for a in y.reduce_axes] == ["kh", "kw"]


def test_depthwise_with_multiplier_is_a_grouped_convolution():
    y = check((1, 4, 5, 5), 8, (3, 3), groups=4, in_block=4, out_block=4)
    assert y.tag == "conv2d"


@pytest.mark.parametrize("block", [0, 4])
@pytest.mark.parametrize(
    "kernel,strides,pads,dilations",
    [
        ((3, 3), (2, 3), (0, 1, 2, 0), (1, 1)),
        ((2, 3), (1, 1), (2, 1, 0, 3), (3, 2)),
        ((1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
        ((5, 4), (1, 2), (4, 3, 4, 3), (1, 1)),
    ],
)
def test_windows(kernel, strides, pads, dilations, block):
    check((1, 5, 9, 8), 4, kernel, strides=strides, pads=pads, dilations=dilations, in_block=block, out_block=block)


@pytest.mark.parametrize("block", [0, 4])
def test_one_and_three_dimensions(block):
    y = check((2, 5, 11), 6, (3,), pads=(2, 1), strides=(2,), in_block=block, out_block=block)
    assert y.tag == "conv1d"
    y = check((1, 5, 4, 3, 5), 3, (2, 3, 2), pads=(1, 0, 1, 0, 1, 1), in_block=block, out_block=block)
    assert y.tag == "conv3d"


@pytest.mark.parametrize("shape", [(0, 4, 5, 5), (1, 4, 2, 5)])
def test_empty_results(shape):
    check(shape, 4, (3, 3), in_block=4, out_block=4)


def body_of(**options):
    n = {"in_channels": 32, "out_channels": 32, "in_block": 16, "out_block": 16, **options}
    x = te.placeholder(physical_shape((1, n["in_channels"], 8, 8), n["in_block"]), name="x")
    rows = -(-n["out_channels"] // n["out_block"]) * n["out_block"]
    w = te.placeholder((rows, n["in_channels"] // n.get("groups", 1), 3, 3), name="w", constant=True)
    return conv(x, w, **n).body


def test_body_is_one_product_under_the_sum():
    body = body_of(pads=(1, 1, 1, 1))
    assert str(body.term) == "x[n, ic_o, h + kh - 1, w + kw - 1, ic_i] * w[oc_o * 16 + oc_i, ic_o * 16 + ic_i, kh, kw]"
    assert [a.name for a in body.axes] == ["ic_o", "kh", "kw", "ic_i"]
    assert str(body.where) == "h + kh - 1 >= 0 and h + kh - 1 < 8 and w + kw - 1 >= 0 and w + kw - 1 < 8"


def test_no_condition_where_no_tap_can_fail():
    assert body_of().where is None
    assert str(body_of(pads=(0, 1, 0, 0)).where) == "w + kw - 1 >= 0"
    assert body_of(strides=(2, 2), pads=(0, 0, 1, 1)).where is not None
    assert body_of(strides=(3, 3), pads=(0, 0, 0, 0)).where is None


def test_groups_of_whole_blocks_index_blocks():
    body = body_of(in_channels=64, out_channels=64, groups=2)
    assert str(body.term.a) == "x[n, oc_o // 2 * 2 + ic_o, h + kh, w + kw, ic_i]"


def test_tail_channels_are_not_part_of_the_sum():
    assert str(body_of(in_channels=40).where) == "ic_o * 16 + ic_i < 40"
    body = body_of(in_channels=5, out_channels=16)
    assert body.where is None
    assert [a.extent for a in body.axes] == [1, 3, 3, 5]


def test_attrs_describe_the_convolution():
    x, w = te.placeholder((1, 3, 9, 9)), te.placeholder((16, 3, 3, 3), constant=True)
    y = conv(x, w, in_channels=3, out_channels=10, strides=(2, 2), pads=(1, 1, 0, 0), out_block=16)
    assert dict(y.attrs) == {
        "kernel": (3, 3),
        "strides": (2, 2),
        "pads": (1, 1, 0, 0),
        "dilations": (1, 1),
        "groups": 1,
        "in_channels": 3,
        "out_channels": 10,
        "in_block": 0,
        "out_block": 16,
    }


def test_pad_weight_fills_with_zeros():
    w = data(5, 2, 1, 1)
    p = te.placeholder(w.shape, name="w")
    (result,) = evaluate(te.workload(pad_weight(Operand(p, w.shape), 4)), [w])
    assert result.shape == (8, 2, 1, 1)
    np.testing.assert_array_equal(result, np.concatenate([w, np.zeros((3, 2, 1, 1), np.float32)]))


@pytest.mark.parametrize(
    "x,w,options,message",
    [
        ((1, 6, 8, 8), (4, 6, 3), {}, "same number of spatial dimensions"),
        ((1, 6, 8, 8), (4, 6, 3, 3), {"groups": 4}, "groups is 4, but must divide"),
        ((1, 5, 8, 8), (4, 6, 3, 3), {}, "does not hold 6 channels"),
        ((1, 6, 8, 8), (4, 3, 3, 3), {}, r"weight \(4, 3, 3, 3\) must begin with \(4, 6\)"),
        ((1, 6, 8, 8), (4, 6, 3, 3), {"out_block": 16}, r"must begin with \(16, 6\)"),
        ((1, 6, 8, 8), (4, 6, 3, 3), {"strides": (0, 1)}, r"strides is \(0, 1\)"),
        ((1, 6, 8, 8), (4, 6, 3, 3), {"pads": (1, 1)}, "all begins, then all ends"),
    ],
)
def test_errors_say_what_does_not_fit(x, w, options, message):
    with pytest.raises(ExpressionError, match=message):
        conv(te.placeholder(x), te.placeholder(w), in_channels=6, out_channels=4, **options)


@pytest.mark.parametrize("in_block,out_block", [(0, 0), (4, 4), (6, 3)])
@pytest.mark.parametrize(
    "groups,strides,pads,dilations,kernel",
    [
        (1, (1, 1), (0, 0, 0, 0), (1, 1), (3, 2)),
        (1, (2, 3), (1, 0, 0, 1), (1, 1), (3, 3)),
        (2, (2, 1), (1, 1, 1, 1), (2, 1), (3, 4)),
        (6, (3, 2), (0, 2, 1, 0), (1, 3), (2, 2)),
    ],
)
def test_transposed_convolution_is_the_adjoint(groups, strides, pads, dilations, kernel, in_block, out_block):
    """<conv(u), x> = <u, conv_transpose(x)> for all u: each unit image u gives one element of the result."""
    x, w = data(1, 6, 3, 2), data(6, 12 // groups // 2, *kernel, seed=1)
    channels = w.shape[1] * groups
    sizes = [
        (x.shape[2 + d] - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1 - pads[d] - pads[2 + d] for d in (0, 1)
    ]
    unit = np.eye(channels * sizes[0] * sizes[1], dtype=np.float32).reshape(-1, channels, *sizes)
    images = reference(unit, w, strides, pads, dilations, groups)
    expected = (images * x).sum((1, 2, 3)).reshape(1, channels, *sizes)
    px, pw = make(x, in_block), make(w, name="w", constant=True)
    made = conv_transpose(
        px, pw, outputs=sizes, strides=strides, pads=pads, dilations=dilations, groups=groups, block=out_block
    )
    result = run(made, (px, x), (pw, w), shape=expected.shape, block=out_block)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
