"""Outputs that are written past the caches: which ones, by what code, and that others read what was written."""

from dataclasses import replace

import pytest
from schedules import Choosing, check
from targets import TARGETS, runnable
from workloads import conv_relu, matmul

from luthier import te
from luthier.codegen.pipeline import levels
from luthier.errors import ScheduleError
from luthier.schedule import Default, Schedule, instantiate

LARGE = {"size": (57, 60), "channels": 16, "outputs": 32}


def with_small_caches(target):
    return replace(target, l2_bytes=1 << 16, l3_bytes=1 << 18)


@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd4"])
@pytest.mark.parametrize("options", [{}, {"outputs": 48}, {"channels": 20, "outputs": 24, "size": (61, 67)}])
@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_written_past_the_caches_is_read_back(algorithm, options, threads):
    for name in ("x86-64-v4", "x86-64-v3"):
        target = with_small_caches(runnable(name, threads=threads))
        workload = conv_relu(**{**LARGE, **options}, block=target.lanes())
        chosen = Choosing(algorithm=algorithm, store_past_caches=True)
        schedule = instantiate(workload, chosen, target)
        assert schedule.decisions["store_past_caches"] and "prefetch_output" not in schedule.decisions
        check(schedule, target, threads)


@pytest.mark.parametrize("name", ["x86-64-v4", "x86-64-v3"])
def test_whole_vectors_are_stored_so_and_fenced(name):
    target = with_small_caches(TARGETS[name])
    workload = conv_relu(**LARGE, block=target.lanes())
    text = levels(instantiate(workload, Choosing(algorithm="direct", store_past_caches=True), target), target)
    assert "past the caches" in text["schedule"]() and "past the caches" in text["loops"]()
    assert "vmovntps" in text["asm"]() and "sfence" in text["asm"]()
    usual = levels(instantiate(workload, Choosing(algorithm="direct", store_past_caches=False), target), target)
    assert "vmovntps" not in usual["asm"]() and "sfence" not in usual["asm"]()
    assert "nontemporal" not in usual["llvm"]()


@pytest.mark.parametrize(
    ("options", "target", "chosen"),
    [
        ({"size": (224, 224), "channels": 64, "outputs": 64}, "x86-64-v4", True),
        ({"size": (112, 112), "channels": 128, "outputs": 128}, "x86-64-v4", True),
        ({"size": (56, 56), "channels": 64, "outputs": 256}, "x86-64-v4", None),
        ({"size": (224, 224), "channels": 64, "outputs": 64, "residual": True}, "x86-64-v4", None),
        ({"size": (224, 224), "channels": 64, "outputs": 64, "block": 8}, "x86-64-v3", False),
    ],
)
def test_outputs_that_exceed_a_part_of_the_last_cache_are_written_so_by_default(options, target, chosen):
    target = replace(TARGETS[target], l2_bytes=1 << 20, l3_bytes=32 << 20)
    assert instantiate(conv_relu(**options), Default(), target).decisions.get("store_past_caches") == chosen


def test_only_outputs():
    s = Schedule(matmul(4, 16, 8))
    local = s.cache_write(s[s.workload.outputs[0]])
    with pytest.raises(ScheduleError, match="it is no output"):
        s.store_past_caches(local)


def test_elements_and_short_vectors_are_stored_as_usual():
    x = te.placeholder((3, 20), name="x")
    s = Schedule(te.workload(te.compute((3, 20), lambda i, j: x[i, j] + 1.0, name="y"), [x]))
    s.store_past_caches("y")
    target = TARGETS["x86-64-v4"]
    assert "vmovnt" not in levels(s, target)["asm"]()
    _, inner = s.split("y", s["y"].leaves[1], 8, tail="guard")
    s.vectorize("y", inner)
    assert "vmovnt" not in levels(s, target)["asm"]()
    check(s, target, 1)
