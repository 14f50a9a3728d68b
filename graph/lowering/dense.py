"""Matrix products."""

from __future__ import annotations

from ...te.ops import dense
from ...te.tensor import Compute
from ..ir import Node
from .context import Context
from .registry import lowers


@lowers("Gemm")
def gemm(ctx: Context, node: Node) -> Compute:
    """Product, scaling and bias as stages."""
    a, b, c = (*node.inputs, None, None)[:3]
    y, attrs = node.outputs[0], node.attrs
    assert a is not None and b is not None
    bias = None if c is None else ctx.broadcast(c, y)
    return dense.gemm(
        ctx.plain(a),
        ctx.plain(b),
        bias,
        alpha=float(attrs.get("alpha", 1.0)),
        beta=float(attrs.get("beta", 1.0)),
        trans_a=bool(attrs.get("transA", 0)),
        trans_b=bool(attrs.get("transB", 0)),
    )


@lowers("MatMul")
def matmul(ctx: Context, node: Node) -> Compute:
    a, b = node.inputs
    assert a is not None and b is not None
    return dense.matmul_any(ctx.plain(a), ctx.plain(b))


@lowers("Einsum", check=lambda node: None if _equation(node) else "this Einsum equation is not supported")
def einsum(ctx: Context, node: Node) -> Compute:
    """Sums of products over named indices, each of which occurs at most once in an operand."""
    equation = _equation(node)
    assert equation is not None
    operands = [ctx.operand(v) for v in node.inputs if v is not None]
    return dense.einsum(equation[0], equation[1], operands)


def _equation(node: Node) -> tuple[list[str], str] | None:
    """The subscripts of the operands and of the result; None where the form is not supported."""
    text = str(node.attrs.get("equation", "")).replace(" ", "")
    if "..." in text or not text:
        return None
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = "".join(terms)
        right = "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    return (terms, right) if len(set(right)) == len(right) else None
