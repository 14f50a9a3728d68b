"""Check that a function of the loop IR is well formed: every rule stated in :mod:`.nodes`.

Run before and after each pass when ``LUTHIER_VERIFY`` is set, and in tests. A violation is a defect of the
pass that made the function, so it raises InternalError and names the statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InternalError
from ..te import dtype as dt
from ..te.expr import Binary, Compare, Const, Expr, Read, Reduce, Select, Var
from ..te.traversal import free_vars, walk
from .nodes import Alloc, Barrier, Buffer, For, Function, If, Let, Prefetch, Seq, Stmt, Store, walk_stmts

_LOCAL = ("register", "stack")


def verify(fn: Function) -> None:
    """Raise InternalError, naming the function and the statement, at the first rule that ``fn`` breaks."""
    _Verifier(fn).run()


class _Verifier:
    def __init__(self, fn: Function) -> None:
        self.fn = fn
        self.visible: set[Buffer] = {*fn.params, *fn.shared, *fn.thread}
        self.defined: set[Var] = set()
        self.constant: set[Var] = set()  # variables of unrolled and vectorized loops
        self.varying: set[Var] = set()
        self.outputs = set(fn.params[len(fn.params) - fn.outputs :])
        self.path: list[str] = []

    def run(self) -> None:
        fn = self.fn
        if not 0 <= fn.outputs <= len(fn.params):
            self.fail(f"outputs is {fn.outputs}, but there are {len(fn.params)} parameters")
        for scope, buffers in (("param", fn.params), ("shared", fn.shared), ("thread", fn.thread)):
            for b in buffers:
                self.require(b.scope == scope, f"buffer {b.name!r} of scope {b.scope} is listed under {scope}")
        for i, o in fn.in_place:
            if not (0 <= i < len(fn.params) - fn.outputs and 0 <= o < fn.outputs):
                self.fail(f"in_place ({i}, {o}) does not name an input and an output")
            a, b = fn.params[i], fn.params[len(fn.params) - fn.outputs + o]
            self.require(a.size_bytes == b.size_bytes, f"in_place: {a.name!r} and {b.name!r} differ in size")
        self.top(fn.body)

    def fail(self, what: str) -> None:
        where = " > ".join(self.path) or "body"
        raise InternalError(f"verify {self.fn.name}, at {where}: {what}")

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            self.fail(what)

    @contextmanager
    def inside(self, where: str, *variables: Var) -> Iterator[None]:
        for v in variables:
            self.require(v not in self.defined, f"variable {v.name!r} is defined twice on one path")
        self.defined.update(variables)
        self.path.append(where)
        yield
        self.path.pop()
        self.defined.difference_update(variables)

    # ------------------------------------------------------------------------------------- statements

    def top(self, s: Stmt) -> None:
        """What stands outside parallel loops: only Seq, Alloc, Let and Barrier may lead to a parallel loop."""
        match s:
            case Seq():
                for part in s.stmts:
                    self.top(part)
            case Barrier():
                pass
            case Alloc():
                with self.allocated(s.buffer):
                    self.top(s.body)
            case Let() if _has_team_code(s):
                self.expression(s.value, s.var.dtype, "value")
                with self.inside(f"let {s.var.name}", s.var):
                    self.top(s.body)
            case For(kind="parallel"):
                self.loop(s)
            case _:
                self.stmt(s, vector=False)

    def stmt(self, s: Stmt, vector: bool) -> None:
        match s:
            case For():
                self.require(s.kind != "parallel", f"parallel loop {s.var.name!r} stands inside other code")
                self.require(
                    not vector or s.kind == "unroll", f"{s.kind} loop {s.var.name!r} stands in a vectorized loop"
                )
                self.loop(s, vector)
            case Let():
                self.expression(s.value, s.var.dtype, f"value of {s.var.name!r}")
                self.require(not self.varies(s.value), f"let {s.var.name!r} varies over the lanes")
                with self.inside(f"let {s.var.name}", s.var):
                    self.stmt(s.body, vector)
            case If():
                self.expression(s.condition, dt.BOOL, "condition")
                with self.inside("if"):
                    self.stmt(s.then, vector)
                if s.otherwise is not None:
                    with self.inside("else"):
                        self.stmt(s.otherwise, vector)
            case Store():
                self.store(s)
            case Alloc():
                with self.allocated(s.buffer):
                    self.stmt(s.body, vector)
            case Prefetch():
                self.access(s.buffer, s.indices, "prefetch")
                self.require(0 <= s.locality <= 3, f"prefetch: locality {s.locality} is not in 0..3")
            case Barrier():
                self.fail("a barrier stands inside a loop or a branch")
            case Seq():
                for part in s.stmts:
                    self.stmt(part, vector)

    def loop(self, s: For, vector: bool = False) -> None:
        self.require(s.var.dtype == dt.INDEX, f"loop variable {s.var.name!r} is {s.var.dtype}, not {dt.INDEX}")
        self.expression(s.begin, dt.INDEX, f"begin of {s.var.name!r}")
        self.expression(s.extent, dt.INDEX, f"extent of {s.var.name!r}")
        for bound in (s.begin, s.extent):
            self.require(not self.varies(bound), f"the bounds of {s.var.name!r} vary over the lanes")
        if s.kind in ("unroll", "vectorize"):
            self.require(
                free_vars(s.extent) <= self.constant and not _reads(s.extent),
                f"extent of {s.kind} loop {s.var.name!r} is not constant",
            )
        if s.kind == "unroll":
            self.require(
                free_vars(s.begin) <= self.constant and not _reads(s.begin),
                f"begin of unrolled loop {s.var.name!r} is not constant",
            )
            self.constant.add(s.var)
        if s.kind == "vectorize":
            if free_vars(s.begin) <= self.constant and not _reads(s.begin):
                self.constant.add(s.var)
            self.varying.add(s.var)
        with self.inside(f"{s.kind} {s.var.name}", s.var):
            self.stmt(s.body, vector or s.kind == "vectorize")
        self.constant.discard(s.var)
        self.varying.discard(s.var)

    @contextmanager
    def allocated(self, b: Buffer) -> Iterator[None]:
        self.require(b.scope in _LOCAL, f"alloc {b.name!r} has scope {b.scope}; only register and stack are allocated")
        self.require(b not in self.visible, f"buffer {b.name!r} is allocated twice on one path")
        self.visible.add(b)
        with self.inside(f"alloc {b.name}"):
            yield
        self.visible.discard(b)

    def store(self, s: Store) -> None:
        b = s.buffer
        if b.scope == "param":
            self.require(b in self.outputs, f"input {b.name!r} is written")
        self.access(b, s.indices, "store")
        self.expression(s.value, b.dtype, f"value stored to {b.name!r}")
        if self.varies(s.value):
            self.require(
                any(self.varies(i) for i in s.indices),
                f"a value that varies over the lanes is stored to one element of {b.name!r}",
            )

    # ------------------------------------------------------------------------------------ expressions

    def access(self, b: Buffer, indices: tuple[Expr, ...], what: str) -> None:
        self.require(b in self.visible, f"{what}: buffer {b.name!r} is not visible here")
        self.require(len(indices) == len(b.shape), f"{what}: {len(indices)} indices for {b.name!r} of shape {b.shape}")
        for position, index in enumerate(indices):
            self.expression(index, dt.INDEX, f"index {position} of {b.name!r}")
            if isinstance(index, Const):
                self.require(
                    what == "prefetch" or 0 <= index.value < b.shape[position],
                    f"{what}: index {position} of {b.name!r} is {index.value}, its extent is {b.shape[position]}",
                )
            if b.scope == "register":
                loose = sorted(v.name for v in free_vars(index) - self.constant)
                self.require(
                    not loose and not _reads(index),
                    f"{what}: index {position} of register buffer {b.name!r} is not constant after unrolling "
                    f"({', '.join(loose) or 'it reads memory'})",
                )

    def expression(self, e: Expr, dtype: str, what: str) -> None:
        self.require(e.dtype == dtype, f"{what} is {e.dtype}, not {dtype}")
        for x in walk(e):
            match x:
                case Reduce():
                    self.fail(f"{what} holds a reduction that was not lowered")
                case Var():
                    self.require(x in self.defined, f"{what}: variable {x.name!r} is not defined here")
                case Read():
                    if isinstance(x.source, Buffer):
                        self.access(x.source, x.indices, "read")
                    else:
                        self.fail(f"{what} reads {x.source!r}, which is not a buffer")
                    self.require(x.dtype == x.source.dtype, f"{what}: a read of {x.source!r} is typed {x.dtype}")
                case Binary() | Compare():
                    self.require(x.a.dtype == x.b.dtype, f"{what}: operands are {x.a.dtype} and {x.b.dtype}")
                case Select():
                    self.require(x.condition.dtype == dt.BOOL, f"{what}: a select's condition is {x.condition.dtype}")
                    self.require(x.a.dtype == x.b.dtype, f"{what}: a select's sides are {x.a.dtype} and {x.b.dtype}")
                case _:
                    pass

    def varies(self, e: Expr) -> bool:
        return bool(self.varying) and not free_vars(e).isdisjoint(self.varying)


def _reads(e: Expr) -> bool:
    return any(isinstance(x, Read) for x in walk(e))


def _has_team_code(s: Stmt) -> bool:
    return any(isinstance(x, Barrier) or (isinstance(x, For) and x.kind == "parallel") for x in walk_stmts(s))
