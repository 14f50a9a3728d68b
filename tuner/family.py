"""Operator families: which tasks compute alike but for their sizes, and how far apart two of these are.

A family is read from the canonical text of a workload (:mod:`luthier.te.printer`), which is what a log holds:

* Where a compute has attributes (convolution, pooling, matrix product), the anchor is the largest of those, and the
  family is its tag, its attributes that are no sizes (taps, strides, dilations, blocks of the layout, transpositions,
  accuracy), element types, and whether its inputs are given or computed before it. What follows the anchor does not
  count: an epilogue is computed on a finished tile.
* Other workloads are of one family if their texts differ in nothing but whole numbers.

The distance of two members is the sum of the base-2 logarithms of the ratios of their extents: 1 is "twice as large in
one dimension". Other padding and another residual input add a little.
"""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from math import log2, prod

FAMILY_VERSION = "f1-"
"""Start of every signature; a log that was indexed with another one is indexed anew when it is opened for writing."""

_SIZES = frozenset({"in_channels", "out_channels", "groups", "batch", "m", "n", "k"})
_BLOCKS = frozenset({"in_block", "out_block"})
_LARGEST_BLOCK = 64
_OTHER_DETAIL = 0.25

_DEFINITION = re.compile(r"(t\d+) = (placeholder|compute)\((\w+)\[([\d, ]*)\](.*)\)")
_ATTRIBUTE = re.compile(r"  '(\w+)' = (.*)")
_TAG = re.compile(r"tag='([^']*)'")
_REDUCED = re.compile(r"\bk\d+:(\d+)")
_READ = re.compile(r"\b(t\d+)\[")
_WHOLE_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.])")


@dataclass(frozen=True, slots=True)
class Family:
    """What a task belongs to, and where it lies in it.

    signature  equal for members of one family
    extents    sizes of the anchor's loops; members of one family have equally many
    details    what matters a little: padding, inputs of the epilogue as large as the result
    """

    signature: str
    extents: tuple[int, ...]
    details: tuple[object, ...] = ()

    def distance(self, other: Family) -> float:
        """0 for equal extents, 1 for twice as large in one dimension; infinity for another family."""
        if self.signature != other.signature or len(self.extents) != len(other.extents):
            return float("inf")
        ratios = sum(abs(log2(max(a, 1) / max(b, 1))) for a, b in zip(self.extents, other.extents, strict=True))
        return ratios + _OTHER_DETAIL * sum(a != b for a, b in zip(self.details, other.details, strict=True))


@dataclass(slots=True)
class _Tensor:
    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    rest: str
    attrs: dict[str, object] = field(default_factory=dict)
    body: str = ""

    @property
    def reduced(self) -> tuple[int, ...]:
        return tuple(map(int, _REDUCED.findall(self.body)))

    @property
    def points(self) -> int:
        return prod(self.shape) * prod(self.reduced)

    @property
    def role(self) -> str:
        given = "constant" if "constant" in self.rest else "given"
        return f"{'computed' if self.kind == 'compute' else given} {self.dtype} {len(self.shape)}"


@lru_cache(maxsize=4096)
def family_of(text: str) -> Family:
    """The family of the workload with this canonical text. A text that is none is a family of its own."""
    tensors = _parse(text)
    stages = [t for t in tensors.values() if t.kind == "compute"]
    if not stages:
        return Family(_signature("unknown", text), ())
    anchors = [t for t in stages if t.attrs]
    if not anchors:
        largest = max(stages, key=lambda t: t.points)
        tag = _tag(stages[-1]) or "general"
        return Family(_signature(tag, _WHOLE_NUMBER.sub("#", text)), (*largest.shape, *largest.reduced))
    anchor = max(anchors, key=lambda t: t.points)
    groups = anchor.attrs.get("groups", 1)
    kept = {name: _kept(name, value) for name, value in anchor.attrs.items() if name not in _SIZES and name != "pads"}
    read = [tensors[name] for name in dict.fromkeys(_READ.findall(anchor.body)) if name in tensors]
    inputs = [t.role for t in read]
    what = (anchor.dtype, len(anchor.shape), len(anchor.reduced), sorted(kept.items()), groups == 1, inputs)
    residual = sum(t.kind == "placeholder" and t.shape == anchor.shape and t not in read for t in tensors.values())
    number = groups if isinstance(groups, int) else 1
    return Family(
        _signature(_tag(anchor) or "general", repr(what)),
        (*anchor.shape, *anchor.reduced, number),
        (anchor.attrs.get("pads"), residual),
    )


def _kept(name: str, value: object) -> object:
    """A block is part of the layout, except where it holds all channels, however many these are."""
    if name in _BLOCKS and isinstance(value, int):
        regular = value <= _LARGEST_BLOCK and value & (value - 1) == 0
        return value if regular else "all channels"
    return value


def _parse(text: str) -> dict[str, _Tensor]:
    tensors: dict[str, _Tensor] = {}
    current: _Tensor | None = None
    for line in text.splitlines():
        definition, attribute = _DEFINITION.fullmatch(line), _ATTRIBUTE.fullmatch(line)
        if definition:
            name, kind, dtype, shape, rest = definition.groups()
            current = _Tensor(name, kind, dtype, tuple(int(n) for n in shape.split(",") if n.strip()), rest)
            tensors[name] = current
        elif attribute and current is not None:
            current.attrs[attribute[1]] = _value(attribute[2])
        elif line.startswith("  ") and current is not None:
            current.body = line.strip()
    return tensors


def _value(text: str) -> object:
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value


def _tag(stage: _Tensor) -> str:
    found = _TAG.search(stage.rest)
    return found[1] if found else ""


def _signature(tag: str, what: str) -> str:
    return f"{FAMILY_VERSION}{tag}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"
