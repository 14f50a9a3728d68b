"""Spelling of types and constants in LLVM IR text.

An element has a *memory* type and a *value* type (what SSA values of it have): they differ for ``bool`` (i8 in
memory, i1 as a value). ``bfloat16`` is carried as raw ``i16`` bits, so that no target needs LLVM's bfloat support.
Next: :mod:`.emit_core`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ..te import dtype as dt

MEMORY_TYPE = {
    "float16": "half",
    "bfloat16": "i16",
    "float32": "float",
    "float64": "double",
    "bool": "i8",
    **{name: f"i{width}" for name, width in {**dt.SIGNED, **dt.UNSIGNED}.items()},
}
VALUE_TYPE = {**MEMORY_TYPE, "bool": "i1"}

_SUFFIX = {"float": "f32", "double": "f64", "half": "f16"}


def vector(element: str, lanes: int) -> str:
    """The type of ``lanes`` elements; 0 lanes is the scalar."""
    return f"<{lanes} x {element}>" if lanes else element


def mangled(element: str, lanes: int) -> str:
    """The type's name as LLVM spells it in the names of overloaded intrinsics: ``v16f32``, ``i64``."""
    name = _SUFFIX.get(element, element)
    return f"v{lanes}{name}" if lanes else name


def double_bits(value: float) -> str:
    """A float or double literal; ``value`` must be exact in the type."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def literal(value: int | float | bool, dtype: str) -> str:
    """Spell ``value``, rounded to ``dtype``, as an LLVM constant of its value type."""
    if dtype == dt.BOOL:
        return "true" if value else "false"
    if not dt.is_float(dtype):
        return str(int(value))
    return _float_literal(float(value), math.copysign(1.0, value), dtype)


@lru_cache(maxsize=4096)
def _float_literal(value: float, sign: float, dtype: str) -> str:
    """Kept, since few values occur often; sign: tells -0.0 from 0.0, which are equal."""
    if dtype == "float64":
        return double_bits(value)
    with np.errstate(over="ignore"):
        rounded = np.asarray(value, dtype=np.float64).astype(dt.to_numpy(dtype))
    if dtype == "float32":
        return double_bits(float(rounded))
    raw = int(rounded.view(np.uint16))
    return f"0xH{raw:04X}" if dtype == "float16" else str(raw)


def splat_literal(element: str, text: str, lanes: int) -> str:
    """A vector constant whose lanes all hold the scalar constant ``text``."""
    return f"splat ({element} {text})" if lanes else text


def constant_mask(text: str) -> list[int] | None:
    """The lanes of a mask that :func:`lane_list` spelled; None for any other text."""
    if not text.startswith("<i1 "):
        return None
    return [int(lane.split()[1]) for lane in text[1:-1].split(",")]


def lane_list(element: str, values: Sequence[int]) -> str:
    """A vector constant of integers: ``<i32 0, i32 1>``."""
    return "<" + ", ".join(f"{element} {int(v)}" for v in values) + ">"
