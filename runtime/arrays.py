"""Memory that generated code may be given: aligned arrays and arenas.

The calling convention (:mod:`luthier.codegen.kernel`) asks for buffers aligned to 64 bytes, NumPy promises 16.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

ALIGNMENT = 64
HUGE_PAGE_BYTES = 2 * 1024 * 1024
PRIVATE: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
"""Memory that may be shared with other processes, Python's default, gets no huge pages from Linux."""


def aligned(size_bytes: int) -> int:
    """A size, rounded up so that what follows is aligned."""
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def empty_aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return a new uninitialised C-contiguous array whose data is aligned to 64 bytes."""
    return new_aligned(shape, dtype)[0]


def new_aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[Array, int]:
    """As :func:`empty_aligned`, with the address of the data, which takes NumPy a microsecond to tell."""
    raw = np.empty(prod(shape) * dtype.itemsize + ALIGNMENT, np.uint8)
    address = address_of(raw)
    start = -address % ALIGNMENT
    return np.ndarray(shape, dtype, raw.data, start), address + start


def empty_pages(size_bytes: int) -> Array:
    """Return ``size_bytes`` of zeroed memory in pages of its own, huge ones where the system grants them."""
    if size_bytes < HUGE_PAGE_BYTES:
        raw = empty_aligned((size_bytes,), np.dtype(np.uint8))
        raw.fill(0)
        return raw
    block = mmap.mmap(-1, size_bytes + HUGE_PAGE_BYTES, **PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages: small ones do
            block.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(block, np.uint8)
    start = -raw.ctypes.data % HUGE_PAGE_BYTES
    return raw[start : start + size_bytes]


def address_of(array: Array) -> int:
    """The address of the first element."""
    return array.ctypes.data
