"""Every space, under every kind of decider, computes what the workload says (against the NumPy evaluator)."""

import random

import numpy as np
import pytest
from schedules import Choosing, arrays_for, check, check_loops
from targets import TARGETS, starting_two
from workloads import conv_nd, conv_relu, matmul, pool_nd, softmax

from luthier import te
from luthier.codegen.lower import lower
from luthier.codegen.nodes import If, walk_stmts
from luthier.runtime.function import build
from luthier.schedule import Default, Random, Schedule, instantiate
from luthier.te.evaluate import evaluate
from luthier.te.parse import parse_workload

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
    "conv 1-D": conv_nd((2, 23), (5,), 32, 48, pad=2, stride=2),
    "conv 1-D dilated, channel tail": conv_nd((1, 19), (3,), 20, 24, pad=2, dilation=2),
    "conv 1-D planar input, many taps": conv_nd((1, 90), (24,), 1, 16, pad=5, block=0, out_block=16),
    "conv 1-D, prime number of taps": conv_nd((1, 40), (19,), 16, 16, pad=9),
    "conv 1-D groups that cut blocks": conv_nd((1, 13), (3,), 48, 40, pad=1, groups=2, block=48, out_block=40),
    "conv 3-D": conv_nd((2, 3, 4, 6), (3, 3, 3), 16, 32, pad=1),
    "conv 3-D planar input": conv_nd((1, 4, 5, 5), (2, 3, 3), 3, 16, pad=1, stride=2, block=0, out_block=16),
    "conv 3-D groups that cut blocks": conv_nd((1, 3, 2, 4), (1, 2, 3), 24, 40, groups=2, block=24, out_block=40),
    "depthwise 1-D": conv_nd((1, 21), (7,), 32, 32, pad=3, groups=32),
    "pool 1-D": pool_nd((2, 15), (3,)),
    "pool 3-D": pool_nd((1, 5, 4, 6), (3, 2, 3)),
    "depthwise 3-D": conv_nd((1, 3, 4, 5), (3, 3, 3), 16, 16, pad=1, groups=16),
    "conv with weights of run time": conv_nd((1, 6, 7), (3, 3), 32, 32, pad=1, constant=False),
    "conv with weights of run time, channel tails": conv_nd((1, 5, 7), (3, 3), 20, 24, pad=1, constant=False),
    "conv 1-D with weights of run time, in groups": conv_nd(
        (1, 9), (3,), 24, 40, groups=2, block=24, out_block=40, constant=False
    ),
    "depthwise with weights of run time": conv_nd((1, 5, 7), (3, 3), 32, 32, pad=1, groups=32, constant=False),
    "conv few outputs": conv_nd((2, 6, 9), (3, 5), 32, 3, pad=2),
    "conv few outputs, dilated": conv_nd((1, 9, 11), (3, 3), 20, 1, pad=1, dilation=2),
    "conv few outputs, planar input": conv_nd((1, 7, 8), (2, 7), 3, 8, stride=2, block=0, out_block=16),
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
def test_default_schedules_where_cores_start_two_multiply_adds(name):
    check(instantiate(WORKLOADS[name], Default(), starting_two()), starting_two())


