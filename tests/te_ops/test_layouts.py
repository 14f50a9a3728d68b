"""Every operator that takes any layout: blocked operands and results give what plain ones give, without reading tail
lanes.

The plain results themselves are checked against NumPy here, and against the ONNX standard's cases in tests/graph.
"""

import numpy as np
import pytest
from operators import data, make, run

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.ops import dense, elementwise, indexing, layout, normalization, reduce, resize

BLOCKS = [0, 4, 6]
SHAPE = (2, 6, 3, 4)


def each(fn, expected, *arrays, rtol=1e-5, blocks=BLOCKS):
    """Run ``fn(*operands, block)`` for all pairs of layouts of the operands and of the result."""
    for source in blocks:
        for target in blocks:
            xs = [make(a, source if a.ndim >= 2 else 0, f"x{i}") for i, a in enumerate(arrays)]
            result = run(fn(*xs, target), *zip(xs, arrays, strict=True), shape=expected.shape, block=target)
            np.testing.assert_allclose(result, expected, rtol=rtol, atol=1e-6, err_msg=f"{source} -> {target}")
            assert result.dtype == expected.dtype


def test_layout_convert():
    a = data(*SHAPE)
    each(lambda x, b: layout.layout_convert(x, b), a, a)
    each(lambda x, b: layout.layout_convert(x, b), data(2, 6), data(2, 6))


def test_layout_convert_zeroes_the_tail():
    a = data(1, 3, 2, 2)
    x = make(a)
    result = run(layout.layout_convert(x, 4), (x, a))
    np.testing.assert_array_equal(result[..., 3], 0)


def test_same_layout_is_read_at_the_loop_variables():
    x, y = make(data(*SHAPE), 4, "x"), make(data(*SHAPE), 4, "y")
    assert str(elementwise.binary("Add", x, y).body) == "x[n, c_o, h, w, c_i] + y[n, c_o, h, w, c_i]"


def test_transpose_and_reshape():
    a = data(*SHAPE)
    each(lambda x, b: layout.transpose(x, (2, 1, 3, 0), block=b), a.transpose(2, 1, 3, 0), a)
    for shape in [(6, 2, 12), (2, 3, 2, 12), (1, 144), (2, 6, 1, 3, 4), (4, 36)]:
        each(lambda x, b, s=shape: layout.reshape(x, s, block=b), a.reshape(shape), a)


def test_reshape_of_a_suffix_divides_only_there():
    x = make(data(2, 3, 4, 5))
    assert str(layout.reshape(x, (2, 3, 20)).body) == "x[n, c, w // 5, w % 5]"
    assert str(layout.reshape(x, (2, 3, 1, 4, 5)).body) == "x[n, c, h, w]"


def test_reshape_keeps_the_number_of_elements():
    with pytest.raises(ExpressionError, match=r"\(2, 3\) has 6 elements, but the shape \(4, 2\) has 8"):
        layout.reshape(te.placeholder((2, 3)), (4, 2))


def test_tile_expand_shuffle():
    a = data(2, 6, 1, 4)
    each(lambda x, b: layout.tile(x, (1, 2, 3, 1), block=b), np.tile(a, (1, 2, 3, 1)), a)
    each(lambda x, b: layout.expand(x, SHAPE, block=b), np.broadcast_to(a, SHAPE), a)
    shuffled = a.reshape(2, 3, 2, 1, 4).swapaxes(1, 2).reshape(a.shape)
    each(lambda x, b: layout.channel_shuffle(x, 3, block=b), shuffled, a)


def test_depth_and_space_are_inverse():
    a = data(1, 8, 2, 3)
    for mode in ("DCR", "CRD"):
        x = make(a)
        wide = run(layout.depth_to_space(x, 2, mode), (x, a))
        assert wide.shape == (1, 2, 4, 6)
        each(lambda x, b, m=mode: layout.space_to_depth(x, 2, m, block=b), a, wide)


