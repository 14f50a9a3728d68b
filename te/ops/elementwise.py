"""Elementwise operators with NumPy's broadcasting, on tensors of any layout. Tag ``injective``.

The scalar functions are in :mod:`.math`. The result has the layout of the first blocked operand of full rank, unless
``block`` says otherwise; operands of other layouts are read through their logical indices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..expr import Expr, ExprLike, select
from ..tensor import Compute
from .math import BINARY, UNARY
from .operand import OperandLike, broadcast_shapes, common_block, define, operand


def elementwise(
    fn: Callable[..., ExprLike],
    operands: Sequence[OperandLike],
    *,
    name: str = "elementwise",
    shape: Sequence[int] = (),
    block: int | None = None,
) -> Compute:
    """Apply ``fn`` to the elements of ``operands``, broadcast against each other and against ``shape``.

    Errors: ExpressionError when the shapes do not broadcast.
    """
    xs = [operand(x) for x in operands]
    shape = broadcast_shapes(shape, *(x.shape for x in xs))
    block = common_block(xs, len(shape)) if block is None else block
    return define(shape, lambda *i: fn(*(x.broadcast_at(i, shape) for x in xs)), block=block, name=name)


def unary(op: str, x: OperandLike) -> Compute:
    """Apply the ONNX operator ``op`` of :data:`.math.UNARY`."""
    return elementwise(UNARY[op], [x], name=op.lower())


def binary(op: str, a: OperandLike, b: OperandLike, *, block: int | None = None) -> Compute:
    """Apply the ONNX operator ``op`` of :data:`.math.BINARY`."""
    return elementwise(BINARY[op], [a, b], name=op.lower(), block=block)


def variadic(
    op: str, operands: Sequence[OperandLike], *, shape: Sequence[int] = (), block: int | None = None
) -> Compute:
    """Sum, Mean, Max or Min of any number of operands, from left to right."""
    step = BINARY["Add" if op in ("Sum", "Mean") else op]

    def fold(*values: Expr) -> Expr:
        result = values[0]
        for v in values[1:]:
            result = step(result, v)
        return result / float(len(values)) if op == "Mean" else result

    return elementwise(fold, operands, name=op.lower(), shape=shape, block=block)


def where(condition: OperandLike, a: OperandLike, b: OperandLike, *, block: int | None = None) -> Compute:
    """``a`` where ``condition`` holds, else ``b``."""
    return elementwise(select, [condition, a, b], name="where", block=block)


def scale_shift(x: OperandLike, scale: OperandLike, shift: OperandLike, *, block: int | None = None) -> Compute:
    """``x * scale + shift``; scale and shift broadcast against ``x``."""
    return elementwise(lambda v, a, b: v * a + b, [x, scale, shift], name="scale_shift", block=block)
