"""Outputs that kernels write into a larger buffer: at the right place, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
from targets import runnable
from workloads import conv_relu, matmul, softmax

from luthier import config, te
from luthier.codegen.build import build_kernel
from luthier.codegen.interpret import interpret
from luthier.codegen.pipeline import lower_schedule
from luthier.errors import ExpressionError
from luthier.runtime.function import build
from luthier.schedule import Default, Schedule, instantiate
from luthier.te.evaluate import evaluate
from luthier.te.workload import Frame


def doubled(*shape):
    x = te.placeholder(shape, name="x")
    return te.workload(te.compute(shape, lambda *i: x[i] + x[i], name="out"))


def framed(workload, before, after):
    """The same with ``before`` and ``after`` more elements around the output in each dimension."""
    (y,) = workload.outputs
    shape = tuple(b + n + a for b, n, a in zip(before, y.shape, after, strict=True))
    return te.workload([y], workload.inputs, {y: Frame(shape, tuple(before))})


WORKLOADS = {
    "channels of NHWC": framed(
        conv_relu(channels=20, outputs=24, size=(3, 5), block=20, out_block=24), (0, 0, 0, 0, 7), (0, 0, 0, 0, 3)
    ),
    "blocks of channels": framed(conv_relu(size=(3, 5), outputs=32), (0, 1, 0, 0, 0), (0, 2, 0, 0, 0)),
    "pixels in one dimension": framed(
        conv_relu(size=(7, 7), kernel=(1, 1), pad=0, outputs=32), (0, 1, 0, 0, 0), (0, 0, 0, 0, 0)
    ),
    "depthwise": framed(
        conv_relu(channels=24, outputs=24, groups=24, size=(4, 5), block=24), (0, 0, 0, 0, 1), (0, 0, 0, 0, 0)
    ),
    "matmul": framed(matmul(5, 37, 9, constant=True), (0, 5), (0, 11)),
    "softmax": framed(softmax(3, 37), (1, 0), (0, 2)),
    "elementwise": framed(doubled(3, 5, 33), (0, 2, 3), (1, 0, 9)),
    "elementwise, narrow": framed(doubled(7, 3), (0, 1), (0, 4)),
}


def arrays_for(workload):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(p.shape).astype(p.dtype) for p in workload.inputs]


def inside(workload):
    (y,) = workload.outputs
    frame = workload.frames[y]
    return tuple(slice(b, b + n) for b, n in zip(frame.begin, y.shape, strict=True))


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("default", [True, False])
def test_the_loops_write_the_output_and_nothing_around_it(name, default):
    workload, target = WORKLOADS[name], runnable("x86-64-v4", threads=2)
    schedule = instantiate(workload, Default(), target) if default else Schedule(workload)
    inputs = arrays_for(workload)
    with config.override(verify=True):
        fn = lower_schedule(schedule, target)
    layouts = [schedule.layouts.get(p) for p in workload.inputs]
    physical = [a if layout is None else layout.apply(a) for layout, a in zip(layouts, inputs, strict=True)]
    (frame,) = workload.frames.values()
    found = np.full(frame.shape, np.nan, np.float32)
    interpret(fn, [*physical, found], threads=2)
    (expected,) = evaluate(workload, inputs)
    np.testing.assert_allclose(found[inside(workload)], expected, rtol=2e-5, atol=1e-4)
    assert np.isnan(found).sum() == found.size - expected.size


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_the_code_computes_what_the_loops_do(name, level):
    workload, target = WORKLOADS[name], runnable(level, threads=2)
    inputs = arrays_for(workload)
    found = build(instantiate(workload, Default(), target), target, threads=2)(*inputs)
    assert found.shape == next(iter(workload.frames.values())).shape
    np.testing.assert_allclose(found[inside(workload)], evaluate(workload, inputs)[0], rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("workload", "decision", "choice"),
    [
        (conv_relu(size=(6, 9), channels=32, outputs=32), "algorithm", "winograd4"),
        (conv_relu(size=(5, 5), kernel=(1, 1), pad=0, outputs=32), "flat_pixels", True),
    ],
)
def test_other_algorithms_write_into_a_frame(workload, decision, choice):
    workload, target = framed(workload, (0, 1, 0, 0, 0), (0, 1, 0, 0, 0)), runnable("x86-64-v4", threads=1)

    class Choosing(Default):
        def pick(self, name, options, default):
            return options.index(choice) if name == decision else super().pick(name, options, default)

    inputs = arrays_for(workload)
    schedule = instantiate(workload, Choosing(), target)
    assert schedule.decisions[decision] == choice
    found = build(schedule, target)(*inputs)
    np.testing.assert_allclose(found[inside(workload)], evaluate(workload, inputs)[0], rtol=2e-5, atol=1e-4)


def test_an_output_in_a_frame_overwrites_no_input():
    target = runnable("x86-64-v4", threads=1)
    plain = doubled(4, 16)
    assert build_kernel(instantiate(plain, Default(), target), target).in_place == ((0, 0),)
    for workload in (framed(plain, (0, 0), (0, 16)), framed(plain, (0, 0), (0, 0))):
        assert build_kernel(instantiate(workload, Default(), target), target).in_place == ()


def test_a_frame_is_part_of_the_key():
    plain = doubled(4, 16)
    keys = {w.key for w in (plain, framed(plain, (0, 0), (0, 1)), framed(plain, (0, 1), (0, 0)))}
    assert len(keys) == 3
    assert te.workload(plain.outputs, plain.inputs, {}).key == plain.key
    assert framed(plain, (0, 1), (0, 0)).text.endswith("return t1 in [4, 17] at [0, 1]\n")


def test_frames_that_do_not_fit_are_refused():
    work = doubled(4, 16)
    (y,) = work.outputs
    for frame in (Frame((4, 16), (0, 1)), Frame((4, 18), (0, -1)), Frame((3, 16), (0, 0))):
        with pytest.raises(ExpressionError, match="does not lie inside of its frame"):
            te.workload(y, None, {y: frame})
    with pytest.raises(ExpressionError, match="one entry for each dimension"):
        te.workload(y, None, {y: Frame((64,), (0,))})
    with pytest.raises(ExpressionError, match="is no output"):
        te.workload(y, None, {replace(y, name="z"): Frame((4, 16), (0, 0))})
