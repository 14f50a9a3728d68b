"""Expressions: each node becomes instructions over scalars or lanes.

A value is uniform (0 lanes) until something that varies over the lanes of the surrounding vectorized loop enters it;
so a scalar operand of a vector operation is loaded once and broadcast. The 16-bit floats are computed in float32 and
rounded after every operation, which gives the same result as arithmetic in their own width. Next: :mod:`.emit_stmt`.
"""

from __future__ import annotations

from ..errors import InternalError
from ..te import dtype as dt
from ..te.expr import Binary, Call, Cast, Compare, Const, Expr, Not, Read, Reduce, Select, Var
from . import mathlib
from .emit_core import IN_PLACE, Linear, Value
from .emit_index import Form, is_index
from .emit_memory import MemoryPart
from .llvm_text import VALUE_TYPE, constant_mask, lane_list, literal, mangled, vector

_HALVES = ("float16", "bfloat16")
_FLOAT_OP = {"add": "fadd contract", "sub": "fsub contract", "mul": "fmul contract", "div": "fdiv contract"}
_INTEGER_OP = {"add": "add", "sub": "sub", "mul": "mul"}
_FLOAT_COMPARE = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
_DIRECT = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven", "abs": "fabs"}


class ExprPart(MemoryPart):
    """Adds expressions to the emitter."""

    def value(self, e: Expr) -> Value:
        """Compute ``e`` here; the result has lanes only if ``e`` varies over them."""
        match e:
            case Read():
                return self.read(e)
            case Const():
                return literal(e.value, e.dtype), 0
            case Var() | Binary():
                return self.index_value(self.linear(e)) if is_index(e) else self.generic_value(e)
            case _:
                return self.generic_value(e)

    def generic_value(self, e: Expr) -> Value:
        """Compute ``e`` node by node."""
        match e:
            case Binary():
                return self._binary(e)
            case Read():
                return self.read(e)
            case Compare():
                return self._compare(e)
            case Not():
                return self.invert(self.value(e.a))
            case Select():
                return self._select(e)
            case Cast():
                return self._cast(e)
            case Call():
                return self._call(e)
            case Const():
                return literal(e.value, e.dtype), 0
            case Var():
                return self.values[e] if e in self.values else self.index_value(self.lookup(e))
            case Reduce():
                raise InternalError(f"emit {self.fn.name}: a reduction was not lowered to loops")

    # --------------------------------------------------------------------------------------- arithmetic

    def _pair(self, a: Value, b: Value, element: str) -> tuple[str, str, int]:
        """Two operands brought to the same number of lanes."""
        x, y = a[1], b[1]
        if x == y:
            return a[0], b[0], x
        lanes = x or y
        return self.widen(a, element, lanes), self.widen(b, element, lanes), lanes

    def _binary(self, e: Binary) -> Value:
        dtype = e.dtype
        if e.op in ("and", "or"):
            return self._logic(e.op, self.value(e.a), self.value(e.b))
        if e.op == "pow" and isinstance(e.b, Const):
            special = self._constant_power(e, float(e.b.value))
            if special is not None:
                return special
        a, b = self.value(e.a), self.value(e.b)
        x, y, lanes = self._pair(a, b, VALUE_TYPE[dtype])
        if dtype in _HALVES:
            wide = self._float_op(e.op, self.to_float(x, dtype, lanes), self.to_float(y, dtype, lanes), "float", lanes)
            return self.from_float(wide, dtype, lanes), lanes
        if dt.is_float(dtype):
            return self._float_op(e.op, x, y, VALUE_TYPE[dtype], lanes), lanes
        return self._integer_op(e.op, x, y, dtype, lanes), lanes

    def _float_op(self, op: str, x: str, y: str, element: str, lanes: int) -> str:
        ty = vector(element, lanes)
        simple = _FLOAT_OP.get(op)
        if simple is not None:
            return self.op(f"{simple} {ty} {x}, {y}")
        if op == "pow":
            return self.math_call("pow", element, lanes, (x, y))
        first, second = (y, x) if op == "min" else (x, y)
        less = self.op(f"fcmp olt {ty} {first}, {second}")
        return self.op(f"select {vector('i1', lanes)} {less}, {ty} {y}, {ty} {x}")

    def _integer_op(self, op: str, x: str, y: str, dtype: str, lanes: int) -> str:
        element = VALUE_TYPE[dtype]
        ty = vector(element, lanes)
        simple = _INTEGER_OP.get(op)
        if simple is not None:
            return self.op(f"{simple} {ty} {x}, {y}")
        signed = dtype in dt.SIGNED
        if op in ("min", "max"):
            name = f"llvm.{'s' if signed else 'u'}{op}.{mangled(element, lanes)}"
            return self.op(f"call {ty} @{name}({ty} {x}, {ty} {y})")
        return self._divide_integers(op == "floordiv", x, y, ty, lanes, signed)

    def _divide_integers(self, quotient: bool, x: str, y: str, ty: str, lanes: int, signed: bool) -> str:
        """Division that rounds to minus infinity, and never traps: lanes that nobody uses may divide by zero."""
        flag = vector("i1", lanes)
        scalar = ty.rsplit(" ", 1)[-1].rstrip(">")
        zero, one = self.widen(("0", 0), scalar, lanes), self.widen(("1", 0), scalar, lanes)
        minus = self.widen(("-1", 0), scalar, lanes)
        constant = y[0] != "%" and not y.startswith("<")
        if constant and y in ("0", zero):
            return zero
        if not constant:
            bad = self.op(f"icmp eq {ty} {y}, {zero}")
            safe = self.op(f"select {flag} {bad}, {ty} {one}, {ty} {y}")
        else:
            safe = y
        if not signed:
            return self.op(f"{'udiv' if quotient else 'urem'} {ty} {x}, {safe}")
        negated = None
        if not constant or y in ("-1", minus):
            negated = self.op(f"icmp eq {ty} {safe}, {minus}")
            safe = self.op(f"select {flag} {negated}, {ty} {one}, {ty} {safe}")
        remainder = self.op(f"srem {ty} {x}, {safe}")
        nonzero = self.op(f"icmp ne {ty} {remainder}, {zero}")
        opposite = self.op(f"icmp slt {ty} {self.op(f'xor {ty} {remainder}, {safe}')}, {zero}")
        adjust = self.op(f"and {flag} {nonzero}, {opposite}")
        if quotient:
            truncated = self.op(f"sdiv {ty} {x}, {safe}")
            result = self.op(f"add {ty} {truncated}, {self.op(f'sext {flag} {adjust} to {ty}')}")
            if negated is None:
                return result
            return self.op(f"select {flag} {negated}, {ty} {self.op(f'sub {ty} {zero}, {x}')}, {ty} {result}")
        moved = self.op(f"add {ty} {remainder}, {safe}")
        return self.op(f"select {flag} {adjust}, {ty} {moved}, {ty} {remainder}")

    def _constant_power(self, e: Binary, exponent: float) -> Value | None:
        """``a ** exponent`` by multiplication or a square root, where that is as exact as ``pow``."""
        if e.dtype in _HALVES or exponent not in (1.0, 2.0, -1.0, 0.5):
            return None
        x, lanes = self.value(e.a)
        element = VALUE_TYPE[e.dtype]
        ty = vector(element, lanes)
        if exponent == 1.0:
            return x, lanes
        if exponent == 2.0:
            return self.op(f"fmul {ty} {x}, {x}"), lanes
        if exponent == -1.0:
            one = self.widen((literal(1.0, e.dtype), 0), element, lanes) if lanes else literal(1.0, e.dtype)
            return self.op(f"fdiv {ty} {one}, {x}"), lanes
        # pow(-0, 0.5) is +0 and pow(-inf, 0.5) is +inf, unlike their square roots
        zero, infinity, minus = (
            self.widen((literal(v, e.dtype), 0), element, lanes) if lanes else literal(v, e.dtype)
            for v in (0.0, float("inf"), float("-inf"))
        )
        root = self.op(f"call {ty} @llvm.sqrt.{mangled(element, lanes)}({ty} {self.op(f'fadd {ty} {x}, {zero}')})")
        special = self.op(f"fcmp oeq {ty} {x}, {minus}")
        return self.op(f"select {vector('i1', lanes)} {special}, {ty} {infinity}, {ty} {root}"), lanes

    # ---------------------------------------------------------------------------------------- conditions

    def _logic(self, op: str, a: Value, b: Value) -> Value:
        dominant, neutral = ("false", "true") if op == "and" else ("true", "false")
        if dominant in (a[0], b[0]):
            return dominant, 0
        if a[0] == neutral:
            return b
        if b[0] == neutral:
            return a
        x, y, lanes = self._pair(a, b, "i1")
        if op == "and":
            return self.both_masks(x, y, lanes), lanes
        return self.op(f"or {vector('i1', lanes)} {x}, {y}"), lanes

    def invert(self, a: Value) -> Value:
        """Logical not."""
        text, lanes = a
        if text in ("true", "false"):
            return ("false" if text == "true" else "true"), 0
        known = constant_mask(text)
        if known is not None:
            return lane_list("i1", [1 - lane for lane in known]), lanes
        return self.op(f"xor {vector('i1', lanes)} {text}, {'splat (i1 true)' if lanes else 'true'}"), lanes

    def _compare(self, e: Compare) -> Value:
        dtype = e.a.dtype
        if dtype == dt.INDEX:
            a_form, b_form = self.linear(e.a), self.linear(e.b)
            if _is_counted(a_form) and _is_counted(b_form):
                return self.compare_index(e.op, a_form, b_form)
            a, b = self.index_value(a_form), self.index_value(b_form)
        else:
            a, b = self.value(e.a), self.value(e.b)
        x, y, lanes = self._pair(a, b, VALUE_TYPE[dtype])
        element = VALUE_TYPE[dtype]
        if dtype in _HALVES:
            x, y, element = self.to_float(x, dtype, lanes), self.to_float(y, dtype, lanes), "float"
        if dt.is_float(dtype):
            return self.op(f"fcmp {_FLOAT_COMPARE[e.op]} {vector(element, lanes)} {x}, {y}"), lanes
        sign = "" if e.op in ("eq", "ne") else "s" if dtype in dt.SIGNED else "u"
        return self.op(f"icmp {sign}{e.op} {vector(element, lanes)} {x}, {y}"), lanes

    def condition(self, e: Expr) -> bool | Value:
        """A condition: a Python bool where it is decided now."""
        text, lanes = self.value(e)
        return text == "true" if text in ("true", "false") else (text, lanes)

    def _select(self, e: Select) -> Value:
        chosen = self.condition(e.condition)
        if isinstance(chosen, bool):
            return self.value(e.a if chosen else e.b)
        text, lanes = chosen
        a = self._evaluate_under(e.a, chosen)
        b = self._evaluate_under(e.b, chosen, inverted=True)
        element = VALUE_TYPE[e.dtype]
        x, y, width = self._pair(a, b, element)
        if lanes and not width:
            x, y, width = self.widen(a, element, lanes), self.widen(b, element, lanes), lanes
        return self.op(
            f"select {vector('i1', lanes)} {text}, {vector(element, width)} {x}, {vector(element, width)} {y}"
        ), width

    def _evaluate_under(self, e: Expr, condition: Value, inverted: bool = False) -> Value:
        """Compute ``e`` where only the lanes (or, the executions) at which ``condition`` holds need it."""
        if not self.traits(e)[1]:
            return self.value(e)
        text, lanes = self.invert(condition) if inverted else condition
        saved = self.mask, self.guard
        if lanes:
            self.mask = text if self.mask is None else self.both_masks(self.mask, text, lanes)
        else:
            self.guard = text if self.guard is None else self.both_masks(self.guard, text, 0)
        try:
            return self.value(e)
        finally:
            self.mask, self.guard = saved

    # ---------------------------------------------------------------------------------------- conversions

    def to_float(self, text: str, dtype: str, lanes: int) -> str:
        """A 16-bit float as float32, exactly."""
        if dtype == "bfloat16":
            wide = self.op(f"zext {vector('i16', lanes)} {text} to {vector('i32', lanes)}")
            shift = "splat (i32 16)" if lanes else "16"
            raw = self.op(f"shl {vector('i32', lanes)} {wide}, {shift}")
            return self.op(f"bitcast {vector('i32', lanes)} {raw} to {vector('float', lanes)}")
        if "f16c" in self.features or "neon" in self.features:
            return self.op(f"fpext {vector('half', lanes)} {text} to {vector('float', lanes)}")
        return self.math_call("half_to_float", "float", lanes, (text,), ("half",))

    def from_float(self, text: str, dtype: str, lanes: int) -> str:
        """float32 rounded to a 16-bit float."""
        if dtype == "bfloat16":
            return self.math_call("float_to_bfloat", "i16", lanes, (text,), ("float",))
        if "f16c" in self.features or "neon" in self.features:
            return self.op(f"fptrunc {vector('float', lanes)} {text} to {vector('half', lanes)}")
        return self.math_call("float_to_half", "half", lanes, (text,), ("float",))

    def _cast(self, e: Cast) -> Value:
        source, target = e.a.dtype, e.dtype
        if source == dt.INDEX and dt.is_float(target):
            form = self.linear(e.a)
            low, high = self.bounds(form)
            text, lanes = self.index_value(form)
            if low is not None and high is not None and low >= -(2**31) and high < 2**31 and text[0] == "%":
                text = self.op(f"trunc {vector('i64', lanes)} {text} to {vector('i32', lanes)}")
                source = "int32"
        else:
            text, lanes = self.value(e.a)
        return self.convert(text, source, target, lanes), lanes

    def convert(self, text: str, source: str, target: str, lanes: int) -> str:
        """Convert a value between dtypes."""
        if source == target:
            return text
        if source in _HALVES:
            return self.convert(self.to_float(text, source, lanes), "float32", target, lanes)
        if target in _HALVES:
            if source == "float64" or (source in ("int32", "uint32", "int64", "uint64") and target == "bfloat16"):
                wide = self.convert(text, source, "float64", lanes)
                single = self.math_call("round_to_odd", "float", lanes, (wide,), ("double",))
            else:
                single = self.convert(text, source, "float32", lanes)
            return self.from_float(single, target, lanes)
        have, want = vector(VALUE_TYPE[source], lanes), vector(VALUE_TYPE[target], lanes)
        if target == dt.BOOL:
            zero = "zeroinitializer" if lanes else literal(0, source)
            return self.op(f"{'fcmp une' if dt.is_float(source) else 'icmp ne'} {have} {text}, {zero}")
        if dt.is_float(source) and dt.is_float(target):
            return self.op(f"{'fpext' if target == 'float64' else 'fptrunc'} {have} {text} to {want}")
        if dt.is_float(target):
            return self.op(f"{'sitofp' if source in dt.SIGNED else 'uitofp'} {have} {text} to {want}")
        if dt.is_float(source):
            if dt.bits(target) < 32 or target == "uint32":
                middle = "int32" if dt.bits(target) < 32 else "int64"
                return self.convert(self.convert(text, source, middle, lanes), middle, target, lanes)
            return self.op(f"{'fptosi' if target in dt.SIGNED else 'fptoui'} {have} {text} to {want}")
        wider = dt.bits(target) - (1 if source == dt.BOOL else dt.bits(source))
        if not wider:
            return text
        kind = "trunc" if wider < 0 else "sext" if source in dt.SIGNED else "zext"
        return self.op(f"{kind} {have} {text} to {want}")

    # ---------------------------------------------------------------------------------------- intrinsics

    def _call(self, e: Call) -> Value:
        source = e.args[0].dtype
        text, lanes = self.value(e.args[0])
        if not dt.is_float(source):
            ty = vector(VALUE_TYPE[source], lanes)
            if e.fn != "abs":
                raise InternalError(f"emit {self.fn.name}: {e.fn} of {source}")
            if source not in dt.SIGNED:
                return text, lanes
            return self.op(f"call {ty} @llvm.abs.{mangled(VALUE_TYPE[source], lanes)}({ty} {text}, i1 false)"), lanes
        element = VALUE_TYPE[source]
        if source in _HALVES:
            text, element = self.to_float(text, source, lanes), "float"
        result = self._float_call(e.fn, text, element, lanes)
        if source in _HALVES and e.dtype != dt.BOOL:
            result = self.from_float(result, source, lanes)
        return result, lanes

    def _float_call(self, fn: str, text: str, element: str, lanes: int) -> str:
        ty = vector(element, lanes)
        direct = _DIRECT.get(fn)
        if direct is not None:
            return self.op(f"call {ty} @llvm.{direct}.{mangled(element, lanes)}({ty} {text})")
        if fn == "isnan":
            return self.op(f"fcmp uno {ty} {text}, {text}")
        if fn == "isinf":
            size = self.op(f"call {ty} @llvm.fabs.{mangled(element, lanes)}({ty} {text})")
            infinity = "0x7FF0000000000000"
            return self.op(f"fcmp oeq {ty} {size}, {f'splat ({element} {infinity})' if lanes else infinity}")
        return self.math_call(fn, element, lanes, (text,))

    def math_call(
        self, fn: str, element: str, lanes: int, args: tuple[str, ...], types: tuple[str, ...] | None = None
    ) -> str:
        """Call a function of :mod:`.mathlib`; ``element`` is the result's type, and the arguments' unless given."""
        symbol = mathlib.symbol(fn, element, lanes)
        self.math[symbol] = (fn, element, lanes)
        operands = ", ".join(
            f"{vector(t, lanes)} {a}" for t, a in zip(types or (element,) * len(args), args, strict=True)
        )
        return self.op(f"call {vector(element, lanes)} @{symbol}({operands})")


def _is_counted(a: Form) -> bool:
    """Whether a form is made of loop variables only, so that differences of two such forms do not overflow."""
    return isinstance(a, int) or (
        isinstance(a, Linear) and not a.vectors and all(s.level != IN_PLACE for s, _ in a.terms)
    )
