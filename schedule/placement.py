"""Placement primitives: where a stage is computed, where its values live, and how they lie in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import get_args

from ..errors import ScheduleError
from ..te.cached import Interval, indices_of
from ..te.expr import Axis, Expr, Read, Reduce, Var
from ..te.tensor import Compute, Placeholder, Source
from ..te.traversal import rewrite, substitute
from .axis import LoopAxis, plus
from .layout import BlockedLayout
from .regions import clipped, covered, inner_and_bounds, union
from .stage import Bounds, Prefetching, Stage, StageScope
from .state import AxisLike, ScheduleState, StageLike
from .trace import primitive


class Placement(ScheduleState):
    """The primitives that place stages; a part of :class:`.schedule.Schedule`."""

    @primitive
    def compute_inline(self, stage: StageLike) -> None:
        """Substitute a stage's expression into its consumers; it gets no loops of its own.

        for i: B[i] = A[i] + 1             for i: C[i] = (A[i] + 1) * 2
        for i: C[i] = B[i] * 2       ->
        """
        st = self[stage]
        if isinstance(st.body, Reduce):
            raise ScheduleError(f"compute_inline({st.name}): it is a reduction; use compute_at")
        if self.is_output(st):
            raise ScheduleError(f"compute_inline({st.name}): it is an output and must be stored")
        if st.inlined or st.attach is not None:
            raise ScheduleError(f"compute_inline({st.name}): the stage is already placed")
        for consumer in self.consumers(st.tensor):
            consumer.body = _with_inlined(consumer.body, st.tensor, st.body)
        st.inlined = True

    @primitive
    def compute_at(self, stage: StageLike, consumer: StageLike, axis: AxisLike) -> None:
        """Compute a producer inside a loop of its consumer: just the region that one iteration needs.

            for i: for j: B[i, j] = ...        for i:
            for i: for j: C[i, j] = f(B) ->      for j: B.region[j] = ...
                                                 for j: C[i, j] = f(B.region)

        The producer's loops now run over that region, and its buffer holds no more than it; both are known at once.
        Call it after the consumer's loops are in place and before the producer's own loops are changed.
        """
        st, at = self[stage], self[consumer]
        a = self._leaf(at, axis, "compute_at")
        if self.is_output(st):
            raise ScheduleError(f"compute_at({st.name}): it is an output and must be stored whole")
        if st.inlined or st.attach is not None:
            raise ScheduleError(f"compute_at({st.name}): the stage is already placed")
        if st.leaves != [*st.roots, *st.reduce_roots] or any(x.annotation != "serial" for x in st.leaves):
            raise ScheduleError(f"compute_at({st.name}): its loops were already changed; call compute_at first")
        readers = self.consumers(st.tensor)
        if not readers:
            raise ScheduleError(f"compute_at({st.name}): nothing reads it")
        region: list[Interval] = []
        for reader in readers:
            inner, bounds = inner_and_bounds(reader, at, a)
            coordinates = reader.coordinates()
            if reader is not at:
                tight, ranges = self._coordinates_inside(reader, at)
                coordinates.update(tight)
                inner.update(ranges)
                bounds.update(ranges)
            dimensions = zip(indices_of(reader.body, st.tensor), st.tensor.shape, strict=True)
            found = [covered(indices, size, coordinates, inner, bounds) for indices, size in dimensions]
            region = union(region, found, bounds, st.tensor.shape) if region else found
        for root, (minimum, extent), size in zip(st.roots, region, st.tensor.shape, strict=True):
            root.extent = clipped(minimum, extent, size)
        st.region_min = tuple(minimum for minimum, _ in region)
        st.attach = (at, a)

    def _coordinates_inside(self, reader: Stage, at: Stage) -> tuple[dict[Var, Expr], Bounds]:
        """Coordinates of a stage all of whose loops are inside a loop of ``at``, over whole dimensions.

        That leaves out the points by which a loop that was split by a guarded factor, or a tile that is computed for
        such a loop, sticks out. Also the ranges of the variables.
        """
        coordinates: dict[Var, Expr] = {}
        ranges: Bounds = {}
        for d, axis in enumerate(reader.tensor.axes):
            stage, dimension = reader, d
            while (outer := self.point_reader(stage, dimension)) is not None and outer[0] is not at:
                stage, dimension = outer
            assert stage.region_min is not None
            root = stage.roots[dimension]
            coordinates[axis.var] = plus(stage.resolved(stage.region_min[dimension]), root.var)
            ranges[root.var] = (0, max(root.extent - 1, 0))
        return coordinates, ranges

    @primitive
    def cache_write(self, stage: StageLike) -> Stage:
        """Split a stage into one that computes into a buffer of its own and one that copies the result out.

            for i: C[i] = sum(...)       ->    for i: C.local[i] = sum(...)
                                               for i: C[i] = C.local[i]

        Returns the new stage; place it with compute_at, so that its values stay in registers or cache.
        """
        st = self[stage]
        _unscheduled(st, "cache_write")
        local, st.body = _computed_apart(f"{st.name}.local", st.tensor, st.body)
        made = self._add_stage(local.name, local, [a.name for a in (*st.roots, *st.reduce_roots)], before=st)
        st.drop_reduction()
        return made

    @primitive
    def cache_read(self, tensor: StageLike, readers: Sequence[StageLike] | None = None) -> Stage:
        """Copy what a stage reads into a buffer of its own first; returns the copying stage.

            for i: C[i] = f(A)           ->    for i: A.local[i] = A[i]
                                               for i: C[i] = f(A.local)

        Place the copy with compute_at; give it a layout with transform_layout (packing).
        """
        source = self.tensor(tensor)
        consumers = self.consumers(source) if readers is None else [self[r] for r in readers]
        if not consumers:
            raise ScheduleError(f"cache_read({source.name}): nothing reads it")
        for c in consumers:
            if source not in c.inputs():
                raise ScheduleError(f"cache_read({source.name}): stage {c.name} does not read it")
        local = _copy_of(self.name_of(source), source)
        first = next(s for s in self.stages.values() if s in consumers)
        made = self._add_stage(local.name, local, before=first)
        for c in consumers:
            c.body = _with_redirected(c.body, source, local)
        return made

    @primitive
    def transform_layout(
        self,
        tensor: StageLike,
        factors: Sequence[Sequence[int]],
        order: Sequence[Sequence[int]],
        padding: Sequence[int] = (),
    ) -> None:
        """Change how a constant input or an intermediate lies in memory; indices elsewhere follow.

            W[o, i]  ->  W[o // 16, i, o % 16]        transform_layout(W, [[16], []], [(0, 0), (1, 0), (0, 1)])

        factors  for each dimension the sizes of the inner parts it is cut into (outer parts first)
        order    (dimension, part) pairs, outermost first; part 0 is what remains of the dimension
        padding  for each entry of order, how many elements are left unused after it, so that what is a power of two
                 apart does not share the sets of a cache, or rows begin at a whole vector
        """
        source = self.tensor(tensor)
        layout = BlockedLayout(
            tuple(tuple(int(f) for f in fs) for fs in factors),
            tuple((int(d), int(p)) for d, p in order),
            tuple(int(p) for p in padding),
        )
        layout.check(source.shape)
        if isinstance(source, Placeholder):
            if not source.constant:
                raise ScheduleError(
                    f"transform_layout({source.name}): only constant inputs can change their layout; use cache_read "
                    "and transform the copy"
                )
            self.layouts[source] = layout
            return
        st = self[tensor]
        if self.is_output(st):
            raise ScheduleError(f"transform_layout({st.name}): it is an output, whose layout is fixed")
        st.layout = layout

    @primitive
    def set_scope(self, stage: StageLike, scope: StageScope) -> None:
        """Say where a stage placed by compute_at keeps its values: ``register``, ``stack``, ``thread`` or ``auto``."""
        st = self[stage]
        if scope not in get_args(StageScope):
            raise ScheduleError(f"set_scope({st.name}): {scope!r} must be one of {', '.join(get_args(StageScope))}")
        if self.is_output(st):
            raise ScheduleError(f"set_scope({st.name}): it is an output; its memory is the caller's")
        if (st.attach is None) != (scope in ("shared", "auto")) and scope != "auto":
            where = "at root" if st.attach is None else "inside a loop"
            raise ScheduleError(f"set_scope({st.name}, {scope}): not possible for a stage computed {where}")
        st.scope = scope

    @primitive
    def prefetch(
        self,
        stage: StageLike,
        tensor: StageLike,
        axis: AxisLike | None,
        distance: int,
        along: AxisLike | None = None,
        share: AxisLike | None = None,
    ) -> None:
        """Ask for memory ahead of its use: what ``axis`` reads of a tensor ``distance`` iterations later.

        ``axis`` is a loop of the stage; None stands for the loop of its consumer inside which it is computed. For the
        stage's own tensor, it asks for the lines that the loop will write.

            for k in 0..64:              ->    for k in 0..64:
              C[...] += A[k] * W[k]              prefetch W[k + 16]
                                                 C[...] += A[k] * W[k]
                                               prefetch(C, W, k, 16)

        Past the end of the loop it goes on in the same step through memory, into what the layout stores there: with
        a packed tensor, the next panel. A prefetch never faults. Loops inside of ``axis`` that the reads depend on are
        run for it too; a vectorised one, or one that stays within 64 bytes, counts as one cache line. With distance 0,
        it asks for what an iteration reads after it has computed the stages inside of it.

        ``along`` is a spatial loop of the consumer, or of the stage that the consumer is computed in, and so on, of
        which ``distance`` then counts the iterations. What the stage reads through a stage that is computed there may
        be asked for too: the input of the next block, while one is in use.

        ``share`` is a loop around too, whose iterations all read what is asked for, as the tiles of an image read one
        panel of weights. Each then asks for its part, so that memory has the time of all of them to bring it: of R
        iterations, the r-th for steps r, r + R, ... of the outermost loop inside of ``axis`` that the reads depend on.
        """
        st = self[stage]
        a = self._attach_loop(st) if axis is None else self._leaf(st, axis, "prefetch")
        source = self.tensor(tensor)
        if isinstance(distance, bool) or not isinstance(distance, int) or distance < 0:
            raise ScheduleError(
                f"prefetch({source.name}): distance is {distance!r}; it must be 0 or a positive integer"
            )
        if not self.accesses(st, source, along is not None):
            names = ", ".join(i.name for i in st.inputs())
            raise ScheduleError(
                f"prefetch({source.name}): stage {st.name} neither reads nor makes it; it reads {names}"
            )
        if a.annotation in ("unroll", "vectorize"):
            raise ScheduleError(f"prefetch({source.name}): {a.name} is marked {a.annotation}; name a loop around it")
        ahead = None if along is None else self._loop_around(st, along, "along")
        shared = None if share is None else self._loop_around(st, share, "share")
        st.prefetches.append(Prefetching(source, a, distance, ahead or a, shared))

    @primitive
    def store_past_caches(self, stage: StageLike) -> None:
        """Write an output to memory past the caches (non-temporal stores).

        for i in 0..64:              ->    for i in 0..64:
          C[i] = A[i] + B[i]                 C[i] = A[i] + B[i]   # past the caches

        An ordinary store reads the line that it is about to overwrite, and puts out of the caches what is used again.
        It pays for results that are too large to be found there by whoever reads them. Whole aligned vectors are
        written so; what is masked, or shorter, is stored as usual.
        """
        st = self[stage]
        if not self.is_output(st):
            raise ScheduleError(
                f"store_past_caches({st.name}): it is no output, but read again in this kernel; name an output"
            )
        st.past_caches = True

    def _loop_around(self, stage: Stage, axis: AxisLike, argument: str) -> LoopAxis:
        """A loop of a stage inside which another one is computed, however deep, or a part of one that was fused."""
        if stage.attach is None:
            raise ScheduleError(
                f"prefetch({stage.name}): it is not computed inside another stage; leave out {argument}"
            )
        at = stage.attach[0]
        name = axis if isinstance(axis, str) else axis.name
        while at.attach is not None and all(known.name != name for known in at.axes):
            at = at.attach[0]
        found = self._axis(at, axis)
        if found.split is not None:
            names = at.loop_names()
            raise ScheduleError(f"prefetch({stage.name}): {found.name} is no loop any more; the loops are {names}")
        return found

    def _attach_loop(self, stage: Stage) -> LoopAxis:
        if stage.attach is None:
            raise ScheduleError(f"prefetch({stage.name}): it is not computed inside another stage; name a loop of it")
        return stage.attach[1]


# What primitives do to expressions depends on immutable trees alone, and a search makes the same schedules of a
# workload again and again but for their loops: hence the caches, by identity. They also make equal bodies one object.


@lru_cache(maxsize=1024)
def _computed_apart(name: str, tensor: Compute, body: Expr) -> tuple[Compute, Expr]:
    """A compute of ``body`` under another name, and the expression by which ``tensor`` copies it."""
    axes = tuple(Axis(Var(a.name), a.extent, a.kind) for a in tensor.axes)
    renamed: dict[Var, Expr] = {old.var: new.var for old, new in zip(tensor.axes, axes, strict=True)}
    local = Compute(name, tensor.shape, tensor.dtype, axes, substitute(body, renamed), tensor.tag, tensor.attrs)
    return local, Read(local, tuple(a.var for a in tensor.axes), local.dtype)


@lru_cache(maxsize=1024)
def _copy_of(name: str, source: Source) -> Compute:
    axes = tuple(Axis(Var(f"{name}_{d}"), n, "spatial") for d, n in enumerate(source.shape))
    body = Read(source, tuple(a.var for a in axes), source.dtype)
    return Compute(f"{name}.local", source.shape, source.dtype, axes, body)


@lru_cache(maxsize=1024)
def _with_inlined(body: Expr, producer: Compute, producer_body: Expr) -> Expr:
    def inlined(e: Expr) -> Expr | None:
        if not isinstance(e, Read) or e.source is not producer:
            return None
        indices = [rewrite(i, inlined) for i in e.indices]
        return substitute(producer_body, {a.var: i for a, i in zip(producer.axes, indices, strict=True)})

    return rewrite(body, inlined)


@lru_cache(maxsize=1024)
def _with_redirected(body: Expr, old: Source, new: Source) -> Expr:
    return rewrite(body, lambda e: _redirected(e, old, new))


def _redirected(e: Expr, old: Source, new: Source) -> Expr | None:
    if not isinstance(e, Read) or e.source is not old:
        return None
    return Read(new, tuple(rewrite(i, lambda x: _redirected(x, old, new)) for i in e.indices), e.dtype)


def _unscheduled(stage: Stage, primitive_name: str) -> None:
    if stage.inlined or stage.attach is not None or stage.leaves != [*stage.roots, *stage.reduce_roots]:
        raise ScheduleError(f"{primitive_name}({stage.name}): the stage is already scheduled; call it first")
