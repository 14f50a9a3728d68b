"""Whole models: Luthier untuned and tuned beside other engines, in one process, in turn.

    python -m benchmarks.models --log models.db --threads 1 --against onnxruntime,openvino,mnn,ncnn --json result.json

All engines get the same seeded weights and inputs and the same number of threads. Times are medians over rounds; a
ratio is between two medians of one run. The error of an engine is the largest difference of its outputs from those of
a float64 evaluation, relative to the largest magnitude of each; an engine whose error is above 1e-2, or that cannot
run a model, is shown and does not count for it.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

import luthier
from benchmarks.common import environment, write_json
from benchmarks.reference import reference
from benchmarks.report import TUNED, UNTUNED, Entry, Result, chart, report, summary
from luthier.cli_values import count
from luthier.codegen.detect import host_target
from luthier.errors import Error
from luthier.graph.onnx_import import bundled_models
from luthier.graph.seeding import seed_weights
from luthier.peers import Array, Engine, Luthier, Peer, PeerMissing, Timing, engines_named, output_error, prepare, race


def main() -> None:
    arguments = _arguments()
    try:
        peers = engines_named(arguments.against)
        results = _measure_all(peers, arguments)
    except PeerMissing as error:  # before minutes of measuring without it
        raise SystemExit(f"error: {error}") from None
    if not results:
        raise SystemExit(2)
    print(summary(results))
    options = {"rounds": arguments.rounds, "threads": arguments.threads, "seed": arguments.seed, "log": arguments.log}
    target = host_target(arguments.threads)
    write_json(arguments.json, {"environment": environment(target), "options": options, "models": results})
    if arguments.chart:
        chart(results, arguments.chart)


def _measure_all(peers: list[type[Peer]], arguments: argparse.Namespace) -> list[Result]:
    results = []
    for name in arguments.models:
        try:
            result = measure(name, peers, arguments)
        except PeerMissing:
            raise
        except Error as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        results.append(result)
        print(report(result), end="\n\n", flush=True)
        gc.collect()
    return results


def measure(name: str, peers: list[type[Peer]], arguments: argparse.Namespace) -> Result:
    """Time one model in all engines; returns JSON data."""
    path = bundled_models().get(name) or Path(name)
    model = seed_weights(onnx.load(path), arguments.seed) if name in bundled_models() else onnx.load(path)
    options = {"threads": arguments.threads, "accuracy": arguments.accuracy}
    untuned = luthier.compile(model, **options)
    engines: list[Engine] = [Luthier(untuned, UNTUNED)]
    builds = {UNTUNED: str(untuned.report)}
    if arguments.log:
        tuned = luthier.compile(model, log=arguments.log, **options)
        engines.append(Luthier(tuned, TUNED))
        builds[TUNED] = str(tuned.report)
    shapes = {s.name: s.dims for s in untuned.inputs}
    feed = untuned.example_inputs(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:  # not bytes: a file maps, and models above 2 GB have no bytes
        file = Path(folder) / "model.onnx"
        onnx.save(model, file)
        del model
        expected = reference(file, feed, arguments.reference_cache)
        ready, failed = prepare(peers, file, untuned.threads, shapes, feed)
    timings = race([*engines, *ready], feed, arguments.rounds)
    entries: list[Entry] = [_timing(t, expected) for t in timings]
    entries += [{"engine": peer, "failed": reason} for peer, reason in failed.items()]
    return {"model": name, "threads": untuned.threads, "builds": builds, "engines": entries}


def _timing(timing: Timing, expected: Sequence[Array]) -> Entry:
    return {
        "engine": timing.name,
        "median_s": timing.median_s,
        "min_s": timing.min_s,
        "run_s": list(timing.run_s),
        "error": output_error(timing.outputs, expected),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = ",".join(bundled_models())
    parser.add_argument("--models", default=models, help="names or paths, separated by commas (default: all that ship)")
    parser.add_argument("--log", metavar="FILE", help="tuning log for the tuned build (default: only the untuned one)")
    parser.add_argument(
        "--against",
        default="onnxruntime,openvino",
        metavar="NAMES",
        help="any of onnxruntime,openvino,mnn,ncnn (default: %(default)s)",
    )
    parser.add_argument("--threads", type=count, default=1, metavar="N")
    parser.add_argument("--rounds", type=count, default=20, metavar="N")
    parser.add_argument("--accuracy", choices=["fast", "exact"], default="fast", help="of Luthier (default: fast)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and inputs")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    parser.add_argument("--chart", metavar="FILE.png", help="draw a bar chart")
    parser.add_argument(
        "--reference-cache", type=Path, metavar="DIR", help="keep float64 references here, for the next run"
    )
    arguments = parser.parse_args()
    arguments.models = [m for m in arguments.models.split(",") if m]
    return arguments


if __name__ == "__main__":
    main()
