"""The NumPy evaluator on random computations, against a point-by-point walk over the definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier import te
from luthier.te import evaluate as evaluate_module
from luthier.te.evaluate import evaluate
from luthier.te.expr import Binary, Call, Cast, Compare, Const, Not, Read, Reduce, Select, Var, binary, compare
from luthier.te.tensor import Compute

SHAPE = (3, 4)
A, B = te.placeholder(SHAPE, "int32", "A"), te.placeholder((5,), "int32", "B")


class OutOfRange(Exception):
    pass


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
_COMPARE = {"lt": lambda a, b: a < b, "ge": lambda a, b: a >= b, "eq": lambda a, b: a == b}
_IDENTITY = {"sum": 0, "prod": 1, "min": 2**31 - 1, "max": -(2**31)}
_COMBINE = {"sum": "add", "prod": "mul", "min": "min", "max": "max"}


def wrap(value, dtype):
    if dtype == "bool":
        return bool(value)
    bits = {"int32": 32, "int64": 64}[dtype]
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def value(e, env, tensors):
    """One scalar, as the semantics of the nodes say."""
    match e:
        case Var():
            return env[e]
        case Const():
            return e.value
        case Binary():
            return wrap(_BINARY[e.op](value(e.a, env, tensors), value(e.b, env, tensors)), e.dtype)
        case Compare():
            return _COMPARE[e.op](value(e.a, env, tensors), value(e.b, env, tensors))
        case Not():
            return not value(e.a, env, tensors)
        case Select():
            return value(e.a if value(e.condition, env, tensors) else e.b, env, tensors)
        case Cast():
            return wrap(value(e.a, env, tensors), e.dtype)
        case Call(fn="abs"):
            return wrap(abs(value(e.args[0], env, tensors)), e.dtype)
        case Read():
            at = tuple(value(i, env, tensors) for i in e.indices)
            if not all(0 <= i < n for i, n in zip(at, e.source.shape, strict=True)):
                raise OutOfRange
            return int(tensors[e.source][at])
        case Reduce():
            result = _IDENTITY[e.combiner]
            for point in itertools.product(*(range(a.extent) for a in e.axes)):
                inner = env | {a.var: p for a, p in zip(e.axes, point, strict=True)}
                if e.where is None or value(e.where, inner, tensors):
                    result = wrap(_BINARY[_COMBINE[e.combiner]](result, value(e.term, inner, tensors)), e.dtype)
            return result
    raise AssertionError(e)


@st.composite
def computations(draw):
    """A body over two spatial axes and perhaps two to reduce; its reads may leave their tensors."""
    dims = draw(st.tuples(st.integers(0, 4), st.integers(1, 5)))
    axes = tuple(te.expr.Axis(Var(n), size, "spatial") for n, size in zip("ij", dims, strict=True))
    sizes = draw(st.lists(st.integers(0, 3), max_size=2))
    reduced = tuple(te.reduce_axis(size, f"k{d}") for d, size in enumerate(sizes))
    variables = st.sampled_from([a.var for a in axes + reduced])

    index = st.recursive(
        variables | st.integers(-1, 4).map(te.const),
        lambda inner: (
            st.builds(binary, st.sampled_from(["add", "sub", "min", "max"]), inner, inner)
            | st.builds(lambda a, n: a * n, inner, st.sampled_from([-1, 2]))
            | st.builds(lambda a, n: a // n, inner, st.sampled_from([2, 3]))
            | st.builds(lambda a, n: a % n, inner, st.sampled_from([2, 3, 5]))
        ),
        max_leaves=3,
    )
    condition = st.builds(compare, st.sampled_from(["lt", "ge", "eq"]), index, index)
    condition = condition | st.builds(te.all_of, condition, condition) | condition.map(te.logical_not)

    def inside(read):
        """The read where it is legal, else a number: what a guard is for."""
        tests = [t for i, n in zip(read.indices, read.source.shape, strict=True) for t in (i >= 0, i < n)]
        return te.select(te.all_of(*tests), read, te.const(7, "int32"))

    reads = st.builds(lambda a, b: A[a, b], index, index) | index.map(lambda a: B[a])
    reads = reads.map(inside) | reads.map(inside) | reads
    term = st.recursive(
        reads
        | index.map(lambda e: te.cast(e, "int32"))
        | st.integers(-3, 2**31 - 1).map(lambda n: te.const(n, "int32")),
        lambda inner: (
            st.builds(binary, st.sampled_from(["add", "mul", "sub", "min", "max"]), inner, inner)
            | st.builds(te.select, condition, inner, inner)
            | st.builds(lambda a: te.call("abs", a), inner)
        ),
        max_leaves=4,
    )
    body = draw(term)
    if reduced:
        where = draw(st.none() | condition)
        body = Reduce(draw(st.sampled_from(["sum", "prod", "min", "max"])), body, reduced, where, "int32")
    else:
        body = te.expr.as_expr(body)
    return Compute("y", dims, "int32", axes, body)


@given(computations(), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 8, 1 << 18]))
@settings(max_examples=80, deadline=None)
def test_evaluator_follows_the_definition(y, seed, block_points):
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(-(2**31), 2**31, t.shape).astype("int32") for t in (A, B)]
    w = te.workload(y, [A, B])
    expected = np.empty(y.shape, "int32")
    before, evaluate_module._BLOCK_POINTS = evaluate_module._BLOCK_POINTS, block_points
    try:
        for point in np.ndindex(*y.shape):
            expected[point] = value(
                y.body, {a.var: p for a, p in zip(y.axes, point, strict=True)}, dict(zip((A, B), arrays, strict=True))
            )
    except OutOfRange:
        with pytest.raises(IndexError, match="outside of 0"):
            evaluate(w, arrays)
    else:
        np.testing.assert_array_equal(evaluate(w, arrays)[0], expected, err_msg=w.text)
    finally:
        evaluate_module._BLOCK_POINTS = before
