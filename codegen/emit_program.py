"""The native entry function of a program: :class:`.program.Program` to LLVM IR text.

The module holds three functions: the entry, which starts the team; ``luthier_member``, which each thread of a team
runs (it asks OpenMP for its number); and ``luthier_sequence``, the calls in order, ``repeats`` times. With one
thread the entry calls the sequence directly and OpenMP is never entered. In the timed variant (see :mod:`.program`) the
names begin with ``luthier_timed``, so that both can be in one library.
"""

from __future__ import annotations

from ..target import Target
from .emit import function_attributes
from .program import STAMP_BYTES, KernelCall, Program, Slot, stamps_per_thread

ENTRY = "luthier_run"
TIMED_ENTRY = "luthier_timed_run"
_CLOCK_MONOTONIC = 1  # Linux

_BASE = {"constant": "%constants", "arena": "%arena"}


def emit_program(program: Program, target: Target, *, timed: bool = False) -> str:
    """Print the module of the entry function of :mod:`.program`; its kernels are external.

    timed: make the variant that notes when each call begins and ends
    """
    symbols = {c.symbol: len(c.args) for c in program.calls}
    fixed, sequence = _FIXED, _sequence(program, timed)
    if timed:
        fixed = _FIXED.replace("@luthier_", "@luthier_timed_") + "declare i32 @clock_gettime(i32, ptr) nounwind\n"
    lines = [f'target triple = "{target.triple}"', fixed, *sequence]
    lines += [
        f"declare void @{symbol}({', '.join(['ptr'] * (count + 2))}, i64, i64) nounwind"
        for symbol, count in symbols.items()
    ]
    lines += [f"attributes #0 = {{ {function_attributes(target)} }}", ""]
    return "\n".join(lines)


_FIXED = """
%team = type { ptr, ptr, ptr, ptr, i64, i64 }
declare void @GOMP_parallel(ptr, ptr, i32, i32)
declare i32 @omp_get_thread_num()
declare i32 @omp_get_num_threads()
declare void @GOMP_barrier()

define i64 @luthier_run(ptr %inputs, ptr %outputs, ptr %constants, ptr %arena, i64 %threads, i64 %repeats) #0 {
entry:
  %several = icmp sgt i64 %threads, 1
  br i1 %several, label %team, label %alone
alone:
  call void @luthier_sequence(ptr %inputs, ptr %outputs, ptr %constants, ptr %arena, i64 0, i64 1, i64 %repeats)
  ret i64 0
team:
  %shared = alloca %team, align 8
  store ptr %inputs, ptr %shared, align 8
  %at1 = getelementptr i8, ptr %shared, i64 8
  store ptr %outputs, ptr %at1, align 8
  %at2 = getelementptr i8, ptr %shared, i64 16
  store ptr %constants, ptr %at2, align 8
  %at3 = getelementptr i8, ptr %shared, i64 24
  store ptr %arena, ptr %at3, align 8
  %at4 = getelementptr i8, ptr %shared, i64 32
  store i64 %threads, ptr %at4, align 8
  %at5 = getelementptr i8, ptr %shared, i64 40
  store i64 %repeats, ptr %at5, align 8
  %count = trunc i64 %threads to i32
  call void @GOMP_parallel(ptr @luthier_member, ptr %shared, i32 %count, i32 0)
  ret i64 0
}

define internal void @luthier_member(ptr %shared) #0 {
entry:
  %inputs = load ptr, ptr %shared, align 8
  %at1 = getelementptr i8, ptr %shared, i64 8
  %outputs = load ptr, ptr %at1, align 8
  %at2 = getelementptr i8, ptr %shared, i64 16
  %constants = load ptr, ptr %at2, align 8
  %at3 = getelementptr i8, ptr %shared, i64 24
  %arena = load ptr, ptr %at3, align 8
  %at5 = getelementptr i8, ptr %shared, i64 40
  %repeats = load i64, ptr %at5, align 8
  %number = call i32 @omp_get_thread_num()
  %tid = sext i32 %number to i64
  %granted = call i32 @omp_get_num_threads()
  %threads = sext i32 %granted to i64
  call void @luthier_sequence(ptr %inputs, ptr %outputs, ptr %constants, ptr %arena,
                              i64 %tid, i64 %threads, i64 %repeats)
  ret void
}
"""


