"""How long builds take, from an empty cache and from a filled one, and how much memory they need.

    python -m benchmarks.builds --json result.json

Each build is a process of its own that imports Luthier and compiles a model from an ONNX file with seeded weights; a
temporary directory is its cache. Python's bytecode is there before, as in an installation. Times are of the whole
process, from start to exit, and beside it of the CPU, which tells more on a busy machine; the warm ones are medians of
``--rounds``. Memory is the largest resident size of the process, the parts of the file that it maps included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx

from benchmarks.common import environment, write_json
from luthier.cli_table import table
from luthier.cli_values import count
from luthier.codegen.detect import host_target
from luthier.graph.onnx_import import bundled_models
from luthier.graph.seeding import seed_weights

COLD_S, WARM_S = 30.0, 3.0
BASE_BYTES, PER_WEIGHT_BYTE = 400e6, 4.0
"""The bars: seconds from a cold and a warm cache; bytes of memory, and more for each byte of weights."""

_BUILD = """
import json, re, sys, time
import luthier
model, threads, jobs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
report = luthier.compile(model, threads=threads, jobs=jobs or None).report
# not getrusage: its maximum starts at the parent's size
peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
times = {"build_s": report.build_s, "cpu_s": time.process_time()}
print(json.dumps({**times, "tasks": len(report.tasks), "cached": report.cached, "peak_bytes": peak}))
"""


def main() -> None:
    arguments = _arguments()
    results = []
    with tempfile.TemporaryDirectory() as bytecode:
        for name in arguments.models:
            results.append(measure(name, bytecode, arguments))
            print(report(results[-1:]).splitlines()[-1], flush=True)
    print(f"\n{report(results)}")
    options = {"threads": arguments.threads, "jobs": arguments.jobs, "rounds": arguments.rounds}
    target = host_target(arguments.threads)
    write_json(arguments.json, {"environment": environment(target), "options": options, "models": results})


def measure(name: str, bytecode: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Build one model cold, then warm; returns JSON data."""
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    variables["PYTHONPYCACHEPREFIX"] = bytecode
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        onnx.save(seed_weights(onnx.load(bundled_models()[name]), arguments.seed), file)
        build(file, variables | {"LUTHIER_CACHE": ""}, arguments)  # makes the bytecode
        variables["LUTHIER_CACHE"] = str(Path(folder) / "cache")
        cold = build(file, variables, arguments)
        warm = [build(file, variables, arguments) for _ in range(arguments.rounds)]
        weights = file.stat().st_size
    if any(w["cached"] != w["tasks"] for w in warm):
        raise SystemExit(f"{name}: a warm build compiled {warm[0]['tasks'] - warm[0]['cached']} kernels again")
    return {"model": name, "weights_bytes": weights, "cold": cold, "warm": warm}


def build(file: Path, variables: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Build in a process of its own."""
    command = [sys.executable, "-c", _BUILD, str(file), str(arguments.threads), str(arguments.jobs)]
    start = time.perf_counter()
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    elapsed = time.perf_counter() - start
    return {**json.loads(done.stdout), "process_s": elapsed}


def report(results: list[dict[str, Any]]) -> str:
    """A table: what was measured beside its bar, ``!`` where it is missed."""
    header = ["model", "weights", "kernels", "cold", "cpu", "bar", "warm", "cpu", "bar", "memory", "bar"]
    rows = []
    for r in results:
        cold, warm = r["cold"]["process_s"], statistics.median(w["process_s"] for w in r["warm"])
        cold_cpu, warm_cpu = r["cold"]["cpu_s"], statistics.median(w["cpu_s"] for w in r["warm"])
        peak = max(b["peak_bytes"] for b in (r["cold"], *r["warm"]))
        most = BASE_BYTES + PER_WEIGHT_BYTE * r["weights_bytes"]
        rows.append(
            [
                r["model"], _mb(r["weights_bytes"]), str(r["cold"]["tasks"]),
                f"{cold:.1f} s", f"{cold_cpu:.1f} s", _bar(f"{COLD_S:.0f} s", cold > COLD_S),
                f"{warm:.2f} s", f"{warm_cpu:.2f} s", _bar(f"{WARM_S:.0f} s", warm > WARM_S),
                _mb(peak), _bar(_mb(most), peak > most),
            ]
        )  # fmt: skip
    return table(header, rows)


def _bar(text: str, missed: bool) -> str:
    return f"{text} !" if missed else text


def _mb(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:.0f} MB"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = ",".join(bundled_models())
    parser.add_argument("--models", default=models, help="names, separated by commas (default: all that ship)")
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="that the models run with (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="of the build; 0: the cores (default: 1)")
    parser.add_argument("--rounds", type=count, default=3, metavar="N", help="warm builds (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    arguments = parser.parse_args()
    arguments.models = [m for m in arguments.models.split(",") if m]
    unknown = [m for m in arguments.models if m not in bundled_models()]
    if unknown or arguments.jobs < 0:
        parser.error(f"no model {unknown[0]!r}; use {models}" if unknown else "--jobs must not be negative")
    return arguments


if __name__ == "__main__":
    main()
