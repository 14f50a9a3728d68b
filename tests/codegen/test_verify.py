"""Each rule of the loop IR is checked: a function that breaks it is refused with a message that says where."""

from __future__ import annotations

import pytest
from loop_harness import buffer, loop

from luthier.codegen.nodes import Alloc, Barrier, Buffer, For, Function, If, Let, Prefetch, Store, seq
from luthier.codegen.verify import verify
from luthier.errors import InternalError
from luthier.te.expr import Binary, Read, Var, cast, const
from luthier.te.tensor import placeholder

x, y = buffer("x", (8,)), buffer("y", (8,))
n = buffer("n", (8,), "int64")
acc = buffer("acc", (8,), scope="register")
i, j, k = Var("i"), Var("j"), Var("k")


def function(body, **changes) -> Function:
    fields = {"name": "f", "params": (x, n, y), "outputs": 1, "body": body, **changes}
    return Function(**fields)


def copy(index=i):
    return Store(y, (index,), x[index])


GOOD = [
    loop(i, 8, "serial", copy()),
    loop(i, 8, "parallel", loop(j, 1, "vectorize", copy(i + j))),
    Alloc(acc, seq(loop(i, 8, "parallel", copy()), Barrier(), loop(j, 8, "parallel", copy(j)))),
    Alloc(acc, loop(i, 8, "serial", loop(j, 8, "unroll", Store(acc, (j,), x[i])))),
    Let(j, n[0], loop(i, j, "serial", copy())),
    loop(i, 8, "serial", Prefetch(x, (i + 100,))),
]

BAD = {
    "used outside": (copy(), "variable 'i' is not defined"),
    "twice": (loop(i, 8, "serial", loop(i, 8, "serial", copy())), "defined twice"),
    "input": (loop(i, 8, "serial", Store(x, (i,), y[i])), "input 'x' is written"),
    "dtype": (loop(i, 8, "serial", Store(y, (i,), n[i])), "int64, not float32"),
    "rank": (Store(y, (const(0), const(0)), x[0]), "2 indices for 'y'"),
    "bounds": (Store(y, (const(8),), x[0]), "index 0 of 'y' is 8, its extent is 8"),
    "index type": (Store(y, (cast(n[0], "int32"),), x[0]), "int32, not int64"),
    "nested parallel": (loop(i, 2, "serial", loop(j, 2, "parallel", copy(j))), "parallel loop 'j'"),
    "parallel in parallel": (loop(i, 2, "parallel", loop(j, 2, "parallel", copy(j))), "parallel loop 'j'"),
    "barrier": (loop(i, 2, "parallel", Barrier()), "barrier"),
    "loop in vector": (loop(i, 2, "vectorize", loop(j, 2, "serial", copy(j))), "serial loop 'j'"),
    "vector in vector": (loop(i, 2, "vectorize", loop(j, 2, "vectorize", copy(j))), "vectorize loop 'j'"),
    "varying let": (loop(i, 2, "vectorize", Let(j, i + 1, copy(j))), "varies over the lanes"),
    "uniform store": (loop(i, 2, "vectorize", Store(y, (const(0),), x[i])), "varies over the lanes"),
    "unroll extent": (Let(k, n[0], loop(i, k, "unroll", copy())), "extent of unroll loop 'i' is not constant"),
    "vector extent": (loop(i, n[0], "vectorize", copy()), "extent of vectorize loop 'i' is not constant"),
    "register index": (Alloc(acc, loop(i, 8, "serial", Store(acc, (i,), x[i]))), "not constant after unrolling"),
    "register by data": (Alloc(acc, Store(acc, (n[0],), x[0])), "it reads memory"),
    "not allocated": (Store(acc, (const(0),), x[0]), "'acc' is not visible"),
    "allocated param": (Alloc(buffer("z", (1,)), copy(const(0))), "only register and stack"),
    "allocated twice": (Alloc(acc, Alloc(acc, copy(const(0)))), "allocated twice"),
    "not a buffer": (loop(i, 8, "serial", Store(y, (i,), placeholder((8,), name="p")[i])), "is not a buffer"),
    "operands": (Store(y, (const(0),), Binary("add", x[0], n[0], "float32")), "operands are float32 and int64"),
    "read type": (Store(y, (const(0),), Read(n, (const(0),), "float32")), "typed float32"),
    "condition": (If(x[0], copy(const(0))), "condition is float32, not bool"),
    "loop variable": (For(Var("q", "int32"), const(0), const(1), "serial", copy(const(0))), "'q' is int32"),
    "locality": (Prefetch(x, (const(0),), 4), "locality 4"),
}


@pytest.mark.parametrize("body", GOOD)
def test_legal_functions_pass(body):
    verify(function(body))


@pytest.mark.parametrize("rule", BAD)
def test_broken_rules_are_named(rule):
    body, message = BAD[rule]
    with pytest.raises(InternalError, match=f"verify f, at .*{message}"):
        verify(function(body))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"outputs": 4}, "outputs is 4"),
        ({"shared": (x,)}, "listed under shared"),
        ({"params": (Buffer("z", (1,), "float32", "shared"), y)}, "listed under param"),
        ({"in_place": ((2, 0),)}, "does not name an input"),
        ({"in_place": ((1, 0),)}, "differ in size"),
    ],
)
def test_broken_signatures_are_named(changes, message):
    with pytest.raises(InternalError, match=message):
        verify(function(Store(y, (const(0),), const(0.0)), **changes))
