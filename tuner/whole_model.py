"""The end of a session on a model: build it with default schedules and with the log's, measure both, keep the better.

What is faster alone need not be faster inside the model, where the caches hold what the kernels before have left. So
first each kernel that tuning changed is timed in both builds, and of those that lose there the default schedules stay;
then the model as a whole is.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..accuracy import Accuracy
from ..graph.compile import compile_model
from ..graph.importer.read import ModelSource
from ..runtime.executable import Executable
from ..runtime.profile import kernel_times
from ..runtime.report import BuildReport
from ..target import Target
from .cpu import available_cores
from .database import Database
from .history import versions
from .lookup import schedules_from_log
from .model_run import Kept, ModelRun
from .record import relative_spread
from .rounds import mostly_less

T = TypeVar("T")

RACE_S, INSIDE_S = 4.0, 2.0
LEAST_ROUNDS = 5
"""Fewer do not tell which build is faster: where the time ends, they are made, but nothing is concluded."""
LATE_ROUNDS = 2
MOST_ROUNDS = 200
MARGIN = 1.4
DEVIATIONS = 1.0
"""In how many more rounds than by chance the default must have been faster to stay, in standard deviations."""
OVERLAP = 0.8
"""Of the time that kernels take to build one after the other, what it is on several cores: half of it is Python's."""
LAYOUT_BYTES_PER_S = 4e8
"""Constants that a build lays out in a second, by one core, with what new memory costs."""


@dataclass(frozen=True, slots=True)
class ModelTimes:
    """Latencies of one inference in seconds, taken in turns; kept: which of the two the log gives from now on."""

    default_s: tuple[float, ...]
    tuned_s: tuple[float, ...]
    kept: Kept

    def __str__(self) -> str:
        texts = [
            f"{statistics.median(t) * 1e3:.3f} ms (least {min(t) * 1e3:.3f})" for t in (self.default_s, self.tuned_s)
        ]
        gain = statistics.median(self.default_s) / statistics.median(self.tuned_s)
        kept = "" if self.kept == "tuned" else "; the default schedules stay"
        return (
            f"The whole model, measured in turns {len(self.tuned_s)} times: {texts[0]} by default, {texts[1]} with the "
            f"log, {gain:.2f}x{kept}."
        )

    def record(self, check: ModelCheck, trials: int, elapsed_s: float) -> ModelRun:
        """What a log keeps of it."""
        return ModelRun(
            model=check.report.model if check.report is not None else "model",
            target=check.target.fingerprint(),
            default_s=min(self.default_s),
            tuned_s=min(self.tuned_s),
            kept=self.kept,
            default_noise=relative_spread(self.default_s),
            tuned_noise=relative_spread(self.tuned_s),
            trials=trials,
            elapsed_s=elapsed_s,
            accuracy=check.accuracy,
            luthier_version=versions()[0],
            created_at=time.time(),
        )


class ModelCheck:
    """Builds and measures one model. import_s: how long it took to read; the other arguments are the build's.

    report  of the build with the log, once it was made
    """

    def __init__(
        self,
        model: ModelSource,
        target: Target,
        shapes: Mapping[str, Sequence[int]] | None = None,
        accuracy: Accuracy = "fast",
        import_s: float = 0.0,
    ) -> None:
        self.model, self.target, self.shapes, self.import_s = model, target, shapes, import_s
        self.accuracy: Accuracy = accuracy
        self.report: BuildReport | None = None

    def build_s(self, compile_s: float, constants_bytes: int) -> float:
        """How long the builds will take, roughly: by default, with the log, and with what is left of it.

        compile_s: of the kernels of both, one after the other.
        """
        each_s = self.import_s + constants_bytes / LAYOUT_BYTES_PER_S
        return MARGIN * (3.0 * each_s + (OVERLAP if available_cores() > 1 else 1.0) * compile_s)

    def run(
        self,
        log: Database,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
        keep_defaults: Callable[[set[str]], None] = lambda keys: None,
    ) -> ModelTimes:
        """Measure for some seconds, or until ``deadline`` of ``clock``, but a few times at least. Raises as a build.

        keep_defaults: makes the log's look-ups give the default schedules of tasks with these keys
        """
        default, tuned = self._build(None), self._build(log)
        slower = slower_inside(default, tuned, deadline, clock)
        if slower:
            keep_defaults(slower)
            tuned = self._build(log)
        self.report = tuned.report
        feed = default.example_inputs()

        def latency_of(executable: Executable) -> Callable[[], float]:
            return lambda: executable.time(1, inputs=feed)[0]

        default_s, tuned_s = _in_turns(latency_of(default), latency_of(tuned), RACE_S, deadline, clock)
        return ModelTimes(tuple(default_s), tuple(tuned_s), _better(default_s, tuned_s))

    def _build(self, log: Database | None) -> Executable:
        schedules = None if log is None else schedules_from_log(log)
        return compile_model(
            self.model, target=self.target, shapes=self.shapes, accuracy=self.accuracy, schedules=schedules
        )


