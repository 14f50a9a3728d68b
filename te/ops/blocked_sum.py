"""A sum in blocks of its first axis, as tensor expressions.

Where what a sum reads is used again by neighbouring elements, but is too large to stay near until then, it can be read
block by block (Goto and van de Geijn, ACM TOMS 34, 2008, for matrix products). The stages, for a sum over (k, ...):

    partial    the sum over one block    (k_o, ...)
    total      the sum of those          (...)

and the compute itself reads ``total``. Placed inside of the loops of ``total``, ``partial`` needs no memory.
"""

from __future__ import annotations

from ...errors import ExpressionError
from ..expr import Expr, Reduce, Var
from ..tensor import Compute, compute, reduce_axis
from ..tensor import sum as reduce_sum
from ..traversal import substitute
from .operand import named


def applies(tensor: Compute, steps: int) -> bool:
    """Whether ``tensor`` is a sum, and the extent of its first axis a multiple of ``steps``."""
    body = tensor.body
    return isinstance(body, Reduce) and body.combiner == "sum" and body.axes[0].extent % steps == 0


def blocked_sum(tensor: Compute, steps: int) -> Compute:
    """The same sum in blocks of ``steps`` of its first axis: a compute of the same shape, over the stages above.

    Raises ExpressionError where :func:`applies` does not hold.
    """
    if steps < 1 or not applies(tensor, steps):
        raise ExpressionError(f"blocked_sum: {tensor!r} is not a sum over an axis that blocks of {steps} divide")
    assert isinstance(tensor.body, Reduce)
    body = tensor.body
    first, *others = body.axes
    block = reduce_axis(first.extent // steps, f"{first.name}_o")
    within = reduce_axis(steps, first.name)
    rest = [reduce_axis(axis.extent, axis.name) for axis in others]

    def of_block(k: Var, *point: Var) -> Expr:
        place: dict[Var, Expr] = {axis.var: p for axis, p in zip(tensor.axes, point, strict=True)}
        place |= {axis.var: new.var for axis, new in zip(others, rest, strict=True)}
        place[first.var] = k * steps + within.var
        where = None if body.where is None else substitute(body.where, place)
        return reduce_sum(substitute(body.term, place), (within, *rest), where=where)

    names = [axis.name for axis in tensor.axes]
    of_all = named(lambda *point: reduce_sum(partial[(block.var, *point)], (block,)), names)
    partial = compute(
        (block.extent, *tensor.shape),
        named(of_block, [block.name, *names]),
        name="partial",
        tag="partial_sum",
        attrs=tensor.attrs,
    )
    total = compute(tensor.shape, of_all, name="total", tag="total_sum")
    return compute(tensor.shape, lambda *point: total[point], name=tensor.name, tag="blocked_sum")
