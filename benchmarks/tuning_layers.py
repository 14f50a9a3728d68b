"""Single layers as models have them, for studies of tuning: a convolution or a matrix product with bias and activation.

They are written as the graph's lowering writes them (channels in blocks of one vector; in one block where groups would
cut vectors), so that a log made with them serves models too.
"""

from __future__ import annotations

from dataclasses import dataclass

from luthier import te
from luthier.target import Target
from luthier.te.ops.conv import conv
from luthier.te.ops.dense import matmul
from luthier.te.tensor import Compute
from luthier.te.workload import Workload
from luthier.tuner.task import TuningTask


@dataclass(frozen=True)
class Conv:
    """A convolution of one square image, f32, ``kernel // 2`` pixels of padding, with bias and ReLU."""

    channels: int
    outputs: int
    size: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        kind = "depthwise" if self.groups == self.channels else f"groups{self.groups}" if self.groups > 1 else "conv"
        return f"{kind} {self.kernel}x{self.kernel} s{self.stride} {self.channels}->{self.outputs} @{self.size}"

    def workload(self, target: Target) -> Workload:
        lanes = target.lanes()
        ragged = (
            any(n // self.groups % lanes for n in (self.channels, self.outputs)) and 1 < self.groups < self.channels
        )
        block = self.channels if ragged else lanes if self.channels % lanes == 0 else 0
        out_block = self.outputs if ragged else lanes
        shape = (
            (1, self.channels // block, self.size, self.size, block) if block else (1, self.channels, *[self.size] * 2)
        )
        x = te.placeholder(shape, name="x")
        weight = (self.outputs, self.channels // self.groups, self.kernel, self.kernel)
        w = te.placeholder(weight, name="w", constant=True)
        b = te.placeholder((1, -(-self.outputs // out_block), 1, 1, out_block), name="b", constant=True)
        y = conv(
            x,
            w,
            strides=[self.stride] * 2,
            pads=[self.kernel // 2] * 4,
            groups=self.groups,
            in_channels=self.channels,
            out_channels=self.outputs,
            in_block=block,
            out_block=out_block,
        )
        biased = te.compute(
            y.shape, lambda n, co, h, v, ci: y[n, co, h, v, ci] + b[n, co, 0, 0, ci], "biased", tag="injective"
        )
        return te.workload(_rectified(biased), [x, w, b])


@dataclass(frozen=True)
class Product:
    """A matrix product with constant right-hand side and bias, f32; transposed: stored (n, k), as Gemm has it."""

    m: int
    n: int
    k: int
    transposed: bool = False

    @property
    def name(self) -> str:
        return f"matmul {self.m}x{self.n}x{self.k}{' transposed' if self.transposed else ''}"

    def workload(self, target: Target) -> Workload:
        x = te.placeholder((self.m, self.k), name="x")
        w = te.placeholder((self.n, self.k) if self.transposed else (self.k, self.n), name="w", constant=True)
        b = te.placeholder(self.n, name="b", constant=True)
        y = matmul(x, w, trans_b=self.transposed)
        biased = te.compute(y.shape, lambda i, j: y[i, j] + b[j], "biased", tag="injective")
        return te.workload(biased, [x, w, b])


Layer = Conv | Product

MODEL_BYTES = 100_000_000
"""Constants of the model that the layers are taken to be part of: as in most models, more than the caches hold."""


def task(layer: Layer, target: Target) -> TuningTask:
    """The layer as a task of a model: its weights come from memory, so that times are those of deployed layers."""
    return TuningTask(layer.workload(target), layer.name, constants_bytes=MODEL_BYTES)


def _rectified(x: Compute) -> Compute:
    return te.compute(x.shape, lambda *i: te.maximum(x[i], 0.0), "y", tag="injective")
