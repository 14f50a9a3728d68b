"""The simplifier's memory and its walk over expressions: what :mod:`.simplify` runs on.

A :class:`Simplifier` holds bounds and everything learnt under them. int64 expressions go through
:meth:`Simplifier.form` to an affine form and back; everything else is rebuilt from simplified operands and handed
to :mod:`.conditions` or :mod:`.rules`. Next: :mod:`.affine`, :mod:`.divmod`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeAlias

from . import affine, conditions, divmod, rules
from . import dtype as dt
from .affine import ZERO, Form
from .expr import Binary, BinaryOp, Call, Cast, Compare, Const, Expr, Not, Read, Reduce, Select, Var, children, select
from .interval import INF, INT64, Interval, arithmetic, limits_of, product
from .traversal import rebuild

Bounds: TypeAlias = Mapping[Var, tuple[int, int]]
NO_BOUNDS: Bounds = {}


def simplifier(bounds: Bounds = NO_BOUNDS) -> Simplifier:
    """Return the simplifier for ``bounds``: one of the last few used, if its bounds were equal."""
    for known in _recent:
        if known.bounds == bounds and known.size < _MAX_ATOMS:
            return known
    made = Simplifier(bounds)
    _recent.insert(0, made)
    del _recent[_MAX_RECENT:]
    return made


def forget() -> None:
    """Start anew: how equal terms are ordered depends on what was simplified before, and code must not."""
    _recent.clear()


_recent: list[Simplifier] = []
_MAX_RECENT = 6
_MAX_ATOMS = 20_000


class Simplifier:
    """Simplifies under fixed bounds, and remembers. Every atom has one object here, so atoms compare by identity.

    atoms       what an atom is made of -> the atom
    ranges      atom -> its interval
    quotients   atom ``x // c`` -> (form of x, c); remainders: the same for ``x % c``
    extrema     atom ``min(x, y)`` or ``max(x, y)`` -> (op, form of x, form of y)
    data        atoms whose value comes from memory, so that arithmetic on them may wrap
    """

    INF = INF

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = dict(bounds)
        self.atoms: dict[Hashable, Expr] = {}
        self.ranges: dict[Expr, Interval] = {}
        self.quotients: dict[Expr, tuple[Form, int]] = {}
        self.remainders: dict[Expr, tuple[Form, int]] = {}
        self.extrema: dict[Expr, tuple[BinaryOp, Form, Form]] = {}
        self.data: set[Expr] = set()
        self._forms: dict[Expr, Form] = {}
        self._simplified: dict[Expr, Expr] = {}
        self._divisions: dict[Hashable, Form] = {}
        self._keys: dict[Expr, int] = {}
        self._numbers: dict[Hashable, int] = {}

    @property
    def size(self) -> int:
        return len(self._forms) + len(self._simplified)

    def simplify(self, e: Expr) -> Expr:
        """See :func:`simplify`."""
        found = self._simplified.get(e)
        if found is None:
            if e.dtype == "int64":
                found = affine.to_expr(self.form(e))
                if affine.same(found, e):
                    found = e
            else:
                found = self._rebuilt(e)
            self._simplified[e] = self._simplified[found] = found
        return found

    def interval(self, f: Form) -> Interval:
        """The range of a form whose atoms vary independently."""
        lo: float = f[1]
        hi: float = f[1]
        ranges = self.ranges
        for atom, n in f[0].items():
            a, b = ranges[atom]
            if n > 0:
                lo += n * a
                hi += n * b
            else:
                lo += n * b
                hi += n * a
        return lo, hi

    def may_wrap(self, f: Form) -> bool:
        """Whether ``f`` is arithmetic on data that might leave int64."""
        if not self.data or self.data.isdisjoint(f[0]):
            return False
        lo, hi = self.interval(f)
        return lo < INT64[0] or hi > INT64[1]

    def range_of(self, e: Expr) -> Interval:
        """The range of an integer or bool expression of any width."""
        if e.dtype == "int64":
            lo, hi = self.interval(self.form(e))
            return (lo, hi) if not self.may_wrap(self.form(e)) else INT64
        e = self.simplify(e)
        limits = limits_of(e.dtype)
        lo, hi = self._range(e)
        return (lo, hi) if limits[0] <= lo and hi <= limits[1] else limits

    def intern(self, name: Hashable, atom: Expr, lo: float, hi: float, data: bool) -> Expr:
        """Let ``atom`` be the one object for everything called ``name``."""
        atom = self.atoms.setdefault(name, atom)
        self.ranges[atom] = lo, hi
        if data:
            self.data.add(atom)
        self._forms[atom] = {atom: 1}, 0
        return atom

    def recombined(self, f: Form) -> Form:
        """Undo splits into quotient and remainder where both parts are in ``f``."""
        if len(f[0]) > 1 and (self.remainders or self.quotients):
            return divmod.recombine(self, f)
        return f

    def opaque_division(self, op: divmod.Division, f: Form, c: int) -> Form:
        """An atom for ``f // c`` or ``f % c`` that nothing is known of, since ``f`` may wrap."""
        division: Expr = Binary(
            "floordiv" if op == "floordiv" else "floormod", affine.to_expr(f), affine.literal(c), dt.INDEX
        )
        lo, hi = (INT64[0] // c, INT64[1] // c) if op == "floordiv" else (0, c - 1)
        return {self.intern((op, "wraps", affine.key(f), c), division, lo, hi, True): 1}, 0

    # ------------------------------------------------------------------------------ forms of int64

    def form(self, e: Expr) -> Form:
        """The affine form of an int64 expression."""
        form = self._forms.get(e)
        if form is None:
            form = self._forms[e] = self._form(e)
        return form

    def _form(self, e: Expr) -> Form:
        if isinstance(e, Binary):
            a = self.form(e.a)
            b = self.form(e.b)
            op = e.op
            if op == "add" or op == "sub":
                sign = 1 if op == "add" else -1
                if not b[0]:
                    return a[0], a[1] + sign * b[1]
                return self.recombined(affine.add(a, b, sign))
            if op == "mul":
                if not b[0]:
                    return affine.scale(a, b[1])
                return affine.scale(b, a[1]) if not a[0] else self._product(a, b)
            if op == "floordiv" or op == "floormod":
                return self._division(op, a, b)
            return self._extremum(op, a, b)
        if isinstance(e, Const):
            return {}, int(e.value)
        if isinstance(e, Var):
            lo, hi = self.bounds.get(e, (-INF, INF))
            if lo == hi:
                return {}, int(lo)
            self.ranges[e] = lo, hi
            return {e: 1}, 0
        if isinstance(e, Select):
            return self._selected(e)
        return self._opaque(e)

    def _division(self, op: divmod.Division, a: Form, b: Form) -> Form:
        if not b[0] and b[1] > 0:
            name = op, affine.key(a), b[1]
            found = self._divisions.get(name)
            if found is None:
                divided = divmod.divide if op == "floordiv" else divmod.modulo
                found = self._divisions[name] = divided(self, a, b[1])
            return found
        if not b[0] and b[1] < 0:  # a // -c == -a // c; a % -c == -(-a % c)
            flipped = affine.scale(a, -1)
            if not self.may_wrap(flipped):
                if op == "floordiv":
                    return divmod.divide(self, flipped, -b[1])
                return affine.scale(divmod.modulo(self, flipped, -b[1]), -1)
        if b[0] and not self.may_wrap(a) and not self.may_wrap(b):
            below = self.interval(affine.add(a, b, -1))[1] < 0
            if below and self.interval(a)[0] >= 0:  # 0 <= a < b
                return ZERO if op == "floordiv" else a
        division: Expr = Binary(
            "floordiv" if op == "floordiv" else "floormod", affine.to_expr(a), affine.to_expr(b), dt.INDEX
        )
        lo, hi = self._division_range(op, self.interval(a), self.interval(b))
        data = not self.data.isdisjoint(a[0]) or not self.data.isdisjoint(b[0])
        return {self.intern((op, affine.key(a), affine.key(b)), division, lo, hi, data): 1}, 0

    def _division_range(self, op: str, a: Interval, b: Interval) -> Interval:
        if b[0] < 1:
            return -INF, INF
        if op == "floormod":
            return 0, b[1] - 1
        return min(a[0], 0), max(a[1], 0)

    def _extremum(self, op: BinaryOp, a: Form, b: Form) -> Form:
        wraps = self.may_wrap(a) or self.may_wrap(b)
        (al, ah), (bl, bh) = (INT64, INT64) if wraps else (self.interval(a), self.interval(b))
        if a == b:
            return a
        if not wraps:
            lo, hi = self.interval(affine.add(a, b, -1))
            if hi <= 0:
                return a if op == "min" else b
            if lo >= 0:
                return b if op == "min" else a
            merged = self._merged_extremum(op, a, b)
            if merged is not None:
                return merged
        name = (op, frozenset((affine.key(a), affine.key(b))))
        lo, hi = (min(al, bl), min(ah, bh)) if op == "min" else (max(al, bl), max(ah, bh))
        made: Expr = Binary(op, affine.to_expr(a), affine.to_expr(b), dt.INDEX)
        data = not self.data.isdisjoint(a[0]) or not self.data.isdisjoint(b[0])
        atom = self.intern(name, made, lo, hi, data)
        if not wraps:
            self.extrema[atom] = op, a, b
        return {atom: 1}, 0

    def _merged_extremum(self, op: BinaryOp, a: Form, b: Form) -> Form | None:
        """``min(min(x, y), z)`` where ``z`` is known to lie below or above ``x`` or ``y``; None where it is not."""
        for nested, z in ((a, b), (b, a)):
            if len(nested[0]) != 1 or nested[1]:
                continue
            ((atom, n),) = nested[0].items()
            inner = self.extrema.get(atom)
            if n != 1 or inner is None or inner[0] != op:
                continue
            for part, other in (inner[1:], inner[:0:-1]):
                lo, hi = self.interval(affine.add(part, z, -1))
                if op == "max":
                    lo, hi = -hi, -lo
                if hi <= 0:
                    return nested
                if lo >= 0:
                    return self._extremum(op, other, z)
        return None

    def _product(self, a: Form, b: Form) -> Form:
        lo, hi = product(self.interval(a), self.interval(b))
        name = ("mul", frozenset((affine.key(a), affine.key(b))))
        made = Binary("mul", affine.to_expr(a), affine.to_expr(b), dt.INDEX)
        data = not self.data.isdisjoint(a[0]) or not self.data.isdisjoint(b[0])
        if data and (lo < INT64[0] or hi > INT64[1] or self.may_wrap(a) or self.may_wrap(b)):
            lo, hi = INT64
        return {self.intern(name, made, lo, hi, data): 1}, 0

    def _selected(self, e: Select) -> Form:
        condition = self.simplify(e.condition)
        if isinstance(condition, Const):
            return self.form(e.a if condition.value else e.b)
        a, b = self.form(e.a), self.form(e.b)
        if a == b:
            return a
        wraps = self.may_wrap(a) or self.may_wrap(b)
        (al, ah), (bl, bh) = (INT64, INT64) if wraps else (self.interval(a), self.interval(b))
        name = ("select", self.key(condition), affine.key(a), affine.key(b))
        made = select(condition, affine.to_expr(a), affine.to_expr(b))
        data = not self.data.isdisjoint(a[0]) or not self.data.isdisjoint(b[0])
        return {self.intern(name, made, min(al, bl), max(ah, bh), data): 1}, 0

    def _opaque(self, e: Expr) -> Form:
        made = self._rebuilt(e)
        if isinstance(made, (Const, Binary, Select, Var)):
            return self.form(made)
        lo, hi = self._range(made)
        if lo < INT64[0] or hi > INT64[1]:
            lo, hi = INT64
        return {self.intern(self._structure(made), made, lo, hi, True): 1}, 0

    # --------------------------------------------------------------------------- everything else

    def _rebuilt(self, e: Expr) -> Expr:
        if isinstance(e, Reduce):
            return self._reduced(e)
        if isinstance(e, Compare) and e.a.dtype == "int64":
            return conditions.compare_forms(self, e)
        old = children(e)
        new = list(map(self.simplify, old))  # a comprehension would be one more frame on the stack
        for a, b in zip(old, new, strict=True):
            if a is not b:
                e = rebuild(e, new)
                break
        if isinstance(e, Compare):
            return conditions.compare_ranges(self, e)
        if isinstance(e, Not):
            return conditions.simplify_not(self, e)
        if isinstance(e, Binary) and e.dtype == dt.BOOL:
            return conditions.simplify_junction(self, e)
        return rules.apply(self, e)

    def _reduced(self, e: Reduce) -> Expr:
        if any(a.extent == 0 for a in e.axes):
            return e
        inner = simplifier({**self.bounds, **{a.var: (0, a.extent - 1) for a in e.axes}})
        term = inner.simplify(e.term)
        where = None if e.where is None else inner.simplify(e.where)
        if isinstance(where, Const) and where.value:
            where = None
        if term is e.term and where is e.where:
            return e
        return Reduce(e.combiner, term, e.axes, where, e.dtype)

    def _range(self, e: Expr) -> Interval:
        """The range of a simplified integer expression that is no form; arithmetic is taken as exact."""
        match e:
            case Const():
                return int(e.value), int(e.value)
            case Var():
                return self.bounds.get(e, limits_of(e.dtype))
            case Cast() if dt.is_integer(e.a.dtype) or e.a.dtype == dt.BOOL:
                lo, hi = self.range_of(e.a)
                limits = limits_of(e.dtype)
                return (lo, hi) if limits[0] <= lo and hi <= limits[1] else limits
            case Select():
                (al, ah), (bl, bh) = self.range_of(e.a), self.range_of(e.b)
                return min(al, bl), max(ah, bh)
            case Call(fn="abs"):
                lo, hi = self.range_of(e.args[0])
                return (0 if lo <= 0 <= hi else min(abs(lo), abs(hi))), max(abs(lo), abs(hi))
            case Binary() if dt.is_integer(e.dtype):
                return arithmetic(e, self.range_of(e.a), self.range_of(e.b))
            case _:
                return limits_of(e.dtype)

    def key(self, e: Expr) -> Hashable:
        """A number that simplified expressions share only if they are equal in value."""
        found = self._keys.get(e)
        if found is None:
            structure = affine.key(self.form(e)) if e.dtype == "int64" else self._structure(e)
            found = self._keys[e] = self._numbers.setdefault(structure, len(self._numbers))
        return found

    def _structure(self, e: Expr) -> Hashable:
        """The node with its operands' numbers: as cheap for a graph with shared parts as for a tree."""
        match e:
            case Const():
                return "const", repr(e.value), e.dtype
            case Var():
                return e
            case Binary() | Compare():
                return e.op, e.dtype, self.key(e.a), self.key(e.b)
            case Call():
                return e.fn, e.dtype, *(self.key(a) for a in e.args)
            case Read():
                return e.source, *(self.key(i) for i in e.indices)
            case Reduce():
                return e
            case _:
                return type(e), e.dtype, *(self.key(x) for x in children(e))
