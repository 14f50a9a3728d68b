"""Against TVM's tuner, in the same time: a matrix product and four convolutions of ResNet-50, on one thread.

    python -m venv tvm && tvm/bin/pip install apache-tvm==0.27.* apache-tvm-ffi==0.1.14.post0 xgboost cloudpickle ...
    python -m benchmarks.against_tvm --python tvm/bin/python --folder tvm-runs --budget 5m

Each layer is tuned by TVM's meta_schedule for the budget, then by Luthier for the same time or until it sees nothing
more to gain. What was found is timed in turns in the end: two processes, one waiting while the other runs. TVM gets
convolutions as its x86 backend has them (channels in blocks as wide as a vector, weights packed), so that neither side
converts layouts. Searches are kept in the folder: a second call only measures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

import luthier
from benchmarks.common import environment, write_json
from luthier import te
from luthier.cli_table import table
from luthier.cli_values import count, duration
from luthier.codegen.detect import host_target
from luthier.schedule.decide import Replay
from luthier.schedule.space import instantiate
from luthier.target import Target
from luthier.te.ops.conv import conv
from luthier.te.ops.dense import matmul
from luthier.te.workload import Workload
from luthier.tuner.database import Database, open_log
from luthier.tuner.session import tune_workload

SIDE = Path(__file__).with_name("tvm_side.py")


@dataclass(frozen=True)
class Layer:
    """A plain convolution of a square image, or with ``kind`` "matmul" a product of two square matrices.

    block: channels in a block of an image, as many as a vector holds
    """

    name: str
    kind: str = "conv"
    channels: int = 0
    outputs: int = 0
    size: int = 0
    kernel: int = 1
    stride: int = 1
    block: int = 16
    m: int = 0
    n: int = 0
    k: int = 0

    @property
    def workload(self) -> Workload:
        if self.kind == "matmul":
            a, b = te.placeholder((self.m, self.k), name="a"), te.placeholder((self.k, self.n), name="b")
            return te.workload(matmul(a, b), [a, b])
        x = te.placeholder((1, self.channels // self.block, self.size, self.size, self.block), name="x")
        w = te.placeholder((self.outputs, self.channels, self.kernel, self.kernel), name="w", constant=True)
        sizes = {"in_channels": self.channels, "out_channels": self.outputs}
        blocks = {"in_block": self.block, "out_block": self.block}
        pads = [self.kernel // 2] * 4
        return te.workload(conv(x, w, strides=[self.stride] * 2, pads=pads, **sizes, **blocks), [x, w])


LAYERS = (
    Layer("matmul 1024", "matmul", m=1024, n=1024, k=1024),
    Layer("3x3 64 @56", channels=64, outputs=64, size=56, kernel=3),
    Layer("3x3 s2 128 @56", channels=128, outputs=128, size=56, kernel=3, stride=2),
    Layer("1x1 1024->256 @14", channels=1024, outputs=256, size=14),
    Layer("3x3 256 @14", channels=256, outputs=256, size=14, kernel=3),
)


class Tvm:
    """TVM's best of a layer, in a process of its own."""

    def __init__(self, python: str, layer: Layer, folder: Path) -> None:
        command = [python, str(SIDE), "time", json.dumps(asdict(layer)), str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about: dict[str, Any] = self._answer()

    def times(self) -> list[float]:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: list[float] = self._answer()
        return found

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"TVM's process ended with {self.process.wait()}; its message is above")
        return json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def search(layer: Layer, target: Target, log: Database, arguments: argparse.Namespace) -> None:
    """Tune a layer with both, where the folder does not hold the result yet."""
    folder = arguments.folder / layer.name.replace(" ", "_").replace(">", "")
    if not (folder / "database_tuning_record.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [arguments.python, str(SIDE), "tune", json.dumps(asdict(layer)), str(folder), str(arguments.budget)]
        with (folder / "output.txt").open("w") as output:
            subprocess.run(command, stdout=output, stderr=output, start_new_session=True, check=False)
    if log.best(layer.workload.key, target) is None:
        print(tune_workload(layer.workload, log=log, target=target, name=layer.name, budget_s=arguments.budget))


def compare(layer: Layer, target: Target, log: Database, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time what both found, in turns; seconds."""
    workload = layer.workload
    best = log.best(workload.key, target)
    assert best is not None
    ours = luthier.build(instantiate(workload, Replay(best.decisions), target), target)
    rng = np.random.default_rng(0)
    timer = ours.timer(*[rng.standard_normal(p.shape).astype(np.float32) for p in workload.inputs])
    theirs = Tvm(arguments.python, layer, arguments.folder / layer.name.replace(" ", "_").replace(">", ""))
    times: dict[str, list[float]] = {"luthier": [], "tvm": []}
    try:
        for _ in range(arguments.rounds):
            times["tvm"] += theirs.times()
            times["luthier"] += timer(repeats=10)
    finally:
        theirs.close()
    records = sum(1 for _ in log.records(workload.key, target))
    return {
        "layer": layer.name, "flops": workload.flops, "decisions": best.decisions, "times": times,
        "candidates": {"luthier": records, "tvm": theirs.about["records"]},
    }  # fmt: skip


def report(results: Sequence[dict[str, Any]]) -> str:
    """GFLOP/s by the median and the least time, and how much faster Luthier's result is."""
    rows, ratios = [], []
    for r in results:
        ours, theirs = r["times"]["luthier"], r["times"]["tvm"]
        middle, least = statistics.median(theirs) / statistics.median(ours), min(theirs) / min(ours)
        ratios.append(middle)
        rates = [f"{r['flops'] / statistics.median(t) / 1e9:.1f}/{r['flops'] / min(t) / 1e9:.1f}" for t in (ours, theirs)]  # fmt: skip  # noqa: E501
        counts = [str(r["candidates"][k]) for k in ("luthier", "tvm")]
        rows.append([r["layer"], *rates, f"{middle:.2f}", f"{least:.2f}", *counts, str(r["decisions"].get("algorithm", ""))])  # fmt: skip  # noqa: E501
    header = ["layer", "luthier GFLOP/s", "tvm", "times as fast", "at least times", "candidates", "tvm's", "algorithm"]
    mean = statistics.geometric_mean(ratios)
    return f"{table(header, rows, left=1)}\n\ngeometric mean {mean:.2f}, least {min(ratios):.2f} (medians)"


def main() -> int:
    arguments = _arguments()
    target = host_target(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with open_log(arguments.folder / "luthier.db") as log:
        layers = [replace(x, block=target.lanes()) for x in LAYERS if fnmatchcase(x.name, arguments.layers)]
        if not layers:
            raise SystemExit(f"--layers {arguments.layers}: matches none of " + ", ".join(x.name for x in LAYERS))
        for layer in layers:
            search(layer, target, log, arguments)
        results = [compare(layer, target, log, arguments) for layer in layers]
    print(report(results))
    write_json(arguments.json, {"environment": environment(target), "layers": results})
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, metavar="FILE", help="Python of an environment with apache-tvm")
    parser.add_argument("--folder", required=True, type=Path, metavar="DIR", help="where what is found is kept")
    parser.add_argument("--layers", default="*", metavar="PATTERN", help="only layers whose name matches (3x3*)")
    parser.add_argument("--budget", type=duration, default=300.0, metavar="TIME", help="for each search (default: 5m)")
    parser.add_argument("--rounds", type=count, default=15, metavar="N", help="turns of ten runs each (default: 15)")
    parser.add_argument("--json", metavar="FILE", help="write all times")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
