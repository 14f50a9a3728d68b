"""Building expressions, computes and workloads: types, folding, and what is refused."""

import numpy as np
import pytest

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.evaluate import evaluate
from luthier.te.expr import Const, Var, as_expr, const
from luthier.te.printer import format_expr
from luthier.te.traversal import conjuncts, free_vars, substitute, walk

i, j = Var("i"), Var("j")
X = te.placeholder((4, 6), name="X")
N = te.placeholder((4,), "uint8", "N")
P = te.placeholder((4,), "bool", "P")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: X[i, j] + N[i], "add: operands are float32 and uint8; convert one with te.cast"),
        (lambda: X[i, j] // 2.0, "floordiv: operands must be integer, not float32"),
        (lambda: i / 2, "div: operands must be float, not int64; use // for integers"),
        (lambda: i**2, "pow: operands must be float"),
        (lambda: P[i] + P[i], "add: operands are bool"),
        (lambda: te.all_of(i), "and: operands are bool and int64"),
        (lambda: i // 0, "floordiv: the divisor is the constant 0"),
        (lambda: i % 0, "floormod: the divisor is the constant 0"),
        (lambda: P[i] < P[j], "lt: operands are bool, which have no order"),
        (lambda: te.logical_not(i), "not: operand must be bool, not int64"),
        (lambda: te.select(i, 1, 2), "select: condition must be bool, not int64"),
        (lambda: te.select(P[i], X[i, j], i), "select: operands are float32 and int64"),
        (lambda: i + 0.5, "constant 0.5 is not an integer"),
        (lambda: N[i] + 256, "constant 256 is outside of uint8"),
        (lambda: N[i] - -1, "constant -1 is outside of uint8"),
        (lambda: te.cast(i, "float8"), "dtype 'float8' is not supported"),
        (lambda: te.call("gamma", X[i, j]), "intrinsic 'gamma' is unknown; use one of abs, acos"),
        (lambda: te.call("exp", i), "exp: operand must be float, not int64"),
        (lambda: te.call("exp"), "exp: takes 1 operand, not 0"),
        (lambda: te.call("exp", X[i, j], X[i, j]), "exp: takes 1 operand, not 2"),
        (lambda: bool(i < j), "no truth value"),
        (lambda: X[i], "X\\[...\\]: 1 indices for a tensor of 2 dimensions"),
        (lambda: X[i, 1.0], "index 1 is float32; an index must be an integer"),
        (lambda: te.const(1.0) + X, "is not a scalar; index it, as in X"),
        (lambda: te.const(1) + "2", "'2' \\(str\\) cannot be part of a tensor expression"),
        (lambda: te.placeholder((2, -1)), "must hold non-negative integers"),
        (lambda: te.placeholder((2, 1.5)), "must hold non-negative integers"),
        (lambda: te.sum(X[i, j], []), "sum: axis is empty"),
        (lambda: te.sum(X[i, j], te.compute((2,), lambda a: 1.0).axes), "axis 'a' is spatial"),
        (lambda: te.all(X[i, j], te.reduce_axis(3)), "all: a term of dtype float32"),
        (lambda: te.sum(X[i, j], te.reduce_axis(3), where=i), "sum: where must be bool, not int64"),
        (lambda: te.compute((2, 2), lambda a: 1.0, "y"), "compute y: fn must take one index for each of the 2"),
        (lambda: te.compute((2,), lambda a: X[a, j], "y"), "compute y: variable 'j' is not an axis"),
        (lambda: te.compute((2,), lambda a: X, "y"), "is not a scalar; index it"),
        (lambda: te.compute((2,), lambda a: 1.0, attrs={"x": {}}), r"attrs\['x'\] is a dict; use numbers"),
        (lambda: te.workload([]), "outputs is empty"),
        (lambda: te.workload([X]), "is not a compute"),
    ],
)
def test_refused(build, message):
    with pytest.raises(ExpressionError, match=message):
        build()


def _copy(**options):
    return te.compute((4, 6), lambda a, b: X[a, b] + 1.0, **options)


def test_refused_workloads():
    y = _copy()
    with pytest.raises(ExpressionError, match="output is given twice"):
        te.workload([y, y])
    with pytest.raises(ExpressionError, match="input is given twice"):
        te.workload(y, [X, X])
    with pytest.raises(ExpressionError, match="is not a placeholder"):
        te.workload(y, [X, y])
    with pytest.raises(ExpressionError, match="inputs lacks X"):
        te.workload(y, [N])


def test_nested_reduction_is_refused():
    k = te.reduce_axis(3)
    with pytest.raises(ExpressionError, match="a reduction must be the whole body"):
        te.compute((4,), lambda a: te.sum(X[a, k], k) + 1.0)


