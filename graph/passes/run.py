"""The list of passes and its runner. LUTHIER_DEBUG=3 logs what each pass changed."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ... import config
from ..ir import Graph
from .affine import fold_affine
from .clean import eliminate_common, eliminate_dead
from .constants import fold_constants
from .pads import fold_pads
from .simplify import canonicalize, remove_identities, sink_activations
from .views import match_shuffles, merge_views

Pass: TypeAlias = Callable[[Graph], Graph]

PASSES: tuple[Pass, ...] = (
    fold_constants,
    canonicalize,
    remove_identities,
    merge_views,
    match_shuffles,
    fold_pads,
    fold_affine,
    sink_activations,
    eliminate_common,
    eliminate_dead,
)


def run_passes(graph: Graph, passes: Sequence[Pass] = PASSES) -> Graph:
    """Apply ``passes`` in order."""
    for one in passes:
        begin = time.perf_counter()
        result = one(graph)
        if config.get().debug >= 3:
            _log(one.__name__, graph, result, time.perf_counter() - begin)
        graph = result
    return graph


def _log(name: str, before: Graph, after: Graph, run_s: float) -> None:
    old, new = Counter(n.op for n in before.nodes), Counter(n.op for n in after.nodes)
    changes = [f"{op} {old[op]} -> {new[op]}" for op in sorted(old | new) if old[op] != new[op]]
    print(f"graph pass {name} ({run_s * 1e3:.1f} ms): {', '.join(changes) or 'same nodes'}", file=sys.stderr)
