"""Lowering, as a table of contents: from a schedule to LLVM IR by one straight list of passes.

    schedule -> lower -> PASSES in order -> emit -> LLVM IR text (-> llvm.compile_object)

:func:`run` verifies before and after each pass when ``LUTHIER_VERIFY`` is set, logs a pass that changed something at
``LUTHIER_DEBUG=3``, and writes every level to ``LUTHIER_DUMP``.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .. import config
from ..errors import Error, InternalError
from ..schedule.schedule import Schedule
from ..target import Target
from ..te.tensor import Placeholder
from ..te.workload import Workload
from . import emit, llvm, lower, passes, printer, verify
from .nodes import Function

Pass = Callable[[Function, Target], Function]

PASSES: tuple[Pass, ...] = (
    passes.remove_empty,
    passes.merge_conditions,
)

_numbers = itertools.count()


def lower_schedule(schedule: Schedule, target: Target, name: str = "kernel") -> Function:
    """Make the loop IR of a schedule and run every pass on it."""
    return _through_passes(lower.lower(schedule, name), target)


def lower_preparation(schedule: Schedule, source: Placeholder, target: Target, name: str) -> Function:
    """The same for what is computed from a constant input when a model is built."""
    return _through_passes(lower.lower_preparation(schedule, source, name), target)


def _through_passes(fn: Function, target: Target) -> Function:
    switches = config.get()
    if switches.verify:
        _verified(fn, "lower")
    for step in PASSES:
        started = time.perf_counter()
        changed = step(fn, target)
        if switches.verify and changed is not fn:
            _verified(changed, step.__name__)
        if switches.debug >= 3 and changed is not fn:
            elapsed_ms = (time.perf_counter() - started) * 1e3
            print(
                f"[{fn.name}] {step.__name__} ({elapsed_ms:.1f} ms)\n{printer.format_function(changed)}",
                file=sys.stderr,
            )
        fn = changed
    return fn


def levels(schedule: Schedule, target: Target, name: str = "kernel") -> dict[str, Callable[[], str]]:
    """The text of every level of one kernel, each made when it is asked for; outermost level first."""
    fn = lower_schedule(schedule, target, name)

    def llvm_ir() -> str:
        return emit.emit_function(fn, target)

    return {
        "te": lambda: schedule.workload.text,
        "schedule": lambda: str(schedule),
        "loops": lambda: printer.format_function(fn),
        "llvm": llvm_ir,
        "asm": lambda: llvm.assembly(llvm_ir(), target),
    }


def dump(schedule: Schedule, target: Target, name: str) -> Path | None:
    """Write every level to the directory of ``LUTHIER_DUMP``, numbered; returns the directory."""
    directory = config.get().dump
    if not directory:
        return None
    folder = Path(directory) / f"{next(_numbers):04d}_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    for position, (level, text) in enumerate(levels(schedule, target, name).items()):
        (folder / f"{position}_{level}.txt").write_text(text())
    return folder


def kernel_name(workload: Workload, schedule: Schedule, target: Target) -> str:
    """A symbol that is unique for (workload, decisions, target)."""
    steps = repr(schedule.to_json()["steps"]) + repr(sorted(target.fingerprint().items()))
    digest = hashlib.sha256((workload.key + steps).encode()).hexdigest()[:16]
    tag = "".join(c if c.isalnum() else "_" for c in workload.anchor.tag or "kernel")
    return f"{tag}_{digest}"


def _verified(fn: Function, step: str) -> None:
    try:
        verify.verify(fn)
    except (InternalError, Error) as e:
        raise InternalError(f"after {step}: {e}\n{printer.format_function(fn)}") from e
