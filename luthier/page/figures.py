"""The page's charts: convergence, roofline, predicted against measured, noise. Drawing is in :mod:`.charts`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..cli_table import percent, seconds
from ..runtime.profile import Peaks
from . import charts
from .charts import Label, x_scale, y_scale
from .collect import Report, TaskView
from .markup import Markup, join

MOST_POINTS = 60_000
"""Points of all convergence charts together, about ten characters each."""
LABELLED = 24
"""Tasks whose numbers stand beside their points, where there is room."""


def points_of_a_task(tasks: int) -> int:
    """How many trials the chart of one task may show."""
    return min(400, max(40, MOST_POINTS // max(tasks, 1)))


def model_convergence(report: Report) -> Markup:
    """The model's time after each trial of any task, all default at first."""
    current = {t.key: t.default_s if math.isfinite(t.default_s) else t.best_s for t in report.solved}
    uses = {t.key: t.uses for t in report.solved}
    total_s = sum(current[k] * uses[k] for k in current)
    order = [o for o in report.trials if o.key in current]
    curve = [(0.0, total_s)]
    for number, o in enumerate(order, 1):
        if o.verified and o.best_s < current[o.key]:
            total_s += (o.best_s - current[o.key]) * uses[o.key]
            current[o.key] = o.best_s
            curve.append((float(number), total_s))
    if len(curve) > charts.WIDTH:
        curve = [curve[i] for i in charts.sample(len(curve), int(charts.WIDTH))]
    curve.append((float(max(len(order), 1)), total_s))
    x, y = x_scale(0, max(len(order), 1)), y_scale(*charts.span([s for _, s in curve]))
    return charts.chart(
        "The model's time by trial",
        f"from {seconds(curve[0][1])} with default schedules to {seconds(total_s)} after {len(order)} trials",
        x, y, (Label("trials of all tasks"), Label("sum of tasks", seconds)),
        charts.steps(curve, x, y, "best"),
    )  # fmt: skip


