"""Single layers: how near generated code comes to the machine's peak.

    python -m benchmarks.kernels                       default schedules, one thread
    python -m benchmarks.kernels --log layers.db --tune 30s     tune each layer, keep the result, and measure that
    python -m benchmarks.kernels --log layers.db       with the schedules that were found
    python -m benchmarks.kernels --isa x86-64-v3       for another instruction set

Eleven convolutions and five matrix products. GFLOP/s count the operator's definition (a multiply-add is 2, taps on
padding count), at the least and the median time; ``of peak`` relates the median to a loop of nothing but FMAs timed in
the same run; ``error`` is the largest difference from the same layer in float64, relative to its largest value. ONNX
Runtime's rate for the layer stands beside it, measured in turn, where it is installed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

import luthier
from benchmarks.common import environment, write_json
from luthier import te
from luthier.cli_table import percent, table
from luthier.cli_values import count, duration
from luthier.codegen.detect import named_target
from luthier.peak import fma_peak, read_peak
from luthier.peers import OnnxRuntime, PeerError, output_error
from luthier.schedule.decide import Decider, Default, Replay
from luthier.schedule.space import instantiate
from luthier.target import Target
from luthier.te.ops.conv import conv
from luthier.te.ops.dense import matmul
from luthier.te.workload import Workload
from luthier.tuner.database import open_log
from luthier.tuner.lookup import schedules_from_log

Array = NDArray[Any]


@dataclass(frozen=True)
class Conv:
    """A convolution of one image: square, same padding unless the stride says otherwise, f32."""

    channels: int
    outputs: int
    size: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        kind = "depthwise" if self.groups > 1 else "conv"
        return f"{kind} {self.kernel}x{self.kernel} s{self.stride} {self.channels}->{self.outputs} @{self.size}"

    @property
    def pad(self) -> int:
        return self.kernel // 2

    def block(self, target: Target) -> int:
        """Channels lie in blocks of one vector, but for the image itself."""
        return target.lanes() if self.channels % target.lanes() == 0 else 0

    def workload(self, target: Target) -> Workload:
        lanes, block = target.lanes(), self.block(target)
        image = (
            (1, self.channels // block, self.size, self.size, block) if block else (1, self.channels, *[self.size] * 2)
        )
        x = te.placeholder(image, name="x")
        w = te.placeholder(
            (self.outputs, self.channels // self.groups, self.kernel, self.kernel), name="w", constant=True
        )
        options: dict[str, Any] = {"strides": [self.stride] * 2, "pads": [self.pad] * 4, "groups": self.groups}
        y = conv(x, w, in_channels=self.channels, out_channels=self.outputs, in_block=block, out_block=lanes, **options)
        return te.workload(y, [x, w])

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        weight = (self.outputs, self.channels // self.groups, self.kernel, self.kernel)
        return (1, self.channels, self.size, self.size), weight

    def arrange(self, x: Array, target: Target) -> Array:
        """(1, C, H, W) into the layout that the workload reads."""
        block = self.block(target)
        if not block:
            return x
        return np.ascontiguousarray(x.reshape(1, -1, block, *x.shape[2:]).transpose(0, 1, 3, 4, 2))

    def restore(self, y: Array) -> Array:
        """(1, C / c, H, W, c) into (1, C, H, W)."""
        return y.transpose(0, 1, 4, 2, 3).reshape(1, self.outputs, *y.shape[2:4])

    def node(self) -> onnx.NodeProto:
        return helper.make_node(
            "Conv", ["x", "w"], ["y"], strides=[self.stride] * 2, pads=[self.pad] * 4, group=self.groups
        )

    def reference(self, x: Array, w: Array) -> Array:
        """The same in float64, as one matrix product for each tap."""
        p, s = self.pad, self.stride
        padded = np.pad(x[0].astype(np.float64), ((0, 0), (p, p), (p, p)))
        size = (self.size + 2 * p - self.kernel) // s + 1
        total = np.zeros((self.outputs, size, size))
        for i in range(self.kernel):
            for j in range(self.kernel):
                part = padded[:, i : i + s * size : s, j : j + s * size : s][:, :size, :size]
                tap = w[:, :, i, j].astype(np.float64)
                total += part * tap[:, :, None] if self.groups > 1 else np.tensordot(tap, part, 1)
        return total[None]


@dataclass(frozen=True)
class MatMul:
    """A matrix product with constant right-hand side, f32."""

    m: int
    n: int
    k: int

    @property
    def name(self) -> str:
        return f"matmul {self.m}x{self.n}x{self.k}"

    def workload(self, target: Target) -> Workload:
        a = te.placeholder((self.m, self.k), name="x")
        b = te.placeholder((self.k, self.n), name="w", constant=True)
        return te.workload(matmul(a, b), [a, b])

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.m, self.k), (self.k, self.n)

    def arrange(self, x: Array, target: Target) -> Array:
        return x

    def restore(self, y: Array) -> Array:
        return y

    def node(self) -> onnx.NodeProto:
        return helper.make_node("MatMul", ["x", "w"], ["y"])

    def reference(self, x: Array, w: Array) -> Array:
        return np.matmul(x, w, dtype=np.float64)


Layer = Conv | MatMul

LAYERS: tuple[Layer, ...] = (
    Conv(64, 64, 56, 3),
    Conv(128, 128, 28, 3),
    Conv(256, 256, 14, 3),
    Conv(512, 512, 7, 3),
    Conv(64, 256, 56, 1),
    Conv(256, 64, 56, 1),
    Conv(1024, 256, 14, 1),
    Conv(2048, 512, 7, 1),
    Conv(128, 128, 56, 3, stride=2),
    Conv(3, 64, 224, 7, stride=2),
    Conv(144, 144, 56, 3, groups=144),
    MatMul(1024, 1024, 1024),
    MatMul(128, 768, 768),
    MatMul(128, 3072, 768),
    MatMul(128, 768, 3072),
    MatMul(1, 4096, 4096),
)


def measure(layer: Layer, target: Target, decider: Decider, rounds: int) -> dict[str, Any]:
    """Time one layer; returns JSON data."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s, np.float32) for s in layer.shapes())
    work = layer.workload(target)
    function = luthier.build(instantiate(work, decider, target), target)
    arranged = layer.arrange(x, target)
    number = max(1, round(2e-3 / min(function.time(arranged, w, repeats=3))))
    theirs = _onnxruntime(layer, x, w, target.threads)
    run_s: list[float] = []
    their_s: list[float] = []
    for _ in range(rounds):
        run_s += function.time(arranged, w, repeats=1, number=number)
        if theirs is not None:
            their_s.append(theirs(number))
    return {
        "layer": layer.name,
        "key": work.key,
        "flops": work.flops,
        "bytes": work.bytes_moved,
        "decisions": dict(decider.decisions),
        "run_s": run_s,
        "onnxruntime_s": their_s,
        "error": output_error([layer.restore(function(arranged, w))], [layer.reference(x, w)]),
    }


