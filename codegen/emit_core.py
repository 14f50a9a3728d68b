"""The state of one function's emission: where instructions go, what the variables mean, what is known already.

Instructions are appended as text to lists. Each run-time loop (and each Let of a run-time value) opens a
:class:`Level`: a place at the start of its body where values that depend on nothing deeper are computed once.
:meth:`Core.op` reuses an instruction of the same text in the same basic block, :meth:`Core.op_at` in the same level;
so the text that reaches LLVM has no common subexpressions left in a block and its index arithmetic is hoisted.

Index arithmetic is kept symbolic as :class:`Linear` forms over run-time symbols, so that the constants that
unrolled loop variables contribute end as displacements of loads and stores. Next: :mod:`.emit_index`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from ..errors import InternalError
from ..target import Target
from ..te.expr import Expr, Var
from .llvm_text import constant_mask, lane_list, splat_literal, vector
from .nodes import Buffer, Function

IN_PLACE = 1 << 30
"""Level of a symbol that is only valid where it stands (it depends on memory)."""

Value: TypeAlias = tuple[str, int]
"""Text of an operand and its number of lanes; 0 lanes: the same scalar for all lanes."""


@dataclass(slots=True, eq=False)
class Level:
    """A place that dominates all code inside one loop body. known: instruction text -> name."""

    lines: list[str]
    known: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Sym:
    """A run-time i64: its name, the level it is defined at, and inclusive bounds where they are known."""

    name: str
    level: int
    serial: int
    low: int | None = None
    high: int | None = None


@dataclass(slots=True, eq=False)
class Linear:
    """``const + sum(coefficient * symbol) + lane * (lane number) + sum(coefficient * vector)``, modulo 2**64.

    terms are ordered by level, then serial number. vectors are names of ``<lanes x i64>`` values.
    """

    const: int
    terms: tuple[tuple[Sym, int], ...] = ()
    lane: int = 0
    vectors: tuple[tuple[str, int], ...] = ()

    @property
    def is_const(self) -> bool:
        return not self.terms and not self.lane and not self.vectors

    @property
    def varies(self) -> bool:
        """Whether lanes differ."""
        return bool(self.lane or self.vectors)


@dataclass(slots=True, eq=False)
class Loaded:
    """Elements of one buffer whose values are at hand in this block, by (base pointer, offset, lanes).

    grid (base, lanes): every entry lies on multiples of ``lanes`` from ``base``; None: entries may overlap.
    """

    entries: dict[tuple[str, int, int], str] = field(default_factory=dict)
    grid: tuple[str, int] | None = None


class Core:
    """Emission state; the mixed-in parts add indices, memory, expressions and statements."""

    def __init__(self, fn: Function, target: Target) -> None:
        self.fn = fn
        self.target = target
        self.features = frozenset(f[1:] for f in target.features.split(",") if f.startswith("+"))
        self.parts: list[list[str]] = []
        self.entry: list[str] = []
        self.out: list[str] = self.entry
        self.levels: list[Level] = []
        self.memo: dict[str, str] = {}
        self.loaded: dict[Buffer, Loaded] = {}
        self.block = "entry"
        self.counter = 0
        self.env: dict[Var, int | Linear] = {}
        self.ints: dict[Var, int] = {}  # constants among env; of a ramp, its start
        self.values: dict[Var, Value] = {}  # what a Let of another type than int64 bound
        self.epoch = 0  # changes whenever a variable is bound to something other than an int
        self.lanes = 0
        self.mask: str | None = None  # the lanes at which the current statement happens
        self.guard: str | None = None  # the i1 under which the current expression is needed
        self.trait_table: dict[int, tuple[bool, bool, tuple[Var, ...]]] = {}  # by id of an expression
        self.declarations: dict[str, str] = {}
        self.math: dict[str, tuple[str, str, int]] = {}

    # ------------------------------------------------------------------------------------ instructions

    def fresh(self, prefix: str = "v") -> str:
        self.counter += 1
        return f"%{prefix}{self.counter}"

    def op(self, text: str) -> str:
        """Append a pure instruction; return its result, or that of the same instruction earlier in this block."""
        name = self.memo.get(text)
        if name is None:
            self.counter += 1
            name = f"%v{self.counter}"
            self.memo[text] = name
            self.out.append(f"{name} = {text}")
        return name

    def op_at(self, level: int, text: str) -> str:
        """Append a pure instruction at the head of ``level`` (:data:`IN_PLACE`: here)."""
        if level == IN_PLACE:
            return self.op(text)
        at = self.levels[level]
        name = at.known.get(text)
        if name is None:
            name = self.fresh()
            at.known[text] = name
            at.lines.append(f"{name} = {text}")
        return name

    def start_block(self, label: str) -> None:
        """Begin a basic block; nothing computed in another block's line is reused, hoisted values are."""
        self.out = [f"{label}:"]
        self.parts.append(self.out)
        self.block = label
        self.memo = {}
        self.loaded = {}

    def open_level(self) -> int:
        """Open a level here, inside the current block; return its number."""
        head: list[str] = []
        self.out = []
        self.parts += (head, self.out)
        self.levels.append(Level(head))
        return len(self.levels) - 1

    def close_level(self) -> None:
        self.levels.pop()

    def new_sym(self, name: str, level: int, low: int | None = None, high: int | None = None) -> Sym:
        self.counter += 1
        return Sym(name, level, self.counter, low, high)

    def bind(self, var: Var, value: int | Linear) -> None:
        """Give a variable its meaning from here on."""
        if isinstance(value, int):
            if isinstance(self.env.get(var), Linear):
                self.epoch += 1
            self.ints[var] = value
        else:
            self.epoch += 1
            self.ints.pop(var, None)
        self.env[var] = value

    def bind_ramp(self, var: Var, start: int) -> None:
        """Let a variable be ``start`` plus the lane number; another start alone does not move base pointers."""
        if not (var in self.ints and isinstance(self.env.get(var), Linear)):
            self.epoch += 1
        self.env[var] = Linear(start, lane=1)
        self.ints[var] = start

    def lookup(self, var: Var) -> int | Linear:
        try:
            return self.env[var]
        except KeyError:
            raise InternalError(f"emit {self.fn.name}: variable {var.name!r} is used outside its loop") from None

    # ------------------------------------------------------------------------------------------ lanes

    def splat(self, text: str, element: str, lanes: int) -> str:
        """Copy a scalar to all lanes."""
        if text[0] != "%":
            return splat_literal(element, text, lanes)
        ty = vector(element, lanes)
        one = self.op(f"insertelement {ty} poison, {element} {text}, i64 0")
        return self.op(f"shufflevector {ty} {one}, {ty} poison, <{lanes} x i32> zeroinitializer")

    def widen(self, value: Value, element: str, lanes: int) -> str:
        """``value`` as an operand of ``lanes`` lanes."""
        text, have = value
        if have == lanes:
            return text
        if have:
            raise InternalError(f"emit {self.fn.name}: a value of {have} lanes where {lanes} are expected")
        return self.splat(text, element, lanes)

    def both_masks(self, a: str, b: str, lanes: int) -> str:
        """The lanes that are in two masks (0 lanes: two conditions)."""
        x, y = constant_mask(a), constant_mask(b)
        if x is not None and y is not None:
            return lane_list("i1", [p & q for p, q in zip(x, y, strict=True)])
        return self.op(f"and {vector('i1', lanes)} {a}, {b}")

    def declare(self, name: str, signature: str) -> str:
        """Note an external function; return its symbol. signature: ``double (double)`` without the name."""
        self.declarations[name] = signature
        return f"@{name}"

    # --------------------------------------------------------------------- supplied by the mixed-in parts

    def value(self, e: Expr) -> Value:
        raise NotImplementedError
