"""The whole model, built and measured twice."""

from __future__ import annotations

import math
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from luthier.graph.compile import Found, compile_model
from luthier.schedule.decide import Default
from luthier.schedule.space import instantiate
from luthier.tuner.database import MemoryDatabase
from luthier.tuner.whole_model import LEAST_ROUNDS, ModelCheck, ModelTimes, _better, _enough, slower_inside


def test_the_better_build_is_kept_and_few_runs_conclude_nothing():
    slow, fast = (1.2,) * LEAST_ROUNDS, (1.0,) * LEAST_ROUNDS
    assert (_better(slow, fast), _better(fast, slow), _better(fast, fast)) == ("tuned", "default", "tuned")
    assert _better(fast[:2], slow[:2]) == "tuned"
    disturbed = (1.0, 1.0, 1.0, 5.0, 9.0)
    assert _better((1.05,) * LEAST_ROUNDS, disturbed) == "tuned"


def test_rounds_end_with_the_time():
    assert not _enough(LEAST_ROUNDS, wanted=True, in_time=True)
    assert _enough(LEAST_ROUNDS, wanted=False, in_time=True) and not _enough(1, wanted=False, in_time=True)
    assert _enough(2, wanted=False, in_time=False) and not _enough(1, wanted=False, in_time=False)


def test_time_for_builds_grows_with_what_is_built(host):
    check = ModelCheck("light_resnet50", host, import_s=0.5)
    nothing_s = check.build_s(0.0, 0)
    assert nothing_s >= 2 * 0.5
    assert check.build_s(10.0, 10**9) > check.build_s(1.0, 10**9) > check.build_s(1.0, 0) > nothing_s


def test_the_report_says_what_stays():
    times = ModelTimes((0.002,) * 5, (0.001,) * 5, "tuned")
    assert "2.000 ms" in str(times) and "2.00x" in str(times) and "stay" not in str(times)
    assert "the default schedules stay" in str(ModelTimes((0.001,) * 5, (0.002,) * 5, "default"))


def two_convolutions() -> onnx.ModelProto:
    """1x1 convolutions of 64 and then of 96 channels of a 28 x 28 image."""
    rng = np.random.default_rng(0)
    sizes = ((96, 64), (64, 96))
    weights = [
        numpy_helper.from_array(rng.standard_normal((*s, 1, 1), np.float32), f"w{i}") for i, s in enumerate(sizes)
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["y"], name="first"),
        helper.make_node("Conv", ["y", "w1"], ["z"], name="second"),
    ]
    x, z = (helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 64, 28, 28)) for n in "xz")
    return helper.make_model(helper.make_graph(nodes, "two", [x], [z], weights))


class Slow(Default):
    """The direct algorithm with the smallest register tile that there is."""

    def pick(self, name, options, default):
        if name == "algorithm":
            return options.index("direct")
        if name == "tile":
            return min(range(len(options)), key=lambda i: math.prod(options[i]))
        return super().pick(name, options, default)


def crippled(host, *channels):
    """A build in which the convolutions with so many output channels are slow."""

    def schedules(work, target):
        is_it = "conv" in str(work.anchor.tag) and work.anchor.shape[1] * work.anchor.shape[-1] in channels
        return Found(instantiate(work, Slow(), target).decisions) if is_it else None

    return compile_model(two_convolutions(), target=host, schedules=schedules)


def test_kernels_that_are_slower_inside_of_the_model_are_found(host):
    """In one build the first convolution has a register tile of one pixel and vector, in the other the second one."""
    default, first, second = crippled(host), crippled(host, 96), crippled(host, 64)
    keys = [t.key for t in default.report.tasks if t.name.startswith("conv")]
    ages = time.monotonic() + 60.0
    assert len(keys) == 2 and slower_inside(default, default, ages) == set()
    assert slower_inside(default, first, ages) == {keys[0]}
    assert slower_inside(default, second, ages) == {keys[1]}
    assert slower_inside(second, first, ages) == {keys[0]}  # and the second is faster in it
    assert slower_inside(default, first, time.monotonic()) == set()


def test_what_is_slower_inside_keeps_its_default_and_the_rest_is_measured(host):
    class Check(ModelCheck):
        def _build(self, log):
            builds.append(log)
            return default if log is None else tuned if len(builds) < 3 else default

    builds: list[object] = []
    kept: list[set[str]] = []
    default, tuned = crippled(host), crippled(host, 64, 96)
    log = MemoryDatabase()
    times = Check(two_convolutions(), host).run(log, time.monotonic() + 60.0, keep_defaults=kept.append)
    assert kept == [{t.key for t in default.report.tasks if t.name.startswith("conv")}]
    assert builds == [None, log, log] and len(times.tuned_s) >= LEAST_ROUNDS
