"""Index arithmetic: int64 expressions as :class:`Linear` forms, hoisted to the outermost place where they are known.

:meth:`IndexPart.linear` turns an expression into a form; :meth:`IndexPart.scalar` and :meth:`IndexPart.ramp` turn a
form into instructions. Ranges of the loop variables decide comparisons and make ``floordiv`` and ``floormod`` by a
constant exact where the range allows it (``(8 * i + j) // 8`` with ``0 <= j < 8`` is ``i``).
Next: :mod:`.emit_address`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import inf

from ..te import dtype as dt
from ..te.expr import Binary, Cast, Compare, Const, Expr, Not, Read, Select, Var
from ..te.traversal import walk
from .emit_core import IN_PLACE, Core, Linear
from .llvm_text import lane_list

COMPARE: dict[str, Callable[[int, int], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}
_PURE = (Var, Const, Binary, Compare, Not, Select, Cast)

Form = int | Linear


def add_forms(a: Form, b: Form, scale: int = 1) -> Form:
    """``a + scale * b``."""
    if isinstance(b, int):
        if isinstance(a, int):
            return a + scale * b
        return Linear(a.const + scale * b, a.terms, a.lane, a.vectors)
    if isinstance(a, int):
        a = Linear(a)
    terms = a.terms
    if not terms and scale:
        terms = b.terms if scale == 1 else tuple((sym, scale * k) for sym, k in b.terms)
    elif b.terms:
        merged = dict(terms)
        for sym, k in b.terms:
            merged[sym] = merged.get(sym, 0) + scale * k
        terms = tuple(sorted(((s, k) for s, k in merged.items() if k), key=lambda t: (t[0].level, t[0].serial)))
    vectors = a.vectors
    if b.vectors:
        vectors += tuple((name, scale * k) for name, k in b.vectors)
    return normal(Linear(a.const + scale * b.const, terms, a.lane + scale * b.lane, vectors))


def scale_form(a: Form, factor: int) -> Form:
    """``factor * a``."""
    return a * factor if isinstance(a, int) else add_forms(0, a, factor)


def normal(a: Form) -> Form:
    """Turn a constant form into an int."""
    return a.const if isinstance(a, Linear) and a.is_const else a


class IndexPart(Core):
    """Adds index arithmetic to the emitter."""

    def linear(self, e: Expr) -> Form:
        """The form of an int64 expression."""
        match e:
            case Const():
                return int(e.value)
            case Var():
                return self.lookup(e)
            case Binary(op="add"):
                return add_forms(self.linear(e.a), self.linear(e.b))
            case Binary(op="sub"):
                return add_forms(self.linear(e.a), self.linear(e.b), -1)
            case Binary(op="mul"):
                a, b = self.linear(e.a), self.linear(e.b)
                if isinstance(b, int):
                    return scale_form(a, b)
                if isinstance(a, int):
                    return scale_form(b, a)
                return self._product(a, b, e)
            case Binary(op="floordiv" | "floormod"):
                return self._divide(e)
            case Binary(op="min" | "max"):
                a, b = self.linear(e.a), self.linear(e.b)
                difference = self.bounds(add_forms(a, b, -1))
                if difference[1] is not None and difference[1] <= 0:
                    return a if e.op == "min" else b
                if difference[0] is not None and difference[0] >= 0:
                    return b if e.op == "min" else a
                return self._opaque(e)
            case _:
                return self._opaque(e)

    def bounds(self, a: Form) -> tuple[int | None, int | None]:
        """Inclusive bounds of a form over all lanes; None where unknown."""
        if isinstance(a, int):
            return a, a
        if a.vectors:
            return None, None
        reach = a.lane * (self.lanes - 1) if a.lane else 0
        low: int | None = a.const + min(reach, 0)
        high: int | None = a.const + max(reach, 0)
        for sym, k in a.terms:
            smallest, largest = (sym.low, sym.high) if k > 0 else (sym.high, sym.low)
            low = None if low is None or smallest is None else low + k * smallest
            high = None if high is None or largest is None else high + k * largest
        return low, high

    def scalar(self, a: Form) -> str:
        """The i64 value of a form that is the same in all lanes."""
        if isinstance(a, int):
            return str(a)
        total = self._sum(a.terms) if a.terms else "0"
        if not a.const:
            return total
        return self.op_at(a.terms[-1][0].level if a.terms else 0, f"add i64 {total}, {a.const}")

    def _sum(self, terms: tuple[tuple[object, int], ...]) -> str:
        sym, k = terms[-1]
        level, name = sym.level, sym.name  # type: ignore[attr-defined]
        if k != 1:
            name = self.op_at(level, f"mul i64 {name}, {k}")
        if len(terms) == 1:
            return str(name)
        return self.op_at(level, f"add i64 {self._sum(terms[:-1])}, {name}")

    def ramp(self, a: Form) -> str:
        """The value of a form in all lanes, ``<lanes x i64>``."""
        lanes, ty = self.lanes, f"<{self.lanes} x i64>"
        if isinstance(a, int):
            return f"splat (i64 {a})"
        result = self.splat(self.scalar(Linear(a.const, a.terms)), "i64", lanes)
        if a.lane:
            steps = lane_list("i64", [a.lane * i for i in range(lanes)])
            result = self.op(f"add {ty} {result}, {steps}")
        for name, k in a.vectors:
            scaled = name if k == 1 else self.op(f"mul {ty} {name}, splat (i64 {k})")
            result = self.op(f"add {ty} {result}, {scaled}")
        return result

    def index_value(self, a: Form) -> tuple[str, int]:
        """A form as an operand."""
        if isinstance(a, Linear) and a.varies:
            return self.ramp(a), self.lanes
        return self.scalar(a), 0

    def symbol(self, text: str, lanes: int, level: int) -> Form:
        """Wrap a computed i64 value as a form."""
        if lanes:
            return Linear(0, vectors=((text, 1),))
        if text[0] != "%":
            return int(text)
        return Linear(0, ((self.new_sym(text, level), 1),))

    # ------------------------------------------------------------------------------- what is not affine

    def _product(self, a: Linear, b: Linear, e: Expr) -> Form:
        if a.varies or b.varies:
            return self._opaque(e)
        level = max(a.terms[-1][0].level, b.terms[-1][0].level)
        return self.symbol(self.op_at(level, f"mul i64 {self.scalar(a)}, {self.scalar(b)}"), 0, level)

    def _divide(self, e: Binary) -> Form:
        a, b = self.linear(e.a), self.linear(e.b)
        if not isinstance(b, int) or b <= 0:
            return self._opaque(e)
        quotient = e.op == "floordiv"
        if isinstance(a, int):
            return a // b if quotient else a % b
        whole, rest = self._split(a, b)
        low, high = self.bounds(rest)
        if low is not None and high is not None and low // b == high // b:
            shift = low // b
            return add_forms(whole, shift) if quotient else add_forms(rest, -shift * b)
        if rest.varies:
            return self._opaque(e)
        # rest does not vary: divide it alone, and put the divisible part back
        divided = self._divide_scalar(rest, b, quotient, low is not None and low >= 0)
        return add_forms(whole, divided) if quotient else divided

    @staticmethod
    def _split(a: Linear, b: int) -> tuple[Form, Linear]:
        """``a == b * whole + rest`` with every part that ``b`` divides in ``whole``."""
        whole = Linear(
            a.const // b,
            tuple((s, k // b) for s, k in a.terms if k % b == 0),
            a.lane // b if a.lane % b == 0 else 0,
        )
        rest = Linear(a.const % b, tuple(t for t in a.terms if t[1] % b), a.lane if a.lane % b else 0, a.vectors)
        return normal(whole), rest

    def _divide_scalar(self, a: Linear, b: int, quotient: bool, natural: bool) -> Form:
        level = a.terms[-1][0].level
        x = self.scalar(a)
        if b & (b - 1) == 0:
            text = f"ashr i64 {x}, {b.bit_length() - 1}" if quotient else f"and i64 {x}, {b - 1}"
            name = self.op_at(level, text)
        elif natural:
            name = self.op_at(level, f"{'udiv' if quotient else 'urem'} i64 {x}, {b}")
        else:
            # round towards minus infinity: the remainder of C's division, moved into [0, b)
            remainder = self.op_at(level, f"srem i64 {x}, {b}")
            negative = self.op_at(level, f"ashr i64 {remainder}, 63")
            if quotient:
                name = self.op_at(level, f"add i64 {self.op_at(level, f'sdiv i64 {x}, {b}')}, {negative}")
            else:
                name = self.op_at(level, f"add i64 {remainder}, {self.op_at(level, f'and i64 {negative}, {b}')}")
        sym = self.new_sym(name, level)
        low, high = self.bounds(a)
        if not quotient:
            sym.low, sym.high = 0, b - 1
        else:
            sym.low = None if low is None else low // b
            sym.high = None if high is None else high // b
        return Linear(0, ((sym, 1),))

    def _opaque(self, e: Expr) -> Form:
        """Compute ``e`` as an ordinary value: hoisted when it is pure and scalar, else here."""
        level = self._level_of(e)
        if level == IN_PLACE:
            text, lanes = self.generic_value(e)
            return self.symbol(text, lanes, IN_PLACE)
        saved = self.out, self.memo, self.lanes, self.mask
        at = self.levels[level]
        self.out, self.memo, self.lanes, self.mask = at.lines, at.known, 0, None
        try:
            text, lanes = self.generic_value(e)
        finally:
            self.out, self.memo, self.lanes, self.mask = saved
        return self.symbol(text, lanes, level)

    def _level_of(self, e: Expr) -> int:
        """The outermost level at which ``e`` can be computed."""
        pure, _, variables = self.traits(e)
        if not pure:
            return IN_PLACE
        level = 0
        for var in variables:
            if var in self.values:
                return IN_PLACE
            form = self.lookup(var)
            if isinstance(form, Linear):
                if form.varies:
                    return IN_PLACE
                level = max(level, *(s.level for s, _ in form.terms))
        return level

    def traits(self, e: Expr) -> tuple[bool, bool, tuple[Var, ...]]:
        """Whether ``e`` is index arithmetic only, whether it reads memory, and its variables; found once a node."""
        known = self.trait_table.get(id(e))
        if known is None:
            nodes = list(walk(e))
            known = (
                all(isinstance(x, _PURE) for x in nodes),
                any(isinstance(x, Read) for x in nodes),
                tuple({x: None for x in nodes if isinstance(x, Var)}),
            )
            self.trait_table[id(e)] = known
        return known

    # -------------------------------------------------------------------------------------- conditions

    def compare_index(self, op: str, a: Form, b: Form) -> tuple[str, int]:
        """An i1 (or one per lane): ``a op b`` of int64 forms."""
        difference = add_forms(a, b, -1)
        known = self._decide(op, difference)
        if known is not None:
            return ("true" if known else "false"), 0
        assert isinstance(difference, Linear)
        if not difference.varies:
            return self._compare_scalar(op, a, b, difference), 0
        if not difference.terms and not difference.vectors:
            holds = COMPARE[op]
            values = [int(holds(difference.const + difference.lane * i, 0)) for i in range(self.lanes)]
            return lane_list("i1", values), self.lanes
        if not difference.vectors and difference.lane in (1, -1) and op not in ("eq", "ne"):
            return self._lane_mask(op, difference), self.lanes
        predicate = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge"}[op]
        text = f"icmp {predicate} <{self.lanes} x i64> {self.ramp(difference)}, zeroinitializer"
        return self.op(text), self.lanes

    def _compare_scalar(self, op: str, a: Form, b: Form, difference: Linear) -> str:
        level = difference.terms[-1][0].level
        rest = Linear(0, difference.terms)
        predicate = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge"}[op]
        return self.op_at(level, f"icmp {predicate} i64 {self.scalar(rest)}, {-difference.const}")

    def _decide(self, op: str, difference: Form) -> bool | None:
        """Whether ``difference op 0`` is the same for all values in range."""
        low, high = self.bounds(difference)
        least, most = -inf if low is None else low, inf if high is None else high
        match op:
            case "lt" | "ge":
                yes, no = most < 0, least >= 0
            case "le" | "gt":
                yes, no = most <= 0, least > 0
            case _:
                yes, no = least == most == 0, most < 0 or least > 0
        if op in ("ge", "gt", "ne"):
            yes, no = no, yes
        return True if yes else False if no else None

    def _lane_mask(self, op: str, difference: Linear) -> str:
        """The lanes at which ``const + symbols +- lane op 0``: a comparison of lane numbers with one scalar."""
        strict = op in ("lt", "ge")
        if difference.lane == 1:
            limit = add_forms(0 if strict else 1, Linear(difference.const, difference.terms), -1)
            below = op in ("lt", "le")
        else:
            limit = add_forms(1 if strict else 0, Linear(difference.const, difference.terms))
            below = op in ("gt", "ge")
        return self.lanes_below(limit, below)

    def lanes_below(self, limit: Form, below: bool = True) -> str:
        """A mask of the lanes whose number is below ``limit`` (or, the opposite)."""
        lanes = self.lanes
        low, high = self.bounds(limit)
        assert isinstance(limit, Linear)  # a constant limit was decided lane by lane
        level = limit.terms[-1][0].level
        text = self.scalar(limit)
        if low is None or low < 0:
            text = self.op_at(level, f"call i64 @llvm.smax.i64(i64 {text}, i64 0)")
        if high is None or high > lanes:
            text = self.op_at(level, f"call i64 @llvm.smin.i64(i64 {text}, i64 {lanes})")
        narrow = "i32" if lanes * 32 <= self.target.vector_bits else "i8"
        scalar = self.op_at(level, f"trunc i64 {text} to {narrow}")
        ty = f"<{lanes} x {narrow}>"
        one = self.op_at(level, f"insertelement {ty} poison, {narrow} {scalar}, i64 0")
        all_lanes = self.op_at(level, f"shufflevector {ty} {one}, {ty} poison, <{lanes} x i32> zeroinitializer")
        numbers = lane_list(narrow, list(range(lanes)))
        return self.op_at(level, f"icmp {'ult' if below else 'uge'} {ty} {numbers}, {all_lanes}")

    # --------------------------------------------------------------------- supplied by the mixed-in parts

    def generic_value(self, e: Expr) -> tuple[str, int]:
        """The value of ``e`` computed node by node (int64 arithmetic not treated as a form)."""
        raise NotImplementedError


def is_index(e: Expr) -> bool:
    """Whether ``e`` is int64 arithmetic, which :meth:`IndexPart.linear` understands."""
    return e.dtype == dt.INDEX and isinstance(e, (Var, Const, Binary))
