"""Matrix products. Tag ``matmul`` on the product itself, whose body is always ``sum(a[..., m, k] * b[..., k, n],
k)`` with the loop variables as indices; scaling and bias are stages of their own.

Attrs: m, n, k, trans_a, trans_b (the operand is stored (k, m), (n, k)), batch (the product of the leading
dimensions).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence

from ...errors import ExpressionError
from ..expr import Expr, Var
from ..tensor import Compute, Tensor, compute, reduce_axis
from ..tensor import sum as reduce_sum
from .elementwise import elementwise
from .layout import reshape
from .operand import OperandLike, broadcast_shapes, define, named, operand


def matmul(a: Tensor, b: Tensor, *, trans_a: bool = False, trans_b: bool = False, name: str = "matmul") -> Compute:
    """Multiply the last two dimensions of ``a`` and ``b``; the leading ones broadcast.

    a  (..., m, k), or (..., k, m) with ``trans_a``
    b  (..., k, n), or (..., n, k) with ``trans_b``
    returns (..., m, n)

    Errors: ExpressionError when an operand has fewer than two dimensions, or the shapes do not fit.
    """
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise ExpressionError(f"matmul: operands {a.shape} and {b.shape} need at least two dimensions; reshape vectors")
    m, k = a.shape[-2:][::-1] if trans_a else a.shape[-2:]
    rows, n = b.shape[-2:][::-1] if trans_b else b.shape[-2:]
    if rows != k:
        raise ExpressionError(
            f"matmul: a {a.shape}{' transposed' if trans_a else ''} has {k} columns, but b {b.shape}"
            f"{' transposed' if trans_b else ''} has {rows} rows"
        )
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    attrs = {"m": m, "n": n, "k": k, "trans_a": trans_a, "trans_b": trans_b, "batch": math.prod(batch)}

    def body(*axes: Var) -> Expr:
        *lead, i, j = axes
        r = reduce_axis(k, "k")
        left = (r, i) if trans_a else (i, r)
        right = (j, r) if trans_b else (r, j)
        term = a[(*_batch_index(a.shape, lead), *left)] * b[(*_batch_index(b.shape, lead), *right)]
        return reduce_sum(term, r)

    names = [*(f"b{d}" for d in range(len(batch))), "m", "n"]
    return compute((*batch, m, n), named(body, names), name, tag="matmul", attrs=attrs)


def matmul_any(a: Tensor, b: Tensor) -> Compute:
    """NumPy's ``matmul``: as :func:`matmul`, and a vector is a row on the left and a column on the right."""
    left = a if len(a.shape) > 1 else reshape(a, (1, *a.shape))
    right = b if len(b.shape) > 1 else reshape(b, (*b.shape, 1))
    product = matmul(left, right)
    shape = product.shape
    if len(b.shape) == 1:
        shape = shape[:-1]
    if len(a.shape) == 1:
        shape = (*shape[:-2], *shape[-1:]) if len(b.shape) > 1 else shape[:-1]
    return product if shape == product.shape else reshape(product, shape)


def gemm(
    a: Tensor,
    b: Tensor,
    c: OperandLike | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    trans_a: bool = False,
    trans_b: bool = False,
) -> Compute:
    """``alpha * a @ b + beta * c`` for matrices; ``c`` broadcasts to (m, n)."""
    result = matmul(a, b, trans_a=trans_a, trans_b=trans_b, name="gemm")
    if alpha != 1.0:
        result = elementwise(lambda x: x * alpha, [result], name="alpha")
    if c is not None and beta != 0.0:
        result = elementwise(lambda x, y: x + (y if beta == 1.0 else y * beta), [result, c], name="bias")
    return result


def _batch_index(shape: Sequence[int], lead: Sequence[Expr]) -> list[Expr | int]:
    own = shape[:-2]
    return [0 if size == 1 else i for i, size in zip(lead[len(lead) - len(own) :], own, strict=True)]


def einsum(terms: Sequence[str], result: str, operands: Sequence[OperandLike]) -> Compute:
    """Sum the product of ``operands``, whose dimensions ``terms`` names letter by letter, over the letters not in
    ``result``.

    A letter that occurs twice in one operand takes its diagonal.
    Errors: ExpressionError when a letter stands for different sizes or ``result`` has a letter that no term has.
    """
    xs = [operand(x) for x in operands]
    sizes: dict[str, int] = {}
    for term, x in zip(terms, xs, strict=True):
        if len(term) != x.rank:
            raise ExpressionError(
                f"einsum: term {term!r} names {len(term)} dimensions of an operand of shape {x.shape}"
            )
        for letter, size in zip(term, x.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ExpressionError(f"einsum: {letter!r} stands for {sizes[letter]} and {size}")
    unknown = [letter for letter in result if letter not in sizes]
    if unknown:
        raise ExpressionError(f"einsum: the result has {unknown[0]!r}, which no term has")

    def body(*axes: Expr) -> Expr:
        reduced = {letter: reduce_axis(n, letter) for letter, n in sizes.items() if letter not in result}
        index: dict[str, Expr] = dict(zip(result, axes, strict=True)) | {k: a.var for k, a in reduced.items()}
        factors = (x.at(*(index[letter] for letter in term)) for term, x in zip(terms, xs, strict=True))
        product = functools.reduce(operator.mul, factors)
        return reduce_sum(product, tuple(reduced.values())) if reduced else product

    return define(
        [sizes[letter] for letter in result],
        body,
        name="einsum",
        tag="einsum",
        axes=[f"d{x}" if x.isdigit() else x for x in result],
    )
