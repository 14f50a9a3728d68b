"""The Winograd stages are the convolution, exactly in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from workloads import conv_relu

from luthier import te
from luthier.errors import Error, ExpressionError
from luthier.te.evaluate import evaluate
from luthier.te.expr import Binary
from luthier.te.ops.winograd import SIZES, applies, tile_sizes, transforms, winograd
from luthier.te.traversal import walk


@pytest.mark.parametrize(
    "stride, taps, m", [(s, r, m) for s, sizes in SIZES.items() for r in sizes for m in tile_sizes(r, s)]
)
def test_one_dimensional_filtering(stride, taps, m):
    t = transforms(m, taps, stride)
    rng = np.random.default_rng(m)
    d, g = rng.standard_normal(stride * (m - 1) + taps), rng.standard_normal(taps)
    products = (np.array(t.filter) @ g) * (np.array(t.input) @ d)
    points = len(t.output[0])
    summed = [sum(products[t.place(i, phase)] for phase in range(stride) if i >= phase) for i in range(points)]
    y = np.array(t.output) @ summed
    np.testing.assert_allclose(y, [d[i : i + taps] @ g for i in range(0, stride * m, stride)], rtol=1e-9, atol=1e-9)


def test_f2_has_exact_matrices():
    t = transforms(2)
    d, g = [Fraction(n) for n in (3, -1, 4, 7)], [Fraction(n) for n in (2, 5, -6)]
    product = [
        sum(Fraction(a) * x for a, x in zip(f, g, strict=True))
        * sum(Fraction(b) * x for b, x in zip(i, d, strict=True))
        for f, i in zip(t.filter, t.input, strict=True)
    ]
    outputs = [sum(Fraction(a) * p for a, p in zip(row, product, strict=True)) for row in t.output]
    assert outputs == [sum(d[i + k] * g[k] for k in range(3)) for i in range(2)]


@pytest.mark.parametrize(("m", "operations"), [(2, 4), (4, 16), (6, 30)])
def test_rows_of_the_output_share_the_sums_of_opposite_points(m, operations):
    (columns,) = winograd(conv_relu(channels=16, outputs=16).stages[0], m).inputs()
    assert columns.name == "columns"
    values = {id(e): e for e in walk(columns.body) if isinstance(e, Binary) and e.dtype == "float32"}
    assert len(values) == operations


@pytest.mark.parametrize("m", [2, 3, 4, 6])
@pytest.mark.parametrize("size, pad", [((7, 9), 1), ((6, 8), 0), ((1, 1), 1), ((5, 4), 2)])
def test_stages_are_the_convolution(m, size, pad):
    workload = conv_relu(channels=32, size=size, outputs=16, pad=pad)
    conv, inputs = workload.stages[0], list(workload.inputs[:2])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays, dtype="float64")
    (found,) = evaluate(te.workload(winograd(conv, m), inputs), arrays)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < {2: 2e-6, 3: 4e-6, 4: 5e-6, 6: 5e-5}[m]


@pytest.mark.parametrize(
    "options, m",
    [
        ({"kernel": (5, 5), "pad": 2, "size": (9, 7)}, 2),
        ({"kernel": (5, 5), "pad": 2, "size": (9, 7)}, 4),
        ({"kernel": (5, 5), "pad": 1, "size": (5, 6)}, 4),
        ({"channels": 64, "groups": 2, "outputs": 96, "size": (6, 5)}, 4),
        ({"channels": 48, "groups": 3, "outputs": 48, "kernel": (5, 5), "pad": 2, "size": (4, 3)}, 2),
    ],
)
def test_other_filters_and_groups(options, m):
    workload = conv_relu(**{"channels": 32, "outputs": 16, **options})
    conv, inputs = workload.stages[0], list(workload.inputs[:2])
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays, dtype="float64")
    (found,) = evaluate(te.workload(winograd(conv, m), inputs), arrays)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 2e-5


@pytest.mark.parametrize("taps, m", [(taps, m) for taps in SIZES[2] for m in tile_sizes(taps, 2)])
@pytest.mark.parametrize(
    "options",
    [
        {"size": (13, 12)},
        {"size": (9, 16), "pad": 0, "channels": 20, "outputs": 24},
        {"size": (1, 1), "outputs": 16},
        {"size": (8, 7), "pad": 2, "batch": 2, "outputs": 16},
        {"size": (11, 9), "channels": 64, "outputs": 32, "groups": 2},
    ],
)
def test_stride_2_by_phases(options, taps, m):
    workload = conv_relu(**{"kernel": (taps, taps), "stride": 2, "pad": taps // 2, "channels": 32, **options})
    conv, inputs = workload.stages[0], list(workload.inputs[:2])
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays, dtype="float64")
    (found,) = evaluate(te.workload(winograd(conv, m), inputs), arrays)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


def test_phases_need_fewer_products():
    """Of the 3 even and 2 odd taps of 5 the odd ones need a point less: 11 products for 4 outputs, not 12 nor 20."""
    assert len(transforms(4, 5, 2).input) == 11
    assert len(transforms(5, 3, 2).input) == 11
    assert not any(any(row[1::2]) and any(row[::2]) for row in transforms(4, 5, 2).input)  # no row mixes the phases


def test_only_what_fits_is_rewritten():
    for options in (
        {"stride": 3},
        {"kernel": (7, 7)},
        {"kernel": (1, 1), "pad": 0, "stride": 2},
        {"kernel": (1, 1), "pad": 0},
        {"dilation": 2},
        {"groups": 2},
        {"plain": True, "channels": 3},
    ):
        conv = conv_relu(outputs=16, **options).stages[0]
        assert not applies(conv)
        with pytest.raises(ExpressionError, match=r"not a convolution over blocked .* 3x3 or 5x5, or of stride 2"):
            winograd(conv)
    with pytest.raises(ExpressionError, match="m is 5"):
        winograd(conv_relu(outputs=16).stages[0], 5)
    with pytest.raises(ExpressionError, match="m is 4; for 3 taps and stride 2 it must be one of 3, 5"):
        winograd(conv_relu(outputs=16, stride=2).stages[0], 4)


def test_exactness_is_part_of_what_is_computed_where_it_matters():
    fast, exact = (conv_relu(outputs=16, accuracy=a) for a in ("fast", "exact"))
    assert fast.key != exact.key
    assert "accuracy" not in fast.text and "'accuracy' = 'exact'" in exact.text
    fast, exact = (conv_relu(outputs=16, accuracy=a, stride=2) for a in ("fast", "exact"))
    assert fast.key != exact.key
    for options in ({"stride": 3}, {"kernel": (1, 1), "pad": 0}, {"dilation": 2}, {"plain": True, "channels": 3}):
        fast, exact = (conv_relu(outputs=16, accuracy=a, **options) for a in ("fast", "exact"))
        assert fast.key == exact.key
    with pytest.raises(Error, match="accuracy is 'more'"):
        conv_relu(accuracy="more")
