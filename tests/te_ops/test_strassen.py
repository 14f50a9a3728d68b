"""Strassen's stages are the 1x1 convolution, exactly in exact arithmetic."""

import itertools

import numpy as np
import pytest
from workloads import conv_relu

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.evaluate import evaluate
from luthier.te.ops.strassen import FILTER, INPUT, OUTPUT, PRODUCTS, applies, strassen

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
def test_stages_are_the_convolution(options):
    workload = conv_relu(**{**POINT, **options})
    conv, inputs = workload.stages[0], list(workload.inputs[:2])
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-8, 9, p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays, dtype="float64")
    (found,) = evaluate(te.workload(strassen(conv), inputs), arrays)
    np.testing.assert_array_equal(found, expected)  # sums of small integers are exact


def test_rounding():
    workload = conv_relu(**{**POINT, "channels": 1024, "size": (3, 3)})
    conv, inputs = workload.stages[0], list(workload.inputs[:2])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays, dtype="float64")
    (found,) = evaluate(te.workload(strassen(conv), inputs), arrays)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 2e-6


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
    assert not applies(conv)
    with pytest.raises(ExpressionError, match=r"strassen: .* is not a 1x1 convolution without padding and groups"):
        strassen(conv)


def test_exactness_is_part_of_what_is_computed():
    fast, exact = (conv_relu(**POINT, accuracy=a) for a in ("fast", "exact"))
    assert fast.key != exact.key
