"""``luthier bench``: latency of a model, alone or side by side with other engines."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx

from .cli_model import is_artifact, load_or_compile
from .cli_table import ratio, seconds, table
from .cli_values import UsageError
from .graph.importer.read import find_model
from .graph.onnx_import import bundled_models
from .graph.seeding import seed_weights
from .peers import Engine, Luthier, engines_named, output_error, race
from .runtime.executable import Executable


def bench(arguments: Namespace) -> None:
    """Print median and least latency of Luthier and of each engine named, measured in turn."""
    peers = engines_named(arguments.against)
    if is_artifact(arguments.model):
        if peers:
            raise UsageError(
                f"--against: {arguments.model} is an artifact, which other engines cannot read; give the model"
            )
        _measure(arguments, load_or_compile(arguments))
        return
    with _weighted(arguments.model) as path:
        arguments.model = str(path)
        executable = load_or_compile(arguments)
        shapes = {s.name: s.dims for s in executable.inputs}
        _measure(arguments, executable, [peer(path, executable.threads, shapes) for peer in peers])


def _measure(arguments: Namespace, executable: Executable, others: Sequence[Engine] = ()) -> None:
    engines = [Luthier(executable), *others]
    timings = race(engines, executable.example_inputs(), arguments.rounds)
    header = ["engine", "median", "least"]
    rows = [[t.name, seconds(t.median_s), seconds(t.min_s)] for t in timings]
    if len(engines) > 1:
        header += ["luthier is faster by", "difference of outputs"]
        for t, row in zip(timings, rows, strict=True):
            row.append(ratio(t.median_s, timings[0].median_s))
            row.append(f"{output_error(timings[0].outputs, t.outputs):.1e}")
    print(executable.report or executable)
    print(f"{executable.threads} thread{'s' * (executable.threads != 1)}, {arguments.rounds} rounds in turn")
    print(table(header, rows))


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
