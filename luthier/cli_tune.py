"""``luthier tune``: search, then say what it gained, task by task and for the whole model."""

from __future__ import annotations

import shlex
import time
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

from . import api
from .accuracy import check_accuracy
from .cli_fleet import fleet_measurer, fleet_target
from .cli_model import explain_report
from .cli_values import UsageError, model_name, output_path, shape_options, shapes_of
from .codegen.detect import NAMES
from .target import Target
from .tuner.cost_model import find_cost_model
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
    find_cost_model(arguments.cost_model)
    target = fleet_target(arguments) if arguments.workers else _target_here(arguments)
    shapes, accuracy = shapes_of(arguments.shape), check_accuracy(arguments.accuracy or "fast")
    found = model_tasks(arguments.model, target, shapes, accuracy)
    check = None
    if api.measurable(arguments.workers, target):
        check = ModelCheck(arguments.model, target, shapes, accuracy, time.monotonic() - start)
    tasks = tuning_tasks(found, arguments.task)
    path = Path(arguments.log) if arguments.log else Path(f"{model_name(arguments.model)}.tuning.db")
    if not path.exists():
        output_path(path, "--log")
    budget_s = None if arguments.trials else arguments.budget or DEFAULT_BUDGET_S
    limit = f"{arguments.trials} trials" if budget_s is None else f"{budget_s:.0f} s"
    threads = f"{target.threads} thread{'s' * (target.threads != 1)}"
    print(f"{arguments.model}: {len(tasks)} tasks, {limit}, {threads} of {target.model or target.cpu}; log: {path}")
    with ExitStack() as stack:
        measurer = stack.enter_context(fleet_measurer(arguments, target)) if arguments.workers else None
        log = stack.enter_context(open_patiently(path))
        report = tune_tasks(
            tasks,
            log=log,
            target=target,
            budget_s=None if budget_s is None else max(budget_s - (time.monotonic() - start), 0.5),
            trials=arguments.trials,
            search=arguments.search,
            cost_model=arguments.cost_model,
            seed=arguments.seed,
            stop_below=arguments.stop_below,
            model=check,
            note="" if check is not None else api.UNMEASURED,
            measurer=measurer,
        )
    print(report)
    if report.stopped == "interrupted":
        raise KeyboardInterrupt
    if check is not None and check.report is not None:
        explain_report(arguments, check.report)
    option = shape_options(shapes) + (f" --accuracy {arguments.accuracy}" if arguments.accuracy else "")
    if target.name in NAMES[1:]:  # also one that the workers have chosen
        option += f" --target {target.name}"
    if check is None or arguments.threads:
        option += f" --threads {target.threads}"
    where = "Use it" if check is not None else "To use it on such a machine"
    print(f"{where}: luthier build {shlex.quote(arguments.model)} --log {shlex.quote(str(path))}{option}")


def _target_here(arguments: Namespace) -> Target:
    for option in ("any_target", "fallback"):
        if getattr(arguments, option):
            raise UsageError(f"--{option.replace('_', '-')}: is about workers; give --workers dask://HOST:PORT with it")
    return api.tuning_target(None, arguments.target, arguments.threads)
