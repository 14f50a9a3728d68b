"""Single layers: how near generated code comes to the machine's peak, and to what a prototype reached.

    python -m benchmarks.kernels                                default schedules, one thread
    python -m benchmarks.kernels --log layers.db --tune 30s     tune each layer, keep the result, and measure that
    python -m benchmarks.kernels --log layers.db                with the schedules that were found
    python -m benchmarks.kernels --target x86-64-v3             for another instruction set
    python -m benchmarks.kernels --layers 'F(4,3)*'             some of the layers of :mod:`.layers`

GFLOP/s count the operator's definition (a multiply-add is 2, taps on padding count), at the least and the median time.

    of peak       the median, as a part of a loop of nothing but FMAs, timed in turn with the layer: a core's rate
                  changes with what its neighbours do; of what memory can be read at, where reading the weights is all
                  of the work
    of prototype  the same part divided by the prototype's: at the best of both; at the median of the rounds' parts
    error         largest difference from the same layer in float64, relative to its largest value

ONNX Runtime's rate for the layer stands beside it, measured in turn, where it is installed. The exit code is 1 where an
error is larger than rounding explains.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import luthier
from benchmarks.common import environment, write_json
from benchmarks.layers import LAYERS, PROTOTYPE_PEAK, PROTOTYPE_READS, Array, Layer, bound_by_memory
from luthier.cli_table import percent, table
from luthier.cli_values import count, duration
from luthier.codegen.detect import named_target
from luthier.errors import ScheduleError
from luthier.peak import FmaMeter, read_peak
from luthier.peers import OnnxRuntime, PeerError, output_error
from luthier.schedule.decide import Default, Replay
from luthier.schedule.schedule import Schedule
from luthier.schedule.space import instantiate
from luthier.target import Target
from luthier.te.workload import Workload
from luthier.tuner.database import Database, open_log
from luthier.tuner.session import tune_workload
from luthier.tuner.task import TuningTask

TURN = 4
"""Runs in a row before the peak, and the other engine, take their turns."""
RUN_S = 5e-4
"""What short layers are repeated to fill: long against the clock, short against the time slice of a busy machine."""


def measure(
    layer: Layer, schedule: Schedule, target: Target, rounds: int, peers: bool, meter: FmaMeter
) -> dict[str, Any]:
    """Time one layer, in turn with the peak; returns JSON data."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s, np.float32) for s in layer.shapes())
    work = schedule.workload
    function = luthier.build(schedule, target)
    arranged = layer.arrange(x, target)
    time_runs = function.timer(arranged, w)
    number = max(1, round(RUN_S / min(time_runs(3))))
    theirs = _onnxruntime(layer, x, w, target.threads) if peers else None
    run_s: list[float] = []
    peaks: list[float] = []
    their_s: list[float] = []
    while len(run_s) < rounds:
        turn = min(TURN, rounds - len(run_s))
        run_s += time_runs(turn, number=number)
        peaks += [meter.read() for _ in range(turn)]
        if theirs is not None:
            their_s += [theirs(number) for _ in range(turn)]
    return {
        "layer": layer.name,
        "key": work.key,
        "flops": work.flops,
        "bytes": work.bytes_moved,
        "decisions": dict(schedule.decisions),
        "run_s": run_s,
        "peaks": peaks,
        "onnxruntime_s": their_s,
        "prototype": list(layer.figures),
        "bound_by_memory": bound_by_memory(layer),
        "error": output_error([layer.restore(function(arranged, w))], [layer.reference(x, w)]),
        "tolerance": layer.tolerance,
    }


