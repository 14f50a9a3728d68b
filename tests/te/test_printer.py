"""Printing: minimal parentheses, names, canonical text and keys."""

import math

import pytest

from luthier import te
from luthier.te.expr import Binary, Call, Cast, Compare, Const, Not, Read, Select, Var
from luthier.te.printer import format_expr, format_workload, format_workload_named, workload_key

a, b, c = Var("a"), Var("b"), Var("c")
F = te.placeholder((4, 4), "float32", "F")


@pytest.mark.parametrize(
    ("e", "expected"),
    [
        (a + b * c, "a + b * c"),
        ((a + b) * c, "(a + b) * c"),
        (a - (b - c), "a - (b - c)"),
        (a - b - c, "a - b - c"),
        (a + (b + c), "a + (b + c)"),
        (a // b % c, "a // b % c"),
        (a // (b % c), "a // (b % c)"),
        (F[a, b] ** 2.0 ** F[b, a], "F[a, b] ** 2.0 ** F[b, a]"),
        ((F[a, b] ** 2.0) ** F[b, a], "(F[a, b] ** 2.0) ** F[b, a]"),
        (te.const(-2.0) ** F[a, b], "(-2.0) ** F[a, b]"),
        (a * -4 + -1, "a * -4 + -1"),
        (te.minimum(a + b, c), "min(a + b, c)"),
        (te.all_of(a < b, te.any_of(b < c, a < c)), "a < b and (b < c or a < c)"),
        (te.any_of(a < b, te.all_of(b < c, a < c)), "a < b or b < c and a < c"),
        (te.logical_not(a < b), "not a < b"),
        (te.logical_not(te.all_of(a < b, b < c)), "not (a < b and b < c)"),
        (te.equal(a < b, b < c), "(a < b) == (b < c)"),
        (te.select(a < b, a + 1, c), "select(a < b, a + 1, c)"),
        (te.cast(a + b, "float32") * 0.5, "float32(a + b) * 0.5"),
        (te.call("exp", F[a + 1, 0]), "exp(F[a + 1, 0])"),
        (te.const(3), "3"),
        (te.const(3, "int32"), "3:int32"),
        (te.const(3.0), "3.0"),
        (te.const(0.1, "float64"), "0.1:float64"),
        (te.const(-0.0), "-0.0"),
        (te.const(math.inf), "inf"),
        (te.const(True), "true"),
    ],
)
def test_expressions(e, expected):
    assert format_expr(e) == expected
    assert str(e) == expected


def test_names_replace_variables_and_tensors():
    assert format_expr(F[a, b + 1], {a: "i0", F: "t3"}) == "t3[i0, b + 1]"


def _matmul(names="ABCijk", size=8, *, where=False, tag="matmul", attrs=None, constant=True, dtype="float32"):
    n_a, n_b, n_c, _, _, k = names
    x = te.placeholder((size, 4), dtype, n_a)
    w = te.placeholder((4, 6), dtype, n_b, constant=constant)
    r = te.reduce_axis(4, k)
    y = te.compute(
        (size, 6),
        lambda i, j: te.sum(x[i, r] * w[r, j], r, where=r.var <= i if where else None),
        n_c,
        tag=tag,
        attrs=attrs or {},
    )
    z = te.compute((size, 6), lambda p, q: te.maximum(y[p, q], 0.0), "relu")
    return te.workload(z, [x, w])


def test_canonical_text():
    assert format_workload(_matmul(where=True, attrs={"pads": (1, 2), "group": 1, "mode": "x"})) == (
        "t0 = placeholder(float32[8, 4])\n"
        "t1 = placeholder(float32[4, 6], constant)\n"
        "t2 = compute(float32[8, 6], [i0, i1], tag='matmul')\n"
        "  'group' = 1\n"
        "  'mode' = 'x'\n"
        "  'pads' = (1, 2,)\n"
        "  reduce.sum(t0[i0, k0] * t1[k0, i1], [k0:4], where=k0 <= i0)\n"
        "t3 = compute(float32[8, 6], [i0, i1])\n"
        "  max(t2[i0, i1], 0.0)\n"
        "return t3\n"
    )


def test_named_text():
    text = format_workload_named(_matmul())
    assert "C = compute(float32[8, 6], [i, j], tag='matmul')\n  reduce.sum(A[i, k] * B[k, j], [k:4])" in text
    assert "relu = compute(float32[8, 6], [p, q])\n  max(C[p, q], 0.0)" in text


def test_names_that_occur_twice_are_told_apart():
    x = te.placeholder((4,), name="x")
    y = te.compute((4,), lambda i: x[i] + 1.0, "x")
    z = te.compute((4,), lambda i: x[i] + y[i], "x")
    assert "x_2 = compute(float32[4], [i])\n  x[i] + x_1[i]" in format_workload_named(te.workload(z))


def test_key_ignores_names_and_the_order_of_attributes():
    key = workload_key(_matmul(attrs={"a": 1, "b": 2}))
    assert key == _matmul("XYZmno", attrs={"b": 2, "a": 1}).key
    assert key.startswith("v1-")
    assert len(key) >= len("v1-") + 16
    int(key[3:], 16)


def test_key_does_not_change_between_versions():
    """Logs are keyed by it: a change here orphans them, and needs a new version prefix."""
    assert _matmul().key == "v1-e686ed5768e0e468743477bc"


@pytest.mark.parametrize(
    "other",
    [
        _matmul(size=9),
        _matmul(where=True),
        _matmul(tag="dense"),
        _matmul(attrs={"a": 1}),
        _matmul(attrs={"a": True}),
        _matmul(attrs={"a": 1.0}),
        _matmul(attrs={"a": "1"}),
        _matmul(attrs={"a": (1,)}),
        _matmul(attrs={"a": ("1",)}),
        _matmul(constant=False),
        _matmul(dtype="float32").__class__(_matmul().inputs[::-1], _matmul().outputs),
    ],
)
def test_key_depends_on_what_is_computed(other):
    assert other.key != _matmul().key


def test_unlike_literals_print_unlike():
    literals = [
        te.const(v, d)
        for v, d in [
            (0, "int64"), (0, "int32"), (0, "uint8"), (0.0, "float32"), (-0.0, "float32"), (0.0, "float64"),
            (0.1, "float32"), (0.1 + 2**-55, "float64"), (0.1, "float64"), (False, "bool"), (1e300, "float64"),
            (math.nan, "float32"), (math.inf, "float32"), (-math.inf, "float32"),
        ]
    ]  # fmt: skip
    assert len({format_expr(e) for e in literals}) == len(literals)


def test_every_node_prints_in_its_own_way():
    x, y = F[a, b], F[b, a]
    p, q = Compare("lt", a, b), Compare("lt", b, a)
    ops = ["add", "sub", "mul", "div", "floordiv", "floormod", "min", "max", "pow", "and", "or"]
    nodes = [
        *(Binary(op, x, y, "float32") for op in ops),
        *(Binary(op, y, x, "float32") for op in ops),
        *(Compare(op, x, y) for op in ("lt", "le", "gt", "ge", "eq", "ne")),
        Not(p),
        Select(p, x, y, "float32"),
        Select(q, x, y, "float32"),
        Cast(x, "float64"),
        Cast(x, "float16"),
        *(Call(fn, (x,), "float32") for fn in te.expr.INTRINSICS),
        x,
        Read(F, (b, b), "float32"),
        Const(1, "int64"),
    ]
    assert len({format_expr(e) for e in nodes}) == len(nodes)
