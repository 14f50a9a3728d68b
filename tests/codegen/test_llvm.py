"""LLVM's side: object code for every target, rejection of bad IR, use from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loop_harness import TARGETS, buffer, loop

from luthier import config
from luthier.codegen import emit, llvm
from luthier.codegen.detect import named_target
from luthier.codegen.nodes import Function, Store
from luthier.errors import InternalError
from luthier.te.expr import INTRINSICS, Var, call, cast, const, maximum, select

ALL = [*TARGETS, named_target("aarch64")]


def everything() -> Function:
    """A kernel with every intrinsic, short floats, masks, gathers and division."""
    x, h, n = buffer("x", (64,)), buffer("h", (64,), "float16"), buffer("n", (64,), "int64")
    y = buffer("y", (64,))
    j, k = Var("j"), Var("k")
    i = k * 16 + j
    total = const(0.0, "float32")
    for fn in sorted(INTRINSICS):
        value = call(fn, x[i])
        total = total + (select(value, x[i], total) if value.dtype == "bool" else value)
    total = maximum(total, cast(h[i], "float32") ** x[i])
    total = total + select(n[i] < 64, x[n[i] % 64], cast(cast(x[i], "bfloat16"), "float32"))
    body = loop(j, 16, "vectorize", Store(y, (i,), total))
    return Function("everything", (x, h, n, y), 1, loop(k, 4, "serial", body))


@pytest.mark.parametrize("target", ALL, ids=lambda t: t.name)
def test_object_and_assembly(target):
    text = emit.emit_function(everything(), target)
    code = llvm.compile_object(text, target)
    assert code[:4] == b"\x7fELF"
    assert code[18] == (183 if target.name == "aarch64" else 62)  # e_machine
    assert "everything:" in llvm.assembly(text, target)


def test_compilation_is_deterministic():
    target = TARGETS[0]
    first, second = (llvm.compile_object(emit.emit_function(everything(), target), target) for _ in range(2))
    assert first == second


def test_optimized_ir_has_no_stack_variables():
    x, y = buffer("x", (16,)), buffer("y", (16,))
    acc = buffer("acc", (16,), scope="register")
    from luthier.codegen.nodes import Alloc, seq

    i, j = Var("i"), Var("j")
    first = loop(i, 16, "vectorize", Store(acc, (i,), x[i] + 1.0))
    body = Alloc(acc, seq(first, loop(j, 16, "vectorize", Store(y, (j,), acc[j] * 2.0))))
    text = llvm.optimized_ir(emit.emit_function(Function("f", (x, y), 1, body), TARGETS[0]), TARGETS[0])
    assert "alloca" not in text and "define void @f(" in text


def test_bad_ir_is_an_internal_error_with_a_dump(tmp_path):
    with config.override(dump=str(tmp_path / "dump")), pytest.raises(InternalError, match="was rejected") as caught:
        llvm.compile_object("define void @f() { ret i32 0 }", TARGETS[0])
    path = Path(str(caught.value).rsplit(" ", 1)[-1])
    assert path.parent == tmp_path / "dump"
    assert path.read_text() == "define void @f() { ret i32 0 }"


def test_several_threads():
    target = TARGETS[0]
    texts = [emit.emit_function(everything(), target)] * 4
    expected = llvm.compile_object(texts[0], target)
    with ThreadPoolExecutor(4) as pool:
        assert all(code == expected for code in pool.map(lambda t: llvm.compile_object(t, target), texts))
