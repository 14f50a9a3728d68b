"""What a build tells its user: which kernel got its schedule from where, and what the result costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Origin = Literal["tuned", "reused", "default"]


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task of a model.

    origin  ``tuned``: a log record for this machine; ``reused``: a record that was made for something similar;
            ``default``: the analytical rule
    uses    how many kernels of the model run it
    nodes   names of the ONNX nodes that its first use computes
    """

    key: str
    symbol: str
    origin: Origin
    uses: int
    nodes: tuple[str, ...]
    flops: int = 0


@dataclass(frozen=True, slots=True)
class BuildReport:
    """Sizes in bytes, times in seconds. kernels: calls per inference; copies: how many of them only move data."""

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

    def count(self, origin: Origin) -> int:
        """Number of tasks whose schedule came from ``origin``."""
        return sum(t.origin == origin for t in self.tasks)

    def __str__(self) -> str:
        origins = ", ".join(f"{self.count(o)} {o}" for o in ("tuned", "reused", "default"))
        return (
            f"{self.model}: {self.kernels} kernels of {len(self.tasks)} tasks ({origins}) in {self.build_s:.1f} s for "
            f"{self.target}, {self.threads} thread{'s' * (self.threads != 1)}; arena {_mb(self.arena_bytes)}, "
            f"constants {_mb(self.constants_bytes)}, code {_mb(self.code_bytes)}"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> BuildReport:
        tasks = tuple(TaskReport(**{**t, "nodes": tuple(t["nodes"])}) for t in data["tasks"])
        return BuildReport(**{**data, "tasks": tasks})


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
