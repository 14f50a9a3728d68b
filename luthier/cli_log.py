"""``luthier log ...``: look into tuning logs and maintain them."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .cli_table import ratio, seconds, shorten, table
from .cli_values import UsageError, output_path, same_file
from .errors import LogError
from .tuner.database import MemoryDatabase, open_log
from .tuner.exchange import export_records, import_records, merge_logs
from .tuner.record import Record
from .tuner.statistics import statistics_of
from .tuner.task import is_wanted


def log_info(arguments: Namespace) -> None:
    """Print what a log holds: sizes, machines, outcomes, versions."""
    with open_log(arguments.file, "r") as log:
        tasks = log.tasks()
        records = list(log.records())
    print(f"{arguments.file}: {len(records)} records of {len({t.key for t in tasks})} tasks")
    models = {r.target_hash: _machine(r.target) for r in records}
    for target, model in models.items():
        here = [t for t in tasks if t.target_hash == target]
        solved = sum(t.best_s < float("inf") for t in here)
        print(f"  machine {target}: {model}; {len(here)} tasks, {solved} with a verified schedule")
    if records:
        outcomes = Counter(r.status.value for r in records)
        print("  outcomes: " + ", ".join(f"{n} {status}" for status, n in outcomes.most_common()))
        print(f"  from {_date(min(r.created_at for r in records))} to {_date(max(r.created_at for r in records))}")
        print("  made by luthier " + ", ".join(sorted({r.luthier_version or "?" for r in records})))


def log_list(arguments: Namespace) -> None:
    """Print a line for every record."""
    with open_log(arguments.file, "r") as log:
        records = [r for r in log.records() if is_wanted(arguments.task, r.task, r.key)]
    _print_records(records)


def log_best(arguments: Namespace) -> None:
    """Print the best record of every task on every machine."""
    with open_log(arguments.file, "r") as log:
        found = [log.best(t.key, t.target_hash) for t in log.tasks()]
    _print_records([r for r in found if r is not None and is_wanted(arguments.task, r.task, r.key)], decisions=True)


def log_stats(arguments: Namespace) -> None:
    """Print a line for every task and machine, then what failed and why, and the models that were measured."""
    with open_log(arguments.file, "r") as log:
        found = statistics_of(log, arguments.task)
    machines = {hash_: f"m{number}" for number, hash_ in enumerate(found.machines, 1)}
    rows = [
        [
            t.key, shorten(t.name, 48), machines[t.target_hash], str(t.records), str(sum(t.failures.values())),
            seconds(t.default_s), seconds(t.best_s), ratio(t.default_s, t.best_s),
            f"{100 * t.noise:.1f}%" if t.best_s < float("inf") else "-", _warmth(t.cold, t.warm),
        ]
        for t in sorted(found.tasks, key=lambda t: (machines[t.target_hash], t.name, t.key))
    ]  # fmt: skip
    header = ["key", "task", "machine", "records", "failed", "default", "best", "gain", "noise", "timed"]
    print(table(header, rows, left=3))
    print(f"{found.records} records of {len({t.key for t in found.tasks})} tasks; gain {_gain(found.gain)} on average")
    for hash_, name in machines.items():
        print(f"  {name}: {_machine(found.machines[hash_])}, {hash_}")
    if found.records:
        print(f"  from {_date(found.first_at)} to {_date(found.last_at)}, {_counts(found.versions, 'luthier ')}")
    if set(found.workers) - {""}:
        print(f"  measured by {_counts({name or 'this machine': n for name, n in found.workers.items()})}")
    if found.failures:
        print(f"  failed: {_counts(found.failures)}; most often:")
        for text, number in found.causes:
            print(f"    {number} x {shorten(text, 100)}")
    for run in found.model_runs:
        times = f"{seconds(run.default_s)} by default, {seconds(run.tuned_s)} tuned ({_gain(run.gain)})"
        print(f"  {run.model}, {_machine(run.target)}, {_date(run.created_at)}: {times}; kept: {run.kept}")


def log_export(arguments: Namespace) -> None:
    """Write a log as JSON lines."""
    with open_log(arguments.file, "r") as log:
        path = arguments.output or Path(arguments.file).with_suffix(".jsonl")
        target = output_path(path, reads=(arguments.file,))
        written = export_records(log, target)
    print(f"{target}: {written} records")


def log_import(arguments: Namespace) -> None:
    """Add exported records to a log, which is created where it does not exist."""
    _add(arguments, lambda collected: sum(import_records(source, collected) for source in arguments.sources))


def log_merge(arguments: Namespace) -> None:
    """Add the records of other logs, or of exported ones, to a log."""
    for source in arguments.sources:
        if same_file(source, arguments.file):
            raise UsageError(f"merge: {source} is the log itself; name the other logs only")
    _add(arguments, lambda collected: merge_logs(arguments.sources, collected))


def log_prune(arguments: Namespace) -> None:
    """Drop failures and all but the best records of every task, and its default's."""
    if not Path(arguments.file).exists():
        raise LogError(f"{arguments.file}: no such file; check the path")
    with open_log(arguments.file) as log:
        gone = log.prune(arguments.keep)
    print(f"{arguments.file}: dropped {gone} records")


def _add(arguments: Namespace, read: Callable[[MemoryDatabase], int]) -> None:
    """Read all sources first, so that a bad one leaves the log as it was."""
    collected = MemoryDatabase()
    read(collected)
    with open_log(arguments.file) as log:
        changed = log.merge(collected.records(), collected.model_runs())
    print(f"{arguments.file}: {changed} of {len(list(collected.records()))} records were new or better")


def _print_records(records: list[Record], decisions: bool = False) -> None:
    header = ["key", "task", "status", "best", "median", "search", "trial", "date"]
    rows = [
        [
            r.key, shorten(r.task, 48), r.status.value + ("" if r.verified or not r.ok else " (unverified)"),
            seconds(r.best_s), seconds(r.median_s), r.search or "-", str(r.trial), _date(r.created_at),
        ]
        for r in records
    ]  # fmt: skip
    if decisions:
        header, rows = header[:2] + header[3:], [row[:2] + row[3:] for row in rows]
    lines = table(header, rows, left=2 if decisions else 3).splitlines()
    print(lines[0])
    for record, line in zip(records, lines[1:], strict=True):
        print(line)
        if decisions:
            print("    " + ", ".join(f"{name}={value}" for name, value in record.decisions.items()))


def _machine(target: Mapping[str, Any]) -> str:
    threads = target.get("threads", 1)
    return f"{target.get('model') or target.get('cpu', '?')}, {threads} thread{'s' * (threads != 1)}"


def _warmth(cold: int, warm: int) -> str:
    return "-" if not cold + warm else "mixed" if cold and warm else "cold" if cold else "warm"


def _gain(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}x"


def _counts(numbers: Mapping[str, int], before: str = "") -> str:
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n} {before}{name}" for name, n in ordered)


def _date(created_at: float) -> str:
    """A date in local time; ``-`` where there is none, or none that a calendar has (clocks can be set to anything)."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(created_at)) if created_at else "-"
    except (OverflowError, ValueError, OSError):
        return "-"
