"""What a longer budget gains: builds of one model by default and from several logs, timed in turns.

    luthier tune light_resnet50 --threads 2 --budget 5m --stop-below 0 --log short.db
    luthier tune light_resnet50 --threads 2 --budget 45m --stop-below 0 --log long.db
    python -m benchmarks.budgets light_resnet50 short.db long.db --threads 2

The table has medians and minima over rounds; ratios are between medians (and between minima), with the last log's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import luthier
from benchmarks.common import environment, write_json
from luthier.cli_table import table
from luthier.cli_values import count
from luthier.codegen.detect import host_target
from luthier.errors import Error
from luthier.graph.onnx_import import bundled_models
from luthier.peers import Luthier, Timing, race
from luthier.tuner.database import open_log


def measure(model: str, logs: list[str], threads: int, rounds: int) -> list[Timing]:
    """Times of the default build, then of those from the logs. Raises Error where a model or a log cannot be read."""
    path = bundled_models().get(model) or Path(model)
    for log in logs:  # before the builds: a log that is not there is no empty one
        with open_log(log, "r"):
            pass
    untuned = luthier.compile(path, threads=threads)
    engines = [Luthier(untuned, "default")]
    engines += [Luthier(luthier.compile(path, log=log, threads=threads), log) for log in logs]
    return race(engines, untuned.example_inputs(), rounds)


def report(timings: list[Timing]) -> str:
    """One line for each build; the last one is what the others are compared with."""
    last = timings[-1]
    rows = [
        [
            t.name,
            f"{t.median_s * 1e3:.3f}",
            f"{t.min_s * 1e3:.3f}",
            f"{t.median_s / last.median_s:.3f}",
            f"{t.min_s / last.min_s:.3f}",
        ]
        for t in timings
    ]
    return table(["log", "median ms", "least ms", "by the last", "least by least"], rows)


def main() -> int:
    arguments = _arguments()
    try:
        timings = measure(arguments.model, arguments.logs, arguments.threads, arguments.rounds)
    except Error as error:
        raise SystemExit(f"error: {error}") from None
    print(report(timings))
    options = {k: getattr(arguments, k) for k in ("model", "logs", "threads", "rounds")}
    times = {t.name: list(t.run_s) for t in timings}
    write_json(
        arguments.json, {"environment": environment(host_target(arguments.threads)), "options": options, "run_s": times}
    )
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a file, or the name of a model that ships with the onnx package")
    parser.add_argument("logs", nargs="+", metavar="LOG", help="tuning logs, shortest budget first")
    parser.add_argument("--threads", type=count, metavar="N", default=1)
    parser.add_argument("--rounds", type=count, metavar="N", default=100)
    parser.add_argument("--json", metavar="FILE", help="write all times")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