def test_slice_concat_split_pad():
    a, c = data(*SHAPE), data(2, 5, 3, 4, seed=1)
    each(lambda x, b: indexing.strided_slice(x, (1, 3), (4, 3), (-2, -1), (2, 4), block=b), a[:, 4:0:-2, :, ::-1], a)
    each(lambda x, y, b: indexing.concat([x, y, x], 1, block=b), np.concatenate([a, c, a], 1), a, c)
    each(lambda x, y, b: indexing.concat([x, x], 2, block=b), np.concatenate([a, a], 2), a, c)
    for part, begin in ((0, 0), (1, 2)):
        each(
            lambda x, b, p=part: indexing.split(x, 1, (2, 4), blocks=[b, b])[p],
            a[:, begin : begin + 2 + 2 * part],
            a,
        )
    widths = [(0, 0), (1, 2), (2, 0), (1, 1)]
    pads = (0, 1, 2, 1, 0, 2, 0, 1)
    for mode in ("edge", "reflect", "wrap"):
        each(lambda x, b, m=mode: indexing.pad(x, pads, m, block=b), np.pad(a, widths, mode=mode), a)
    each(lambda x, b: indexing.pad(x, pads, value=2.5, block=b), np.pad(a, widths, constant_values=2.5), a)
    each(
        lambda x, b: indexing.pad(x, (0, -1, 0, 1, 0, -2, 0, -2), block=b),
        np.pad(a[:, 1:4, :, :2], widths[:1] * 3 + [(1, 0)]),
        a,
    )


def test_slice_checks_its_range():
    with pytest.raises(ExpressionError, match=r"elements 1\.\.5 along axis 0 are outside of its 4 elements"):
        indexing.strided_slice(te.placeholder((4,)), (0,), (1,), (2,), (3,))


def test_concat_with_empty_parts_and_alone():
    a, e = data(2, 3), data(2, 0)
    x, y = make(a), make(e, name="e")
    np.testing.assert_array_equal(run(indexing.concat([y, x, y], 1), (x, a)), a)
    with pytest.raises(ExpressionError, match="differ outside of axis 0"):
        indexing.concat([x, y], 0)


def test_gather():
    a, at = data(*SHAPE), np.array([[2, -1], [0, -3]], np.int32)
    for axis in (0, 2, 3):
        if axis:
            x, i = make(a, 4), make(at, name="i")
            expected = np.take(a, at, axis)
            np.testing.assert_array_equal(run(indexing.gather(x, i, axis), (x, a), (i, at)), expected)
    at = np.array([5, -6, 0])
    x, i = make(a, 4), make(at, name="i")
    result = run(indexing.gather(x, i, 1, block=4), (x, a), (i, at), shape=(2, 3, 3, 4), block=4)
    np.testing.assert_array_equal(result, a[:, at])


@pytest.mark.parametrize("axes", [(1,), (2, 3), (0, 1), (3,), (1, 2, 3)])
@pytest.mark.parametrize(
    "op,fn",
    [
        ("ReduceSum", np.sum),
        ("ReduceMean", np.mean),
        ("ReduceMax", np.max),
        ("ReduceMin", np.min),
        ("ReduceProd", np.prod),
        ("ReduceL2", lambda a, x, keepdims: np.sqrt((a * a).sum(x, keepdims=keepdims))),
        ("ReduceLogSumExp", lambda a, x, keepdims: np.log(np.exp(a).sum(x, keepdims=keepdims))),
    ],
)
def test_reductions(op, fn, axes):
    a = data(*SHAPE)
    each(lambda x, b: reduce.reduce_op(op, x, axes, block=b), fn(a, axes, keepdims=True), a, rtol=1e-4)
    expected = fn(a, axes, keepdims=False)
    for block in BLOCKS:
        x = make(a, block)
        result = run(reduce.reduce_op(op, x, axes, keepdims=False, block=0), (x, a))
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


def test_log_sum_exp_does_not_overflow():
    a = np.array([[1000.0, 1000.0], [-np.inf, -np.inf]], np.float32)
    x = make(a)
    result = run(reduce.reduce_op("ReduceLogSumExp", x, (1,), keepdims=False), (x, a))
    np.testing.assert_allclose(result, [1000 + np.log(2), -np.inf])


def test_reduction_of_nothing():
    a = data(2, 0)
    x = make(a)
    np.testing.assert_array_equal(run(reduce.reduce_op("ReduceSum", x, (1,), keepdims=False), (x, a)), [0, 0])
    np.testing.assert_array_equal(run(reduce.reduce_op("ReduceProd", x, (1,), keepdims=False), (x, a)), [1, 1])
    with pytest.raises(ExpressionError, match="ReduceMedian is unknown; use one of ReduceSum"):
        reduce.reduce_op("ReduceMedian", x, (1,))


