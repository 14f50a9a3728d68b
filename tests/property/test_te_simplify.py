"""The simplifier, bounds, proofs and regions on random integer expressions, against direct evaluation."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.evaluate import evaluate
from luthier.te.expr import Binary, Compare, Const, Not, Select, Var, binary, compare
from luthier.te.printer import format_expr
from luthier.te.simplify import bounds_of, from_linear, linear, prove, region, simplify
from luthier.te.traversal import free_vars

VARS = tuple(Var(name) for name in "abc")
UNBOUNDED_SAMPLES = (-9, -1, 0, 1, 2, 14)

DIVISORS = st.sampled_from([2, 3, 4, 6, 8, 16, 32, -3])
LEAVES = st.sampled_from(VARS) | st.sampled_from(VARS) | st.integers(-9, 20).map(te.const)


def _integers(inner):
    return st.one_of(
        st.builds(lambda op, a, b: binary(op, a, b), st.sampled_from(["add", "add", "sub"]), inner, inner),
        st.builds(lambda a, k: a * k, inner, st.sampled_from([2, 3, 4, 5, 8, 16, -1, -4])),
        st.builds(lambda a, k: a // k, inner, DIVISORS),
        st.builds(lambda a, k: a % k, inner, DIVISORS),
        st.builds(lambda op, a, b: binary(op, a, b), st.sampled_from(["min", "max"]), inner, inner),
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(
            lambda op, a, b, x, y: te.select(compare(op, a, b), x, y),
            st.sampled_from(["lt", "ge", "eq"]),
            inner,
            inner,
            inner,
            inner,
        ),
    )


INTEGERS = st.recursive(LEAVES, _integers, max_leaves=9)
COMPARES = st.builds(compare, st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"]), INTEGERS, INTEGERS)
CONDITIONS = st.recursive(
    COMPARES,
    lambda inner: (
        st.builds(lambda op, a, b: binary(op, a, b), st.sampled_from(["and", "or"]), inner, inner)
        | st.builds(te.logical_not, inner)
    ),
    max_leaves=4,
)
RANGE = st.tuples(st.integers(-3, 3), st.sampled_from([0, 1, 2, 3, 4, 7])).map(lambda r: (r[0], r[0] + r[1]))
BOUNDS = st.fixed_dictionaries({}, optional=dict.fromkeys(VARS, RANGE))

_BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "floormod": lambda a, b: a % b,
    "min": min,
    "max": max,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
}
_COMPARE = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}


def value(e, env):
    """The value of an expression in Python's integers."""
    match e:
        case Var():
            return env[e]
        case Const():
            return e.value
        case Binary():
            return _BINARY[e.op](value(e.a, env), value(e.b, env))
        case Compare():
            return _COMPARE[e.op](value(e.a, env), value(e.b, env))
        case Not():
            return not value(e.a, env)
        case Select():
            return value(e.a if value(e.condition, env) else e.b, env)
    raise AssertionError(e)


def points(bounds):
    """Every point of the bounded variables, with a few values of the others."""
    values = [range(bounds[v][0], bounds[v][1] + 1) if v in bounds else UNBOUNDED_SAMPLES for v in VARS]
    return (dict(zip(VARS, p, strict=True)) for p in itertools.product(*values))


@given(INTEGERS | CONDITIONS, BOUNDS)
@settings(max_examples=250, deadline=None)
def test_simplify_keeps_the_value_and_is_idempotent(e, bounds):
    s = simplify(e, bounds)
    assert s.dtype == e.dtype
    assert simplify(s, bounds) is s
    assert simplify(s, dict(bounds) | {Var("other"): (0, 1)}) is s  # by a simplifier that has not seen it
    for env in points(bounds):
        assert value(s, env) == value(e, env), format_expr(s)


@given(INTEGERS, BOUNDS)
@settings(max_examples=120, deadline=None)
def test_bounds_hold(e, bounds):
    lo, hi = bounds_of(e, bounds)
    for env in points(bounds):
        assert lo is None or lo <= value(e, env)
        assert hi is None or value(e, env) <= hi


