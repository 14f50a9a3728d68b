"""A workload: the graph of computations between given inputs and outputs; what a task computes.

Its canonical text (:mod:`.printer`) does not depend on the names that a user chose; the hash of that text
is the key under which schedules are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..errors import ExpressionError
from .tensor import Compute, Placeholder, Tensor


@dataclass(frozen=True, slots=True)
class Frame:
    """A larger buffer that holds an output: element i of the output is element ``begin + i`` of it.

    shape, begin  one entry for each dimension of the output; what lies outside of the output is not touched
    """

    shape: tuple[int, ...]
    begin: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Workload:
    """Inputs, outputs and, in dependency order, the stages between them.

    inputs   placeholders, in the order of the kernel's arguments
    outputs  computes whose values leave the kernel
    frames   where outputs lie, for those that are written into a larger buffer
    """

    inputs: tuple[Placeholder, ...]
    outputs: tuple[Compute, ...]
    frames: Mapping[Compute, Frame] = field(default_factory=dict)

    @cached_property
    def stages(self) -> tuple[Compute, ...]:
        """Every compute that the outputs need, producers first."""
        return _topological(self.outputs)

    @cached_property
    def text(self) -> str:
        """Canonical text: equal for workloads that compute the same thing in the same way."""
        from .printer import format_workload

        return format_workload(self)

    @cached_property
    def key(self) -> str:
        """Versioned hash of :attr:`text`."""
        from .printer import workload_key

        return workload_key(self)

    @cached_property
    def anchor(self) -> Compute:
        """The stage that decides the schedule: the one with the most arithmetic."""
        from .cost import flops

        return max(self.stages, key=lambda s: (flops(s), s.tag != ""))

    @cached_property
    def flops(self) -> int:
        """Floating-point operations: a multiply-add counts two; terms outside ``where`` count too."""
        from .cost import flops

        return sum(flops(s) for s in self.stages)

    @cached_property
    def bytes_moved(self) -> int:
        """Bytes of all inputs and outputs, each counted once."""
        return sum(t.size_bytes for t in (*self.inputs, *self.outputs))


def workload(
    outputs: Sequence[Compute] | Compute,
    inputs: Sequence[Placeholder] | None = None,
    frames: Mapping[Compute, Frame] | None = None,
) -> Workload:
    """Collect a workload; ``inputs`` fixes the order of arguments (default: order of first use).

    frames: outputs that the kernel writes into a larger buffer. Raises ExpressionError for arguments that do not fit.
    """
    outs = (outputs,) if isinstance(outputs, Compute) else tuple(outputs)
    if not outs:
        raise ExpressionError("workload: outputs is empty; pass at least one compute")
    for output in outs:
        if not isinstance(output, Compute):
            raise ExpressionError(f"workload: output {output!r} is not a compute; wrap it in one that copies it")
    if len(set(outs)) != len(outs):
        raise ExpressionError("workload: an output is given twice; return it once")
    found: dict[Placeholder, None] = {}
    for stage in _topological(outs):
        for t in stage.inputs():
            if isinstance(t, Placeholder):
                found[t] = None
    order = tuple(found) if inputs is None else tuple(inputs)
    for p in order:
        if not isinstance(p, Placeholder):
            raise ExpressionError(f"workload: input {p!r} is not a placeholder")
    if len(set(order)) != len(order):
        raise ExpressionError("workload: an input is given twice; pass each placeholder once")
    missing = [t.name for t in found if t not in order]
    if missing:
        raise ExpressionError(f"workload: inputs lacks {', '.join(missing)}, which the outputs read")
    for output, frame in (frames or {}).items():
        _check_frame(output, frame, outs)
    return Workload(order, outs, dict(frames or {}))


def _check_frame(output: Compute, frame: Frame, outputs: Sequence[Compute]) -> None:
    if output not in outputs:
        raise ExpressionError(f"workload: frames holds {output!r}, which is no output")
    if len(frame.shape) != len(output.shape) or len(frame.begin) != len(output.shape):
        raise ExpressionError(f"workload: {frame} must have one entry for each dimension of {output!r}")
    if any(b < 0 or b + n > size for b, n, size in zip(frame.begin, output.shape, frame.shape, strict=True)):
        raise ExpressionError(f"workload: {output!r} does not lie inside of its frame {frame}")


def _topological(outputs: Sequence[Compute]) -> tuple[Compute, ...]:
    done: dict[Compute, None] = {}
    stack: list[tuple[Tensor, bool]] = [(t, False) for t in reversed(outputs)]
    while stack:
        tensor, expanded = stack.pop()
        if isinstance(tensor, Placeholder) or tensor in done:
            continue
        if expanded:
            done[tensor] = None
        else:
            stack.append((tensor, True))
            stack.extend((t, False) for t in reversed(tensor.inputs()))
    return tuple(done)
