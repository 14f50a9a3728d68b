"""Mathematical functions as LLVM IR over vectors of any number of lanes.

    symbol(fn, element, lanes)   the name that emitted code calls
    define(wanted, features)     the text of all those functions (and of the ones that they need)

The short ones are inlined where they are called (attributes ``#1``), the long ones are not (``#2``).

Error in float32 against the exact result, subnormals, infinities and NaN included (measured over 20 million bit
patterns spread evenly over the type; erf over one million, pow over some hundred special and random pairs):

=================================  ==============  =============================================================
exp, tanh, erf                     below 1.5 ulp   range reduction and polynomials in float32
sigmoid                            below 2.5 ulp   from exp
log, pow, sin, cos, tan, asin,     below 0.51 ulp  evaluated in float64 (about 1e-11 relative), then rounded
acos, atan, sinh, cosh, asinh,
acosh, atanh
=================================  ==============  =============================================================

Sine, cosine and tangent of arguments beyond 2**20 and all of float64 call the C library lane by lane
(:data:`LIBM_SYMBOLS`), with its accuracy. The polynomials are weighted minimax fits made for this module
(Lawson's iteration on Chebyshev nodes), or Taylor series where the range is short. Next: :mod:`.math_text`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from ..errors import InternalError
from .llvm_text import mangled
from .math_bits import BIT_FUNCTIONS, SOURCES
from .math_text import Body

PREFIX = "luthier."

_LIBM_UNARY = "exp log tanh erf sin cos tan asin acos atan sinh cosh asinh acosh atanh".split()

LIBM_SYMBOLS: tuple[str, ...] = (*_LIBM_UNARY, "pow")
"""C functions of double that object code may call; a loader must be able to resolve them."""

_LOG2E = 1.4426950408889634
_LN2 = 0.6931471805599453
_LN2_HIGH_F32, _LN2_LOW_F32 = 0.693359375, -2.12194440054690583e-4
_PI = math.pi
_TAN_PI_8 = 0.41421356237309503
_BIG_ANGLE = 2.0**20

_EXP_F32 = (0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368710987269878, 0.0013814608100801706)
_TANH_F32 = (
    -0.3333333134651184,
    0.13333210349082947,
    -0.05394720286130905,
    0.021702967584133148,
    -0.008182673715054989,
    0.0021475369576364756,
)
_ERF_SMALL_F32 = (
    0.1283791670955126,
    -0.3761262595653534,
    0.11283600330352783,
    -0.026854444295167923,
    0.005189535208046436,
    -0.0008020841050893068,
    7.889119297033176e-05,
)
_ERFC_LOG_F32 = (
    0.0003537085431162268,
    1.1270400285720825,
    0.6382256150245667,
    0.10303743928670883,
    -0.021805351600050926,
    0.002939616097137332,
    -0.00018557492876425385,
)
# pi/2 in three pieces: the first two have 33 significant bits, so that their products with n < 2**20 are exact
_HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)


def symbol(fn: str, element: str, lanes: int) -> str:
    """The function that computes ``fn`` of ``lanes`` elements of an LLVM type."""
    return f"{PREFIX}{fn}.{mangled(element, lanes)}"


def define(wanted: Iterable[tuple[str, str, int]], features: frozenset[str]) -> list[str]:
    """The functions (name, result's element type, lanes) and the C functions that they call."""
    texts: dict[tuple[str, str, int], str] = {}
    external: set[str] = set()
    for fn, element, lanes in wanted:
        texts[(fn, element, lanes)] = _function(fn, element, lanes, features, external, texts)
    declarations = [
        f"declare double @{name}({', '.join(['double'] * (2 if name == 'pow' else 1))}) #0" for name in sorted(external)
    ]
    return [*texts.values(), *declarations]


def _function(
    fn: str,
    element: str,
    lanes: int,
    features: frozenset[str],
    external: set[str],
    texts: dict[tuple[str, str, int], str],
) -> str:
    source, arity = SOURCES.get(fn, element), 2 if fn == "pow" else 1
    b = Body(lanes, fused="fma" in features or "neon" in features)
    x, y = "%a0", "%a1"
    if fn in BIT_FUNCTIONS:
        result = BIT_FUNCTIONS[fn](b, x)
    elif element == "double":
        result = _float64(b, fn, x, y, external)
    elif fn in _FLOAT32:
        result = _FLOAT32[fn](b, x)
    elif fn in _VIA_DOUBLE:
        result = b.round(_VIA_DOUBLE[fn](b, b.extend(x)))
    elif fn == "pow":
        result = b.round(_pow(b, b.extend(x), b.extend(y)))
    elif fn in ("sin", "cos", "tan"):
        result = _trigonometric(b, fn, x)
        slow = (f"{fn}_far", element, lanes)
        external.add(fn)
        texts[slow] = _far_angle(fn, lanes)
    else:
        raise InternalError(f"mathlib: {fn} is not defined for {element}")
    inlined = fn in _FLOAT32 or fn in BIT_FUNCTIONS
    return b.function(symbol(fn, element, lanes), element, source, arity, result, "#1" if inlined else "#2")


# ------------------------------------------------------------------------------------------------ float32


def _exp(b: Body, x: str) -> str:
    """2**n * exp(r), x = n * ln 2 + r; the scale is applied in two halves, so that subnormal results round once."""
    x = b.select(b.fcmp("olt", x, b.f(-105.0)), b.f(-105.0), x)
    x = b.select(b.fcmp("ogt", x, b.f(90.0)), b.f(90.0), x)
    shifted = b.fma(x, b.f(_LOG2E), b.f(12582912.0))  # adding 1.5 * 2**23 rounds to an integer
    n = b.sub(shifted, b.f(12582912.0))
    r = b.fma(n, b.f(-_LN2_HIGH_F32), x)
    r = b.fma(n, b.f(-_LN2_LOW_F32), r)
    p = b.add(b.fma(b.mul(r, r), b.poly(r, _EXP_F32), r), b.f(1.0))
    steps = b.int_op("sub", b.bits(shifted), b.i(0x4B400000))
    half = b.int_op("ashr", steps, b.i(1))
    rest = b.int_op("sub", steps, half)
    return b.mul(b.mul(p, b.power_of_two(half)), b.power_of_two(rest))


def _sigmoid(b: Body, x: str) -> str:
    """1 / (1 + e) or e / (1 + e) with e = exp(-|x|): neither overflows."""
    e = _exp(b, b.negate(b.absolute(x)))
    top = b.select(b.fcmp("oge", x, b.f(0.0)), b.f(1.0), e)
    return b.div(top, b.add(b.f(1.0), e))


def _tanh(b: Body, x: str) -> str:
    size = b.absolute(x)
    square = b.mul(x, x)
    small = b.fma(b.mul(square, size), b.poly(square, _TANH_F32), size)
    large = b.sub(b.f(1.0), b.div(b.f(2.0), b.add(_exp(b, b.add(size, size)), b.f(1.0))))
    return b.copysign(b.select(b.fcmp("olt", size, b.f(0.625)), small, large), x)


def _erf(b: Body, x: str) -> str:
    """x + x P(x**2) below 1, else 1 - exp(-Q(x))."""
    size = b.absolute(x)
    square = b.mul(x, x)
    small = b.fma(size, b.poly(square, _ERF_SMALL_F32), size)
    capped = b.select(b.fcmp("ogt", size, b.f(4.0)), b.f(4.0), size)
    large = b.sub(b.f(1.0), _exp(b, b.negate(b.poly(capped, _ERFC_LOG_F32))))
    return b.copysign(b.select(b.fcmp("olt", size, b.f(1.0)), small, large), x)


_FLOAT32: dict[str, Callable[[Body, str], str]] = {"exp": _exp, "sigmoid": _sigmoid, "tanh": _tanh, "erf": _erf}


# ------------------------------------------------------------------- float32 by way of float64 (1e-11 or better)


def _exp64(b: Body, x: str) -> str:
    """exp of a double; results below 2**-1000 or above 2**1000 are only right as 0 or infinity in float32."""
    x = b.select(b.fcmp("olt", x, b.d(-690.0), "double"), b.d(-690.0), x, "double")
    x = b.select(b.fcmp("ogt", x, b.d(690.0), "double"), b.d(690.0), x, "double")
    magic = 6755399441055744.0  # 1.5 * 2**52
    shifted = b.dadd(b.dmul(x, b.d(_LOG2E)), b.d(magic))
    n = b.dsub(shifted, b.d(magic))
    r = b.dsub(b.dsub(x, b.dmul(n, b.d(0.693147180369123816490))), b.dmul(n, b.d(1.90821492927058770002e-10)))
    p = b.poly64(r, [1.0 / math.factorial(k) for k in range(12)])
    exponent = b.long_op("shl", b.long_op("add", b.long_bits(shifted), b.l(1023)), b.l(52))
    return b.dmul(p, b.from_long_bits(exponent))


def _log64(b: Body, x: str) -> str:
    """log of a double that is a float32 or within twice its exponent range."""
    raw = b.long_bits(x)
    # the exponent that leaves a mantissa in [sqrt(1/2), sqrt(2))
    offset = b.long_op("sub", raw, b.l(0x3FE6A09E667F3BCD))
    exponent = b.long_op("ashr", offset, b.l(52))
    m = b.from_long_bits(b.long_op("sub", raw, b.long_op("shl", exponent, b.l(52))))
    e = b.int_to_double(exponent)
    s = b.ddiv(b.dsub(m, b.d(1.0)), b.dadd(m, b.d(1.0)))
    u = b.dmul(s, s)
    series = b.poly64(u, [2.0 / (2 * k + 1) for k in range(10)])
    result = b.dadd(b.dmul(e, b.d(_LN2)), b.dmul(s, series))
    result = b.select(b.fcmp("oeq", x, b.d(math.inf), "double"), b.d(math.inf), result, "double")
    result = b.select(b.fcmp("oeq", x, b.d(0.0), "double"), b.d(-math.inf), result, "double")
    valid = b.fcmp("oge", x, b.d(0.0), "double")
    return b.select(valid, result, b.d(math.nan), "double")


def _atan64(b: Body, x: str) -> str:
    size = b.dabs(x)
    above = b.fcmp("ogt", size, b.d(1.0), "double")
    t = b.select(above, b.ddiv(b.d(1.0), size), size, "double")
    steep = b.fcmp("ogt", t, b.d(_TAN_PI_8), "double")
    t = b.select(steep, b.ddiv(b.dsub(t, b.d(1.0)), b.dadd(t, b.d(1.0))), t, "double")
    u = b.dmul(t, t)
    base = b.dmul(t, b.poly64(u, [(-1.0) ** k / (2 * k + 1) for k in range(14)]))
    base = b.select(steep, b.dadd(base, b.d(_PI / 4)), base, "double")
    base = b.select(above, b.dsub(b.d(_PI / 2), base), base, "double")
    return b.dcopysign(base, x)


def _asin64(b: Body, x: str) -> str:
    cosine = b.dsqrt(b.dmul(b.dsub(b.d(1.0), x), b.dadd(b.d(1.0), x)))
    return _atan64(b, b.ddiv(x, cosine))


def _acos64(b: Body, x: str) -> str:
    half = b.dsqrt(b.ddiv(b.dsub(b.d(1.0), x), b.dadd(b.d(1.0), x)))
    return b.dmul(b.d(2.0), _atan64(b, half))


def _sinh64(b: Body, x: str) -> str:
    e = _exp64(b, b.dabs(x))
    large = b.dmul(b.d(0.5), b.dsub(e, b.ddiv(b.d(1.0), e)))
    u = b.dmul(x, x)
    small = b.dmul(b.dabs(x), b.poly64(u, [1.0, 1.0 / 6, 1.0 / 120, 1.0 / 5040]))
    return b.dcopysign(b.select(b.fcmp("olt", b.dabs(x), b.d(0.05), "double"), small, large, "double"), x)


def _cosh64(b: Body, x: str) -> str:
    e = _exp64(b, b.dabs(x))
    return b.dmul(b.d(0.5), b.dadd(e, b.ddiv(b.d(1.0), e)))


def _asinh64(b: Body, x: str) -> str:
    size = b.dabs(x)
    u = b.dmul(x, x)
    large = _log64(b, b.dadd(size, b.dsqrt(b.dadd(u, b.d(1.0)))))
    small = b.dmul(size, b.poly64(u, [1.0, -1.0 / 6, 3.0 / 40]))
    return b.dcopysign(b.select(b.fcmp("olt", size, b.d(0.01), "double"), small, large, "double"), x)


def _acosh64(b: Body, x: str) -> str:
    result = _log64(b, b.dadd(x, b.dsqrt(b.dmul(b.dsub(x, b.d(1.0)), b.dadd(x, b.d(1.0))))))
    return b.select(b.fcmp("olt", x, b.d(1.0), "double"), b.d(math.nan), result, "double")


def _atanh64(b: Body, x: str) -> str:
    size = b.dabs(x)
    u = b.dmul(x, x)
    large = b.dmul(b.d(0.5), _log64(b, b.ddiv(b.dadd(b.d(1.0), size), b.dsub(b.d(1.0), size))))
    small = b.dmul(size, b.poly64(u, [1.0, 1.0 / 3, 1.0 / 5]))
    return b.dcopysign(b.select(b.fcmp("olt", size, b.d(0.01), "double"), small, large, "double"), x)


_VIA_DOUBLE: dict[str, Callable[[Body, str], str]] = {
    "log": _log64,
    "atan": _atan64,
    "asin": _asin64,
    "acos": _acos64,
    "sinh": _sinh64,
    "cosh": _cosh64,
    "asinh": _asinh64,
    "acosh": _acosh64,
    "atanh": _atanh64,
}


def _pow(b: Body, x: str, y: str) -> str:
    """C's pow of two float32 values, in double: exp(y log |x|) with the special cases of IEEE 754."""
    size = b.dabs(x)
    one, zero, infinity = b.d(1.0), b.d(0.0), b.d(math.inf)
    # y log|x| is 0 * infinity where |x| is 1 and y infinite, or y is 0: the result is 1 there, even for a NaN
    power = _exp64(b, b.dmul(y, _log64(b, size)))
    whole = b.fcmp("oeq", b.dround("trunc", y), y, "double")
    half = b.dmul(y, b.d(0.5))
    odd = b.flag("and", whole, b.fcmp("une", b.dround("trunc", half), half, "double"))
    negative = b.long_negative(x)
    power = b.select(b.flag("and", odd, negative), b.dneg(power), power, "double")
    proper = b.flag("and", b.fcmp("olt", x, zero, "double"), b.fcmp("olt", size, infinity, "double"))
    undefined = b.flag("and", proper, b.flag("xor", whole, b.all_true()))
    power = b.select(undefined, b.d(math.nan), power, "double")
    endless = b.fcmp("oeq", b.dabs(y), infinity, "double")
    power = b.select(b.flag("and", b.fcmp("oeq", size, one, "double"), endless), one, power, "double")
    is_one = b.flag("or", b.fcmp("oeq", x, one, "double"), b.fcmp("oeq", y, zero, "double"))
    return b.select(is_one, one, power, "double")


def _trigonometric(b: Body, fn: str, x32: str) -> str:
    """Sine, cosine or tangent: reduction by multiples of pi/2 in double, the C library for huge arguments."""
    near = b.fcmp("ole", b.absolute(x32), b.f(_BIG_ANGLE))
    far = b.flag("and", b.flag("xor", near, b.all_true()), b.fcmp("ord", x32, x32))
    x = b.extend(b.select(far, b.f(0.0), x32))
    magic = 6755399441055744.0
    shifted = b.dadd(b.dmul(x, b.d(2.0 / _PI)), b.d(magic))
    n = b.dsub(shifted, b.d(magic))
    r = x
    for piece in _HALF_PI:
        r = b.dsub(r, b.dmul(n, b.d(piece)))
    u = b.dmul(r, r)
    sine = b.dmul(r, b.poly64(u, [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(8)]))
    cosine = b.poly64(u, [(-1.0) ** k / math.factorial(2 * k) for k in range(8)])
    quadrant = b.long_bits(shifted)
    if fn == "cos":
        quadrant = b.long_op("add", quadrant, b.l(1))
    swap = b.long_odd(quadrant)
    if fn == "tan":
        result = b.ddiv(b.select(swap, b.dneg(cosine), sine, "double"), b.select(swap, sine, cosine, "double"))
    else:
        result = b.select(swap, cosine, sine, "double")
        turned = b.long_odd(b.long_op("lshr", quadrant, b.l(1)))
        result = b.select(turned, b.dneg(result), result, "double")
    if fn in ("sin", "tan"):
        result = b.select(b.fcmp("oeq", x, b.d(0.0), "double"), x, result, "double")  # keeps the sign of zero
    return b.replace_where(far, symbol(f"{fn}_far", "float", b.lanes), x32, b.round(result))


def _far_angle(fn: str, lanes: int) -> str:
    """All lanes by the C library, one after another; infinite arguments give NaN."""
    b = Body(lanes, fused=False)
    result = b.round(b.per_lane(fn, (b.extend("%a0"),)))
    return b.function(symbol(f"{fn}_far", "float", lanes), "float", "float", 1, result, "#2")


# ------------------------------------------------------------------------------------------------ float64


def _float64(b: Body, fn: str, x: str, y: str, external: set[str]) -> str:
    if fn == "sigmoid":
        external.add("exp")
        e = b.per_lane("exp", (b.dneg(b.dabs(x)),))
        top = b.select(b.fcmp("oge", x, b.d(0.0), "double"), b.d(1.0), e, "double")
        return b.ddiv(top, b.dadd(b.d(1.0), e))
    if fn not in LIBM_SYMBOLS:
        raise InternalError(f"mathlib: {fn} is not defined for double")
    external.add(fn)
    return b.per_lane(fn, (x, y) if fn == "pow" else (x,))
