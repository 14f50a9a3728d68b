"""1x1 convolutions by Strassen's algorithm, under every kind of decider, against the NumPy evaluator."""

import random

import pytest
from schedules import Choosing, check, check_loops
from targets import TARGETS, narrow, runnable
from workloads import conv_relu

from luthier.errors import ScheduleError
from luthier.schedule import Default, Random, Schedule, instantiate
from luthier.schedule.cost import arithmetic
from luthier.schedule.spaces.common import equal_shares
from luthier.schedule.spaces.strassen_cost import Size, best_plan, cell_options, part_options

CASES = {
    "even": {"size": (4, 6)},
    "odd, residual": {"size": (3, 3), "residual": True, "outputs": 96},
    "one pixel": {"size": (1, 1)},
    "two pixels": {"size": (2, 1)},
    "two images": {"size": (3, 2), "batch": 2, "channels": 64},
    "stride 2": {"size": (9, 8), "stride": 2, "residual": True},
    "prologue": {"size": (5, 5), "prologue": True},
    "prologue, several blocks": {"size": (9, 5), "prologue": True, "outputs": 160},
}


LEVELS = {"strassen": 1, "strassen2": 2}


def workload_of(name, target, levels):
    lanes = target.lanes()
    options = {"channels": 32, "outputs": 32, **CASES[name]}
    options |= {c: max(options[c] * levels, lanes * 2**levels) for c in ("channels", "outputs")}
    return conv_relu(kernel=(1, 1), pad=0, block=lanes, **options)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("algorithm", LEVELS)
@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_defaults(name, target, algorithm):
    workload = workload_of(name, TARGETS[target], LEVELS[algorithm])
    size = Size.of(workload.anchor, LEVELS[algorithm])
    for chosen in ({}, {"cells": cell_options(size)[0], "channel_parts": 1}):
        schedule = instantiate(workload, Choosing(algorithm=algorithm, **chosen), TARGETS[target])
        assert schedule.decisions["algorithm"] == algorithm
        check(schedule, TARGETS[target], TARGETS[target].threads)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("algorithm", LEVELS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_random_schedules(name, threads, algorithm):
    target = runnable("x86-64-v4", threads=threads)

    class Strassen(Random):
        def pick(self, decision, options, default):
            return options.index(algorithm) if decision == "algorithm" else super().pick(decision, options, default)

    for seed in range(2 if threads == 1 else 1):
        workload = workload_of(name, target, LEVELS[algorithm])
        check(instantiate(workload, Strassen(random.Random(seed)), target), target, threads)


@pytest.mark.parametrize("name", ["odd, residual", "two images", "prologue"])
@pytest.mark.parametrize("algorithm", LEVELS)
def test_loops_stay_in_bounds(name, algorithm):
    target = TARGETS["x86-64-v4"]
    workload = workload_of(name, target, LEVELS[algorithm])
    schedule = instantiate(workload, Choosing(algorithm=algorithm), target)
    check_loops(schedule, target, threads=2)


def test_it_computes_less():
    target = runnable("x86-64-v4", threads=1)
    workload = conv_relu(channels=256, outputs=256, size=(14, 14), kernel=(1, 1), pad=0)
    direct, halves = (arithmetic(instantiate(workload, Choosing(algorithm=a), target)) for a in ("direct", "strassen"))
    assert 7 / 8 < halves / direct < 0.92


@pytest.mark.parametrize(
    ("channels", "outputs", "size", "gains"),
    [
        (1024, 256, 14, True),
        (512, 2048, 7, True),
        (128, 512, 28, True),
        (96, 576, 14, True),
        (64, 64, 56, False),  # the sums take more than the products save
        (192, 64, 28, False),
        (32, 64, 112, False),
        (32, 32, 1, False),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_estimate_decides_where_it_pays(channels, outputs, size, gains, threads):
    target = runnable("x86-64-v4", threads=threads)
    workload = conv_relu(channels=channels, outputs=outputs, size=(size, size), kernel=(1, 1), pad=0)
    assert (instantiate(workload, Default(), target).decisions["algorithm"] in LEVELS) == gains


@pytest.mark.parametrize(
    ("channels", "outputs", "size", "gains"), [(64, 256, 28, True), (64, 256, 56, False), (256, 64, 56, True)]
)
@pytest.mark.parametrize("threads", [1, 2])
def test_outputs_that_leave_the_last_level_cache_take_longer(channels, outputs, size, gains, threads):
    workload = conv_relu(channels=channels, outputs=outputs, size=(size, size), kernel=(1, 1), pad=0, block=8)
    assert (instantiate(workload, Default(), narrow(threads)).decisions["algorithm"] == "strassen") == gains


def test_exact_and_ragged_convolutions_stay_as_they_are():
    target = TARGETS["x86-64-v4"]
    options = {"size": (14, 14), "kernel": (1, 1), "pad": 0}
    exact = conv_relu(channels=256, outputs=256, accuracy="exact", **options)
    for workload in (exact, conv_relu(channels=240, outputs=256, **options)):
        for seed in range(20):
            assert instantiate(workload, Random(random.Random(seed)), target).decisions["algorithm"] == "direct"
    with pytest.raises(ScheduleError, match=r"conv, 'strassen'.*is to be exact.*accuracy='fast'"):
        Schedule(exact).use_algorithm("conv", "strassen", {})


@pytest.mark.parametrize("extent", [1, 2, 7, 25, 98, 365, 1513])
@pytest.mark.parametrize("most", [1, 6, 32, 2000])
def test_equal_shares(extent, most):
    assert equal_shares(extent, most) == sorted({-(-extent // k) for k in range(1, extent + 1)} & set(range(most + 1)))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 55, 4096])
def test_blocks_are_small_whatever_the_image(size):
    conv = conv_relu(channels=32, outputs=32, size=(size, size), kernel=(1, 1), pad=0).stages[0]
    options = cell_options(Size.of(conv, 1))
    assert options and all(p <= 32 for p in options)


def test_plans_share_out_a_small_image_by_channels():
    conv = conv_relu(channels=512, outputs=2048, size=(7, 7), kernel=(1, 1), pad=0).stages[0]
    size = Size.of(conv, 1)
    assert best_plan(size, runnable("x86-64-v4", threads=1)).parts == 1
    two = runnable("x86-64-v4", threads=2)
    plan = best_plan(size, two)
    assert plan.parts == 2 and plan.cells in cell_options(size) and plan.parts in part_options(size, two)


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("blocks", [3, 5, 9, 10, 38])
@pytest.mark.parametrize("cells", [None, 8])
def test_a_group_computes_no_products_of_others(target, blocks, cells):
    """Of ``blocks`` blocks of channels in each half, which no even number of vectors may divide."""
    lanes = TARGETS[target].lanes()
    workload = conv_relu(kernel=(1, 1), pad=0, block=lanes, size=(8, 8), channels=4 * lanes, outputs=2 * blocks * lanes)
    chosen = {} if cells is None else {"cells": cells}
    for parts in part_options(Size.of(workload.anchor, 1), TARGETS[target]):
        s = instantiate(workload, Choosing(algorithm="strassen", channel_parts=parts, **chosen), TARGETS[target])
        product = next(x for x in s.live_stages() if x.tensor.tag == "strassen_product")
        assert product.roots[2].extent == s.decisions["channel_group"]
