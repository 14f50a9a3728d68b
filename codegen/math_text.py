"""A small builder of LLVM IR text for :mod:`.mathlib`: one method per operation on ``lanes`` values."""

from __future__ import annotations

from collections.abc import Sequence

from .llvm_text import double_bits, literal, mangled, splat_literal, vector


class Body:
    """The instructions of one function. fused: the CPU has a fused multiply-add."""

    def __init__(self, lanes: int, fused: bool) -> None:
        self.lanes = lanes
        self.fused = fused
        self.lines: list[str] = []
        self.block = "entry"

    def op(self, text: str) -> str:
        name = f"%t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return name

    def ty(self, element: str) -> str:
        return vector(element, self.lanes)

    def function(self, name: str, element: str, source: str, arity: int, result: str, attributes: str) -> str:
        """The whole function, from ``arity`` arguments ``%a0, %a1`` of type ``source`` to ``element``."""
        arguments = ", ".join(f"{self.ty(source)} %a{i}" for i in range(arity))
        body = "\n".join(self.lines)
        head = f"define internal {self.ty(element)} @{name}({arguments}) {attributes} {{"
        return f"{head}\nentry:\n{body}\nret {self.ty(element)} {result}\n}}"

    # constants: float, double, i32, i64

    def f(self, value: float) -> str:
        return splat_literal("float", literal(value, "float32"), self.lanes)

    def d(self, value: float) -> str:
        return splat_literal("double", double_bits(value), self.lanes)

    def i(self, value: int) -> str:
        return splat_literal("i32", str(value), self.lanes)

    def l(self, value: int) -> str:  # noqa: E743
        return splat_literal("i64", str(value), self.lanes)

    def all_true(self) -> str:
        return splat_literal("i1", "true", self.lanes)

    # float32

    def add(self, a: str, b: str) -> str:
        return self.op(f"fadd {self.ty('float')} {a}, {b}")

    def sub(self, a: str, b: str) -> str:
        return self.op(f"fsub {self.ty('float')} {a}, {b}")

    def mul(self, a: str, b: str) -> str:
        return self.op(f"fmul {self.ty('float')} {a}, {b}")

    def div(self, a: str, b: str) -> str:
        return self.op(f"fdiv {self.ty('float')} {a}, {b}")

    def fma(self, a: str, b: str, c: str) -> str:
        """``a * b + c``, rounded once where the CPU can."""
        if not self.fused:
            return self.add(self.mul(a, b), c)
        ty = self.ty("float")
        return self.op(f"call {ty} @llvm.fma.{mangled('float', self.lanes)}({ty} {a}, {ty} {b}, {ty} {c})")

    def poly(self, x: str, coefficients: Sequence[float]) -> str:
        """Horner's rule, lowest power first."""
        result = self.f(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            result = self.fma(result, x, self.f(c))
        return result

    def negate(self, a: str) -> str:
        return self.op(f"fneg {self.ty('float')} {a}")

    def absolute(self, a: str) -> str:
        return self._unary("fabs", "float", a)

    def copysign(self, a: str, sign: str) -> str:
        ty = self.ty("float")
        return self.op(f"call {ty} @llvm.copysign.{mangled('float', self.lanes)}({ty} {a}, {ty} {sign})")

    # float64

    def dadd(self, a: str, b: str) -> str:
        return self.op(f"fadd {self.ty('double')} {a}, {b}")

    def dsub(self, a: str, b: str) -> str:
        return self.op(f"fsub {self.ty('double')} {a}, {b}")

    def dmul(self, a: str, b: str) -> str:
        return self.op(f"fmul {self.ty('double')} {a}, {b}")

    def ddiv(self, a: str, b: str) -> str:
        return self.op(f"fdiv {self.ty('double')} {a}, {b}")

    def dneg(self, a: str) -> str:
        return self.op(f"fneg {self.ty('double')} {a}")

    def dabs(self, a: str) -> str:
        return self._unary("fabs", "double", a)

    def dsqrt(self, a: str) -> str:
        return self._unary("sqrt", "double", a)

    def dround(self, kind: str, a: str) -> str:
        return self._unary(kind, "double", a)

    def dcopysign(self, a: str, sign: str) -> str:
        ty = self.ty("double")
        return self.op(f"call {ty} @llvm.copysign.{mangled('double', self.lanes)}({ty} {a}, {ty} {sign})")

    def poly64(self, x: str, coefficients: Sequence[float]) -> str:
        """Horner's rule, lowest power first; contracted to fused operations where the CPU has them."""
        ty = self.ty("double")
        result = self.d(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            product = self.op(f"fmul contract {ty} {result}, {x}")
            result = self.op(f"fadd contract {ty} {product}, {self.d(c)}")
        return result

    def _unary(self, fn: str, element: str, a: str) -> str:
        ty = self.ty(element)
        return self.op(f"call {ty} @llvm.{fn}.{mangled(element, self.lanes)}({ty} {a})")

    # integers and bits

    def int_op(self, op: str, a: str, b: str) -> str:
        return self.op(f"{op} {self.ty('i32')} {a}, {b}")

    def long_op(self, op: str, a: str, b: str) -> str:
        return self.op(f"{op} {self.ty('i64')} {a}, {b}")

    def long_odd(self, a: str) -> str:
        return self.convert("trunc", a, "i64", "i1")

    def long_negative(self, x: str) -> str:
        """Whether the sign bit of a double is set."""
        return self.op(f"icmp slt {self.ty('i64')} {self.long_bits(x)}, {self.l(0)}")

    def icmp(self, predicate: str, a: str, b: str) -> str:
        return self.op(f"icmp {predicate} {self.ty('i32')} {a}, {b}")

    def bits(self, a: str) -> str:
        return self.convert("bitcast", a, "float", "i32")

    def from_bits(self, a: str) -> str:
        return self.convert("bitcast", a, "i32", "float")

    def long_bits(self, a: str) -> str:
        return self.convert("bitcast", a, "double", "i64")

    def from_long_bits(self, a: str) -> str:
        return self.convert("bitcast", a, "i64", "double")

    def power_of_two(self, n: str) -> str:
        """2**n for an i32 within the range of normal numbers."""
        return self.from_bits(self.int_op("shl", self.int_op("add", n, self.i(127)), self.i(23)))

    def int_to_double(self, a: str) -> str:
        """A small i64 as a double (by way of i32, which every CPU converts in lanes)."""
        return self.convert("sitofp", self.convert("trunc", a, "i64", "i32"), "i32", "double")

    # conditions and conversions

    def fcmp(self, predicate: str, a: str, b: str, element: str = "float") -> str:
        return self.op(f"fcmp {predicate} {self.ty(element)} {a}, {b}")

    def flag(self, op: str, a: str, b: str) -> str:
        return self.op(f"{op} {self.ty('i1')} {a}, {b}")

    def select(self, condition: str, a: str, b: str, element: str = "float") -> str:
        ty = self.ty(element)
        return self.op(f"select {self.ty('i1')} {condition}, {ty} {a}, {ty} {b}")

    def convert(self, op: str, a: str, source: str, target: str) -> str:
        return self.op(f"{op} {self.ty(source)} {a} to {self.ty(target)}")

    def extend(self, a: str) -> str:
        return self.convert("fpext", a, "float", "double")

    def round(self, a: str) -> str:
        return self.convert("fptrunc", a, "double", "float")

    # calls

    def per_lane(self, fn: str, args: Sequence[str]) -> str:
        """Call a C function of doubles once for each lane."""
        if not self.lanes:
            return self.op(f"call double @{fn}({', '.join(f'double {a}' for a in args)})")
        ty, result = self.ty("double"), "poison"
        for lane in range(self.lanes):
            one = ", ".join(f"double {self.op(f'extractelement {ty} {a}, i64 {lane}')}" for a in args)
            value = self.op(f"call double @{fn}({one})")
            result = self.op(f"insertelement {ty} {result}, double {value}, i64 {lane}")
        return result

    def replace_where(self, where: str, fn: str, x: str, usual: str) -> str:
        """``usual``, but the function ``fn`` of ``x`` in the lanes at ``where``; not called if there are none."""
        ty = self.ty("float")
        some = where
        if self.lanes:
            some = self.op(f"call i1 @llvm.vector.reduce.or.v{self.lanes}i1({self.ty('i1')} {where})")
        self.lines += [f"br i1 {some}, label %rare, label %done", "rare:"]
        unusual = self.select(where, self.op(f"call {ty} @{fn}({ty} {x})"), usual)
        self.lines += ["br label %done", "done:"]
        return self.op(f"phi {ty} [ {usual}, %entry ], [ {unusual}, %rare ]")