def _sequence(program: Program, timed: bool) -> list[str]:
    name = "luthier_timed_sequence" if timed else "luthier_sequence"
    lines = [
        f"define internal void @{name}(ptr %inputs, ptr %outputs, ptr %constants, ptr %arena, i64 %tid, "
        "i64 %threads, i64 %repeats) #0 {",
        "entry:",
        *_pointers("input", "%inputs", program.inputs),
        *_pointers("output", "%outputs", program.outputs),
        *(_stamp_row(program) if timed else []),
        "  %several = icmp sgt i64 %threads, 1",
        "  %some = icmp sgt i64 %repeats, 0",
        "  br i1 %some, label %again, label %done",
        "again:",
    ]
    calls: list[str] = []
    block = "again"
    for n, call in enumerate(program.calls):
        before, after = (_stamp(2 * n), _stamp(2 * n + 1)) if timed else ([], [])
        calls += [*before, *_call(call, n), *after]
        if call.wait:
            calls += [
                f"  br i1 %several, label %meet{n}, label %met{n}",
                f"meet{n}:",
                "  call void @GOMP_barrier()",
                f"  br label %met{n}",
                f"met{n}:",
            ]
            block = f"met{n}"
    if program.calls and not program.calls[-1].wait:
        # the next repetition, or the caller, must find everything done
        calls += [
            "  br i1 %several, label %finish, label %finished",
            "finish:",
            "  call void @GOMP_barrier()",
            "  br label %finished",
            "finished:",
        ]
        block = "finished"
    if timed:
        calls += _stamp(2 * len(program.calls))
    return [
        *lines,
        f"  %round = phi i64 [ 0, %entry ], [ %next, %{block} ]",
        *calls,
        "  %next = add i64 %round, 1",
        "  %more = icmp slt i64 %next, %repeats",
        "  br i1 %more, label %again, label %done",
        "done:",
        "  ret void",
        "}",
    ]


def _pointers(name: str, table: str, count: int) -> list[str]:
    lines = []
    for i in range(count):
        lines.append(f"  %{name}.at{i} = getelementptr ptr, ptr {table}, i64 {i}")
        lines.append(f"  %{name}{i} = load ptr, ptr %{name}.at{i}, align 8")
    return lines


def _stamp_row(program: Program) -> list[str]:
    return [
        f"  %stamps.at = getelementptr ptr, ptr %inputs, i64 {program.inputs}",
        "  %stamps = load ptr, ptr %stamps.at, align 8",
        f"  %row.at = mul i64 %tid, {stamps_per_thread(program) * STAMP_BYTES}",
        "  %row = getelementptr i8, ptr %stamps, i64 %row.at",
    ]


def _stamp(position: int) -> list[str]:
    return [
        f"  %stamp{position} = getelementptr i8, ptr %row, i64 {position * STAMP_BYTES}",
        f"  %clock{position} = call i32 @clock_gettime(i32 {_CLOCK_MONOTONIC}, ptr %stamp{position})",
    ]


def _call(call: KernelCall, n: int) -> list[str]:
    lines: list[str] = []
    args = []
    for position, slot in enumerate(call.args):
        args.append(_address(lines, slot, f"%a{n}.{position}"))
    shared = _offset(lines, "%arena", call.shared, f"%s{n}")
    thread = _offset(lines, "%arena", call.thread, f"%t{n}")
    if call.thread_bytes:
        lines.append(f"  %t{n}.own = mul i64 %tid, {call.thread_bytes}")
        lines.append(f"  %t{n}.at = getelementptr i8, ptr {thread}, i64 %t{n}.own")
        thread = f"%t{n}.at"
    operands = ", ".join(f"ptr {a}" for a in (*args, shared, thread))
    lines.append(f"  call void @{call.symbol}({operands}, i64 %tid, i64 %threads)")
    return lines


def _address(lines: list[str], slot: Slot, name: str) -> str:
    base = _BASE.get(slot.segment) or f"%{slot.segment}{slot.index}"
    return _offset(lines, base, slot.offset, name)


def _offset(lines: list[str], base: str, offset: int, name: str) -> str:
    if not offset:
        return base
    lines.append(f"  {name} = getelementptr i8, ptr {base}, i64 {offset}")
    return name
