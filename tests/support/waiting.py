"""Waiting for what happens in other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0) -> bool:
    """Ask until ``condition`` holds, or the time is up; returns whether it held."""
    deadline = time.monotonic() + timeout_s
    while not (held := bool(condition())) and time.monotonic() < deadline:
        time.sleep(0.005)
    return held
