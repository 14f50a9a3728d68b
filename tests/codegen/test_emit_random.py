"""Random loop nests with every kind of access, mask and branch: emitted code against the interpreter."""

from __future__ import annotations

import random

import numpy as np
import pytest
from loop_harness import TARGETS, arrays_for, buffer, check, loop

from luthier.codegen.nodes import Alloc, Buffer, Function, If, Stmt, Store, seq
from luthier.te.expr import (
    Binary,
    Expr,
    Var,
    all_of,
    any_of,
    call,
    cast,
    const,
    equal,
    logical_not,
    maximum,
    minimum,
    select,
)


class Nest:
    """One random function: two inputs, an index table, a float32 output and one of another type."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.h, self.w = self.rng.choice([3, 5]), self.rng.choice([7, 8, 16, 19, 33])
        shape = (self.h, self.w)
        self.x, self.z = buffer("x", shape), buffer("z", shape[::-1])
        self.table = buffer("table", shape, "int64")
        self.y = buffer("y", shape)
        self.other = buffer("other", shape, self.rng.choice(["int32", "float64", "bool", "uint8", "int64"]))

    def function(self) -> Function:
        i = Var("i")
        shape = self.rng.choice([self.plain, self.guarded, self.main_and_tail, self.accumulated])
        nest = loop(i, self.h, self.rng.choice(["serial", "parallel", "unroll"]), shape(i))
        return Function("nest", (self.x, self.z, self.table, self.y, self.other), 2, nest)

    def lanes(self) -> str:
        return self.rng.choice(["vectorize", "unroll"])

    # ------------------------------------------------------------------------------------ expressions

    def leaf(self, i: Expr, j: Expr) -> Expr:
        h, w = self.h, self.w
        match self.rng.randrange(8):
            case 0:
                return self.x[i, j]
            case 1:
                return self.z[j, i]
            case 2:
                return self.x[(i * 2 + j) % h, (j * 3 + i) % w]
            case 3:
                return self.x[i, w - 1 - j]
            case 4:
                return const(float(self.rng.randrange(-3, 4)))
            case 5:
                return cast(i * 3 - j, "float32")
            case 6:
                return self.x[self.table[i, j] % h, j]
            case _:
                a, b = self.rng.randrange(-3, 4), self.rng.randrange(-9, 10)
                inside = all_of(i + a >= 0, i + a < h, j + b >= 0, j + b < w)
                return select(inside, self.x[i + a, j + b], const(1.5))

    def condition(self, i: Expr, j: Expr) -> Expr:
        return self.rng.choice(
            [
                j < self.w // 2,
                equal((i + j) % 3, 0),
                i > j,
                self.x[i, j] > 0.0,
                logical_not(j * 2 + i < self.w),
                any_of(i < 1, j >= self.w - 2),
                self.table[i, j] < 50,
            ]
        )

    def term(self, i: Expr, j: Expr, depth: int = 0) -> Expr:
        kind = self.rng.random()
        if depth > 3 or kind < 0.25:
            return self.leaf(i, j)
        a = self.term(i, j, depth + 1)
        if kind < 0.6:
            op = self.rng.choice(["add", "sub", "mul", "min", "max"])
            return Binary(op, a, self.term(i, j, depth + 1), "float32")
        if kind < 0.8:
            return select(self.condition(i, j), a, self.term(i, j, depth + 1))
        fn = self.rng.choice(["abs", "floor", "tanh", "exp"])
        return call(fn, minimum(maximum(a, const(-3.0)), const(3.0)))

    def stores(self, i: Expr, j: Expr) -> Stmt:
        second = cast(self.table[i, j], self.other.dtype)
        return seq(Store(self.y, (i, j), self.term(i, j)), Store(self.other, (i, j), second))

    # ----------------------------------------------------------------------------------------- shapes

    def plain(self, i: Var) -> Stmt:
        j = Var("j")
        return loop(j, self.w, self.rng.choice(["serial", "unroll", "vectorize"]), self.stores(i, j))

    def guarded(self, i: Var) -> Stmt:
        step = self.rng.choice([4, 8, 16])
        outer, inner = Var("jo"), Var("ji")
        j = outer * step + inner
        body = loop(inner, step, self.rng.choice(["vectorize", "unroll", "serial"]), If(j < self.w, self.stores(i, j)))
        return loop(outer, -(-self.w // step), self.rng.choice(["serial", "unroll"]), body)

    def main_and_tail(self, i: Var) -> Stmt:
        step = self.rng.choice([4, 8])
        outer, inner, rest, k = Var("jo"), Var("ji"), Var("jr"), Var("k")
        whole = self.w // step
        at = outer * step + inner
        main = loop(outer, whole, "serial", loop(inner, step, "vectorize", Store(self.y, (i, at), self.term(i, at))))
        at = rest + whole * step
        left = self.w - whole * step
        tail = loop(rest, left, self.rng.choice(["vectorize", "serial"]), Store(self.y, (i, at), self.term(i, at)))
        sign = Store(self.other, (i, k), cast(self.y[i, k] > 0.0, self.other.dtype))
        return seq(main, tail, loop(k, self.w, "vectorize", sign))

    def accumulated(self, i: Var) -> Stmt:
        acc: Buffer = buffer("acc", (self.w,), scope=self.rng.choice(["register", "stack"]))
        a, b, r, c = Var("a"), Var("b"), Var("r"), Var("c")
        first = loop(a, self.w, self.lanes(), Store(acc, (a,), const(0.0)))
        update = loop(b, self.w, self.lanes(), Store(acc, (b,), acc[b] + self.term(r, b)))
        last = seq(
            Store(self.y, (i, c), acc[c] * 2.0), Store(self.other, (i, c), cast(self.table[i, c], self.other.dtype))
        )
        rows = loop(r, self.h, self.rng.choice(["serial", "unroll"]), update)
        return Alloc(acc, seq(first, rows, loop(c, self.w, self.lanes(), last)))


@pytest.mark.parametrize("seed", range(32))
def test_random_nest(seed):
    fn = Nest(seed).function()
    arrays = arrays_for(fn, seed)
    arrays[2] = np.abs(arrays[2])
    check(fn, arrays, threads=1 + seed % 3, target=TARGETS[seed % len(TARGETS)], rtol=2e-5)