@pytest.mark.parametrize("axis", [1, 2])
def test_arg_reductions_take_the_first_or_last(axis):
    a = data(*SHAPE, dtype="int32")
    for op, fn in (("ArgMax", np.argmax), ("ArgMin", np.argmin)):
        each(lambda x, b, o=op: reduce.arg_reduce(o, x, axis, block=b), fn(a, axis, keepdims=True), a)
        size = a.shape[axis]
        last = size - 1 - fn(np.flip(a, axis), axis, keepdims=True)
        each(lambda x, b, o=op: reduce.arg_reduce(o, x, axis, last=True, block=b), last, a)


def softmax(a, axes):
    e = np.exp(a - a.max(axes, keepdims=True))
    return e / e.sum(axes, keepdims=True)


@pytest.mark.parametrize("axes", [(1,), (3,), (1, 2, 3)])
def test_softmax(axes):
    a = data(*SHAPE)
    each(lambda x, b: normalization.softmax(x, axes, block=b), softmax(a, axes), a)
    each(lambda x, b: normalization.log_softmax(x, axes, block=b), np.log(softmax(a, axes)), a)
    flat = a.reshape(*a.shape[: axes[0]], -1, *a.shape[axes[-1] + 1 :])
    top = np.arange(flat.shape[axes[0]]).reshape(-1, *(1,) * (flat.ndim - axes[0] - 1)) == flat.argmax(
        axes[0], keepdims=True
    )
    each(lambda x, b: normalization.hardmax(x, axes, block=b), top.astype(np.float32).reshape(a.shape), a)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("beta", [0.75, 0.5, 0.6])
def test_lrn(size, beta):
    a = data(*SHAPE)
    squares = np.zeros_like(a)
    for c in range(6):
        squares[:, c] = (a[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1] ** 2).sum(1)
    expected = a / (1.5 + 0.1 / size * squares) ** beta
    each(lambda x, b: normalization.lrn(x, size, 0.1, beta, 1.5, block=b), expected.astype(np.float32), a)


def test_normalizations():
    a, scale, bias = data(*SHAPE), data(1, 6, 1, 1, seed=1), data(1, 6, 1, 1, seed=2)
    each(
        lambda x, s, t, b: normalization.layer_norm(x, (2, 3), s, t, epsilon=1e-3, block=b),
        (a - a.mean((2, 3), keepdims=True)) / np.sqrt(a.var((2, 3), keepdims=True) + 1e-3) * scale + bias,
        a,
        scale,
        bias,
        rtol=1e-4,
    )
    each(
        lambda x, s, t, b: normalization.layer_norm(x, (1, 2, 3), s, None, epsilon=1e-3, block=b),
        (a - a.mean((1, 2, 3), keepdims=True)) / np.sqrt(a.var((1, 2, 3), keepdims=True) + 1e-3) * scale,
        a,
        scale,
        bias,
        rtol=1e-4,
    )
    grouped = a.reshape(2, 3, -1)
    normal = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 1e-3)
    each(
        lambda x, s, t, b: normalization.group_norm(x, 3, s, t, epsilon=1e-3, block=b),
        normal.reshape(a.shape) * scale + bias,
        a,
        scale,
        bias,
        rtol=1e-4,
    )
    each(
        lambda x, s, t, b: normalization.rms_norm(x, (1,), s, epsilon=1e-3, block=b),
        a / np.sqrt((a * a).mean(1, keepdims=True) + 1e-3) * scale,
        a,
        scale,
        bias,
    )
    each(
        lambda x, s, t, b: normalization.lp_normalize(x, 1, 2, block=b),
        a / np.sqrt((a * a).sum(1, keepdims=True)),
        a,
        scale,
        bias,
    )


def test_resize_in_any_layout():
    a = data(1, 6, 3, 4)
    each(
        lambda x, b: resize.resize(x, (1, 6, 6, 12), (1, 1, 2, 3), coordinates="asymmetric", nearest="floor", block=b),
        a.repeat(2, 2).repeat(3, 3),
        a,
    )
    shape = (1, 6, 5, 7)
    x, y = make(a), make(a, 4)
    for mode in ("nearest", "linear", "cubic"):
        plain = run(resize.resize(x, shape, (1, 1, 5 / 3, 7 / 4), mode=mode), (x, a))
        blocked = run(resize.resize(y, shape, (1, 1, 5 / 3, 7 / 4), mode=mode, block=4), (y, a), shape=shape, block=4)
        np.testing.assert_array_equal(plain, blocked)
    with pytest.raises(ExpressionError, match="mode is 'lanczos', but must be one of nearest, linear, cubic"):
        resize.resize(x, shape, (1, 1, 1, 1), mode="lanczos")


