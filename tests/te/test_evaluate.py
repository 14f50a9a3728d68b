"""The NumPy oracle, against NumPy written out by hand."""

import math

import numpy as np
import pytest

from luthier import te
from luthier.errors import InputError
from luthier.te import dtype as dt
from luthier.te import evaluate as evaluate_module
from luthier.te.evaluate import evaluate
from luthier.te.expr import INTRINSICS

RNG = np.random.default_rng(7)


def run(outputs, arrays, inputs=None, **options):
    return evaluate(te.workload(outputs, inputs), arrays, **options)


def uniform(shape, dtype="float32"):
    return RNG.uniform(-1, 1, shape).astype(dtype)


def map1(fn, values, dtype=None):
    """One elementwise computation over a vector."""
    values = np.asarray(values)
    x = te.placeholder(values.shape, dtype or values.dtype.name, "x")
    return run(te.compute(values.shape, lambda i: fn(x[i])), [values])[0]


# ---------------------------------------------------------------------------------------- indexing


def test_transpose_stride_and_constant_index():
    x = te.placeholder((3, 8, 5))
    a = uniform((3, 8, 5))
    y = te.compute((5, 4), lambda i, j: x[2, j * 2 + 1, i])
    np.testing.assert_array_equal(run(y, [a])[0], a[2, 1::2, :].T)


