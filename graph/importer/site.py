"""One node while it is being imported: what a normaliser reads and changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import OnnxError
from ..ir import Value


@dataclass(slots=True)
class Site:
    """A node in ONNX's form, to be brought into the internal form in place.

    version   the operator's own version: the opset in which its definition last changed
    inputs    values, None where an optional one is absent
    outputs   values with inferred dtypes and shapes
    attrs     attributes as Python values, with the schema's defaults filled in
    constant  looks up the array of a constant value; None for a computed one
    """

    op: str
    version: int
    inputs: list[Value | None]
    outputs: list[Value]
    attrs: dict[str, Any]
    constant: Callable[[Value], np.ndarray[Any, Any] | None]

    def input(self, index: int) -> Value | None:
        """The input at ``index``, None where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def required(self, index: int) -> Value:
        """The input at ``index``; OnnxError where it is absent."""
        value = self.input(index)
        if value is None:
            raise OnnxError(f"input {index} is required, but absent")
        return value

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first input."""
        return self.required(0).shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    def array(self, index: int, what: str) -> np.ndarray[Any, Any] | None:
        """The constant at input ``index``: None where absent, OnnxError where it is computed at run time."""
        value = self.input(index)
        if value is None:
            return None
        array = self.constant(value)
        if array is None:
            raise OnnxError(f"{what} (input {value.name!r}) is computed at run time; it must be a constant")
        return array

    def ints(self, index: int, what: str, attr: str | None = None) -> tuple[int, ...] | None:
        """Integers from the constant input ``index`` or, in older versions, the attribute ``attr`` (or ``what``)."""
        array = self.array(index, what)
        if array is not None:
            return tuple(int(v) for v in array.reshape(-1))
        value = self.attrs.get(attr or what)
        return None if value is None else tuple(int(v) for v in value)

    def scalar(self, index: int, what: str, default: float | None) -> float | None:
        """A number from the constant input ``index``, ``default`` where it is absent or empty."""
        array = self.array(index, what)
        if array is not None and array.size > 1:
            raise OnnxError(f"{what} has shape {list(array.shape)}; it must be a scalar")
        return default if array is None or array.size == 0 else float(array.reshape(-1)[0])

    def become(self, op: str, inputs: int, **attrs: Any) -> None:
        """Keep the first ``inputs`` inputs and exactly these attributes."""
        self.op, self.inputs, self.attrs = op, self.inputs[:inputs], attrs
