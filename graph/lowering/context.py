"""What lowering rules share: the tensors of a group's values, and constants in the form in which a rule reads them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from ...errors import InternalError, OnnxError
from ...te import dtype as dt
from ...te.expr import const
from ...te.ops.layout import reshape
from ...te.ops.operand import Operand, physical_shape
from ...te.tensor import Placeholder, Tensor, placeholder
from ..ir import Graph, Node, Value

Array = np.ndarray[Any, Any]


class Context:
    """The state of lowering one group.

    tensors  value -> tensor, for values that the group reads or makes (constants only where read as they are)
    inputs   placeholder -> the value it stands for, in order of first use
    arrays   constant placeholder -> its array, in the placeholder's shape
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: dict[Value, Tensor] = {}
        self.inputs: dict[Placeholder, Value] = {}
        self.arrays: dict[Placeholder, Array] = {}
        self._forms: dict[tuple[Value, Hashable], Placeholder] = {}

    # ------------------------------------------------------------------------------------------ reading

    def array(self, value: Value | None) -> Array | None:
        """The array of a constant (logical shape); None for a value computed at run time."""
        return None if value is None else self.graph.constants.get(value)

    def tensor(self, value: Value) -> Tensor:
        """The tensor of ``value`` in its physical shape; the first use makes a placeholder."""
        if value not in self.tensors:
            array = self.array(value)
            if array is not None:
                stored = to_physical(array.reshape(value.shape), value.layout.block)
                self.tensors[value] = self.constant(value, stored, "as it is")
            else:
                made = placeholder(value.physical_shape, value.dtype, identifier(value.name))
                self.tensors[value] = made
                self.inputs[made] = value
        return self.tensors[value]

    def operand(self, value: Value) -> Operand:
        """``value`` as an operand; a constant of one element becomes part of the expression."""
        number = self.number(value)
        if number is not None:
            return Operand(const(number, value.dtype), value.shape)
        return Operand(self.tensor(value), value.shape, value.layout.block)

    def plain(self, value: Value) -> Tensor:
        """The tensor of a value that must be in plain layout; InternalError where it is not."""
        if value.layout.block:
            raise InternalError(f"lowering: {value!r} is read by an operator that takes plain layout only")
        return self.tensor(value)

    def broadcast(self, value: Value, result: Value, *, axis: int | None = None) -> Operand:
        """``value`` as an operand that broadcasts against ``result``.

        axis  the dimension of ``result`` with which the first dimension of ``value`` is aligned (default: as NumPy
              does)

        A constant along the channels of a blocked result is stored in the same blocks, filled up with zeros.
        """
        shape = value.shape
        if axis is not None:
            shape = (*(1,) * axis, *shape, *(1,) * (len(result.shape) - axis - len(shape)))
        block, array = result.layout.block, self.array(value)
        if self.number(value) is None and array is not None and block and not value.layout.block:
            full = (1,) * (len(result.shape) - len(shape)) + tuple(shape)
            if full[1] == result.shape[1] and full[1] > 1:
                stored = to_physical(array.reshape(full), block)
                return Operand(self.constant(value, stored, ("blocked", block, full)), full, block)
        return self.operand(value) if axis is None else self._aligned(value, shape)

    def _aligned(self, value: Value, shape: tuple[int, ...]) -> Operand:
        """``value`` with dimensions of size 1 around its own."""
        number, array = self.number(value), self.array(value)
        if number is not None:
            return Operand(const(number, value.dtype), shape)
        if array is not None:
            return Operand(self.constant(value, array.reshape(shape), ("aligned", shape)), shape)
        return Operand(reshape(self.operand(value), shape), shape)

    def number(self, value: Value) -> int | float | bool | None:
        """The value of a constant of one element; None for all others."""
        array = self.array(value)
        if array is None or array.size != 1 or value.dtype not in _SCALARS:
            return None
        item: int | float | bool = array.reshape(-1)[0].item()
        return item

    # ---------------------------------------------------------------------------------------- constants

    def constant(self, value: Value, array: Array, form: Hashable, name: str | None = None) -> Placeholder:
        """A placeholder for ``value``, bound at build time to ``array``; ``form`` tells apart its different shapes."""
        key = (value, form)
        if key not in self._forms:
            made = placeholder(array.shape, value.dtype, name or identifier(value.name), constant=True)
            self._forms[key] = made
            self.inputs[made] = value
            self.arrays[made] = array
        return self._forms[key]


_SCALARS = {*dt.FLOATS, *dt.SIGNED, *dt.UNSIGNED, dt.BOOL} - {"bfloat16"}


def required(node: Node, index: int = 0) -> Value:
    """The input of ``node`` at ``index``; OnnxError where it is absent."""
    value = optional(node, index)
    if value is None:
        title = "+".join(node.names) or "node"
        raise OnnxError(f"{title} ({node.op}): input {index} is required, but absent")
    return value


def optional(node: Node, index: int) -> Value | None:
    """The input of ``node`` at ``index``, None where it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def to_physical(array: Array, block: int) -> Array:
    """Store an array of logical shape in blocks of ``block`` channels; lanes past the last channel are 0."""
    if not block:
        return array
    n, channels, *spatial = array.shape
    shape = physical_shape(array.shape, block)
    full = np.zeros((n, shape[1] * block, *spatial), array.dtype)
    full[:, :channels] = array
    cut = full.reshape(n, shape[1], block, *spatial)
    return np.ascontiguousarray(np.moveaxis(cut, 2, -1))


def to_logical(array: Array, shape: Sequence[int], block: int) -> Array:
    """The inverse of :func:`to_physical`: an array of logical ``shape``."""
    if not block:
        return array.reshape(tuple(shape))
    n, _, *spatial = shape
    channels_first = np.moveaxis(array, -1, 2)
    return np.ascontiguousarray(channels_first.reshape(n, -1, *spatial)[:, : shape[1]])


def pad_to_multiple(array: Array, multiple: int, axis: int = 0) -> Array:
    """Fill ``axis`` up to a multiple with zeros; the same array where it is one already."""
    missing = -array.shape[axis] % multiple
    if not missing:
        return array
    widths = [(0, missing if d == axis else 0) for d in range(array.ndim)]
    return np.pad(array, widths)


def identifier(name: str) -> str:
    """A name that is legal in printed expressions: the last part of a path, other characters replaced."""
    text = re.sub(r"\W", "_", name.rsplit("/", 1)[-1])
    return text if text and not text[0].isdigit() else f"v{text}"