@pytest.mark.parametrize(
    "fn",
    [
        lambda a: X[a + 1, 0],
        lambda a: X[3 - 2 * a, 0],
        lambda a: X[a, 6],
        lambda a: X[a, -1],
        lambda a: X[a, a // 2 + 6],
        lambda a: te.select(X[a, 6] < 0.0, 1.0, 2.0),
        lambda a: te.call("exp", X[0, a * 2 + 1]),
    ],
)
def test_reads_that_must_leave_the_tensor_are_refused(fn):
    with pytest.raises(ExpressionError, match=r"compute y: X\[.*outside of 0 \.\. "):
        te.compute((4,), fn, "y")


def test_reads_that_may_stay_inside_are_not():
    k = te.reduce_axis(3)
    te.compute((4,), lambda a: te.select(a < 3, X[a + 1, 0], 0.0))
    te.compute((4,), lambda a: te.sum(X[a + k, 0], k, where=a + k < 4))
    te.compute((4,), lambda a: X[a, a % 2 * 6 // 2])  # 0 or 3: the bounds alone need not see it
    te.compute((4,), lambda a: X[te.cast(N[a], "int64"), 0])
    te.compute((0,), lambda a: X[a + 9, 0])


def test_an_axis_stands_for_its_variable():
    k = te.reduce_axis(3, "k")
    assert format_expr(k + 1) == "k + 1"
    assert format_expr(2 * k - i) == "2 * k - i"
    assert format_expr(k < 2) == "k < 2"
    assert as_expr(k) is k.var
    y = te.compute((2,), lambda a: te.sum(X[a, k + 1], k, where=k < 2))
    values = np.arange(24, dtype="float32").reshape(4, 6)
    np.testing.assert_array_equal(evaluate(te.workload(y), [values])[0], values[:2, 1:3].sum(1))


def test_negation_is_exact():
    x = te.placeholder((3,), name="x")
    (r,) = evaluate(te.workload(te.compute((3,), lambda a: -x[a])), [np.array([0.0, -0.0, 2.0], "float32")])
    np.testing.assert_array_equal(np.signbit(r), [True, False, True])
    assert format_expr(-i) == "0 - i"


@pytest.mark.parametrize(
    ("e", "value", "dtype"),
    [
        (const(3), 3, "int64"),
        (const(True), True, "bool"),
        (const(0.5), 0.5, "float32"),
        (const(0.1), float(np.float32(0.1)), "float32"),
        (const(0.1, "float64"), 0.1, "float64"),
        (const(1e6, "float16"), float("inf"), "float16"),
        (const(np.int8(-3)), -3, "int8"),
        (const(2.0, "int32"), 2, "int32"),
        (const(127, "int8") + const(1, "int8"), -128, "int8"),
        (const(7) // -2, -4, "int64"),
        (const(-7) % 3, 2, "int64"),
        (te.cast(const(300), "uint8"), 44, "uint8"),
        (te.cast(const(3), "float64"), 3.0, "float64"),
        (te.minimum(const(3), 2), 2, "int64"),
        (const(3) < 4, True, "bool"),
        (te.all_of(), True, "bool"),
        (te.any_of(), False, "bool"),
    ],
)
def test_constants(e, value, dtype):
    assert isinstance(e, Const)
    assert (e.value, e.dtype) == (value, dtype)
    assert type(e.value) is type(value)


def test_identities_of_integers_fold():
    for e in (i + 0, 0 + i, i - 0, i * 1, 1 * i, i // 1):
        assert e is i
    assert format_expr(i * 0) == format_expr(i % 1) == "0"
    assert format_expr(te.all_of(True, P[i])) == "P[i]"
    assert format_expr(te.any_of(True, P[i])) == "true"


def test_indices_are_converted_to_int64():
    assert format_expr(X[N[i], 0]) == "X[int64(N[i]), 0]"


def test_traversal():
    e = te.select(i < 3, X[i, j] + 1.0, 0.0)
    assert free_vars(e) == {i, j}
    assert [type(x).__name__ for x in walk(e)][:3] == ["Select", "Compare", "Var"]
    assert substitute(e, {Var("other"): const(1)}) is e
    assert format_expr(substitute(e, {i: j * 2})) == "select(j * 2 < 3, X[j * 2, j] + 1.0, 0.0)"
    assert format_expr(substitute(e, {i: const(5)})) == "0.0"
    assert [format_expr(c) for c in conjuncts(te.all_of(i < 3, j < 2, i < j))] == ["i < 3", "j < 2", "i < j"]
    assert conjuncts(None) == conjuncts(const(True)) == []


def test_attributes_become_plain_data():
    y = _copy(attrs={"pads": [np.int64(1), 2], "axis": np.int32(3)})
    assert y.attrs == {"pads": (1, 2), "axis": 3}
    assert type(y.attrs["axis"]) is int


def test_stages_come_producers_first_and_once():
    a = _copy(name="a")
    b = te.compute((4, 6), lambda p, q: a[p, q] * 2.0, "b")
    c = te.compute((4, 6), lambda p, q: a[p, q] + b[p, q], "c")
    w = te.workload([c, a])
    assert [s.name for s in w.stages] == ["a", "b", "c"]
    assert [p.name for p in w.inputs] == ["X"]
    assert w.flops == 3 * 24