@pytest.mark.parametrize("order", ["channels", "rows"])
@pytest.mark.parametrize("size", [(4, 9), (1, 1), (3, 2)])
def test_register_tiles_share_the_prefetch_of_weights(order, size):
    target = TARGETS["x86-64-v4"]
    for kernel in (1, 3):
        workload = conv_relu(size=size, channels=32, outputs=48, kernel=(kernel, kernel), pad=kernel // 2)
        schedule = instantiate(workload, Choosing(algorithm="direct", prefetch="shared", order=order), target)
        assert schedule.decisions["prefetch"] == "shared"
        check(schedule, target, 2)


@pytest.mark.parametrize("name", [name for name in WORKLOADS if "conv" in name or "depthwise" in name])
def test_convolutions_of_every_kind_keep_their_sums_in_registers(name):
    s = instantiate(WORKLOADS[name], Default(), TARGETS["x86-64-v4"])
    assert s.decisions.keys() & {"tile", "product_tile"}, "the general space keeps no tile of them"


@pytest.mark.parametrize("name", WORKLOADS)
def test_random_schedules(name):
    target = TARGETS["x86-64-v4"]
    for seed in range(3):
        check(instantiate(WORKLOADS[name], Random(random.Random(seed)), target), target, threads=1 + seed)


@pytest.mark.parametrize("name", WORKLOADS)
def test_traces_fit_the_same_workload_under_other_names(name):
    workload = WORKLOADS[name]
    unnamed = parse_workload(workload.text)
    for target in TARGETS.values():
        for decider in (Default(), *(Random(random.Random(seed)) for seed in range(5))):
            trace = instantiate(workload, decider, target).to_json()
            assert Schedule.replay(unnamed, trace).to_json() == trace


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


COPIED = {
    "odd": {"size": (3, 5), "residual": True},
    "stride 2": {"size": (5, 7), "stride": 2, "batch": 2},
    "stride 3, channel tails": {"size": (7, 4), "stride": 3, "channels": 60, "outputs": 56},
    "groups": {"size": (3, 4), "channels": 128, "outputs": 32, "groups": 2},
    "large enough by default": {"size": (9, 8), "channels": 128, "outputs": 64},
    "stride 2, large enough by default": {"size": (9, 8), "channels": 128, "outputs": 64, "stride": 2},
    "prologue": {"size": (9, 8), "channels": 128, "outputs": 72, "prologue": True},
}


@pytest.mark.parametrize("name", COPIED)
@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_blocks_of_the_image_are_copied(name, target):
    chosen = {} if name == "prologue" else {"copy_input": True}
    options = {"kernel": (1, 1), "pad": 0, "channels": 64, "block": TARGETS[target].lanes()}
    workload = conv_relu(**{**options, **COPIED[name]})
    for blocks in ({}, {"sum_blocks": 2}):
        schedule = instantiate(
            workload, Choosing(algorithm="direct", flat_pixels=True, **chosen, **blocks), TARGETS[target]
        )
        assert any(stage.name.endswith("input") for stage in schedule.live_stages())
        check(schedule, TARGETS[target], 2)


def test_narrow_tiles_read_copies_by_default():
    for target, copied in (("x86-64-v3", True), ("x86-64-v4", False)):
        for stride in (1, 2):
            options = {"size": (9, 8), "channels": 128, "outputs": 64, "stride": stride}
            workload = conv_relu(kernel=(1, 1), pad=0, block=TARGETS[target].lanes(), accuracy="exact", **options)
            decisions = instantiate(workload, Default(), TARGETS[target]).decisions
            assert (decisions.get("flat_pixels", False) and decisions.get("copy_input", stride > 1)) is copied


SUMMED = {
    "borders": {"size": (9, 11), "residual": True},
    "stride 2": {"size": (7, 12), "stride": 2},
    "channel tail, ragged vectors": {"size": (4, 5), "channels": 60, "outputs": 40},
    "one pixel": {"size": (1, 1)},
    "1x1": {"size": (5, 3), "kernel": (1, 1), "pad": 0},
    "1x1, prologue": {"size": (5, 3), "kernel": (1, 1), "pad": 0, "prologue": True},
    "3x3, prologue": {"size": (6, 3), "prologue": True},
    "groups": {"size": (3, 4), "channels": 128, "outputs": 64, "groups": 2},
    "dilated": {"size": (5, 6), "dilation": 2, "pad": 2},
}


@pytest.mark.parametrize("name", SUMMED)
@pytest.mark.parametrize("order", ["channels", "rows"])
@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_sums_in_blocks_of_input_channels(name, order, target):
    workload = conv_relu(**{"block": TARGETS[target].lanes(), "channels": 64, **SUMMED[name]})
    chosen = Choosing(algorithm="direct", sum_blocks=2, order=order)
    schedule = instantiate(workload, chosen, TARGETS[target])
    assert any(stage.tensor.tag == "total_sum" for stage in schedule.live_stages())
    check(schedule, TARGETS[target], 2)


def test_sums_in_blocks_stay_within_their_memory():
    target = TARGETS["x86-64-v3"]
    workload = conv_relu(channels=32, outputs=24, size=(2, 3), block=8)
    check_loops(instantiate(workload, Choosing(algorithm="direct", sum_blocks=2), target), target)


def test_narrow_tiles_sum_in_blocks_by_default():
    for target, narrow in (("x86-64-v3", True), ("x86-64-v4", False)):
        block = TARGETS[target].lanes()
        workload = conv_relu(channels=256, outputs=32, size=(7, 7), block=block, accuracy="exact")
        decisions = instantiate(workload, Default(), TARGETS[target]).decisions
        weight_bytes = decisions["sum_blocks"] * 9 * block * decisions["tile"][2] * block * 4
        assert 0 < weight_bytes <= TARGETS[target].l1_bytes if narrow else weight_bytes == 0


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("tile", [[1, 1], [4, 2], [4, 3], [2, 5]])
def test_tiles_of_ragged_groups(kernel, tile):
    """Groups of 36 channels are four vectors of 8 lanes and a half: a last tile is short, and so is its last vector."""
    target, size = TARGETS["x86-64-v3"], {"size": (3, 7), "kernel": (kernel, kernel), "pad": kernel // 2}
    workload = conv_relu(channels=20, outputs=72, groups=2, block=20, out_block=72, residual=kernel == 3, **size)
    schedule = instantiate(workload, Choosing(tile=tile), target)
    check(schedule, target, 2)
    if kernel == 1:  # no padding: nothing is left to ask for inside of a tile
        assert not any(isinstance(n, If) for n in walk_stmts(lower(schedule).body))


FEW = {"size": (7, 10), "channels": 20, "kernel": (5, 5), "pad": 2}


@pytest.mark.parametrize("outputs", [1, 3, 8])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "size": (9, 6)}, {"size": (1, 1)}, {"dilation": 2, "batch": 2}, {"kernel": (1, 3)}]
)
def test_taps_of_a_row_as_channels(outputs, options):
    workload = conv_relu(**{**FEW, "outputs": outputs, "residual": outputs == 3, **options})
    target = TARGETS["x86-64-v4"]
    s = instantiate(workload, Choosing(algorithm="row_taps"), target)
    assert s.stages["conv.spread"].precomputed
    inputs = arrays_for(workload)
    (expected,) = evaluate(workload, inputs, dtype="float64")
    error = np.abs(build(s, target, threads=2)(*inputs) - expected)[..., :outputs].max()
    assert error < 2e-6 * np.abs(expected[..., :outputs]).max()


def test_taps_of_a_row_are_channels_where_few_outputs_leave_vectors_empty():
    """Also where sums are to be exact: only their order changes."""
    target = TARGETS["x86-64-v4"]
    for outputs, algorithm in ((3, "row_taps"), (16, "direct")):
        workload = conv_relu(**{**FEW, "size": (40, 40), "channels": 64, "outputs": outputs, "accuracy": "exact"})
        assert instantiate(workload, Default(), target).decisions["algorithm"] == algorithm


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
