"""Workloads read back from their text: the same key, the same arithmetic, and nothing else than workloads."""

import pytest
from workloads import conv_relu, matmul, softmax

from luthier import te
from luthier.errors import ExpressionError
from luthier.te.parse import parse_workload


def _strange():
    """Every kind of node and literal that a text can hold."""
    x = te.placeholder((4, 6), "float32", "x")
    n = te.placeholder((4, 6), "int32", "n")
    k = te.reduce_axis(6, "k")
    y = te.compute(
        (4, 6),
        lambda i, j: te.select(
            te.any_of(te.all_of(i < 2, te.logical_not(j >= 3)), te.equal(n[i, j], te.const(-3, "int32"))),
            te.call("exp", -x[i, j]) ** 2.5 - te.const(float("-inf")),
            te.cast(te.cast(n[i, j], "float64") * te.const(0.1, "float64"), "float32") / te.minimum(x[i, j], 1e-30),
        ),
        "y",
        tag="a 'tag'",
        attrs={"pads": (1, 2), "mode": "x = 'y'", "eps": 0.25, "on": True, "names": ("a",)},
    )
    z = te.compute((4,), lambda i: te.max(y[i, 5 - k], k, where=te.not_equal((k + i) % 4 // 2, 1)), "z")
    return te.workload([y, z], [x, n])


def _scalar():
    x = te.placeholder((), "float32", "x")
    return te.workload(te.compute((), lambda: x[()] + 1.0, "y"))


@pytest.mark.parametrize("make", [matmul, conv_relu, softmax, _strange, _scalar])
def test_text_reads_back(make):
    made = make()
    made = made if isinstance(made, te.Workload) else te.workload(made)
    read = parse_workload(made.text)
    assert read.text == made.text
    assert read.key == made.key
    assert (read.flops, read.bytes_moved) == (made.flops, made.bytes_moved)
    assert [(s.tag, dict(s.attrs), s.dtype, s.shape) for s in read.stages] == [
        (s.tag, dict(s.attrs), s.dtype, s.shape) for s in made.stages
    ]
    assert [p.constant for p in read.inputs] == [p.constant for p in made.inputs]


HEAD = "t0 = placeholder(float32[4])\nt1 = compute(float32[4], [i0])\n  "


@pytest.mark.parametrize(
    "text",
    [
        "",
        "C[i] = A[i]",
        "<script>alert(1)</script>",
        "t0 = placeholder(float32[4])\n",
        "t0 = placeholder(float32[4])\nreturn t0\n",
        "t0 = placeholder(float32[4])\nreturn t1\n",
        HEAD + "t0[i0]\n",
        HEAD + "__import__('os').system('true')\nreturn t1\n",
        HEAD + "(lambda: t0[i0])()\nreturn t1\n",
        HEAD + "t0[i0].real\nreturn t1\n",
        HEAD + "t0[i1]\nreturn t1\n",
        HEAD + "t0[i0, i0]\nreturn t1\n",
        HEAD + "t0[i0] + 1\nreturn t1\n",
        HEAD + "t0[i0] + 'a'\nreturn t1\n",
        HEAD + "t0[i0] + None\nreturn t1\n",
        HEAD + "(t0[i0])\nreturn t1\n",
        HEAD + "reduce.median(t0[i0], [k0:4])\nreturn t1\n",
        HEAD + "reduce.sum(t0[i0])\nreturn t1\n",
        HEAD + "reduce.sum(t0[i0], [k0:t0])\nreturn t1\n",
        HEAD + "reduce.sum(t0[i0], [k0:4], where=i0 < 2, where=i0 < 3)\nreturn t1\n",
        HEAD + "float128(t0[i0])\nreturn t1\n",
        HEAD + "(" * 5000 + "t0[i0]" + ")" * 5000 + "\nreturn t1\n",
        HEAD + "-" * 20000 + "t0[i0]\nreturn t1\n",
        HEAD + "t0[i0]" + " + t0[i0]" * 200000 + "\nreturn t1\n",
        "t0 = placeholder(float32[-4])\nreturn t0\n",
        "t0 = placeholder(float32[4,,])\nreturn t0\n",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ExpressionError):
        parse_workload(text)


def test_expressions_that_are_too_deep_are_refused():
    """Python's parser, the reader and the printer each end at a depth of their own."""
    refused = 0
    for terms in range(150, 1200, 15):
        text = HEAD + "t0[i0]" + " + t0[i0]" * terms + "\nreturn t1\n"
        try:
            assert parse_workload(text).flops == 4 * terms
        except ExpressionError:
            refused += 1
    assert 0 < refused < 70
