"""``luthier bench``: latency of a model, alone or side by side with other engines. Next: :mod:`.cli_profile`."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx

from .cli_model import explain, is_artifact, load_or_compile
from .cli_profile import check_options, profile
from .cli_table import ratio, seconds, table
from .cli_values import UsageError
from .graph.importer.read import find_model
from .graph.onnx_import import bundled_models
from .graph.seeding import seed_weights
from .peers import Engine, Luthier, Timing, engines_named, output_error, prepare, race
from .runtime.executable import Executable

ROUNDS = 20


def bench(arguments: Namespace) -> None:
    """Print median and least latency of Luthier and of each engine named, measured in turn."""
    peers = engines_named(arguments.against)
    profiled = check_options(arguments, peers)
    if is_artifact(arguments.model):
        if peers:
            raise UsageError(
                f"--against: {arguments.model} is an artifact, which other engines cannot read; give the model"
            )
        executable = load_or_compile(arguments)
        explain(arguments, executable)
        if profiled:
            print(executable.report or executable)
            profile(arguments, executable, executable.example_inputs())
        else:
            _measure(arguments, executable)
        return
    with _weighted(arguments.model) as path:
        arguments.model = str(path)
        executable = load_or_compile(arguments)
        explain(arguments, executable)
        if profiled and not peers:
            print(executable.report or executable)
            profile(arguments, executable, executable.example_inputs())
            return
        shapes = {s.name: s.dims for s in executable.inputs}
        ready, failed = prepare(peers, path, executable.threads, shapes, executable.example_inputs())
        timings = _measure(arguments, executable, ready, failed)
        if profiled:
            print()
            profile(arguments, executable, executable.example_inputs(), path, timings)


def _measure(
    arguments: Namespace, executable: Executable, others: Sequence[Engine] = (), failed: Mapping[str, str] | None = None
) -> list[Timing]:
    engines = [Luthier(executable), *others]
    rounds = arguments.rounds or ROUNDS
    timings = race(engines, executable.example_inputs(), rounds)
    header = ["engine", "median", "least"]
    rows = [[t.name, seconds(t.median_s), seconds(t.min_s)] for t in timings]
    if others or failed:
        header += ["luthier is faster by", "difference of outputs"]
        for t, row in zip(timings, rows, strict=True):
            row.append(ratio(t.median_s, timings[0].median_s))
            row.append(f"{output_error(timings[0].outputs, t.outputs):.1e}")
        rows += [[name, "failed", "-", "-", "-"] for name in failed or ()]
    print(executable.report or executable)
    print(f"{executable.threads} thread{'s' * (executable.threads != 1)}, {rounds} rounds in turn")
    print(table(header, rows))
    for reason in (failed or {}).values():
        print(reason)
    return timings


@contextmanager
def _weighted(model: str) -> Iterator[Path]:
    """The file of a model; for one that comes with onnx, a copy with seeded random weights.

    Those models hold constants for weights, with which values grow beyond all bounds on their way.
    """
    path = find_model(model)
    if path not in bundled_models().values():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        seeded = Path(folder) / path.name
        onnx.save(seed_weights(onnx.load(path)), seeded)
        yield seeded
