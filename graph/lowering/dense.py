"""Matrix products."""

from __future__ import annotations

from ...errors import OnnxError
from ...te.ops import dense
from ...te.tensor import Compute
from ..ir import Node
from .context import Context, optional, required
from .registry import lowers


@lowers("Gemm")
def gemm(ctx: Context, node: Node) -> Compute:
    """Product, scaling and bias as stages."""
    a, b, c = required(node, 0), required(node, 1), optional(node, 2)
    y, attrs = node.outputs[0], node.attrs
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
    return dense.matmul_any(ctx.plain(required(node, 0)), ctx.plain(required(node, 1)))


def _check_einsum(node: Node) -> str | None:
    return None if _subscripts(node) else f"Einsum equation {node.attrs.get('equation')!r} is not supported"


@lowers("Einsum", check=_check_einsum)
def einsum(ctx: Context, node: Node) -> Compute:
    """Sums of products over named indices."""
    subscripts = _subscripts(node)
    if subscripts is None:
        raise OnnxError(f"{'+'.join(node.names)} (Einsum): {_check_einsum(node)}")
    return dense.einsum(*subscripts, [ctx.operand(v) for v in node.inputs if v is not None])


def _subscripts(node: Node) -> tuple[list[str], str] | None:
    """The subscripts of the operands and of the result, one letter for each dimension; None where the equation is not
    legal.

    The dimensions of an ellipsis get digits as letters, aligned at the last one; without an arrow the result has the
    ellipsis, then the letters that occur once, in alphabetical order.
    """
    left, arrow, right = str(node.attrs.get("equation", "")).replace(" ", "").partition("->")
    terms = left.split(",")
    shapes = [v.shape for v in node.inputs if v is not None]
    if len(terms) != len(shapes):
        return None
    hidden = [len(s) - len(t.replace("...", "")) if "..." in t else 0 for t, s in zip(terms, shapes, strict=True)]
    most = max(hidden)
    if min(hidden) < 0 or most > 10:
        return None
    digits = "".join(map(str, range(most)))
    terms = [t.replace("...", digits[most - n :]) for t, n in zip(terms, hidden, strict=True)]
    if not arrow:
        letters = "".join(terms)
        right = "..." + "".join(sorted(x for x in set(letters) if letters.count(x) == 1 and x not in digits))
    right = right.replace("...", digits)
    legal = all(len(t) == len(s) for t, s in zip(terms, shapes, strict=True)) and len(set(right)) == len(right)
    return (terms, right) if legal and set(right) <= set("".join(terms)) else None
