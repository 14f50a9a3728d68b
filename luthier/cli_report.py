"""``luthier report``: one HTML page about what a tuning log holds."""

from __future__ import annotations

import shlex
import time
from argparse import Namespace
from pathlib import Path

from . import peak
from .cli_values import model_name, output_path, shape_options, shapes_of
from .codegen.detect import host_target
from .page.code import Rebuilt, rebuild
from .page.collect import Report, gather
from .page.page import render
from .page.task_sections import Code
from .runtime.openmp import usable_threads
from .runtime.profile import Peaks
from .target import Target
from .tuner.database import open_log
from .tuner.model_tasks import model_tasks
from .tuner.task import TuningTask
from .whole_file import whole_file


def report(arguments: Namespace) -> None:
    """Write the page. Everything that can be refused is refused before the long part of the work."""
    log_path, model = Path(arguments.file), arguments.model
    target_path = output_path(arguments.output or f"{log_path.stem}.html", reads=(log_path, model))

    def tasks_for(target: Target) -> list[TuningTask]:
        return model_tasks(model, target, shapes_of(arguments.shape), arguments.accuracy or "fast")

    with open_log(log_path, "r") as log:
        found = gather(
            log,
            str(log_path),
            model_name(model) if model else log_path.name,
            model=model_name(model) if model else "",
            model_tasks=tasks_for if model else None,
            pattern=arguments.task,
            wanted_machine=arguments.target,
        )
    found.peaks = _peaks(found.target)
    command = f"luthier report {shlex.quote(str(log_path))} --task KEY -o task.html" + _options(arguments)
    text = render(found, _code(found, arguments.code), command, time.strftime("%Y-%m-%d %H:%M"))
    page = text.encode("utf-8", "backslashreplace")  # names of files need not be text
    with whole_file(target_path) as file:
        file.write(page)
    print(
        f"{target_path}: {len(found.tasks)} tasks, {len(found.trials)} trials, {len(page) / 1e6:.1f} MB; "
        "open it in a browser"
    )


def _options(arguments: Namespace) -> str:
    """What makes another page be about the same tasks on the same machine."""
    named = (("--model", arguments.model), ("--accuracy", arguments.accuracy), ("--target", arguments.target))
    options = "".join(f" {option} {shlex.quote(value)}" for option, value in named if value)
    return options + shape_options(shapes_of(arguments.shape))


def _peaks(target: Target | None) -> Peaks | None:
    """Measure this machine's peaks, if it is the one that the log is about."""
    if target is None or usable_threads(target.threads) != target.threads:
        return None
    here = host_target(target.threads)
    same = (target.triple, target.cpu, target.model, target.vector_bits) == (
        here.triple, here.cpu, here.model, here.vector_bits,
    )  # fmt: skip
    return peak.measure(here) if same else None


def _code(found: Report, most: int) -> Code:
    """The code of the tasks that take most of the model's time."""
    code: dict[str, Rebuilt] = {}
    for t in found.tasks[:most]:
        if t.best is None:
            continue
        if t.workload is None:
            code[t.key] = Rebuilt(problem=t.problem)
        elif found.target is None:
            code[t.key] = Rebuilt(problem="no code: the log describes its machine incompletely")
        else:
            code[t.key] = rebuild(t.workload, t.best, found.target)
    return code
