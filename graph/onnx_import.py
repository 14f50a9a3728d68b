"""Load an ONNX model as a :class:`~luthier.graph.ir.Graph`: the front door of the graph package.

Comes in: a path, bytes, a ModelProto or the name of a model that ships with onnx. Goes out: a graph with static shapes
whose operators are in the one internal form that :mod:`.importer.normalize` describes. Next: :mod:`.passes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import OnnxError
from .importer.build import build_graph
from .importer.read import ModelSource, bundled_models, check_opset, read_model
from .ir import Graph

__all__ = ["bundled_models", "check_supported", "load_model"]


def load_model(source: ModelSource, shapes: Mapping[str, Sequence[int]] | None = None) -> Graph:
    """Read a model and bring it into the internal form.

    source  path of a file (external data is looked for beside it), the file's bytes, a ModelProto, or a name such as
            ``light_resnet50`` (:func:`bundled_models`)
    shapes  shapes of inputs by name; required where the model leaves a dimension open

    Errors: OnnxError, one line, for a file that is missing, cut off or not ONNX, an opset outside the supported
    range, a dimension that stays open, or operators that cannot be imported (all of them in one message).
    """
    model = read_model(source)
    return build_graph(model, check_opset(model.proto), shapes or {})


def check_supported(graph: Graph) -> None:
    """Raise one OnnxError that lists every node for which no code can be generated."""
    from .lowering import supports

    problems = []
    for node in graph.nodes:
        reason = supports(node)
        if reason is not None:
            problems.append(f"{'+'.join(node.names) or node.op} ({node.op}): {reason}")
    if problems:
        raise OnnxError(f"{len(problems)} unsupported node(s): " + "; ".join(problems))
