"""The greatest elements along a dimension, without sorting: each element's rank is the number of elements before it
in the order.

That takes n * n comparisons for n elements, all of them independent. Tag ``topk``.
"""

from __future__ import annotations

from ..expr import Expr, all_of, any_of, const, equal, select
from ..tensor import Compute, reduce_axis
from ..tensor import sum as reduce_sum
from .operand import Operand, OperandLike, define, operand


def top_k(x: OperandLike, k: int, axis: int, *, largest: bool = True) -> tuple[Compute, Compute]:
    """The ``k`` greatest (or least) elements along ``axis`` in order, and their indices (int64). Of equal ones the
    first wins."""
    a = operand(x)
    size = a.shape[axis]
    shape = (*a.shape[:axis], k, *a.shape[axis + 1 :])

    def rank_of(*i: Expr) -> Expr:
        j = reduce_axis(size, "j")
        other, own = a.at(*i[:axis], j, *i[axis + 1 :]), a.at(*i)
        ahead = any_of(other > own if largest else other < own, all_of(equal(other, own), j.var < i[axis]))
        return reduce_sum(select(ahead, const(1), const(0)), j)

    rank = Operand(define(a.shape, rank_of, name="rank", tag="topk"), a.shape)

    def index_of(*i: Expr) -> Expr:
        j = reduce_axis(size, "j")
        return reduce_sum(select(equal(rank.at(*i[:axis], j, *i[axis + 1 :]), i[axis]), j.var, const(0)), j)

    index = Operand(define(shape, index_of, name="topk_index", tag="topk"), shape)
    values = define(shape, lambda *i: a.at(*i[:axis], index.at(*i), *i[axis + 1 :]), name="topk_value")
    assert isinstance(index.tensor, Compute)
    return values, index.tensor
