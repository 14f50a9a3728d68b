"""From a log, and a model if there is one, to what the page shows: a :class:`Report`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from ..cli_table import shorten
from ..cli_values import UsageError
from ..errors import ExpressionError
from ..runtime.profile import Peaks
from ..target import Target
from ..te.parse import parse_workload
from ..te.workload import Workload
from ..tuner.database import Database
from ..tuner.model_run import ModelRun
from ..tuner.outline import Outline
from ..tuner.record import Record
from ..tuner.task import TuningTask, is_wanted

MOST_NAME = 400


@dataclass(frozen=True)
class TaskView:
    """One task on one machine.

    uses      kernels of the model that run it; 1 where the model is not known
    trials    every record, in the order in which they were added
    best      the fastest verified record; None where there is none
    workload  what it computes; None where the log's text of it cannot be read, ``problem`` says why
    """

    key: str
    name: str
    uses: int
    trials: Sequence[Outline]
    best: Record | None
    workload: Workload | None
    problem: str = ""

    @property
    def best_s(self) -> float:
        return math.inf if self.best is None else self.best.best_s

    @cached_property
    def default_s(self) -> float:
        """Time of the default schedule, which is trial 0; infinity where it is not in the log."""
        return min((t.best_s for t in self.trials if t.trial == 0 and t.verified), default=math.inf)

    @property
    def weight_s(self) -> float:
        """The task's part of the model's time; 0 where nothing is known."""
        return self.uses * self.best_s if self.best is not None else 0.0

    @cached_property
    def failures(self) -> int:
        return sum(not t.run_s for t in self.trials)

    @cached_property
    def noise(self) -> float:
        """Of the best record's timings; NaN where they cannot say."""
        if self.best is None:
            return math.nan
        times = [t.noise for t in self.trials if t.run_s == self.best.run_s]
        return times[0] if times else math.nan

    @property
    def flops(self) -> int:
        return 0 if self.workload is None else self.workload.flops

    @property
    def bytes_moved(self) -> int:
        return 0 if self.workload is None else self.workload.bytes_moved

    @cached_property
    def scored(self) -> list[tuple[float, float]]:
        """(predicted score, measured rate relative to the task's best) of every measured trial with a prediction."""
        pairs = [(t.predicted, t.best_s) for t in self.trials if t.predicted is not None and t.run_s]
        least_s = min((t.best_s for t in self.trials), default=math.inf)
        return [(score, least_s / s) for score, s in pairs]

    @cached_property
    def best_so_far_s(self) -> list[float]:
        """The best verified time after each trial; infinity while there is none."""
        best_s, found = math.inf, []
        for t in self.trials:
            if t.verified:
                best_s = min(best_s, t.best_s)
            found.append(best_s)
        return found


@dataclass
class Report:
    """Everything that the page shows, of one machine.

    title        of the model, or of the log
    model        the model that weights tasks by their uses; "" where none was given
    machine      the target's fingerprint, as the log has it; ``target`` the same for code generation, None where the
                 log describes it incompletely
    others       what else the log holds: descriptions of machines, with the number of their records
    tasks        most time first
    runs         measurements of whole models on this machine, oldest first
    trials       all records of these tasks, in the order in which they were added
    unknown      names of the model's tasks that the log does not know
    left_out     tasks of the log that the model, or the pattern, does not ask for
    peaks        of this machine, where it is the one that the log is about
    """

    title: str
    model: str
    machine: Mapping[str, Any]
    machine_hash: str
    target: Target | None
    tasks: Sequence[TaskView]
    trials: Sequence[Outline]
    runs: Sequence[ModelRun] = ()
    others: Sequence[tuple[str, int]] = ()
    unknown: Sequence[str] = ()
    left_out: int = 0
    peaks: Peaks | None = None
    numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.numbers.update({t.key: number for number, t in enumerate(self.tasks, 1)})

    @cached_property
    def solved(self) -> list[TaskView]:
        """Tasks with a verified schedule."""
        return [t for t in self.tasks if t.best is not None]

    @cached_property
    def after_s(self) -> float:
        """The model's time with the best schedules, as the sum of its tasks."""
        return sum(t.weight_s for t in self.solved)

    @property
    def before_s(self) -> float:
        """The same with the default ones; the best stands in where the default was not measured."""
        return sum(t.uses * (t.default_s if math.isfinite(t.default_s) else t.best_s) for t in self.solved)


ModelTasks = Sequence[TuningTask]


def machines(outlines: Iterable[Outline]) -> Counter[str]:
    """How many records each machine has, by the hash of its fingerprint; those with most first."""
    return Counter(dict(Counter(o.target_hash for o in outlines).most_common()))


def choose_machine(log: Database, outlines: Sequence[Outline], wanted: str | None, path: str) -> dict[str, Record]:
    """One record of each machine, the chosen one first: the one that ``wanted`` names, or that with most records.

    wanted: the start of the fingerprint's hash, or a pattern for the CPU's name. Raises UsageError.
    """
    samples = {}
    for name in machines(outlines):
        key = next(o.key for o in outlines if o.target_hash == name)
        sample = next(iter(log.records(key, name)), None)
        if sample is not None:  # else somebody has just pruned it
            samples[name] = sample
    if not samples:
        raise UsageError(f"{path}: the log holds no records; run luthier tune first")
    names = [n for n in samples if wanted is None or _is_named(n, samples[n].target, wanted)]
    if not names:
        known = "; ".join(f"{n} ({describe(r.target)})" for n, r in samples.items())
        raise UsageError(f"--target {wanted}: no such machine in the log; it knows {known}")
    return {names[0]: samples[names[0]], **samples}


