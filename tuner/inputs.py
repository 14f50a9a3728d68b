"""Input data for measuring a task, and the comparison of results.

The same task always gets the same data, in whatever process: it is seeded by the position of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..te import dtype as dt
from ..te.expr import Binary, Call, Read
from ..te.tensor import Compute, Placeholder
from ..te.traversal import walk
from ..te.workload import Workload

Array = np.ndarray[Any, np.dtype[Any]]

_POSITIVE_ONLY = {"log", "sqrt", "asin", "acos", "acosh", "atanh"}
_TOLERANCE = {"float16": 1e-2, "bfloat16": 3e-2, "float32": 3e-4, "float64": 1e-9}


def random_inputs(workload: Workload) -> list[Array]:
    """Make one array per input, of its logical shape.

    Floats are uniform in (-1, 1), or in (1/4, 1) where an operation of the workload is not defined for all numbers.
    Integers stay within the bounds of every dimension that they might index. Output channels that only fill weights up
    to whole blocks are zero, as they are in models.
    """
    positive = _needs_positive(workload)
    limit = _index_limit(workload)
    arrays = [_random(p, np.random.default_rng(i), positive, limit) for i, p in enumerate(workload.inputs)]
    clear_padding(workload, arrays)
    return arrays


def clear_padding(workload: Workload, arrays: Sequence[Array]) -> None:
    """Set the output channels that fill the weights of convolutions up to whole blocks to zero.

    An algorithm need not compute them: their lanes hold nothing.
    """
    for stage in workload.stages:
        channels = stage.attrs.get("out_channels")
        if isinstance(channels, int) and "out_block" in stage.attrs:
            for source, array in zip(workload.inputs, arrays, strict=True):
                if source is stage.inputs()[-1]:
                    array[channels:] = 0


def _random(p: Placeholder, rng: np.random.Generator, positive: bool, limit: int | None) -> Array:
    dtype = dt.to_numpy(p.dtype)
    if p.dtype == dt.BOOL:
        return rng.integers(0, 2, p.shape).astype(dtype)
    if dt.is_integer(p.dtype):
        if limit is not None:
            return rng.integers(0, max(limit, 1), p.shape).astype(dtype)
        low, high = (0, 128) if p.dtype in dt.UNSIGNED else (-64, 64)
        return rng.integers(low, high, p.shape).astype(dtype)
    values = rng.random(p.shape, np.float32)
    values = values * np.float32(0.75) + np.float32(0.25) if positive else values * np.float32(2) - np.float32(1)
    return values.astype(dtype, copy=False)


def _needs_positive(workload: Workload) -> bool:
    return any(
        (isinstance(e, Call) and e.fn in _POSITIVE_ONLY) or (isinstance(e, Binary) and e.op in ("pow", "div"))
        for stage in workload.stages
        for e in walk(stage.body)
    )


def _index_limit(workload: Workload) -> int | None:
    """The least extent of a dimension that is indexed by data; None where data indexes nothing."""
    extents = [
        extent
        for stage in workload.stages
        for read in stage.reads()
        for index, extent in zip(read.indices, read.source.shape, strict=True)
        if any(isinstance(e, Read) for e in walk(index))
    ]
    return min(extents, default=None)


def differences(outputs: tuple[Compute, ...], expected: list[Array], actual: list[Array]) -> str:
    """Say how two lists of results differ; "" where they agree.

    Floats may differ by a fraction of the largest magnitude of the expected result (float32: 3e-4, well above what
    another order of summation or a Winograd transform does); a NaN must be a NaN in both. Integers are equal.
    """
    for tensor, e, a in zip(outputs, expected, actual, strict=True):
        if e.shape != a.shape:
            return f"output {tensor.name} has shape {a.shape}, expected {e.shape}"
        message = _difference(tensor.dtype, e, a)
        if message:
            return f"output {tensor.name}: {message}"
    return ""


def _difference(dtype: str, expected: Array, actual: Array) -> str:
    if not dt.is_float(dtype):
        wrong = expected != actual
        if not wrong.any():
            return ""
        where = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        return f"{int(wrong.sum())} of {wrong.size} values differ, first at {_point(where)}"
    if dtype != "float64":
        expected, actual = expected.astype(np.float32, copy=False), actual.astype(np.float32, copy=False)
    if np.array_equal(expected, actual):
        return ""
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(expected)
        scale = float(np.max(np.abs(expected), where=finite, initial=0.0))
        off = np.abs(actual - expected)
    agree = np.where(finite, off <= _TOLERANCE[dtype] * scale, _same_special(expected, actual))
    if agree.all():
        return ""
    where = np.unravel_index(int(np.argmin(agree)), agree.shape)
    count = int((~agree).sum())
    return (
        f"{count} of {agree.size} values differ by more than {_TOLERANCE[dtype]:g} of {scale:.3g}, first at "
        f"{_point(where)}: {float(actual[where]):.6g} instead of {float(expected[where]):.6g}"
    )


def _same_special(expected: Array, actual: Array) -> Array:
    """Infinities are equal, and NaN is NaN. Where terms overflow, another order may give either."""
    same: Array = (np.isnan(expected) & ~np.isfinite(actual)) | (expected == actual)
    return same


def _point(where: tuple[Any, ...]) -> str:
    return "[" + ", ".join(str(int(i)) for i in where) + "]"
