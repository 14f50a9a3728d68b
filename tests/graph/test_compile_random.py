"""Random models, so that views, copies, work in place and unfinished barriers meet in ways that nobody thought of."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from .nets import Net, check

ALL = "unary binary conv pool concat concat joint cut branches view move sum"
MODULES = "branches joint cut concat conv pool"


@st.composite
def models(draw: st.DrawFn, kinds: str = ALL, least: int = 1) -> onnx.ModelProto:
    """Images of 8 x 8, one or two, through up to seven operators of ``kinds``; any value may be an output."""
    batch = draw(st.sampled_from([1, 1, 2]))
    net = Net(x=(batch, 16, 8, 8), y=(batch, 3, 8, 8))
    images = {"x": 16, "y": 3}
    flat: list[str] = []
    for _ in range(draw(st.integers(least, 7))):
        x = draw(st.sampled_from(sorted(images)))
        channels = images[x]
        match draw(st.sampled_from(kinds.split())):
            case "unary":
                images[net.add(draw(st.sampled_from(["Relu", "Sigmoid", "Neg"])), x)] = channels
            case "binary":
                other = draw(st.sampled_from([n for n, c in images.items() if c == channels]))
                images[net.add(draw(st.sampled_from(["Add", "Mul", "Max"])), x, other)] = channels
            case "conv":
                outputs = draw(st.sampled_from([16, 48]))
                images[net.conv(x, channels, outputs, draw(st.sampled_from([1, 3])))] = outputs
            case "pool":
                images[net.add("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)] = channels
            case "concat":
                parts = [x, *draw(st.lists(st.sampled_from(sorted(images)), min_size=1, max_size=2))]
                if sum(images[p] for p in parts) <= 128:
                    images[net.add("Concat", *parts, axis=1)] = sum(images[p] for p in parts)
            case "joint" if channels <= 32:  # parts that are made for nothing else
                outputs = draw(st.sampled_from([5, 16]))
                parts = [net.add("Sigmoid", x), net.conv(x, channels, outputs), net.add("Neg", x)]
                images[net.add("Concat", *parts, axis=1)] = 2 * channels + outputs
            case "cut" if channels > 1:
                begin = draw(st.sampled_from([b for b in (0, 1, 16) if b < channels]))
                end = draw(st.sampled_from([e for e in (begin + 1, begin + 16, channels) if e <= channels]))
                images[net.add("Slice", x, *(net.constant(np.array([v])) for v in (begin, end, 1)))] = end - begin
            case "branches":  # of a value that others may read as well
                stem, sizes = net.conv(x, channels, 48, 1), draw(st.permutations([16, 8, 5]))
                images[stem] = 48
                first, *others = [net.add("Relu", net.conv(stem, 48, size, 1)) for size in sizes]
                parts = [first, *(net.conv(o, size, 16) for o, size in zip(others, sizes[1:], strict=True))]
                parts.append(net.add("MaxPool", stem, kernel_shape=[3, 3], pads=[1] * 4))
                if draw(st.booleans()):
                    images[others[0]] = sizes[1]
                images[net.add("Concat", *parts, axis=1)] = sizes[0] + 80
            case "view":
                flat.append(net.add("Flatten", net.add("Identity", x)))
                images[net.add("Reshape", flat[-1], net.constant(np.array([batch, channels, 8, 8])))] = channels
            case "move":
                images[net.add("Transpose", x, perm=[0, 1, 3, 2])] = channels
            case "sum":
                mean = net.add("GlobalAveragePool", x)
                images[net.add("Mul", x, mean)] = channels
    made = [n for n in (*images, *flat) if n not in ("x", "y")] or [net.add("Relu", "x")]
    return net.model(*draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True)))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(models(), st.integers(1, 2))
def test_random_models_compute_what_onnx_says(model: onnx.ModelProto, threads: int) -> None:
    check(model, threads=threads)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(models(MODULES, 3), st.integers(1, 2))
def test_random_branches_and_parts_compute_what_onnx_says(model: onnx.ModelProto, threads: int) -> None:
    check(model, threads=threads)
