"""``luthier build`` and ``luthier run``, and how every command gets at its model."""

from __future__ import annotations

import zipfile
import zlib
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import api
from .cli_table import table
from .cli_values import UsageError, model_name, output_path, shapes_of
from .errors import InputError
from .runtime.container import MAGIC
from .runtime.executable import Executable, TensorSpec
from .runtime.report import BuildReport
from .whole_file import whole_file

Array = NDArray[Any]


def build(arguments: Namespace) -> None:
    """Compile a model and save it as one file."""
    reads = (arguments.model, arguments.log)
    target = output_path(arguments.output or f"{model_name(arguments.model)}.luthier", reads=reads)
    executable = api.compile(
        arguments.model,
        log=arguments.log,
        threads=arguments.threads,
        target=arguments.target,
        shapes=shapes_of(arguments.shape),
        accuracy=arguments.accuracy or "fast",
    )
    executable.save(target)
    print(executable.report)
    explain(arguments, executable)
    print(f"saved {target} ({target.stat().st_size / 1e6:.1f} MB)")


def run(arguments: Namespace) -> None:
    """Run a model once and print a line for each output; ``-o`` saves them."""
    reads = (arguments.model, arguments.log, *(path for _, path in arguments.input))
    target = output_path(arguments.output, reads=reads) if arguments.output else None
    if target and target.suffix != ".npz":
        raise UsageError(f"--output {target}: the outputs are written as one .npz file; name it {target.stem}.npz")
    given = _read_inputs(arguments.input)
    executable = load_or_compile(arguments)
    explain(arguments, executable)
    if arguments.input:
        feed = _assign(given, executable.inputs)
    else:
        feed = executable.example_inputs(arguments.seed)
        if feed:
            print(f"no --input: random values with seed {arguments.seed} for {', '.join(map(str, executable.inputs))}")
    outputs = executable.run(None, feed)
    names = [s.name for s in executable.outputs]
    print(_summary(names, outputs))
    if target:
        _save(target, names, outputs)
        print(f"saved {target}")


def explain(arguments: Namespace, executable: Executable) -> None:
    """With ``--explain``, print where each task's schedule is from."""
    explain_report(arguments, executable.report)


def explain_report(arguments: Namespace, report: BuildReport | None) -> None:
    """As :func:`explain`, for the report of a build."""
    if not arguments.explain:
        return
    if report is None:
        print("the artifact does not say where its schedules are from")
        return
    print(f"schedules: {report.origins}")
    for number, task in enumerate(report.tasks, 1):
        uses = f", {task.uses} uses" if task.uses != 1 else ""
        print(f"  {number}. {task.name or task.symbol} ({task.key}{uses}): {task.origin}")
        print(f"     {task.why or 'nothing is recorded of the reason'}")


def is_artifact(path: str) -> bool:
    """Whether ``path`` is meant as a saved artifact: by its content, or else by its name."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC or path.endswith(".luthier")
    except OSError:
        return path.endswith(".luthier")


def load_or_compile(arguments: Namespace) -> Executable:
    """Return the executable that ``MODEL|ARTIFACT`` and its options stand for."""
    if not is_artifact(arguments.model):
        return api.compile(
            arguments.model,
            log=arguments.log,
            threads=arguments.threads,
            shapes=shapes_of(arguments.shape),
            accuracy=arguments.accuracy or "fast",
        )
    for option, value in (("--shape", arguments.shape), ("--log", arguments.log)):
        if value:
            raise UsageError(f"{option}: {arguments.model} is a built artifact; give it to luthier build instead")
    executable = api.load(arguments.model)
    if arguments.threads not in (None, executable.program.threads):
        raise UsageError(
            f"--threads {arguments.threads}: {arguments.model} was built for {executable.program.threads}; "
            f"build it again with --threads {arguments.threads}"
        )
    built = executable.report.accuracy if executable.report is not None else None
    if arguments.accuracy not in (None, built):
        raise UsageError(
            f"--accuracy {arguments.accuracy}: {arguments.model} was built with --accuracy {built or 'unknown'}; "
            f"build it again with --accuracy {arguments.accuracy}"
        )
    return executable


def _read_inputs(options: Sequence[tuple[str, Path]]) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for name, path in options:
        loaded = _load(path)
        if name and isinstance(loaded, dict):
            raise InputError(f"{path}: holds several arrays; pass it as --input {path}, without a name")
        if not name and not isinstance(loaded, dict):
            raise InputError(f"{path}: holds one array; say which input it is for: --input NAME={path}")
        for key, array in loaded.items() if isinstance(loaded, dict) else [(name, loaded)]:
            if key in arrays:
                raise InputError(f"input {key!r} is given twice; give it once")
            arrays[key] = array
    return arrays


def _load(path: Path) -> Array | dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        return dict(loaded.items()) if isinstance(loaded, np.lib.npyio.NpzFile) else np.asarray(loaded)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror or error}; give a file written by numpy.save"
        ) from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: is not a NumPy file of numbers ({error}); write it with numpy.save") from None


def _assign(given: dict[str, Array], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Check only the names; the executable checks the rest."""
    known = {s.name for s in specs}
    for name in given:
        if name not in known:
            raise InputError(f"--input {name}=...: no such input; the model takes {', '.join(map(str, specs))}")
    missing = [s.name for s in specs if s.name not in given]
    if missing:
        how = f"add --input {missing[0]}=FILE.npy, or give one --input FILE.npz with all"
        raise InputError(f"no --input for {', '.join(missing)}; {how}")
    return given


def _summary(names: Sequence[str], outputs: Sequence[Array]) -> str:
    rows = []
    for name, array in zip(names, outputs, strict=True):
        numbers = ["-"] * 3
        if array.size and array.dtype != bool:
            values = array.astype(np.float64)
            numbers = [f"{v:.6g}" for v in (values.min(), values.mean(), values.max())]
        rows.append([name, f"{array.dtype}{list(array.shape)}", *numbers])
    return table(["output", "type", "min", "mean", "max"], rows, left=2)


def _save(target: Path, names: Sequence[str], outputs: Sequence[Array]) -> None:
    """Write an ``.npz`` file, all or nothing. Not ``numpy.savez``, which cannot take any name."""
    with whole_file(target) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in zip(names, outputs, strict=True):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
