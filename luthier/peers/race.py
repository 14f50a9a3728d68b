"""Engines timed in turn, and how far their outputs are apart."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .engine import Array, Engine, Feed


@dataclass(frozen=True, slots=True)
class Timing:
    """Latencies of one engine in seconds, and its outputs."""

    name: str
    run_s: tuple[float, ...]
    outputs: tuple[Array, ...]

    @property
    def median_s(self) -> float:
        return statistics.median(self.run_s)

    @property
    def min_s(self) -> float:
        return min(self.run_s)


def race(engines: Sequence[Engine], feed: Feed, rounds: int = 20, round_s: float = 0.0) -> list[Timing]:
    """Time engines in turn, ``rounds`` times over, so that what disturbs the machine disturbs all of them.

    Before an engine is timed it runs once, untimed, after the threads of the one before have fallen asleep.
    In each round an engine runs once, or as often as fits into ``round_s``.
    """
    times: list[list[float]] = [[] for _ in engines]
    outputs: list[tuple[Array, ...]] = [tuple(np.array(a) for a in engine.run(feed)) for engine in engines]
    for _ in range(rounds):
        for engine, measured in zip(engines, times, strict=True):
            settle()
            engine.run(feed)
            end = time.perf_counter() + round_s
            while True:
                start = time.perf_counter()
                engine.run(feed)
                stop = time.perf_counter()
                measured.append(stop - start)
                if stop >= end:
                    break
    return [Timing(e.name, tuple(t), o) for e, t, o in zip(engines, times, outputs, strict=True)]


def settle(limit_s: float = 0.5) -> None:
    """Wait until no thread of this process spins any more, at most ``limit_s``.

    A pool whose threads spin after a run (ONNX Runtime's for some 35 ms, OpenMP's for 10) would take a core from the
    engine that runs next. Quiet is what uses under a tenth of a core, twice in a row: a thread that spins may be
    without a core for a moment, where others want it.
    """
    quiet, end = 0, time.perf_counter() + limit_s
    while quiet < 2 and time.perf_counter() < end:
        start, used = time.perf_counter(), time.process_time()
        time.sleep(0.004)
        calm = time.process_time() - used < 0.1 * (time.perf_counter() - start)
        quiet = quiet + 1 if calm else 0


def output_error(outputs: Sequence[Array], reference: Sequence[Array]) -> float:
    """Largest difference over all outputs, relative to the largest magnitude of each reference; inf for a NaN."""
    worst = 0.0
    for ours, theirs in zip(outputs, reference, strict=True):
        if ours.shape != theirs.shape:
            return float("inf")
        if ours.size:
            difference = np.max(np.abs(np.float64(ours) - np.float64(theirs)))
            scale = np.max(np.abs(np.float64(theirs)))
            worst = max(worst, float(difference / (scale or 1.0)) if np.isfinite(difference) else float("inf"))
    return worst
