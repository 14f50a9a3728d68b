"""A whole model, from ONNX to an executable; reads like a table of contents.

    import -> passes -> layouts -> branches -> groups -> workloads -> kernels (one for each distinct task)
           -> constants and memory plan -> program -> object code -> Executable

Where a schedule comes from is the caller's business: ``schedules`` is asked for each task's decisions (the log of a
tuner), and the default rule of the task's space stands in. Next: :mod:`.memory`, :mod:`.lowering`.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from .. import config
from ..accuracy import Accuracy, check_accuracy
from ..codegen import cached
from ..codegen.build import build_kernel
from ..codegen.detect import host_target
from ..codegen.emit_program import emit_program
from ..codegen.kernel import Kernel
from ..codegen.program import KernelCall, Program, Slot
from ..errors import Error, InternalError, ScheduleError
from ..runtime.arrays import Array
from ..runtime.executable import Executable, TensorSpec
from ..runtime.openmp import default_threads, usable_threads
from ..runtime.report import BuildReport, Origin, TaskReport
from ..schedule.decide import Decider, Decisions, Default, Replay
from ..schedule.space import instantiate
from ..target import Target
from ..te.tensor import compute, placeholder
from ..te.workload import Workload, workload
from .constants import Request, pack_constants
from .fusion import partition
from .importer.read import ModelSource
from .ir import Graph, Group
from .layouts import assign_layouts
from .lowering import LoweredGroup, lower_group
from .memory import Arrangement, MemoryPlan, Needs, arrange, plan_memory, value_bytes
from .onnx_import import check_supported, load_model
from .passes import run_passes
from .passes.branches import merge_branches
from .tasks import task_name


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a task.

    decisions   None for the default rule's
    origin, why, stale, completed   as :class:`..runtime.report.TaskReport` has them
    """

    decisions: Decisions | None
    origin: Origin = "tuned"
    why: str = ""
    stale: int = 0
    completed: tuple[str, ...] = ()


Schedules: TypeAlias = Callable[[Workload, Target], Found | None]
"""Looks up decisions for a workload; None, or a :class:`Found` that says why, where it knows none."""


def compile_model(
    model: ModelSource,
    *,
    threads: int | None = None,
    target: Target | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    accuracy: Accuracy = "fast",
    schedules: Schedules | None = None,
    jobs: int | None = None,
) -> Executable:
    """Compile ``model`` for ``target`` and return what runs it; the executable's ``report`` says what was built.

    model      path, bytes, ModelProto or the name of a model that comes with onnx
    threads    threads to run with; default: the target's, or the cores of this process
    shapes     shapes of inputs by name; needed where the model leaves a dimension open
    accuracy   "exact" forbids algorithms that round differently; see :mod:`luthier.accuracy`
    schedules  see :data:`Schedules`; default: the default rule for every task
    jobs       kernels to build, and constants to lay out, at the same time; default: the cores of this process

    Raises OnnxError for a model that cannot be read or holds unsupported nodes (all of them are named), Error for other
    arguments.
    """
    for name, value in (("threads", threads), ("jobs", jobs)):
        if value is not None and value < 1:
            raise Error(f"compile: {name} is {value}; it must be at least 1")
    started = time.perf_counter()
    jobs = jobs or default_threads()
    if target is None:
        target = host_target(usable_threads(threads or default_threads()))
    elif threads is not None:
        target = target.with_threads(threads)
    graph = prepare(model, target, shapes, accuracy)
    groups = partition(graph)
    arrangement = arrange(groups, graph.inputs, graph.outputs, list(graph.constants))
    lowered = [_lower(call, graph) for call in arrangement.calls]
    builds = _build_kernels(lowered, target, schedules, jobs)
    kernels = [builds[g.workload.key].kernel for g in lowered]

    arrangement = replace(arrangement, calls=tuple(Group("kernel", [], [*g.inputs], [*g.outputs]) for g in lowered))
    needs = [Needs(k.shared_bytes, k.thread_bytes, k.in_place) for k in kernels]
    plan = plan_memory(arrangement, needs, target.threads)
    constants = [_constants(group, arrangement, graph) for group in lowered]
    requests = [Request(a, k.params[i]) for c, k in zip(constants, kernels, strict=True) for i, a in c.items()]
    block, offsets = pack_constants(requests, jobs)
    program = _program(lowered, kernels, plan, constants, iter(offsets), graph, target)
    objects = [b.kernel.object_code for b in builds.values()]
    objects.append(cached.compile_object(emit_program(program, target), target))
    cached.trim()

    report = BuildReport(
        model=graph.name,
        target=target.name,
        threads=target.threads,
        tasks=_task_reports(lowered, builds),
        kernels=len(lowered),
        copies=sum(not g.nodes for g in lowered),
        build_s=time.perf_counter() - started,
        arena_bytes=plan.arena_bytes,
        constants_bytes=block.size,
        code_bytes=sum(map(len, objects)),
        call_nodes=tuple(g.names for g in lowered),
        view_nodes=tuple(name for g in groups if g.kind != "kernel" for n in g.nodes for name in n.names),
        accuracy=graph.accuracy,
    )
    if config.get().debug >= 1:
        print(report, file=sys.stderr)
    inputs, outputs = ([TensorSpec(v.name, v.dtype, v.shape) for v in vs] for vs in (graph.inputs, graph.outputs))
    return Executable(program, objects, block, inputs, outputs, target, report)


