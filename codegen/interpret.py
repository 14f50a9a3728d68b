"""Execute the loop IR in plain Python: the slow oracle that emitted code is tested against.

Every access is checked against its dimension, reads of scratch that was never written are errors, and so are two
parallel iterations that store to one element. Threads are simulated one after another between barriers, in
descending order of their number, so that code that relies on an order not guaranteed is more likely to be caught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InternalError
from ..te import dtype as dt
from ..te.expr import Binary, Call, Cast, Compare, Const, Expr, Not, Read, Reduce, Select, Var
from .nodes import Alloc, Barrier, Buffer, For, Function, If, Let, Prefetch, Seq, Stmt, Store

Array: TypeAlias = NDArray[Any]


Writers: TypeAlias = dict[tuple[Buffer, tuple[int, ...]], tuple[For, int]]


class _Memory:
    """One buffer's elements, and which of them hold a value."""

    __slots__ = ("array", "written")

    def __init__(self, array: Array, written: bool) -> None:
        self.array = array
        self.written = np.full(array.shape, written)


def interpret(fn: Function, arrays: Sequence[Array], threads: int = 1) -> None:
    """Run ``fn`` on ``arrays`` (one per parameter, of its shape and dtype; outputs are written in place).

    Raises InternalError, naming the buffer and the index, for an access out of bounds, a read of memory that
    was not written, or two iterations of a parallel loop that write one element.
    """
    if len(arrays) != len(fn.params):
        raise InternalError(f"interpret {fn.name}: {len(arrays)} arrays for {len(fn.params)} parameters")
    memory: dict[Buffer, _Memory] = {}
    first_output = len(fn.params) - fn.outputs
    paired = {first_output + o for _, o in fn.in_place}
    for position, (b, array) in enumerate(zip(fn.params, arrays, strict=True)):
        if array.shape != b.shape or array.dtype != dt.to_numpy(b.dtype):
            raise InternalError(
                f"interpret {fn.name}: {b.name!r} is {array.dtype}{list(array.shape)}, not {b.dtype}{list(b.shape)}"
            )
        memory[b] = _Memory(array, position < first_output or position in paired)
    for b in fn.shared:
        memory[b] = _scratch(b)
    writers: Writers = {}
    team = [_Thread(fn, dict(memory), tid, threads, writers) for tid in range(threads)]
    for t in team:
        t.memory.update({b: _scratch(b) for b in fn.thread})
    running = [t.top(fn.body) for t in reversed(team)]
    while running:
        arrived = [next(r, None) is not None for r in running]
        if any(arrived) != all(arrived):
            raise InternalError(f"interpret {fn.name}: a barrier that not all threads reach")
        if not all(arrived):
            return


def _scratch(b: Buffer) -> _Memory:
    return _Memory(np.zeros(b.shape, dt.to_numpy(b.dtype)), written=False)


