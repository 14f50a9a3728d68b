"""The tasks of a model: its distinct kernels, each with the number of times that the model runs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ..graph.compile import prepare
from ..graph.fusion import partition
from ..graph.importer.read import ModelSource
from ..graph.lowering import LoweredGroup, lower_group
from ..target import Target
from .task import TuningTask


def model_tasks(
    model: ModelSource, target: Target, shapes: Mapping[str, Sequence[int]] | None = None
) -> list[TuningTask]:
    """Import a model as a build for ``target`` does, and return its tasks, most arithmetic first.

    Names are made of the operator and the first ONNX node that uses a task. Raises OnnxError as a build does.
    """
    graph = prepare(model, target, shapes)
    uses: Counter[str] = Counter()
    first: dict[str, tuple[LoweredGroup, str]] = {}
    for group in partition(graph):
        if group.kind != "kernel" or not group.nodes:
            continue
        lowered = lower_group(group, graph)
        key = lowered.workload.key
        uses[key] += 1
        first.setdefault(key, (lowered, group.nodes[0].op))
    tasks = [
        TuningTask(lowered.workload, _name(op, lowered), uses[key])
        for key, (lowered, op) in first.items()
        if lowered.workload.flops
    ]
    return sorted(tasks, key=lambda t: -t.workload.flops * t.uses)


def _name(op: str, lowered: LoweredGroup) -> str:
    node = next((n for n in lowered.names if n), "")
    return f"{op}:{node}" if node else op
