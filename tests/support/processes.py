"""What the system says of processes (Linux)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from waiting import wait_until


def children(pid: int) -> set[int]:
    """The processes that ``pid`` has started and that are not yet reaped."""
    return {int(p) for f in Path(f"/proc/{pid}/task").glob("*/children") for p in f.read_text().split()}


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but is not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def all_end(pids: Collection[int], timeout_s: float = 10.0) -> bool:
    """Whether processes have ended before the time is up."""
    return wait_until(lambda: not any(map(alive, pids)), timeout_s)