def _onnxruntime(layer: Layer, x: Array, w: Array, threads: int) -> Callable[[int], float] | None:
    """Return what times the layer in ONNX Runtime (mean of a number of runs); None where it is not installed."""
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([layer.node()], "layer", [info], [out], [onnx.numpy_helper.from_array(w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    try:
        engine = OnnxRuntime(model.SerializeToString(), threads, {})
    except PeerError:
        return None

    def run(number: int) -> float:
        engine.run({"x": x})
        start = time.perf_counter()
        for _ in range(number):
            engine.run({"x": x})
        return (time.perf_counter() - start) / number

    return run


def tune(layers: list[Layer], target: Target, log: Database, budget_s: float) -> None:
    """Search for ``budget_s`` on each layer and keep what was found in ``log``."""
    for layer in layers:
        print(f"tuning {layer.name}", flush=True)
        options: dict[str, Any] = {"name": layer.name, "space": layer.space, "budget_s": budget_s}
        tune_workload(layer.workload(target), log=log, target=target, **options)


def schedule_for(layer: Layer, target: Target, log: Database | None) -> tuple[Schedule, str]:
    """The best schedule in the log that this version can still make, or the default one; and which of the two it is."""
    work: Workload = layer.workload(target)
    if log is not None:
        space = TuningTask(work, layer.name, space=layer.space).space_name
        for record in log.ranked(work.key, target, space):
            try:
                return instantiate(work, Replay(record.decisions), target, layer.space), "tuned"
            except ScheduleError:
                continue
    return instantiate(work, Default(), target, layer.space), "default"


def of_peak(result: dict[str, Any], bandwidth: float) -> tuple[float, float]:
    """A layer's part of the peak: its best rate of the best reading, and the median of the rounds' parts."""
    if result["bound_by_memory"]:
        parts = [result["bytes"] / t / bandwidth for t in result["run_s"]]
        return max(parts), statistics.median(parts)
    rates = [result["flops"] / t for t in result["run_s"]]
    parts = [rate / peak for rate, peak in zip(rates, result["peaks"], strict=True)]
    return max(rates) / max(result["peaks"]), statistics.median(parts)


def of_prototype(result: dict[str, Any], bandwidth: float) -> tuple[float, float]:
    """The parts of :func:`of_peak` over the prototype's."""
    known = PROTOTYPE_READS if result["bound_by_memory"] else PROTOTYPE_PEAK
    ours = of_peak(result, bandwidth)
    least, median = (part * known / figure for part, figure in zip(ours, result["prototype"], strict=True))
    return least, median


def report(results: list[dict[str, Any]], bandwidth: float) -> str:
    rows = []
    for r in results:
        best, median = min(r["run_s"]), statistics.median(r["run_s"])
        gflops, gbytes = r["flops"] / 1e9, r["bytes"] / 1e9
        theirs = statistics.median(r["onnxruntime_s"]) if r["onnxruntime_s"] else float("inf")
        least_part, median_part = of_prototype(r, bandwidth)
        rows.append(
            [
                r["layer"],
                r["schedule"],
                f"{gflops / best:.1f}",
                f"{gflops / median:.1f}",
                percent(of_peak(r, bandwidth)[1], 1.0),
                f"{least_part:.2f} {median_part:.2f}",
                f"{gbytes / median:.1f}",
                f"{gflops / theirs:.1f}" if r["onnxruntime_s"] else "-",
                f"{r['error']:.1e}",
            ]
        )
    header = ["layer", "schedule", "best", "median", "of peak", "of prototype", "GB/s", "ONNX Runtime", "error"]
    return table(header, rows, left=2)


def main() -> int:
    arguments = _arguments()
    target = named_target(arguments.target, arguments.threads)
    layers = [layer for layer in LAYERS if fnmatchcase(layer.name, arguments.layers)]
    if not layers:
        raise SystemExit(f"--layers {arguments.layers}: matches none of " + ", ".join(x.name for x in LAYERS))
    log = open_log(arguments.log, "w" if arguments.tune else "r") if arguments.log else None
    if arguments.tune and log is not None:
        tune(layers, target, log, arguments.tune)
    meter, bandwidth = FmaMeter(target), read_peak(target)
    peak = meter.read(40)
    results = []
    for layer in layers:
        schedule, origin = schedule_for(layer, target, log)
        result = measure(layer, schedule, target, arguments.rounds, not arguments.alone, meter)
        results.append(result | {"schedule": origin})
        if bound_by_memory(layer):  # a busy machine hides at times what it can do
            bandwidth = max(bandwidth, read_peak(target))
        peak = max(peak, *result["peaks"])
        print(report(results[-1:], bandwidth).splitlines()[-1], flush=True)
    print(f"\n{target.model or target.cpu}, {target.vector_bits}-bit vectors, {target.threads} thread(s): FMA peak "
          f"{peak / 1e9:.1f} GFLOP/s, reads {bandwidth / 1e9:.1f} GB/s")  # fmt: skip
    print(report(results, bandwidth))
    data = {"environment": environment(target), "fma_peak": peak, "read_peak": bandwidth, "layers": results}
    write_json(arguments.json, data)
    wrong = [r["layer"] for r in results if not r["error"] <= r["tolerance"]]
    if wrong:
        print(f"wrong results: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="*", metavar="PATTERN", help="only layers whose name matches (direct*)")
    parser.add_argument("--log", metavar="FILE", help="tuning log to take schedules from")
    parser.add_argument("--tune", type=duration, metavar="TIME", help="first tune each layer this long; needs --log")
    parser.add_argument("--threads", type=count, default=1, metavar="N")
    parser.add_argument("--rounds", type=count, default=40, metavar="N")
    parser.add_argument("--target", default="host", metavar="NAME", help="host, x86-64-v3, ... (default: host)")
    parser.add_argument("--alone", action="store_true", help="without ONNX Runtime")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    arguments = parser.parse_args()
    if arguments.tune and not arguments.log:
        parser.error("--tune needs --log FILE to keep what it finds")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
