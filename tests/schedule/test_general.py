"""The general space: rows as loops of their own, and code of its own where conditions change."""

from __future__ import annotations

import numpy as np
import pytest
from schedules import Choosing
from targets import TARGETS

from luthier import te
from luthier.runtime.function import build
from luthier.schedule.schedule import Schedule
from luthier.schedule.space import instantiate
from luthier.schedule.spaces.general import boundaries
from luthier.te.evaluate import evaluate
from luthier.te.ops.normalization import lrn
from luthier.te.ops.operand import Operand


def response_norm(blocks, height, width, channels=None):
    """Over 5 channels around, of data in blocks of 8."""
    x = te.placeholder((1, blocks, height, width, 8), name="x")
    shape = (1, channels or 8 * blocks, height, width)
    return te.workload(lrn(Operand(x, shape, 8), 5, 1e-4, 0.75, 1.0, block=8), [x])


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("size", [(1, 3, 5), (2, 1, 1), (3, 9, 7), (4, 2, 30), (3, 4, 4, 19)])
def test_neighbouring_channels_across_blocks(target, rows, size):
    work = response_norm(*size)
    schedule = instantiate(work, Choosing(**{"s0.rows": rows}), target)
    (x,) = (np.random.default_rng(0).standard_normal(p.shape).astype(np.float32) for p in work.inputs)
    if len(size) > 3:
        x[:, -1, ..., size[3] % 8 :] = 0.0
    (expected,) = evaluate(work, [x])
    np.testing.assert_allclose(build(schedule, target)(x), expected, rtol=2e-6, atol=1e-6)


def test_rows_pay_where_addresses_are_more_than_a_count():
    target = TARGETS["x86-64-v3"]
    assert instantiate(response_norm(24, 55, 55), Choosing(), target).decisions["s0.rows"] is True
    x = te.placeholder((24, 55, 56), name="x")
    plain = te.workload(te.compute(x.shape, lambda i, j, k: x[i, j, k] * 2.0))
    assert instantiate(plain, Choosing(), target).decisions["s0.rows"] is False


def test_blocks_at_the_ends_have_code_of_their_own():
    target = TARGETS["x86-64-v3"]
    text = str(instantiate(response_norm(24, 55, 55), Choosing(), target))
    assert "branch on c_o at 1, 23" in text


@pytest.mark.parametrize(
    ("condition", "places"),
    [
        (lambda i: i < 5, {5}),
        (lambda i: i <= 5, {6}),
        (lambda i: i >= 5, {5}),
        (lambda i: i > 5, {6}),
        (lambda i: 9 - i > 4, {5}),
        (lambda i: 9 - i >= 4, {6}),
        (lambda i: te.equal(i, 5), {5, 6}),
        (lambda i: 2 * i < 5, set()),
    ],
)
def test_where_conditions_change(condition, places):
    x = te.placeholder((10,), name="x")
    y = te.compute((10,), lambda i: te.select(condition(i), x[i], 0.0), name="y")
    stage = Schedule(te.workload(y))["y"]
    var = stage.tensor.axes[0].var
    assert set(boundaries(stage, var)) == places
    values = evaluate(te.workload(y), [np.ones(10, np.float32)])[0]
    changes = {i for i in range(1, 10) if values[i] != values[i - 1]}
    assert changes <= places or not places
