"""Times for candidates of the tests' matrix product, without measuring."""

from __future__ import annotations

import math

from luthier.tuner.candidate import Candidate
from luthier.tuner.search import Observation


def measured(candidate: Candidate) -> Observation:
    """Fast where tiles are large, up to the registers; some candidates fail."""
    tile = candidate.decisions.get("tile", [candidate.decisions.get("factor", 1), 1])
    rows, vectors = tile[0], tile[-1]
    if rows == 3:
        return Observation(candidate, math.inf)
    return Observation(candidate, 1.0 / min(rows * vectors, 24) + 0.01 * candidate.decisions.get("unroll_k", 1))
