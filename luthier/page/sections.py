"""The sections of the page but those of single tasks (:mod:`.task_sections`). Each function gives one section."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Sequence

from ..cli_table import percent, ratio, seconds, shorten
from ..tuner.outline import Outline
from . import charts, figures
from .collect import Report, TaskView
from .markup import Child, Markup, h

MOST_CAUSES = 40
MOST_SPREADS = 10_000
EXAMPLES = 3
MOST_TEXT = 4000
"""Longer texts of a log are cut: a page must stay small, whatever a log says."""


def section(name: str, title: str, *children: Child) -> Markup:
    """A part of the page that the table of contents leads to."""
    return h("section", h("h2", title, id=f"{name}-title"), *children, id=name, aria_labelledby=f"{name}-title")


def table(label: str, head: Sequence[str], rows: Sequence[Sequence[Child]], left: int = 1, **attributes: str) -> Markup:
    """A table that scrolls inside itself, by keyboard too. The first ``left`` columns are flush left."""
    columns = [h("th", name, scope="col", class_=None if i < left else "n") for i, name in enumerate(head)]
    lines = [[cell if _is_cell(cell) else h("td", cell, class_=None if i < left else "n") for i, cell in enumerate(row)]
             for row in rows]  # fmt: skip
    whole = h(
        "table",
        h("caption", label),
        h("thead", h("tr", columns)),
        h("tbody", [h("tr", x) for x in lines]),
        **attributes,
    )
    return h("div", whole, class_="scroll", role="region", aria_label=label, tabindex="0")


def pre(text: str, label: str) -> Markup:
    """Text as it is, which scrolls inside itself."""
    return h("pre", text, tabindex="0", role="region", aria_label=label)


def cell(value: float, text: str) -> Markup:
    """A number in a table, with the value that it sorts by."""
    return h("td", text, class_="n", data_v=f"{value:.9g}" if math.isfinite(value) else "")


def _is_cell(child: Child) -> bool:
    return isinstance(child, Markup) and child.startswith("<td")


def summary(report: Report) -> Markup:
    """The model before and after: from its tasks, and as measured whole."""
    failed = sum(not t.run_s for t in report.trials)
    facts = [
        ("default schedules", seconds(report.before_s)),
        ("best schedules", seconds(report.after_s)),
        ("gain", ratio(report.before_s, report.after_s) if report.after_s else "-"),
        ("tasks", str(len(report.tasks))),
        ("trials", f"{len(report.trials)}"),
        ("failed", f"{failed} ({percent(failed, len(report.trials)) if failed else '0%'})"),
    ]
    tiles = h("dl", [h("div", h("dt", name), h("dd", value)) for name, value in facts], class_="tiles")
    notes = [_weights(report), *_gaps(report)]
    chart = h("figure", figures.model_convergence(report)) if report.after_s else None
    return section("summary", "The model's time", tiles, [h("p", n) for n in notes], _whole_model(report), chart)


def _weights(report: Report) -> str:
    if report.model:
        uses = sum(t.uses for t in report.tasks)
        return f"Sum of the tasks' times, each as often as {report.model} runs it ({uses} kernels), each timed alone."
    return "Sum of the tasks' times, each counted once: without --model it is not known how often a model runs them."


def _gaps(report: Report) -> list[str]:
    notes = []
    no_default = sum(not math.isfinite(t.default_s) for t in report.solved)
    if no_default:
        notes.append(f"{no_default} tasks have no timing of the default schedule; their best one counts as both.")
    unsolved = len(report.tasks) - len(report.solved)
    if unsolved:
        notes.append(
            f"{unsolved} tasks have no verified schedule, and are not in the sums; a build gives them the default."
        )
    if report.unknown:
        some = ", ".join(report.unknown[:10]) + (", ..." if len(report.unknown) > 10 else "")
        notes.append(f"{len(report.unknown)} tasks of the model are not in the log, and not in the sums: {some}.")
    if report.left_out:
        notes.append(f"{report.left_out} other tasks of the log are left out.")
    return notes


def _whole_model(report: Report) -> Markup:
    if not report.runs:
        return h("p", "The log holds no measurement of a whole model.")
    rows = [
        [
            h("td", shorten(r.model, 60)), cell(r.default_s, seconds(r.default_s)), cell(r.tuned_s, seconds(r.tuned_s)),
            ratio(r.default_s, r.tuned_s), f"{100 * max(r.default_noise, r.tuned_noise):.1f}%", r.kept or "-",
            str(r.trials), seconds(r.elapsed_s) if r.elapsed_s else "-", r.accuracy or "-", date(r.created_at),
        ]
        for r in report.runs
    ]  # fmt: skip
    head = ["model", "default", "tuned", "gain", "noise", "kept", "trials", "spent", "accuracy", "date"]
    return table("Whole models, measured in turn with default and with tuned schedules", head, rows)


def tasks(report: Report) -> Markup:
    """A line for each task, most time first, and where the time goes."""
    head = ["#", "task", "uses", "default", "best", "gain", "share", "GFLOP/s", "of roof", "trials", "failed", "noise"]
    predicted = any(t.scored for t in report.tasks)
    rows = [_task_row(report, number, t, predicted) for number, t in enumerate(report.tasks, 1)]
    note = (
        "Share: of the sum of best times. Noise: interquartile range of the best schedule's timings over their median."
    )
    if report.peaks is not None:
        note += (
            " Of roof: the least time that the measured peak and memory bandwidth allow the operator as defined, over"
            " the best time; above 100% where an algorithm does less arithmetic or the caches help."
        )
    search = h(
        "p", h("label", "Show tasks that contain ", h("input", type="search", data_filter="tasks-table")),
        h("span", "", data_count="tasks-table", role="status"), class_="js",
    )  # fmt: skip
    head += ["rank correlation"] if predicted else []
    return section(
        "tasks", "Tasks", h("p", note), search, table("Tasks, most time first", head, rows, 2, id="tasks-table")
    )


def _task_row(report: Report, number: int, t: TaskView, predicted: bool) -> list[Child]:
    known = math.isfinite(t.default_s) and math.isfinite(t.best_s)
    share = t.weight_s / report.after_s if report.after_s else 0.0
    least_s = report.peaks.least_s(t.flops, t.bytes_moved) if report.peaks and t.workload is not None else 0.0
    rate = t.flops / t.best_s
    row: list[Child] = [
        h("td", str(number), data_v=str(number)),
        h("td", h("a", shorten(t.name, 56), href=f"#task-{number}", title=f"{t.name} {shorten(t.key, 60)}")),
        cell(t.uses, str(t.uses)),
        cell(t.default_s, seconds(t.default_s)),
        cell(t.best_s, seconds(t.best_s)),
        cell(t.default_s / t.best_s if known else math.inf, ratio(t.default_s, t.best_s)),
        h("td", f"{100 * share:.1f}%", _bar(share), class_="n", data_v=f"{share:.9g}"),
        cell(rate, f"{rate / 1e9:.1f}" if rate else "-"),
        cell(least_s / t.best_s, percent(least_s, t.best_s)),
        cell(len(t.trials), str(len(t.trials))),
        cell(t.failures, str(t.failures)),
        cell(t.noise, spread(t.noise)),
    ]
    if predicted:
        rho = figures.rank_correlation(t.scored)
        row.append(cell(rho, f"{rho:.2f}" if math.isfinite(rho) else "-"))
    return row


def _bar(share: float) -> Markup:
    width = max(60 * min(share * 3, 1.0), 0.5)  # a third of the whole fills it
    return h("svg", h("rect", width=width, height=8), class_="bar", viewBox="0 0 60 8", aria_hidden="true")


def roofline(report: Report) -> Markup:
    chart = figures.roofline(report)
    if not chart:
        return section("roofline", "Roofline", h("p", "No task's arithmetic is known."))
    keys = charts.legend(
        ("default", "default schedule"), ("tuned", "best schedule"), ("roof", "measured peak and bandwidth")
    )
    if report.peaks is None:
        text = "The log is about another machine or thread count than this one, so that its peak is not known here."
    else:
        p = report.peaks
        text = (
            f"Peak {p.flops_per_s / 1e9:.1f} GFLOP/s (fused multiply-add, f32) and {p.bytes_per_s / 1e9:.1f} GB/s from "
            "memory, measured when this page was made; on a busy machine they come out low. Arithmetic and bytes are "
            "those of the operator as defined: "
            "Winograd does less."
        )
    numbers = "Numbers are those of the table of tasks."
    return section("roofline", "Roofline", h("p", f"{text} {numbers}"), h("figure", chart, keys))


def predictions(report: Report) -> Markup:
    pairs = [t.scored for t in report.tasks]
    count = sum(map(len, pairs))
    if not count:
        text = (
            "No trial in the log has a prediction: its searches were made without a cost model, or by an older version."
        )
        return section("predictions", "Predicted against measured", h("p", text))
    rhos = sorted(r for r in map(figures.rank_correlation, pairs) if math.isfinite(r))
    median = f"{rhos[len(rhos) // 2]:.2f} in the median of {len(rhos)} tasks" if rhos else "unknown"
    text = (
        f"{count} trials were scored by a cost model before they were measured. Rank correlation (Spearman) of score "
        f"and measured rate within a task: {median}. A search measures what it expects to be good, so that the range "
        "is narrow."
    )
    return section("predictions", "Predicted against measured", h("p", text), h("figure", figures.predictions(report)))


def noise(report: Report) -> Markup:
    several = [t for t in report.trials if len(t.run_s) > 1]
    if not several:
        return section("noise", "Noise", h("p", "No trial has more than one timing."))
    single = sum(len(t.run_s) == 1 for t in report.trials)
    text = f"{len(several)} trials have several timings, {single} only one (dropped after a first run)."
    spreads = [several[i].noise for i in charts.sample(len(several), MOST_SPREADS)]
    return section("noise", "Noise", h("p", text), h("figure", figures.noise_histogram(spreads)))


def failures(report: Report) -> Markup:
    """Failed trials by status and by the text of their error, in which numbers may differ."""
    failed = [t for t in report.trials if not t.run_s]
    if not failed:
        return section("failures", "Failures", h("p", f"None of {len(report.trials)} trials failed."))
    causes: dict[tuple[str, str], list[Outline]] = {}
    for t in failed:
        causes.setdefault((t.status.value, _gist(t.error)), []).append(t)
    ordered = sorted(causes.items(), key=lambda item: -len(item[1]))
    rows: list[list[Child]] = []
    for (status, gist), trials in ordered[:MOST_CAUSES]:
        texts = list(dict.fromkeys(t.error for t in trials))[:EXAMPLES]
        where = Counter(report.numbers[t.key] for t in trials).most_common(5)
        links = [[" " if i else "", h("a", f"#{n}", href=f"#task-{n}")] for i, (n, _) in enumerate(where)]
        title = gist or "(no text)"
        full = (
            h("details", h("summary", title), [pre(shorten(x, MOST_TEXT), "Error text") for x in texts])
            if gist
            else title
        )
        rows.append([status, h("td", full, class_="wide"), cell(len(trials), str(len(trials))), links])
    left = len(ordered) - MOST_CAUSES
    notes = [h("p", f"{left} rarer causes are left out.")] if left > 0 else []
    outcomes = Counter(t.status.value for t in failed).most_common()
    text = (
        f"{len(failed)} of {len(report.trials)} trials: " + ", ".join(f"{n} {status}" for status, n in outcomes) + "."
    )
    head = ["status", "cause", "trials", "tasks"]
    return section("failures", "Failures", h("p", text), table("Failures by cause", head, rows, 2), notes)


def circumstances(report: Report) -> Markup:
    """Who searched, with which versions, and on what machine."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for t in report.trials:
        versions = tuple(shorten(x, 100) or "-" for x in (t.search, str(t.seed), t.luthier_version, t.llvm_version))
        groups.setdefault(versions, []).append(t.created_at)
    rows = [[*key, str(len(times)), date(min(times)), date(max(times))] for key, times in groups.items()]
    head = ["search", "seed", "luthier", "LLVM", "trials", "first", "last"]
    machine = [
        [h("th", name, scope="row"), h("td", shorten(str(value), MOST_TEXT), class_="wide")]
        for name, value in sorted(report.machine.items())
    ]
    facts = h("table", h("caption", f"Machine {report.machine_hash}"), h("tbody", [h("tr", row) for row in machine]))
    others = h(
        "p",
        "The log also has records of: ",
        "; ".join(f"{name}, {count} records" for name, count in report.others),
        ".",
    )
    return section(
        "machine", "Search, versions, machine", table("Searches", head, rows, 4),
        h("div", facts, class_="scroll", role="region", aria_label="Machine", tabindex="0"),
        others if report.others else None,
    )  # fmt: skip


def _gist(error: str) -> str:
    """The first line of an error with its numbers taken out, so that equal causes meet."""
    first = next((x for x in error.splitlines() if x.strip()), "")
    return shorten(re.sub(r"0x[0-9a-fA-F]+|\d+(\.\d+)?([eE][-+]?\d+)?", "N", first.strip()), 160)


def spread(value: float) -> str:
    return f"{100 * value:.1f}%" if math.isfinite(value) else "-"


def date(created_at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(created_at)) if created_at else "-"
    except (OverflowError, ValueError, OSError):
        return "-"


def contents(names: Sequence[tuple[str, str]]) -> Markup:
    links = [h("li", h("a", title, href=f"#{name}")) for name, title in names]
    return h("nav", h("ul", links), aria_label="Sections")