def test_broadcasting_between_layouts():
    a, row, channel, number = data(*SHAPE), data(4, seed=1), data(1, 6, 1, 1, seed=2), data(1, 1, 1, 1, seed=3)
    each(lambda x, y, b: elementwise.binary("Mul", x, y, block=b), a * row, a, row)
    each(lambda x, y, b: elementwise.binary("Sub", y, x, block=b), channel - a, a, channel)
    each(lambda x, y, b: elementwise.binary("Max", x, y, block=b), np.maximum(a, number), a, number)
    x, y = make(a, 4), make(channel, 0, "y")
    result = run(elementwise.binary("Add", x, y), (x, a), (y, channel), shape=SHAPE, block=4)
    np.testing.assert_array_equal(result, a + channel)
    with pytest.raises(ExpressionError, match="do not broadcast"):
        elementwise.binary("Add", make(a), make(data(5), name="y"))


@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("batch_a,batch_b", [((), ()), ((2, 3), (2, 3)), ((1, 3), (2, 1)), ((), (4,))])
def test_matmul(trans_a, trans_b, batch_a, batch_b):
    a, b = data(*batch_a, 5, 3), data(*batch_b, 3, 7, seed=1)
    left, right = (np.ascontiguousarray(m.swapaxes(-1, -2)) if t else m for m, t in ((a, trans_a), (b, trans_b)))
    x, y = make(left), make(right, name="y")
    made = dense.matmul(x.tensor, y.tensor, trans_a=trans_a, trans_b=trans_b)
    np.testing.assert_allclose(run(made, (x, left), (y, right)), a @ b, rtol=1e-5, atol=1e-5)
    assert made.tag == "matmul"
    assert (made.attrs["m"], made.attrs["n"], made.attrs["k"]) == (5, 7, 3)


@pytest.mark.parametrize("a,b", [((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)), ((3,), (2, 3, 4)), ((2, 4, 3), (3,))])
def test_matmul_of_vectors(a, b):
    left, right = data(*a), data(*b, seed=1)
    x, y = make(left), make(right, name="y")
    np.testing.assert_allclose(
        run(dense.matmul_any(x.tensor, y.tensor), (x, left), (y, right)), left @ right, rtol=1e-5
    )


def test_gemm_scales_in_stages_of_their_own():
    a, b, c = data(2, 3), data(3, 4, seed=1), data(4, seed=2)
    x, y, z = make(a), make(b, name="y"), make(c, name="z")
    made = dense.gemm(x.tensor, y.tensor, z, alpha=0.5, beta=2.0)
    np.testing.assert_allclose(run(made, (x, a), (y, b), (z, c)), 0.5 * a @ b + 2 * c, rtol=1e-5, atol=1e-6)
    assert [s.name for s in te.workload(made).stages] == ["gemm", "alpha", "bias"]
    assert [s.name for s in te.workload(dense.gemm(x.tensor, y.tensor)).stages] == ["gemm"]


def test_matmul_says_what_does_not_fit():
    with pytest.raises(ExpressionError, match=r"a \(2, 3\) has 3 columns, but b \(4, 5\) has 4 rows"):
        dense.matmul(te.placeholder((2, 3)), te.placeholder((4, 5)))
    with pytest.raises(ExpressionError, match="at least two dimensions"):
        dense.matmul(te.placeholder((3,)), te.placeholder((3, 5)))


def test_einsum():
    a, b = data(2, 3, 4), data(2, 4, 5, seed=1)
    x, y = make(a), make(b, name="y")
    result = run(dense.einsum(["bij", "bjk"], "bik", [x, y]), (x, a), (y, b))
    np.testing.assert_allclose(result, a @ b, rtol=1e-5, atol=1e-5)
    with pytest.raises(ExpressionError, match="'j' stands for 4 and 2"):
        dense.einsum(["bij", "jik"], "bk", [x, y])
