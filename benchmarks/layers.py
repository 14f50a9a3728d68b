"""The layers that :mod:`.kernels` measures: what each computes, how, and what a prototype of its kernel reached.

Each layer fixes the algorithm that computes it, by a space of its own (:func:`direct`, :func:`winograd2`,
:func:`winograd4`): the space of convolutions with that one decision taken. A log tells the records of spaces apart.

The figures are GFLOP/s (GB/s for the product with one row) of a throwaway prototype, least time and median, on one
Zen 4 core whose FMA peak was :data:`PROTOTYPE_PEAK`. They say what generated code can reach; compare parts of the peak.
Where four layers were only known together, as a range, the figure is the middle of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from luthier import te
from luthier.errors import ScheduleError
from luthier.schedule.decide import Decider, Json, to_json
from luthier.schedule.schedule import Schedule
from luthier.schedule.space import Space
from luthier.schedule.spaces.conv import conv2d
from luthier.target import Target
from luthier.te.ops.conv import conv
from luthier.te.ops.dense import matmul
from luthier.te.workload import Workload

Array = NDArray[Any]
T = TypeVar("T")

PROTOTYPE_PEAK = 117.0
"""GFLOP/s that the prototype's machine reached with nothing but fused multiply-adds, one thread."""
PROTOTYPE_READS = 30.0
"""GB/s at which it read memory."""


class Fixed(Decider):
    """Asks another decider, but leaves one option only to some decisions."""

    def __init__(self, decider: Decider, **fixed: Json) -> None:
        super().__init__()
        self.decider, self.fixed = decider, fixed

    def choose(self, name: str, options: Sequence[T], default: T, before: T | None = None) -> T:
        if name in self.fixed:
            options = [o for o in options if to_json(o) == self.fixed[name]]
            if not options:
                raise ScheduleError(f"decision {name!r} cannot be {self.fixed[name]!r} here")
            default = options[0]
        return self.decider.choose(name, options, default, before)

    def pick(self, name: str, options: Sequence[Json], default: Json) -> int:
        return self.decider.pick(name, options, default)


def direct(s: Schedule, d: Decider, target: Target) -> None:
    conv2d(s, Fixed(d, algorithm="direct"), target)


def winograd2(s: Schedule, d: Decider, target: Target) -> None:
    conv2d(s, Fixed(d, algorithm="winograd2"), target)


def winograd4(s: Schedule, d: Decider, target: Target) -> None:
    conv2d(s, Fixed(d, algorithm="winograd4"), target)


_ALGORITHMS: dict[str, Space] = {"direct": direct, "F(2,3)": winograd2, "F(4,3)": winograd4}


