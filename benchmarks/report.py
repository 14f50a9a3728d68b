"""Tables and a chart of what :mod:`benchmarks.models` measured; JSON data in, text or a file out.

An entry of an engine holds its times and error, or ``failed`` with the reason. An engine counts where it ran and its
error is at most :data:`WRONG`; what does not count is shown, and enters no ratio. Ratios above 1 favour Luthier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from luthier.cli_table import ratio, seconds, table

UNTUNED, TUNED = "luthier untuned", "luthier tuned"
OURS = (UNTUNED, TUNED)
MAINSTREAM = ("onnxruntime", "openvino")
WRONG = 1e-2

Result = dict[str, Any]
Entry = dict[str, Any]


def counts(entry: Entry) -> bool:
    """Whether an engine ran and computed the model."""
    return "failed" not in entry and entry["error"] <= WRONG


def median(result: Result, engine: str) -> float:
    """In seconds; infinity for an engine that does not count or was not measured."""
    return best(result, [engine])


def best(result: Result, engines: Sequence[str] | None = None) -> float:
    """The least median in seconds of ``engines`` (default: all peers); infinity if none of them counts."""
    wanted = [e for e in result["engines"] if (e["engine"] not in OURS if engines is None else e["engine"] in engines)]
    return min((e["median_s"] for e in wanted if counts(e)), default=math.inf)


def ratios(result: Result) -> dict[str, float]:
    """Theirs by ours: the best of :data:`MAINSTREAM` and of all peers, by each of our builds; those that are known."""
    found = {}
    for label, theirs in (("ort+ov", best(result, MAINSTREAM)), ("all", best(result))):
        for ours in OURS:
            mine = median(result, ours)
            if math.isfinite(theirs) and math.isfinite(mine):
                found[f"{label}/{ours.removeprefix('luthier ')}"] = theirs / mine
    return found


def report(result: Result) -> str:
    """A table of one model's engines."""
    mine = min(median(result, ours) for ours in OURS)
    rows, notes = [], []
    for e in result["engines"]:
        if "failed" in e:
            rows.append([e["engine"], "failed", "-", "-", "-"])
            notes.append(f"  {e['failed']}")
            continue
        error = f"{e['error']:.1e}"
        if not counts(e):
            error += " WRONG"
            notes.append(f"  {e['engine']} does not count: its error is above {WRONG:.0e}")
        times = ratio(e["median_s"], mine) if counts(e) else "-"
        rows.append([e["engine"], seconds(e["median_s"]), seconds(e["min_s"]), times, error])
    builds = [f"  {name}: {text}" for name, text in result["builds"].items()]
    body = table(["engine", "median", "min", "ratio", "error"], rows)
    return "\n".join([f"{result['model']}, {result['threads']} thread(s)", *builds, body, *notes])


def summary(results: Sequence[Result]) -> str:
    """One line a model, then geometric means and minima of the ratios, over the models that have them."""
    known = [ratios(r) for r in results]
    columns = list(dict.fromkeys(name for k in known for name in k))
    builds = [ours for ours in OURS if any(math.isfinite(median(r, ours)) for r in results)]
    rows = []
    for r, k in zip(results, known, strict=True):
        times = [seconds(median(r, ours)) for ours in builds]
        times += [seconds(best(r, MAINSTREAM)), seconds(best(r))]
        rows.append([r["model"], *times, *(f"{k[c]:.2f}x" if c in k else "-" for c in columns)])
    blank = [""] * (len(builds) + 2)
    for name, reduce in (("geometric mean", _mean), ("minimum", min), ("models", len)):
        cells = []
        for c in columns:
            values = [k[c] for k in known if c in k]
            cells.append(str(len(values)) if reduce is len else f"{reduce(values):.2f}x")
        if columns:
            rows.append([name, *blank, *cells])
    header = ["model", *(b.removeprefix("luthier ") for b in builds), "ort+ov", "best peer", *columns]
    return table(header, rows)


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def chart(results: Sequence[Result], path: str) -> None:
    """Draw latencies relative to our best build as bars; what is wrong is hatched, what failed has no bar."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(e["engine"] for r in results for e in r["engines"]))
    base = TUNED if TUNED in names else UNTUNED
    figure, axes = pyplot.subplots(figsize=(max(7.0, 1.5 * len(results)), 4.5))
    width = 0.84 / len(names)
    for position, name in enumerate(names):
        color = f"C{position}"
        for i, r in enumerate(results):
            entries = {e["engine"]: e for e in r["engines"]}
            entry = entries.get(name, {"failed": "not measured"})
            x = i + (position - (len(names) - 1) / 2) * width
            if "failed" in entry:
                axes.text(x, 0.02, "failed", rotation=90, ha="center", va="bottom", fontsize=6, color=color)
                continue
            height = entry["median_s"] / entries[base]["median_s"]
            hatch = None if counts(entry) else "////"
            axes.bar(x, height, width, color="none" if hatch else color, edgecolor=color, hatch=hatch, linewidth=0.5)
        axes.bar(0, 0, color=color, label=name)  # for the legend, whatever became of this engine
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xlim(-0.5, len(results) - 0.5)
    axes.set_xticks(range(len(results)), [r["model"].removeprefix("light_") for r in results], rotation=30, ha="right")
    axes.set_ylabel(f"latency relative to {base}\n(lower is better)")
    axes.set_title(f"{results[0]['threads']} thread(s), medians; hatched: wrong output")
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize="small", ncols=min(len(names), 3))
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    print(f"wrote {path}")
