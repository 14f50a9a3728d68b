"""Where another engine spends its time, layer by layer, by that engine's own profiler.

Comes in: an ONNX model. Goes out: a :class:`PeerProfile`, whose layers carry the names of the ONNX nodes that they
compute, so that :mod:`.layers` can put them beside Luthier's kernels. Engines fuse and rename nodes; how names are
found again is in :class:`Names`. Nodes without a name get the one of Luthier's importer before an engine sees them.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from .peers import Feed, PeerError
from .peers.runtimes import compile_with_openvino
from .runtime.profile import repetitions

Shapes = Mapping[str, Sequence[int]]

_EPILOGUES = frozenset(
    "Add BatchNormalization Clip Elu Gelu HardSigmoid HardSwish LeakyRelu Mul PRelu Relu Sigmoid Sub Sum Tanh".split()
)
"""Operators that engines compute as they store the result of what is before them."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Something that an engine runs. nodes: the ONNX nodes that it computes, as far as they could be found."""

    name: str
    op: str
    median_s: float
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class PeerSpan:
    """One layer in one run: seconds since the run began."""

    name: str
    op: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class PeerProfile:
    """The layers of an engine in order of execution, medians over ``rounds`` runs; timeline: one run, where known."""

    engine: str
    layers: tuple[Layer, ...]
    rounds: int
    timeline: tuple[PeerSpan, ...] = ()


