"""``luthier bench --profile``: where the time of a model goes, for people; ``--trace`` and ``--json`` for programs."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import peak
from .cli_table import percent, ratio, seconds, shorten, table
from .cli_values import UsageError, output_path
from .layers import Row, side_by_side
from .peer_profiles import PROFILERS, PeerProfile, profile_peer
from .peers import Feed, Peer, Timing
from .runtime.executable import Executable
from .runtime.profile import KernelProfile, Profile
from .trace_events import chrome_trace
from .whole_file import whole_file

TOLERANCE = 0.03
"""How far the sum of the kernels may be from the latency before a reader is warned."""
_LOSSES = 5


def check_options(arguments: Namespace, peers: Sequence[type[Peer]]) -> bool:
    """Whether a profile is wanted. Raises UsageError for options that do not fit together, before any work."""
    wanted = bool(arguments.profile or arguments.trace)
    for option, value in (("--json", arguments.json), ("--sort", arguments.sort)):
        if value and not wanted:
            raise UsageError(f"{option}: is about a profile; add --profile")
    for option, path in (("--trace", arguments.trace), ("--json", arguments.json)):
        if path:
            output_path(path, option, (arguments.model, arguments.log))
    lacking = [p.name for p in peers if p.name not in PROFILERS]
    if wanted and lacking:
        raise UsageError(
            f"--against: {', '.join(lacking)} cannot be profiled layer by layer, only {', '.join(PROFILERS)}; leave "
            f"it out, or leave out --profile"
        )
    return wanted


def profile(
    arguments: Namespace, executable: Executable, feed: Feed, model: Path | None = None, timings: Sequence[Timing] = ()
) -> None:
    """Measure and print, and write the files that were asked for.

    model, timings  what the other engines read, and their latencies (Luthier's first)
    """
    found = executable.profile(
        arguments.rounds, inputs=feed, peaks=peak.measure(executable.target.with_threads(executable.threads))
    )
    shapes = {s.name: s.dims for s in executable.inputs}
    peers = [
        profile_peer(t.name, model, executable.threads, shapes, feed, arguments.rounds)
        for t in timings[1:]
        if model is not None
    ]
    print(kernel_table(found, by_time=arguments.sort == "time"))
    print()
    print(summary(found))
    if peers:
        print()
        print(comparison(found, peers, [t.median_s for t in timings[1:]]))
    if arguments.trace:
        _write(arguments.trace, chrome_trace(found, peers))
        print(f"\nwrote {arguments.trace}: open it in chrome://tracing or https://ui.perfetto.dev")
    if arguments.json:
        _write(arguments.json, {**found.to_json(), "peers": [_peer_json(p) for p in peers]})
        print(f"\nwrote {arguments.json}")


# ---------------------------------------------------------------------------------------- the tables


def kernel_table(profile: Profile, *, by_time: bool = False) -> str:
    """A line for each kernel, in order of execution or slowest first; the last lines are what is outside, and all."""
    team = profile.threads > 1
    header = ["#", "kernel", "algorithm, tile", "ONNX nodes", "time", "share", "GFLOP/s", "GB/s", "of roof", "of own"]
    numbered = list(enumerate(profile.kernels))
    if by_time:
        numbered.sort(key=lambda pair: -pair[1].median_s)
    rows = []
    for number, k in numbered:
        row = [str(number), shorten(k.name, 38), shorten(how(k), 30), shorten("+".join(k.nodes) or "-", 28)]
        row += [seconds(k.median_s), _share(profile.share(k)), _rate(k.flops_per_s), _rate(k.bytes_per_s)]
        row += [_of(k, profile, algorithm=False), _of(k, profile, algorithm=True)]
        rows.append([*row, percent(k.wait_s, k.median_s)] if team else row)
    blank = [""] * (len(header) - 6 + team)
    outside = profile.outside_s / profile.total_s if profile.total_s else 0.0
    rows.append(["", "outside of kernels", "", "", seconds(profile.outside_s), _share(outside), *blank])
    rows.append(["", "sum", "", "", seconds(profile.total_s), _share(1.0), *blank])
    return table([*header, "waits"] if team else header, rows, left=4)


def summary(profile: Profile) -> str:
    """The check of the sum, the roofline of the whole model, and what loses most."""
    off = profile.total_s / profile.latency_s - 1
    lines = [
        f"latency {seconds(profile.latency_s)} (the deployed program, median of {profile.rounds} runs); kernels "
        f"{seconds(profile.kernels_s)} + outside {seconds(profile.outside_s)} = {100 * (1 + off):.1f}% of it"
    ]
    if abs(off) > TOLERANCE:
        lines.append(
            "the sum is off by more than 3%: something else runs on this machine; profile again when it is idle"
        )
    if profile.threads > 1:
        waits_s = sum(k.wait_s for k in profile.kernels)
        lines.append(
            f"threads wait for one another in {100 * waits_s / (profile.kernels_s or 1.0):.1f}% of the kernels' time"
        )
    peaks = profile.peaks
    if peaks is None:
        return "\n".join(lines)
    threads = f"{profile.threads} thread{'s' * (profile.threads != 1)}"
    lines.append(
        f"peak of {threads}, measured now: {peaks.flops_per_s / 1e9:.1f} GFLOP/s, reading memory "
        f"{peaks.bytes_per_s / 1e9:.1f} GB/s"
    )
    if not all(k.is_known for k in profile.kernels):
        lines.append("no rooflines: the file does not say what its kernels compute and move; build it again")
        return "\n".join(lines)
    for text, least_s in (
        ("of the operators as defined", profile.roofline_s()),
        ("of the algorithms chosen", profile.roofline_s(algorithms=True)),
    ):
        lines.append(
            f"roofline {text}: {seconds(least_s)}; the model runs at {percent(least_s, profile.latency_s)} of it"
        )
    lost = [(k.median_s - k.algorithm_roofline_s(peaks), number, k) for number, k in enumerate(profile.kernels)]
    lost = sorted((x for x in lost if x[0] > 0), key=lambda x: -x[0])[:_LOSSES]
    if lost:
        lines.append("largest losses (time above the roofline of the algorithm chosen):")
        rows = [
            [f"  {number}", k.name, how(k), seconds(loss_s), _share(loss_s / profile.latency_s)]
            for loss_s, number, k in lost
        ]
        lines.append(table(["  #", "kernel", "algorithm, tile", "loss", "of latency"], rows, left=3))
    lines.append(
        "GFLOP/s and roof: by the operators' definition (direct convolution), so Winograd can exceed 100%; own: by\n"
        "the chosen algorithm's arithmetic and bytes. Bytes: inputs, constants and outputs, once each. More than 100%\n"
        "also comes from caches (the bandwidth is that of memory) and from taps on padding, which are skipped."
    )
    return "\n".join(lines)


def comparison(profile: Profile, peers: Sequence[PeerProfile], latencies_s: Sequence[float]) -> str:
    """Layer by layer beside other engines. latencies_s: of the peers, without their profilers."""
    matched, remainder = side_by_side(profile, peers)
    names = ["luthier", *(p.engine for p in peers)]
    rows = [_compared(row) for row in matched]
    if remainder:
        rows += [
            [f"only {names[_first(row)]}: {shorten(row.label.removeprefix('no kernel: '), 40)}", *_compared(row)[1:]]
            for row in remainder
        ]
    totals = [profile.latency_s, *latencies_s]
    inside = [profile.kernels_s, *(sum(layer.median_s for layer in p.layers) for p in peers)]
    between = [whole - part for whole, part in zip(totals, inside, strict=True)]
    gaps = ["" for _ in peers]
    rows.append(["between and around the layers", "", *(_signed(s) for s in between), *gaps])
    rows.append(["latency", "", *map(seconds, totals), *(ratio(s, totals[0]) for s in latencies_s)])
    header = ["layer", "ONNX nodes", *names, *(f"vs {p.engine}" for p in peers)]
    wins = []
    for position, name in enumerate(names[1:], 1):
        both = [(r.times_s[0], r.times_s[position]) for r in matched]
        pairs = [(ours, theirs) for ours, theirs in both if ours is not None and theirs is not None]
        won = sum(ours < theirs for ours, theirs in pairs)
        wins.append(f"luthier is faster than {name} in {won} of {len(pairs)} layers that both run")
    note = (
        "peers: medians of each layer by their own profilers; latencies are without them, so that what is between the\n"
        "layers can be negative"
    )
    return "\n".join([table(header, rows, left=2), *wins, note])


def how(kernel: KernelProfile) -> str:
    """The algorithm and the sizes that its space chose: ``direct 1x14x2``, ``winograd4 block 1x19 14x2``."""
    task = kernel.task
    if task is None:
        return "-"
    sizes = []
    for name, value in task.decisions.items():
        if name.endswith("lanes"):
            sizes.append(f"lanes {value}")
        elif name == "tile_rows":
            sizes.append(f"block {value}x{task.decisions.get('tile_columns', 'all')}")
        elif name == "tile_columns":
            continue
        elif "tile" in name:
            label = name.replace("product_tile", "").replace("tile", "").strip("_")
            sizes.append(f"{label} {_value(value)}".strip())
    return " ".join([task.algorithm or "-", *dict.fromkeys(sizes)])


# ------------------------------------------------------------------------------------------- inside


def _compared(row: Row) -> list[str]:
    ours, *theirs = row.times_s
    cells = [shorten(row.label, 46), shorten("+".join(row.nodes) or "-", 30)]
    cells += ["-" if s is None else seconds(s) for s in row.times_s]
    return cells + ["" if ours is None or s is None else ratio(s, ours) for s in theirs]


def _first(row: Row) -> int:
    return next(i for i, s in enumerate(row.times_s) if s is not None)


def _value(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _of(kernel: KernelProfile, profile: Profile, *, algorithm: bool) -> str:
    if profile.peaks is None:
        return "-"
    least_s = kernel.algorithm_roofline_s(profile.peaks) if algorithm else kernel.roofline_s(profile.peaks)
    return percent(least_s, kernel.median_s)


def _share(part: float) -> str:
    return f"{100 * part:.1f}%"


def _rate(per_s: float) -> str:
    return f"{per_s / 1e9:.1f}" if per_s else "-"


def _signed(value_s: float) -> str:
    return seconds(value_s) if value_s >= 0 else f"-{seconds(-value_s)}"


def _peer_json(peer: PeerProfile) -> dict[str, Any]:
    layers = [{"name": x.name, "operator": x.op, "median_s": x.median_s, "nodes": sorted(x.nodes)} for x in peer.layers]
    return {"engine": peer.engine, "rounds": peer.rounds, "layers": layers}


def _write(path: str, data: dict[str, Any]) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(data).encode() + b"\n")
