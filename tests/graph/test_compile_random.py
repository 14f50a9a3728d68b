"""Random models, so that views, copies, work in place and unfinished barriers meet in ways that nobody thought of."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from .nets import Net, check


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Images of 8 x 8 with 3, 16 or 32 channels through up to seven operators; any value may be an output."""
    net = Net(x=(1, 16, 8, 8), y=(1, 3, 8, 8))
    images = {"x": 16, "y": 3}
    flat: list[str] = []
    for _ in range(draw(st.integers(1, 7))):
        x = draw(st.sampled_from(sorted(images)))
        channels = images[x]
        match draw(st.sampled_from(["unary", "binary", "conv", "pool", "concat", "concat", "view", "move", "sum"])):
            case "unary":
                images[net.add(draw(st.sampled_from(["Relu", "Sigmoid", "Neg"])), x)] = channels
            case "binary":
                other = draw(st.sampled_from([n for n, c in images.items() if c == channels]))
                images[net.add(draw(st.sampled_from(["Add", "Mul", "Max"])), x, other)] = channels
            case "conv":
                outputs = draw(st.sampled_from([16, 32]))
                images[net.conv(x, channels, outputs, draw(st.sampled_from([1, 3])))] = outputs
            case "pool":
                images[net.add("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)] = channels
            case "concat":
                parts = [x, *draw(st.lists(st.sampled_from(sorted(images)), min_size=1, max_size=2))]
                if sum(images[p] for p in parts) <= 96:
                    images[net.add("Concat", *parts, axis=1)] = sum(images[p] for p in parts)
            case "view":
                flat.append(net.add("Flatten", net.add("Identity", x)))
                images[net.add("Reshape", flat[-1], net.constant(np.array([1, channels, 8, 8])))] = channels
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
