"""What a build tells its user: which kernel got its schedule from where, and what the result costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ..accuracy import Accuracy

Origin = Literal["tuned", "reused", "transferred", "default"]
ORIGINS: tuple[Origin, ...] = get_args(Origin)


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task of a model.

    origin  ``tuned``: a log record for this machine; ``reused``: a record that was made on a similar one;
            ``transferred``: a record of the same operator in another size; ``default``: the analytical rule
    uses    how many kernels of the model run it
    cached  whether its object code was in the cache
    nodes   names of the ONNX nodes that its first use computes
    flops, bytes_moved  of one use, by the operator's definition: a multiply-add is two operations, taps on padding
            count; every input, constant and output moves once
    name    for people: ``conv2d_3x3_s1_64x56x56_64+relu``
    algorithm   ``direct``, ``winograd4``, or the kind of operator where there is no choice
    decisions   what its space chose
    algorithm_flops, algorithm_bytes  what the chosen algorithm computes and moves in place of ``flops`` and
            ``bytes_moved``: a Winograd kernel does fewer operations, and reads a larger filter
    why     what decided about the origin: which record, or why there is none
    stale   records of the task that were passed over because this version can no longer make their schedules
    completed   decisions that the record did not hold, being older than they are, and that got their default

    Everything from ``bytes_moved`` on is missing (0 or empty) in artifacts of format 1.
    """

    key: str
    symbol: str
    origin: Origin
    uses: int
    nodes: tuple[str, ...]
    flops: int = 0
    bytes_moved: int = 0
    name: str = ""
    algorithm: str = ""
    decisions: Mapping[str, Any] = field(default_factory=dict)
    algorithm_flops: int = 0
    algorithm_bytes: int = 0
    cached: bool = False
    why: str = ""
    stale: int = 0
    completed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildReport:
    """Sizes in bytes, times in seconds. kernels: calls per inference; copies: how many of them only move data.

    call_nodes  for each call of the program, the names of the ONNX nodes that it computes
    view_nodes  names of the ONNX nodes that became no code
    accuracy    what the kernels may be computed by; see :mod:`luthier.accuracy`
    """

    model: str
    target: str
    threads: int
    tasks: tuple[TaskReport, ...]
    kernels: int
    copies: int
    build_s: float
    arena_bytes: int
    constants_bytes: int
    code_bytes: int
    call_nodes: tuple[tuple[str, ...], ...] = ()
    view_nodes: tuple[str, ...] = ()
    accuracy: Accuracy = "fast"

    def count(self, origin: Origin) -> int:
        """Number of tasks whose schedule came from ``origin``."""
        return sum(t.origin == origin for t in self.tasks)

    @property
    def cached(self) -> int:
        """Number of tasks whose object code was in the cache."""
        return sum(t.cached for t in self.tasks)

    @property
    def origins(self) -> str:
        """``5 tuned, 0 reused, 2 transferred, 1 default``, and what was wrong with records, if anything was."""
        parts = [f"{self.count(o)} {o}" for o in ORIGINS]
        stale, completed = sum(t.stale for t in self.tasks), sum(bool(t.completed) for t in self.tasks)
        parts += [f"{stale} stale record{'s' * (stale != 1)} passed over"] if stale else []
        parts += [f"{completed} completed with defaults"] if completed else []
        return ", ".join(parts)

    def __str__(self) -> str:
        cached = f", {self.cached} from the cache," if self.cached else ""
        return (
            f"{self.model}: {self.kernels} kernels of {len(self.tasks)} tasks ({self.origins}){cached} "
            f"in {self.build_s:.1f} s for {self.target}, {self.threads} thread{'s' * (self.threads != 1)}, "
            f"{self.accuracy} accuracy; arena {_mb(self.arena_bytes)}, constants {_mb(self.constants_bytes)}, "
            f"code {_mb(self.code_bytes)}"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> BuildReport:
        tasks = tuple(
            TaskReport(**{**t, "nodes": tuple(t["nodes"]), "completed": tuple(t.get("completed", ()))})
            for t in data["tasks"]
        )
        calls = tuple(tuple(names) for names in data.get("call_nodes", ()))
        views = tuple(data.get("view_nodes", ()))
        return BuildReport(**{**data, "tasks": tasks, "call_nodes": calls, "view_nodes": views})


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
