"""Strassen's stages are the 1x1 convolution, exactly in exact arithmetic."""

import itertools

import numpy as np
import pytest
from workloads import conv_relu

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.evaluate import evaluate
from luthier.te.ops.strassen import FILTER, INPUT, OUTPUT, PRODUCTS, levels_of, strassen

POINT = {"kernel": (1, 1), "pad": 0, "channels": 32, "outputs": 32}


def test_seven_products_are_the_product_of_two_by_two_matrices():
    """The coefficient of W[a][k] * X[j][b] in C[a][b] is 1 where k = j, and 0 in all other places."""
    quarters = list(itertools.product((0, 1), repeat=2))
    for (c, (a, b)), (w, (row, k)), (x, (j, column)) in itertools.product(*[list(enumerate(quarters))] * 3):
        coefficient = sum(OUTPUT[c][q] * FILTER[q][w] * INPUT[q][x] for q in range(PRODUCTS))
        assert coefficient == (row == a and column == b and k == j)


@pytest.mark.parametrize(
    "options",
    [
        {"size": (4, 6)},
        {"size": (3, 5), "outputs": 96},
        {"size": (1, 1)},
        {"size": (5, 3), "batch": 3, "channels": 64},
        {"size": (7, 8), "stride": 2},
        {"size": (5, 4), "block": 8, "channels": 48, "outputs": 16},
    ],
)
@pytest.mark.parametrize("levels", [1, 2])
def test_stages_are_the_convolution(options, levels):
    channels = {name: options.get(name, 32) * levels for name in ("channels", "outputs")}
    workload = conv_relu(**{**POINT, **options, **channels})
    conv, inputs = workload.stages[0], list(workload.inputs[:2])
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-8, 9, p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays, dtype="float64")
    (found,) = evaluate(te.workload(strassen(conv, levels), inputs), arrays)
    np.testing.assert_array_equal(found, expected)  # sums of small integers are exact


@pytest.mark.parametrize(("levels", "most"), [(1, 2e-6), (2, 4e-6)])
def test_rounding(levels, most):
    workload = conv_relu(**{**POINT, "channels": 1024, "outputs": 64, "size": (3, 3)})
    conv, inputs = workload.stages[0], list(workload.inputs[:2])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays, dtype="float64")
    (found,) = evaluate(te.workload(strassen(conv, levels), inputs), arrays)
    assert np.abs(found - expected).max() / np.abs(expected).max() < most


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 48},
        {"outputs": 16},
        {"channels": 40},
        {"kernel": (3, 3), "pad": 1},
        {"pad": 1},
        {"channels": 64, "outputs": 64, "groups": 2},
        {"channels": 3, "plain": True},
        {"block": 32, "size": (2, 2)},
    ],
)
def test_other_convolutions_are_refused(options):
    conv = conv_relu(**{**POINT, **options}).stages[0]
    assert levels_of(conv) == 0
    with pytest.raises(ExpressionError, match=r"strassen: .* has 0 levels, not 1; it must be a 1x1 convolution"):
        strassen(conv)


def test_two_levels_need_four_parts():
    conv = conv_relu(**{**POINT, "channels": 64, "outputs": 96}).stages[0]
    assert levels_of(conv) == 1
    with pytest.raises(ExpressionError, match=r"strassen: .* has 1 levels, not 2"):
        strassen(conv, 2)
    with pytest.raises(ExpressionError, match=r"strassen: .* has 1 levels, not 0"):
        strassen(conv, 0)


def test_exactness_is_part_of_what_is_computed():
    fast, exact = (conv_relu(**POINT, accuracy=a) for a in ("fast", "exact"))
    assert fast.key != exact.key
