"""Constants of a build: every array in the layout that its kernel reads, in one block of memory.

Comes in: for each argument that is a constant, the array and the kernel's parameter. Goes out: the block and, for each
request, an offset in it. Equal constants in equal layouts are kept once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codegen.kernel import Param
from ..errors import InputError, InternalError, ScheduleError
from ..runtime.arrays import Array, aligned, empty_pages
from ..runtime.executable import Executable
from ..runtime.prepare import identity, load_preparing, prepared
from ..te import dtype as dt


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """array: in the logical shape of the kernel's input; param: how the kernel reads it."""

    array: Array
    param: Param


def pack_constants(requests: Sequence[Request], jobs: int = 1) -> tuple[Array, list[int]]:
    """Return the block, uint8 and aligned, and the offset of each request in bytes, a multiple of 64.

    jobs: constants to lay out at the same time. Each is written where it will stay: on many machines it takes longer
    to touch new memory than to fill it.
    """
    known = _Contents()
    places: dict[tuple[Any, ...], int] = {}
    firsts: list[tuple[int, Request]] = []
    offsets = []
    end = 0
    for request in requests:
        key = (known.identity(request.array), request.param.dtype, identity(request.param))
        if key not in places:
            places[key] = end
            firsts.append((end, request))
            end += aligned(request.param.size_bytes)
        offsets.append(places[key])
    block = empty_pages(end)
    preparing = load_preparing(r.param for _, r in firsts)
    firsts.sort(key=lambda first: -first[1].param.size_bytes)

    def fill(first: tuple[int, Request]) -> None:
        offset, request = first
        _lay_out(request, preparing, block[offset : offset + request.param.size_bytes])

    if jobs == 1:
        for first in firsts:
            fill(first)
    else:
        with ThreadPoolExecutor(jobs) as pool:  # copies and native code run outside of the interpreter lock
            list(pool.map(fill, firsts))
    return block, offsets


def _lay_out(request: Request, preparing: Mapping[str, Executable], place: Array) -> None:
    """Write the bytes that the kernel reads."""
    param, array = request.param, request.array
    out = place.view(dt.to_numpy(param.dtype)).reshape(param.shape)
    try:
        if array.dtype != out.dtype:
            raise ValueError("another element type")
        if param.layout is None and param.prepare is None:
            array = array.reshape(param.shape)  # a copy kernel takes any shape as one dimension
        prepared(param, array, preparing, out)
    except (ValueError, InputError, ScheduleError) as error:
        raise InternalError(
            f"constants: {array.dtype}{list(array.shape)} does not become {param.dtype}{list(param.shape)} for "
            f"{param.name}: {error}"
        ) from error


class _Contents:
    """Tells arrays apart by what they hold. Only those that look alike are read from end to end."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Array, tuple[Any, ...]]] = {}  # by identity; the array stays alive
        self._alike: dict[tuple[Any, ...], list[Array]] = {}

    def identity(self, array: Array) -> tuple[Any, ...]:
        """Equal for arrays of equal shape, type and bytes."""
        known = self._seen.get(id(array))
        if known is not None:
            return known[1]
        sample = np.ascontiguousarray(array.reshape(-1)[:: max(1, array.size // _SAMPLES)]).tobytes()
        look = (array.shape, array.dtype.str, sample)
        alike = self._alike.setdefault(look, [])
        place = next((i for i, other in enumerate(alike) if _same_bytes(array, other)), len(alike))
        if place == len(alike):
            alike.append(array)
        self._seen[id(array)] = (array, (*look, place))
        return self._seen[id(array)][1]


_SAMPLES = 64


def _same_bytes(a: Array, b: Array) -> bool:
    """Whether two arrays of one shape and type hold the same bytes: unlike ==, it tells 0 from -0 and finds NaNs."""
    if a.ctypes.data == b.ctypes.data and a.strides == b.strides:
        return True
    first, second = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
    return bool(np.array_equal(first, second))
