"""Every space, under every kind of decider, computes what the workload says (against the NumPy evaluator)."""

import random

import numpy as np
import pytest
from schedules import TARGETS, Choosing, arrays_for, check, check_loops
from workloads import conv_relu, matmul, softmax

from luthier import te
from luthier.codegen.detect import named_target
from luthier.runtime.function import build
from luthier.schedule import Default, Random, Schedule, instantiate
from luthier.te.evaluate import evaluate

WORKLOADS = {
    "conv 3x3": conv_relu(size=(4, 6), channels=16, outputs=32),
    "conv 3x3 stride 2": conv_relu(size=(7, 5), stride=2, outputs=16),
    "conv 3x3 odd, 3 channel tiles": conv_relu(size=(3, 7), outputs=48),
    "conv 1x1 residual": conv_relu(size=(3, 5), kernel=(1, 1), pad=0, residual=True),
    "conv planar input": conv_relu(channels=3, size=(6, 5), outputs=16, plain=True),
    "conv channel tail": conv_relu(channels=20, size=(3, 3), outputs=24),
    "conv dilated": conv_relu(size=(5, 6), dilation=2, pad=2, outputs=16),
    "conv image of one pixel": conv_relu(size=(1, 1), outputs=16),
    "conv groups": conv_relu(channels=32, outputs=32, groups=2, size=(2, 3)),
    "conv all channels in one block": conv_relu(channels=48, outputs=48, groups=1, size=(2, 3), block=48),
    "conv groups that cut blocks": conv_relu(channels=48, outputs=48, groups=2, size=(2, 3), block=48),
    "conv groups of ragged vectors": conv_relu(
        channels=20, outputs=72, groups=4, size=(2, 5), kernel=(1, 1), pad=0, block=20, out_block=72
    ),
    "conv groups of ragged vectors 3x3": conv_relu(
        channels=20, outputs=40, groups=2, size=(3, 4), block=20, out_block=40, residual=True
    ),
    "conv planar input, ragged vectors": conv_relu(channels=3, size=(6, 5), outputs=24, plain=True, out_block=24),
    "depthwise of ragged vectors": conv_relu(channels=24, outputs=24, groups=24, size=(4, 5), block=24),
    "depthwise": conv_relu(channels=16, outputs=16, groups=16, size=(5, 6)),
    "matmul": matmul(5, 37, 9, constant=True),
    "matmul one row": matmul(1, 70, 8, constant=True),
    "matmul both operands variable": matmul(7, 33, 5),
    "matmul narrow": matmul(4, 3, 5),
    "softmax": softmax(),
}


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("target", TARGETS)
def test_default_schedules(name, target):
    check(instantiate(WORKLOADS[name], Default(), TARGETS[target]), TARGETS[target])


@pytest.mark.parametrize("name", WORKLOADS)
def test_random_schedules(name):
    target = TARGETS["x86-64-v4"]
    for seed in range(3):
        check(instantiate(WORKLOADS[name], Random(random.Random(seed)), target), target, threads=1 + seed)


@pytest.mark.parametrize("name", WORKLOADS)
def test_unscheduled_loops_are_the_definition(name):
    check(Schedule(WORKLOADS[name]), TARGETS["x86-64-v2"])


FLAT = {
    "odd": {"size": (3, 5), "residual": True},
    "two rows": {"size": (2, 1)},
    "channel tails": {"size": (7, 7), "channels": 20, "outputs": 40},
    "groups": {"size": (3, 4), "channels": 32, "outputs": 32, "groups": 2},
    "one block": {"size": (5, 3), "channels": 48, "outputs": 48, "block": 48},
    "planar input": {"size": (4, 5), "channels": 3, "plain": True},
}


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_pixels_in_one_dimension(name, target):
    options = {"kernel": (1, 1), "pad": 0, "block": TARGETS[target].lanes(), **FLAT[name]}
    workload = conv_relu(**options)
    for order in ("channels", "rows"):
        schedule = instantiate(workload, Choosing(flat_pixels=True, order=order), TARGETS[target])
        assert any(step.primitive == "use_algorithm" for step in schedule.trace)
        check(schedule, TARGETS[target], 2)


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
@pytest.mark.parametrize("placement", ["block", "whole"])
@pytest.mark.parametrize("size", [(9, 11), (4, 4), (1, 3), (14, 5)])
def test_winograd(algorithm, placement, size):
    for target in (TARGETS["x86-64-v4"], named_target("x86-64-v4", threads=1)):
        workload = conv_relu(size=size, channels=32, outputs=48, residual=size == (9, 11))
        check(instantiate(workload, Choosing(algorithm=algorithm, input=placement), target), target, target.threads)


@pytest.mark.parametrize(("algorithm", "columns"), [("winograd2", 8), ("winograd2", 10), ("winograd4", 8)])
@pytest.mark.parametrize("size", [(5, 57), (8, 58)])
def test_winograd_blocks_of_a_part_of_a_row(algorithm, columns, size):
    workload = conv_relu(size=size, channels=32, outputs=48, residual=True)
    target = TARGETS["x86-64-v4"]
    chosen = Choosing(algorithm=algorithm, input="block", tile_rows=1, tile_columns=columns, prefetch_input=8)
    schedule = instantiate(workload, chosen, target)
    assert "prefetch x, " in str(schedule)
    check(schedule, target, 2)


def test_winograd_with_a_tail_of_channels():
    workload = conv_relu(size=(6, 6), channels=20, outputs=24)
    target = TARGETS["x86-64-v4"]
    s = instantiate(workload, Choosing(algorithm="winograd4"), target)
    inputs = arrays_for(workload)
    found, expected = build(s, target)(*inputs), evaluate(workload, inputs)[0]
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found[:, 1, ..., :8], expected[:, 1, ..., :8], rtol=2e-5, atol=2e-5)


SMALL = {
    "conv 3x3": conv_relu(size=(3, 5), outputs=16, stride=2),
    "conv channel tail": conv_relu(channels=20, size=(2, 2), outputs=24, stride=2),
    "matmul": matmul(5, 37, 4),
    "softmax": softmax(2, 9),
}


@pytest.mark.parametrize("name", SMALL)
def test_loops_stay_in_bounds(name):
    target = TARGETS["x86-64-v4"]
    check_loops(Schedule(SMALL[name]), target)
    check_loops(instantiate(SMALL[name], Default(), target), target)
    check_loops(instantiate(SMALL[name], Random(random.Random(1)), target), target, threads=3)


def test_empty_extents():
    check(Schedule(matmul(0, 4, 3)), TARGETS["x86-64-v2"])
    check(Schedule(matmul(2, 4, 0)), TARGETS["x86-64-v2"])
    for shape in ((0, 4, 3), (2, 4, 0), (2, 40, 0)):
        check(instantiate(matmul(*shape), Default(), TARGETS["x86-64-v4"]), TARGETS["x86-64-v4"])


def test_compute_at_recomputes_the_halo_it_needs():
    x = te.placeholder((23,), name="x")
    y = te.compute((23,), lambda i: x[i] * 2.0, name="y")
    z = te.compute((21,), lambda i: y[i] + y[i + 1] + y[i + 2], name="z")
    s = Schedule(te.workload(z))
    outer, inner = s.split("z", "i", 5, tail="guard")
    s.compute_at("y", "z", outer)
    s.partition("z", outer, [4])
    s.unroll("z", inner)
    check(s, TARGETS["x86-64-v2"])