def prepare(
    model: ModelSource,
    target: Target,
    shapes: Mapping[str, Sequence[int]] | None = None,
    accuracy: Accuracy = "fast",
) -> Graph:
    """Import a model, simplify it and give its values layouts for ``target``; note what accuracy is asked for."""
    wanted = check_accuracy(accuracy)
    graph = run_passes(load_model(model, shapes))
    check_supported(graph)
    graph = merge_branches(assign_layouts(graph, target.lanes()), target.lanes())
    graph.accuracy = wanted
    return graph


# --------------------------------------------------------------------------------------- kernels


@dataclass(frozen=True, slots=True)
class _Build:
    kernel: Kernel
    origin: Origin
    cached: bool
    found: Found | None = None


def _lower(call: Group, graph: Graph) -> LoweredGroup:
    if call.kind == "kernel":
        return lower_group(call, graph)
    source, result = call.inputs[0], call.outputs[0]
    x = placeholder(prod(source.physical_shape), source.dtype, "x")  # a copy: the shape does not matter
    copied = compute(x.shape, lambda i: x[i], "copy")
    return LoweredGroup(workload(copied), (source,), {}, (result,), ())


def _build_kernels(
    lowered: Sequence[LoweredGroup], target: Target, schedules: Schedules | None, jobs: int
) -> dict[str, _Build]:
    """Build each distinct task once, most work first; LLVM runs outside of the interpreter lock."""
    unique: dict[str, LoweredGroup] = {}
    for group in lowered:
        unique.setdefault(group.workload.key, group)
    found = {key: schedules(g.workload, target) for key, g in unique.items()} if schedules is not None else {}

    def one(key: str) -> _Build:
        group = unique[key]
        try:
            return _build(group.workload, target, found.get(key))
        except (InternalError, ScheduleError) as error:
            raise InternalError(f"building {'+'.join(group.names) or 'a copy'}: {error}") from error

    order = sorted(unique, key=lambda key: -unique[key].workload.flops)
    if jobs == 1:
        built = {key: one(key) for key in order}
    else:
        with ThreadPoolExecutor(jobs) as pool:
            built = dict(zip(order, pool.map(one, order), strict=True))
    return {key: built[key] for key in unique}


