"""Statements: loops as rotated basic blocks, unrolled loops by repetition, vectorized loops in chunks of lanes.

A vectorized loop of ``n`` values runs in chunks of as many lanes as a register holds of the widest element type in
its body, then one chunk for the rest; very many chunks are a loop in the code. Next: :mod:`.emit`, which puts a whole
function together.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InternalError
from ..te import dtype as dt
from ..te.expr import Const, Expr, Read, Var
from ..te.traversal import distinct, walk
from .emit_core import Linear
from .emit_expr import ExprPart
from .emit_index import Form, add_forms, scale_form
from .nodes import Alloc, Barrier, Buffer, For, If, Let, Prefetch, Seq, Stmt, Store, walk_stmts

MAX_CHUNKS = 16
"""A vectorized loop of more registers than this becomes a run-time loop of one register's width."""


class StmtPart(ExprPart):
    """Adds statements to the emitter."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.widths: dict[int, int] = {}

    def statement(self, s: Stmt) -> None:
        """Emit ``s`` for one thread."""
        match s:
            case Store():
                self.write(s, self.value(s.value))
            case For():
                self._loop(s)
            case Seq():
                for part in s.stmts:
                    self.statement(part)
            case If():
                self._branch(s)
            case Let():
                self.bind_let(s, lambda: self.statement(s.body))
            case Alloc():
                self.allocate(s.buffer)
                self.loaded.pop(s.buffer, None)
                self.statement(s.body)
            case Prefetch():
                self.prefetch(s)
            case Barrier():
                raise InternalError(f"emit {self.fn.name}: a barrier inside a loop or a branch")

    # --------------------------------------------------------------------------------------------- loops

    def _loop(self, s: For) -> None:
        begin, extent = self.linear(s.begin), self.linear(s.extent)
        if isinstance(extent, int) and extent <= 0:
            return
        match s.kind:
            case "unroll":
                self._unroll(s, begin, extent)
            case "vectorize":
                base = Var(s.var.name)
                self.anchored(begin, base, lambda: self._vectorize(s, self.lookup(base), extent))
            case "serial":
                if extent == 1:
                    self.anchored(begin, s.var, lambda: self.statement(s.body))
                else:
                    end = add_forms(begin, extent)
                    self.run_loop(s.var, begin, end, lambda: self.statement(s.body), nonempty=isinstance(extent, int))
            case "parallel":
                raise InternalError(f"emit {self.fn.name}: parallel loop {s.var.name!r} inside another loop")

    def _unroll(self, s: For, begin: Form, extent: Form) -> None:
        if not isinstance(extent, int):
            raise InternalError(f"emit {self.fn.name}: extent of unrolled loop {s.var.name!r} is not constant")
        for i in range(extent):
            self.bind(s.var, add_forms(begin, i))
            self.statement(s.body)

    def _vectorize(self, s: For, begin: Form, extent: Form) -> None:
        if not isinstance(extent, int):
            raise InternalError(f"emit {self.fn.name}: extent of vectorized loop {s.var.name!r} is not constant")
        if self.lanes:
            raise InternalError(f"emit {self.fn.name}: vectorized loop {s.var.name!r} inside another")
        width = self.widths.get(id(s))
        if width is None:
            width = self.widths[id(s)] = self.target.vector_bits // _widest_bits(s.body)
        start = 0
        if extent // width > MAX_CHUNKS and not _uses_registers(s.body):
            chunk = Var(s.var.name)
            start = extent // width * width

            def one_chunk() -> None:
                self._chunk(s, add_forms(begin, scale_form(self.lookup(chunk), width)), width)

            self.run_loop(chunk, 0, extent // width, one_chunk, nonempty=True)
        while start < extent:
            lanes = min(width, extent - start)
            self._chunk(s, add_forms(begin, start), lanes)
            start += lanes

    def _chunk(self, s: For, first: Form, lanes: int) -> None:
        """Emit the body of a vectorized loop for the values ``first .. first + lanes - 1`` at once."""
        self.lanes = lanes if lanes > 1 else 0
        if not self.lanes:
            self.bind(s.var, first)
        elif isinstance(first, int):
            self.bind_ramp(s.var, first)
        else:
            self.bind(s.var, add_forms(first, Linear(0, lane=1)))
        self.statement(s.body)
        self.lanes = 0

    def run_loop(self, var: Var, begin: Form, end: Form, body: Callable[[], None], nonempty: bool) -> None:
        """A loop in the code, its test at the bottom; skipped whole when it may be empty."""
        self.counter += 1
        number = self.counter
        first, last = self.scalar(begin), self.scalar(end)
        low, high = self.bounds(begin)[0], self.bounds(end)[1]
        if nonempty:
            self.out.append(f"br label %loop{number}")
        else:
            some = self.op(f"icmp slt i64 {first}, {last}")
            self.out.append(f"br i1 {some}, label %before{number}, label %after{number}")
            self.start_block(f"before{number}")
            self.out.append(f"br label %loop{number}")
        before = self.block
        self.start_block(f"loop{number}")
        phi_at = self.out
        name = f"%{_letters(var.name)}{number}"
        level = self.open_level()
        sym = self.new_sym(name, level, low, None if high is None else high - 1)
        self.bind(var, Linear(0, ((sym, 1),)))
        body()
        after = f"%next{number}"
        phi_at.append(f"{name} = phi i64 [ {first}, %{before} ], [ {after}, %{self.block} ]")
        self.out.append(f"{after} = add nsw i64 {name}, 1")
        self.out.append(f"%more{number} = icmp slt i64 {after}, {last}")
        self.out.append(f"br i1 %more{number}, label %loop{number}, label %after{number}")
        self.close_level()
        self.start_block(f"after{number}")

    # ---------------------------------------------------------------------------------- scopes and branches

    def bind_let(self, s: Let, body: Callable[[], None]) -> None:
        """Give a Let's variable its value while ``body`` is emitted."""
        if s.var.dtype != dt.INDEX:
            self.values[s.var] = self.value(s.value)
            body()
            return
        form = self.linear(s.value)
        if isinstance(form, Linear) and form.varies:
            raise InternalError(f"emit {self.fn.name}: Let {s.var.name!r} varies over the lanes")
        self.anchored(form, s.var, body)

    def anchored(self, form: Form, var: Var, body: Callable[[], None]) -> None:
        """Bind ``var`` to a scalar form; one that depends on memory gets a level of its own, so that what is
        computed from it can be used in every block of ``body``."""
        if isinstance(form, int) or all(sym.level < len(self.levels) for sym, _ in form.terms):
            self.bind(var, form)
            body()
            return
        low, high = self.bounds(form)
        text = self.scalar(form)
        self.bind(var, Linear(0, ((self.new_sym(text, self.open_level(), low, high), 1),)))
        body()
        self.close_level()

    def _branch(self, s: If) -> None:
        chosen = self.condition(s.condition)
        if isinstance(chosen, bool):
            if chosen:
                self.statement(s.then)
            elif s.otherwise is not None:
                self.statement(s.otherwise)
            return
        text, lanes = chosen
        if lanes:
            self._masked(s.then, text, lanes)
            if s.otherwise is not None:
                self._masked(s.otherwise, self.invert(chosen)[0], lanes)
            return
        self.counter += 1
        number = self.counter
        other = "else" if s.otherwise is not None else "end"
        self.out.append(f"br i1 {text}, label %then{number}, label %{other}{number}")
        self.start_block(f"then{number}")
        self.statement(s.then)
        self.out.append(f"br label %end{number}")
        if s.otherwise is not None:
            self.start_block(f"else{number}")
            self.statement(s.otherwise)
            self.out.append(f"br label %end{number}")
        self.start_block(f"end{number}")

    def _masked(self, s: Stmt, mask: str, lanes: int) -> None:
        saved = self.mask
        self.mask = mask if saved is None else self.both_masks(saved, mask, lanes)
        self.statement(s)
        self.mask = saved


def _uses_registers(s: Stmt) -> bool:
    return any(isinstance(x, Store) and _touches_register(x) for x in walk_stmts(s))


def _touches_register(s: Store) -> bool:
    buffers = [s.buffer, *(x.source for x in walk(s.value) if isinstance(x, Read))]
    return any(isinstance(b, Buffer) and b.scope == "register" for b in buffers)


def _widest_bits(s: Stmt) -> int:
    """Bits of the widest element that a statement stores or reads (indices do not count)."""
    widest = 8
    for x in walk_stmts(s):
        if isinstance(x, Store):
            widest = max(widest, dt.bits(x.buffer.dtype), _read_bits(x.value))
    return widest


def _read_bits(e: Expr) -> int:
    kinds = [8]
    for x in distinct(e):
        if isinstance(x, Read) or (not isinstance(x, (Var, Const)) and dt.is_float(x.dtype)):
            kinds.append(dt.bits(x.dtype))
    return max(kinds)


def _letters(name: str) -> str:
    """A variable's name as part of an LLVM name."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name) + "_"
