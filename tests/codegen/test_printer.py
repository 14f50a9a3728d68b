"""Golden text of each statement of the loop IR."""

from __future__ import annotations

from textwrap import dedent

from loop_harness import buffer, loop

from luthier.codegen.nodes import Alloc, Barrier, Function, If, Let, Prefetch, Seq, Store, seq
from luthier.codegen.printer import format_function, format_stmt
from luthier.te.expr import Var, const


def test_function():
    x, y = buffer("x", (8, 16)), buffer("y", (8, 16))
    own, shared = buffer("own", (4,), "int8", "thread"), buffer("all", (2, 2), "float64", "shared")
    acc = buffer("acc", (16,), scope="register")
    i, j, k, m, u = (Var(n) for n in "i j k m u".split())
    update = loop(u, 16, "vectorize", Store(acc, (u,), acc[u] + x[i, u]))
    branch = If(i < m, Store(y, (i, j), acc[j]), Store(y, (i, j), const(0.0)))
    inner = Let(m, i * 2, loop(j, 16, "serial", branch))
    body = seq(
        Barrier(),
        loop(i, 8, "parallel", Alloc(acc, seq(loop(k, m, "unroll", update, begin=2), Prefetch(x, (i, k), 1), inner))),
    )
    fn = Function("f", (x, y), 1, body, (shared,), (own,), ((0, 0),))
    assert format_function(fn) == dedent(
        """\
        kernel f(x: float32[8, 16], out y: float32[8, 16]):
          shared all: float64[2, 2]
          thread own: int8[4]
          y may overwrite x
          barrier
          parallel i in 0..8:
            register acc: float32[16]
            unroll k in 2..2 + m:
              vectorize u in 0..16:
                acc[u] = acc[u] + x[i, u]
            prefetch x[i, k] locality 1
            let m = i * 2
            for j in 0..16:
              if i < m:
                y[i, j] = acc[j]
              else:
                y[i, j] = 0.0"""
    )


def test_empty_sequence():
    assert format_stmt(Seq(())) == "pass"
