"""A convolution with the taps of a row as channels is the convolution."""

import numpy as np
import pytest
from workloads import conv_relu

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.evaluate import evaluate
from luthier.te.ops.row_taps import applies, blocks_of_taps, row_taps


@pytest.mark.parametrize("outputs, blocks", [(1, 1), (3, 1), (7, 3), (8, 3)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": (1, 1)},
        {"stride": 2, "pad": 1, "batch": 2},
        {"dilation": 2, "pad": 0, "size": (9, 10)},
        {"channels": 3, "plain": True},
    ],
)
def test_it_is_the_convolution(outputs, blocks, options):
    workload = conv_relu(**{"channels": 20, "kernel": (3, 5), "pad": 2, "outputs": outputs, **options})
    conv, inputs = workload.stages[0], list(workload.inputs[:2])
    assert blocks_of_taps(conv) == blocks
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays, dtype="float64")
    (found,) = evaluate(te.workload(row_taps(conv), inputs), arrays)
    kept = np.s_[..., :outputs]
    assert np.abs(found[kept] - expected[kept]).max() < 1e-6 * np.abs(expected[kept]).max()


def test_only_where_a_block_holds_two_taps():
    for options in ({"outputs": 9}, {"outputs": 32}, {"outputs": 2, "groups": 2}, {"outputs": 2, "kernel": (3, 1)}):
        conv = conv_relu(**{"channels": 32, **options}).stages[0]
        assert not applies(conv)
        with pytest.raises(ExpressionError, match="output channels that fill at most half of a block"):
            row_taps(conv)