@dataclass(frozen=True)
class Conv:
    """A convolution of one image: square, f32, kernel // 2 pixels of padding.

    figures  the prototype's GFLOP/s at the least time and at the median
    """

    channels: int
    outputs: int
    size: int
    kernel: int
    figures: tuple[float, float]
    stride: int = 1
    groups: int = 1
    algorithm: str = "direct"

    @property
    def name(self) -> str:
        kind = "depthwise" if self.groups > 1 else self.algorithm
        return f"{kind} {self.kernel}x{self.kernel} s{self.stride} {self.channels}->{self.outputs} @{self.size}"

    @property
    def space(self) -> Space | None:
        return None if self.groups > 1 else _ALGORITHMS[self.algorithm]

    @property
    def tolerance(self) -> float:
        """Error above which a result is wrong, relative to the largest value."""
        return 1e-5 if self.algorithm == "direct" else 1e-4

    @property
    def pad(self) -> int:
        return self.kernel // 2

    def block(self, target: Target) -> int:
        """Channels lie in blocks of one vector, but for the image itself."""
        return target.lanes() if self.channels % target.lanes() == 0 else 0

    def workload(self, target: Target) -> Workload:
        block, shape = self.block(target), self.shapes()[0]
        if block:
            shape = (1, self.channels // block, *shape[2:], block)
        x = te.placeholder(shape, name="x")
        w = te.placeholder(self.shapes()[1], name="w", constant=True)
        options: dict[str, Any] = {"strides": [self.stride] * 2, "pads": [self.pad] * 4, "groups": self.groups}
        channels = {"in_channels": self.channels, "out_channels": self.outputs}
        return te.workload(conv(x, w, **channels, in_block=block, out_block=target.lanes(), **options), [x, w])

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        weight = (self.outputs, self.channels // self.groups, self.kernel, self.kernel)
        return (1, self.channels, self.size, self.size), weight

    def arrange(self, x: Array, target: Target) -> Array:
        """(1, C, H, W) into the layout that the workload reads."""
        block = self.block(target)
        if not block:
            return x
        return np.ascontiguousarray(x.reshape(1, -1, block, *x.shape[2:]).transpose(0, 1, 3, 4, 2))

    def restore(self, y: Array) -> Array:
        """(1, C / c, H, W, c) into (1, C, H, W)."""
        return y.transpose(0, 1, 4, 2, 3).reshape(1, self.outputs, *y.shape[2:4])

    def node(self) -> onnx.NodeProto:
        return helper.make_node(
            "Conv", ["x", "w"], ["y"], strides=[self.stride] * 2, pads=[self.pad] * 4, group=self.groups
        )

    def reference(self, x: Array, w: Array) -> Array:
        """The same in float64, as one matrix product for each tap."""
        p, s = self.pad, self.stride
        padded = np.pad(x[0].astype(np.float64), ((0, 0), (p, p), (p, p)))
        size = (self.size + 2 * p - self.kernel) // s + 1
        total = np.zeros((self.outputs, size, size))
        for i in range(self.kernel):
            for j in range(self.kernel):
                part = padded[:, i : i + s * size : s, j : j + s * size : s][:, :size, :size]
                tap = w[:, :, i, j].astype(np.float64)
                total += part * tap[:, :, None] if self.groups > 1 else np.tensordot(tap, part, 1)
        return total[None]


@dataclass(frozen=True)
class MatMul:
    """A matrix product with constant right-hand side, f32. figures: as for :class:`Conv`; GB/s where m is 1."""

    m: int
    n: int
    k: int
    figures: tuple[float, float]

    space = None
    tolerance = 1e-5

    @property
    def name(self) -> str:
        return f"matmul {self.m}x{self.n}x{self.k}"

    def workload(self, target: Target) -> Workload:
        a = te.placeholder((self.m, self.k), name="x")
        b = te.placeholder((self.k, self.n), name="w", constant=True)
        return te.workload(matmul(a, b), [a, b])

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.m, self.k), (self.k, self.n)

    def arrange(self, x: Array, target: Target) -> Array:
        return x

    def restore(self, y: Array) -> Array:
        return y

    def node(self) -> onnx.NodeProto:
        return helper.make_node("MatMul", ["x", "w"], ["y"])

    def reference(self, x: Array, w: Array) -> Array:
        return np.matmul(x, w, dtype=np.float64)


Layer = Conv | MatMul


def bound_by_memory(layer: Layer) -> bool:
    """Whether reading the weights takes all of the time, so that bytes are what to count."""
    return isinstance(layer, MatMul) and layer.m == 1


def _winograd(channels: int, size: int, f2: tuple[float, float], f4: tuple[float, float]) -> list[Layer]:
    return [
        Conv(channels, channels, size, 3, figures, algorithm=algorithm)
        for algorithm, figures in (("F(2,3)", f2), ("F(4,3)", f4))
    ]


_RANGE = ((229.5, 229.5), (391.0, 391.0))  # 213 to 246 and 357 to 425

LAYERS: tuple[Layer, ...] = (
    Conv(64, 64, 56, 3, (121, 118)),
    Conv(128, 128, 28, 3, (123, 121)),
    Conv(256, 256, 14, 3, (130, 128)),
    Conv(512, 512, 7, 3, (144, 141)),
    Conv(64, 256, 56, 1, (116, 115)),
    Conv(256, 64, 56, 1, (117, 117)),
    Conv(1024, 256, 14, 1, (118, 117)),
    Conv(2048, 512, 7, 1, (118, 115)),
    Conv(128, 128, 56, 3, (117, 110), stride=2),
    Conv(3, 64, 224, 7, (117, 114), stride=2),
    Conv(144, 144, 56, 3, (114, 113), groups=144),
    *_winograd(64, 56, (237, 230), (412, 405)),
    *_winograd(128, 28, (250, 245), (435, 423)),
    *_winograd(256, 14, (257, 250), (345, 314)),
    *_winograd(512, 7, (192, 178), (242, 209)),
    *_winograd(64, 224, *_RANGE),
    *_winograd(128, 112, *_RANGE),
    *_winograd(256, 56, *_RANGE),
    *_winograd(512, 28, *_RANGE),
    *_winograd(512, 14, (246, 241), (309, 299)),
    MatMul(1024, 1024, 1024, (115, 114)),
    MatMul(128, 768, 768, (118, 116)),
    MatMul(128, 3072, 768, (114, 113)),
    MatMul(128, 768, 3072, (114, 112)),
    MatMul(1, 4096, 4096, (30, 30)),
)
