"""Operator families: what counts as alike, and how far apart the members are."""

from __future__ import annotations

import math

from luthier import te
from luthier.te.ops.conv import conv
from luthier.te.workload import Workload
from luthier.tuner.family import FAMILY_VERSION, Family, family_of


def convolution(
    channels=32, size=14, out=32, kernel=3, stride=1, block=8, relu=False, residual=False, **more
) -> Workload:
    pad = kernel // 2
    x = te.placeholder((1, channels // block, size, size, block), name="x")
    w = te.placeholder((out, channels // more.get("groups", 1), kernel, kernel), name="w", constant=True)
    made = conv(
        x, w, in_channels=channels, out_channels=out, pads=(pad,) * 4, strides=(stride,) * 2,
        in_block=block, out_block=block, **more,
    )  # fmt: skip
    result, inputs = made, [x, w]
    if residual:
        other = te.placeholder(made.shape, name="other")
        result = te.compute(made.shape, lambda *i: made[i] + other[i], "sum")
        inputs.append(other)
    if relu:
        last = result
        result = te.compute(made.shape, lambda *i: te.maximum(last[i], 0.0), "relu")
    return te.workload(result, inputs)


def matmul(m, n, k) -> Workload:
    a, b = te.placeholder((m, k)), te.placeholder((k, n), constant=True)
    r = te.reduce_axis(k, "k")
    attrs = {"batch": 1, "m": m, "n": n, "k": k, "trans_a": False, "trans_b": False}
    out = te.compute((m, n), lambda i, j: te.sum(a[i, r] * b[r, j], r), "product", tag="matmul", attrs=attrs)
    return te.workload(out, [a, b])


def elementwise(shape, constant=2.0) -> Workload:
    x = te.placeholder(shape)
    return te.workload(te.compute(shape, lambda *i: x[i] * constant, "y"))


def of(workload: Workload) -> Family:
    return family_of(workload.text)


def test_sizes_and_what_follows_the_anchor_do_not_matter():
    same = [
        convolution(), convolution(channels=64), convolution(size=28), convolution(out=128), convolution(relu=True),
        convolution(residual=True, relu=True),
    ]  # fmt: skip
    assert len({of(w).signature for w in same}) == 1
    assert len({of(matmul(*sizes)).signature for sizes in ((1, 10, 10), (64, 100, 7))}) == 1


def test_what_schedules_depend_on_does():
    different = [
        convolution(), convolution(kernel=1), convolution(stride=2), convolution(block=16), convolution(groups=2),
        convolution(accuracy="exact"), matmul(8, 8, 8), elementwise((8, 8)), elementwise((64,)),
    ]  # fmt: skip
    signatures = [of(w).signature for w in different]
    assert len(set(signatures)) == len(signatures)
    assert all(s.startswith(FAMILY_VERSION) for s in signatures)


def test_computes_without_attributes_are_alike_up_to_whole_numbers():
    assert of(elementwise((8, 16))).signature == of(elementwise((32, 5))).signature
    assert of(elementwise((8, 16))).signature != of(elementwise((8, 16), 3.0)).signature


def test_distance():
    base = of(convolution())
    assert base.distance(base) == 0
    assert base.distance(of(convolution(channels=64))) == 1  # twice the blocks to sum over
    assert base.distance(of(convolution(size=28))) == 2
    assert base.distance(of(convolution(relu=True))) == 0
    assert 0 < base.distance(of(convolution(residual=True))) < 1
    assert base.distance(of(convolution(stride=2))) == math.inf
    far, near = of(convolution(channels=512)), of(convolution(channels=24))
    assert base.distance(far) == far.distance(base) == 4 > base.distance(near)


def test_a_text_that_is_no_workload_is_alone():
    assert family_of("C[i] = A[i]") == family_of("C[i] = A[i]")
    assert family_of("C[i] = A[i]").signature != family_of("C[i] = B[i]").signature
    assert family_of("").signature.startswith(FAMILY_VERSION)
