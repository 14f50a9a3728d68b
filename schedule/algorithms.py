"""Algorithm primitives: another way to compute the same tensor, and work that is done when the model is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from ..errors import ExpressionError, ScheduleError
from ..te.expr import Axis, Expr, Reduce, Var
from ..te.ops.blocked_sum import blocked_sum
from ..te.ops.flat import flat
from ..te.ops.row_taps import row_taps
from ..te.ops.strassen import strassen
from ..te.ops.winograd import winograd
from ..te.tensor import Compute, Placeholder, Source
from ..te.traversal import substitute
from .stage import Stage
from .state import ScheduleState, StageLike
from .trace import Step, primitive

ALGORITHMS: Mapping[str, Callable[..., Compute]] = {
    "blocked_sum": blocked_sum,
    "flat": flat,
    "row_taps": row_taps,
    "strassen": strassen,
    "winograd": winograd,
}
"""Rewritings of a compute into another of the same shape and value, up to rounding, over stages of its own."""

_ROUNDS_DIFFERENTLY = frozenset({"strassen", "winograd"})
"""Algorithms whose rounding differs by more than the order of a sum explains."""


def allows(tensor: Compute, name: str) -> bool:
    """Whether the accuracy that ``tensor`` asks for (its attr ``accuracy``) admits the algorithm ``name``."""
    return tensor.attrs.get("accuracy") != "exact" or name not in _ROUNDS_DIFFERENTLY


class Algorithms(ScheduleState):
    """The primitives that change what is computed on the way; a part of :class:`.schedule.Schedule`."""

    @primitive
    def use_algorithm(self, stage: StageLike, name: str, parameters: Mapping[str, int]) -> list[Stage]:
        """Compute a stage by another algorithm; returns the stages that this adds, producers first.

        for ...: C[...] += X[...] * W[...]    ->    for ...: C.rows[...] = ...
                                                    for ...: C.input[...] = ...
        use_algorithm(C, "winograd", {"m": 4})      ...
                                                    for ...: C[...] = f(C.columns)
        """
        st = self[stage]
        if name not in ALGORITHMS:
            raise ScheduleError(f"use_algorithm: {name!r} is unknown; use one of {', '.join(ALGORITHMS)}")
        if not allows(st.tensor, name):
            raise ScheduleError(
                f"use_algorithm({st.name}, {name!r}): the stage is to be exact, and {name} rounds differently; "
                "define it with accuracy='fast'"
            )
        if st.inlined or st.attach is not None or st.leaves != [*st.roots, *st.reduce_roots]:
            raise ScheduleError(f"use_algorithm({st.name}): the stage is already scheduled; call it first")
        if st.body is not st.tensor.body:
            raise ScheduleError(f"use_algorithm({st.name}): another stage was inlined into it; call it first")
        try:
            names = tuple(a.name for a in (*st.roots, *st.reduce_roots))
            body, producers = _replacement(name, st.tensor, names, tuple(sorted(parameters.items())))
        except (ExpressionError, TypeError) as e:
            raise ScheduleError(f"use_algorithm({st.name}, {name!r}): {e}") from None
        known = {id(s.tensor) for s in self.stages.values()}
        added = [
            self._add_stage(f"{st.name}.{tensor.name}", tensor, before=st)
            for tensor in producers
            if id(tensor) not in known
        ]
        st.body = body
        st.drop_reduction()
        return added

    @primitive
    def precompute(self, stage: StageLike) -> None:
        """Compute a stage that depends on one constant input alone when the model is built; its values are stored in
        its place.

            for ...: U[...] = g(W)       ->    (at build time)  U = g(W)
            for ...: C[...] = f(X, U)          for ...: C[...] = f(X, U)

        Stages that only it needs go with it. Its loops, and its layout, are scheduled like any other's.
        """
        st = self[stage]
        moved = self._needed_by(st)
        inputs = {i for s in moved for i in s.inputs() if isinstance(i, Placeholder)}
        if len(inputs) != 1 or not all(p.constant for p in inputs):
            names = ", ".join(sorted(p.name for p in inputs)) or "nothing"
            raise ScheduleError(f"precompute({st.name}): it must depend on one constant input, not on {names}")
        for s in moved:
            for source in (*s.inputs(), *(() if s is st else (s.tensor,))):
                others = [c.name for c in self.consumers(source) if c not in moved]
                if others:
                    raise ScheduleError(f"precompute({st.name}): {others[0]} reads {source.name} too")
        for s in moved:
            s.precomputed = True

    def precomputed_for(self, source: Placeholder) -> Stage | None:
        """The stage whose values stand in for a constant input in the kernel, if one does."""
        for s in self.live_stages():
            stands_in = s.precomputed and any(not c.precomputed for c in self.consumers(s.tensor))
            if stands_in and any(source in needed.inputs() for needed in self._needed_by(s)):
                return s
        return None

    def stages_precomputed_for(self, result: Stage) -> list[Stage]:
        """The stages that run when the model is built to make ``result``, producers first."""
        needed = self._needed_by(result)
        return [s for s in self.live_stages() if s in needed]

    def preparation_steps(self, source: Placeholder) -> list[Step]:
        """The steps that what stands in for a constant input may depend on: all but those of the kernel's stages."""
        result = self.precomputed_for(source)
        needed = [] if result is None else self._needed_by(result)
        others = {s.name for s in self.live_stages() if s not in needed}
        return [step for step in self.trace if step.arguments.get("stage") not in others]

    def _needed_by(self, stage: Stage) -> list[Stage]:
        """A stage and every live stage that it depends on."""
        found = {id(stage): stage}
        queue = [stage]
        while queue:
            for source in queue.pop().inputs():
                if isinstance(source, Compute) and id(self[source]) not in found:
                    found[id(self[source])] = self[source]
                    queue.append(self[source])
        return list(found.values())


@lru_cache(maxsize=256)
def _replacement(
    name: str, tensor: Compute, axis_names: tuple[str, ...], parameters: tuple[tuple[str, int], ...]
) -> tuple[Expr, list[Compute]]:
    """The body that computes ``tensor`` by another algorithm, and all that this depends on, producers first.

    axis_names: what the schedule calls the tensor's axes, and so those of producers that are called like them.
    Kept: a search asks for the same again and again.
    """
    replacement = ALGORITHMS[name](_renamed(tensor, axis_names), **dict(parameters))
    axes: dict[Var, Expr] = {new.var: old.var for new, old in zip(replacement.axes, tensor.axes, strict=True)}
    return substitute(replacement.body, axes), _producers(replacement)


def _renamed(tensor: Compute, axis_names: Sequence[str]) -> Compute:
    """The same compute with other names for its axes, the reduced ones last."""
    known = (*tensor.axes, *tensor.reduce_axes)
    if [a.name for a in known] == list(axis_names):
        return tensor
    made = [Axis(Var(n), a.extent, a.kind) for n, a in zip(axis_names, known, strict=True)]
    axes, reduced = tuple(made[: len(tensor.axes)]), tuple(made[len(tensor.axes) :])
    body = substitute(tensor.body, {old.var: new.var for old, new in zip(known, made, strict=True)})
    return replace(tensor, axes=axes, body=replace(body, axes=reduced) if isinstance(body, Reduce) else body)


def _producers(tensor: Compute) -> list[Compute]:
    """The computes that a compute depends on, producers first, without itself."""
    order: dict[int, Compute] = {}

    def visit(t: Source) -> None:
        if isinstance(t, Compute) and id(t) not in order:
            for source in t.inputs():
                visit(source)
            order[id(t)] = t

    for source in tensor.inputs():
        visit(source)
    return list(order.values())
