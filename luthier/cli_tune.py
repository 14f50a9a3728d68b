"""``luthier tune``: search, then say what it gained, task by task and for the whole model."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from . import api
from .cli_model import explain
from .cli_table import ratio, seconds, table
from .cli_values import model_name, output_path, shapes_of
from .codegen.detect import host_target
from .peers import Luthier, race
from .runtime.openmp import default_threads, usable_threads
from .tuner.model_tasks import model_tasks
from .tuner.patient import open_patiently
from .tuner.report import TuneReport
from .tuner.search import find_searcher
from .tuner.session import tune as tune_tasks
from .tuner.task import tuning_tasks

DEFAULT_BUDGET_S = 600.0
RACE_S = 4.0
"""Time for comparing the whole model before and after, besides the two builds."""


def tune(arguments: Namespace) -> None:
    """Tune a model's tasks. Everything that can be refused is refused before the log is touched."""
    find_searcher(arguments.search)
    target = host_target(usable_threads(arguments.threads or default_threads()))
    found = model_tasks(arguments.model, target, shapes_of(arguments.shape), arguments.accuracy or "fast")
    tasks = tuning_tasks(found, arguments.task)
    path = Path(arguments.log) if arguments.log else Path(f"{model_name(arguments.model)}.tuning.db")
    if not path.exists():
        output_path(path, "--log")
    budget_s = None if arguments.trials else arguments.budget or DEFAULT_BUDGET_S
    limit = f"{arguments.trials} trials" if budget_s is None else f"{budget_s:.0f} s"
    threads = f"{target.threads} thread{'s' * (target.threads != 1)}"
    print(f"{arguments.model}: {len(tasks)} tasks, {limit}, {threads} of {target.model or target.cpu}; log: {path}")
    with open_patiently(path) as log:
        report = tune_tasks(
            tasks,
            log=log,
            target=target,
            budget_s=budget_s,
            trials=arguments.trials,
            search=arguments.search,
            seed=arguments.seed,
        )
    print(report)
    if report.stopped == "interrupted":
        raise KeyboardInterrupt
    _compare(arguments, path, report)


def _compare(arguments: Namespace, path: Path, report: TuneReport) -> None:
    """Measure the whole model with its default schedules and with those in the log, in turn."""
    options: dict[str, Any] = {
        "threads": arguments.threads,
        "shapes": shapes_of(arguments.shape),
        "accuracy": arguments.accuracy or "fast",
    }
    before, after = (
        Luthier(api.compile(arguments.model, log=log, **options), name)
        for log, name in ((None, "default schedules"), (path, "with the log"))
    )
    explain(arguments, after.executable)
    feed = before.executable.example_inputs()
    once_s = max(report.best_s, 1e-4)
    timings = race([before, after], feed, rounds=max(3, min(30, round(RACE_S / once_s / 4))))
    rows = [[t.name, seconds(t.median_s), seconds(t.min_s), ratio(timings[0].median_s, t.median_s)] for t in timings]
    print(f"\nThe whole model, measured in turn; {after.executable.report}")
    print(table([Path(arguments.model).name, "median", "least", "gain"], rows))
    accuracy = f" --accuracy {arguments.accuracy}" if arguments.accuracy else ""
    print(f"Use it: luthier build {arguments.model} --log {path}{accuracy}")
