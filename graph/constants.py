"""Constants of a build: every array in the layout that its kernel reads, in one block of memory.

Comes in: for each argument that is a constant, the array and the kernel's parameter. Goes out: the block and, for each
request, an offset in it. Equal constants in equal layouts are kept once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codegen.kernel import Param
from ..errors import InternalError
from ..runtime.arrays import ALIGNMENT, Array, empty_pages
from ..runtime.executable import Executable
from ..runtime.prepare import identity, prepared


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """array: in the logical shape of the kernel's input; param: how the kernel reads it."""

    array: Array
    param: Param


def pack_constants(requests: Sequence[Request]) -> tuple[Array, list[int]]:
    """Return the block, uint8 and aligned, and the offset of each request in bytes, a multiple of 64."""
    digests: dict[int, str] = {}
    places: dict[tuple[Any, ...], int] = {}
    firsts: list[tuple[int, Request]] = []
    offsets = []
    end = 0
    for request in requests:
        key = (_digest(request.array, digests), request.array.shape, request.param.dtype, identity(request.param))
        if key not in places:
            places[key] = end
            firsts.append((end, request))
            end += -(-request.param.size_bytes // ALIGNMENT) * ALIGNMENT
        offsets.append(places[key])
    block = empty_pages(end)
    loaded: dict[str, Executable] = {}
    for offset, request in firsts:
        data = _laid_out(request, loaded)
        block[offset : offset + data.size] = data
    return block, offsets


def _laid_out(request: Request, loaded: dict[str, Executable]) -> Array:
    """The bytes that the kernel reads."""
    param = request.param
    array = prepared(param, request.array, loaded)
    if array.nbytes != param.size_bytes or array.dtype.name != param.dtype:
        raise InternalError(
            f"constants: {param.name} is {array.dtype}{list(array.shape)}, the kernel reads "
            f"{param.dtype}{list(param.shape)}"
        )
    return array.reshape(-1).view(np.uint8)


def _digest(array: Array, known: dict[int, str]) -> str:
    """Hash of the contents; ``known`` by identity, for the life of one call."""
    if id(array) not in known:
        known[id(array)] = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()
    return known[id(array)]
