"""``luthier tune``: search, then say what it gained, task by task and for the whole model."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from .accuracy import check_accuracy
from .cli_model import explain_report
from .cli_values import model_name, output_path, shapes_of
from .codegen.detect import host_target
from .runtime.openmp import default_threads, usable_threads
from .tuner.model_tasks import model_tasks
from .tuner.patient import open_patiently
from .tuner.search import find_searcher
from .tuner.session import tune as tune_tasks
from .tuner.task import tuning_tasks
from .tuner.whole_model import ModelCheck

DEFAULT_BUDGET_S = 600.0


def tune(arguments: Namespace) -> None:
    """Tune a model's tasks. Everything that can be refused is refused before the log is touched."""
    start = time.monotonic()
    find_searcher(arguments.search)
    target = host_target(usable_threads(arguments.threads or default_threads()))
    shapes, accuracy = shapes_of(arguments.shape), check_accuracy(arguments.accuracy or "fast")
    found = model_tasks(arguments.model, target, shapes, accuracy)
    check = ModelCheck(arguments.model, target, shapes, accuracy, time.monotonic() - start)
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
            budget_s=None if budget_s is None else max(budget_s - (time.monotonic() - start), 0.5),
            trials=arguments.trials,
            search=arguments.search,
            seed=arguments.seed,
            model=check,
        )
    print(report)
    if report.stopped == "interrupted":
        raise KeyboardInterrupt
    if check.report is not None:
        explain_report(arguments, check.report)
    option = f" --accuracy {arguments.accuracy}" if arguments.accuracy else ""
    print(f"Use it: luthier build {arguments.model} --log {path}{option}")
