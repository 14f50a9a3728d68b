"""A stage: one compute of the workload with the loops that a schedule has given it so far."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import ScheduleError
from ..te.cached import variables_of, with_values
from ..te.expr import Axis, Expr, Read, Reduce, Var
from ..te.tensor import Compute, Source, reads_of, sources_of
from .axis import LoopAxis, bound_axes, new_axis, plus, value
from .layout import BlockedLayout

Bounds = dict[Var, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Prefetching:
    """While ``axis`` runs, ask for what it will read of ``source`` ``distance`` iterations of ``along`` later.

    share  a loop around, each iteration of which asks for a part of it; None: for all
    """

    source: Source
    axis: LoopAxis
    distance: int
    along: LoopAxis
    share: LoopAxis | None = None

    def __str__(self) -> str:
        shared = "" if self.share is None else f", shared by {self.share.name}"
        return f"{self.source.name}, {self.along.name} + {self.distance}{shared}"


StageScope = Literal["auto", "register", "stack", "thread", "shared"]


class Stage:
    """Loops and storage of one compute.

    tensor          what is computed; its axes' variables are those of ``body``
    body            the defining expression, with inlined producers substituted
    roots           loop axes of the tensor's dimensions
    reduce_roots    loop axes of its reduction
    leaves          the loops as they stand, outermost first
    attach          (consumer stage, axis) inside which this stage is computed; None: at root
    region_min      where attached: the first coordinate computed, over the consumer's loop variables
    precomputed     whether it is computed when the model is built
    scope           where its values live while attached; ``auto`` lets lowering choose
    layout          memory layout of its buffer, None: row-major
    prefetches      what its loops ask for ahead of time
    unswitched      conditions that do not vary in its loops are tested before them
    past_caches     its values go to memory past the caches
    """

    def __init__(self, name: str, tensor: Compute, axis_names: Sequence[str] | None = None) -> None:
        self.name = name
        self.tensor = tensor
        self.body: Expr = tensor.body
        self._by_name: dict[str, LoopAxis] = {}
        self._by_var: dict[Var, LoopAxis] = {}
        axes = (*tensor.axes, *tensor.reduce_axes)
        names = axis_names or [a.name for a in axes]
        made = tuple(self.new_axis(n, a.extent, a.kind) for n, a in zip(names, axes, strict=True))
        self.roots, self.reduce_roots = made[: len(tensor.axes)], made[len(tensor.axes) :]
        self.leaves: list[LoopAxis] = [*self.roots, *self.reduce_roots]
        self.attach: tuple[Stage, LoopAxis] | None = None
        self.region_min: tuple[Expr, ...] | None = None
        self.inlined = False
        self.precomputed = False
        self.scope: StageScope = "auto"
        self.layout: BlockedLayout | None = None
        self.prefetches: list[Prefetching] = []
        self.unswitched = False
        self.past_caches = False

    # ------------------------------------------------------------------ structure

    @property
    def reduce_axes(self) -> tuple[Axis, ...]:
        """The reduction axes of the body, as te has them."""
        return self.body.axes if isinstance(self.body, Reduce) else ()

    @property
    def axes(self) -> Iterator[LoopAxis]:
        """Every axis that ever was, roots first."""
        seen: list[LoopAxis] = [*self.roots, *self.reduce_roots]
        known = {id(a) for a in seen}
        for a in seen:
            yield a
            made = []
            if a.split is not None:
                made = [a.split.outer, a.split.inner]
            elif a.fused_into is not None:
                made = [a.fused_into]
            for new in made:
                if id(new) not in known:
                    known.add(id(new))
                    seen.append(new)

    def axis(self, name: str) -> LoopAxis:
        """Find an axis by name."""
        found = self._by_name.get(name)
        if found is None or found.var not in self._by_var:
            raise ScheduleError(f"stage {self.name} has no axis {name!r}; its loops are {self.loop_names()}")
        return found

    def new_axis(self, name: str, extent: int, kind: Literal["spatial", "reduce"]) -> LoopAxis:
        """Make an axis of this stage, under the next name that is free."""
        unique = unique_name(name, self._by_name)
        axis = self._by_name[unique] = new_axis(unique, extent, kind, self.tensor)
        self._by_var[axis.var] = axis
        return axis

    def drop_reduction(self) -> None:
        """Forget the axes of a reduction that is computed elsewhere now; their names stay taken."""
        for axis in self.reduce_roots:
            del self._by_var[axis.var]
        self.reduce_roots = ()
        self.leaves = list(self.roots)

    def loop_names(self) -> str:
        return ", ".join(a.name for a in self.leaves)

    def reads(self) -> list[Read]:
        """The reads in the body, each node once."""
        return list(reads_of(self.body))

    def inputs(self) -> list[Source]:
        return list(sources_of(self.body))

    # ------------------------------------------------------------------ index arithmetic

    def coordinates(self) -> dict[Var, Expr]:
        """The value of each variable of ``body`` over the loop variables, region offset included."""
        result: dict[Var, Expr] = {}
        for d, (axis, root) in enumerate(zip(self.tensor.axes, self.roots, strict=True)):
            local = value(root)
            result[axis.var] = local if self.region_min is None else plus(self.resolved(self.region_min[d]), local)
        for reduce_axis, root in zip(self.reduce_axes, self.reduce_roots, strict=True):
            result[reduce_axis.var] = value(root)
        return result

    def resolved(self, e: Expr) -> Expr:
        """Bring an offset that compute_at found up to date with what the consumers' axes became since."""
        used = variables_of(e)
        return with_values(e, tuple(map(self._consumers_value, used))) if used else e

    def _consumers_value(self, var: Var) -> Expr:
        """What a consumer's axis became, outermost consumer first; the variable itself where it is none of theirs."""
        found: Expr = var
        stage = self
        while stage.attach is not None:
            stage = stage.attach[0]
            if var in stage._by_var:
                found = value(stage._by_var[var])
        return found

    def loop_bounds(self) -> Bounds:
        """The range of each variable that this stage's loops bind."""
        return {a.var: (0, max(a.extent - 1, 0)) for leaf in self.leaves for a in bound_axes(leaf)}

    def split_guards(self) -> list[Expr]:
        """Conditions under which a point of the loops is a point of the domain."""
        return [value(a) < a.extent for a in self.axes if a.split is not None and a.split.guarded]

    def __repr__(self) -> str:
        return f"Stage({self.name}: {self.loop_names()})"


def unique_name(name: str, taken: Container[str]) -> str:
    """The name, or with a number where it is taken."""
    unique, n = name, 0
    while unique in taken:
        n += 1
        unique = f"{name}_{n}"
    return unique
