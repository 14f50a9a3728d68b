"""Saturation and rounding of quantisation; order, ties and indices of top_k; reversed sequences."""

import numpy as np
import pytest
from operators import data, make, run

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.ops.indexing import reverse_sequence
from luthier.te.ops.quantize import dequantize, quantize
from luthier.te.ops.sort import top_k


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("block", [0, 4])
def test_quantize_rounds_half_to_even_and_saturates(dtype, block):
    limits = np.iinfo(dtype)
    values = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 1e9, -1e9, limits.max - 2.0, limits.min + 2.0, 7.0, 0.0]
    a = np.array(values, np.float32).reshape(1, 6, 2)
    x, scale, zero = make(a, block), make(np.float32([0.5] * 6), name="s"), make(np.arange(6).astype(dtype), name="z")
    per_channel = np.arange(6).reshape(1, 6, 1)
    expected = np.clip(np.round(a / 0.5) + per_channel, limits.min, limits.max).astype(dtype)
    made = quantize(x, scale, zero, dtype, block=block)
    bindings = [(x, a), (scale, np.float32([0.5] * 6)), (zero, np.arange(6).astype(dtype))]
    result = run(made, *bindings, shape=a.shape, block=block)
    np.testing.assert_array_equal(result, expected)
    y = make(expected, block, "y")
    back = dequantize(y, scale, zero, "float32", block=block)
    result = run(back, (y, expected), *bindings[1:], shape=a.shape, block=block)
    np.testing.assert_array_equal(result, (expected.astype(np.float32) - per_channel) * 0.5)


def test_quantize_needs_an_integer_type():
    with pytest.raises(ExpressionError, match="dtype is float32, but must be an integer type"):
        quantize(te.placeholder((2,)), te.placeholder((1,)), None, "float32")


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("axis,k", [(0, 2), (1, 7), (2, 3), (2, 0)])
def test_top_k(axis, k, largest):
    a = data(3, 7, 5, dtype="int32")  # from eleven values: many are equal
    order = np.argsort(-a if largest else a, axis, kind="stable").take(range(k), axis)
    x = make(a)
    values, indices = top_k(x, k, axis, largest=largest)
    np.testing.assert_array_equal(run(indices, (x, a)), order)
    np.testing.assert_array_equal(run(values, (x, a)), np.take_along_axis(a, order, axis))


def test_reverse_sequence():
    a, lengths = data(4, 3, 2), np.array([1, 4, 0])
    x, n = make(a), make(lengths, name="n")
    expected = a.copy()
    for b, length in enumerate(lengths):
        expected[:length, b] = a[:length, b][::-1]
    np.testing.assert_array_equal(run(reverse_sequence(x, n, 1, 0), (x, a), (n, lengths)), expected)
