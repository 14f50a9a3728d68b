"""Simplify expressions, find their bounds and prove conditions, given the ranges of the variables.

    simplify(((a * 2 + b) * 16 + c) // 32, {b: (0, 1), c: (0, 15)})  ->  a
    bounds_of(a * 4 + b, {a: (0, 3), b: (0, 1)})                     ->  (0, 13)
    prove(a * 4 + b < 14, {a: (0, 3), b: (0, 1)})                    ->  True

``bounds`` maps variables to inclusive ranges; a variable that it lacks may have any value. What may be relied upon:

* int64 expressions become ``sum(coefficient * atom) + const``, largest coefficient first (:mod:`.affine`), quotients
  and remainders by constants are split (:mod:`.divmod`), comparisons get one form each (:mod:`.conditions`).
* Arithmetic on variables is index arithmetic: its true value is taken to fit int64. Arithmetic on data (reads,
  conversions) wraps as :mod:`.expr` says, and is left alone where it might.
* Floats are changed by exact identities only (:mod:`.rules`): ``x * 1`` and ``x - 0`` go, ``x + 0`` stays, since
  ``-0.0 + 0.0`` is ``+0.0``; neither sums nor products are reordered.
* ``simplify`` is idempotent, and returns the very object where nothing changes.

It runs thousands of times for each candidate that a tuner lowers: there are no patterns on the integer path, and
what was simplified under the same bounds before is remembered. Next: :mod:`.simplifier`.
"""

from __future__ import annotations

from ..errors import ExpressionError
from . import affine
from . import dtype as dt
from .affine import Linear
from .expr import Const, Expr
from .interval import INT64
from .region import region
from .simplifier import NO_BOUNDS, Bounds, simplifier

__all__ = ["Bounds", "Linear", "bounds_of", "from_linear", "linear", "prove", "region", "simplifier", "simplify"]


def simplify(e: Expr, bounds: Bounds = NO_BOUNDS) -> Expr:
    """Return an expression that is equal to ``e`` wherever the variables are within ``bounds``."""
    return simplifier(bounds).simplify(e)


def bounds_of(e: Expr, bounds: Bounds = NO_BOUNDS) -> tuple[int | None, int | None]:
    """Return the least and the greatest value that an integer ``e`` may have; None: not known to be limited."""
    lo, hi = simplifier(bounds).range_of(e)
    return (None if lo <= INT64[0] else int(lo), None if hi >= INT64[1] else int(hi))


def prove(condition: Expr, bounds: Bounds = NO_BOUNDS) -> bool | None:
    """Return whether ``condition`` always holds (True), never does (False), or neither can be shown (None).

    Raises ExpressionError where ``condition`` is not bool.
    """
    if condition.dtype != dt.BOOL:
        raise ExpressionError(f"prove: the condition {condition} is {condition.dtype}; it must be bool")
    e = simplifier(bounds).simplify(condition)
    return bool(e.value) if isinstance(e, Const) else None


def linear(e: Expr, bounds: Bounds = NO_BOUNDS) -> Linear | None:
    """Return ``e`` as a sum of atoms with coefficients; None where ``e`` is not int64."""
    if e.dtype != dt.INDEX:
        return None
    form = simplifier(bounds).form(e)
    return Linear(tuple(affine.ordered(form)), form[1])


def from_linear(form: Linear) -> Expr:
    """Build the expression; the inverse of :func:`linear`."""
    return affine.to_expr((dict(form.terms), form.const))
