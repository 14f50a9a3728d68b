"""A small program in hand-written LLVM IR, so that these tests need nothing of the code generator.

y = x + c       (64 floats, done by the whole team: each thread its share)
n = team size
"""

from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np
import pytest

from luthier.codegen.program import KernelCall, Program, Slot
from luthier.runtime.arrays import empty_aligned
from luthier.runtime.executable import Executable, TensorSpec
from luthier.target import Target

SIZE = 64

_IR = """
declare void @GOMP_parallel(ptr, ptr, i32, i32)
declare void @GOMP_barrier()
declare i32 @omp_get_thread_num()
declare i32 @omp_get_num_threads()
declare float @expf(float)

define void @add(ptr %x, ptr %c, ptr %y, ptr %n, ptr %arena, i64 %tid, i64 %threads) {
entry:
  %size = sdiv i64 64, %threads
  %begin = mul i64 %tid, %size
  %end = add i64 %begin, %size
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %px = getelementptr float, ptr %x, i64 %i
  %pc = getelementptr float, ptr %c, i64 %i
  %py = getelementptr float, ptr %y, i64 %i
  %pa = getelementptr float, ptr %arena, i64 %i
  %vx = load float, ptr %px
  %vc = load float, ptr %pc
  %sum = fadd float %vx, %vc
  store float %sum, ptr %pa
  %again = load volatile float, ptr %pa
  store float %again, ptr %py
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  store i64 %threads, ptr %n
  ret void
}

define void @body(ptr %p) {
  %t32 = call i32 @omp_get_thread_num()
  %n32 = call i32 @omp_get_num_threads()
  %t = sext i32 %t32 to i64
  %n = sext i32 %n32 to i64
  %x = load ptr, ptr %p
  %p1 = getelementptr ptr, ptr %p, i64 1
  %c = load ptr, ptr %p1
  %p2 = getelementptr ptr, ptr %p, i64 2
  %y = load ptr, ptr %p2
  %p3 = getelementptr ptr, ptr %p, i64 3
  %size = load ptr, ptr %p3
  %p4 = getelementptr ptr, ptr %p, i64 4
  %arena = load ptr, ptr %p4
  call void @add(ptr %x, ptr %c, ptr %y, ptr %size, ptr %arena, i64 %t, i64 %n)
  call void @GOMP_barrier()
  ret void
}

define i64 @luthier_run(ptr %inputs, ptr %outputs, ptr %constants, ptr %arena, i64 %threads, i64 %repeats) {
entry:
  %p = alloca [5 x ptr]
  %x = load ptr, ptr %inputs
  %y = load ptr, ptr %outputs
  %second = getelementptr ptr, ptr %outputs, i64 1
  %n = load ptr, ptr %second
  store ptr %x, ptr %p
  %p1 = getelementptr ptr, ptr %p, i64 1
  store ptr %constants, ptr %p1
  %p2 = getelementptr ptr, ptr %p, i64 2
  store ptr %y, ptr %p2
  %p3 = getelementptr ptr, ptr %p, i64 3
  store ptr %n, ptr %p3
  %p4 = getelementptr ptr, ptr %p, i64 4
  store ptr %arena, ptr %p4
  %many = trunc i64 %threads to i32
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void @GOMP_parallel(ptr @body, ptr %p, i32 %many, i32 0)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %repeats
  br i1 %more, label %loop, label %done
done:
  %e = call float @expf(float 0.0)
  %one = fptosi float %e to i64
  ret i64 %one
}
"""


def compile_ir(text: str) -> bytes:
    """Object code of LLVM IR for this machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    module.verify()
    return llvm.Target.from_default_triple().create_target_machine(reloc="pic").emit_object(module)


@pytest.fixture(scope="session")
def objects() -> list[bytes]:
    return [compile_ir(_IR)]


@pytest.fixture(scope="session")
def target() -> Target:
    return Target("test", llvm.get_process_triple(), "generic", "", 128, 16, threads=2)


@pytest.fixture
def model(objects: list[bytes], target: Target) -> Executable:
    args = (Slot("input"), Slot("constant"), Slot("output", 0), Slot("output", 1))
    program = Program((KernelCall("add", args),), inputs=1, outputs=2, arena_bytes=SIZE * 4, threads=2)
    constants = empty_aligned((SIZE * 4,), np.dtype(np.uint8))
    constants.view(np.float32)[:] = np.arange(SIZE)
    specs = [TensorSpec("x", "float32", (4, 16))], [TensorSpec("y", "float32", (4, 16)), TensorSpec("n", "int64", (1,))]
    return Executable(program, objects, constants, *specs, target)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)


@pytest.fixture
def expected(x: np.ndarray) -> np.ndarray:
    return x + np.arange(SIZE, dtype=np.float32).reshape(4, 16)
