"""Whole models: Luthier untuned and tuned beside other engines, in one process, in turn.

    python -m benchmarks.models --log models.db --threads 1 --json result.json --chart result.png

All engines get the same seeded weights and inputs and the same number of threads. Times are medians over rounds; a
ratio is between two medians of one run. The error of an output is its largest difference from the first peer's,
relative to that one's largest value.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx

import luthier
from benchmarks.common import environment, write_json
from luthier.cli_table import ratio, seconds, table
from luthier.cli_values import count
from luthier.codegen.detect import host_target
from luthier.errors import Error
from luthier.graph.onnx_import import bundled_models
from luthier.graph.seeding import seed_weights
from luthier.peers import Engine, Luthier, Peer, Timing, engines_named, output_error, race

UNTUNED, TUNED = "luthier untuned", "luthier tuned"


def main() -> None:
    arguments = _arguments()
    peers = engines_named(arguments.against)
    results = []
    for name in arguments.models:
        try:
            result = measure(name, peers, arguments)
        except Error as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        results.append(result)
        print(report(result), end="\n\n", flush=True)
        gc.collect()
    if not results:
        raise SystemExit(2)
    print(summary(results))
    options = {"rounds": arguments.rounds, "threads": arguments.threads, "seed": arguments.seed}
    target = host_target(arguments.threads)
    write_json(arguments.json, {"environment": environment(target), "options": options, "models": results})
    if arguments.chart:
        chart(results, arguments.chart)


def measure(name: str, peers: list[type[Peer]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one model in all engines; returns JSON data."""
    path = bundled_models().get(name) or Path(name)
    model = seed_weights(onnx.load(path), arguments.seed) if name in bundled_models() else onnx.load(path)
    untuned = luthier.compile(model, threads=arguments.threads)
    engines: list[Engine] = [Luthier(untuned, UNTUNED)]
    builds = {UNTUNED: str(untuned.report)}
    if arguments.log:
        tuned = luthier.compile(model, threads=arguments.threads, log=arguments.log)
        engines.append(Luthier(tuned, TUNED))
        builds[TUNED] = str(tuned.report)
    shapes = {s.name: s.dims for s in untuned.inputs}
    with tempfile.TemporaryDirectory() as folder:  # not bytes: a file maps, and models above 2 GB have no bytes
        file = Path(folder) / "model.onnx"
        onnx.save(model, file)
        del model
        engines += [peer(file, untuned.threads, shapes) for peer in peers]
    timings = race(engines, untuned.example_inputs(arguments.seed), arguments.rounds)
    reference = next((t for t in timings if t.name not in (UNTUNED, TUNED)), timings[0])
    return {
        "model": name,
        "threads": untuned.threads,
        "builds": builds,
        "engines": [_timing(t, reference) for t in timings],
    }


def _timing(timing: Timing, reference: Timing) -> dict[str, Any]:
    return {
        "engine": timing.name,
        "median_s": timing.median_s,
        "min_s": timing.min_s,
        "run_s": list(timing.run_s),
        "error": output_error(timing.outputs, reference.outputs),
    }


def best_of(result: dict[str, Any], ours: bool) -> float:
    """The least median in seconds, of our builds or of the peers; infinity without any."""
    medians = [e["median_s"] for e in result["engines"] if (e["engine"] in (UNTUNED, TUNED)) == ours]
    return min(medians, default=math.inf)


def report(result: dict[str, Any]) -> str:
    """A table of one model's engines; ratios above 1 are in Luthier's favour."""
    ours = best_of(result, True)
    rows = [
        [e["engine"], seconds(e["median_s"]), seconds(e["min_s"]), ratio(e["median_s"], ours), f"{e['error']:.1e}"]
        for e in result["engines"]
    ]
    builds = "\n".join(f"  {name}: {text}" for name, text in result["builds"].items())
    return f"{result['model']}, {result['threads']} thread(s)\n{builds}\n" + table(
        ["engine", "median", "min", "ratio", "error"], rows
    )


def summary(results: list[dict[str, Any]]) -> str:
    """One line a model: the best of ours beside the best peer, and the geometric mean of the ratios."""
    rows, logs = [], []
    for r in results:
        ours, theirs = best_of(r, True), best_of(r, False)
        rows.append([r["model"], seconds(ours), seconds(theirs), ratio(theirs, ours)])
        if math.isfinite(theirs):
            logs.append(math.log(theirs / ours))
    if logs:
        rows.append(["geometric mean", "", "", f"{math.exp(sum(logs) / len(logs)):.2f}x"])
    return table(["model", "luthier", "best peer", "ratio"], rows)


def chart(results: list[dict[str, Any]], path: str) -> None:
    """Draw latencies relative to the first peer (or, without one, to the untuned build) as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(e["engine"] for r in results for e in r["engines"]))
    base = next((n for n in names if n not in (UNTUNED, TUNED)), UNTUNED)
    figure, axes = pyplot.subplots(figsize=(max(6.0, 1.4 * len(results)), 4.5))
    width = 0.8 / len(names)
    for position, name in enumerate(names):
        heights = []
        for r in results:
            medians = {e["engine"]: e["median_s"] for e in r["engines"]}
            heights.append(medians.get(name, math.nan) / medians[base])
        axes.bar(
            [i + (position - (len(names) - 1) / 2) * width for i in range(len(results))], heights, width, label=name
        )
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(results)), [r["model"].removeprefix("light_") for r in results], rotation=30, ha="right")
    axes.set_ylabel(f"latency relative to {base} (lower is better)")
    axes.set_title(f"{results[0]['threads']} thread(s), medians")
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = ",".join(bundled_models())
    parser.add_argument("--models", default=models, help="names or paths, separated by commas (default: all that ship)")
    parser.add_argument("--log", metavar="FILE", help="tuning log for the tuned build (default: only the untuned one)")
    parser.add_argument("--against", default="onnxruntime,openvino", metavar="NAMES", help="default: %(default)s")
    parser.add_argument("--threads", type=count, default=1, metavar="N")
    parser.add_argument("--rounds", type=count, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of weights and inputs")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    parser.add_argument("--chart", metavar="FILE.png", help="draw a bar chart")
    arguments = parser.parse_args()
    arguments.models = [m for m in arguments.models.split(",") if m]
    return arguments


if __name__ == "__main__":
    main()
