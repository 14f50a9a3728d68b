"""Shape arithmetic against NumPy and against what ONNX says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import OnnxError
from luthier.graph.shapes import (
    broadcast,
    clamp_slice,
    normalize_axes,
    normalize_axis,
    same_pads,
)


@given(st.integers(-8, 8), st.integers(-8, 8), st.integers(-4, 4).filter(bool), st.integers(0, 6))
def test_clamped_slices_select_the_same(start, end, step, size):
    x = np.arange(size)
    first, count, step = clamp_slice(start, end, step, size)
    np.testing.assert_array_equal(x[first + step * np.arange(count)] if count else x[:0], x[start:end:step])


@given(st.lists(st.integers(1, 3), max_size=4), st.lists(st.integers(1, 3), max_size=4))
def test_broadcast_agrees_with_numpy(a, b):
    try:
        expected = np.broadcast_shapes(tuple(a), tuple(b))
    except ValueError:
        with pytest.raises(OnnxError, match="do not broadcast"):
            broadcast(a, b)
    else:
        assert broadcast(a, b) == expected


@pytest.mark.parametrize("upper", [True, False])
@given(size=st.integers(1, 20), kernel=st.integers(1, 5), stride=st.integers(1, 4), dilation=st.integers(1, 2))
def test_same_pads_give_one_window_per_stride(upper, size, kernel, stride, dilation):
    begin, end = same_pads([size], [kernel], [stride], [dilation], upper)
    assert begin >= 0 and end >= 0
    assert abs(begin - end) <= 1 and (begin <= end if upper else begin >= end)
    windows = 1 + (size + begin + end - ((kernel - 1) * dilation + 1)) // stride
    assert windows == -(-size // stride) or begin + end == 0


def test_axes():
    assert normalize_axis(-1, 3) == 2
    assert normalize_axes([-1, 0], 3) == (0, 2)
    with pytest.raises(OnnxError, match=r"axis is 3, but must lie in -3..2"):
        normalize_axis(3, 3)
    with pytest.raises(OnnxError, match="twice"):
        normalize_axes([0, -3], 3)
