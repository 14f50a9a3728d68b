"""Sliding windows: where the taps of a convolution or a pooling fall on its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import ExpressionError
from ..expr import Axis, Expr, Var, maximum, minimum
from ..tensor import Attr, reduce_axis


@dataclass(frozen=True, slots=True)
class Window:
    """Spatial sizes of a sliding window, one entry per spatial dimension. ``after`` is the padding behind the
    input."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.inputs)

    def attrs(self) -> dict[str, Attr]:
        """What a space function needs to know of the window."""
        return {
            "kernel": self.kernel,
            "strides": self.strides,
            "pads": (*self.before, *self.after),
            "dilations": self.dilations,
        }

    def axes(self) -> tuple[Axis, ...]:
        """Fresh reduction axes over the taps."""
        names = {1: ("kw",), 2: ("kh", "kw"), 3: ("kd", "kh", "kw")}.get(self.rank)
        names = names or tuple(f"k{d}" for d in range(self.rank))
        return tuple(reduce_axis(k, name) for k, name in zip(self.kernel, names, strict=True))

    def position(self, d: int, output: Expr, tap: Expr) -> Expr:
        """The input index under a tap, in dimension ``d``; negative or too large on padding."""
        return output * self.strides[d] + tap * self.dilations[d] - self.before[d]

    def positions(self, output: Sequence[Expr], taps: Sequence[Axis]) -> list[Expr]:
        """The input indices under the taps."""
        return [self.position(d, output[d], taps[d].var) for d in range(self.rank)]

    def last(self, d: int) -> int:
        """The largest input index under any tap."""
        return (self.outputs[d] - 1) * self.strides[d] + (self.kernel[d] - 1) * self.dilations[d] - self.before[d]

    def overhangs(self, d: int) -> bool:
        """Whether some tap in dimension ``d`` falls outside of the input."""
        return self.outputs[d] > 0 and (self.before[d] > 0 or self.last(d) >= self.inputs[d])

    def inside(self, output: Sequence[Expr], taps: Sequence[Axis]) -> list[Expr | None]:
        """The conditions under which a tap falls on the input: only those that may fail."""
        conditions: list[Expr | None] = []
        for d, position in enumerate(self.positions(output, taps)):
            if self.before[d] > 0:
                conditions.append(position >= 0)
            if self.last(d) >= self.inputs[d]:
                conditions.append(position < self.inputs[d])
        return conditions


def window(
    inputs: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    *,
    outputs: Sequence[int] | None = None,
) -> Window:
    """Make a window over ``inputs``, filling in defaults (stride 1, dilation 1, no padding).

    pads     all begins, then all ends
    outputs  spatial sizes of the result (default: as many windows as fit)

    Errors: ExpressionError for a length or a value that is not allowed.
    """
    rank = len(inputs)
    strides, dilations = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    pads = tuple(pads or (0,) * (2 * rank))
    for what, values, low in (("kernel", kernel, 1), ("strides", strides, 1), ("dilations", dilations, 1)):
        if len(values) != rank or any(v < low for v in values):
            raise ExpressionError(f"{what} is {tuple(values)}, but must be {rank} numbers of at least {low}")
    if len(pads) != 2 * rank or any(p < 0 for p in pads):
        raise ExpressionError(f"pads is {pads}, but must be {2 * rank} non-negative numbers: all begins, then all ends")
    before, after = pads[:rank], pads[rank:]
    if outputs is None:
        outputs = [
            max((size + before[d] + after[d] - ((kernel[d] - 1) * dilations[d] + 1)) // strides[d] + 1, 0)
            for d, size in enumerate(inputs)
        ]
    return Window(tuple(inputs), tuple(outputs), tuple(kernel), strides, dilations, before, after)


def tap_count(w: Window, d: int, output: Var | Expr, count_padding: bool) -> Expr | int:
    """How many taps of a window lie on the input (with ``count_padding``: on the input or its padding) in dimension
    ``d``."""

    begin = output * w.strides[d]
    size = w.inputs[d]
    if count_padding:
        size += w.before[d] + w.after[d]
        if w.last(d) + w.before[d] < size:
            return w.kernel[d]
    elif not w.overhangs(d):
        return w.kernel[d]
    else:
        begin = begin - w.before[d]
    step = w.dilations[d]
    first = maximum(0 - begin, 0)
    skipped = first if step == 1 else (first + (step - 1)) // step
    return minimum(((size - 1) - begin) // step, w.kernel[d] - 1) - skipped + 1
