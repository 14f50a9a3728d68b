"""What a stage computes over its loops' variables, wherever lowering writes its loops. Part of :mod:`.lower`."""

from __future__ import annotations

from dataclasses import dataclass

from ..schedule.axis import bound_axes, split_parts, value
from ..schedule.schedule import Schedule
from ..schedule.stage import Bounds, Stage
from ..te.expr import Expr, Reduce, Var, binary, const
from ..te.simplify import prove, simplify
from ..te.traversal import conjuncts as split_conjuncts
from ..te.traversal import free_vars, substitute


@dataclass(frozen=True, slots=True)
class StageTerms:
    """One stage, over the variables of its loops and of those around them.

    coordinates    the value of each variable of the body
    guards         when a point of the spatial loops is to be computed; reduce_guards: those with reduction variables
    value          the body, or what it reduces; where: under these conditions
    origin         where attached: the first coordinate computed
    """

    coordinates: dict[Var, Expr]
    guards: tuple[Expr, ...]
    reduce_guards: tuple[Expr, ...]
    value: Expr
    where: tuple[Expr, ...]
    origin: tuple[Expr, ...]


def terms_of(schedule: Schedule, stage: Stage) -> StageTerms:
    """Work out a stage's terms. They are kept by who lowers: a stage is written once for each piece of a cut loop."""
    coordinates = stage.coordinates()
    around = _bounds_around(stage)
    guards = stage.split_guards() + _domain_guards(schedule, stage, coordinates)
    guards = [g for g in guards if not prove(g, around)]  # else each would be asked about at every loop
    body = stage.body
    origin = tuple(stage.resolved(m) for m in stage.region_min or ())
    if not isinstance(body, Reduce):
        return StageTerms(coordinates, tuple(guards), (), substitute(body, coordinates), (), origin)
    reduced = {a.var for a in stage.axes if a.kind == "reduce"}
    outer = tuple(g for g in guards if reduced.isdisjoint(free_vars(g)))
    inner = tuple(g for g in guards if not reduced.isdisjoint(free_vars(g)))
    where = tuple(substitute(c, coordinates) for c in split_conjuncts(body.where))
    return StageTerms(coordinates, outer, inner, substitute(body.term, coordinates), where, origin)


def _bounds_around(stage: Stage) -> Bounds:
    """The ranges of all variables that a stage's loops and those around it bind."""
    bounds = stage.loop_bounds()
    while stage.attach is not None:
        stage = stage.attach[0]
        bounds.update(stage.loop_bounds())
    return bounds


def _domain_guards(schedule: Schedule, stage: Stage, coordinates: dict[Var, Expr]) -> list[Expr]:
    """An attached stage computes a box that may stick out of the tensor, or out of what its consumer computes."""
    if stage.region_min is None:
        return []
    guards = []
    for axis in stage.tensor.axes:
        guards += [coordinates[axis.var] >= 0, coordinates[axis.var] < axis.extent]
    for d, axis in enumerate(stage.tensor.axes):
        reader = schedule.point_reader(stage, d)
        if reader is not None:
            guards += [coordinates[axis.var] < end for end in _reader_ends(stage, *reader)]
    return guards


def _reader_ends(stage: Stage, reader: Stage, dimension: int) -> list[Expr]:
    """Where what a reader computes of a dimension ends: its own region, and a split of it that is guarded."""
    root = reader.roots[dimension]
    begin = const(0) if reader.region_min is None else reader.resolved(reader.region_min[dimension])
    ends = [] if reader.region_min is None else [binary("add", begin, root.extent)]
    assert stage.attach is not None
    inside = reader.leaves[reader.leaves.index(stage.attach[1]) + 1 :]
    inner = {axis.var for leaf in inside for axis in bound_axes(leaf)}
    for part in split_parts(root):
        if part.split is not None and part.split.guarded:
            start = simplify(binary("add", begin, binary("sub", value(root), value(part))), reader.loop_bounds())
            if inner.isdisjoint(free_vars(start)):
                ends.append(binary("add", start, part.extent))
    return ends