def test_reversed_diagonal_and_divided_indices():
    x = te.placeholder((8, 8))
    a = uniform((8, 8))
    i, j = np.ogrid[:8, :8]
    outputs = [
        te.compute((8, 8), lambda i, j: x[7 - i, j]),
        te.compute((8,), lambda i: x[i, i]),
        te.compute((8, 8), lambda i, j: x[(i * 8 + j) // 16, (i * 8 + j) % 8]),
        te.compute((8, 8), lambda i, j: x[i // 2, j % 3]),
        te.compute((8, 8), lambda i, j: x[j, 0] + x[0, i]),
    ]
    expected = [a[::-1], np.diag(a), a[(i * 8 + j) // 16, (i * 8 + j) % 8], a[i // 2, j % 3], a[j, 0] + a[0, i]]
    for got, want in zip(run(outputs, [a]), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_gather():
    x, at = te.placeholder((10, 3), name="x"), te.placeholder((4,), "int64", "at")
    a, index = uniform((10, 3)), np.array([9, 0, 3, 3])
    y = te.compute((4, 3), lambda i, j: x[at[i], j])
    np.testing.assert_array_equal(run(y, [a, index], [x, at])[0], a[index])


def test_scalars():
    x = te.placeholder((), name="x")
    y = te.compute((), lambda: x[()] * 2.0)
    (r,) = run(y, [np.array(3.0, "float32")])
    assert r.shape == () and r.dtype == np.float32 and r == 6.0


def test_a_value_that_is_constant_fills_the_shape():
    (r,) = run(te.compute((2, 3), lambda i, j: te.const(1.5)), [])
    np.testing.assert_array_equal(r, np.full((2, 3), 1.5, "float32"))


def test_stages_feed_each_other():
    x = te.placeholder((4,))
    y = te.compute((4,), lambda i: x[i] + 1.0)
    z = te.compute((4,), lambda i: y[i] * y[3 - i])
    a = uniform(4)
    got_z, got_y = run([z, y], [a])
    np.testing.assert_array_equal(got_y, a + 1)
    np.testing.assert_array_equal(got_z, (a + 1) * (a + 1)[::-1])


def test_out_of_range_reads():
    x = te.placeholder((4,), name="x")
    a = uniform(4)
    with pytest.raises(IndexError, match=r"x\[i \+ 1\]: index 0 is 4 .* outside of 0 \.\. 3"):
        run(te.compute((4,), lambda i: te.select(i < 4, x[i + 1], 0.0)), [a])
    table = te.placeholder((2,), "int64")
    with pytest.raises(IndexError, match="index 0 is -2"):
        run(te.compute((2,), lambda i: x[table[i]]), [a, np.array([1, -2])], [x, table])
    with pytest.raises(IndexError, match="-1"):
        run(te.compute((4,), lambda i: te.select(i >= 0, x[i - 1], 0.0)), [a])
    with pytest.raises(IndexError):
        k = te.reduce_axis(3)
        run(te.compute((4,), lambda i: te.sum(x[i + k], k, where=i + k < 5)), [a])


def test_unselected_reads_are_not_performed():
    x = te.placeholder((4,), name="x")
    a = uniform(4)
    padded = te.compute((8,), lambda i: te.select(te.all_of(i >= 2, i < 6), x[i - 2], -1.0))
    np.testing.assert_array_equal(run(padded, [a])[0], np.pad(a, 2, constant_values=-1))
    nested = te.compute((8,), lambda i: te.select(i < 2, 5.0, te.select(i < 6, x[i - 2], 7.0)))
    np.testing.assert_array_equal(run(nested, [a])[0], np.r_[5, 5, a, 7, 7].astype("float32"))
    other = te.compute((8,), lambda i: te.select(i < 2, 5.0, te.select(i >= 6, 7.0, x[i - 2])))
    np.testing.assert_array_equal(run(other, [a])[0], np.r_[5, 5, a, 7, 7].astype("float32"))
    k = te.reduce_axis(6, "k")
    tail = te.compute((2,), lambda i: te.sum(te.select(k < 1, 10.0, x[k - 1]), k, where=k < 5))
    np.testing.assert_allclose(run(tail, [a])[0], [10 + a.sum()] * 2, rtol=1e-6)


def test_unselected_reads_of_an_empty_tensor():
    x = te.placeholder((0,), name="x")
    y = te.compute((3,), lambda i: te.select(i < 0, x[i], 2.0))
    np.testing.assert_array_equal(run(y, [np.empty(0, "float32")])[0], [2, 2, 2])
    z = te.compute((2, 3), lambda i, j: te.select(i * j < 0, x[j], 2.0))
    np.testing.assert_array_equal(run(z, [np.empty(0, "float32")])[0], np.full((2, 3), 2))
    with pytest.raises(IndexError):
        run(te.compute((3,), lambda i: te.select(i < 3, x[i], 2.0)), [np.empty(0, "float32")])


# --------------------------------------------------------------------------------------- reductions


def conv(a, w, stride, pad, dilation=1):
    """Direct convolution with loops over the taps."""
    n, _, h, _ = a.shape
    o, _, kh, kw = w.shape
    padded = np.pad(a, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    size = (h + 2 * pad - dilation * (kh - 1) - 1) // stride + 1
    y = np.zeros((n, o, size, size), a.dtype)
    for i in range(kh):
        for j in range(kw):
            window = padded[:, :, i * dilation :, j * dilation :][:, :, ::stride, ::stride][:, :, :size, :size]
            y += np.einsum("nchw,oc->nohw", window, w[:, :, i, j])
    return y


@pytest.mark.parametrize(("stride", "pad", "dilation"), [(1, 0, 1), (1, 1, 1), (2, 1, 1), (2, 3, 2)])
def test_convolution(stride, pad, dilation):
    a, w = uniform((2, 3, 9, 9), "float64"), uniform((4, 3, 3, 3), "float64")
    expected = conv(a, w, stride, pad, dilation)
    x, f = te.placeholder(a.shape, "float64"), te.placeholder(w.shape, "float64")
    c, p, q = te.reduce_axis(3, "c"), te.reduce_axis(3, "p"), te.reduce_axis(3, "q")

    def body(n, o, i, j):
        h, v = i * stride + p.var * dilation - pad, j * stride + q.var * dilation - pad
        inside = te.all_of(h >= 0, h < 9, v >= 0, v < 9)
        return te.sum(x[n, c, h, v] * f[o, c, p, q], [c, p, q], where=inside)

    y = te.compute(expected.shape, body)
    np.testing.assert_allclose(run(y, [a, w], [x, f])[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("points", [1, 7, 64, 1 << 18])
def test_blocks_of_any_size_give_the_same_result(points, monkeypatch):
    monkeypatch.setattr(evaluate_module, "_BLOCK_POINTS", points)
    a, b = uniform((5, 6), "float64"), uniform((6, 4), "float64")
    x, w = te.placeholder(a.shape, "float64"), te.placeholder(b.shape, "float64")
    k = te.reduce_axis(6)
    c = te.compute((5, 4), lambda i, j: te.sum(x[i, k] * w[k, j], k))
    d = te.compute((5, 4), lambda i, j: c[4 - i, j] + 1.0)
    np.testing.assert_allclose(run(d, [a, b], [x, w])[0], (a @ b)[::-1] + 1, rtol=1e-12)


def test_combiners_and_their_identities():
    a = uniform((3, 5))
    x = te.placeholder(a.shape)

    def over(reduction, term=lambda v: v, where=None):
        k = te.reduce_axis(5, "k")
        return te.compute((3,), lambda i: reduction(term(x[i, k]), k, where=where and where(i, k.var)))

    positive = lambda v: v > 0.0  # noqa: E731
    got = run(
        [over(te.sum), over(te.prod), over(te.min), over(te.max), over(te.all, positive), over(te.any, positive)], [a]
    )
    wanted = [a.sum(1), a.prod(1), a.min(1), a.max(1), (a > 0).all(1), (a > 0).any(1)]
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-6)
    never = lambda i, k: k < i - 9  # noqa: E731
    got = run([over(te.sum, where=never), over(te.prod, where=never), over(te.min, where=never)], [a])
    np.testing.assert_array_equal(got, [[0] * 3, [1] * 3, [np.inf] * 3])
    triangle = lambda i, k: k <= i  # noqa: E731
    got = run([over(te.sum, where=triangle), over(te.max, where=triangle)], [a])
    np.testing.assert_allclose(got[0], np.tril(a).sum(1), rtol=1e-6)
    np.testing.assert_array_equal(got[1], [a[i, : i + 1].max() for i in range(3)])


@pytest.mark.parametrize("dtype", [*dt.FLOATS, *dt.SIGNED, *dt.UNSIGNED])
def test_empty_reductions_give_the_identity(dtype):
    x = te.placeholder((2, 0), dtype)
    empty = np.empty((2, 0), dt.to_numpy(dtype))
    outputs = []
    for reduction in (te.sum, te.prod, te.min, te.max):
        k = te.reduce_axis(0)
        outputs.append(te.compute((2,), lambda i, r=reduction, k=k: r(x[i, k], k)))
    total, product, least, greatest = (r.astype("float64") for r in run(outputs, [empty]))
    np.testing.assert_array_equal([total, product], [[0, 0], [1, 1]])
    limits = (-np.inf, np.inf) if dt.is_float(dtype) else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    np.testing.assert_array_equal(greatest, np.full(2, limits[0], "float64"))
    np.testing.assert_array_equal(least, np.full(2, limits[1], "float64"))


def test_a_term_that_does_not_depend_on_the_axis_counts_every_time():
    k, r = te.reduce_axis(7), te.reduce_axis(3)
    x = te.placeholder((4,))
    a = uniform(4)
    y = te.compute((4,), lambda i: te.sum(x[i], [k, r]))
    np.testing.assert_allclose(run(y, [a])[0], a * 21, rtol=1e-6)
    z = te.compute((4,), lambda i: te.sum(x[i], [k, r], where=k.var < 2))
    np.testing.assert_allclose(run(z, [a])[0], a * 6, rtol=1e-6)


def test_empty_shapes():
    x = te.placeholder((0, 3))
    k = te.reduce_axis(3)
    y = te.compute((0,), lambda i: te.sum(x[i, k], k))
    assert run(y, [np.empty((0, 3), "float32")])[0].shape == (0,)


def test_large_domains_stay_quick():
    n = 1 << 22
    x = te.placeholder((n,))
    k = te.reduce_axis(n)
    a = np.ones(n, "float32")
    assert run(te.compute((), lambda: te.sum(x[k], k)), [a])[0] == n
    (y,) = run(te.compute((n,), lambda i: x[i] * 2.0), [a])
    assert y[0] == y[-1] == 2.0


# --------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("fn", sorted(INTRINSICS))
def test_intrinsics(fn, dtype):
    values = np.array([-2.5, -1.5, -0.75, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 1.5, 2.5], dt.to_numpy(dtype))
    outside = {"log": values <= 0, "sqrt": values < 0, "acosh": values < 1}
    outside |= dict.fromkeys(("asin", "acos", "atanh"), np.abs(values.astype("float64")) >= 1)
    values = values[~outside.get(fn, np.zeros(len(values), bool))]
    reference = {
        "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
        "round": lambda v: float(round(v)),  # halves to even, as Python does
        "abs": abs,
    }
    reference = reference.get(fn) or getattr(math, fn)
    got = map1(lambda x: te.call(fn, x), values, dtype)
    want = np.array([reference(float(v)) for v in values])
    assert got.dtype == (np.bool_ if fn in ("isnan", "isinf") else dt.to_numpy(dtype))
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-6, "float64": 1e-14}[dtype]
    np.testing.assert_allclose(got.astype("float64"), want.astype("float64"), rtol=tolerance, atol=tolerance)


def test_special_values():
    values = np.array([np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30], "float32")
    np.testing.assert_array_equal(map1(lambda x: te.call("isnan", x), values), np.isnan(values))
    np.testing.assert_array_equal(map1(lambda x: te.call("isinf", x), values), np.isinf(values))
    np.testing.assert_array_equal(map1(lambda x: te.call("sigmoid", x), values), [np.nan, 1, 0, 0.5, 1, 0])
    np.testing.assert_array_equal(map1(lambda x: te.maximum(x, 0.0), values)[[0, 2]], [np.nan, 0])
    np.testing.assert_array_equal(map1(lambda x: te.maximum(0.0, x), values)[[0, 2]], [0, 0])
    np.testing.assert_array_equal(map1(lambda x: te.minimum(x, 0.0), values)[:3], [np.nan, 0, -np.inf])


def test_reductions_pass_over_nan_as_the_definition_says():
    x = te.placeholder((3,))
    k = te.reduce_axis(3)
    a = np.array([1, np.nan, 3], "float32")
    least, greatest = te.compute((), lambda: te.min(x[k], k)), te.compute((), lambda: te.max(x[k], k))
    assert run([least, greatest], [a]) == [1, 3]


@pytest.mark.parametrize("dtype", [*dt.SIGNED, *dt.UNSIGNED])
def test_integers_wrap_and_round_down(dtype):
    info = np.iinfo(dtype)
    values = np.array([info.min, info.min + 1, 0, 1, 7, info.max - 1, info.max], dtype)

    def wrapped(v):
        return np.array([(int(x) - info.min) % (1 << info.bits) + info.min for x in v], dtype)

    plain = [int(v) for v in values]
    np.testing.assert_array_equal(map1(lambda x: x + 1, values), wrapped([v + 1 for v in plain]))
    np.testing.assert_array_equal(map1(lambda x: x * 3 - x, values), wrapped([v * 2 for v in plain]))
    np.testing.assert_array_equal(map1(lambda x: x // 4, values), [v // 4 for v in plain])
    np.testing.assert_array_equal(map1(lambda x: x % 4, values), [v % 4 for v in plain])
    x = te.placeholder(values.shape, dtype)
    k = te.reduce_axis(len(values))
    total, product = te.compute((), lambda: te.sum(x[k], k)), te.compute((), lambda: te.prod(x[k] + 1, k))
    got = run([total, product], [values])
    assert got[0] == wrapped([sum(plain)])[0] and got[0].dtype == values.dtype
    assert got[1] == 0


def test_division_of_negative_numbers():
    values = np.array([-7, -1, 0, 1, 7], "int32")
    np.testing.assert_array_equal(map1(lambda x: x // 3, values), [-3, -1, 0, 0, 2])
    np.testing.assert_array_equal(map1(lambda x: x % 3, values), [2, 2, 0, 1, 1])
    np.testing.assert_array_equal(map1(lambda x: x // -3, values), [2, 0, 0, -1, -3])
    np.testing.assert_array_equal(map1(lambda x: x % -3, values), [-1, -1, 0, -2, -2])


def test_conversions():
    floats = np.array([-2.7, -0.5, 0.0, 0.5, 2.7], "float32")
    np.testing.assert_array_equal(map1(lambda x: te.cast(x, "int32"), floats), [-2, 0, 0, 0, 2])
    np.testing.assert_array_equal(map1(lambda x: te.cast(x, "bool"), floats), floats != 0)
    np.testing.assert_array_equal(map1(lambda x: te.cast(x > 0.0, "float32"), floats), (floats > 0).astype("float32"))
    ints = np.array([-129, -1, 200, 300], "int32")
    np.testing.assert_array_equal(map1(lambda x: te.cast(x, "int8"), ints), ints.astype("int8"))
    np.testing.assert_array_equal(map1(lambda x: te.cast(x, "uint8"), ints), ints.astype("uint8"))
    np.testing.assert_array_equal(map1(lambda x: te.cast(x, "float16"), floats), floats.astype("float16"))
    narrow = map1(lambda x: te.cast(te.cast(x, "bfloat16"), "float32"), np.array([1 + 2**-9], "float32"))
    np.testing.assert_array_equal(narrow, [1])


def test_logic():
    values = np.array([1, 2, 3, 4], "int64")
    got = map1(lambda x: te.any_of(te.all_of(x > 1, x < 3), te.logical_not(te.not_equal(x, 4))), values)
    np.testing.assert_array_equal(got, [False, True, False, True])
    np.testing.assert_array_equal(map1(lambda x: te.equal(x, 3), values), values == 3)


# ------------------------------------------------------------------------------------------- options


def test_double_precision_throughout():
    a = uniform(1000)
    x = te.placeholder(a.shape)
    k = te.reduce_axis(1000)
    body = te.compute((), lambda: te.sum(te.call("exp", te.cast(te.cast(x[k], "float16"), "float32")) * 0.1, k))
    (r,) = run(body, [a], dtype="float64")
    assert r.dtype == np.float64
    tenth = float(np.float32(0.1))  # a constant keeps the value that its dtype gave it
    assert abs(r - math.fsum(math.exp(float(v)) * tenth for v in a)) < 1e-10
    (same,) = run(body, [a.astype("float64")], dtype="float64")
    assert same == r


def test_integers_keep_their_type_in_double_precision():
    values = np.array([127, 1], "int8")
    x = te.placeholder((2,), "int8")
    (r,) = run(te.compute((2,), lambda i: x[i] + 1), [values], dtype="float64")
    np.testing.assert_array_equal(r, np.array([-128, 2], "int8"))


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ([], {}, "0 inputs for a workload of 1"),
        ([np.zeros(3, "float32")], {}, r"input x has shape \(3,\); it must be \(4,\)"),
        ([np.zeros(4, "float64")], {}, "input x is float64; it must be float32"),
        ([np.zeros(4, "int32")], {"dtype": "float64"}, "input x is int32"),
        ([np.zeros(4, "float32")], {"dtype": "float16"}, "'float16' is not supported"),
    ],
)
def test_wrong_inputs(arrays, options, message):
    x = te.placeholder((4,), name="x")
    with pytest.raises(InputError, match=message):
        run(te.compute((4,), lambda i: x[i] * 2.0), arrays, **options)
