"""The loop IR: what a schedule becomes, and what LLVM IR is emitted from.

    Function := name, params: (Buffer, ...), body: Stmt, shared: Buffers, thread: Buffers
    Stmt     := For(var, begin, extent, kind, body)      kind: serial | unroll | vectorize | parallel
              | Let(var, value, body)
              | If(condition, then, otherwise)
              | Store(buffer, indices, value)
              | Alloc(buffer, body)                      a register or stack buffer, live in body
              | Prefetch(buffer, indices, locality)
              | Barrier                                  all threads meet; only outside parallel loops
              | Seq(stmts)
    Expr     := te.expr without Reduce; Read.source is a Buffer

A For runs ``var = begin, begin + 1, ..., begin + extent - 1``; an extent <= 0 runs nothing. The four kinds:

* ``serial``     a loop in the code.
* ``unroll``     constant begin and extent; the body is emitted once per value, with the value a constant.
* ``vectorize``  constant extent; the body is evaluated for all values at once, in lanes. It contains no loop
                 but ``unroll``, no Let of a varying value and no Barrier. An If on a condition that varies over
                 the lanes becomes a mask.
* ``parallel``   the threads share the iterations in contiguous equal chunks by thread number. Parallel loops do
                 not nest (a schedule fuses axes first). Outside of them each thread would do the same work, so
                 only Seq, Alloc, Let and Barrier stand above a parallel loop, and a nest without one runs on
                 thread 0 alone.

Indices are logical, one per dimension of the (physical) buffer shape, row-major; out-of-range
accesses are errors of the compiler, not wrapped or clipped. Every Store in a function is to a distinct point per
parallel iteration. Buffers do not alias one another. A buffer's scope:

* ``param``     memory that the caller passes; aligned to 64 bytes.
* ``shared``    scratch of the kernel that all threads see (a stage computed at root).
* ``thread``    scratch of one thread, too large for the stack.
* ``stack``     scratch of one thread on its stack.
* ``register``  as ``stack``, and every index is constant after unrolling, so that it is promoted to registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, Union

from ..te.expr import Expr, Var
from ..te.tensor import Source

Scope = Literal["param", "shared", "thread", "stack", "register"]
LoopKind = Literal["serial", "unroll", "vectorize", "parallel"]

LINE_BYTES = 64
"""A cache line: what a prefetch asks for."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Buffer(Source):
    """A block of memory with a row-major shape.

    past_caches  whole aligned vectors are stored past the caches
    """

    scope: Scope = "param"
    alignment: int = 64
    past_caches: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class For:
    var: Var
    begin: Expr
    extent: Expr
    kind: LoopKind
    body: Stmt


@dataclass(frozen=True, slots=True, eq=False)
class Let:
    var: Var
    value: Expr
    body: Stmt


@dataclass(frozen=True, slots=True, eq=False)
class If:
    condition: Expr
    then: Stmt
    otherwise: Stmt | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    buffer: Buffer
    indices: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Alloc:
    buffer: Buffer
    body: Stmt


@dataclass(frozen=True, slots=True, eq=False)
class Prefetch:
    """Ask for the cache line of one element. locality: 0 (use once) .. 3 (keep in all levels); write: to write it."""

    buffer: Buffer
    indices: tuple[Expr, ...]
    locality: int = 3
    write: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Barrier:
    pass


@dataclass(frozen=True, slots=True, eq=False)
class Seq:
    stmts: tuple[Stmt, ...]


Stmt: TypeAlias = Union[For, Let, If, Store, Alloc, Prefetch, Barrier, Seq]


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """One kernel.

    params   buffers that the caller passes, in the order of the arguments
    outputs  how many of them, counted from the end, are written
    shared, thread  scratch buffers of those scopes, used anywhere in the body
    in_place        pairs (position among the inputs, position among the outputs) that may be one and the same buffer
    """

    name: str
    params: tuple[Buffer, ...]
    outputs: int
    body: Stmt
    shared: tuple[Buffer, ...] = ()
    thread: tuple[Buffer, ...] = ()
    in_place: tuple[tuple[int, int], ...] = ()


def seq(*stmts: Stmt) -> Stmt:
    """Put statements one after another, flattening nested sequences."""
    flat: list[Stmt] = []
    for s in stmts:
        flat.extend(s.stmts if isinstance(s, Seq) else (s,))
    return flat[0] if len(flat) == 1 else Seq(tuple(flat))


def sub_stmts(s: Stmt) -> tuple[Stmt, ...]:
    """The statements directly inside ``s``."""
    match s:
        case For() | Let() | Alloc():
            return (s.body,)
        case If():
            return (s.then,) if s.otherwise is None else (s.then, s.otherwise)
        case Seq():
            return s.stmts
        case Store() | Prefetch() | Barrier():
            return ()


def walk_stmts(s: Stmt) -> Iterator[Stmt]:
    """Yield every statement, parents first."""
    yield s
    for inner in sub_stmts(s):
        yield from walk_stmts(inner)


def map_stmts(s: Stmt, fn: Callable[[Stmt], Stmt]) -> Stmt:
    """Rebuild ``s`` with ``fn`` applied to the statements directly inside; same object if none changed."""
    old = sub_stmts(s)
    new = [fn(x) for x in old]
    if all(a is b for a, b in zip(old, new, strict=True)):
        return s
    match s:
        case For():
            return For(s.var, s.begin, s.extent, s.kind, new[0])
        case Let():
            return Let(s.var, s.value, new[0])
        case Alloc():
            return Alloc(s.buffer, new[0])
        case If():
            return If(s.condition, new[0], new[1] if len(new) > 1 else None)
        case Seq():
            return seq(*new)
        case _:
            return s
