"""The cost model that ships: collect a log of many layers, then train on it.

    python -m benchmarks.pretrain collect --log pretrain.db --budget 25m     # once for each number of threads, quietly
    python -m benchmarks.pretrain collect --log pretrain.db --budget 10m --threads 2
    python -m benchmarks.pretrain train --log pretrain.db                    # into tuner/pretrained
    python -m benchmarks.pretrain train --log pretrain.db --begin tuner/pretrained/wide  # with the trees of another one

Collecting measures a batch of each layer: its default schedule first, then by turns random candidates and those of
the evolutionary search, which learns from the same log. It may be interrupted and goes on from what the log holds.
Training takes a minute at most; beside the model it writes a provenance file, which says what went into it and how it
ranks layers of the log that it was not trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.collect import collect
from benchmarks.common import commit, environment
from benchmarks.held_out import HELD_OUT
from benchmarks.ranking import Group, Quality, groups_of, mean, quality
from benchmarks.tuning_layers import Conv, Layer, Product, task
from luthier.cli_values import count, duration
from luthier.codegen.detect import host_target
from luthier.tuner.database import open_log
from luthier.tuner.features import definition
from luthier.tuner.pretrained import MODEL, PROVENANCE, folder_for, load_pretrained
from luthier.tuner.xgboost_model import relative_throughput

SEARCHERS = ("random", "evolutionary")
LEAST_SAMPLES = 5
ROUNDS = 300
PARAMETERS = {
    "objective": "reg:squarederror",
    "max_depth": 6,
    "eta": 0.05,
    "subsample": 0.8,
    "colsample_bytree": 0.5,
    "min_child_weight": 2.0,
    "tree_method": "hist",
    "max_bin": 64,
    "seed": 0,
    "nthread": 1,
}

_SAME_3X3 = (
    (16, 112), (32, 112), (64, 56), (96, 28), (128, 28), (192, 14), (256, 14), (512, 7), (384, 12), (80, 35), (64, 112),
    (48, 64), (144, 18), (224, 9),
)  # fmt: skip
_3X3 = (
    (64, 128, 56), (128, 256, 28), (256, 512, 14), (512, 256, 14), (32, 64, 80), (112, 224, 28), (256, 64, 40),
    (64, 192, 48), (512, 512, 28), (32, 32, 224),
)  # fmt: skip
_3X3_STRIDE_2 = ((64, 128, 56), (128, 256, 28), (256, 512, 14), (32, 64, 112), (96, 96, 40))
_1X1 = (
    (64, 64, 56), (64, 256, 56), (256, 64, 56), (256, 128, 28), (128, 512, 28), (512, 128, 28), (1024, 256, 14),
    (256, 1024, 14), (2048, 512, 7), (32, 16, 112), (512, 2048, 7), (16, 96, 112), (144, 32, 56), (384, 64, 14),
    (160, 960, 10), (320, 1280, 7), (480, 80, 20), (832, 256, 9), (48, 192, 24), (1280, 320, 10),
)  # fmt: skip
_1X1_STRIDE_2 = ((256, 512, 56), (512, 1024, 28), (64, 128, 40), (128, 256, 24))
_DEPTHWISE = ((32, 112), (144, 56), (256, 28), (384, 14), (960, 7), (576, 20))
_PRODUCTS = (
    (128, 768, 768), (128, 3072, 768), (128, 768, 3072), (512, 512, 512), (32, 128, 64), (1024, 1024, 1024),
    (256, 384, 384), (77, 512, 2048), (16, 1024, 1024), (8, 320, 640),
)  # fmt: skip

LAYERS: tuple[Layer, ...] = (
    *[Conv(c, c, size, 3) for c, size in _SAME_3X3],
    *[Conv(c, o, size, 3) for c, o, size in _3X3],
    *[Conv(c, o, size, 3, stride=2) for c, o, size in _3X3_STRIDE_2],
    # stems: the channels of an image
    Conv(3, 64, 224, 7, stride=2),
    Conv(3, 32, 224, 3, stride=2),
    Conv(3, 16, 128, 3),
    Conv(3, 96, 128, 5, stride=2),
    Conv(1, 32, 64, 5),
    # large windows
    *[Conv(c, o, size, 5) for c, o, size in ((32, 64, 28), (16, 32, 14), (48, 128, 14), (96, 128, 26))],
    Conv(64, 64, 14, 7),
    *[Conv(c, o, size, 1) for c, o, size in _1X1],
    *[Conv(c, o, size, 1, stride=2) for c, o, size in _1X1_STRIDE_2],
    Conv(128, 128, 28, 3, groups=4),
    Conv(256, 256, 14, 3, groups=8),
    Conv(128, 256, 14, 1, groups=2),
    *[
        Conv(c, c, size, 1, groups=groups)
        for c, size, groups in ((272, 14, 4), (136, 28, 4), (240, 28, 3), (60, 40, 5))
    ],
    *[Conv(c, c, size, 3, groups=c) for c, size in _DEPTHWISE],
    *[Conv(c, c, size, 3, stride=2, groups=c) for c, size in ((96, 112), (144, 56), (384, 20))],
    *[Conv(c, c, size, 5, groups=c) for c, size in ((240, 28), (672, 14))],
    *[Product(m, n, k) for m, n, k in _PRODUCTS],
    *[Product(m, n, k, True) for m, n, k in ((1, 1000, 2048), (1, 4096, 4096), (4, 1000, 512), (1, 512, 512))],
)


# ---------------------------------------------------------------------------------------- training


def train(logs: Sequence[str], folder: Path, begin: Path | None = None) -> dict[str, Any]:
    """Train on all layers of the logs and write the model and its provenance; returns the latter.

    begin: the folder of a model to whose trees others are added
    """
    groups: list[Group] = []
    for path in logs:
        with open_log(path, "r") as log:
            groups += groups_of(log, LEAST_SAMPLES)
            machines = sorted({str(r.target.get("model")) for r in log.records()})
    target = host_target(1)
    held_out = {task(layer, target).key for layer in HELD_OUT}
    if held := sorted({g.name for g in groups if g.key in held_out}):
        raise SystemExit(f"the log holds layers that must stay unknown to the model: {', '.join(held)}")
    if not groups:
        raise SystemExit(f"no layer has {LEAST_SAMPLES} samples or more; collect more")
    first = None if begin is None else load_pretrained(begin)
    if begin is not None and first is None:
        raise SystemExit(f"--begin {begin}: there is no model of these features to add to; leave it out")
    judged = cross_validated(groups, first)
    folder.mkdir(exist_ok=True)
    fit(groups, first).save_model(folder / MODEL)
    provenance = {
        "features": definition(),
        "made_with": "python -m benchmarks.pretrain train",
        "made_at": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "xgboost": metadata.version("xgboost"),
        "machine": machines,
        "logs": [sha256(Path(p).read_bytes()).hexdigest() for p in logs],
        "samples": sum(len(g.samples) for g in groups),
        "samples_by_threads": dict(Counter(str(g.threads) for g in groups for _ in g.samples)),
        "layers": sorted({g.name for g in groups}),
        "parameters": PARAMETERS | {"rounds": ROUNDS},
        "begun_with": None if begin is None else json.loads((begin / PROVENANCE).read_text(encoding="utf-8")),
        "on_unknown_layers": asdict(judged),
    }
    (folder / PROVENANCE).write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
    return provenance


def fit(groups: Sequence[Group], first: Any = None) -> Any:
    """Train trees on relative throughput, less the layer's mean: only the order within one counts.

    Layers count by the square root of how often they were measured. first: a booster whose trees come before.
    """
    import xgboost

    data = xgboost.DMatrix(
        np.concatenate([g.features for g in groups]),
        label=np.concatenate([t - t.mean() for t in (relative_throughput(g.samples) for g in groups)]),
        weight=np.concatenate([np.full(len(g.samples), len(g.samples) ** -0.5) for g in groups]),
    )
    return xgboost.train(PARAMETERS, data, ROUNDS, xgb_model=first)


def cross_validated(groups: Sequence[Group], first: Any = None, folds: int = 5) -> Quality:
    """How models that were trained without a layer rank it, in the mean over layers."""
    names = sorted({g.key for g in groups})
    found = []
    for f in range(folds):
        unknown = {k for i, k in enumerate(names) if i % folds == f}
        booster = fit([g for g in groups if g.key not in unknown], first)
        for g in groups:
            if g.key in unknown:
                found.append(quality(g, booster.inplace_predict(g.features).astype(float)))
    return mean(found)


def main() -> int:
    arguments = _arguments()
    if arguments.command == "collect":
        target = host_target(arguments.threads)
        with open_log(arguments.log) as log:
            print(environment(target))
            print(dict(collect(log, target, LAYERS, SEARCHERS, arguments.budget)))
    else:
        made = train(arguments.log, arguments.output, arguments.begin)
        print(
            f"{made['samples']} samples of {len(made['layers'])} layers; on unknown layers: {made['on_unknown_layers']}"
        )
        print(f"wrote {arguments.output / MODEL}, {(arguments.output / MODEL).stat().st_size / 1e3:.0f} kB")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("collect", help="measure candidates of all layers")
    one.add_argument("--log", required=True, metavar="FILE")
    one.add_argument("--budget", type=duration, default=1500.0, metavar="TIME", help="default: 25m")
    one.add_argument("--threads", type=count, default=1, metavar="N")
    two = commands.add_parser("train", help="train on what was collected, and write the model")
    two.add_argument("--log", required=True, metavar="FILE", nargs="+")
    ours = folder_for(host_target(1))
    two.add_argument(
        "--output", type=Path, default=ours, metavar="DIR", help="default: the one that ships for machines like this"
    )
    two.add_argument("--begin", type=Path, metavar="DIR", help="a model to add to: one of other machines, say")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