def _is_named(name: str, machine: Mapping[str, Any], wanted: str) -> bool:
    labels = [str(machine.get(k, "")) for k in ("model", "cpu", "name")]
    return name.startswith(wanted.lower()) or any(fnmatchcase(x.lower(), wanted.lower()) for x in labels)


def describe(machine: Mapping[str, Any]) -> str:
    """A machine in a few words."""
    threads = machine.get("threads", 1)
    name = shorten(str(machine.get("model") or machine.get("cpu") or "unknown CPU"), 100)
    return f"{name}, {shorten(str(threads), 20)} thread{'s' * (threads != 1)}"


def target_of(machine: Mapping[str, Any]) -> Target | None:
    """The target that a fingerprint describes; None where it is incomplete or of another version."""
    known = {f.name: f for f in fields(Target)}
    if not set(machine) <= set(known):
        return None
    for name, value in machine.items():
        if type(value) is not (int if "int" in str(known[name].type) else str):
            return None
    try:
        return Target(**machine)
    except TypeError:
        return None


def task_views(
    log: Database,
    outlines: Iterable[Outline],
    machine_hash: str,
    model: ModelTasks | None = None,
    pattern: str | None = None,
) -> tuple[list[TaskView], list[str], int]:
    """The tasks of one machine, most time first; names of the model's tasks that the log lacks; how many were left out.

    model: keep its tasks only, with their names, workloads and uses. pattern: of names or keys, as in a shell.
    """
    groups: dict[str, list[Outline]] = {}
    for o in outlines:
        if o.target_hash == machine_hash:
            groups.setdefault(o.key, []).append(o)
    wanted = None if model is None else {t.key: t for t in model}
    views, left_out = [], 0
    for key, trials in groups.items():
        task = None if wanted is None else wanted.get(key)
        name = trials[0].task if task is None else task.name
        label = shorten(name, MOST_NAME)
        if not is_wanted(pattern, name, key) or (wanted is not None and task is None):
            left_out += 1
        else:
            views.append(_view(log, key, machine_hash, label, trials, task))
    views.sort(key=lambda t: (-t.weight_s, t.name, t.key))
    unknown = [t.name for t in model or () if t.key not in groups and is_wanted(pattern, t.name, t.key)]
    return views, unknown, left_out


def _view(
    log: Database, key: str, machine_hash: str, name: str, trials: Sequence[Outline], task: TuningTask | None
) -> TaskView:
    best = log.best(key, machine_hash)
    if task is not None:
        return TaskView(key, name, max(task.uses, 1), trials, best, task.workload)
    record = best or next(iter(log.records(key, machine_hash)), None)
    if record is None:
        return TaskView(key, name, 1, trials, None, None, "its records were pruned meanwhile")
    text = record.workload
    try:
        workload = parse_workload(text)
        if workload.key != key:
            raise ExpressionError("the log's text of this workload does not belong to its key")
    except ExpressionError as e:
        return TaskView(key, name, 1, trials, best, None, str(e))
    return TaskView(key, name, 1, trials, best, workload)


def gather(
    log: Database,
    path: str,
    title: str,
    *,
    model: str = "",
    model_tasks: Any = None,
    pattern: str | None = None,
    wanted_machine: str | None = None,
) -> Report:
    """Collect a report.

    model_tasks: makes the model's tasks for a target; raises what an import raises. Raises UsageError where the log is
    empty or has nothing of what was asked for, LogError where it cannot be read.
    """
    outlines = list(log.outlines())
    samples = choose_machine(log, outlines, wanted_machine, path)
    counts = machines(outlines)
    (machine_hash, sample), *rest = samples.items()
    target = target_of(sample.target)
    found = None
    if model_tasks is not None:
        if target is None:
            raise UsageError(f"--model {model}: the log describes its machine incompletely; leave --model out")
        found = model_tasks(target)
    tasks, unknown, left_out = task_views(log, outlines, machine_hash, found, pattern)
    if not tasks:
        raise UsageError(_nothing(path, model, pattern, found, left_out, describe(sample.target)))
    shown = {t.key for t in tasks}
    return Report(
        title=title,
        model=model,
        machine=sample.target,
        machine_hash=machine_hash,
        target=target,
        tasks=tasks,
        trials=[o for o in outlines if o.target_hash == machine_hash and o.key in shown],
        runs=log.model_runs(target=machine_hash),
        others=[(f"{describe(r.target)} ({name})", counts[name]) for name, r in rest],
        unknown=unknown,
        left_out=left_out,
    )


def _nothing(path: str, model: str, pattern: str | None, found: ModelTasks | None, left_out: int, machine: str) -> str:
    if found is not None and pattern is None:
        return (
            f"{path}: knows none of the {len(found)} tasks of {model} on {machine}; was it tuned with other --threads, "
            f"--shape or --accuracy?"
        )
    return f"--task {pattern}: matches none of the {left_out} tasks of {path}; luthier log best lists them"
