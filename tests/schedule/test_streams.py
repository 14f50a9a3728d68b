"""Weights that are read at several places at once: parts of a sum that go side by side."""

from dataclasses import replace

import pytest
from schedules import Choosing, check
from targets import TARGETS
from workloads import conv_relu, matmul

from luthier.codegen.detect import named_target
from luthier.schedule import Default, instantiate


@pytest.mark.parametrize("streams", [1, 2, 4, 8])
@pytest.mark.parametrize("rows", [1, 2])
def test_products_of_few_rows_read_panels_at_several_places(streams, rows):
    target = TARGETS["x86-64-v4"]
    for columns, depth in ((128, 9), (300, 40), (37, 1)):
        workload = matmul(rows, columns, depth, constant=True)
        for ahead in ("none", "near"):
            schedule = instantiate(workload, Choosing(tile=[rows, 8], streams=streams, prefetch=ahead), target)
            assert schedule.decisions["streams"] == streams
            check(schedule, target, 2)


def test_large_products_of_one_row_read_panels_at_several_places_by_default():
    """Where a core has more lines under way then: of 4 MB, say, but not of what the second-level cache holds."""
    target = replace(named_target("x86-64-v4"), cpu="emeraldrapids", l2_bytes=2 << 20)
    large, small = (instantiate(matmul(1, n, 1024, constant=True), Default(), target).decisions for n in (1024, 256))
    assert (large["tile"], large["streams"], small["streams"]) == ([1, 8], 8, 1)
    usual = instantiate(matmul(1, 1024, 1024, constant=True), Default(), named_target("x86-64-v4")).decisions
    assert usual["streams"] == 1


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd3", "strassen", "strassen2"])
@pytest.mark.parametrize(("channels", "streams"), [(96, 2), (64, 4), (256, 8), (80, 1)])
@pytest.mark.parametrize("ahead", ["none", "near", "shared"])
def test_filters_of_products_are_read_at_several_places(algorithm, channels, streams, ahead):
    """Parts of the input channels go side by side; their tail, and ragged blocks of channels, stay right."""
    kernel = 3 if algorithm.startswith("winograd") else 1
    channels *= 4 if algorithm == "strassen2" else 2 if algorithm == "strassen" else 1
    options = {"size": (5, 6), "kernel": (kernel, kernel), "pad": kernel // 2, "outputs": 128}
    target = TARGETS["x86-64-v4"]
    chosen = Choosing(algorithm=algorithm, streams=streams, prefetch=ahead)
    schedule = instantiate(conv_relu(channels=channels - 4 * (kernel == 3), **options), chosen, target)
    assert schedule.decisions["streams"] == streams
    check(schedule, target, 2)


@pytest.mark.parametrize(("kernel", "size"), [(1, (3, 7)), (3, (4, 5)), (3, (1, 1))])
@pytest.mark.parametrize(("channels", "each", "streams"), [(64, 0, 2), (124, 0, 4), (192, 6, 2), (192, 4, 4)])
@pytest.mark.parametrize("ahead", [False, True, "shared"])
def test_weights_are_read_at_several_places(kernel, size, channels, each, streams, ahead):
    options = {"size": size, "kernel": (kernel, kernel), "pad": kernel // 2, "outputs": 48}
    target = TARGETS["x86-64-v4"]
    chosen = Choosing(algorithm="direct", sum_blocks=each, streams=streams, prefetch=ahead, unroll_channels=2)
    schedule = instantiate(conv_relu(channels=channels, **options), chosen, target)
    assert (schedule.decisions["sum_blocks"], schedule.decisions["streams"]) == (each, streams)
    check(schedule, target, 2)


@pytest.mark.parametrize(
    ("inputs", "outputs", "size", "streams"),
    [(512, 512, 7, 4), (160, 512, 7, 2), (512, 512, 14, 4), (128, 128, 14, 1), (512, 512, 28, 1)],
)
def test_pointwise_weights_for_few_pixels_are_read_at_several_places_by_default(inputs, outputs, size, streams):
    double = replace(named_target("x86-64-v4"), cpu="emeraldrapids", l2_bytes=2 << 20)
    options = {"size": (size, size), "channels": inputs, "outputs": outputs, "kernel": (1, 1), "pad": 0}
    for target, expected in ((double, streams), (TARGETS["x86-64-v4"], 1)):
        workload = conv_relu(**options, accuracy="exact")
        assert instantiate(workload, Default(), target).decisions["streams"] == expected


def test_few_tiles_read_large_filters_at_several_places_by_default():
    """Where a core starts two multiply-adds, and waits for memory; not what its second-level cache holds."""
    double, usual = replace(named_target("x86-64-v4"), cpu="emeraldrapids", l2_bytes=2 << 20), TARGETS["x86-64-v4"]
    for channels, size, target, streams in (
        (256, 14, double, 4),
        (224, 14, double, 2),
        (64, 14, double, 1),
        (256, 14, usual, 1),
    ):
        workload = conv_relu(size=(size, size), channels=channels, outputs=channels)
        decisions = instantiate(workload, Default(), target).decisions
        assert (decisions["algorithm"][:8], decisions["streams"]) == ("winograd", streams)