LIMITS = st.builds(
    lambda op, v, k, n: compare(op, v * k, n),
    st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"]),
    st.sampled_from([VARS[0], VARS[0] - VARS[1]]),
    st.sampled_from([1, 2, -1]),
    st.integers(-2, 3),
)


@given(
    st.recursive(
        LIMITS,
        lambda inner: st.builds(binary, st.sampled_from(["and", "or"]), inner, inner) | inner.map(te.logical_not),
        max_leaves=5,
    )
)
@settings(max_examples=150, deadline=None)
def test_limits_of_one_value_combine(condition):
    """Conditions on the same terms, so that they imply or exclude one another."""
    s = simplify(condition)
    assert simplify(s) is s
    for x, y in itertools.product(range(-5, 6), (0, 2)):
        env = {VARS[0]: x, VARS[1]: y}
        assert value(s, env) == value(condition, env), format_expr(s)


@given(st.lists(st.tuples(st.sampled_from([-4, -1, 1, 3, 8]), RANGE), min_size=1, max_size=3), st.integers(-5, 5))
def test_bounds_of_sums_are_exact(terms, const):
    e, bounds = te.const(const), {}
    for v, (k, r) in zip(VARS, terms, strict=False):
        e, bounds[v] = e + v * k, r
    values = [value(e, env) for env in points(bounds | {v: (0, 0) for v in VARS if v not in bounds})]
    assert bounds_of(e, bounds) == (min(values), max(values))


@given(CONDITIONS, BOUNDS)
@settings(max_examples=120, deadline=None)
def test_proofs_hold(condition, bounds):
    proved = prove(condition, bounds)
    assume(proved is not None)
    assert all(value(condition, env) == proved for env in points(bounds))


@given(INTEGERS, BOUNDS)
@settings(max_examples=100, deadline=None)
def test_linear_round_trip(e, bounds):
    form = linear(e, bounds)
    assert form is not None
    back = from_linear(form)
    assert format_expr(back) == format_expr(simplify(e, bounds))


@given(INTEGERS, BOUNDS, st.sets(st.sampled_from(VARS)))
@settings(max_examples=150, deadline=None)
def test_regions_hold(e, bounds, chosen):
    inner = {v: bounds[v] for v in chosen if v in bounds}
    outer = {v: r for v, r in bounds.items() if v not in inner}
    try:
        start, extent = region(e, inner, outer)
    except ExpressionError:
        assume(False)
    assert free_vars(start).isdisjoint(inner)
    for env in points(bounds):
        first = value(start, {v: n for v, n in env.items() if v not in inner})
        assert first <= value(e, env) < first + extent


@given(
    st.lists(st.tuples(st.sampled_from([-4, -1, 1, 3, 8]), st.booleans(), RANGE), min_size=1, max_size=3),
    st.integers(-5, 5),
)
def test_regions_of_sums_are_exact(terms, const):
    e, inner, outer = te.const(const), {}, {}
    for v, (k, is_inner, r) in zip(VARS, terms, strict=False):
        e = e + v * k
        (inner if is_inner else outer)[v] = r
    start, extent = region(e, inner, {v: r for v, r in outer.items() if r[0] > 0})
    everything = inner | outer | {v: (0, 0) for v in VARS if v not in inner and v not in outer}
    by_outer = {}
    for env in points(everything):
        by_outer.setdefault(tuple(env[v] for v in outer), []).append((value(e, env), value(start, env)))
    for seen in by_outer.values():
        values = [x for x, _ in seen]
        assert seen[0][1] == min(values)
        assert extent == max(values) - min(values) + 1


# ------------------------------------------------------------------------------ integers in memory wrap

EDGES = {
    "int8": [-128, -127, -1, 0, 1, 2, 63, 127],
    "uint8": [0, 1, 2, 3, 127, 128, 254, 255],
    "int32": [-(2**31), -(2**31) + 1, -1, 0, 1, 2, 2**30, 2**31 - 1],
    "int64": [-(2**63), -(2**63) + 1, -1, 0, 1, 2, 2**62, 2**63 - 1],
}


