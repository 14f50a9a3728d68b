"""Winograd's schedules, however they go through tiles and keep the filter, compute what the workload says."""

import random
from dataclasses import replace

import numpy as np
import pytest
from schedules import Choosing, arrays_for, check, check_loops
from targets import TARGETS, narrow, runnable
from workloads import conv_relu

from luthier.codegen.detect import named_target
from luthier.codegen.lower import lower
from luthier.codegen.nodes import Alloc, If, walk_stmts
from luthier.runtime.function import build
from luthier.schedule import Default, Random, instantiate
from luthier.schedule.spaces.conv_cost import direct_estimate
from luthier.te.evaluate import evaluate


def sums_of(schedule):
    """Where the sums of a register tile live, with all that is done there."""
    found = walk_stmts(lower(schedule).body)
    return [n for n in found if isinstance(n, Alloc) and n.buffer.name.endswith("product.local")]


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd3", "winograd4"])
@pytest.mark.parametrize("placement", ["block", "whole"])
@pytest.mark.parametrize("size", [(9, 11), (4, 4), (1, 3), (14, 5)])
def test_winograd(algorithm, placement, size):
    for target in (TARGETS["x86-64-v4"], runnable("x86-64-v4", threads=1)):
        workload = conv_relu(size=size, channels=32, outputs=48, residual=size == (9, 11))
        check(instantiate(workload, Choosing(algorithm=algorithm, input=placement), target), target, target.threads)


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        (2, {"size": (9, 11), "outputs": 96, "residual": True}),
        (2, {"size": (4, 3), "outputs": 96, "channels": 20}),
        (2, {"size": (7, 6), "channels": 64, "outputs": 192, "groups": 2, "batch": 2}),
        (3, {"size": (5, 4), "outputs": 144}),
    ],
)
@pytest.mark.parametrize("rows", [1, 2])
def test_winograd_in_parts_of_the_output_channels(parts, options, rows):
    target = runnable("x86-64-v4", threads=parts)
    workload = conv_relu(**{"channels": 32, **options})
    chosen = Choosing(
        algorithm="winograd4", input="block", channel_parts=parts, tile_rows=min(rows, options["size"][0] // 4)
    )
    check(instantiate(workload, chosen, target), target, parts)


@pytest.mark.parametrize(("tile", "group", "outputs"), [([4, 3], 6, 64), ([5, 2], 4, 56), ([2, 4], 8, 80)])
@pytest.mark.parametrize("rows", [2, 3])
def test_winograd_with_ragged_blocks_and_groups(tile, group, outputs, rows):
    target = TARGETS["x86-64-v3"].with_threads(1)
    workload = conv_relu(size=(20, 27), channels=16, outputs=outputs, block=8)
    chosen = Choosing(
        algorithm="winograd4", input="block", tile_rows=rows, product_tile=tile, channel_group=group, prefetch="none"
    )
    schedule = instantiate(workload, chosen, target)
    check(schedule, target, 2)
    sums = sums_of(schedule)
    assert sums and not any(isinstance(n, If) for s in sums for n in walk_stmts(s))


@pytest.mark.parametrize(("channels", "size", "tiles"), [(64, 56, 14), (256, 56, 28), (256, 28, 28), (128, 28, 28)])
def test_blocks_of_winograd_are_larger_where_each_reads_a_large_filter_again(channels, size, tiles):
    """Where a core starts two multiply-adds; a last block of 7 tiles would wait for all of it."""
    target = replace(named_target("x86-64-v4"), cpu="emeraldrapids", l2_bytes=2 << 20, l3_bytes=300 << 20)
    workload = conv_relu(size=(size, size), channels=channels, outputs=channels)
    decisions = instantiate(workload, Default(), target).decisions
    assert decisions["algorithm"] == "winograd4"
    assert decisions["tile_rows"] * decisions["tile_columns"] == tiles


@pytest.mark.parametrize(("cpu", "several"), [("znver4", False), ("znver5", True)])
def test_products_load_less_where_a_core_reads_no_more_vectors_than_it_multiplies(cpu, several):
    """A tile of one vector loads as often as it multiplies, and once more."""
    target = replace(named_target("x86-64-v4"), cpu=cpu, l2_bytes=1 << 20, l3_bytes=32 << 20)
    decisions = instantiate(conv_relu(size=(28, 28), channels=128, outputs=128), Default(), target).decisions
    assert (decisions["product_tile"][1] > 1) == several


@pytest.mark.parametrize("outputs", [96, 160, 192])
@pytest.mark.parametrize(("algorithm", "kernel"), [("winograd4", 3), ("strassen", 1), ("strassen2", 1)])
def test_filters_of_register_tiles_do_not_cross_parts_of_the_output_channels(algorithm, kernel, outputs):
    """Else one would lie in two pieces, and be read by the element: half as fast."""
    target = runnable("x86-64-v4", threads=2)
    outputs *= 2 if algorithm == "strassen2" else 1
    options = {"size": (12, 12), "kernel": (kernel, kernel), "pad": kernel // 2}
    workload = conv_relu(channels=64, outputs=outputs, **options)
    divided = {"winograd4": 1, "strassen": 2, "strassen2": 4}[algorithm]
    blocks = outputs // 16 // divided // 2  # of one part
    for seed in range(12):

        class InParts(Random):
            def pick(self, decision, options, default):
                wanted = {"algorithm": algorithm, "input": "block", "channel_parts": 2}.get(decision)
                known = wanted in options
                return options.index(wanted) if known else super().pick(decision, options, default)

        decisions = instantiate(workload, InParts(random.Random(seed)), target).decisions
        if decisions.get("channel_parts") == 2:
            assert blocks % decisions["product_tile"][1] == 0 and blocks % decisions["channel_group"] == 0
        else:
            assert outputs // 16 // divided % 2 == 1


@pytest.mark.parametrize(("algorithm", "columns"), [("winograd2", 8), ("winograd2", 10), ("winograd4", 8)])
@pytest.mark.parametrize("size", [(5, 57), (8, 58)])
def test_winograd_blocks_of_a_part_of_a_row(algorithm, columns, size):
    workload = conv_relu(size=size, channels=32, outputs=48, residual=True)
    target = TARGETS["x86-64-v4"]
    chosen = Choosing(algorithm=algorithm, input="block", tile_rows=1, tile_columns=columns, prefetch_input=8)
    schedule = instantiate(workload, chosen, target)
    assert "prefetch x, " in str(schedule)
    check(schedule, target, 2)


@pytest.mark.parametrize(("kernel", "m"), [(3, 3), (3, 5), (5, 2), (5, 4), (7, 3)])
@pytest.mark.parametrize("placement", ["block", "whole"])
@pytest.mark.parametrize("options", [{"size": (17, 30)}, {"size": (1, 3), "pad": 3}, {"size": (9, 8), "batch": 2}])
def test_winograd_of_stride_2(kernel, m, placement, options):
    options = {"channels": 32, "outputs": 48, "pad": kernel // 2, "residual": m == 3, **options}
    workload = conv_relu(kernel=(kernel, kernel), stride=2, **options)
    target = runnable("x86-64-v4", threads=2 if placement == "whole" else 1)
    s = instantiate(workload, Choosing(algorithm=f"winograd{m}", input=placement), target)
    assert "conv.product" in s.stages
    function = build(s, target, threads=target.threads)
    inputs = arrays_for(workload)
    (expected,) = evaluate(workload, inputs, dtype="float64")
    assert np.abs(function(*inputs) - expected).max() < 1e-5 * np.abs(expected).max()


def test_winograd_of_stride_2_stays_in_bounds():
    workload = conv_relu(kernel=(5, 5), stride=2, size=(6, 5), channels=20, outputs=16)
    check_loops(instantiate(workload, Choosing(algorithm="winograd2"), TARGETS["x86-64-v4"]), TARGETS["x86-64-v4"])


def test_the_estimate_decides_where_winograd_of_stride_2_pays():
    """It does for many channels on a large image, and not where its filter is all that a few outputs need."""
    target = TARGETS["x86-64-v4"]
    for size, channels, gains in ((56, 128, True), (14, 512, False)):
        workload = conv_relu(size=(size, size), channels=channels, outputs=channels, stride=2)
        assert ("winograd" in instantiate(workload, Default(), target).decisions["algorithm"]) == gains
    exact = conv_relu(size=(56, 56), channels=128, outputs=128, stride=2, accuracy="exact")
    for decider in (Default(), *(Random(random.Random(seed)) for seed in range(10))):
        assert instantiate(exact, decider, target).decisions["algorithm"] == "direct"


@pytest.mark.parametrize(("channels", "outputs", "taps"), [(192, 384, 3), (48, 128, 5)])
def test_narrow_vectors_leave_the_direct_products_where_many_taps_are_on_padding(channels, outputs, taps):
    """Skipping them does not save all of their time: register tiles at borders have fewer points."""
    target = narrow()
    layer = {"channels": channels, "outputs": outputs, "kernel": (taps, taps), "block": 8}
    padded = conv_relu(size=(6, 6), pad=taps // 2, **layer)
    assert "winograd" in instantiate(padded, Default(), target).decisions["algorithm"]
    inside = direct_estimate(conv_relu(size=(5 + taps, 5 + taps), pad=0, **layer).anchor, target)
    assert 0.6 * inside < direct_estimate(padded.anchor, target) < inside


def test_winograd_with_a_tail_of_channels():
    workload = conv_relu(size=(6, 6), channels=20, outputs=24)
    target = TARGETS["x86-64-v4"]
    s = instantiate(workload, Choosing(algorithm="winograd4"), target)
    inputs = arrays_for(workload)
    found, expected = build(s, target)(*inputs), evaluate(workload, inputs)[0]
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found[:, 1, ..., :8], expected[:, 1, ..., :8], rtol=2e-5, atol=2e-5)


LINES = {"algorithm": "winograd4", "filter": "lines"}
"""Of the filter, one dimension is transformed when the model is built, the other one in registers."""


@pytest.mark.parametrize(("m", "kernel"), [(3, 3), (4, 3), (6, 3), (4, 5)])
@pytest.mark.parametrize("placement", ["block", "whole"])
@pytest.mark.parametrize("size", [(7, 7), (9, 11), (1, 3), (20, 5)])
def test_filters_in_lines(m, kernel, placement, size):
    options = {"size": size, "kernel": (kernel, kernel), "pad": kernel // 2, "residual": size == (7, 7)}
    workload = conv_relu(channels=32, outputs=48, **options)
    for target in (TARGETS["x86-64-v4"], runnable("x86-64-v3", threads=1)):
        if target.lanes() != 16:
            workload = conv_relu(channels=20, outputs=40, block=8, **options)
        chosen = Choosing(algorithm=f"winograd{m}", filter="lines", input=placement)
        schedule = instantiate(workload, chosen, target)
        assert schedule.stages["conv.filter_rows"].precomputed and schedule.stages["conv.filter"].inlined
        check(schedule, target, target.threads)


@pytest.mark.parametrize(
    "chosen",
    [
        {"product_tile": [1, 1], "streams": 2},
        {"product_tile": [2, 2], "channel_group": 4, "algorithm": "winograd3"},
        {"product_tile": [3, 1], "unroll_channels": 4, "prefetch": "shared"},
        {"product_tile": [2, 1], "unroll_channels": 2, "prefetch": "near"},
        {"product_tile": [4, 1], "tile_rows": 2, "channel_group": 2},
    ],
)
@pytest.mark.parametrize(
    "options", [{"outputs": 256}, {"outputs": 256, "groups": 2, "channels": 128}, {"batch": 2, "outputs": 128}]
)
def test_register_tiles_of_filters_in_lines(chosen, options):
    workload = conv_relu(**{"size": (9, 13), "channels": 64, "outputs": 64, **options})
    target = TARGETS["x86-64-v4"]
    schedule = instantiate(workload, Choosing(**{**LINES, **chosen}), target)
    check(schedule, target, 2)
    check_loops(instantiate(conv_relu(size=(3, 6), channels=32), Choosing(**LINES), target), target)


def test_sums_of_filters_in_lines_stay_in_registers():
    """All points of a line, and what they are made from, fit; no condition is left inside of a register tile."""
    for name in ("x86-64-v3", "x86-64-v4"):
        target = TARGETS[name].with_threads(1)
        workload = conv_relu(size=(11, 9), channels=32, outputs=64, block=target.lanes())
        for seed in range(20):
            schedule = instantiate(workload, InLines(random.Random(seed)), target)
            tiles, vectors = schedule.decisions["product_tile"]
            line = int(schedule.decisions["algorithm"].removeprefix("winograd")) + 2
            assert vectors * (tiles * line + 3) < target.vector_registers
            sums = sums_of(schedule)
            assert sums and not any(isinstance(n, If) for s in sums for n in walk_stmts(s))


class InLines(Random):
    """Random decisions, but for how the filter is kept."""

    def pick(self, decision, options, default):
        wanted = {"algorithm": "winograd4" if self.rng.random() < 0.5 else "winograd3", "filter": "lines"}.get(decision)
        return options.index(wanted) if wanted in options else super().pick(decision, options, default)


@pytest.mark.parametrize(
    ("channels", "size", "target", "kept"),
    [
        (512, 7, "x86-64-v4", "lines"),
        (512, 14, "x86-64-v4", "points"),
        (64, 28, "x86-64-v4", "points"),
        (512, 7, "x86-64-v3", "lines"),
    ],
)
def test_few_tiles_keep_large_filters_in_lines_by_default(channels, size, target, kept):
    block = TARGETS[target].lanes()
    workload = conv_relu(size=(size, size), channels=channels, outputs=channels, block=block)
    decisions = instantiate(workload, Choosing(algorithm="winograd4"), TARGETS[target]).decisions
    assert decisions["filter"] == kept


def test_lines_are_offered_where_they_make_the_filter_smaller():
    target = TARGETS["x86-64-v4"]
    for options, algorithm, offered in (
        ({}, "winograd2", True),
        ({"kernel": (5, 5), "pad": 2}, "winograd4", True),
        ({"kernel": (5, 5), "pad": 2}, "winograd2", False),
        ({"stride": 2}, "winograd3", False),
        ({"size": (40, 40)}, "winograd4", False),
    ):
        workload = conv_relu(**{"size": (9, 9), "channels": 32, "outputs": 32, **options})
        assert ("filter" in instantiate(workload, Choosing(algorithm=algorithm), target).decisions) == offered
