"""From the loop IR to LLVM IR text.

    emit_function(fn, target) -> text of a module with the kernel and the mathematical functions that it calls
    scratch_layout(buffers)   -> where each scratch buffer lies

Text is printed directly: making IR objects costs several times as much as the whole emission. Read in this order:
:mod:`.emit_core` (state), :mod:`.emit_index`, :mod:`.emit_address`, :mod:`.emit_memory`, :mod:`.emit_expr`,
:mod:`.emit_stmt`, this module, and :mod:`.mathlib` for exp, erf and the like.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InternalError
from ..target import Target
from . import mathlib
from .emit_core import Level, Linear
from .emit_index import add_forms
from .emit_stmt import StmtPart
from .nodes import Alloc, Barrier, Buffer, For, Function, Let, Seq, Stmt, Store, walk_stmts

SCRATCH_ALIGNMENT = 64


def emit_function(fn: Function, target: Target) -> str:
    """Print ``fn`` as an LLVM module with one external function of the convention in :mod:`.kernel`."""
    return Emitter(fn, target).module()


def scratch_layout(buffers: Sequence[Buffer]) -> tuple[tuple[int, ...], int]:
    """Offsets of scratch buffers in bytes, each aligned to 64, and the bytes that they take together."""
    offsets, total = [], 0
    for b in buffers:
        offsets.append(total)
        total += -(-b.size_bytes // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT
    return tuple(offsets), total


class Emitter(StmtPart):
    """One function: its parameters, its parallel regions and the module around them."""

    def module(self) -> str:
        self.parts.append(self.entry)
        self.levels.append(Level(self.entry))
        # code of the entry block goes after what is hoisted to it
        self.out = []
        self.parts.append(self.out)
        self._bind_params()
        self._top(self.fn.body)
        self._fence()
        self.out.append("ret void")
        body = "\n".join("\n".join(part) for part in self.parts if part)
        allocations = "\n".join(self.allocations())
        attributes = function_attributes(self.target)
        functions = mathlib.define(self.math.values(), self.features)
        declarations = [declare(name, signature) for name, signature in self.declarations.items()]
        return "\n".join(
            (
                f'target triple = "{self.target.triple}"',
                f"define void @{self.fn.name}({self._signature()}) #0 {{",
                "entry:",
                allocations,
                body,
                "}",
                *functions,
                *declarations,
                *(["!0 = !{i32 1}"] if self._bypasses_caches() else []),
                f"attributes #0 = {{ {attributes} }}",
                f"attributes #1 = {{ alwaysinline {attributes} }}",
                f"attributes #2 = {{ noinline {attributes} }}",
                "",
            )
        )

    def _outputs(self) -> tuple[Buffer, ...]:
        return self.fn.params[len(self.fn.params) - self.fn.outputs :]

    def _shared_pairs(self) -> list[tuple[Buffer, Buffer]]:
        outputs = self._outputs()
        return [(self.fn.params[i], outputs[o]) for i, o in self.fn.in_place]

    def _bind_params(self) -> None:
        for position, b in enumerate(self.fn.params):
            self.pointers[b] = f"%p{position}"
        for pointer, buffers in (("%shared", self.fn.shared), ("%thread", self.fn.thread)):
            for b, offset in zip(buffers, scratch_layout(buffers)[0], strict=True):
                self.pointers[b] = self.op_at(0, f"getelementptr inbounds i8, ptr {pointer}, i64 {offset}")
        for a, b in self._shared_pairs():
            self.aliases[a] = (*self.aliases.get(a, ()), b)
            self.aliases[b] = (*self.aliases.get(b, ()), a)

    def _signature(self) -> str:
        shared = {b for pair in self._shared_pairs() for b in pair}
        written = {s.buffer for s in walk_stmts(self.fn.body) if isinstance(s, Store)}
        params = []
        for position, b in enumerate(self.fn.params):
            notes = ["ptr", "captures(none)", "align 64"]
            if b not in shared:
                notes.append("noalias")
            if b not in written and b not in shared:
                notes.append("readonly")
            if b.size_bytes:
                notes.append(f"dereferenceable({b.size_bytes})")
            params.append(f"{' '.join(notes)} %p{position}")
        params += [f"ptr noalias captures(none) align 64 %{name}" for name in ("shared", "thread")]
        return ", ".join((*params, "i64 %tid", "i64 %threads"))

    # ---------------------------------------------------------------------------------- parallel regions

    def _top(self, s: Stmt) -> None:
        """Emit what stands outside parallel loops: every thread passes here; serial nests are thread 0's."""
        match s:
            case Seq():
                serial: list[Stmt] = []
                for part in s.stmts:
                    if _has_team_code(part):
                        self._on_first_thread(serial)
                        serial = []
                        self._top(part)
                    else:
                        serial.append(part)
                self._on_first_thread(serial)
            case Alloc() if _has_team_code(s):
                self.allocate(s.buffer)
                self._top(s.body)
            case Let() if _has_team_code(s):
                self.bind_let(s, lambda: self._top(s.body))
            case Barrier():
                self._barrier()
            case For(kind="parallel"):
                self._share(s)
            case _:
                if _has_team_code(s):
                    raise InternalError(
                        f"emit {self.fn.name}: a parallel loop or a barrier inside a serial loop or a branch"
                    )
                self._on_first_thread([s])

    def _on_first_thread(self, stmts: list[Stmt]) -> None:
        if not stmts:
            return
        self.counter += 1
        number = self.counter
        first = self.op_at(0, "icmp eq i64 %tid, 0")
        self.out.append(f"br i1 {first}, label %serial{number}, label %joined{number}")
        self.start_block(f"serial{number}")
        for s in stmts:
            self.statement(s)
        self.out.append(f"br label %joined{number}")
        self.start_block(f"joined{number}")

    def _share(self, s: For) -> None:
        """Give this thread its contiguous part of a parallel loop."""
        begin, extent = self.linear(s.begin), self.linear(s.extent)
        if isinstance(extent, int) and extent <= 0:
            return
        count = self.scalar(extent)
        after_this = self.op_at(0, "add i64 %tid, 1")
        edges = [self.op(f"udiv i64 {self.op(f'mul i64 {count}, {who}')}, %threads") for who in ("%tid", after_this)]
        low = 0 if isinstance(extent, int) else None
        high = extent if isinstance(extent, int) else None
        symbols = [self.new_sym(edge, self.open_level(), low, high) for edge in edges]
        first, end = (add_forms(begin, Linear(0, ((sym, 1),))) for sym in symbols)
        self.run_loop(s.var, first, end, lambda: self.statement(s.body), nonempty=False)
        self.close_level()
        self.close_level()

    def _bypasses_caches(self) -> bool:
        return any(map(self.bypasses, self.fn.params))

    def _fence(self) -> None:
        """Wait until others can read what was stored past the caches: such stores are not in order."""
        if self._bypasses_caches():
            self.declare("llvm.x86.sse.sfence", "void ()")
            self.out.append("call void @llvm.x86.sse.sfence()")

    def _barrier(self) -> None:
        self._fence()
        self.counter += 1
        number = self.counter
        self.declare("GOMP_barrier", "void ()")
        several = self.op_at(0, "icmp sgt i64 %threads, 1")
        self.out.append(f"br i1 {several}, label %meet{number}, label %met{number}")
        self.start_block(f"meet{number}")
        self.out.append("call void @GOMP_barrier()")
        self.out.append(f"br label %met{number}")
        self.start_block(f"met{number}")


def function_attributes(target: Target) -> str:
    """Attributes of every function of a module: the CPU, and the vector width that its code prefers."""
    wide = ' "prefer-vector-width"="512"' if target.vector_bits == 512 else ""
    return f'nounwind "target-cpu"="{target.cpu}" "target-features"="{target.features}"{wide}'


def declare(name: str, signature: str) -> str:
    """An external function; signature: ``double (double)``."""
    result, _, arguments = signature.partition(" ")
    return f"declare {result} @{name}{arguments}"


def _has_team_code(s: Stmt) -> bool:
    return any(isinstance(x, Barrier) or (isinstance(x, For) and x.kind == "parallel") for x in walk_stmts(s))
