"""The public functions: :func:`compile`, :func:`tune`, :func:`load` and :func:`build`.

    import luthier

    luthier.tune("resnet50.onnx", log="resnet50.tuning.db", budget_s=600)
    model = luthier.compile("resnet50.onnx", log="resnet50.tuning.db")
    (scores,) = model.run(None, {"data": image})
    model.save("resnet50.luthier")
    model = luthier.load("resnet50.luthier")

Read next: :mod:`.graph.compile` for what a build does, :mod:`.runtime.executable` for what it gives.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence

from .accuracy import Accuracy
from .codegen.detect import can_run, host_target, named_target
from .errors import TargetError, TuningError
from .graph.compile import compile_model
from .graph.importer.read import ModelSource
from .runtime.artifact import load as _load
from .runtime.executable import Executable
from .runtime.function import Function
from .runtime.function import build as _build
from .runtime.openmp import default_threads, usable_threads
from .schedule.schedule import Schedule
from .target import Target
from .te.tensor import Compute
from .te.workload import Workload
from .tuner.database import Database, open_log
from .tuner.fleet import FleetMeasurer, choose_target, survey
from .tuner.lookup import schedules_from_log
from .tuner.model_tasks import model_tasks
from .tuner.patient import open_patiently
from .tuner.report import TuneReport
from .tuner.session import tune as _tune
from .tuner.whole_model import ModelCheck

__all__ = ["build", "compile", "load", "tune"]


def compile(
    model: ModelSource,
    *,
    log: str | os.PathLike[str] | Database | None = None,
    threads: int | None = None,
    target: Target | str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    accuracy: Accuracy = "fast",
    jobs: int | None = None,
) -> Executable:
    """Compile an ONNX model for this machine and return it ready to run.

    model    path of an ONNX file, its bytes, a ModelProto, or the name of a model that comes with onnx
    log      tuning log to take schedules from: records of this machine, or else of a similar one, or else of the same
             operator in a similar size; other tasks get the default schedule, and a warning says how many these are.
             The executable's report says for each task what was taken, and why
    threads  threads to run with, however many cores there are; default: ``OMP_NUM_THREADS``, but no more than the CPUs
             that this process may use (``taskset``, CPU quotas of containers), or else the cores behind these
    target   a Target or the name of one (``x86-64-v3``), for an artifact that other machines can run; default: this
             machine
    shapes   shapes of inputs by name; needed where the model leaves a dimension open
    accuracy "fast" allows algorithms that round differently (Winograd's and Strassen's: errors up to about 1e-5 of
             the largest value); "exact" forbids them: only the order of sums differs from the model's definition
    jobs     kernels to build at the same time; default: the cores of this process

    Raises OnnxError for a model that cannot be read or has unsupported nodes, LogError for a log that cannot be read,
    TargetError for an unknown target, Error for an unknown accuracy.
    """
    if log is None:
        return compile_model(
            model, threads=threads, target=_target(target, threads), shapes=shapes, accuracy=accuracy, jobs=jobs
        )
    database = log if isinstance(log, Database) else open_log(log, "r")
    try:
        executable = compile_model(
            model,
            threads=threads,
            target=_target(target, threads),
            shapes=shapes,
            accuracy=accuracy,
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


def tune(
    model: ModelSource,
    *,
    log: str | os.PathLike[str] | Database,
    budget_s: float | None = None,
    trials: int | None = None,
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    accuracy: Accuracy = "fast",
    tasks: str | None = None,
    search: str = "evolutionary",
    cost_model: str = "xgboost",
    seed: int = 0,
    stop_below: float = 0.01,
    progress: bool = True,
    workers: str | None = None,
    target: Target | str | None = None,
    any_target: bool = False,
    fallback: bool = False,
) -> TuneReport:
    """Search for fast schedules of a model's kernels, and keep all that is measured in ``log``.

    In the end the best few of each kernel are measured again, then the whole model with default schedules and with
    those of the log; where the default ones are better, the log says so, and :func:`compile` takes them.

    log               file to extend or create; a later run goes on from there, and :func:`compile` takes it
    budget_s, trials  when to stop: after so many seconds in all, or so many candidates; give one of the two
    threads, shapes, accuracy  as :func:`compile` will be called: what is found for other ones does not serve it
    tasks             only tasks whose name or key matches this pattern (``conv2d*``)
    search, seed      search method, and what makes its proposals repeatable
    cost_model        what guides the search: "xgboost"; "xgboost-local", without the model that ships; "random"
    stop_below        stop early when more trials can be expected to gain less than this fraction; 0: use all the time
    progress          whether to show the progress on standard error
    workers           address of a dask scheduler, ``dask://host:port``: measure on its workers (``luthier worker``),
                      not on this machine
    target            what to tune for, as :func:`compile` takes it; default: this machine or, with workers, the target
                      of most of them (the first digits of a worker's target's hash choose another)
    any_target        use workers of other targets too, as far as they can run the code, and take their times for those
                      of the target
    fallback          measure on this machine when no worker is left; else the session ends then, with what it has

    Raises OnnxError, LogError and Error as :func:`compile` does, TuningError for arguments that make no sense.
    """
    if threads is not None and threads < 1:
        raise TuningError(f"tune: threads is {threads}; it must be at least 1")
    start = time.monotonic()
    chosen = tuning_target(workers, target, threads)
    if workers is None and (any_target or fallback):
        raise TuningError("tune: any_target and fallback are about workers; give workers=dask://host:port with them")
    found = model_tasks(model, chosen, shapes, accuracy)
    import_s = time.monotonic() - start
    database = log if isinstance(log, Database) else open_patiently(log)
    measurer = None
    here = measurable(workers, chosen)
    try:
        if workers is not None:
            measurer = FleetMeasurer(workers, chosen, any_target=any_target, fallback=fallback)
        return _tune(
            found,
            log=database,
            target=chosen,
            budget_s=budget_s if budget_s is None or budget_s <= import_s else budget_s - import_s,
            trials=trials,
            pattern=tasks,
            search=search,
            cost_model=cost_model,
            seed=seed,
            stop_below=stop_below,
            progress=progress,
            model=ModelCheck(model, chosen, shapes, accuracy, import_s) if here else None,
            note="" if here else UNMEASURED,
            measurer=measurer,
        )
    finally:
        if measurer is not None:
            measurer.close()
        if database is not log:
            database.close()


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


def tuning_target(workers: str | None, target: Target | str | None, threads: int | None) -> Target:
    """What a session tunes for; see :func:`tune`. Raises TargetError where it measures here and cannot run the code."""
    if isinstance(target, Target):
        chosen = target if threads is None else target.with_threads(threads)
    elif workers is not None:
        return choose_target(survey(workers).workers.values(), target, threads)
    else:
        chosen = named_target(target or "host", usable_threads(threads or default_threads()))
    if workers is None and not can_run(chosen):
        raise TargetError(f"this machine ({host_target().cpu}) cannot run code for {chosen.name}; tune on one that can")
    return chosen


UNMEASURED = "The whole model was not measured, as this machine is not one of the target's."
"""Where it is not :func:`measurable`."""


def measurable(workers: str | None, target: Target) -> bool:
    """Whether a model that is tuned for ``target`` can be measured as a whole here, in the end."""
    return workers is None or target.fingerprint() == host_target(target.threads).fingerprint()


def _target(target: Target | str | None, threads: int | None) -> Target | None:
    if isinstance(target, str):
        return named_target(target, threads=threads or default_threads())
    return target
