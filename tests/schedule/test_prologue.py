"""Convolutions that compute their prologue: in blocks of pixels or at each read, against the NumPy evaluator."""

import random

import pytest
from schedules import Choosing, check, check_loops
from targets import TARGETS
from workloads import conv_relu

from luthier import te
from luthier.schedule import Random, Schedule, instantiate
from luthier.schedule.axis import LoopAxis
from luthier.schedule.spaces.common import Window
from luthier.schedule.spaces.prologue import Sizes, best_block, divide
from luthier.te.ops.conv import conv

POINT = {"kernel": (1, 1), "pad": 0}
CASES = {
    "1x1": {**POINT, "size": (7, 9), "channels": 32},
    "1x1, two images": {**POINT, "size": (5, 3), "batch": 2, "outputs": 48},
    "1x1, channel tails, residual": {**POINT, "size": (5, 3), "channels": 20, "outputs": 40, "residual": True},
    "1x1, one pixel": {**POINT, "size": (1, 1), "channels": 32},
    "1x1, stride 2": {**POINT, "size": (8, 7), "stride": 2},
    "3x3": {"size": (7, 9), "channels": 32},
    "3x3, channel tails": {"size": (5, 3), "channels": 20, "outputs": 24},
    "3x3, stride 2": {"size": (9, 11), "stride": 2},
    "3x3, dilated": {"size": (9, 7), "dilation": 2, "pad": 2},
    "3x3, groups": {"size": (4, 3), "channels": 32, "groups": 2},
    "3x3, one block": {"size": (4, 3), "channels": 48, "outputs": 48, "block": 48},
    "5x5": {"size": (6, 8), "kernel": (5, 5), "pad": 2},
}


