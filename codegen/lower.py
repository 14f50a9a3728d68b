"""From a schedule to the loop IR: build the loop nest of every stage.

Comes in: a :class:`..schedule.schedule.Schedule`. Goes out: a :class:`.nodes.Function`. Next: :mod:`.pipeline`.

The nest is built from the outside in, with what is known at each point in a :class:`Scope`: the variables that are
bound, their
ranges, and those that are constant there. All arithmetic on indices is simplified under these facts when it is
written. That makes cutting a loop (``partition``) a matter of building its body once for each piece, under narrower
ranges: a guard or a padding condition that a piece decides never appears in it.

A guard is placed right inside the loop that binds the last of its variables; where it only limits that loop's own
variable to a constant range, the loop is shortened instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..errors import ScheduleError
from ..schedule.axis import LoopAxis, bound_axes, shared_loop
from ..schedule.schedule import Schedule
from ..schedule.stage import Prefetching, Stage
from ..te import dtype as dt
from ..te.expr import Const, Expr, Read, Reduce, Select, Var, all_of, binary, compare, const, select
from ..te.simplifier import forget
from ..te.simplify import simplify
from ..te.tensor import Placeholder
from ..te.traversal import conjuncts as split_conjuncts
from ..te.traversal import free_vars, rewrite, substitute
from .combiners import combine, identity
from .in_place import in_place_pairs
from .nodes import LINE_BYTES, Alloc, Barrier, Buffer, For, Function, If, Let, Prefetch, Seq, Stmt, seq
from .scope import Scope, narrowed, ranges
from .stage_terms import StageTerms, terms_of
from .storage import Storage

L2_CACHE = 2
"""Prefetched lines go there: a panel is as large as the first-level cache, which holds the one in use."""

EMPTY = Seq(())

Guards: TypeAlias = Sequence[Expr]


def lower(schedule: Schedule, name: str = "kernel") -> Function:
    """Build the loop nest of ``schedule`` as one function called ``name``."""
    return _Lowering(schedule).function(name)


def lower_preparation(schedule: Schedule, source: Placeholder, name: str) -> Function:
    """Build the function that runs when a model is built: what the kernel reads in place of a constant input."""
    return _Lowering(schedule).preparation(source, name)


Body: TypeAlias = Callable[[Scope, Guards], Stmt]


class _Lowering(Storage):
    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        forget()
        self._vars: dict[Expr, frozenset[Var]] = {}
        self._terms: dict[Stage, StageTerms] = {}

    def _terms_of(self, stage: Stage) -> StageTerms:
        found = self._terms.get(stage)
        if found is None:
            found = self._terms[stage] = terms_of(self.schedule, stage)
        return found

    def vars(self, e: Expr) -> frozenset[Var]:
        """The variables of an expression; asked for at every loop that a guard passes."""
        found = self._vars.get(e)
        if found is None:
            found = self._vars[e] = frozenset(free_vars(e))
        return found

    def function(self, name: str) -> Function:
        """The kernel: every stage that is not precomputed."""
        s = self.schedule
        inputs = [self.input(p) for p in s.workload.inputs]
        stages = [x for x in s.live_stages() if not x.precomputed]
        shared = self.root_buffers(stages, s.workload.outputs)
        outputs = tuple(self.memory[t] for t in s.workload.outputs)
        body = self._root_nests(stages)
        return Function(
            name, (*inputs, *outputs), len(outputs), body, shared, tuple(self.thread.values()), in_place_pairs(s)
        )

    def preparation(self, source: Placeholder, name: str) -> Function:
        """The function that makes what stands in for a constant input, from that input in its own layout."""
        result = self.schedule.precomputed_for(source)
        assert result is not None
        stages = self.schedule.stages_precomputed_for(result)
        self.memory[source] = Buffer(source.name, source.shape, source.dtype, "param")
        shared = self.root_buffers(stages, (result.tensor,))
        body = self._root_nests(stages)
        return Function(
            name, (self.memory[source], self.memory[result.tensor]), 1, body, shared, tuple(self.thread.values())
        )

    def _root_nests(self, stages: Sequence[Stage]) -> Stmt:
        nests: list[Stmt] = []
        for stage in stages:
            if stage.attach is None:
                if nests:
                    nests.append(Barrier())
                nests.append(self.stage(stage, Scope()))
        return seq(*nests)

    # ------------------------------------------------------------------ one stage

    def stage(self, stage: Stage, scope: Scope) -> Stmt:
        """The loops of one stage: for a reduction, the outer spatial loops, then initialisation, then the update."""
        if any(r.extent == 0 for r in stage.roots):
            return EMPTY
        single = {a.var: const(0) for a in stage.leaves if a.extent == 1}
        scope = scope.valued(single)
        terms = self._terms_of(stage)
        target = self.locate(stage.tensor, [terms.coordinates[a.var] for a in stage.tensor.axes], scope)
        leaves = stage.leaves
        if not isinstance(stage.body, Reduce):

            def nest(value: Expr) -> Stmt:
                return self.loops(stage, leaves, scope, terms.guards, lambda sc, _: self.store(target, value, sc))

            condition, under_it = self._unswitched(terms.value, scope) if stage.unswitched else (None, terms.value)
            return nest(under_it) if condition is None else If(condition, nest(under_it), nest(terms.value))
        body = stage.body
        first = next((i for i, a in enumerate(leaves) if a.kind == "reduce"), len(leaves))
        inner = leaves[first:]
        spatial = [a for a in inner if a.kind == "spatial"]
        nothing = const(identity(body.combiner, body.dtype), body.dtype)

        def start(sc: Scope, _: Guards) -> Stmt:
            return self.store(target, nothing, sc)

        def update(sc: Scope, _: Guards) -> Stmt:
            buffer, indices = target
            old = Read(buffer, indices, buffer.dtype)
            return self.store(target, combine(body.combiner, old, terms.value), sc)

        def both(sc: Scope, left: Guards) -> Stmt:
            nest = self.loops(stage, spatial, sc, left, start, attached=False)
            if any(a.extent == 0 for a in inner):
                return nest
            return seq(nest, self.loops(stage, inner, sc, [*left, *terms.reduce_guards, *terms.where], update))

        return self.loops(stage, leaves[:first], scope, terms.guards, both, last=False)

    def _unswitched(self, value: Expr, scope: Scope) -> tuple[Expr | None, Expr]:
        """All conditions of selects that are decided here, as one, and the value where it holds."""
        decided: list[Expr] = []
        done: dict[Expr, Expr] = {}

        def without(e: Expr) -> Expr | None:
            if not isinstance(e, Select):
                return None
            parts = [scope.simplify(c) for c in split_conjuncts(e.condition)]
            left = [p for p in parts if not all(map(scope.binds, self.vars(p)))]
            decided.extend(p for p in parts if p not in left)
            chosen = rewrite(e.a, without, done)
            return select(all_of(*left), chosen, rewrite(e.b, without, done)) if left else chosen

        under = rewrite(value, without, done)
        condition = scope.simplify(all_of(*decided))
        return (None, value) if isinstance(condition, Const) else (condition, under)

    # ------------------------------------------------------------------ loops

    def loops(
        self,
        stage: Stage,
        leaves: Sequence[LoopAxis],
        scope: Scope,
        guards: Guards,
        body: Body,
        attached: bool = True,
        last: bool = True,
    ) -> Stmt:
        """Open ``leaves`` one inside the other under ``guards``, and write ``body`` in the innermost.

        ``body`` is given the scope there and the guards that await a variable still; ``last`` says that there may be
        none.
        """
        ready: list[Expr] = []
        waiting: list[Expr] = []
        for g in guards:
            (ready if all(map(scope.binds, self.vars(g))) else waiting).append(g)
        condition: Expr = const(True)
        for g in ready:
            condition = binary("and", condition, scope.simplify(g))
        if isinstance(condition, Const) and not condition.value:
            return EMPTY
        if not leaves:
            if waiting and last:
                names = sorted({v.name for g in waiting for v in self.vars(g) if not scope.binds(v)})
                raise ScheduleError(
                    f"stage {stage.name}: loop {', '.join(names)} is not around it; the consumer's loops were "
                    "reordered after compute_at"
                )
            inner = body(scope, waiting)
        else:
            leaf, rest = leaves[0], leaves[1:]

            def inside(sc: Scope) -> Stmt:
                def after_lets(sc: Scope) -> Stmt:
                    def remaining(sc: Scope) -> Stmt:
                        return self.loops(stage, rest, sc, waiting, body, attached, last)

                    if not attached:
                        return remaining(sc)
                    nest = self._attached(stage, leaf, sc, remaining)
                    return nest if nest is EMPTY else seq(self._prefetches(stage, leaf, rest, sc), nest)

                return self._fused_parts(leaf, sc, after_lets)

            inner = seq(*self._pieces(leaf, rest, scope, waiting, inside))
        if isinstance(condition, Const) or inner is EMPTY:
            return inner
        return If(condition, inner)

    def _pieces(
        self, leaf: LoopAxis, rest: Sequence[LoopAxis], scope: Scope, guards: Guards, inside: Callable[[Scope], Stmt]
    ) -> list[Stmt]:
        """One loop for each piece that the cuts make of a leaf."""
        made: list[Stmt] = []
        for low, high in ranges(leaf):
            low, high = self._narrow(leaf, rest, low, high, scope, guards)
            if high <= low:
                continue
            inner = inside(scope.ranged(leaf.var, low, high))
            if isinstance(inner, Seq) and not inner.stmts:
                continue
            if high - low == 1 and leaf.annotation != "parallel":
                made.append(inner)
            elif high - low == 1:
                made.append(For(leaf.var, const(low), const(1), "parallel", inner))
            else:
                made.append(For(leaf.var, const(low), const(high - low), leaf.annotation, inner))
        return made

    def _narrow(
        self, leaf: LoopAxis, rest: Sequence[LoopAxis], low: int, high: int, scope: Scope, guards: Guards
    ) -> tuple[int, int]:
        """Shorten a range by the guards that hold nowhere outside of it, whatever the loops around and inside do."""
        guards = [g for g in guards if leaf.var in self.vars(g)]
        if not guards:
            return low, high
        bounds = {**scope.bounds, **{a.var: (0, a.extent - 1) for x in rest for a in bound_axes(x)}}
        for g in guards:
            g = substitute(g, scope.values)
            if self.vars(g) != {leaf.var}:
                g = simplify(g, {**bounds, leaf.var: (low, high - 1)})
            low, high = narrowed(g, leaf.var, low, high, bounds)
        return low, high

    def _fused_parts(self, leaf: LoopAxis, scope: Scope, inside: Callable[[Scope], Stmt]) -> Stmt:
        """Bind the variables of the loops that a fused loop was made of; cuts on them become branches."""
        if leaf.fuse is None:
            return inside(scope)
        outer, inner = leaf.fuse.outer, leaf.fuse.inner
        whole = scope.simplify(leaf.var)

        def bind(axis: LoopAxis, value: Expr, scope: Scope, inside: Callable[[Scope], Stmt]) -> Stmt:
            value = scope.simplify(value)
            alias = isinstance(value, Var)
            if isinstance(value, Const) or (isinstance(value, Var) and not axis.cuts):
                return self._fused_parts(axis, scope.valued({axis.var: value}), inside)
            var = value if isinstance(value, Var) else axis.var
            result: Stmt | None = None
            for low, high in reversed(ranges(axis)):
                known = scope.ranged(var, low, high)
                if alias:
                    known = known.valued({axis.var: known.values.get(var, var)})
                part = self._fused_parts(axis, known, inside)
                result = part if result is None else If(compare("lt", var, high), part, result)
            assert result is not None
            if alias:
                return result
            return Let(axis.var, value, result)

        def bind_inner(sc: Scope) -> Stmt:
            return bind(inner, binary("floormod", whole, inner.extent), sc, inside)

        return bind(outer, binary("floordiv", whole, inner.extent), scope, bind_inner)

    def _attached(self, stage: Stage, leaf: LoopAxis, scope: Scope, remaining: Callable[[Scope], Stmt]) -> Stmt:
        """Compute the stages that are attached at a loop, then what the loop does itself."""
        producers = [
            s for s in self.schedule.live_stages() if s.attach and s.attach[0] is stage and s.attach[1] is leaf
        ]
        parts: list[Stmt] = []
        allocated: list[Buffer] = []
        for p in producers:
            origin = tuple(map(scope.simplify, self._terms_of(p).origin))
            for m in origin:
                if not all(map(scope.binds, self.vars(m))):
                    raise ScheduleError(
                        f"stage {p.name}: the loops of {stage.name} were reordered after compute_at; "
                        "call compute_at when they are final"
                    )
            extents = tuple(r.extent for r in p.roots)
            shape = p.layout.physical_shape(extents) if p.layout else extents
            kind = self.scope_of(p, shape)
            buffer = self.thread.get(p) or Buffer(p.name, shape, p.tensor.dtype, kind)
            if kind == "thread":
                self.thread[p] = buffer
            else:
                allocated.append(buffer)
            scope = scope.holding(p.tensor, buffer, origin)
            parts += [self._prefetches(p, leaf, p.leaves, scope), self.stage(p, scope)]
        result = seq(*parts, remaining(scope))
        for buffer in reversed(allocated):
            result = Alloc(buffer, result)
        return result

    def _prefetches(self, stage: Stage, leaf: LoopAxis, inner: Sequence[LoopAxis], scope: Scope) -> Stmt:
        """What a loop asks for ahead of time: a line for each vector read, at each point of the loops inside."""
        parts = []
        for p in stage.prefetches:
            if p.axis is not leaf or (p.along is leaf and p.distance and leaf.var not in scope.bounds):
                continue
            for access in self.schedule.accesses(stage, p.source, p.along is not p.axis):
                parts.append(self._prefetch(stage, access, p, inner, scope))
        return seq(*parts)

    def _prefetch(self, stage: Stage, access: Read, p: Prefetching, inner: Sequence[LoopAxis], scope: Scope) -> Stmt:
        ahead = {p.along.var: p.along.var + p.distance}
        write = access.source is stage.tensor
        wanted = substitute(access, self._terms_of(stage).coordinates)
        if p.along is not p.axis:  # its variable may stand for an expression: that of a part of a fused loop
            wanted, ahead = substitute(wanted, ahead), {}
        used = self.vars(wanted)
        around = [x for x in inner if any(a.var in used for a in bound_axes(x))]
        vectors = [x for x in around if x.annotation == "vectorize" or self._within_line(x, wanted)]
        start = scope.valued({x.var: const(0) for x in vectors})
        loops = [x for x in around if x not in vectors]
        if p.share is not None and loops:
            part, step = shared_loop(loops[0], p.share)
            wanted = substitute(wanted, {loops[0].var: step})
            loops[0] = part

        def one(sc: Scope, _: Guards) -> Stmt:
            place = self.located(substitute(wanted, sc.values), sc)
            assert isinstance(place, Read) and isinstance(place.source, Buffer)
            return Prefetch(place.source, tuple(substitute(i, ahead) for i in place.indices), L2_CACHE, write)

        return self.loops(stage, loops, start, [], one, attached=False)

    def _within_line(self, leaf: LoopAxis, read: Expr) -> bool:
        """Whether a loop runs along the last dimension of a row-major tensor alone, which is no more than a line."""
        assert isinstance(read, Read)
        source = read.source
        if self.layout(source) is not None or LINE_BYTES % (source.shape[-1] * dt.size_bytes(source.dtype)):
            return False
        return not any(leaf.var in self.vars(i) for i in read.indices[:-1])
