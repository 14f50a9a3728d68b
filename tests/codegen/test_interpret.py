"""The interpreter finds what generated code would do wrong silently."""

from __future__ import annotations

import numpy as np
import pytest
from loop_harness import buffer, loop

from luthier.codegen.interpret import interpret
from luthier.codegen.nodes import Alloc, Barrier, Function, If, Let, Store, seq
from luthier.errors import InternalError
from luthier.te.expr import Var, const

x, y = buffer("x", (4,)), buffer("y", (4,))
tmp = buffer("tmp", (4,), scope="stack")
shared = buffer("shared", (4,), scope="shared")
i, j = Var("i"), Var("j")


def run(body, threads=1, **fields):
    out = np.zeros(4, np.float32)
    interpret(Function("f", (x, y), 1, body, **fields), [np.arange(4, dtype=np.float32), out], threads)
    return out


def test_result():
    body = loop(i, 4, "parallel", Let(j, 3 - i, If(j > 1, Store(y, (i,), x[j] * 2.0), Store(y, (i,), x[i]))))
    np.testing.assert_array_equal(run(body), [6, 4, 2, 3])


def test_barrier_orders_the_threads():
    first = loop(i, 4, "parallel", Store(shared, (i,), x[i]))
    second = loop(j, 4, "parallel", Store(y, (j,), shared[3 - j]))
    for threads in (1, 2, 4):
        np.testing.assert_array_equal(run(seq(first, Barrier(), second), threads, shared=(shared,)), [3, 2, 1, 0])
    with pytest.raises(InternalError, match=r"read of shared\[\d\], which was never written"):
        run(seq(first, second), 2, shared=(shared,))


@pytest.mark.parametrize(
    "body, message",
    [
        (
            loop(i, 5, "serial", Store(y, (i,), const(0.0))),
            r"store to y\[4\], which is outside its shape \[4\] \(at i=4\)",
        ),
        (loop(i, 4, "serial", Store(y, (i,), x[i - 1])), r"read of x\[-1\], which is outside"),
        (Alloc(tmp, Store(y, (const(0),), tmp[0])), r"read of tmp\[0\], which was never written"),
        (Store(y, (const(0),), y[1]), r"read of y\[1\], which was never written"),
        (loop(i, 4, "parallel", Store(y, (i // 2,), x[i])), r"store to y\[0\] by parallel iterations 0 and 1"),
        (Store(tmp, (const(0),), x[0]), "which is not allocated here"),
        (Store(y, (i,), x[0]), "variable 'i' is used outside its loop"),
        (loop(i, 2, "serial", Barrier()), "a barrier inside a loop"),
    ],
)
def test_mistakes_are_named(body, message):
    with pytest.raises(InternalError, match=message):
        run(body)


def test_arrays_are_checked():
    fn = Function("f", (x, y), 1, loop(i, 4, "serial", Store(y, (i,), x[i])))
    good = np.zeros(4, np.float32)
    with pytest.raises(InternalError, match="1 arrays for 2 parameters"):
        interpret(fn, [good])
    with pytest.raises(InternalError, match="'y' is float64"):
        interpret(fn, [good, np.zeros(4)])
