"""Accuracy of the vector functions over the whole range of float32, in units in the last place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from loop_harness import TARGETS, Native, buffer, loop

from luthier.codegen.nodes import Function, Store, seq
from luthier.te.expr import Binary, Var, call

# function -> (reference in float64, greatest error in ulp)
UNARY = {
    "exp": (np.exp, 1.5),
    "log": (np.log, 0.51),
    "tanh": (np.tanh, 1.5),
    "erf": (np.vectorize(math.erf, otypes=[np.float64]), 1.5),
    "sigmoid": (lambda x: np.where(x >= 0, 1.0, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x))), 2.5),
    "sqrt": (np.sqrt, 0.51),
    "sin": (np.sin, 0.51),
    "cos": (np.cos, 0.51),
    "tan": (np.tan, 0.51),
    "asin": (np.arcsin, 0.51),
    "acos": (np.arccos, 0.51),
    "atan": (np.arctan, 0.51),
    "sinh": (np.sinh, 0.51),
    "cosh": (np.cosh, 0.51),
    "asinh": (np.arcsinh, 0.51),
    "acosh": (np.arccosh, 0.51),
    "atanh": (np.arctanh, 0.51),
    "floor": (np.floor, 0.0),
    "ceil": (np.ceil, 0.0),
    "round": (np.rint, 0.0),
    "trunc": (np.trunc, 0.0),
    "abs": (np.abs, 0.0),
}
COUNT = 16 * 4096


def samples() -> np.ndarray:
    """Bit patterns spread over all of float32, the usual range more densely, and every special value."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**32, COUNT // 2, dtype=np.uint64).astype(np.uint32).view(np.float32)
    usual = np.concatenate([rng.uniform(-a, a, COUNT // 16) for a in (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 110.0)])
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, -1e-45, 1e-38, 1.17549435e-38, 3.4e38, -3.4e38, 88.7228,
         88.73, -103.9, -87.3, 0.5, 1.5, 2.5, -0.5, 8388609.0, 1048576.0, 1048577.0, 1e30],
        np.float32,
    )  # fmt: skip
    values = np.concatenate([special, usual.astype(np.float32), bits])
    return np.resize(values, COUNT).astype(np.float32)


def elementwise(fn: str, dtype: str, count: int) -> Function:
    x, y = buffer("x", (count // 16, 16), dtype), buffer("y", (count // 16, 16), dtype)
    i, j = Var("i"), Var("j")
    body = loop(j, 16, "vectorize", Store(y, (i, j), call(fn, x[i, j])))
    return Function("f", (x, y), 1, loop(i, count // 16, "serial", body))


def ulp_error(have: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Distance in units in the last place of the correctly rounded float32 (0 if both are NaN or one infinity)."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        step = np.spacing(np.minimum(np.abs(rounded), np.finfo(np.float32).max)).astype(np.float64)
        error = np.abs(have.astype(np.float64) - want) / step
        same = (have == rounded) | (np.isnan(have) & np.isnan(rounded))
    error = np.where(same, np.minimum(np.nan_to_num(error, nan=0.0, posinf=0.0), 0.5), error)
    return np.where(np.isnan(error), np.inf, error)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("fn", sorted(UNARY))
def test_float32_accuracy(fn, target):
    reference, bound = UNARY[fn]
    x = samples()
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
    (_, have) = Native(elementwise(fn, "float32", COUNT), target)([x.reshape(-1, 16), np.zeros_like(x).reshape(-1, 16)])
    error = ulp_error(have.ravel(), want)
    worst = int(error.argmax())
    assert error[worst] <= bound, (
        f"{fn}({x[worst]!r}) = {have.ravel()[worst]!r}, not {want[worst]!r}: {error[worst]} ulp"
    )


@pytest.mark.parametrize("fn", ["sin", "tanh", "erf", "asinh", "sinh", "atan", "tan", "round", "trunc"])
def test_sign_of_zero_is_kept(fn):
    x = np.array([0.0, -0.0] * 8, np.float32).reshape(1, 16)
    (_, have) = Native(elementwise(fn, "float32", 16))([x, x])
    np.testing.assert_array_equal(np.signbit(have), np.signbit(x))


@pytest.mark.parametrize("fn", ["exp", "log", "tanh", "erf", "sin", "asinh", "sigmoid", "sqrt", "round"])
def test_float64_is_accurate(fn):
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(-5, 5, 30), [0.0, np.inf]]).reshape(2, 16)
    with np.errstate(all="ignore"):
        want = UNARY[fn][0](x)
    (_, have) = Native(elementwise(fn, "float64", 32))([x, np.zeros_like(x)])
    np.testing.assert_allclose(have, want, rtol=1e-15)


@pytest.mark.parametrize("lanes", [1, 3, 8, 16])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pow(lanes, dtype):
    """All pairs of interesting values, and random ones, as C's pow has them."""
    special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -2.0,
        0.5,
        -0.5,
        3.0,
        -3.0,
        1e30,
        -1e30,
        1e-30,
        np.inf,
        -np.inf,
        np.nan,
        255.5,
    ]
    rng = np.random.default_rng(3)
    pairs = [(a, b) for a in special for b in special] + list(
        zip(rng.lognormal(0, 3, 600), rng.normal(0, 8, 600), strict=True)
    )
    pairs = pairs[: len(pairs) // lanes * lanes]
    x = np.array([p[0] for p in pairs], dtype)
    y = np.array([p[1] for p in pairs], dtype)
    n = len(pairs)
    a, b, c = buffer("a", (n,), dtype), buffer("b", (n,), dtype), buffer("c", (n,), dtype)
    i, j = Var("i"), Var("j")
    at = i * lanes + j
    body = loop(j, lanes, "vectorize", Store(c, (at,), Binary("pow", a[at], b[at], dtype)))
    (_, _, have) = Native(Function("f", (a, b, c), 1, loop(i, n // lanes, "serial", body)))([x, y, x])
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64))
    if dtype == "float32":
        assert ulp_error(have, want).max() <= 0.51
    else:
        np.testing.assert_allclose(have, want, rtol=1e-15)


@pytest.mark.parametrize("exponent", [1.0, 2.0, -1.0, 0.5, 3.0])
def test_pow_by_a_constant(exponent):
    x = np.concatenate([np.random.default_rng(4).lognormal(0, 3, 11), [0.0, -0.0, np.inf, -np.inf, -2.0]])
    x = x.astype(np.float32).reshape(1, 16)
    a, c = buffer("a", (1, 16)), buffer("c", (1, 16))
    j, k = Var("j"), Var("k")
    lanes = loop(j, 8, "vectorize", Store(c, (j * 0, j), a[0, j] ** exponent))
    body = seq(lanes, loop(k, 8, "serial", Store(c, (k * 0, k + 8), a[0, k + 8] ** exponent)))
    (_, have) = Native(Function("f", (a, c), 1, body))([x, x])
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), np.full(x.shape, exponent))  # not NumPy's short cut for a scalar 0.5
    assert ulp_error(have.ravel(), want.ravel()).max() <= 1.0
    np.testing.assert_array_equal(np.signbit(have), np.signbit(want))


def test_isnan_and_isinf():
    x, y, z = buffer("x", (8,)), buffer("y", (8,), "bool"), buffer("z", (8,), "bool")
    i = Var("i")
    body = loop(i, 8, "vectorize", seq(Store(y, (i,), call("isnan", x[i])), Store(z, (i,), call("isinf", x[i]))))
    values = np.array([np.nan, np.inf, -np.inf, 0, 1, -1, 3e38, 1e-45], np.float32)
    (_, nan, inf) = Native(Function("f", (x, y, z), 2, body))([values, np.zeros(8, bool), np.zeros(8, bool)])
    np.testing.assert_array_equal(nan, np.isnan(values))
    np.testing.assert_array_equal(inf, np.isinf(values))
