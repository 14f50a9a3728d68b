"""A compiled kernel and its calling convention.

A kernel is one C function of the host's calling convention::

    void NAME(buffer_0, ..., buffer_n-1, char *shared, char *thread, int64_t tid, int64_t threads)

The buffers are the parameters, inputs first, then outputs; each is aligned to 64 bytes and they do not overlap,
except that an output may be the very buffer of an input where the kernel's ``in_place`` allows it. ``shared`` has
``shared_bytes`` that all threads see; ``thread`` has ``thread_bytes`` of this thread's own; both are aligned to 64 and
may be null when their size is 0. Every thread of the team calls the kernel once, with its number. Barriers inside a
kernel call the external ``GOMP_barrier`` when ``threads > 1``. Kernels are called by a program (:mod:`.program`), never
from Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Param:
    """One buffer argument. shape is physical: after the layout change that ``layout`` describes.

    layout  JSON form of the transform_layout step (see schedule/layout.py) that turns the workload's logical
            tensor into this buffer; None when they are the same
    prepare a kernel of one input and one output that makes this buffer from the logical tensor; it runs once, when the
            model is built
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int
    layout: Mapping[str, Any] | None = None
    prepare: Kernel | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """Object code of one kernel with all that a caller must know.

    symbol          name of the function; unique for (workload, decisions, target)
    object_code     relocatable object file
    params          inputs, then outputs
    outputs         number of outputs at the end of params
    parallel        largest number of chunks that the work divides into (1: serial)
    in_place        pairs (input index, output index) that may be one buffer
    metadata        JSON data: ``decisions``, what the space chose; ``flops``, what the chosen algorithm computes
    """

    symbol: str
    object_code: bytes
    params: tuple[Param, ...]
    outputs: int
    shared_bytes: int = 0
    thread_bytes: int = 0
    parallel: int = 1
    in_place: tuple[tuple[int, int], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