def convergence(task: TaskView, most: int) -> Markup:
    """Every trial of a task, and the best verified time so far; failures as strokes at the lower edge."""
    times, best = [t.best_s for t in task.trials], task.best_so_far_s
    good = [i for i, s in enumerate(times) if math.isfinite(s)]
    bad = [i for i, s in enumerate(times) if not math.isfinite(s)]
    better = [i for i, s in enumerate(best) if math.isfinite(s) and (i == 0 or s < best[i - 1])]
    shown = [good[i] for i in charts.sample(len(good), most)]
    failed = [bad[i] for i in charts.sample(len(bad), most // 2)]
    curve = [(float(i), best[i]) for i in better]
    if curve:
        curve.append((float(len(times) - 1), best[-1]))
    x, y = x_scale(0, max(len(times) - 1, 1)), y_scale(*charts.span(times, log=True), log=True)
    text = f"{len(times)} trials, {len(bad)} failed; best {seconds(best[-1])}"
    if len(shown) < len(good):
        text += f"; {len(shown)} of {len(good)} measured trials are drawn"
    return charts.chart(
        f"Trials of {task.name}", text, x, y, (Label("trial"), Label("time", seconds)),
        charts.dots([(float(i), times[i]) for i in shown], x, y, "trial"),
        charts.ticks_below(map(float, failed), x, "failed"),
        charts.steps(curve, x, y, "best"),
    )  # fmt: skip


def roofline(report: Report) -> Markup:
    """Rates by arithmetic intensity: each task by default and tuned, under the roof where it was measured."""
    known = [t for t in report.solved if t.flops and t.bytes_moved]
    if not known:
        return join()
    peaks = report.peaks
    intensity = [t.flops / t.bytes_moved for t in known]
    rates = [t.flops / s for t in known for s in (t.best_s, t.default_s) if math.isfinite(s)]
    ridge = [] if peaks is None else [peaks.flops_per_s / peaks.bytes_per_s]
    x = x_scale(*charts.span([*intensity, *ridge], log=True), log=True)
    tops = [] if peaks is None else [peaks.flops_per_s, min(peaks.flops_per_s, peaks.bytes_per_s * x.low)]
    y = y_scale(*charts.span([*rates, *tops], log=True), log=True)
    marks = [] if peaks is None else _roof(peaks, x, y)
    for t, flops_per_byte in reversed(list(zip(known, intensity, strict=True))):
        marks += _task_marks(report, t, flops_per_byte, x, y)
    best = [(f, t.flops / t.best_s) for t, f in zip(known, intensity, strict=True)]
    marks += [
        charts.note(best[i], x, y, f"#{report.numbers[known[i].key]}", dy=-4)
        for i in charts.apart([(x(a), y(b)) for a, b in best[:LABELLED]])
    ]
    text = f"{len(known)} tasks" + (
        "; no roof: the peaks of the log's machine were not measured"
        if peaks is None
        else f"; peak {_giga(peaks.flops_per_s)} GFLOP/s, memory {_giga(peaks.bytes_per_s)} GB/s"
    )
    labels = (Label("FLOP per byte (inputs, constants and outputs once each)"), Label("GFLOP/s", _giga))
    return charts.chart("Roofline", text, x, y, labels, *marks)


def _roof(peaks: Peaks, x: charts.Scale, y: charts.Scale) -> list[Markup]:
    ridge = peaks.flops_per_s / peaks.bytes_per_s
    ends = sorted({x.low, min(max(ridge, x.low), x.high), x.high})
    curve = [(v, min(peaks.flops_per_s, peaks.bytes_per_s * v)) for v in ends]
    return [charts.line([p for p in curve if p[1] >= y.low * 0.999], x, y, "roof")]


def _task_marks(report: Report, t: TaskView, intensity: float, x: charts.Scale, y: charts.Scale) -> list[Markup]:
    number = report.numbers[t.key]
    after = t.flops / t.best_s
    of_roof = (
        "" if report.peaks is None else f", {percent(report.peaks.least_s(t.flops, t.bytes_moved), t.best_s)} of roof"
    )
    tip = f"#{number} {t.name}: {after / 1e9:.1f} GFLOP/s tuned{of_roof}"
    marks = []
    if math.isfinite(t.default_s):
        before = t.flops / t.default_s
        tip += f", {before / 1e9:.1f} by default"
        marks.append(charts.line([(intensity, before), (intensity, after)], x, y, "gain"))
        marks.append(charts.circle((intensity, before), x, y, "default", tip, 2.5))
    marks.append(charts.circle((intensity, after), x, y, "tuned", tip))
    return marks


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's rho; NaN where there are fewer than three pairs, or one side is constant."""
    if len(pairs) < 3:
        return math.nan
    a, b = (_ranks(np.array(side)) for side in zip(*pairs, strict=True))
    if a.std() == 0 or b.std() == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def predictions(report: Report) -> Markup:
    """All tasks together: a trial's place among the predictions for its task, against its measured rate."""
    points = []
    for task in report.tasks:
        pairs = task.scored
        if len(pairs) >= 3:
            places = _ranks(np.array([p for p, _ in pairs])) / (len(pairs) - 1)
            points += [(float(place), rate) for place, (_, rate) in zip(places, pairs, strict=True)]
    points = [points[i] for i in charts.sample(len(points), 4000)]
    x, y = x_scale(0.0, 1.0), y_scale(0.0, 1.0)
    return charts.chart(
        "Predicted against measured", f"{len(points)} trials of all tasks", x, y,
        (Label("place by prediction within its task (1: best)"), Label("rate, relative to the task's best")),
        charts.dots(points, x, y, "trial"),
    )  # fmt: skip


def task_predictions(task: TaskView, most: int) -> Markup:
    """One task: the score as it was, against the measured rate."""
    pairs = task.scored
    pairs = [pairs[i] for i in charts.sample(len(pairs), most)]
    x, y = x_scale(*charts.span([p for p, _ in pairs])), y_scale(0.0, 1.0)
    return charts.chart(
        f"Predictions for {task.name}", f"{len(pairs)} trials; rank correlation {rank_correlation(pairs):.2f}", x, y,
        (Label("predicted score"), Label("rate, relative to the best")), charts.dots(pairs, x, y, "trial"),
    )  # fmt: skip


def noise_histogram(spreads: Sequence[float]) -> Markup:
    """How many trials had which spread of their timings."""
    limit = max(float(np.quantile(spreads, 0.98)), 0.01)
    counts, edges = np.histogram(np.minimum(spreads, limit), bins=30, range=(0.0, limit))
    x, y = x_scale(0.0, limit), y_scale(0.0, float(counts.max()) * 1.05)
    median = float(np.median(spreads))
    return charts.chart(
        "Noise", f"median {_percent(median)} of {len(spreads)} trials; the last bar holds all above {_percent(limit)}",
        x, y, (Label("spread of a trial's timings: interquartile range over median", _percent), Label("trials")),
        *charts.bars(
            [(float(a), float(b), int(n)) for a, b, n in zip(edges, edges[1:], counts, strict=False)], x, y, "trial"
        ),
    )  # fmt: skip


def _ranks(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[inverse], np.float64)


def _giga(value: float) -> str:
    return f"{value / 1e9:.4g}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g}%"
