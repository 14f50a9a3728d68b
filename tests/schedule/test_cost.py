"""What the chosen algorithm computes, beside what the operator is defined to compute."""

from __future__ import annotations

import pytest
from workloads import conv_relu, matmul

from luthier.codegen.detect import host_target
from luthier.schedule import Default, Schedule
from luthier.schedule.cost import arithmetic
from luthier.schedule.space import instantiate


@pytest.mark.parametrize("work", [matmul(), conv_relu()])
def test_without_another_algorithm_it_is_what_the_operator_is_defined_to_compute(work):
    schedule = Schedule(work)
    assert arithmetic(schedule) == work.flops
    schedule.split(work.anchor, schedule[work.anchor].roots[0], 1)
    assert arithmetic(schedule) == work.flops


@pytest.mark.parametrize("m", [2, 4])
def test_winograd_computes_less(m):
    channels, outputs, size = 64, 64, 8
    work = conv_relu(channels, (size, size), outputs)
    schedule = Schedule(work)
    schedule.use_algorithm(work.anchor, "winograd", {"m": m})
    with_filter = arithmetic(schedule)
    schedule.precompute(next(name for name in schedule.stages if name.endswith(".filter")))
    products = 2 * (size // m) ** 2 * (m + 2) ** 2 * channels * outputs
    assert products < arithmetic(schedule) < work.flops
    assert arithmetic(schedule) < with_filter  # the filter is transformed when the model is built


@pytest.mark.parametrize("m", [2, 4])
def test_tiles_do_not_hide_arithmetic(m):
    """A space computes stages inside of others, tile by tile; every element counts all the same."""
    target = host_target(1)
    channels, size = 4 * target.lanes(), 16
    work = conv_relu(channels, (size, size), channels, block=target.lanes())

    class Chosen(Default):
        def choose(self, name, options, default, before=None):
            return super().choose(name, options, f"winograd{m}" if name == "algorithm" else default, before)

    schedule = instantiate(work, Chosen(), target)
    assert schedule.decisions["algorithm"] == f"winograd{m}"
    bare = Schedule(work)
    bare.use_algorithm(work.anchor, "winograd", {"m": m})
    bare.precompute(next(name for name in bare.stages if name.endswith(".filter")))
    assert arithmetic(schedule) == arithmetic(bare) < work.flops
