"""A sum in blocks is the sum."""

import numpy as np
import pytest
from workloads import conv_relu, matmul

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.evaluate import evaluate
from luthier.te.ops.blocked_sum import blocked_sum

SUMS = {
    "matmul": matmul(5, 7, 12).stages[0],
    "conv, padding": conv_relu(channels=64, outputs=16, size=(4, 5)).stages[0],
    "conv, channel tail": conv_relu(channels=50, outputs=16, size=(1, 3)).stages[0],
}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_values(name, steps):
    tensor = SUMS[name]
    inputs = list(tensor.inputs())
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(tensor, inputs), arrays)
    (found,) = evaluate(te.workload(blocked_sum(tensor, steps), inputs), arrays)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_all_in_one_block_is_a_sum_of_one():
    (total,) = blocked_sum(SUMS["matmul"], 12).inputs()
    (partial,) = total.inputs()
    assert partial.shape == (1, 5, 7)


@pytest.mark.parametrize("steps", [0, -2, 5])
def test_blocks_must_divide_the_sum(steps):
    with pytest.raises(ExpressionError, match="not a sum over an axis that blocks of"):
        blocked_sum(SUMS["matmul"], steps)


def test_other_computes_are_refused():
    x = te.placeholder((4, 6))
    k = te.reduce_axis(6)
    for tensor in (te.compute((4,), lambda i: te.max(x[i, k], k)), te.compute((4,), lambda i: x[i, 0])):
        with pytest.raises(ExpressionError, match="is not a sum"):
            blocked_sum(tensor, 2)