def slower_inside(
    default: Executable, tuned: Executable, deadline: float, clock: Callable[[], float] = time.monotonic
) -> set[str]:
    """Keys of the tasks whose kernels in ``tuned`` take longer, inside of the model, than those in ``default``.

    Measured in turns for some seconds; none where ``deadline`` of ``clock`` leaves too few runs to tell.
    """
    own, others = ({t.symbol: t.key for t in e.report.tasks} if e.report else {} for e in (tuned, default))
    calls = [c.symbol for c in tuned.program.calls]
    keys = [own.get(symbol, "") for symbol in calls]
    if keys != [others.get(c.symbol, "") for c in default.program.calls]:
        return set()  # not two builds of one model
    changed = {key for key, symbol in zip(keys, calls, strict=True) if key and symbol not in others}
    if not changed:
        return set()
    feed = default.example_inputs()
    with kernel_times(default, feed) as by_default, kernel_times(tuned, feed) as by_log:
        rounds = [np.array(spans) for spans in _in_turns(by_default, by_log, INSIDE_S, deadline, clock)]

    def loses(key: str) -> bool:
        of_task = [k == key for k in keys]
        default_s, tuned_s = (spans[:, of_task].sum(axis=1).tolist() for spans in rounds)
        return _better(default_s, tuned_s) == "default"

    return {key for key in changed if loses(key)}


def _in_turns(
    first: Callable[[], T], second: Callable[[], T], seconds: float, deadline: float, clock: Callable[[], float]
) -> tuple[list[T], list[T]]:
    """What two measurements give, made in turns for so long, or until ``deadline``, but a few times at least."""
    end = min(clock() + seconds, deadline)
    found: tuple[list[T], list[T]] = ([], [])
    while not _enough(len(found[0]), clock() < end, clock() < deadline):
        turns = [(first, found[0]), (second, found[1])]
        for measure, results in turns if len(found[0]) % 2 else reversed(turns):
            results.append(measure())
    return found


def _enough(rounds: int, wanted: bool, in_time: bool) -> bool:
    """Whether to stop. wanted: there is time for a good measurement; in_time: the deadline has not passed."""
    if not in_time:
        return rounds >= LATE_ROUNDS
    return rounds >= (MOST_ROUNDS if wanted else LEAST_ROUNDS)


def _better(default_s: Sequence[float], tuned_s: Sequence[float]) -> Kept:
    """Which build is faster; what was tuned, and faster alone, where too few runs say or most rounds do not."""
    slower = len(tuned_s) >= LEAST_ROUNDS and _center(tuned_s) > _center(default_s)
    return "default" if slower and mostly_less(default_s, tuned_s, DEVIATIONS) else "tuned"


def _center(times: Sequence[float]) -> float:
    """The lower quartile: what disturbs a run makes it longer, and the least one is an accident."""
    return sorted(times)[math.floor((len(times) - 1) / 4)]
