"""``luthier tasks`` and ``luthier show``: the distinct kernels of a model, and the code of one of them."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase

from . import api
from .cli_table import percent, ratio, seconds, shorten, table
from .cli_values import UsageError, shapes_of
from .codegen import pipeline
from .codegen.detect import host_target, named_target
from .peak import fma_peak
from .runtime.openmp import default_threads, usable_threads
from .schedule.decide import Default, Replay
from .target import Target
from .te.workload import Workload
from .tuner.database import Database, open_log
from .tuner.lookup import schedules_from_log
from .tuner.model_tasks import model_tasks
from .tuner.record import decisions_hash
from .tuner.task import TuningTask


def tasks(arguments: Namespace) -> None:
    """Print a line for each task, most arithmetic first."""
    with ExitStack() as stack:
        log = stack.enter_context(open_log(arguments.log, "r")) if arguments.log else None
        target = host_target(_threads(arguments))
        found = _tasks_of(arguments, target)
        timed = log is not None or arguments.measure
        peak = fma_peak(target) if timed else math.inf
        rows = []
        for number, task in enumerate(found, 1):
            work = task.workload
            row = [str(number), work.key, shorten(task.name, 48), _shapes(work), str(task.uses)]
            row.append(f"{work.flops / 1e9:.4g}")
            if timed:
                default_s, best_s = _times(task, target, log, arguments.measure)
                rate = work.flops / min(default_s, best_s)
                row += [seconds(default_s), seconds(best_s), ratio(default_s, best_s), percent(rate, peak)]
            rows.append(row)
    header = ["#", "key", "task", "shapes", "uses", "GFLOP"]
    if timed:
        header += ["default", "best", "gain", "of peak"]
    print(table(header, rows, left=4))
    total = sum(t.workload.flops * t.uses for t in found) / 1e9
    print(f"{len(found)} tasks, {sum(t.uses for t in found)} kernels, {total:.4g} GFLOP")
    if timed:
        print(f"peak of {target.threads} thread(s): {peak / 1e9:.1f} GFLOP/s (fused multiply-add, f32, measured now)")


def show(arguments: Namespace) -> None:
    """Print one task at one level, scheduled as a build with this log would."""
    with ExitStack() as stack:
        log = stack.enter_context(open_log(arguments.log, "r")) if arguments.log else None
        target = named_target(arguments.target, _threads(arguments))
        task = _choose(_tasks_of(arguments, target), arguments.task)
        known = schedules_from_log(log)(task.workload, target) if log is not None else None
        recorded = None if known is None else known.decisions
        schedule = task.instantiate(Default() if recorded is None else Replay(recorded), target)
    origin = "default" if known is None else known.origin
    decisions = ", ".join(f"{k}={v}" for k, v in schedule.decisions.items()) or "none"
    print(f"# {task.name}: {task.key}, {task.uses} uses, {origin} schedule, decisions: {decisions}")
    print(pipeline.levels(schedule, target)[arguments.level]())


def _tasks_of(arguments: Namespace, target: Target) -> list[TuningTask]:
    return model_tasks(arguments.model, target, shapes_of(arguments.shape), arguments.accuracy or "fast")


def _threads(arguments: Namespace) -> int:
    return usable_threads(arguments.threads or default_threads())


def _choose(found: Sequence[TuningTask], wanted: str) -> TuningTask:
    """Find one task by its number in ``luthier tasks``, its key or the start of it, its name or a pattern for it."""
    if wanted.isdecimal() and 1 <= int(wanted) <= len(found):
        return found[int(wanted) - 1]
    matches = [t for t in found if wanted in (t.key, t.name)]
    matches = matches or [t for t in found if t.key.startswith(wanted) or fnmatchcase(t.name, wanted)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        some = ", ".join(t.name for t in matches[:5])
        raise UsageError(f"--task {wanted}: matches {len(matches)} tasks ({some}, ...); give a key or a number")
    raise UsageError(f"--task {wanted}: no such task among the {len(found)}; luthier tasks lists them")


def _times(task: TuningTask, target: Target, log: Database | None, measure: bool) -> tuple[float, float]:
    """Seconds of the default schedule and of the best one known; infinity where unknown."""
    default = task.instantiate(Default(), target)
    default_s = best_s = math.inf
    if log is not None:
        same = log.find(task.key, target, decisions_hash(default.decisions, task.space_name))
        default_s = same.best_s if same is not None and same.ok else math.inf
        best = log.best(task.key, target, task.space_name)
        best_s = best.best_s if best is not None else math.inf
    if measure:
        function = api.build(default, target)
        number = max(1, round(1e-3 / min(function.time(repeats=2))))
        default_s = min(function.time(repeats=7, number=number))
    return default_s, best_s


def _shapes(work: Workload) -> str:
    """What goes in, weights aside, and what comes out."""
    inputs = [t for t in work.inputs if not t.constant]
    before, after = (", ".join("x".join(map(str, t.shape)) or "()" for t in ts) for ts in (inputs, work.outputs))
    return f"{before} -> {after}"