class _Thread:
    def __init__(self, fn: Function, memory: dict[Buffer, _Memory], tid: int, threads: int, writers: Writers) -> None:
        self.fn, self.memory, self.tid, self.threads = fn, memory, tid, threads
        self.env: dict[Var, Any] = {}
        self.loop: For | None = None  # the parallel loop that is running, and its iteration
        self.iteration = 0
        self.writers = writers

    def fail(self, what: str) -> InternalError:
        bound = ", ".join(f"{v.name}={x}" for v, x in self.env.items())
        return InternalError(f"interpret {self.fn.name}: {what} (at {bound or 'the top'})")

    # ------------------------------------------------------------------------------------- statements

    def top(self, s: Stmt) -> Iterator[bool]:
        """Run ``s`` as one of the team; yield at each barrier."""
        match s:
            case Seq():
                for part in s.stmts:
                    yield from self.top(part)
            case Barrier():
                yield True
            case Alloc():
                self.memory[s.buffer] = _scratch(s.buffer)
                yield from self.top(s.body)
            case Let():
                self.env[s.var] = self.value(s.value)
                yield from self.top(s.body)
                del self.env[s.var]
            case For(kind="parallel"):
                begin, extent = int(self.value(s.begin)), max(int(self.value(s.extent)), 0)
                first, end = extent * self.tid // self.threads, extent * (self.tid + 1) // self.threads
                self.loop = s
                for i in range(begin + first, begin + end):
                    self.iteration = self.env[s.var] = i
                    self.run(s.body)
                self.loop = None
                self.env.pop(s.var, None)
            case _:
                if self.tid == 0:
                    self.run(s)

    def run(self, s: Stmt) -> None:
        match s:
            case For():
                self.iterate(s, int(self.value(s.begin)), int(self.value(s.extent)))
            case Seq():
                for part in s.stmts:
                    self.run(part)
            case Store():
                value = self.value(s.value)
                at = self.locate(s.buffer, s.indices, "store to")
                self.claim(s.buffer, at)
                memory = self.memory[s.buffer]
                memory.array[at] = value
                memory.written[at] = True
            case If():
                if self.value(s.condition):
                    self.run(s.then)
                elif s.otherwise is not None:
                    self.run(s.otherwise)
            case Let():
                self.env[s.var] = self.value(s.value)
                self.run(s.body)
                del self.env[s.var]
            case Alloc():
                self.memory[s.buffer] = _scratch(s.buffer)
                self.run(s.body)
            case Prefetch():
                pass
            case Barrier():
                raise self.fail("a barrier inside a loop or a branch")

    def claim(self, b: Buffer, at: tuple[int, ...]) -> None:
        """Note that this iteration of a parallel loop writes an element that all threads see."""
        loop = self.loop
        if loop is None or b.scope not in ("param", "shared"):
            return
        here = (loop, self.iteration)
        before = self.writers.setdefault((b, at), here)
        if before[0] is loop and before != here:
            raise self.fail(f"store to {b.name}{list(at)} by parallel iterations {before[1]} and {here[1]}")
        self.writers[(b, at)] = here

    def iterate(self, s: For, begin: int, extent: int) -> None:
        for i in range(begin, begin + max(extent, 0)):
            self.env[s.var] = i
            self.run(s.body)
        self.env.pop(s.var, None)

    def locate(self, b: Buffer, indices: tuple[Expr, ...], what: str) -> tuple[int, ...]:
        at = tuple(int(self.value(i)) for i in indices)
        if len(at) != len(b.shape) or not all(0 <= i < n for i, n in zip(at, b.shape, strict=True)):
            raise self.fail(f"{what} {b.name}{list(at)}, which is outside its shape {list(b.shape)}")
        if b not in self.memory:
            raise self.fail(f"{what} {b.name}{list(at)}, which is not allocated here")
        return at

    # ------------------------------------------------------------------------------------ expressions

    def value(self, e: Expr) -> Any:
        """The value of ``e``: a Python int for int64, else a NumPy scalar of its dtype."""
        match e:
            case Const():
                return int(e.value) if e.dtype == dt.INDEX else dt.to_numpy(e.dtype).type(e.value)
            case Var():
                if e not in self.env:
                    raise self.fail(f"variable {e.name!r} is used outside its loop")
                return self.env[e]
            case Read():
                b = e.source
                assert isinstance(b, Buffer)
                at = self.locate(b, e.indices, "read of")
                memory = self.memory[b]
                if not memory.written[at]:
                    raise self.fail(f"read of {b.name}{list(at)}, which was never written")
                return self.typed(memory.array[at], e.dtype)
            case Select():
                return self.value(e.a if self.value(e.condition) else e.b)
            case Not():
                return np.bool_(not self.value(e.a))
            case Compare():
                return np.bool_(_COMPARE[e.op](self.value(e.a), self.value(e.b)))
            case Binary():
                return self.binary(e)
            case Cast():
                return self.cast(self.value(e.a), e)
            case Call():
                return self.call(e)
            case Reduce():
                raise self.fail("a reduction that was not lowered")

    @staticmethod
    def typed(value: Any, dtype: str) -> Any:
        """Round or wrap a result to ``dtype``."""
        if dtype == dt.INDEX:
            wrapped = int(value) & (2**64 - 1)
            return wrapped - 2**64 if wrapped >> 63 else wrapped
        if dt.is_integer(dtype):
            width = dt.bits(dtype)
            wrapped = int(value) & ((1 << width) - 1)
            if dtype in dt.SIGNED and wrapped >> (width - 1):
                wrapped -= 1 << width
            return dt.to_numpy(dtype).type(wrapped)
        with np.errstate(all="ignore"):
            return dt.to_numpy(dtype).type(value)

    def binary(self, e: Binary) -> Any:
        a, b = self.value(e.a), self.value(e.b)
        if e.op in ("and", "or"):
            return np.bool_((a and b) if e.op == "and" else (a or b))
        if e.op == "min":
            return b if b < a else a
        if e.op == "max":
            return b if a < b else a
        if dt.is_float(e.dtype):
            wide = np.float64 if e.dtype == "float64" else np.float32
            with np.errstate(all="ignore"):
                return self.typed(_FLOAT[e.op](wide(a), wide(b)), e.dtype)
        if e.op in ("floordiv", "floormod") and int(b) == 0:
            raise self.fail("integer division by zero")
        return self.typed(_INTEGER[e.op](int(a), int(b)), e.dtype)

    def cast(self, a: Any, e: Cast) -> Any:
        if e.dtype == dt.BOOL:
            return np.bool_(a != 0)
        if dt.is_float(e.a.dtype) and dt.is_integer(e.dtype):
            if not np.isfinite(a):
                raise self.fail(f"cast of {a} to {e.dtype}")
            return self.typed(int(float(a)), e.dtype)
        return self.typed(a, e.dtype)

    def call(self, e: Call) -> Any:
        a = self.value(e.args[0])
        if not dt.is_float(e.args[0].dtype):
            return self.typed(abs(int(a)), e.dtype)
        with np.errstate(all="ignore"):
            return self.typed(_CALLS[e.fn](np.float64(a)), e.dtype)


def _erf(x: Any) -> Any:
    import math

    return np.float64(math.erf(x))


def _sigmoid(x: Any) -> Any:
    e = np.exp(-abs(x))
    return (1.0 if x >= 0 else e) / (1.0 + e)


_COMPARE = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}
_FLOAT = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: np.power(a, b),
}
_INTEGER = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "floormod": lambda a, b: a % b,
}
_CALLS: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh, "erf": _erf, "sigmoid": _sigmoid,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc, "abs": np.abs,
    "isnan": np.isnan, "isinf": np.isinf,
}  # fmt: skip
