"""How well the cost model ranks candidates of layers that it was not trained on.

    python -m benchmarks.search --log search.db --best-known 200     # measure candidates of the held-out layers
    python -m benchmarks.cost_model search.db

For each way to rank, over the layers of :mod:`.held_out` that the log holds (``--tasks`` judges others of the log
instead): rank correlations of score and speed (Spearman, Kendall), and how much slower than the best candidate of the
log the best of the 1 and of the 8 with the highest scores is. The ways:

    default rule    the schedule that a build takes without a log; only its regret is meant
    estimate        the features' own estimate of cycles: features without a model
    pretrained      the model that ships, nothing measured
    + n trials      the same after n candidates of the layer, drawn at random, were learnt; judged on all others
    n trials alone  a model that starts from nothing
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from benchmarks.common import environment, write_json
from benchmarks.held_out import HELD_OUT
from benchmarks.ranking import Floats, Group, Quality, groups_of, mean, quality
from benchmarks.tuning_layers import task
from luthier.cli_table import table
from luthier.cli_values import count
from luthier.codegen.detect import host_target
from luthier.tuner.cost_model import make_cost_model
from luthier.tuner.database import open_log
from luthier.tuner.features import section
from luthier.tuner.pretrained import folder_for, load_pretrained

TRIALS = (8, 16, 32)
LEAST_SAMPLES = 40


def estimated(group: Group) -> Floats:
    """Higher is faster: the estimate of all cycles, negative."""
    return -section(group.features, "estimate")[:, -1].astype(float)


def pretrained(group: Group) -> Floats:
    return make_cost_model("xgboost", target=host_target(1)).predict(group.key, group.features)


def after(group: Group, trials: int, from_pretrained: bool, repeats: int) -> Quality:
    """How candidates that were not learnt are ranked once ``trials`` others were."""
    found = []
    for seed in range(repeats):
        order = np.random.default_rng(seed).permutation(len(group.samples))
        model = make_cost_model("xgboost" if from_pretrained else "xgboost-local", seed, host_target(1))
        model.update([group.samples[i] for i in order[:trials]])
        rest = Group(group.name, group.key, group.threads, tuple(group.samples[i] for i in order[trials:]), None)
        found.append(quality(rest, model.predict(rest.key, rest.features)))
    return mean(found)


def judge(groups: Sequence[Group], repeats: int) -> dict[str, list[Quality]]:
    """Quality by way to rank, one for each group."""
    ways: dict[str, Callable[[Group], Quality]] = {"estimate": lambda g: quality(g, estimated(g))}
    if load_pretrained(folder_for(host_target(1))) is not None:
        ways["pretrained"] = lambda g: quality(g, pretrained(g))
        for n in TRIALS:
            ways[f"pretrained + {n} trials"] = lambda g, n=n: after(g, n, True, repeats)  # type: ignore[misc]
    for n in TRIALS:
        ways[f"{n} trials alone"] = lambda g, n=n: after(g, n, False, repeats)  # type: ignore[misc]
    return {name: [way(g) for g in groups] for name, way in ways.items()}


def report(groups: Sequence[Group], judged: dict[str, list[Quality]]) -> str:
    rows = []
    defaults = [float(g.slowdowns[g.default] - 1) for g in groups if g.default is not None]
    if defaults:
        rows.append(["default rule", "-", "-", f"{100 * statistics.mean(defaults):.1f}", f"{100 * statistics.median(defaults):.1f}", "-"])  # fmt: skip  # noqa: E501
    for name, found in judged.items():
        q, median = mean(found), statistics.median(f.top1 for f in found)
        rows.append([name, f"{q.spearman:.3f}", f"{q.kendall:.3f}", f"{100 * q.top1:.1f}", f"{100 * median:.1f}", f"{100 * q.top8:.1f}"])  # fmt: skip  # noqa: E501
    return table(["ranked by", "Spearman", "Kendall", "top-1 regret %", "median", "top-8 regret %"], rows, left=1)


def main() -> int:
    arguments = _arguments()
    with open_log(arguments.log, "r") as log:
        groups = groups_of(log, LEAST_SAMPLES)
    if arguments.tasks is None:
        keys = {task(layer, host_target(threads)).key for layer in HELD_OUT for threads in (1, 2)}
        chosen = [g for g in groups if g.key in keys]
    else:
        chosen = [g for g in groups if fnmatchcase(g.name, arguments.tasks)]
    if not chosen:
        raise SystemExit(
            f"{arguments.log} holds no {'held-out layer' if arguments.tasks is None else arguments.tasks} with "
            f"{LEAST_SAMPLES} candidates or more; measure some with 'python -m benchmarks.search --best-known 200'"
        )
    judged = judge(chosen, arguments.repeats)
    samples = sum(len(g.samples) for g in chosen)
    print(f"{len(chosen)} layers, {samples} candidates\n")
    print(report(chosen, judged))
    if "pretrained" in judged:
        header = ["layer", "candidates", "default off %", "Spearman", "top-1 %", "top-8 %"]
        rows = [[g.name, str(len(g.samples)), "-" if g.default is None else f"{100 * (g.slowdowns[g.default] - 1):.1f}", f"{q.spearman:.2f}", f"{100 * q.top1:.1f}", f"{100 * q.top8:.1f}"] for g, q in zip(chosen, judged["pretrained"], strict=True)]  # fmt: skip  # noqa: E501
        print(f"\nby the pretrained model alone:\n{table(header, rows, left=1)}")
    data: dict[str, Any] = {name: [asdict(q) for q in found] for name, found in judged.items()}
    layers = [g.name for g in chosen]
    write_json(arguments.json, {"environment": environment(host_target(1)), "layers": layers, "judged": data})
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", help="a log with candidates of the held-out layers")
    parser.add_argument("--tasks", metavar="PATTERN", help="judge these tasks; the model that ships may know them")
    parser.add_argument("--repeats", type=count, default=5, metavar="N", help="draws of n trials (default: 5)")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