def _build(work: Workload, target: Target, found: Found | None) -> _Build:
    started = time.perf_counter()
    build: _Build | None = None
    if found is not None and found.decisions is not None:
        try:
            build = _kernel(work, Replay(found.decisions), found.decisions, target, found.origin)
        except ScheduleError as error:  # a record of another version of the space
            warnings.warn(f"task {work.key}: the recorded schedule no longer fits: {error}", stacklevel=2)
            found = replace(found, why=f"the recorded schedule cannot be built: {error}", completed=())
    if build is None:
        build = _kernel(work, Default(), cached.DEFAULT, target, "default")
    if config.get().debug >= 2:
        source = f"{build.origin}, cached" if build.cached else build.origin
        print(f"kernel {build.kernel.symbol} ({source}): {time.perf_counter() - started:.2f} s", file=sys.stderr)
    return replace(build, found=found)


def _kernel(work: Workload, decider: Decider, recipe: cached.Recipe, target: Target, origin: Origin) -> _Build:
    """recipe: what ``decider`` does, as the cache's key."""
    kernel, known = cached.kernel_for(
        work, recipe, target, lambda: build_kernel(instantiate(work, decider, target), target)
    )
    return _Build(kernel, origin, known)


def _task_reports(lowered: Sequence[LoweredGroup], builds: Mapping[str, _Build]) -> tuple[TaskReport, ...]:
    uses = Counter(g.workload.key for g in lowered)
    first = {g.workload.key: g for g in reversed(lowered)}
    return tuple(_task_report(first[key], uses[key], build) for key, build in builds.items())


def _task_report(group: LoweredGroup, uses: int, build: _Build) -> TaskReport:
    work, kernel, found = group.workload, build.kernel, build.found
    decisions = kernel.metadata.get("decisions", {})
    return TaskReport(
        key=work.key,
        symbol=kernel.symbol,
        origin=build.origin,
        uses=uses,
        nodes=group.names,
        flops=work.flops,
        bytes_moved=work.bytes_moved,
        name=task_name(group) if group.nodes else "copy",
        algorithm=str(decisions.get("algorithm") or work.anchor.tag or ("elementwise" if group.nodes else "copy")),
        decisions=decisions,
        algorithm_flops=int(kernel.metadata.get("flops", work.flops)),
        algorithm_bytes=sum(p.size_bytes for p in kernel.params[: len(work.inputs)])
        + sum(t.size_bytes for t in work.outputs),
        cached=build.cached,
        why=found.why if found is not None else "no log was asked",
        stale=found.stale if found is not None else 0,
        completed=found.completed if found is not None else (),
    )


# --------------------------------------------------------------------------------------- program


def _constants(group: LoweredGroup, arrangement: Arrangement, graph: Graph) -> dict[int, Array]:
    """The constant arguments of one call: position -> array, those that are views of constants included."""
    found = dict(group.constants)
    for position, value in enumerate(group.inputs):
        storage = arrangement.places[value].storage
        if position not in found and storage in graph.constants:
            found[position] = graph.constants[storage].reshape(value.physical_shape)
    return found


def _program(
    lowered: Sequence[LoweredGroup],
    kernels: Sequence[Kernel],
    plan: MemoryPlan,
    constants: Sequence[Mapping[int, Array]],
    offsets: Iterator[int],
    graph: Graph,
    target: Target,
) -> Program:
    """Give every argument its address. offsets: of all constants, in the order of calls and of each one's mapping."""
    calls = []
    for k, (group, kernel) in enumerate(zip(lowered, kernels, strict=True)):
        fixed = {position: Slot("constant", 0, next(offsets)) for position in constants[k]}
        args = []
        for position, value in enumerate((*group.inputs, *group.outputs)):
            if position not in fixed and value_bytes(value) != kernel.params[position].size_bytes:
                raise InternalError(f"{kernel.symbol}: {value} is not what {kernel.params[position]} describes")
            args.append(fixed[position] if position in fixed else plan.slots[value])
        symbol, stride = kernel.symbol, plan.thread_bytes[k]
        calls.append(KernelCall(symbol, tuple(args), plan.shared[k], plan.thread[k], stride, plan.waits[k]))
    return Program(tuple(calls), len(graph.inputs), len(graph.outputs), plan.arena_bytes, target.threads)
