"""A 1x1 convolution over pixels in one dimension is the convolution."""

import numpy as np
import pytest
from workloads import conv_relu

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.evaluate import evaluate
from luthier.te.ops.flat import applies, flat


@pytest.mark.parametrize("options", [{}, {"channels": 20}, {"channels": 32, "groups": 2, "outputs": 32}])
def test_values(options):
    workload = conv_relu(size=(3, 5), kernel=(1, 1), pad=0, **options)
    conv, inputs = workload.stages[0], list(workload.inputs[:2])
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays)
    (found,) = evaluate(te.workload(flat(conv), inputs), arrays)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"kernel": (3, 3)}, {"kernel": (1, 1), "pad": 1}, {"kernel": (1, 1), "pad": 0, "stride": 2}]
)
def test_other_convolutions_are_refused(options):
    conv = conv_relu(**options).stages[0]
    assert not applies(conv)
    with pytest.raises(ExpressionError, match="is not a 1x1 convolution of stride 1 without padding"):
        flat(conv)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_copy_holds_the_pixels_that_are_read(stride):
    workload = conv_relu(size=(5, 8), kernel=(1, 1), pad=0, channels=20, stride=stride, batch=2)
    conv, inputs = workload.stages[0], list(workload.inputs[:2])
    assert applies(conv, copy=1)
    numbered = flat(conv, copy=1).inputs()[0].inputs()[0]
    assert numbered.shape == (2, 2, 1, -(-5 // stride) * -(-8 // stride), 16)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays)
    (found,) = evaluate(te.workload(flat(conv, copy=1), inputs), arrays)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_computed_data_are_numbered_too():
    workload = conv_relu(size=(3, 5), kernel=(1, 1), pad=0, channels=20, prologue=True)
    conv = next(s for s in workload.stages if s.tag == "conv2d")
    pixels = flat(conv).inputs()[0]
    numbered = pixels.inputs()[0]
    assert numbered.shape == (1, 2, 1, 15, 16)
    inputs = [p for p in workload.inputs if p.name != "b"]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(p.shape).astype(np.float32) for p in inputs]
    (expected,) = evaluate(te.workload(conv, inputs), arrays)
    (found,) = evaluate(te.workload(flat(conv), inputs), arrays)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