def profile_peer(engine: str, model: Path, threads: int, shapes: Shapes, feed: Feed, rounds: int | None) -> PeerProfile:
    """Profile ``engine`` (one of :data:`PROFILERS`) on ``model``. Raises PeerError."""
    if engine not in PROFILERS:
        raise PeerError(f"{engine} has no profile of its layers; the engines that have one: {', '.join(PROFILERS)}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            proto = onnx.load(model)
            if name_nodes(proto):
                model = Path(folder) / "named.onnx"
                onnx.save(proto, model)
            names = Names(proto)
            del proto
            return PROFILERS[engine](model, threads, shapes, feed, rounds, names, Path(folder))
    except ImportError:
        raise PeerError(f"{engine} is not installed; pip install {engine}, or leave it out") from None
    except Exception as error:  # whatever an engine raises for a model that it cannot run
        raise PeerError(f"{engine} cannot profile the model: {error}") from error


def name_nodes(model: onnx.ModelProto) -> bool:
    """Give nodes without a name the one that the importer gives them; return whether there were any."""
    found = False
    for index, node in enumerate(model.graph.node):
        if not node.name:
            node.name, found = f"{node.op_type}_{index}", True
    return found


class Names:
    """Finds the ONNX nodes behind the names of an engine's layers."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = [(n.name, n.op_type, list(n.input), list(n.output)) for n in model.graph.node]
        self.makers = {tensor: name for name, _, _, outputs in self.nodes for tensor in outputs if tensor}
        self.known = {name for name, *_ in self.nodes}
        self._longest_first = sorted({*self.known, *self.makers}, key=lambda n: (-len(n), n))

    def exactly(self, names: Iterable[str]) -> set[str]:
        """The nodes that are called so, or make a tensor that is."""
        return {n if n in self.known else self.makers[n] for n in names if n in self.known or n in self.makers}

    def within(self, text: str) -> set[str]:
        """The node whose name, or whose tensor's name, is the longest inside of ``text``; whole words only."""
        for name in self._longest_first:
            if (
                name in text
                and not name.isdigit()
                and re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", text)
            ):
                return {name if name in self.known else self.makers[name]}
        return set()

    def with_absorbed(self, claims: Sequence[set[str]]) -> list[frozenset[str]]:
        """Add to what each layer is known to compute the nodes that nobody claims and that it must have absorbed.

        claims: for each layer, in order of execution, nodes whose outputs it is known to make. An elementwise node
        whose operands are all claimed was fused into the last layer that makes one of them; any other node into the
        layer that computes all of its readers, if there is one.
        """
        owners: dict[str, int] = {}
        for number, claimed in enumerate(claims):
            for name in claimed:
                owners.setdefault(name, number)
        readers: dict[str, set[str]] = defaultdict(set)
        for name, op, inputs, _ in self.nodes:
            makers = [self.makers[tensor] for tensor in inputs if tensor in self.makers]
            for maker in makers:
                readers[maker].add(name)
            if name not in owners and op in _EPILOGUES and makers and all(maker in owners for maker in makers):
                owners[name] = max(owners[maker] for maker in makers)
        for name, *_ in reversed(self.nodes):
            if name not in owners:
                found = {owners.get(reader, -1) for reader in readers[name]}
                if len(found) == 1 and -1 not in found:
                    owners[name] = found.pop()
        groups: dict[int, set[str]] = defaultdict(set)
        for name, owner in owners.items():
            groups[owner].add(name)
        return [frozenset(claimed | groups[number]) for number, claimed in enumerate(claims)]


# ------------------------------------------------------------------------------------- ONNX Runtime


def _onnxruntime(
    model: Path, threads: int, shapes: Shapes, feed: Feed, rounds: int | None, names: Names, folder: Path
) -> PeerProfile:
    import onnxruntime

    optimized = folder / "optimized.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.optimized_model_filepath = str(optimized)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    session.run(None, dict(feed))
    for _ in repetitions(rounds):
        session.run(None, dict(feed))
    runs = _runs(json.loads(Path(session.end_profiling()).read_text()))[1:]
    graph = onnx.load(optimized, load_external_data=False).graph
    outputs = {n.name: list(n.output) for n in graph.node}
    order = [(_layer_name(event), event["args"].get("op_name", "")) for event in runs[0]]
    times = [[event["dur"] / 1e6 for event in run] for run in runs if len(run) == len(order)]
    claims = [names.exactly([name, *outputs.get(name, ())]) or names.within(name) for name, _ in order]
    nodes = names.with_absorbed(claims)
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    layers = tuple(Layer(*what, s, found) for what, s, found in zip(order, medians, nodes, strict=True))
    totals = sorted((sum(e["dur"] for e in run), position) for position, run in enumerate(runs))
    return PeerProfile("onnxruntime", layers, len(runs), tuple(_timeline(runs[totals[len(totals) // 2][1]])))


def _runs(events: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The node events of each run in order of time, without those inside of another (a loop's body)."""
    whole = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == "model_run")
    runs: list[list[Mapping[str, Any]]] = [[] for _ in whole]
    starts = [begin for begin, _ in whole]
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    for event in sorted(nodes, key=lambda e: (e["ts"], -e["dur"])):
        position = bisect_right(starts, event["ts"]) - 1
        if position < 0 or event["ts"] > whole[position][1]:
            continue
        last = runs[position][-1] if runs[position] else None
        if last is None or event["ts"] + event["dur"] >= last["ts"] + last["dur"]:
            runs[position].append(event)
    return runs


def _layer_name(event: Mapping[str, Any]) -> str:
    return str(event["name"]).removesuffix("_kernel_time")


def _timeline(run: Sequence[Mapping[str, Any]]) -> Iterator[PeerSpan]:
    for e in run:
        begin = (e["ts"] - run[0]["ts"]) / 1e6
        yield PeerSpan(_layer_name(e), str(e["args"].get("op_name", "")), begin, begin + e["dur"] / 1e6)


# ----------------------------------------------------------------------------------------- OpenVINO


def _openvino(
    model: Path, threads: int, shapes: Shapes, feed: Feed, rounds: int | None, names: Names, folder: Path
) -> PeerProfile:
    import openvino

    compiled = compile_with_openvino(model, threads, shapes, PERF_COUNT=True)
    request = compiled.create_infer_request()
    request.infer(dict(feed))
    times: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, str] = {}
    count = 0
    for _ in repetitions(rounds):
        request.infer(dict(feed), share_inputs=True, share_outputs=True)
        for info in request.get_profiling_info():
            if info.status == openvino.ProfilingInfo.Status.EXECUTED:
                times[info.node_name].append(info.real_time.total_seconds())
                kinds[info.node_name] = info.node_type
        count += 1
    originals = {op.get_friendly_name(): _originals(op) for op in compiled.get_runtime_model().get_ordered_ops()}
    claims = [names.exactly(originals.get(name, ())) or names.within(name) for name in times]
    layers = tuple(
        Layer(name, kinds[name], statistics.median(run_s), nodes)
        for (name, run_s), nodes in zip(times.items(), names.with_absorbed(claims), strict=True)
    )
    return PeerProfile("openvino", layers, count)


def _originals(op: Any) -> list[str]:
    """The names of the model's own layers that an operator of the compiled network stands for."""
    info = op.get_rt_info()
    if "originalLayersNames" not in info:
        return []
    value = info["originalLayersNames"]
    return str(getattr(value, "value", value)).split(",")


PROFILERS: dict[str, Callable[[Path, int, Shapes, Feed, int | None, Names, Path], PeerProfile]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
