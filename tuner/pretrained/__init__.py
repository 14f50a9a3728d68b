"""The cost models that were trained when Luthier was made, and where they come from.

There is one for machines with 512-bit vectors (``wide``), one for those that start two multiply-adds of them in a cycle
(``double``), one for those that read as many in a cycle, too (``even``), and one for those with narrower
ones (``narrow``): other register tiles, algorithms and caches pay there. Each is a folder of

    model.ubj         the trees, as XGBoost stores them
    provenance.json   the log, layers, commit, counts and machine that it was made from, and the hash of the
                      features (:func:`..features.definition`) that it understands

``python -m benchmarks.pretrain`` makes them. A model of other features than this version's is not used.
"""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from ...schedule.spaces.traffic import PerCore, kind_of_core
from ...target import Target
from ..features import FEATURES, definition

FOLDERS = {kind: Path(__file__).parent / kind for kind in PerCore._fields}
MODEL, PROVENANCE = "model.ubj", "provenance.json"


def folder_for(target: Target) -> Path:
    """Where the model for a target's machines is."""
    return FOLDERS[kind_of_core(target)]


@cache
def load_pretrained(folder: Path) -> Any:
    """The trees, an XGBoost booster; None, with a warning that says why, where they cannot be used."""
    try:
        provenance = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        made_for = provenance["features"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        return _without(f"its provenance cannot be read ({e})")
    if made_for != definition():
        return _without(f"it is for features {made_for}, and these are {definition()}")
    import xgboost

    booster = xgboost.Booster()
    try:
        booster.load_model(folder / MODEL)
    except (xgboost.core.XGBoostError, OSError) as e:
        return _without(f"it cannot be read ({str(e).splitlines()[0]})")
    if booster.num_features() != FEATURES:
        return _without(f"it takes {booster.num_features()} features, not {FEATURES}")
    booster.set_param({"nthread": 1})  # the other cores are measuring
    return booster


def _without(reason: str) -> None:
    warnings.warn(
        f"the pretrained cost model is not used: {reason}; a search starts without it. "
        "Make it again with 'python -m benchmarks.pretrain train'.",
        RuntimeWarning,
        stacklevel=3,
    )