@st.composite
def memory_workload(draw):
    """A computation over every pair of edge values of one integer type, or of its conversion to int64."""
    dtype = draw(st.sampled_from(sorted(EDGES)))
    x, y = (te.placeholder((64,), dtype, n) for n in "xy")
    to_index = draw(st.booleans())
    i = Var("i")
    reads = [te.cast(t[i], "int64") if to_index else t[i] for t in (x, y)]
    work = reads[0].dtype
    number = st.sampled_from([0, 1, 2, 3, 4, 100]).map(lambda n: te.const(n, work))
    signed = work != "uint8"
    divisor = st.sampled_from([1, 2, 3, 4, 16, -3] if signed else [1, 2, 3, 4, 16]).map(lambda n: te.const(n, work))
    leaves = st.sampled_from(reads) | number

    def extend(inner):
        return st.one_of(
            st.builds(binary, st.sampled_from(["add", "sub", "mul", "min", "max"]), inner, inner),
            st.builds(binary, st.sampled_from(["floordiv", "floormod"]), inner, divisor),
            st.builds(
                lambda op, a, b: te.select(compare(op, a, b), a, b), st.sampled_from(["lt", "ge", "eq"]), inner, inner
            ),
            st.builds(lambda op, a, b: te.cast(compare(op, a, b), work), st.sampled_from(["lt", "ge"]), inner, inner),
        )

    return dtype, (x, y), i, draw(st.recursive(leaves, extend, max_leaves=8))


@given(memory_workload())
@settings(max_examples=150, deadline=None)
def test_arithmetic_on_data_wraps_as_before(case):
    dtype, inputs, i, e = case
    pairs = np.array(list(itertools.product(EDGES[dtype], repeat=2)), dtype)
    simplified = simplify(e, {i: (0, 63)})
    bodies = [te.compute((64,), lambda j, b=b: te.traversal.substitute(b, {i: j}), "t") for b in (e, simplified)]
    before, after = evaluate(te.workload(bodies, inputs), [pairs[:, 0].copy(), pairs[:, 1].copy()])
    np.testing.assert_array_equal(before, after, err_msg=f"{e} -> {simplified}")
    lo, hi = bounds_of(e, {i: (0, 63)})
    assert lo is None or lo <= int(before.min())
    assert hi is None or int(before.max()) <= hi


def test_region_examples():
    o, i, j = Var("o"), Var("i"), Var("j")
    r = {i: (0, 3), j: (0, 2)}
    for e, inner, expected in [
        ((o * 4 + i) // 2, {i: (0, 3)}, ("o * 2", 2)),
        ((o * 3 + i) // 2, {i: (0, 3)}, ("o + o // 2", 3)),
        (o * 8 + i * 2 + j, r, ("o * 8", 9)),
        (o * 8 - i * 2 + j - 1, r, ("o * 8 - 7", 9)),
        ((o * 16 + i) % 32, {i: (0, 3)}, ("o % 2 * 16", 4)),
        ((o * 3 + i) % 8, {i: (0, 3)}, ("0", 8)),
        (te.minimum(o * 4 + i, 10), {i: (0, 3)}, ("min(o * 4, 10)", 4)),
        (te.select(o < 3, o + i, 7), {i: (0, 3)}, ("select(o < 3, o, 7)", 4)),
        (o, {i: (0, 3)}, ("o", 1)),
    ]:
        start, extent = region(e, inner)
        assert (format_expr(start), extent) == expected


def test_region_of_an_index_from_memory():
    table = te.placeholder((10,), "int64", "table")
    i = Var("i")
    assert region(table[i], {i: (0, 3)}, within=(0, 99))[1] == 100
    with pytest.raises(ExpressionError, match="within="):
        region(table[i], {i: (0, 3)})
    with pytest.raises(ExpressionError, match="must be int64"):
        region(te.cast(i, "int32"), {i: (0, 3)})
