"""The loop nest of a schedule as text, as it stands; what ``print(schedule)`` shows."""

from __future__ import annotations

from ..te.expr import Expr, Reduce
from ..te.printer import format_expr
from ..te.simplify import simplify
from ..te.traversal import conjuncts, substitute
from .axis import LoopAxis, bound_axes
from .schedule import Schedule
from .stage import Stage

_KEYWORD = {"serial": "for", "unroll": "unroll", "vectorize": "vectorize", "parallel": "parallel"}


def format_schedule(schedule: Schedule) -> str:
    """Print every root stage with the stages that are computed inside its loops."""
    lines: list[str] = []
    for tensor, layout in schedule.layouts.items():
        lines.append(f"layout {tensor.name}: {list(layout.physical_shape(tensor.shape))} of {list(tensor.shape)}")
    for stage in schedule.live_stages():
        if stage.attach is None:
            lines += _stage_lines(schedule, stage, 0)
    return "\n".join(lines)


def _stage_lines(schedule: Schedule, stage: Stage, depth: int) -> list[str]:
    lines: list[str] = []
    leaves = stage.leaves
    first = next((i for i, a in enumerate(leaves) if a.kind == "reduce"), None)
    if stage.attach is not None:
        extents = " x ".join(str(r.extent) for r in stage.roots)
        lines.append(f"{'  ' * depth}{stage.name}: {extents} in {stage.scope} memory")
    if stage.past_caches:
        lines.append(f"{'  ' * depth}# whole vectors are stored past the caches")
    if stage.unswitched:
        lines.append(f"{'  ' * depth}# in two copies: where all conditions that do not vary below hold, and elsewhere")
    for position, leaf in enumerate(leaves):
        if position == first:
            lines.append(f"{'  ' * depth}{_target(stage)} = {_identity_text(stage)}   # over the spatial loops below")
        lines += _loop_lines(leaf, depth)
        depth += 1
        lines += _prefetch_lines(stage, leaf, depth)
        for producer in schedule.live_stages():
            if producer.attach is not None and producer.attach[0] is stage and producer.attach[1] is leaf:
                lines += _prefetch_lines(producer, leaf, depth)
                lines += _stage_lines(schedule, producer, depth)
    lines += _body_lines(stage, depth)
    return lines


def _prefetch_lines(stage: Stage, leaf: LoopAxis, depth: int) -> list[str]:
    asked = [p for p in stage.prefetches if p.axis is leaf]
    return [f"{'  ' * depth}prefetch {p}" for p in asked]


def _loop_lines(leaf: LoopAxis, depth: int) -> list[str]:
    cuts = f" cut at {', '.join(map(str, leaf.cuts))}" if leaf.cuts else ""
    lines = [f"{'  ' * depth}{_KEYWORD[leaf.annotation]} {leaf.name} in 0..{leaf.extent}{cuts}:"]
    for axis in bound_axes(leaf)[1:]:
        if axis.cuts:
            lines.append(f"{'  ' * (depth + 1)}branch on {axis.name} at {', '.join(map(str, axis.cuts))}")
    return lines


def _target(stage: Stage) -> str:
    return f"{stage.name}[{', '.join(a.name for a in stage.tensor.axes)}]"


def _identity_text(stage: Stage) -> str:
    assert isinstance(stage.body, Reduce)
    return f"identity of {stage.body.combiner}"


def _body_lines(stage: Stage, depth: int) -> list[str]:
    coordinates = stage.coordinates()
    bounds = stage.loop_bounds()
    consumer = stage
    while consumer.attach is not None:
        consumer = consumer.attach[0]
        bounds.update(consumer.loop_bounds())

    def text(e: Expr) -> str:
        return format_expr(simplify(substitute(e, coordinates), bounds))

    indices = ", ".join(text(a.var) for a in stage.tensor.axes)
    guards = [simplify(g, bounds) for g in stage.split_guards()]
    body = stage.body
    where = conjuncts(body.where) if isinstance(body, Reduce) else []
    conditions = [format_expr(g) for g in guards if g.dtype == "bool" and not _is_true(g)]
    conditions += [text(c) for c in where if not _is_true(simplify(substitute(c, coordinates), bounds))]
    lines = []
    if conditions:
        lines.append(f"{'  ' * depth}if {' and '.join(conditions)}:")
        depth += 1
    if isinstance(body, Reduce):
        lines.append(f"{'  ' * depth}{stage.name}[{indices}] {body.combiner}= {text(body.term)}")
    else:
        lines.append(f"{'  ' * depth}{stage.name}[{indices}] = {text(body)}")
    return lines


def _is_true(e: Expr) -> bool:
    return getattr(e, "value", None) is True