def _onnxruntime(layer: Layer, x: Array, w: Array, threads: int) -> Callable[[int], float] | None:
    """Return what times the layer in ONNX Runtime (mean of a number of runs); None where it is not installed."""
    import time

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


def tune(layers: list[Layer], target: Target, log: str, budget_s: float) -> None:
    """Search for ``budget_s`` on each layer and keep what was found in ``log``."""
    from luthier.tuner.session import tune_workload

    with open_log(log) as database:
        for layer in layers:
            print(f"tuning {layer.name}", flush=True)
            tune_workload(layer.workload(target), log=database, target=target, name=layer.name, budget_s=budget_s)


def report(results: list[dict[str, Any]], peak: float) -> str:
    rows = []
    for r in results:
        best, median = min(r["run_s"]), statistics.median(r["run_s"])
        gflops = r["flops"] / 1e9
        theirs = statistics.median(r["onnxruntime_s"]) if r["onnxruntime_s"] else float("inf")
        rows.append(
            [
                r["layer"],
                r["schedule"],
                f"{gflops / best:.1f}",
                f"{gflops / median:.1f}",
                percent(gflops * 1e9 / median, peak),
                f"{r['bytes'] / median / 1e9:.1f}",
                f"{gflops / theirs:.1f}" if r["onnxruntime_s"] else "-",
                f"{r['error']:.1e}",
            ]
        )
    return table(["layer", "schedule", "best", "median", "of peak", "GB/s", "ONNX Runtime", "error"], rows, left=2)


def main() -> None:
    arguments = _arguments()
    target = named_target(arguments.isa, arguments.threads)
    layers = [layer for layer in LAYERS if fnmatchcase(layer.name, arguments.layers)]
    if not layers:
        raise SystemExit(f"--layers {arguments.layers}: matches none of " + ", ".join(x.name for x in LAYERS))
    if arguments.tune:
        tune(layers, target, arguments.log, arguments.tune)
    peak, bandwidth = fma_peak(target), read_peak(target)
    print(f"{target.model or target.cpu}, {target.vector_bits}-bit vectors, {target.threads} thread(s): FMA peak "
          f"{peak / 1e9:.1f} GFLOP/s, reads {bandwidth / 1e9:.1f} GB/s")  # fmt: skip
    database = open_log(arguments.log, "r") if arguments.log else None
    results = []
    for layer in layers:
        found = schedules_from_log(database)(layer.workload(target), target) if database else None
        decider = Replay(found.decisions) if found else Default()
        result = measure(layer, target, decider, arguments.rounds)
        results.append(result | {"schedule": found.origin if found else "default"})
        print(report(results[-1:], peak).splitlines()[-1], flush=True)
    print("\n" + report(results, peak))
    data = {"environment": environment(target), "fma_peak": peak, "read_peak": bandwidth, "layers": results}
    write_json(arguments.json, data)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="*", metavar="PATTERN", help="only layers whose name matches (conv*)")
    parser.add_argument("--log", metavar="FILE", help="tuning log to take schedules from")
    parser.add_argument("--tune", type=duration, metavar="TIME", help="first tune each layer this long; needs --log")
    parser.add_argument("--threads", type=count, default=1, metavar="N")
    parser.add_argument("--rounds", type=count, default=20, metavar="N")
    parser.add_argument("--isa", default="host", help="host, x86-64-v3, ... (default: host)")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    arguments = parser.parse_args()
    if arguments.tune and not arguments.log:
        parser.error("--tune needs --log FILE to keep what it finds")
    return arguments


if __name__ == "__main__":
    main()
