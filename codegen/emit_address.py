"""Addresses: where each access of the loop IR lies, split into a hoisted base pointer and a constant displacement.

An access is a *site* (one Read, Store or Prefetch node) visited once per copy of the unrolled loops around it. Its
indices are flattened to ``constant + sum(stride * variable)`` once; the part over run-time variables becomes a base
pointer once per binding of those variables; each visit then only adds up the unrolled variables' constants.
Next: :mod:`.emit_memory`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..errors import InternalError
from ..te import dtype as dt
from ..te.expr import Binary, Const, Expr, Read, Var
from .emit_core import Core, Linear, Sym
from .emit_index import Form, IndexPart, add_forms, scale_form
from .llvm_text import MEMORY_TYPE, vector
from .nodes import Buffer, Prefetch, Store


@dataclass(slots=True, eq=False)
class Site:
    """One access in the IR. offset, lane and strides count elements; grain is the base's alignment in bytes; lines are
    the cache lines that a prefetch has asked for, counted from the base."""

    node: Read | Store | Prefetch
    buffer: Buffer
    size: int
    const: int
    terms: list[tuple[Var, int]]
    rest: list[tuple[Expr, int]]
    epoch: int = -1
    unrolled: list[tuple[Var, int]] = field(default_factory=list)
    base: str = ""
    offset: int = 0
    lane: int = 0
    vectors: tuple[tuple[str, int], ...] = ()
    grain: int = 1
    symbols: tuple[tuple[Sym, int], ...] = ()
    lines: set[int] = field(default_factory=set)


def flatten(buffer: Buffer, indices: tuple[Expr, ...]) -> tuple[int, list[tuple[Var, int]], list[tuple[Expr, int]]]:
    """Row-major offset of an element: constant, affine terms, and what is not affine with its stride."""
    const = 0
    terms: dict[Var, int] = {}
    rest: list[tuple[Expr, int]] = []
    stride = 1
    for dimension in range(len(indices) - 1, -1, -1):
        pending = [(indices[dimension], stride)]
        while pending:
            e, k = pending.pop()
            match e:
                case Var():
                    terms[e] = terms.get(e, 0) + k
                case Const():
                    const += int(e.value) * k
                case Binary(op="add", a=a, b=b):
                    pending += ((a, k), (b, k))
                case Binary(op="sub", a=a, b=b):
                    pending += ((a, k), (b, -k))
                case Binary(op="mul", a=a, b=Const(value=c)):
                    pending.append((a, k * int(c)))
                case Binary(op="mul", a=Const(value=c), b=b):
                    pending.append((b, k * int(c)))
                case _:
                    rest.append((e, k))
        stride *= buffer.shape[dimension]
    return const, [t for t in terms.items() if t[1]], rest


class AddressPart(IndexPart):
    """Adds addresses to the emitter. pointers: what each visible buffer's first element is called."""

    def __init__(self, *args: object) -> None:
        Core.__init__(self, *args)  # type: ignore[arg-type]
        self.sites: dict[int, Site] = {}
        self.pointers: dict[Buffer, str] = {}
        self.slots: dict[Buffer, dict[tuple[int, int], str]] = {}  # allocated buffers: (offset, lanes) -> pointer
        self.whole: set[Buffer] = set()  # allocated buffers that are also addressed at run time

    # ------------------------------------------------------------------------------------- addresses

    def locate(self, node: Read | Store | Prefetch, buffer: Buffer, indices: tuple[Expr, ...]) -> tuple[Site, int]:
        """The access's site with its run-time part bound, and the constant offset of this visit in elements."""
        site = self.sites.get(id(node))
        if site is None:
            const, terms, rest = flatten(buffer, indices)
            site = Site(node, buffer, dt.size_bytes(buffer.dtype), const, terms, rest)
            self.sites[id(node)] = site
        if site.epoch != self.epoch or site.rest:
            self._bind_site(site)
        offset = site.offset
        ints = self.ints
        for var, k in site.unrolled:
            offset += k * ints[var]
        return site, offset

    def _bind_site(self, site: Site) -> None:
        total: Form = site.const
        site.unrolled = []
        for var, k in site.terms:
            form = self.lookup(var)
            if var in self.ints:
                site.unrolled.append((var, k))
                if isinstance(form, Linear):
                    total = add_forms(total, Linear(0, lane=1), k)
            else:
                total = add_forms(total, form, k)
        for e, k in site.rest:
            total = add_forms(total, scale_form(self.linear(e), k))
        if isinstance(total, int):
            total = Linear(total)
        site.offset, site.lane, site.vectors, site.symbols = total.const, total.lane, total.vectors, total.terms
        site.grain = math.gcd(site.buffer.alignment, *(k * site.size for _, k in total.terms))
        site.base = self.pointer(site.buffer, total.terms)
        site.epoch = self.epoch
        site.lines = set()

    def pointer(self, buffer: Buffer, terms: tuple[tuple[Sym, int], ...]) -> str:
        """The address of ``buffer``'s element at the symbolic offset, computed level by level."""
        if not terms:
            try:
                return self.pointers[buffer]
            except KeyError:
                raise InternalError(f"emit {self.fn.name}: buffer {buffer.name!r} is used but not declared") from None
        if buffer in self.slots:
            self.whole.add(buffer)
        sym, k = terms[-1]
        base = self.pointer(buffer, terms[:-1])
        element = MEMORY_TYPE[buffer.dtype]
        name = sym.name
        if k < 0:
            name = self.op_at(sym.level, f"mul i64 {name}, {k}")
        elif k != 1:
            element = f"[{k} x {element}]"
        return self.op_at(sym.level, f"getelementptr {element}, ptr {base}, i64 {name}")

    def displaced(self, site: Site, offset: int, lanes: int) -> tuple[str, int]:
        """Pointer to ``lanes`` elements at ``offset`` from the site's base, and its alignment in bytes."""
        distance = offset * site.size
        bits = site.grain | distance
        alignment = bits & -bits
        slots = self.slots.get(site.buffer)
        if slots is not None:
            if not site.symbols:
                key = (offset, lanes)
                name = slots.get(key)
                if name is None:
                    name = slots[key] = f"{site.base}.{offset}.{lanes}".replace("-", "m")
                return name, alignment
            self.whole.add(site.buffer)
        if not distance:
            return site.base, alignment
        return self.op(f"getelementptr i8, ptr {site.base}, i64 {distance}"), alignment

    # ------------------------------------------------------------------------------------ allocation

    def allocate(self, buffer: Buffer) -> None:
        """Make a register or stack buffer visible; its memory is laid out by :meth:`allocations`."""
        if buffer not in self.slots:
            self.pointers[buffer] = f"%b{len(self.slots)}"
            self.slots[buffer] = {}

    def allocations(self) -> list[str]:
        """Instructions of the entry block that define the pointers to allocated buffers.

        A buffer whose accesses are all at constants and do not overlap is cut into one variable per access, which
        LLVM promotes to registers; any other is one piece of memory.
        """
        lines = []
        for buffer, slots in self.slots.items():
            base, element = self.pointers[buffer], MEMORY_TYPE[buffer.dtype]
            ordered = sorted(slots)
            neighbours = zip(ordered, ordered[1:], strict=False)
            apart = all(at + max(lanes, 1) <= then for (at, lanes), (then, _) in neighbours)
            if apart and buffer not in self.whole:
                for (_, lanes), name in slots.items():
                    lines.append(f"{name} = alloca {vector(element, lanes)}, align {buffer.alignment}")
                continue
            lines.append(f"{base} = alloca [{max(buffer.elements, 1)} x {element}], align {buffer.alignment}")
            lines += [f"{name} = getelementptr {element}, ptr {base}, i64 {at}" for (at, _), name in slots.items()]
        return lines