def prologue_of(schedule):
    return schedule["positive"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_blocks(name, target):
    workload = conv_relu(prologue=True, **{"block": TARGETS[target].lanes(), **CASES[name]})
    for tiles in ({}, {"prologue_tiles": 1}):
        chosen = Choosing(algorithm="direct", flat_pixels=False, prologue="block", **tiles)
        schedule = instantiate(workload, chosen, TARGETS[target])
        (step,) = [x for x in schedule.trace if x.primitive == "compute_at" and x.arguments["stage"] == "positive"]
        assert step.arguments["consumer"] == "out"
        check(schedule, TARGETS[target], 2)


@pytest.mark.parametrize("name", CASES)
def test_inline(name):
    target = TARGETS["x86-64-v4"]
    schedule = instantiate(
        conv_relu(prologue=True, **CASES[name]), Choosing(algorithm="direct", prologue="inline"), target
    )
    assert prologue_of(schedule).inlined
    check(schedule, target, 2)


@pytest.mark.parametrize("order", ["channels", "rows"])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("size", [(7, 7), (3, 5), (2, 14)])
def test_blocks_of_pixels_in_one_dimension(size, parts, order):
    target = TARGETS["x86-64-v4"]
    workload = conv_relu(prologue=True, size=size, channels=32, outputs=64, **POINT)
    tile = [1, 4, 2]
    chosen = Choosing(flat_pixels=True, tile=tile, prologue_tiles=2, channel_parts=parts, order=order)
    schedule = instantiate(workload, chosen, target)
    assert schedule["conv.input"].attach is not None
    assert schedule["conv.input"].roots[3].extent == 8  # two tiles of pixels
    check(schedule, target, 2)


@pytest.mark.parametrize("name", CASES)
def test_random_schedules(name):
    target = TARGETS["x86-64-v4"]
    for seed in range(2):
        workload = conv_relu(prologue=True, **CASES[name])
        check(instantiate(workload, Random(random.Random(seed)), target), target, threads=1 + seed)


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4", "winograd6"])
@pytest.mark.parametrize("placement", ["block", "whole"])
def test_winograd_computes_it_in_its_input_transform(algorithm, placement):
    """The padding is of the value after the prologue: a shifted zero would be seen."""
    target = TARGETS["x86-64-v4"]
    for size in ((9, 11), (3, 5)):
        workload = conv_relu(prologue=True, size=size, channels=32)
        schedule = instantiate(workload, Choosing(algorithm=algorithm, input=placement, prefetch_input=2), target)
        assert prologue_of(schedule).inlined
        check(schedule, target, 2)


@pytest.mark.parametrize("name", ["1x1, channel tails, residual", "3x3", "3x3, stride 2"])
def test_loops_stay_in_bounds(name):
    target = TARGETS["x86-64-v4"]
    workload = conv_relu(prologue=True, **{**CASES[name], "size": (5, 3), "outputs": 16})
    check_loops(instantiate(workload, Choosing(algorithm="direct", prologue_tiles=1), target), target, threads=2)


def test_a_costly_value_that_is_read_twice_is_computed_in_the_block():
    target = TARGETS["x86-64-v4"]
    x = te.placeholder((1, 2, 4, 5, 16), name="x")
    w = te.placeholder((32, 32, 1, 1), name="w", constant=True)
    e = te.compute(x.shape, lambda *i: te.call("exp", x[i]), name="e")
    squared = te.compute(x.shape, lambda *i: e[i] * e[i], name="squared")
    y = conv(squared, w, in_channels=32, out_channels=32, in_block=16, out_block=16)
    schedule = instantiate(te.workload(y, [x, w]), Choosing(flat_pixels=False), target)
    assert schedule["e"].inlined
    assert schedule["squared"].attach is not None
    check(schedule, target, 2)


def test_what_only_moves_data_is_no_prologue():
    target = TARGETS["x86-64-v4"]
    x = te.placeholder((1, 2, 4, 5, 16), name="x")
    w = te.placeholder((32, 32, 1, 1), name="w", constant=True)
    swapped = te.compute(x.shape, lambda n, o, i, j, c: x[n, 1 - o, i, j, c], name="swapped")
    y = conv(swapped, w, in_channels=32, out_channels=32, in_block=16, out_block=16)
    schedule = instantiate(te.workload(y, [x, w]), Choosing(), target)
    assert "prologue" not in schedule.decisions
    assert schedule["swapped"].inlined
    check(schedule, target, 2)


def test_the_next_block_is_asked_for_during_the_products():
    target = TARGETS["x86-64-v4"]
    workload = conv_relu(prologue=True, size=(14, 14), channels=64, outputs=128, **POINT)
    asking = instantiate(workload, Choosing(flat_pixels=False, prologue_tiles=2), target)
    assert "prefetch x, i.o.o + 1" in str(asking)
    check(asking, target, 2)
    silent = instantiate(workload, Choosing(flat_pixels=False, prologue_tiles=2, prefetch_prologue=False), target)
    assert "prefetch x, " not in str(silent)


def sizes(**changed):
    """A 1x1 convolution of 256 channels over 28 x 28 pixels to 128, in tiles of 14 pixels x 2 vectors."""
    window = Window(28, 28, 1, 1, 1, 0)
    given = {"images": 1, "tiles": 28, "channel_tiles": 4, "line_vectors": 16 * 28, "window": window}
    return Sizes(**{**given, "steps": 28 * 2 * 256, "weight_bytes": 256 * 128 * 4, "taps": 1, **changed})


def test_a_block_stays_in_the_second_level_cache():
    target = TARGETS["x86-64-v4"]
    for line in (16 * 28, 64 * 28, 256 * 28):
        found = best_block(sizes(line_vectors=line), target.with_threads(1))
        assert found.ahead
        assert found.tiles == 1 or found.tiles * line * 64 <= target.l2_bytes // 2


def test_threads_get_equal_shares():
    """Of seven blocks one thread would get four; one block of all rows leaves the channels to share."""
    for tiles in (7, 14, 28):
        window = Window(tiles, tiles, 1, 1, 1, 0)
        found = best_block(sizes(tiles=tiles, window=window), TARGETS["x86-64-v4"].with_threads(2))
        assert -(-tiles // found.tiles) * found.parts % 2 == 0


@pytest.mark.parametrize(
    ("extent", "size", "cuts", "outer", "inner"),
    [
        (12, 4, [], [], []),
        (12, 4, [8], [2], []),
        (12, 4, [1, 11], [1, 2], [1, 3]),
        (12, 12, [1, 11], [], [1, 11]),
        (10, 4, [9], [2], [1]),
        (10, 4, [], [2], []),
    ],
)
def test_cuts_of_blocks(extent, size, cuts, outer, inner):
    """Every cut of the loop is one of the loops that it is divided into; an incomplete block is apart."""
    x = te.placeholder((extent,), name="x")
    s = Schedule(te.workload(te.compute((extent,), lambda i: x[i] + 1.0, name="y")))
    axis = s["y"].leaves[0]
    found: dict[LoopAxis, list[int]] = {axis: cuts}
    blocks, within = divide(s, s["y"], axis, size, found)
    assert found == {blocks: outer, within: inner}


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_random_schedules_of_every_place(target, kernel):
    lanes = TARGETS[target].lanes()
    options = {
        "size": (5, 6),
        "kernel": (kernel, kernel),
        "pad": kernel // 2,
        "channels": 8 * lanes,
        "outputs": 2 * lanes,
    }
    workload = conv_relu(block=lanes, prologue=True, accuracy="exact", **options)
    seen = set()
    for seed in range(8):
        schedule = instantiate(workload, Random(random.Random(seed)), TARGETS[target])
        seen.add(schedule.decisions.get("prologue"))
        check(schedule, TARGETS[target], 2)
    assert {"block", "inline"} <= seen
