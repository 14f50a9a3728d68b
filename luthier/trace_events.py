"""A profile as a Chrome trace, for chrome://tracing and ui.perfetto.dev.

Comes in: a :class:`~.runtime.profile.Profile`, and profiles of other engines. Goes out: an object of the JSON trace
event format: one process for each engine, one track for each thread, complete events ("X") in microseconds. The run
that is shown is the one of median duration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .peer_profiles import PeerProfile
from .runtime.profile import Profile

Event = dict[str, Any]


def chrome_trace(profile: Profile, peers: Sequence[PeerProfile] = ()) -> dict[str, Any]:
    """Return what ``json.dump`` writes to a trace file. Peers that do not say when a layer began are left out."""
    events = [*_named("process", 1, 0, f"luthier: {profile.model}"), *_ours(profile)]
    for pid, peer in enumerate((p for p in peers if p.timeline), 2):
        events += _named("process", pid, 0, peer.engine)
        events += _named("thread", pid, 0, "nodes")
        events += [
            _complete(span.name, span.op, pid, 0, span.begin_s, span.end_s, {"operator": span.op})
            for span in peer.timeline
        ]
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _ours(profile: Profile) -> Iterator[Event]:
    for thread in range(profile.threads):
        yield from _named("thread", 1, thread, f"thread {thread}")
    for span in profile.timeline:
        kernel = profile.kernels[span.kernel]
        arguments = {"kernel": span.kernel, **kernel.to_json(profile.peaks)}
        category = kernel.task.algorithm if kernel.task is not None else "kernel"
        yield _complete(kernel.name, category or "kernel", 1, span.thread, span.begin_s, span.end_s, arguments)
        if profile.threads > 1 and span.left_s > span.end_s:
            waiting = {"kernel": span.kernel}
            yield _complete("wait", "barrier", 1, span.thread, span.end_s, span.left_s, waiting)


def _named(what: str, pid: int, tid: int, name: str) -> list[Event]:
    return [{"name": f"{what}_name", "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}]


def _complete(
    name: str, category: str, pid: int, tid: int, begin_s: float, end_s: float, arguments: dict[str, Any]
) -> Event:
    begin, duration = round(begin_s * 1e6, 3), round((end_s - begin_s) * 1e6, 3)
    return {"name": name, "cat": category, "ph": "X", "pid": pid, "tid": tid, "ts": begin, "dur": duration,
            "args": arguments}  # fmt: skip
