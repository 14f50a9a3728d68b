"""The cost model that ships: collect a log of many layers, then train on it.

    python -m benchmarks.pretrain collect --log pretrain.db --budget 25m     # once for each number of threads, quietly
    python -m benchmarks.pretrain collect --log pretrain.db --budget 10m --threads 2
    python -m benchmarks.pretrain train --log pretrain.db                    # writes tuner/pretrained/

Collecting goes round the layers and measures a batch of each: its default schedule first, then by turns random
candidates and those of the evolutionary search, which learns from the same log. It may be interrupted and goes on from
what the log holds. Training takes a minute at most; beside the model it writes a provenance file, which says what went
into it and how it ranks layers of the log that it was not trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import commit, environment
from benchmarks.held_out import HELD_OUT
from benchmarks.ranking import Group, Quality, groups_of, mean, quality
from benchmarks.tuning_layers import Conv, Layer, Product, task
from luthier.cli_values import count, duration
from luthier.codegen.detect import host_target
from luthier.target import Target
from luthier.tuner.candidate import Candidate
from luthier.tuner.cost_model import CostModel, Sample, make_cost_model
from luthier.tuner.database import Database, open_log
from luthier.tuner.features import definition
from luthier.tuner.history import known_observations, make_record
from luthier.tuner.measure import Measurer, MeasureResult
from luthier.tuner.pretrained import FOLDER, MODEL, PROVENANCE
from luthier.tuner.record import Record
from luthier.tuner.search import Observation, SearchContext, Searcher, make_searcher
from luthier.tuner.task import TuningTask
from luthier.tuner.xgboost_model import relative_throughput

BATCH = 12
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

LAYERS: tuple[Layer, ...] = (
    # 3x3, stride 1: images from 7 to 224, few and many channels
    *[Conv(c, c, size, 3) for c, size in ((16, 112), (32, 112), (64, 56), (96, 28), (128, 28), (192, 14), (256, 14))],
    *[Conv(c, c, size, 3) for c, size in ((512, 7), (384, 12), (80, 35), (64, 112), (48, 64), (144, 18), (224, 9))],
    *[Conv(c, o, size, 3) for c, o, size in ((64, 128, 56), (128, 256, 28), (256, 512, 14), (512, 256, 14), (32, 64, 80))],
    *[Conv(c, o, size, 3) for c, o, size in ((112, 224, 28), (256, 64, 40), (64, 192, 48), (512, 512, 28), (32, 32, 224))],
    # 3x3, stride 2
    *[Conv(c, o, size, 3, 2) for c, o, size in ((64, 128, 56), (128, 256, 28), (256, 512, 14), (32, 64, 112), (96, 96, 40))],
    # stems: the channels of an image
    Conv(3, 64, 224, 7, 2), Conv(3, 32, 224, 3, 2), Conv(3, 16, 128, 3), Conv(3, 96, 128, 5, 2), Conv(1, 32, 64, 5),
    # 5x5 and 7x7
    Conv(32, 64, 28, 5), Conv(16, 32, 14, 5), Conv(48, 128, 14, 5), Conv(96, 128, 26, 5), Conv(64, 64, 14, 7),
    # 1x1
    *[Conv(c, o, size, 1) for c, o, size in ((64, 64, 56), (64, 256, 56), (256, 64, 56), (256, 128, 28), (128, 512, 28))],
    *[Conv(c, o, size, 1) for c, o, size in ((512, 128, 28), (1024, 256, 14), (256, 1024, 14), (2048, 512, 7), (32, 16, 112))],
    *[Conv(c, o, size, 1) for c, o, size in ((512, 2048, 7), (16, 96, 112), (144, 32, 56), (384, 64, 14), (160, 960, 10))],
    *[Conv(c, o, size, 1) for c, o, size in ((320, 1280, 7), (480, 80, 20), (832, 256, 9), (48, 192, 24), (1280, 320, 10))],
    *[Conv(c, o, size, 1, 2) for c, o, size in ((256, 512, 56), (512, 1024, 28), (64, 128, 40), (128, 256, 24))],
    # groups and depthwise
    Conv(128, 128, 28, 3, groups=4), Conv(256, 256, 14, 3, groups=8), Conv(128, 256, 14, 1, groups=2),
    *[Conv(c, c, size, 3, groups=c) for c, size in ((32, 112), (144, 56), (256, 28), (384, 14), (960, 7), (576, 20))],
    *[Conv(c, c, size, 3, 2, groups=c) for c, size in ((96, 112), (144, 56), (384, 20))],
    *[Conv(c, c, size, 5, groups=c) for c, size in ((240, 28), (672, 14))],
    # matrix products: transformers, classifiers
    *[Product(m, n, k) for m, n, k in ((128, 768, 768), (128, 3072, 768), (128, 768, 3072), (512, 512, 512), (32, 128, 64))],
    *[Product(m, n, k) for m, n, k in ((1024, 1024, 1024), (256, 384, 384), (77, 512, 2048), (16, 1024, 1024), (8, 320, 640))],
    *[Product(m, n, k, True) for m, n, k in ((1, 1000, 2048), (1, 4096, 4096), (4, 1000, 512), (1, 512, 512))],
)  # fmt: skip


def collect(log: Database, target: Target, budget_s: float, layers: Sequence[Layer] = LAYERS) -> Counter[str]:
    """Measure batches of candidates, layer by layer, until ``budget_s`` seconds have passed; returns the outcomes."""
    deadline = time.monotonic() + budget_s
    model = make_cost_model("xgboost")
    turns = deque(_Turn(task(layer, target), target, log, model) for layer in layers)
    outcomes: Counter[str] = Counter()
    with Measurer(target) as measurer:
        waiting = {id(t.task): t for t in turns}
        while turns and time.monotonic() < deadline:
            # layers that were measured least come first, so that a second run evens out what the first left
            turn = min(turns, key=lambda t: t.count)
            candidates = turn.propose(BATCH)
            if not candidates:
                turns.remove(turn)
            for c in candidates:
                measurer.submit(turn.task, c)
            while measurer.pending > (BATCH if turns else 0) and time.monotonic() < deadline:
                result = measurer.next_result(max(deadline - time.monotonic(), 0.0))
                if result is not None:
                    log.add(waiting[id(result.task)].observe(result, target))
                    outcomes[result.status.value] += 1
                    _show(outcomes, deadline)
    return outcomes


class _Turn:
    """One layer: its searchers, which share what was proposed, and how many candidates it had."""

    def __init__(self, task: TuningTask, target: Target, log: Database, model: CostModel) -> None:
        records = list(log.records(task.key, target))
        known = known_observations(task, target, records)
        context = SearchContext(task, target, 0, model, {r.decisions_hash for r in records}, known)
        self.task, self.model, self.count, self.rounds = task, model, len(records), len(records) // BATCH
        self.searchers: list[Searcher] = [make_searcher(name, context) for name in SEARCHERS]
        self.learn(known)

    def learn(self, observations: Sequence[Observation]) -> None:
        features = [(o.candidate.features, o.run_s) for o in observations]
        self.model.update([Sample(self.task.key, f, s) for f, s in features if f is not None])

    def propose(self, n: int) -> list[Candidate]:
        self.rounds += 1
        candidates = self.searchers[self.rounds % len(self.searchers)].propose(n)
        self.count += len(candidates)
        return candidates

    def observe(self, result: MeasureResult, target: Target) -> Record:
        record = make_record(result, target, "pretrain", 0)
        observation = Observation(result.candidate, record.best_s)
        self.learn([observation])
        for s in self.searchers:
            s.observe([observation])
        return record


# ---------------------------------------------------------------------------------------- training


def train(logs: Sequence[str], folder: Path) -> dict[str, Any]:
    """Train on all layers of the logs and write the model and its provenance; returns the latter."""
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
    judged = cross_validated(groups)
    folder.mkdir(exist_ok=True)
    fit(groups).save_model(folder / MODEL)
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
        "on_unknown_layers": asdict(judged),
    }
    (folder / PROVENANCE).write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
    return provenance


def fit(groups: Sequence[Group]) -> Any:
    """Train trees on relative throughput; every layer counts the same, however often it was measured."""
    import xgboost

    data = xgboost.DMatrix(
        np.concatenate([g.features for g in groups]),
        label=np.concatenate([relative_throughput(g.samples) for g in groups]),
        weight=np.concatenate([np.full(len(g.samples), len(g.samples) ** -0.5) for g in groups]),
    )
    return xgboost.train(PARAMETERS, data, ROUNDS)


def cross_validated(groups: Sequence[Group], folds: int = 5) -> Quality:
    """How models that were trained without a layer rank it, in the mean over layers."""
    names = sorted({g.key for g in groups})
    found = []
    for f in range(folds):
        unknown = {k for i, k in enumerate(names) if i % folds == f}
        booster = fit([g for g in groups if g.key not in unknown])
        for g in groups:
            if g.key in unknown:
                found.append(quality(g, booster.inplace_predict(g.features).astype(float)))
    return mean(found)


def _show(outcomes: Counter[str], deadline: float) -> None:
    total = sum(outcomes.values())
    if total % 100 == 0:
        print(f"{total} candidates, {dict(outcomes)}, {deadline - time.monotonic():.0f} s left", flush=True)


def main() -> int:
    arguments = _arguments()
    if arguments.command == "collect":
        target = host_target(arguments.threads)
        with open_log(arguments.log) as log:
            print(environment(target))
            print(dict(collect(log, target, arguments.budget)))
    else:
        made = train(arguments.log, arguments.output)
        print(f"{made['samples']} samples of {len(made['layers'])} layers; on unknown layers: {made['on_unknown_layers']}")
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
    two.add_argument("--output", type=Path, default=FOLDER, metavar="DIR", help="default: the one that ships")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
