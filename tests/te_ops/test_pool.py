"""Pooling against NumPy windows, plain and blocked, with poisoned tail lanes."""

import itertools

import numpy as np
import pytest
from operators import data, make, run

from luthier.te.ops import pool


def windows(x, kernel, strides, pads, dilations, outputs):
    """The list of values under each window, the number of its taps on the padded input, by output position."""
    rank = x.ndim - 2
    for position in itertools.product(*map(range, outputs)):
        values, padded = [], 0
        for taps in itertools.product(*map(range, kernel)):
            at = [
                o * s + t * d - b for o, s, t, d, b in zip(position, strides, taps, dilations, pads[:rank], strict=True)
            ]
            if all(-b <= i < n + e for i, n, b, e in zip(at, x.shape[2:], pads[:rank], pads[rank:], strict=True)):
                padded += 1
            if all(0 <= i < n for i, n in zip(at, x.shape[2:], strict=True)):
                values.append(x[(slice(None), slice(None), *at)])
        yield position, np.array(values), padded


CASES = [
    # shape, kernel, strides, pads, dilations, outputs
    ((2, 6, 7, 8), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (4, 4)),
    ((1, 5, 7, 8), (3, 2), (2, 3), (0, 1, 1, 0), (1, 1), (3, 3)),
    ((1, 3, 9, 9), (2, 3), (1, 2), (0, 0, 0, 0), (3, 2), (6, 3)),
    ((1, 5, 6, 6), (3, 3), (2, 2), (0, 0, 0, 0), (1, 1), (3, 3)),  # ceil_mode: the last windows overhang
    ((1, 5, 5, 5), (3, 3), (2, 2), (1, 1, 0, 0), (2, 2), (2, 2)),
    ((2, 3, 9), (4,), (3,), (2, 1), (1,), (3,)),
    ((1, 2, 3, 4, 5), (2, 2, 2), (1, 2, 2), (0, 0, 1, 0, 0, 0), (1, 1, 1), (2, 2, 3)),
]


@pytest.mark.parametrize("block", [0, 4])
@pytest.mark.parametrize("shape,kernel,strides,pads,dilations,outputs", CASES)
def test_pools(shape, kernel, strides, pads, dilations, outputs, block):
    a = data(*shape)
    x = make(a, block)
    args = (kernel, strides, pads, dilations)
    full = (*shape[:2], *outputs)
    greatest, mean, mean_padded, norm = (np.empty(full, np.float32) for _ in range(4))
    for position, values, padded in windows(a, kernel, strides, pads, dilations, outputs):
        at = (slice(None), slice(None), *position)
        greatest[at], mean[at] = values.max(0), values.mean(0)
        mean_padded[at] = values.sum(0) / padded
        norm[at] = np.sqrt((values**2).sum(0))
    for made, expected in [
        (pool.max_pool(x, *args, outputs=outputs), greatest),
        (pool.avg_pool(x, *args, outputs=outputs), mean),
        (pool.avg_pool(x, *args, outputs=outputs, count_include_pad=True), mean_padded),
        (pool.lp_pool(x, *args, outputs=outputs), norm),
    ]:
        np.testing.assert_allclose(run(made, (x, a), shape=full, block=block), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [0, 4, 6])
@pytest.mark.parametrize("shape", [(2, 6, 3, 5), (1, 6, 1, 1), (1, 6, 4)])
def test_global_pools(shape, block):
    a = data(*shape)
    x = make(a, block)
    axes = tuple(range(2, len(shape)))
    for made, expected in [
        (pool.global_avg_pool(x), a.mean(axes, keepdims=True)),
        (pool.global_max_pool(x), a.max(axes, keepdims=True)),
        (pool.global_lp_pool(x, 3), (np.abs(a) ** 3).sum(axes, keepdims=True) ** (1 / 3)),
    ]:
        np.testing.assert_allclose(run(made, (x, a), shape=expected.shape, block=block), expected, rtol=1e-5, atol=1e-6)


def test_result_may_have_another_layout():
    a = data(1, 6, 5, 5)
    x = make(a, 4)
    made = pool.max_pool(x, (2, 2), block=0)
    assert made.shape == (1, 6, 4, 4)
    expected = np.maximum.reduce([a[:, :, i : i + 4, j : j + 4] for i in (0, 1) for j in (0, 1)])
    np.testing.assert_array_equal(run(made, (x, a)), expected)


def test_a_mean_without_padding_divides_by_a_constant():
    x = make(data(1, 4, 6, 6), 4)
    assert str(pool.avg_pool(x, (3, 3), (2, 2)).body).endswith("/ 9.0")
    assert "float32(" in str(pool.avg_pool(x, (3, 3), (2, 2), (1, 1, 1, 1)).body)


def test_space_functions_find_the_window():
    stage = pool.max_pool(make(data(1, 4, 6, 6), 4), (3, 3), (2, 2), (1, 1, 1, 1))
    assert stage.tag == "pool"
    assert stage.attrs == {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    assert len(stage.reduce_axes) == 2
