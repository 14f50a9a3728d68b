"""Loop primitives: how the iterations of one stage are cut, ordered and carried out.

Each docstring shows the loop nest before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ScheduleError
from ..te.expr import Reduce
from .axis import Fuse, LoopAxis, Split, TailPolicy
from .stage import Stage
from .state import AxisLike, ScheduleState, StageLike
from .trace import primitive

MAX_LANES = 256
MAX_UNROLL = 4096


class LoopPrimitives(ScheduleState):
    """The primitives that change loops; a part of :class:`.schedule.Schedule`."""

    @primitive
    def split(
        self, stage: StageLike, axis: AxisLike, factor: int, tail: TailPolicy = "none"
    ) -> tuple[LoopAxis, LoopAxis]:
        """Cut a loop in two; returns (outer, inner), named ``i.o`` and ``i.i``.

            for i in 0..12:                    for i.o in 0..3:
              body(i)                    ->      for i.i in 0..4:
                                                   body(i.o * 4 + i.i)

        factor  iterations of the inner loop, 1 or more
        tail    when factor does not divide the extent: ``none`` is an error, ``guard`` rounds the outer loop up and
                runs the body under ``i.o * factor + i.i < extent`` (partition the outer loop to confine the guard
                to its last iteration)
        """
        st = self[stage]
        a = self._leaf(st, axis, "split")
        _positive("split", "factor", factor)
        if tail not in ("none", "guard"):
            raise ScheduleError(f"split({a.name}): tail is {tail!r}; it must be 'none' or 'guard'")
        if a.annotation != "serial":
            raise ScheduleError(f"split({a.name}): the loop is already marked {a.annotation}; split it before")
        guarded = a.extent % factor != 0
        if guarded and tail == "none":
            raise ScheduleError(
                f"split({a.name}, {factor}): factor must divide the extent {a.extent} when tail='none'; "
                "use tail='guard'"
            )
        outer = st.new_axis(f"{a.name}.o", -(-a.extent // factor), a.kind)
        inner = st.new_axis(f"{a.name}.i", factor, a.kind)
        a.split = Split(outer, inner, factor, guarded)
        at = st.leaves.index(a)
        st.leaves[at : at + 1] = [outer, inner]
        return outer, inner

    @primitive
    def tile(
        self,
        stage: StageLike,
        y: AxisLike,
        x: AxisLike,
        y_factor: int,
        x_factor: int,
        tail: TailPolicy = "none",
    ) -> tuple[LoopAxis, LoopAxis, LoopAxis, LoopAxis]:
        """Cut two neighbouring loops into blocks; returns (y.o, x.o, y.i, x.i).

        for y in 0..8:                     for y.o in 0..2:
          for x in 0..8:             ->      for x.o in 0..4:
            body(y, x)                         for y.i in 0..4:
                                                 for x.i in 0..2:
                                                   body(y.o * 4 + y.i, x.o * 2 + x.i)
        """
        yo, yi = self.split(stage, y, y_factor, tail)
        xo, xi = self.split(stage, x, x_factor, tail)
        self.reorder(stage, [yo, xo, yi, xi])
        return yo, xo, yi, xi

    @primitive
    def fuse(self, stage: StageLike, outer: AxisLike, inner: AxisLike) -> LoopAxis:
        """Make one loop of two perfectly nested ones; returns it, named ``i@j``.

        for i in 0..4:                     for i@j in 0..32:
          for j in 0..8:             ->      let i = i@j // 8
            body(i, j)                       let j = i@j % 8
                                             body(i, j)
        """
        st = self[stage]
        a, b = self._leaf(st, outer, "fuse"), self._leaf(st, inner, "fuse")
        at = st.leaves.index(a)
        if st.leaves[at + 1 : at + 2] != [b]:
            raise ScheduleError(
                f"fuse({a.name}, {b.name}): {b.name} must be the loop right inside {a.name}; "
                f"the loops are {st.loop_names()}; use reorder first"
            )
        if a.kind != b.kind:
            raise ScheduleError(f"fuse({a.name}, {b.name}): one is spatial and the other a reduction")
        for x in (a, b):
            if x.annotation != "serial":
                raise ScheduleError(f"fuse: the loop {x.name} is already marked {x.annotation}; fuse before marking")
        self._no_stage_attached(st, a, "fuse")
        fused = st.new_axis(f"{a.name}@{b.name}", a.extent * b.extent, a.kind)
        fused.fuse = Fuse(a, b)
        a.fused_into = b.fused_into = fused
        st.leaves[at : at + 2] = [fused]
        for s in self.live_stages():
            if s.attach == (st, b):
                s.attach = (st, fused)
        return fused

    @primitive
    def reorder(self, stage: StageLike, axes: Sequence[AxisLike]) -> None:
        """Permute loops: the given ones take, in this order, the places that they have between them.

        for i:                             for k:
          for j:                     ->      for j:
            for k:                             for i:
        reorder(C, [k, i])
        """
        st = self[stage]
        chosen = [self._leaf(st, a, "reorder") for a in axes]
        if len({id(a) for a in chosen}) != len(chosen):
            raise ScheduleError(f"reorder: an axis is given twice in {[a.name for a in chosen]}")
        places = sorted(st.leaves.index(a) for a in chosen)
        for place, a in zip(places, chosen, strict=True):
            st.leaves[place] = a

    @primitive
    def unswitch(self, stage: StageLike) -> None:
        """Test once, before a stage's loops, whether all conditions that do not vary in them hold; if so, take a copy
        of the loops without them.

        for i in 0..8:                       ->    if y >= 0:
          C[y, i] = y >= 0 ? A[y, i] : 0             for i in 0..8:
                                                       C[y, i] = A[y, i]
                                                   else:
                                                     for i in 0..8:
                                                       C[y, i] = y >= 0 ? A[y, i] : 0
        """
        st = self[stage]
        if isinstance(st.body, Reduce):
            raise ScheduleError(f"unswitch({st.name}): it is a reduction; use partition")
        st.unswitched = True

    @primitive
    def vectorize(self, stage: StageLike, axis: AxisLike) -> None:
        """Run all iterations of a spatial loop at once, in vector lanes. Only unrolled loops may be inside it.

        for i in 0..16:              ->    vectorize i in 0..16:
          C[i] = A[i] + B[i]                 C[i] = A[i] + B[i]
        """
        a = self._mark(stage, axis, "vectorize", "vectorize")
        if a.extent > MAX_LANES:
            a.annotation = "serial"
            raise ScheduleError(f"vectorize({a.name}): extent {a.extent} is over {MAX_LANES}; split the loop first")

    @primitive
    def unroll(self, stage: StageLike, axis: AxisLike) -> None:
        """Write the body of a loop out once for each iteration, so that indices on it are constants.

        for i in 0..2:               ->    body(0)
          body(i)                          body(1)
        """
        a = self._mark(stage, axis, "unroll", "unroll")
        if a.extent > MAX_UNROLL:
            a.annotation = "serial"
            raise ScheduleError(f"unroll({a.name}): extent {a.extent} is over {MAX_UNROLL}; split the loop first")

    @primitive
    def parallel(self, stage: StageLike, axis: AxisLike) -> None:
        """Share the iterations of the outermost loop of a root stage among the threads.

        for i in 0..64:              ->    parallel i in 0..64:      each thread a contiguous range of i
          body(i)                            body(i)
        """
        st = self[stage]
        a = self._leaf(st, axis, "parallel")
        if st.attach is not None:
            raise ScheduleError(
                f"parallel({a.name}): stage {st.name} is computed inside {st.attach[0].name}; parallelise that stage"
            )
        if st.leaves[0] is not a:
            raise ScheduleError(
                f"parallel({a.name}): only the outermost loop can be parallel, which is {st.leaves[0].name}; "
                "use reorder or fuse first"
            )
        self._mark(stage, axis, "parallel", "parallel")

    @primitive
    def partition(self, stage: StageLike, axis: AxisLike, cuts: Sequence[int]) -> None:
        """Specialise the body for ranges of a loop, so that what is decided there costs nothing elsewhere.

            for i in 0..8:                     body(0)           with the guard decided for i == 0
              if i > 0: body(i)          ->    for i in 1..8:    with the guard known to hold
            partition(C, i, [1])                 body(i)

        The loop is cut before each value in ``cuts`` (0 < cut < extent). A part of one iteration has its variable
        replaced by a constant. The axis may also be a part of a fused loop: then branches select the specialised body.
        """
        st = self[stage]
        a = self._axis(st, axis)
        bound = a in st.leaves or (a.fused_into is not None and a.fused_into in st.leaves)
        if not bound or a.split is not None:
            raise ScheduleError(
                f"partition({a.name}): it must be a loop or a part of a fused loop; the loops are {st.loop_names()}"
            )
        if a.annotation in ("vectorize", "unroll"):
            raise ScheduleError(f"partition({a.name}): the loop is marked {a.annotation} and needs no cutting")
        points = sorted({int(c) for c in cuts})
        if any(not 0 < c < a.extent for c in points):
            raise ScheduleError(f"partition({a.name}): cuts {points} must lie strictly between 0 and {a.extent}")
        a.cuts = tuple(points)

    # ------------------------------------------------------------------ checks

    def _mark(self, stage: StageLike, axis: AxisLike, annotation: Any, primitive_name: str) -> LoopAxis:
        st = self[stage]
        a = self._leaf(st, axis, primitive_name)
        if a.kind == "reduce" and annotation != "unroll":
            raise ScheduleError(f"{primitive_name}({a.name}): the loop is a reduction; only spatial loops can be")
        if a.annotation not in ("serial", annotation):
            raise ScheduleError(f"{primitive_name}({a.name}): the loop is already marked {a.annotation}")
        for other in st.leaves:
            if annotation in ("vectorize", "parallel") and other is not a and other.annotation == annotation:
                raise ScheduleError(f"{primitive_name}({a.name}): the loop {other.name} is already marked {annotation}")
        a.annotation = annotation
        return a

    def _no_stage_attached(self, stage: Stage, axis: LoopAxis, primitive_name: str) -> None:
        for s in self.live_stages():
            if s.attach is not None and s.attach[0] is stage and s.attach[1] is axis:
                raise ScheduleError(
                    f"{primitive_name}({axis.name}): stage {s.name} is computed at this loop; do it before"
                )


def _positive(primitive_name: str, argument: str, given: object) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ScheduleError(f"{primitive_name}: {argument} is {given!r}; it must be an integer of 1 or more")
