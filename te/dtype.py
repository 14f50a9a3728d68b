"""Element types: their names are NumPy's, plus ``bfloat16``."""

from __future__ import annotations

import numpy as np

from ..errors import ExpressionError

FLOATS = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}
SIGNED = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
UNSIGNED = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}
BOOL = "bool"
INDEX = "int64"
"""The type of every loop variable and index."""

_BITS = {**FLOATS, **SIGNED, **UNSIGNED, BOOL: 8}


def check(dtype: object) -> str:
    """Return the canonical name of ``dtype`` (a name or a NumPy dtype), or raise ExpressionError."""
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name  # type: ignore[call-overload]
    if name not in _BITS:
        raise ExpressionError(f"dtype {name!r} is not supported; use one of {', '.join(_BITS)}")
    return str(name)


def bits(dtype: str) -> int:
    """Storage size of one element in bits."""
    return _BITS[dtype]


def size_bytes(dtype: str) -> int:
    """Storage size of one element in bytes."""
    return _BITS[dtype] // 8


def is_float(dtype: str) -> bool:
    return dtype in FLOATS


def is_integer(dtype: str) -> bool:
    return dtype in SIGNED or dtype in UNSIGNED


def rounded(value: float, dtype: str) -> float:
    """``value`` as the float ``dtype`` holds it: rounded to nearest, infinite where it is too large."""
    if dtype == "float64":
        return value
    with np.errstate(over="ignore"):
        return float(to_numpy(dtype).type(value))


def to_numpy(dtype: str) -> np.dtype[np.generic]:
    """The NumPy dtype that holds ``dtype``; bfloat16 comes from ml_dtypes, which onnx installs."""
    if dtype == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[np.generic] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(dtype)
