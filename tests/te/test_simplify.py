"""The simplifier on examples; tests/property checks it on random expressions."""

import itertools
import math

import numpy as np
import pytest

from luthier import te
from luthier.errors import ExpressionError
from luthier.te import rules
from luthier.te.evaluate import evaluate
from luthier.te.expr import Binary, Call, Cast, Compare, Const, Not, Select, Var, children
from luthier.te.printer import format_expr
from luthier.te.simplify import Linear, bounds_of, from_linear, linear, prove, simplify
from luthier.te.traversal import walk

a, b, c, n, o, x = (Var(name) for name in "abcnox")
X = te.placeholder((64,), "int64", "X")
F = te.placeholder((64,), "float32", "F")
I = te.placeholder((64,), "int32", "I")  # noqa: E741
RANGES = {b: (0, 1), c: (0, 15), n: (0, 6)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # sums
        (a + b + a, "a * 2 + b"),
        (a - (a - b), "b"),
        (b + a * 16 + 3 + c - 3, "a * 16 + b + c"),
        ((a + 1) * 4 - 4 * a, "4"),
        (3 - a, "3 - a"),
        (0 - a - b, "0 - a - b"),
        (a * -4, "a * -4"),
        # quotients and remainders
        (((o * 2 + b) * 16 + c) // 32, "o"),
        (((o * 2 + b) * 16 + c) % 32, "b * 16 + c"),
        (((a * 2 + b) * 16 + c) // 64, "a // 2"),
        (((a * 2 + b) * 16 + c) % 64, "a % 2 * 32 + b * 16 + c"),
        ((x // 4) * 4 + x % 4, "x"),
        (x - x // 4 * 4, "x % 4"),
        (a + b * 2 - (a + b * 2) // 5 * 5, "(b * 2 + a) % 5"),
        (a + c + 3 - (a + c + 2) // 5 * 5, "(a + c + 2) % 5 + 1"),
        (x // 4 // 8, "x // 32"),
        ((x // 4 + 1) // 8, "(x + 4) // 32"),
        (x % 8 // 4, "x // 4 % 2"),
        ((x % 8 + 1) // 4, "(x % 8 + 1) // 4"),
        (x % 8 % 4, "x % 4"),
        ((x // 4) % 2 * 4 + x % 4, "x % 8"),
        ((x * 8 + 3) // 4, "x * 2"),
        ((x * 8 + 3) % 4, "3"),
        ((x * 5) // 4, "x // 4 + x"),
        ((x * 5) % 4, "x % 4"),
        ((x + 9) // 4, "(x + 1) // 4 + 2"),
        (x // -4, "(0 - x) // 4"),
        ((c + 16) // 16, "1"),
        ((c - 16) // 16, "-1"),
        ((c - 16) % 16, "c"),
        (x // n, "x // n"),
        (b // (n + 2), "0"),
        (b % (n + 2), "b"),
        # minimum and maximum
        (te.minimum(c, 15), "c"),
        (te.maximum(c, 15), "15"),
        (te.minimum(te.minimum(x, 7), 5), "min(x, 5)"),
        (te.minimum(c, x) + 1 - te.minimum(x, c), "1"),
        (te.maximum(x + 1, x), "x + 1"),
        # select
        (te.select(c < 16, a, b), "a"),
        (te.select(x < 16, a + b, b + a), "a + b"),
        (te.select(x < c, a + a, b), "select(x < c, a * 2, b)"),
        # conversions of indices
        (te.cast(te.cast(c, "int32"), "int64"), "c"),
        (te.cast(te.cast(x, "int32"), "int64"), "int64(int32(x))"),
    ],
)
def test_integers(given, expected):
    result = simplify(given, RANGES)
    assert format_expr(result) == expected
    assert simplify(result, RANGES) is result


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (a * 4 + n <= 11, "a * 4 + n < 12"),
        (o * 4 + te.const(1) * b < 12, "o < 3"),
        (4 * a - 4 <= 7, "a < 3"),
        (a > b, "b < a"),
        (a >= b, "b < a + 1"),
        (o - a - b <= 0, "a + b >= o"),
        (a - b < 0, "a < b"),
        (te.const(3) > a, "a < 3"),
        (te.equal(a * 4, 8), "a == 2"),
        (te.equal(a * 4, 9), "false"),
        (te.not_equal(a * 4, 9), "true"),
        (te.not_equal(c, 16), "true"),
        (x // 4 < 3, "x < 12"),
        (x // 4 >= 3, "x >= 12"),
        (c < 16, "true"),
        (c < 0, "false"),
        (te.logical_not(a < 3), "a >= 3"),
        (te.logical_not(te.logical_not(F[a] < 3.0)), "F[a] < 3.0"),
        (te.logical_not(F[a] < 3.0), "not F[a] < 3.0"),
        (te.all_of(a < 3, c < 16), "a < 3"),
        (te.all_of(a < 3, c > 16), "false"),
        (te.any_of(a < 3, c < 16), "true"),
        (te.all_of(a < 5, x < 2, a < 3), "a < 3 and x < 2"),
        (te.any_of(a < 5, a < 3), "a < 5"),
        (te.any_of(a >= 5, a >= 3), "a >= 3"),
        (te.all_of(a < 3, a >= 3), "false"),
        (te.any_of(a < 3, a >= 3), "true"),
        (te.any_of(a < 5, a >= 3), "true"),
        (te.any_of(a < 3, a >= 5), "a < 3 or a >= 5"),
        (te.all_of(a < 5, a >= 3), "a < 5 and a >= 3"),
        (te.all_of(a < 3, a >= 5), "false"),
        (te.all_of(te.equal(a, 3), te.not_equal(a, 3)), "false"),
        (te.all_of(a < 3, a + 1 < 4), "a < 3"),
        (te.all_of(F[a] < 1.0, F[a] < 1.0), "F[a] < 1.0"),
    ],
)
def test_conditions(given, expected):
    result = simplify(given, RANGES)
    assert format_expr(result) == expected
    assert simplify(result, RANGES) is result


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (F[a] * 1.0, "F[a]"),
        (1.0 * F[a], "F[a]"),
        (F[a] / 1.0, "F[a]"),
        (F[a] - 0.0, "F[a]"),
        (F[a] + 0.0, "F[a] + 0.0"),  # would turn -0.0 into 0.0
        (F[a] - -0.0, "F[a] - -0.0"),
        (F[a] + -0.0, "F[a]"),
        (F[a] * 0.0, "F[a] * 0.0"),  # NaN and infinities
        (F[a] - F[a], "F[a] - F[a]"),
        ((F[a] + 1.0) + 2.0, "F[a] + 1.0 + 2.0"),
        (te.maximum(F[a + 1 - 1], F[a]), "F[a]"),
        (te.select(x < 3, F[a], F[a]), "F[a]"),
        (te.select(c < 16, F[a], F[b]), "F[a]"),
        (te.select(te.logical_not(F[a] < 0.0), F[a], F[b]), "select(F[a] < 0.0, F[b], F[a])"),
        (te.cast(te.cast(F[a], "float64"), "float32"), "F[a]"),
        (te.cast(te.cast(F[a], "float16"), "float32"), "float32(float16(F[a]))"),
        (te.call("abs", te.call("abs", F[a])), "abs(F[a])"),
        (F[(a * 4 + b) // 4] * 2.0, "F[a] * 2.0"),
        (X[x] + 1 - 1, "X[x]"),
        (X[x] * 2 // 2, "X[x] * 2 // 2"),  # wraps
        (X[x] + 1 > X[x], "X[x] + 1 > X[x]"),  # wraps
        (X[x] // -3, "X[x] // -3"),  # 0 - X[x] wraps
        (te.cast(te.cast(I[x], "float32"), "int32"), "int32(float32(I[x]))"),  # rounds
        (te.cast(te.cast(I[x], "float64"), "int32"), "I[x]"),
        (te.cast(te.cast(te.cast(c, "int32"), "float32"), "int32"), "int32(c)"),
        (X[x] // 16 * 16 + X[x] % 16, "X[x]"),
    ],
)
def test_values_from_memory(given, expected):
    result = simplify(given, RANGES)
    assert format_expr(result) == expected
    assert simplify(result, RANGES) is result


def test_nothing_to_do_returns_the_object():
    for e in (a * 4 + n + 3, F[a * 4 + n] * 2.0, te.select(x < 3, F[x], 0.0), x // 4 % 2, te.minimum(x, n)):
        assert simplify(e, RANGES) is e


def test_reduce_knows_its_axes():
    k = te.reduce_axis(4, "k")
    e = te.sum(F[(x * 4 + k.var) // 4], k, where=te.all_of(k.var < 4, x + k.var < 9))
    assert format_expr(simplify(e)) == "reduce.sum(F[x], [k:4], where=x + k < 9)"
    assert format_expr(simplify(te.sum(F[k.var % 4], k, where=k.var < 4))) == "reduce.sum(F[k], [k:4])"


def test_variables_with_one_value_become_constants():
    assert format_expr(simplify(a * 4 + b, {b: (3, 3)})) == "a * 4 + 3"


@pytest.mark.parametrize(
    ("e", "expected"),
    [
        (n * 4 + b, (0, 25)),
        (3 - n, (-3, 3)),
        (x, (None, None)),
        (te.maximum(x, 0), (0, None)),
        (te.minimum(x, n), (None, 6)),
        (x % 4, (0, 3)),
        (n // 4, (0, 1)),
        (n * n, (0, 36)),
        (te.select(x < 0, n, 9 - n), (0, 9)),
        (X[x], (None, None)),
        (X[x] % 4 + 1, (1, 4)),
        (te.cast(te.placeholder((4,), "uint8")[x], "int64") * 2, (0, 510)),
        (te.cast(X[x] < 0, "int64"), (0, 1)),
        (te.call("abs", n - 3), (0, 3)),
        (te.cast(n, "int8") + te.const(1, "int8"), (1, 7)),
        (te.cast(n, "int8") * te.const(100, "int8"), (-128, 127)),
    ],
)
def test_bounds(e, expected):
    assert bounds_of(e, RANGES) == expected


def test_prove():
    assert prove(n < 7, RANGES) is True
    assert prove(n < 0, RANGES) is False
    assert prove(n < 3, RANGES) is None
    assert prove(x * 2 + 1 > x * 2) is True
    assert prove(te.equal(x % 2, x % 2)) is True


def test_linear():
    form = linear((x + 2) * 8 + n - x % 4)
    assert isinstance(form, Linear)
    assert [(format_expr(e), k) for e, k in form.terms] == [("x", 8), ("n", 1), ("x % 4", -1)]
    assert form.const == 16
    assert form.coefficient(x) == 8
    assert form.coefficient(a) == 0
    assert format_expr(from_linear(form)) == "x * 8 + n - x % 4 + 16"
    assert linear(F[x]) is None


def test_a_changed_dictionary_is_noticed():
    bounds = {a: (0, 3)}
    assert prove(a < 4, bounds) is True
    bounds[a] = (0, 9)
    assert prove(a < 4, bounds) is None


# ---------------------------------------------------------------------------------------------- rules

SPECIAL = [0.0, -0.0, 1.0, -1.5, math.inf, -math.inf, math.nan, 3.0e38]


def _instances(rule):
    """The two sides of a rule over placeholders x, y, c and the values to try."""
    dtype = {"float": "float32", "integer": "int8", "bool": "bool", "any": "float32"}[rule.kind]
    values = {"float32": SPECIAL, "int8": [-128, -1, 0, 1, 127], "bool": [False, True]}[dtype]
    names = sorted({v.name for v in walk(rule.lhs) if isinstance(v, Var)})
    points = list(itertools.product(*([False, True] if v == "c" else values for v in names)))
    inputs = {v: te.placeholder((len(points),), "bool" if v == "c" else dtype, v) for v in names}
    arrays = [np.array([p[i] for p in points], inputs[v].dtype) for i, v in enumerate(names)]

    def build(e, i):
        match e:
            case Var():
                return inputs[e.name][i]
            case Const():
                return Const(e.value, e.dtype if e.dtype == "bool" else dtype)
            case Binary():
                return Binary(e.op, build(e.a, i), build(e.b, i), dtype)
            case Not():
                return Not(build(e.a, i))
            case Select():
                return Select(build(e.condition, i), build(e.a, i), build(e.b, i), dtype)
            case Call():
                return Call(e.fn, tuple(build(x, i) for x in e.args), dtype)
        raise AssertionError(e)

    sides = [te.compute((len(points),), lambda i, e=e: build(e, i), "side") for e in (rule.lhs, rule.rhs)]
    return te.workload(sides, [inputs[v] for v in names]), arrays


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda r: f"{format_expr(r.lhs)} -> {format_expr(r.rhs)} ({r.kind})")
def test_rules_are_exact(rule):
    w, arrays = _instances(rule)
    left, right = evaluate(w, arrays)
    np.testing.assert_array_equal(left, right)
    if left.dtype.kind == "f":
        known = ~np.isnan(left)
        np.testing.assert_array_equal(np.signbit(left[known]), np.signbit(right[known]))


def test_every_rule_fires():
    for rule in rules.RULES:
        w, _ = _instances(rule)
        left, right = (simplify(t.body, {t.axes[0].var: (0, t.shape[0] - 1)}) for t in w.outputs)
        axis = {t.axes[0].var: "i" for t in w.outputs}
        assert format_expr(left, axis) == format_expr(right, axis), format_expr(rule.lhs)
        assert not isinstance(left, (Cast, Compare)) and len(children(left)) <= len(children(rule.lhs))


def test_prove_wants_a_condition():
    with pytest.raises(ExpressionError, match="the condition n \\+ 1 is int64; it must be bool"):
        prove(n + 1, RANGES)


def test_shared_parts_are_simplified_once():
    """A graph of 60 nodes that stands for a tree of 2 ** 60: only possible if nothing is visited twice."""
    e = F[a + 1 - 1]
    f = F[a]
    for _ in range(60):
        e, f = e * e, f * f
    assert simplify(te.maximum(e, f)) is simplify(e)
