"""Every dtype through loads, arithmetic, comparisons, conversions and stores, in scalars and in lanes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_harness import TARGETS, Native, arrays_for, buffer, check, loop

from luthier.codegen.nodes import Function, Store, seq
from luthier.te import dtype as dt
from luthier.te.expr import (
    Binary,
    Var,
    all_of,
    any_of,
    call,
    cast,
    compare,
    const,
    logical_not,
    maximum,
    minimum,
    select,
)

INTEGERS = [*dt.SIGNED, *dt.UNSIGNED]
FLOATS = list(dt.FLOATS)
kinds = pytest.mark.parametrize("kind", ["serial", "vectorize"])


def elementwise(names, dtypes, values, kind, n=16):
    """y_k[i] = value_k over n elements; values are made from the buffers."""
    buffers = [buffer(f"x{k}", (n,), d) for k, d in enumerate(dtypes)]
    i = Var("i")
    exprs = values(i, *(b[i] for b in buffers))
    outs = [buffer(f"y{k}", (n,), e.dtype) for k, e in enumerate(exprs)]
    body = seq(*(Store(y, (i,), e) for y, e in zip(outs, exprs, strict=True)))
    return Function(names, (*buffers, *outs), len(outs), loop(i, n, kind, body))


@kinds
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_arithmetic_wraps(dtype, kind):
    def values(i, a, b):
        return [a + b, a - b, a * b, minimum(a, b), maximum(a, b), a // b, a % b, a // 7, a % 8, call("abs", a)]

    fn = elementwise("f", [dtype, dtype], values, kind)
    info = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    a = rng.integers(info.min, info.max, 16, dtype=dtype, endpoint=True)
    a[:3] = info.min, info.max, 0
    b = rng.integers(1, 100, 16).astype(dtype)
    b[:2] = (-1, -3) if dtype in dt.SIGNED else (255, 3)
    check(fn, [a, b, *arrays_for(fn)[2:]])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_division_by_zero_in_an_unused_lane_does_not_trap(dtype):
    zero = const(0, dtype)

    def values(i, a, b):
        return [select(compare("ne", b, zero), a // b, zero), select(compare("ne", b, zero), a % b, zero)]

    for kind in ("serial", "vectorize"):
        fn = elementwise("f", [dtype, dtype], values, kind)
        arrays = arrays_for(fn)
        arrays[1][::3] = 0
        check(fn, arrays)


@kinds
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", FLOATS)
def test_float_arithmetic(dtype, kind, target):
    def values(i, a, b):
        return [a + b, a - b, a * b, a / b, maximum(a, const(0.0, dtype)), minimum(a, b), -a, call("exp", a) * b]

    fn = elementwise("f", [dtype, dtype], values, kind)
    rtol = {"float16": 2e-3, "bfloat16": 2e-2}.get(dtype, 1e-6)
    check(fn, target=target, rtol=rtol)


@kinds
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_floats_round_like_numpy(dtype, kind):
    """Sums, products and quotients of short floats are exact to the bit."""

    def values(i, a, b):
        return [a + b, a * b, a / b]

    fn = elementwise("f", [dtype, dtype], values, kind, n=64)
    arrays = arrays_for(fn)
    arrays[0][:4] = 65504, 1e-7, 6e-5, -2e-8
    outputs = check(fn, arrays)
    a, b = arrays[:2]
    with np.errstate(over="ignore"):
        wanted = (a + b, a * b, a / b)
    for have, want in zip(outputs, wanted, strict=True):
        np.testing.assert_array_equal(have, want)


@kinds
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, "bool"])
def test_comparisons_and_logic(dtype, kind):
    def values(i, a, b):
        ops = ("eq", "ne") if dtype == "bool" else ("lt", "le", "gt", "ge", "eq", "ne")
        results = [compare(op, a, b) for op in ops]
        both = all_of(results[0], results[-1])
        return [*results, both, any_of(results[0], logical_not(both)), select(results[1], a, b)]

    fn = elementwise("f", [dtype, dtype], values, kind)
    arrays = arrays_for(fn)
    arrays[1][::2] = arrays[0][::2]
    if dtype in ("float32", "float64"):
        arrays[0][3], arrays[1][4] = np.nan, np.nan
    check(fn, arrays)


@kinds
@pytest.mark.parametrize("source", [*INTEGERS, *FLOATS, "bool"])
def test_conversions_to_every_dtype(source, kind):
    everything = [*INTEGERS, *FLOATS, "bool"]
    fn = elementwise("f", [source], lambda i, a: [cast(a, d) for d in everything], kind)
    arrays = arrays_for(fn)
    if dt.is_float(source):  # stay inside every integer type
        arrays[0] = np.abs(arrays[0] * arrays[0].dtype.type(10))
        arrays[0][:2] = 0, 100
    for target in (TARGETS[0], TARGETS[1]):
        check(fn, arrays, target=target, rtol=1e-7)


def test_doubles_round_once_to_short_floats():
    """Halfway cases that rounding to float32 first would get wrong."""
    steps = np.array([1 + 2**-11 + 2**-30, 1 + 2**-11 - 2**-30, 1 + 2**-11, 1 + 3 * 2**-11], np.float64)
    x = np.concatenate([steps, -steps, 1 + (steps - 1) * 8, [65519.99999, 65520.0, 5.96e-8 / 2, np.inf]])
    fn = elementwise("f", ["float64"], lambda i, a: [cast(a, "float16")], "vectorize", n=len(x))
    with np.errstate(over="ignore"):
        want = x.astype(np.float16)
        (half,) = check(fn, [x, want])
    np.testing.assert_array_equal(half, want)
    # ml_dtypes itself rounds twice here, so that the interpreter is no oracle
    exact = np.array([1 + 2**-8 + 2**-27, 1 + 2**-8 - 2**-27, 1 + 2**-8, 1 + 3 * 2**-8])
    fn = elementwise("f", ["float64"], lambda i, a: [cast(a, "bfloat16")], "vectorize", n=4)
    (_, brain) = Native(fn)([exact, exact.astype(dt.to_numpy("bfloat16"))])
    np.testing.assert_array_equal(brain.astype(np.float64), [1 + 2**-7, 1.0, 1.0, 1 + 2**-6])


def test_float16_bits_without_hardware_conversion():
    """All 65536 half floats to float32 and back, on a target that has no instruction for it."""
    v2 = next(t for t in TARGETS if t.name == "x86-64-v2")
    bits = np.arange(65536, dtype=np.uint16).view(np.float16)
    x, y, z = buffer("x", (65536,), "float16"), buffer("y", (65536,)), buffer("z", (65536,), "float16")
    i, j = Var("i"), Var("j")
    at = i * 8 + j
    body = seq(Store(y, (at,), cast(x[at], "float32")), Store(z, (at,), cast(cast(x[at], "float32"), "float16")))
    fn = Function("f", (x, y, z), 2, loop(i, 8192, "serial", loop(j, 8, "vectorize", body)))
    (_, wide, back) = Native(fn, v2)([bits, np.zeros(65536, np.float32), bits])
    np.testing.assert_array_equal(wide, bits.astype(np.float32))
    np.testing.assert_array_equal(back, bits)
    rng = np.random.default_rng(0)
    random = rng.integers(0, 2**32, 65536, dtype=np.uint64).astype(np.uint32).view(np.float32)
    random[:2000] = rng.normal(0, 1e-7, 2000)
    fn = Function(
        "g", (y, z), 1, loop(i, 8192, "serial", loop(j, 8, "vectorize", Store(z, (at,), cast(y[at], "float16"))))
    )
    (_, narrow) = Native(fn, v2)([random, bits])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(narrow, random.astype(np.float16))


def test_nan_passes_min_and_max_as_stated():
    """``b if b < a else a``: a NaN in the first operand stays, one in the second is dropped."""
    fn = elementwise("f", ["float32"] * 2, lambda i, a, b: [minimum(a, b), maximum(a, b)], "vectorize", n=4)
    a = np.array([np.nan, 1, np.nan, 2], np.float32)
    b = np.array([1, np.nan, np.nan, 3], np.float32)
    low, high = check(fn, [a, b, a, a])
    np.testing.assert_array_equal(low, [np.nan, 1, np.nan, 2])
    np.testing.assert_array_equal(high, [np.nan, 1, np.nan, 3])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_integer_expressions(data):
    """Random trees over lanes, a loop variable and data agree with the interpreter."""
    x, y = buffer("x", (4, 8), "int64"), buffer("y", (4, 8), "int64")
    i, j = Var("i"), Var("j")
    leaves = st.sampled_from([i, j, x[i, j], x[i, 0], const(3), const(-5), const(16), i * 8 + j, j - i])
    divisors = st.sampled_from([const(2), const(3), const(7), const(16)])

    def extend(inner):
        plain = st.builds(
            lambda op, a, b: Binary(op, a, b, "int64"),
            st.sampled_from(["add", "sub", "mul", "min", "max"]),
            inner,
            inner,
        )
        divided = st.builds(
            lambda op, a, b: Binary(op, a, b, "int64"), st.sampled_from(["floordiv", "floormod"]), inner, divisors
        )
        chosen = st.builds(
            lambda op, a, b, c, d: select(compare(op, a, b), c, d),
            st.sampled_from(["lt", "ge", "eq"]),
            inner,
            inner,
            inner,
            inner,
        )
        return plain | divided | chosen

    e = data.draw(st.recursive(leaves, extend, max_leaves=10))
    kind = data.draw(st.sampled_from(["serial", "vectorize", "unroll"]))
    fn = Function("f", (x, y), 1, loop(i, 4, "serial", loop(j, 8, kind, Store(y, (i, j), e))))
    check(fn, arrays_for(fn, seed=5))
