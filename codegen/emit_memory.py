"""Loads and stores: lanes, strides and masks.

A load is plain where its lanes are neighbours in memory, a few shuffled loads for small strides, else a gather; a
scalar one is broadcast where it is used. Under a mask or a guard, what is not known to be in bounds is not touched.
Values loaded or stored in a basic block are reused in it. Next: :mod:`.emit_expr`.
"""

from __future__ import annotations

from ..errors import InternalError
from ..te import dtype as dt
from ..te.expr import Expr, Read
from .emit_address import AddressPart, Site
from .emit_core import Linear, Loaded, Value
from .llvm_text import MEMORY_TYPE, VALUE_TYPE, constant_mask, lane_list, mangled, splat_literal, vector
from .nodes import LINE_BYTES, Buffer, Prefetch, Store

MAX_STRIDE = 4  # larger constant strides are gathered
NONTEMPORAL = ", !nontemporal !0"
"""Of a store past the caches. The module defines the metadata; what was stored so is fenced before others read it."""


class MemoryPart(AddressPart):
    """Adds loads and stores to the emitter. aliases: the buffers that may be the same memory as another."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.aliases: dict[Buffer, tuple[Buffer, ...]] = {}

    # ----------------------------------------------------------------------------------------- reads

    def read(self, e: Read) -> Value:
        """The element(s) that ``e`` denotes; never touches memory outside the buffer."""
        buffer = e.source
        if not isinstance(buffer, Buffer):
            raise InternalError(f"emit {self.fn.name}: {buffer!r} is not a buffer of the loop IR")
        site, offset = self.locate(e, buffer, e.indices)
        lanes = self.lanes if site.lane or site.vectors else 0
        if lanes and (site.lane != 1 or site.vectors):
            return self._load_scattered(site, offset, e), lanes
        if (self.mask is not None or self.guard is not None) and not self._in_bounds(buffer, e.indices):
            return self._load_guarded(site, offset, lanes), lanes
        loaded = self.loaded.get(buffer)
        if loaded is None:
            loaded = self.loaded[buffer] = Loaded(grid=(site.base, lanes))
        key = (site.base, offset, lanes)
        text = loaded.entries.get(key)
        if text is None:
            text = loaded.entries[key] = self._load(site, offset, lanes)
            if loaded.grid != (site.base, lanes) or (lanes and offset % lanes):
                loaded.grid = None
        return text, lanes

    def _load(self, site: Site, offset: int, lanes: int) -> str:
        pointer, alignment = self.displaced(site, offset, lanes)
        if self._is_ragged(site, lanes):
            full = 1 << (lanes - 1).bit_length()
            wide = self._masked_load(site, pointer, alignment, lane_list("i1", [i < lanes for i in range(full)]), full)
            ty = vector(MEMORY_TYPE[site.buffer.dtype], full)
            picked = lane_list("i32", list(range(lanes)))
            text = self.op(f"shufflevector {ty} {wide}, {ty} poison, <{lanes} x i32> {picked}")
        else:
            text = self.fresh()
            ty = vector(MEMORY_TYPE[site.buffer.dtype], lanes)
            self.out.append(f"{text} = load {ty}, ptr {pointer}, align {alignment}")
        return self._from_memory(site.buffer.dtype, text, lanes)

    def _is_ragged(self, site: Site, lanes: int) -> bool:
        """Whether a number of lanes that is no power of two is better loaded and stored under a mask."""
        if lanes & (lanes - 1) == 0 or site.buffer in self.slots:
            return False
        return "avx512bw" in self.features or ("avx2" in self.features and site.size >= 4)

    def _masked_load(self, site: Site, pointer: str, alignment: int, mask: str, lanes: int) -> str:
        element = MEMORY_TYPE[site.buffer.dtype]
        ty = vector(element, lanes)
        name = self.fresh()
        self.out.append(
            f"{name} = call {ty} @llvm.masked.load.{mangled(element, lanes)}.p0(ptr align {alignment} {pointer}, "
            f"<{lanes} x i1> {mask}, {ty} zeroinitializer)"
        )
        return name

    def _load_guarded(self, site: Site, offset: int, lanes: int) -> str:
        """Load where the mask and the guard hold; zero or any element of the buffer elsewhere."""
        if lanes:
            pointer, alignment = self.displaced(site, offset, lanes)
            text = self._masked_load(site, pointer, alignment, self._active(lanes), lanes)
            return self._from_memory(site.buffer.dtype, text, lanes)
        if not site.buffer.elements:
            return splat_literal(VALUE_TYPE[site.buffer.dtype], _zero(site.buffer.dtype), 0)
        needed = self.guard
        if self.mask is not None:
            some = self.op(f"call i1 @llvm.vector.reduce.or.v{self.lanes}i1(<{self.lanes} x i1> {self.mask})")
            needed = some if needed is None else self.op(f"and i1 {needed}, {some}")
        at = self.scalar(Linear(offset, site.symbols)) if site.symbols else str(offset)
        at = self.op(f"select i1 {needed}, i64 {at}, i64 0")
        element = MEMORY_TYPE[site.buffer.dtype]
        if site.buffer in self.slots:
            self.whole.add(site.buffer)
        pointer = self.op(f"getelementptr {element}, ptr {self.pointers[site.buffer]}, i64 {at}")
        text = self.fresh()
        self.out.append(f"{text} = load {element}, ptr {pointer}, align {site.size}")
        return self._from_memory(site.buffer.dtype, text, 0)

    def _load_scattered(self, site: Site, offset: int, e: Read) -> str:
        """Lanes that are not neighbours in memory: shuffled loads for small strides, else a gather."""
        lanes = self.lanes
        dtype = site.buffer.dtype
        element = MEMORY_TYPE[dtype]
        checked = (self.mask is None and self.guard is None) or self._in_bounds(site.buffer, e.indices)
        if checked and not site.vectors and abs(site.lane) <= MAX_STRIDE:
            return self._load_strided(site, offset)
        mask = splat_literal("i1", "true", lanes) if checked else self._active(lanes)
        ty = vector(element, lanes)
        name = self.fresh()
        self.out.append(
            f"{name} = call {ty} @llvm.masked.gather.{mangled(element, lanes)}.v{lanes}p0(<{lanes} x ptr> align "
            f"{site.size} {self._lane_pointers(site, offset)}, <{lanes} x i1> {mask}, {ty} zeroinitializer)"
        )
        return self._from_memory(dtype, name, lanes)

    def _load_strided(self, site: Site, offset: int) -> str:
        """Load every element between the first and the last lane, and pick the lanes by shuffles."""
        lanes, stride = self.lanes, abs(site.lane)
        span = stride * (lanes - 1) + 1
        first = offset if site.lane > 0 else offset - span + 1
        element = MEMORY_TYPE[site.buffer.dtype]
        ty = vector(element, lanes)
        starts = [min(lanes * i, span - lanes) for i in range(stride)] if stride > 1 else [0]
        wanted = [stride * i if site.lane > 0 else span - 1 - stride * i for i in range(lanes)]
        result, have = "poison", [False] * lanes
        for start in starts:
            piece = self.fresh()
            pointer, alignment = self.displaced(site, first + start, lanes)
            self.out.append(f"{piece} = load {ty}, ptr {pointer}, align {alignment}")
            picks = []
            for i, w in enumerate(wanted):
                take = not have[i] and start <= w < start + lanes
                picks.append(lanes + w - start if take else i)
                have[i] = have[i] or take
            order = lane_list("i32", picks)
            result = self.op(f"shufflevector {ty} {result}, {ty} {piece}, <{lanes} x i32> {order}")
        return self._from_memory(site.buffer.dtype, result, lanes)

    def _lane_pointers(self, site: Site, offset: int) -> str:
        steps = self.ramp(Linear(offset, lane=site.lane, vectors=site.vectors))
        element = MEMORY_TYPE[site.buffer.dtype]
        if site.buffer in self.slots:
            self.whole.add(site.buffer)
        return self.op(f"getelementptr {element}, ptr {site.base}, <{self.lanes} x i64> {steps}")

    def _active(self, lanes: int) -> str:
        """The lanes that the mask and the guard leave."""
        if self.guard is None:
            return self.mask or splat_literal("i1", "true", lanes)
        guards = self.splat(self.guard, "i1", lanes)
        return guards if self.mask is None else self.both_masks(self.mask, guards, lanes)

    def _in_bounds(self, buffer: Buffer, indices: tuple[Expr, ...]) -> bool:
        """Whether every index is known to lie inside its dimension, whatever the mask and the guard are."""
        for index, extent in zip(indices, buffer.shape, strict=True):
            low, high = self.bounds(self.linear(index))
            if low is None or high is None or low < 0 or high >= extent:
                return False
        return True

    # ---------------------------------------------------------------------------------------- writes

    def write(self, s: Store, value: Value) -> None:
        """Store under the statement's mask."""
        buffer = s.buffer
        site, offset = self.locate(s, buffer, s.indices)
        lanes = self.lanes if site.lane or site.vectors else 0
        if value[1] and not lanes:
            raise InternalError(
                f"emit {self.fn.name}: a value that varies over the lanes is stored to one element of {buffer.name!r}"
            )
        scattered = lanes and (site.lane != 1 or site.vectors)
        if self.lanes and not lanes and self.mask is not None:
            scattered, lanes = True, self.lanes
        text = self.widen(value, VALUE_TYPE[buffer.dtype], lanes) if lanes else value[0]
        if scattered:
            self._scatter(site, offset, lanes, self._to_memory(buffer.dtype, text, lanes))
        else:
            self._store(site, offset, lanes, self._to_memory(buffer.dtype, text, lanes))
        self._remember(site, offset, lanes, "" if scattered or (lanes and self.mask is not None) else text)

    def _store(self, site: Site, offset: int, lanes: int, text: str) -> None:
        pointer, alignment = self.displaced(site, offset, lanes)
        element = MEMORY_TYPE[site.buffer.dtype]
        ty = vector(element, lanes)
        mask, width = self.mask if lanes else None, lanes
        chosen = constant_mask(mask) if mask else None
        if chosen is not None and sum(chosen) <= 1:
            # not left to LLVM: some versions store too many bytes of a truncated value (LLVM issue 179489)
            if any(chosen):
                lane = chosen.index(1)
                one = self.op(f"extractelement {ty} {text}, i64 {lane}")
                pointer, alignment = self.displaced(site, offset + lane, 0)
                self.out.append(f"store {element} {one}, ptr {pointer}, align {alignment}")
            return
        if mask is None and self._is_ragged(site, lanes):
            width = 1 << (lanes - 1).bit_length()
            mask = lane_list("i1", [i < lanes for i in range(width)])
            order = lane_list("i32", [*range(lanes), *[0] * (width - lanes)])
            text = self.op(f"shufflevector {ty} {text}, {ty} poison, <{width} x i32> {order}")
            ty = vector(element, width)
        if mask is None:
            whole = lanes and alignment >= lanes * site.size and lanes * site.size * 8 == self.target.vector_bits
            kind = NONTEMPORAL if whole and self.bypasses(site.buffer) else ""
            self.out.append(f"store {ty} {text}, ptr {pointer}, align {alignment}{kind}")
        else:
            self.out.append(
                f"call void @llvm.masked.store.{mangled(element, width)}.p0({ty} {text}, ptr align {alignment} "
                f"{pointer}, <{width} x i1> {mask})"
            )

    def bypasses(self, buffer: Buffer) -> bool:
        """Whether whole vectors of a buffer are stored past the caches: where there is a fence for such stores."""
        return buffer.past_caches and self.target.triple.startswith("x86_64")

    def _scatter(self, site: Site, offset: int, lanes: int, text: str) -> None:
        element = MEMORY_TYPE[site.buffer.dtype]
        mask = self.mask or splat_literal("i1", "true", lanes)
        self.out.append(
            f"call void @llvm.masked.scatter.{mangled(element, lanes)}.v{lanes}p0({vector(element, lanes)} {text}, "
            f"<{lanes} x ptr> align {site.size} {self._lane_pointers(site, offset)}, <{lanes} x i1> {mask})"
        )

    def _remember(self, site: Site, offset: int, lanes: int, text: str) -> None:
        """Forget what a store may have overwritten, and note the element's new value."""
        for other in self.aliases.get(site.buffer, ()):
            self.loaded.pop(other, None)
        if not text:
            self.loaded.pop(site.buffer, None)
            return
        grid = (site.base, lanes)
        loaded = self.loaded.get(site.buffer)
        if loaded is None or loaded.grid != grid or (lanes and offset % lanes):
            loaded = self.loaded[site.buffer] = Loaded(grid=None if lanes and offset % lanes else grid)
        loaded.entries[(site.base, offset, lanes)] = text

    def prefetch(self, s: Prefetch) -> None:
        """Ask for the line of an element (of the first lane's), unless an unrolled neighbour did that."""
        site, offset = self.locate(s, s.buffer, s.indices)
        if site.vectors:
            return
        if site.grain % LINE_BYTES == 0:
            line = offset * site.size // LINE_BYTES
            if line in site.lines:
                return
            site.lines.add(line)
        pointer, _ = self.displaced(site, offset, 1) if s.buffer not in self.slots else (site.base, 0)
        self.out.append(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 {int(s.write)}, i32 {s.locality}, i32 1)")

    # --------------------------------------------------------------------------- memory and value types

    def _from_memory(self, dtype: str, text: str, lanes: int) -> str:
        if dtype != dt.BOOL:
            return text
        return self.op(f"icmp ne {vector('i8', lanes)} {text}, zeroinitializer" if lanes else f"icmp ne i8 {text}, 0")

    def _to_memory(self, dtype: str, text: str, lanes: int) -> str:
        if dtype != dt.BOOL:
            return text
        return self.op(f"zext {vector('i1', lanes)} {text} to {vector('i8', lanes)}")


def _zero(dtype: str) -> str:
    return {"bool": "false", "float16": "0xH0000", "float32": "0.0", "float64": "0.0"}.get(dtype, "0")
