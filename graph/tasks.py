"""Tasks: the distinct workloads of a model, with how often each is used. What a tuner spends its time on.

Comes in: lowered groups, in execution order. Goes out: a list of :class:`Task`, one for each workload key, in order
of first use.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..te.tensor import Attr, Compute
from ..te.workload import Workload
from .ir import Node
from .lowering import LoweredGroup

_SILENT = frozenset({"Identity", "Dropout", "LayoutConvert"})
"""Operators that are not worth a mention beside others."""


@dataclass(frozen=True, eq=False)
class Task:
    """One workload to find a schedule for.

    key       the workload's canonical hash, under which its schedules are stored
    workload  what to compute
    name      for people: ``conv2d_3x3_s1_64x56x56_64+relu``
    uses      how many kernels of the model are this workload
    flops     floating-point operations of one use
    nodes     ONNX names of the nodes of all uses
    """

    key: str
    workload: Workload
    name: str
    uses: int
    flops: int
    nodes: tuple[str, ...]


def extract_tasks(groups: Iterable[LoweredGroup]) -> list[Task]:
    """The distinct workloads of ``groups``, in order of first use."""
    found: dict[str, list[LoweredGroup]] = {}
    for group in groups:
        found.setdefault(group.workload.key, []).append(group)
    return [
        Task(
            key,
            same[0].workload,
            task_name(same[0]),
            len(same),
            same[0].workload.flops,
            tuple(name for group in same for name in group.names),
        )
        for key, same in found.items()
    ]


def task_name(group: LoweredGroup) -> str:
    """A short name: the anchor's operator and sizes, what is computed before and after it, and what
    it is written into."""
    frames = [f"_in_{_sizes(f.shape)}" for f in group.workload.frames.values()]
    return "".join([_computed(group), *frames])


def _computed(group: LoweredGroup) -> str:
    anchor = group.workload.anchor
    ops = [n.op for n in group.nodes]
    if not anchor.attrs:
        kept = [op.lower() for op in ops if op not in _SILENT] or [ops[-1].lower()]
        return f"{'+'.join(_counted(kept))}_{_sizes(group.workload.outputs[0].shape)}"
    at = _anchor_position(group.nodes, anchor)
    before = [op.lower() for op in ops[:at] if op not in _SILENT]
    after = [op.lower() for op in ops[at + 1 :] if op not in _SILENT]
    return "+".join([*_counted(before), _anchor_name(anchor), *_counted(after)])


def _anchor_position(nodes: tuple[Node, ...], anchor: Compute) -> int:
    family = {"conv": ("Conv", "ConvTranspose"), "matmul": ("Gemm", "MatMul"), "pool": ("Pool",)}
    wanted = next((ops for part, ops in family.items() if part in anchor.tag), ())
    return next((i for i, n in enumerate(nodes) if n.op.endswith(wanted)), len(nodes) - 1) if wanted else len(nodes) - 1


def _anchor_name(anchor: Compute) -> str:
    a = anchor.attrs
    if anchor.tag == "matmul":
        batch = f"{a['batch']}x" if a["batch"] != 1 else ""
        return f"matmul_{batch}{a['m']}x{a['n']}x{a['k']}"
    parts = [anchor.tag, _sizes(_ints(a["kernel"])), f"s{_same(_ints(a['strides']))}"]
    dilations = _ints(a["dilations"])
    if any(d != 1 for d in dilations):
        parts.append(f"d{_same(dilations)}")
    if "out_channels" not in a:
        return "_".join([*parts, _sizes(anchor.shape[1:])])
    groups, depthwise = int(str(a["groups"])), anchor.tag.startswith("depthwise")
    if groups > 1 and not depthwise:
        parts.append(f"g{groups}")
    spatial = anchor.shape[2:-1] if a["out_block"] else anchor.shape[2:]
    parts.append(f"{a['in_channels']}x{_sizes(spatial)}")
    if not depthwise:
        parts.append(str(a["out_channels"]))
    return "_".join([*parts, "exact"] if a.get("accuracy") == "exact" else parts)


def _ints(value: Attr) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, tuple) else ()


def _sizes(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes)) or "scalar"


def _same(values: tuple[int, ...]) -> str:
    """``2`` for (2, 2), ``2x1`` for (2, 1)."""
    return str(values[0]) if len(set(values)) == 1 else _sizes(values)


def _counted(ops: list[str]) -> list[str]:
    """Name repeated operators once, with their number: relu, add, add -> relu, add2."""
    runs: list[tuple[str, int]] = []
    for op in ops:
        if runs and runs[-1][0] == op:
            runs[-1] = (op, runs[-1][1] + 1)
        else:
            runs.append((op, 1))
    return [op if n == 1 else f"{op}{n}" for op, n in runs]
