"""For which target to tune on a fleet, and which of its workers can measure for it.

A worker measures for a target if its own is equal to it, with at least as many threads. With ``any_target`` it need
only be able to run the target's code: its times are then taken for those of the target, which is for machines that
differ in name only (steppings, cache sizes that a virtual machine reports).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ...codegen.detect import NAMES, host_target, named_target
from ...errors import TuningError
from ...runtime.openmp import default_threads, usable_threads
from ...target import Target
from ..record import target_hash
from .messages import Greeting

SHORTEST_HASH = 4


def choose_target(workers: Iterable[Greeting], wish: str | None = None, threads: int | None = None) -> Target:
    """The target to tune for.

    wish     a name (``host`` is the caller's machine), or the first digits of the hash of a worker's target; None: the
             target of most machines
    threads  default: as many as most of its machines run with

    Raises TuningError for a wish that nobody can fulfil.
    """
    if wish == "host":
        return host_target(usable_threads(threads or default_threads()))
    machines: dict[str, set[str]] = defaultdict(set)
    targets: dict[str, Target] = {}
    for worker in workers:
        if threads is not None and threads > worker.target.threads:
            continue
        target = worker.target.with_threads(threads or worker.target.threads)
        name = target_hash(target)
        if wish is None or wish == target.name or (len(wish) >= SHORTEST_HASH and name.startswith(wish)):
            targets[name] = target
            machines[name].add(worker.machine)
    if targets:
        return targets[min(targets, key=lambda name: (-len(machines[name]), name))]
    if wish in NAMES:
        return named_target(wish, threads or default_threads())
    if wish is None:
        raise TuningError(f"no worker can run {threads} threads; give fewer with --threads, or start other workers")
    raise TuningError(f"target {wish!r} is neither one of {', '.join(NAMES)} nor the hash of a worker's target")


def misfit(worker: Greeting, target: Target, any_target: bool = False) -> str:
    """Why a worker cannot measure for ``target``; "" if it can. Its greeting must have been asked about that target."""
    if worker.target.threads < target.threads:
        return f"it can run {worker.target.threads} threads, not {target.threads}"
    own = worker.target.with_threads(target.threads)
    if own.fingerprint() == target.fingerprint():
        return ""
    if not any_target:
        return f"its target is another one: {describe(own)}"
    return "" if worker.runs else f"it cannot run code for {target.name}: {describe(own)}"


def describe(target: Target) -> str:
    """A target for people, with the digits that select it."""
    name = target.model or target.cpu
    what = name if target.name in ("host", name) else f"{target.name} ({name})"
    return f"{what}, {target.threads} thread{'s' * (target.threads != 1)}, {target_hash(target)[:8]}"
