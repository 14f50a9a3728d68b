"""Eviction: put data out of every cache, so that what reads it next reads memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

import llvmlite.binding as llvm
import numpy as np

from ..codegen.detect import host_target
from ..codegen.llvm import compile_object
from ..runtime.arrays import Array, address_of
from ..target import Target

_IR = """
declare void @llvm.x86.{flush}(ptr)
declare void @llvm.x86.sse2.mfence()

define void @evict(ptr %begin, i64 %bytes) {{
entry:
  br label %next
next:
  %offset = phi i64 [ 0, %entry ], [ %after, %next ]
  %address = getelementptr i8, ptr %begin, i64 %offset
  call void @llvm.x86.{flush}(ptr %address)
  %after = add i64 %offset, {line_bytes}
  %more = icmp ult i64 %after, %bytes
  br i1 %more, label %next, label %done
done:
  call void @llvm.x86.sse2.mfence()
  ret void
}}
"""


def evict(array: Array) -> None:
    """Drop a contiguous array from the caches of all cores; on x86 this takes some nanoseconds for each line.

    Other CPUs give users no such instruction, or LLVM no name for it; there, other data goes through the caches.
    """
    if array.nbytes:
        _evictor()(address_of(array), array.nbytes)


@lru_cache(maxsize=1)
def _evictor() -> Callable[[int, int], object]:
    target = host_target(1)
    return _flush(target) if target.triple.startswith("x86_64") else _displace(target)


def _flush(target: Target) -> Callable[[int, int], object]:
    flush = "clflushopt" if "+clflushopt" in target.features.split(",") else "sse2.clflush"
    builder = llvm.JITLibraryBuilder()
    builder.add_object_img(compile_object(_IR.format(flush=flush, line_bytes=target.line_bytes), target))
    builder.export_symbol("evict")
    jit = llvm.create_lljit_compiler(use_jit_link=True)
    library = builder.link(jit, "evict")
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(library["evict"])
    function.owners = (library, jit)  # type: ignore[attr-defined]  # its code goes when they do
    return function


def _displace(target: Target) -> Callable[[int, int], object]:
    others = np.ones(2 * target.l3_bytes // 8)
    return lambda address, size_bytes: others.sum()
