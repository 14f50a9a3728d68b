"""The tasks of a model: its distinct kernels, each with the number of times that the model runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..accuracy import Accuracy
from ..graph.compile import prepare
from ..graph.fusion import partition
from ..graph.importer.read import ModelSource
from ..graph.lowering import lower_group
from ..graph.tasks import extract_tasks
from ..target import Target
from .task import TuningTask


def model_tasks(
    model: ModelSource,
    target: Target,
    shapes: Mapping[str, Sequence[int]] | None = None,
    accuracy: Accuracy = "fast",
) -> list[TuningTask]:
    """Import a model as a build for ``target`` does, and return its tasks, most arithmetic first.

    accuracy: the build's; convolutions that must be exact are tasks of their own. Raises OnnxError as a build does.
    """
    graph = prepare(model, target, shapes, accuracy)
    groups = [lower_group(g, graph) for g in partition(graph) if g.kind == "kernel"]
    tasks = [TuningTask(t.workload, t.name, t.uses) for t in extract_tasks(groups)]
    return sorted(tasks, key=lambda t: (-t.workload.flops * t.uses, t.name))
