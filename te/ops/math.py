"""Scalar functions: the mathematics of elementwise operators, as expressions of expressions.

``UNARY`` and ``BINARY`` map the names of ONNX operators to functions; :mod:`.elementwise` applies them to tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from .. import dtype as dt
from ..expr import (
    Const,
    Expr,
    ExprOps,
    all_of,
    any_of,
    binary,
    call,
    cast,
    compare,
    const,
    equal,
    logical_not,
    maximum,
    minimum,
    not_equal,
    select,
)

# ------------------------------------------------------------------------------------ powers and roots


def power(x: Expr, exponent: float) -> Expr:
    """``x ** exponent`` for a constant exponent: products and square roots where these suffice.

    Roots stand for exponents with a fraction of a quarter up to 4, such as the 0.75 of local response normalisation.
    """
    quarters = exponent * 4
    if quarters != int(quarters) or abs(exponent) > 4:
        return binary("pow", x, exponent)
    if exponent == 0:
        return const(1.0, x.dtype)
    whole, rest = divmod(int(abs(quarters)), 4)
    factors: list[Expr] = []
    if whole:
        factors.append(_integer_power(x, whole))
    if rest >= 2:
        factors.append(call("sqrt", x))
    if rest % 2:
        factors.append(call("sqrt", call("sqrt", x)))
    result = factors[0]
    for f in factors[1:]:
        result = result * f
    return result if exponent > 0 else 1.0 / result


def _integer_power(x: Expr, n: int) -> Expr:
    if n == 1:
        return x
    half = _integer_power(x, n // 2)
    square = half * half
    return square * x if n % 2 else square


def pow_of(x: Expr, y: Expr) -> Expr:
    """ONNX Pow: the result has the type of ``x``."""
    if isinstance(y, Const) and dt.is_float(x.dtype):
        return power(x, float(y.value))
    if isinstance(y, Const) and isinstance(y.value, int) and 0 <= y.value <= 4:
        return _integer_power(x, y.value) if y.value else const(1, x.dtype)
    wide = x.dtype if dt.is_float(x.dtype) else "float64"
    return cast(binary("pow", cast(x, wide), cast(y, wide)), x.dtype)


# ------------------------------------------------------------------------------------------ arithmetic


def divide(x: Expr, y: Expr) -> Expr:
    """Quotient; of integers, rounded towards zero."""
    if not dt.is_integer(x.dtype):
        return x / y
    down = x // y
    if x.dtype in dt.UNSIGNED:
        return down
    exact = equal(down * y, x)
    return select(any_of(exact, down >= 0), down, down + 1)


def modulo(x: Expr, y: Expr) -> Expr:
    """Remainder with the sign of the divisor (Python's ``%``)."""
    if dt.is_integer(x.dtype):
        return x % y
    rest = fmod(x, y)
    return select(rest * y < 0, rest + y, rest)


def fmod(x: Expr, y: Expr) -> Expr:
    """Remainder with the sign of the dividend (C's ``%`` and ``fmod``); of floats, exact while the quotient is."""
    if dt.is_integer(x.dtype):
        return x - divide(x, y) * y
    unchanged = all_of(call("isinf", y), logical_not(call("isinf", x)))
    return select(unchanged, x, x - call("trunc", x / y) * y)


def negate(x: Expr) -> Expr:
    """``-x``; of floats this also turns the sign of zero."""
    return x * -1.0 if dt.is_float(x.dtype) else 0 - x


def absolute(x: Expr) -> Expr:
    return x if x.dtype in dt.UNSIGNED else call("abs", x)


def sign(x: Expr) -> Expr:
    one, zero = const(1, x.dtype), const(0, x.dtype)
    if x.dtype in dt.UNSIGNED:
        return select(x > 0, one, zero)
    return select(x > 0, one, select(x < 0, const(-1, x.dtype), zero if dt.is_integer(x.dtype) else x))


def exclusive_or(x: Expr, y: Expr) -> Expr:
    return any_of(all_of(x, logical_not(y)), all_of(logical_not(x), y))


def same(x: Expr, y: Expr) -> Expr:
    """Equality, of bools as well."""
    return logical_not(exclusive_or(x, y)) if x.dtype == dt.BOOL else equal(x, y)


def is_inf(x: Expr, negative: bool = True, positive: bool = True) -> Expr:
    if negative and positive:
        return call("isinf", x)
    infinity = math.inf if positive else -math.inf
    return equal(x, infinity) if negative or positive else const(False)


def convert(x: Expr, dtype: str) -> Expr:
    """ONNX Cast: to bool, everything but zero is true."""
    if dtype == dt.BOOL and x.dtype != dt.BOOL:
        return not_equal(x, 0)
    return cast(x, dtype)


# ----------------------------------------------------------------------------------------- activations


def relu(x: Expr) -> Expr:
    return maximum(x, 0)


def clip(x: Expr, low: Expr | float | None, high: Expr | float | None) -> Expr:
    """``x`` limited to ``low .. high``; the upper limit wins when they cross."""
    if low is not None:
        x = maximum(x, low if isinstance(low, ExprOps) else _limit(low, x.dtype))
    if high is not None:
        x = minimum(x, high if isinstance(high, ExprOps) else _limit(high, x.dtype))
    return x


def _limit(value: float, dtype: str) -> Const:
    return const(value if dt.is_float(dtype) else int(value), dtype)


def sigmoid(x: Expr) -> Expr:
    return call("sigmoid", x)


def softplus(x: Expr) -> Expr:
    """log(1 + e^x), without overflow."""
    return maximum(x, 0) + call("log", call("exp", negate(call("abs", x))) + 1)


def leaky_relu(x: Expr, alpha: float) -> Expr:
    return select(x < 0, x * alpha, x)


def elu(x: Expr, alpha: float) -> Expr:
    return select(x < 0, (call("exp", x) - 1) * alpha, x)


def selu(x: Expr, alpha: float, gamma: float) -> Expr:
    return select(x > 0, x * gamma, (call("exp", x) - 1) * (alpha * gamma))


def celu(x: Expr, alpha: float) -> Expr:
    return maximum(x, 0) + minimum((call("exp", x / alpha) - 1) * alpha, 0)


def hard_sigmoid(x: Expr, alpha: float, beta: float) -> Expr:
    return clip(x * alpha + beta, 0.0, 1.0)


def hard_swish(x: Expr) -> Expr:
    return x * hard_sigmoid(x, 1 / 6, 0.5)


def gelu(x: Expr, approximate: str = "none") -> Expr:
    """x * Phi(x), by erf or, with ``approximate='tanh'``, by Hendrycks and Gimpel's formula."""
    if approximate == "tanh":
        inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
        return x * 0.5 * (call("tanh", inner) + 1)
    return x * 0.5 * (call("erf", x * math.sqrt(0.5)) + 1)


def shrink(x: Expr, lambd: float, bias: float) -> Expr:
    return select(x < -lambd, x + bias, select(x > lambd, x - bias, 0))


def _intrinsic(name: str) -> Callable[[Expr], Expr]:
    return lambda x: call(name, x)


_SAME_NAME = (
    "exp log sqrt tanh erf sigmoid sin cos tan asin acos atan sinh cosh asinh acosh atanh round floor ceil".split()
)

UNARY: Mapping[str, Callable[[Expr], Expr]] = {
    **{name.capitalize(): _intrinsic(name) for name in _SAME_NAME},
    "Abs": absolute,
    "HardSwish": hard_swish,
    "Identity": lambda x: x,
    "IsNaN": lambda x: call("isnan", x),
    "Mish": lambda x: x * call("tanh", softplus(x)),
    "Neg": negate,
    "Not": logical_not,
    "Reciprocal": lambda x: 1.0 / x,
    "Relu": relu,
    "Sign": sign,
    "Softplus": softplus,
    "Softsign": lambda x: x / (call("abs", x) + 1),
}
"""Operators of one operand without attributes."""

BINARY: Mapping[str, Callable[[Expr, Expr], Expr]] = {
    "Add": lambda x, y: x + y,
    "And": all_of,
    "Div": divide,
    "Equal": same,
    "Greater": lambda x, y: compare("gt", x, y),
    "GreaterOrEqual": lambda x, y: compare("ge", x, y),
    "Less": lambda x, y: compare("lt", x, y),
    "LessOrEqual": lambda x, y: compare("le", x, y),
    "Max": maximum,
    "Min": minimum,
    "Mul": lambda x, y: x * y,
    "Or": any_of,
    "PRelu": lambda x, slope: select(x < 0, x * slope, x),
    "Pow": pow_of,
    "Sub": lambda x, y: x - y,
    "Xor": exclusive_or,
}
"""Operators of two operands (or, for Max and Min, more) without attributes."""
