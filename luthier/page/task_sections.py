"""A folded part of the page for each task: its trials, its best schedule and the code of that."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..cli_table import ratio, seconds, shorten
from . import charts, figures
from .code import Listing, Rebuilt
from .collect import Report, TaskView
from .markup import Child, Markup, h
from .sections import MOST_TEXT, pre, section, spread

Code = Mapping[str, Rebuilt]
"""By keys of tasks."""


def details(report: Report, code: Code, command: str) -> Markup:
    """All tasks. command: what prints the code of tasks that are not in ``code``."""
    legend = charts.legend(
        ("trial", "a measured trial"), ("best", "best verified so far"), ("failed", "a failed trial")
    )
    most = figures.points_of_a_task(len(report.tasks))
    parts = [_task(number, t, code.get(t.key), command, most) for number, t in enumerate(report.tasks, 1)]
    buttons = h(
        "p", h("button", "Unfold all", type="button", data_fold="open"), " ",
        h("button", "Fold all", type="button", data_fold=""), class_="js",
    )  # fmt: skip
    return section("details", "Each task", legend, buttons, parts)


def _task(number: int, t: TaskView, code: Rebuilt | None, command: str, most: int) -> Markup:
    gain = f", {ratio(t.default_s, t.best_s)}" if math.isfinite(t.default_s) and t.best is not None else ""
    head = h(
        "summary",
        h("b", f"#{number} {t.name}"),
        f" {seconds(t.best_s)}{gain}, {len(t.trials)} trial{'s' * (len(t.trials) != 1)}",
    )
    plots = [h("figure", figures.convergence(t, most))]
    if math.isfinite(figures.rank_correlation(t.scored)):
        plots.append(h("figure", figures.task_predictions(t, most)))
    body = [_facts(t), h("div", plots, class_="plots"), _code(t, code, command), _workload(t)]
    return h("details", head, body, class_="task", id=f"task-{number}")


def _facts(t: TaskView) -> Markup:
    facts: list[tuple[str, Child]] = [("key", h("code", shorten(t.key, 60))), ("uses", str(t.uses))]
    if t.workload is not None:
        facts.append(("one use", f"{t.flops / 1e9:.4g} GFLOP, {t.bytes_moved / 1e6:.4g} MB"))
    facts.append(("default", seconds(t.default_s)))
    if t.best is None:
        facts.append(("best", "no verified schedule"))
    else:
        b = t.best
        timings = (
            f"{seconds(b.best_s)} at best, {seconds(b.median_s)} median of {len(b.run_s)}, noise {spread(t.noise)}"
        )
        decisions = ", ".join(f"{name}={value}" for name, value in b.decisions.items()) or "none"
        facts += [
            ("best", f"{timings}; trial {b.trial} by {shorten(b.search, 100) or 'unknown'}"),
            ("decisions", h("code", shorten(decisions, MOST_TEXT))),
        ]
        if b.space:
            facts.append(("space", h("code", shorten(b.space, 200))))
    return h("dl", [[h("dt", name), h("dd", value)] for name, value in facts], class_="facts")


def _code(t: TaskView, code: Rebuilt | None, command: str) -> Child:
    if t.best is None:
        return None
    if code is None:
        return h("p", "Code: left out to keep the page small; see it with ", h("code", command), ".")
    note = h("p", "Note: ", shorten(code.problem, MOST_TEXT)) if code.problem else None
    return [note, [h("details", h("summary", _title(x)), pre(x.text, x.title), class_="code") for x in code.listings]]


def _title(x: Listing) -> str:
    return f"{x.title}, {x.lines} line{'s' * (x.lines != 1)}" + (f", {x.cut} of them left out" if x.cut else "")


def _workload(t: TaskView) -> Markup:
    if t.workload is None:
        return h("p", "What it computes: the log's text of it cannot be read (", shorten(t.problem, MOST_TEXT), ").")
    return h(
        "details",
        h("summary", "What it computes"),
        pre(shorten(t.workload.text, 2 * MOST_TEXT), "What it computes"),
        class_="code",
    )
