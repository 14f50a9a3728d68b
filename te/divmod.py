"""Floor division and remainder of affine forms by a positive constant.

Everything rests on one cut: ``f == c*q + g*x + rest`` with ``c == g*m`` and ``0 <= rest < g``. Then

    f // c == q + x // m          f % c == g * (x % m) + rest

The cut takes multiples of ``c`` out into ``q`` and then looks for terms that are too small to carry into the others:
in ``(o*32 + b*16 + i) // 64`` with ``0 <= i < 16`` the last term cannot, which leaves ``(o*2 + b) // 4``. It is
done when ``x`` is a constant, or when nothing more can be taken out.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Literal

from .affine import ZERO, Form, add, key, literal, scale, to_expr
from .expr import Binary, Expr

if TYPE_CHECKING:
    from .simplifier import Simplifier

Division = Literal["floordiv", "floormod"]


def divide(s: Simplifier, f: Form, c: int) -> Form:
    """The form of ``f // c`` for ``c > 0``."""
    if s.may_wrap(f):
        return s.opaque_division("floordiv", f, c)
    q, _, x, m, _ = _cut(s, f, c)
    return s.recombined(add(_quotient(s, x, m), q)) if x[0] else q


def modulo(s: Simplifier, f: Form, c: int) -> Form:
    """The form of ``f % c`` for ``c > 0``."""
    if s.may_wrap(f):
        return s.opaque_division("floormod", f, c)
    f = _without_inner_modulo(s, f, c)
    _, g, x, m, rest = _cut(s, f, c)
    return s.recombined(add(scale(_remainder(s, x, m), g), rest)) if x[0] else rest


def _cut(s: Simplifier, f: Form, c: int) -> tuple[Form, int, Form, int, Form]:
    """Return ``(q, g, x, m, rest)`` as the module says; ``x`` is ZERO when the division comes out even."""
    q, g, x, m, rest = ZERO, 1, f, c, ZERO
    while True:
        outer, x = _split_multiples(x, m)
        if outer[0] or outer[1]:
            q = add(q, outer)
        lo, hi = s.interval(x)
        k = lo // m
        if k == hi // m:
            k = int(k)
            return add(q, ({}, k)), c, ZERO, 1, add(rest, (x[0], x[1] - k * m), g)
        for d in sorted({gcd(coefficient, m) for coefficient in x[0].values()}, reverse=True):
            if d == 1:
                return q, g, x, m, rest
            small = {a: n for a, n in x[0].items() if n % d}, x[1] % d
            lo, hi = s.interval(small)
            k = lo // d
            if k == hi // d:
                k = int(k)
                rest = add(rest, (small[0], small[1] - k * d), g)
                x = {a: n // d for a, n in x[0].items() if not n % d}, x[1] // d + k
                g, m = g * d, m // d
                break
        else:
            return q, g, x, m, rest


def _split_multiples(f: Form, c: int) -> tuple[Form, Form]:
    """Write ``f`` as ``c * q + r`` where the coefficients of ``r`` are less than ``c``, with their signs kept."""
    q, r = {}, {}
    for atom, n in f[0].items():
        if -c < n < c:
            r[atom] = n
            continue
        whole = n // c if n > 0 else -(-n // c)
        q[atom] = whole
        if n - whole * c:
            r[atom] = n - whole * c
    return (q, f[1] // c), (r, f[1] % c)


def _quotient(s: Simplifier, x: Form, m: int) -> Form:
    """``x // m`` where nothing can be taken out of ``x``: a new atom, or a merge with the division inside."""
    if m == 1:
        return x
    if len(x[0]) == 1:
        ((atom, n),) = x[0].items()
        if n == 1:
            inner = s.quotients.get(atom)
            if inner is not None:  # (y // a + b) // m == (y + a*b) // (a*m)
                y, a = inner
                return divide(s, (y[0], y[1] + a * x[1]), a * m)
            inner = s.remainders.get(atom)
            if inner is not None and x[1] == 0 and inner[1] % m == 0:  # (y % (b*m)) // m == (y // m) % b
                return modulo(s, divide(s, inner[0], m), inner[1] // m)
    lo, hi = s.interval(x)
    return _atom(s, "floordiv", x, m, lo // m if lo > -s.INF else lo, hi // m if hi < s.INF else hi)


def _remainder(s: Simplifier, x: Form, m: int) -> Form:
    if m == 1:
        return ZERO
    plain = _without_inner_modulo(s, x, m)
    return modulo(s, plain, m) if plain is not x else _atom(s, "floormod", x, m, 0, m - 1)


def _without_inner_modulo(s: Simplifier, f: Form, c: int) -> Form:
    """Replace ``n * (y % b)`` by ``n * y`` where ``n * b`` is a multiple of ``c``: the same modulo ``c``."""
    if not s.remainders:
        return f
    for atom, n in f[0].items():
        inner = s.remainders.get(atom)
        if inner is not None and (n * inner[1]) % c == 0:
            return _without_inner_modulo(s, add(add(f, ({atom: 1}, 0), -n), inner[0], n), c)
    return f


def _atom(s: Simplifier, op: Division, x: Form, m: int, lo: float, hi: float) -> Form:
    name = (op, key(x), m)
    atom: Expr | None = s.atoms.get(name)
    if atom is None:
        atom = s.intern(name, Binary(op, to_expr(x), literal(m), "int64"), lo, hi, not s.data.isdisjoint(x[0]))
        (s.quotients if op == "floordiv" else s.remainders)[atom] = (x, m)
    return {atom: 1}, 0


def recombine(s: Simplifier, f: Form) -> Form:
    """Put quotients and remainders of one value together again.

    n*(y % c) + n*c*(y // c)        ->  n*y
    n*(y % c) + n*c*((y // c) % b)  ->  n*(y % (c*b))
    n*y - n*c*(y // c)              ->  n*(y % c)
    """
    terms = f[0]
    for atom, n in terms.items():
        inner = s.remainders.get(atom)
        if inner is not None:
            y, c = inner
            for other, k in terms.items():
                if k != n * c or other is atom:
                    continue
                quotient = divide(s, y, c)
                if len(quotient[0]) == 1 and quotient[0].get(other) == 1:
                    whole = add(y, ({}, c * quotient[1]), -1)
                elif other in s.remainders and modulo(s, quotient, s.remainders[other][1]) == ({other: 1}, 0):
                    whole = modulo(s, y, c * s.remainders[other][1])
                else:
                    continue
                left = {a: m for a, m in terms.items() if a is not atom and a is not other}
                return recombine(s, add((left, f[1]), whole, n))
            continue
        inner = s.quotients.get(atom)
        if inner is not None and n % inner[1] == 0:
            y, c = inner
            k = -n // c
            if all(terms.get(v) == k * m for v, m in y[0].items()):
                rest = add(f, ({**y[0], atom: -c}, y[1]), -k)
                return recombine(s, add(rest, modulo(s, y, c), k))
    return f
