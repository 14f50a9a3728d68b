"""``luthier bench``: latency of a model, alone or side by side with other engines."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from .cli_model import is_artifact, load_or_compile
from .cli_table import ratio, seconds, table
from .cli_values import UsageError
from .errors import Error
from .peers import Engine, Luthier, Model, engines_named, output_error, race


def bench(arguments: Namespace) -> None:
    """Print median and least latency of Luthier and of each engine named, measured in turn."""
    peers = engines_named(arguments.against)
    if peers and is_artifact(arguments.model):
        raise UsageError(
            f"--against: {arguments.model} is an artifact, which other engines cannot read; give the model"
        )
    executable = load_or_compile(arguments)
    engines: list[Engine] = [Luthier(executable)]
    if peers:
        model = model_file(arguments.model)
        shapes = {s.name: s.dims for s in executable.inputs}
        engines += [peer(model, executable.threads, shapes) for peer in peers]
    timings = race(engines, executable.example_inputs(), arguments.rounds)
    ours = timings[0]
    rows = [
        [t.name, seconds(t.median_s), seconds(t.min_s), ratio(t.median_s, ours.median_s), f"{error:.1e}"]
        for t in timings
        for error in [output_error(ours.outputs, t.outputs)]
    ]
    if executable.report:
        print(executable.report)
    print(f"{executable.threads} thread{'s' * (executable.threads != 1)}, {arguments.rounds} rounds in turn")
    print(table(["engine", "median", "min", "luthier is faster by", "difference"], rows))


def model_file(model: str) -> Model:
    """The file that MODEL names: a path, or a model that comes with onnx."""
    from .graph.onnx_import import bundled_models

    path = Path(model)
    if path.exists():
        return path
    bundled = bundled_models().get(path.name.removesuffix(".onnx"))
    if bundled is None:
        raise Error(f"{model}: no such file")
    return bundled
