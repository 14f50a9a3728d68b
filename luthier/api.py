"""The public functions: :func:`compile`, :func:`load` and :func:`build`.

    import luthier

    model = luthier.compile("resnet50.onnx", log="resnet50.tuning.db")
    (scores,) = model.run(None, {"data": image})
    model.save("resnet50.luthier")
    model = luthier.load("resnet50.luthier")

Read next: :mod:`.graph.compile` for what a build does, :mod:`.runtime.executable` for what it gives.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence

from .codegen.detect import host_target, named_target
from .graph.compile import compile_model
from .graph.importer.read import ModelSource
from .runtime.artifact import load as _load
from .runtime.executable import Executable
from .runtime.function import Function
from .runtime.function import build as _build
from .runtime.openmp import default_threads
from .schedule.schedule import Schedule
from .target import Target
from .te.tensor import Compute
from .te.workload import Workload
from .tuner.database import Database, open_log
from .tuner.lookup import schedules_from_log

__all__ = ["build", "compile", "load"]


def compile(
    model: ModelSource,
    *,
    log: str | os.PathLike[str] | Database | None = None,
    threads: int | None = None,
    target: Target | str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    jobs: int | None = None,
) -> Executable:
    """Compile an ONNX model for this machine and return it ready to run.

    model    path of an ONNX file, its bytes, a ModelProto, or the name of a model that comes with onnx
    log      tuning log to take schedules from: records of this machine, or else of a similar one; tasks that it does
             not know get the default schedule, and a warning says how many these are
    threads  threads to run with; default: the cores of this process (at most ``OMP_NUM_THREADS``)
    target   a Target or the name of one (``x86-64-v3``), for an artifact that other machines can run; default: this
             machine
    shapes   shapes of inputs by name; needed where the model leaves a dimension open
    jobs     kernels to build at the same time; default: the cores of this process

    Raises OnnxError for a model that cannot be read or has unsupported nodes, LogError for a log that cannot be read,
    TargetError for an unknown target.
    """
    if log is None:
        return compile_model(model, threads=threads, target=_target(target, threads), shapes=shapes, jobs=jobs)
    database = log if isinstance(log, Database) else open_log(log, "r")
    try:
        executable = compile_model(
            model,
            threads=threads,
            target=_target(target, threads),
            shapes=shapes,
            schedules=schedules_from_log(database),
            jobs=jobs,
        )
    finally:
        if database is not log:
            database.close()
    report = executable.report
    if report is not None and report.count("default"):
        warnings.warn(
            f"the log has no schedule for {report.count('default')} of {len(report.tasks)} tasks on this machine; "
            f"they got the default one: luthier tune adds them",
            stacklevel=2,
        )
    return executable


def load(path: str | os.PathLike[str], *, verify: bool = True) -> Executable:
    """Load a model that :meth:`Executable.save` wrote. It holds native code: load only what you would run.

    verify: check all checksums; False saves reading the constants once. Raises ArtifactError.
    """
    return _load(path, verify=verify)


def build(
    what: Schedule | Workload | Compute | Sequence[Compute],
    target: Target | str | None = None,
    *,
    threads: int | None = None,
) -> Function:
    """Compile an operator of one's own: a schedule, or a workload or tensors, which get the default schedule.

    Returns a function of NumPy arrays. threads: default 1 for tensors and schedules alike, or the target's.
    Raises ScheduleError when the schedule cannot be lowered.
    """
    return _build(what, _target(target, threads) or host_target(threads or 1), threads=threads)


def _target(target: Target | str | None, threads: int | None) -> Target | None:
    if isinstance(target, str):
        return named_target(target, threads=threads or default_threads())
    return target
