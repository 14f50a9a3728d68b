"""Loop axes of a stage, and how one axis derives from another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ..te.expr import Expr, Var, binary
from ..te.tensor import Source

LoopKind = Literal["serial", "unroll", "vectorize", "parallel"]
TailPolicy = Literal["none", "guard"]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """``parent == outer * factor + inner``; guarded when factor does not divide the parent's extent."""

    outer: LoopAxis
    inner: LoopAxis
    factor: int
    guarded: bool


@dataclass(frozen=True, slots=True, eq=False)
class Fuse:
    """``fused == outer * inner.extent + inner``."""

    outer: LoopAxis
    inner: LoopAxis


@dataclass(slots=True, eq=False)
class LoopAxis:
    """One loop of a stage: ``0 <= var < extent``.

    split       what this axis was split into; then it is no loop any more
    fused_into  the axis that it became a part of
    fuse        the two axes that this one was made of
    cuts        values at which the loop is cut into separately specialised pieces
    """

    name: str
    extent: int
    kind: Literal["spatial", "reduce"]
    var: Var
    annotation: LoopKind = "serial"
    cuts: tuple[int, ...] = ()
    split: Split | None = None
    fused_into: LoopAxis | None = None
    fuse: Fuse | None = None

    def __repr__(self) -> str:
        return f"LoopAxis({self.name}: {self.extent})"


def new_axis(name: str, extent: int, kind: Literal["spatial", "reduce"], of: Source | None = None) -> LoopAxis:
    """Make an axis; of: the tensor whose stage it is a loop of, which has no other of that name."""
    return LoopAxis(name, extent, kind, Var(name) if of is None else _variable(of, name))


# Schedules of one tensor share the variables of their loops, and what is made of these, so that what was found out
# about expressions for one schedule (:mod:`..te.cached`) is known to the next.


@lru_cache(maxsize=8192)
def _variable(of: Source, name: str) -> Var:
    return Var(name)


@lru_cache(maxsize=8192)
def _joined(outer: Expr, factor: int, inner: Expr) -> Expr:
    return binary("add", binary("mul", outer, factor), inner)


@lru_cache(maxsize=8192)
def plus(a: Expr, b: Expr) -> Expr:
    """``a + b``, the same object each time."""
    return binary("add", a, b)


@lru_cache(maxsize=8192)
def _part(op: Literal["floordiv", "floormod"], fused: Expr, extent: int) -> Expr:
    return binary(op, fused, extent)


def value(axis: LoopAxis) -> Expr:
    """The axis's value over variables that a loop nest binds.

    A split axis is ``outer * factor + inner``. The parts of a fused loop are variables of their own, bound right inside
    it; once the fused loop is split they are quotient and remainder of its value.
    """
    if axis.split is not None:
        return _joined(value(axis.split.outer), axis.split.factor, value(axis.split.inner))
    fused = axis.fused_into
    if fused is None or not _has_no_variable(fused):
        return axis.var
    assert fused.fuse is not None
    return _part("floordiv" if fused.fuse.outer is axis else "floormod", value(fused), fused.fuse.inner.extent)


def split_parts(axis: LoopAxis) -> list[LoopAxis]:
    """What an axis was split into, and what that was split into, and so on."""
    if axis.split is None:
        return []
    return [part for half in (axis.split.outer, axis.split.inner) for part in (half, *split_parts(half))]


def shared_loop(loop: LoopAxis, by: LoopAxis) -> tuple[LoopAxis, Expr]:
    """The part of a loop that each iteration of another one runs, if they take turns in its iterations; and the value
    of the loop's variable in it."""
    part = new_axis(f"{loop.name}.share", -(-loop.extent // by.extent), loop.kind)
    part.annotation = loop.annotation
    return part, binary("add", binary("mul", part.var, by.extent), value(by))


def _has_no_variable(fused: LoopAxis) -> bool:
    if fused.split is not None:
        return True
    return fused.fused_into is not None and _has_no_variable(fused.fused_into)


def bound_axes(leaf: LoopAxis) -> list[LoopAxis]:
    """The axes whose variables a nest binds on entering the loop ``leaf``: itself and its fused parts."""
    if leaf.fuse is None:
        return [leaf]
    return [leaf, *bound_axes(leaf.fuse.outer), *bound_axes(leaf.fuse.inner)]
