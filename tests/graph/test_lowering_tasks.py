"""Tasks: one for each distinct workload, weighted by use, with names that people can read."""

import numpy as np
import pytest

from luthier.graph.ir import Graph, Group, Layout, Node, Value
from luthier.graph.lowering import lower_group
from luthier.graph.tasks import extract_tasks, task_name


def conv(name, x_shape, outputs, kernel=3, stride=1, group=1, dilation=1, relu=True):
    """A lowered convolution, with ReLU."""
    pad = dilation * (kernel - 1) // 2
    size = [(n + 2 * pad - (kernel - 1) * dilation - 1) // stride + 1 for n in x_shape[2:]]
    block = Layout(16)
    x = Value(f"x{name}", "float32", x_shape, block)
    y, z = (Value(f"{v}{name}", "float32", (x_shape[0], outputs, *size), block) for v in "yz")
    w = Value(f"w{name}", "float32", (outputs, x_shape[1] // group, kernel, kernel))
    attrs = {
        "kernel_shape": (kernel, kernel),
        "strides": (stride, stride),
        "pads": (pad,) * 4,
        "dilations": (dilation, dilation),
        "group": group,
    }
    nodes = [Node("Conv", [x, w, None], [y], attrs, (f"conv{name}",))]
    if relu:
        nodes.append(Node("Relu", [y], [z], {}, (f"relu{name}",)))
    graph = Graph([x], [z], nodes, {w: np.zeros(w.shape, np.float32)})
    return lower_group(Group("kernel", nodes, [x, w], list(nodes[-1].outputs)), graph)


def test_equal_workloads_are_one_task():
    groups = [
        conv("a", (1, 64, 28, 28), 64),
        conv("b", (1, 64, 28, 28), 128),
        conv("c", (1, 64, 28, 28), 64),
        conv("d", (1, 64, 28, 28), 64, relu=False),
    ]
    tasks = extract_tasks(groups)
    assert [t.name for t in tasks] == [
        "conv2d_3x3_s1_64x28x28_64+relu",
        "conv2d_3x3_s1_64x28x28_128+relu",
        "conv2d_3x3_s1_64x28x28_64",
    ]
    assert [t.uses for t in tasks] == [2, 1, 1]
    assert tasks[0].nodes == ("conva", "relua", "convc", "reluc")
    assert tasks[0].key == groups[2].workload.key
    assert len({t.key for t in tasks}) == 3
    assert sum(t.uses * t.flops for t in tasks) == sum(g.workload.flops for g in groups)
    assert tasks[0].flops >= 2 * 28 * 28 * 64 * 64 * 9


@pytest.mark.parametrize(
    "group,name",
    [
        (conv("a", (1, 32, 8, 8), 32, group=2, stride=2), "conv2d_3x3_s2_g2_32x4x4_32+relu"),
        (conv("a", (1, 32, 8, 8), 32, group=32), "depthwise_conv2d_3x3_s1_32x8x8+relu"),
        (conv("a", (1, 32, 8, 8), 16, dilation=2, relu=False), "conv2d_3x3_s1_d2_32x8x8_16"),
    ],
)
def test_names_of_convolutions(group, name):
    assert task_name(group) == name


def lowered(op, inputs, shape, **attrs):
    xs = [Value(f"x{i}", "float32", s) for i, s in enumerate(inputs)]
    y = Value("y", "float32", shape)
    node = Node(op, list(xs), [y], attrs, (op,))
    return lower_group(Group("kernel", [node], xs, [y]), Graph(xs, [y], [node], {}))


def test_names_of_others():
    window = {"kernel_shape": (3, 2), "strides": (2, 1), "pads": (0,) * 4, "dilations": (1, 1), "ceil_mode": 0}
    assert task_name(lowered("MaxPool", [(1, 4, 9, 9)], (1, 4, 4, 8), **window)) == "pool_3x2_s2x1_4x4x8"
    assert task_name(lowered("Gemm", [(2, 8), (8, 4)], (2, 4))) == "matmul_2x4x8"
    assert task_name(lowered("MatMul", [(3, 2, 8), (8, 4)], (3, 2, 4))) == "matmul_3x2x4x8"
    assert task_name(lowered("Softmax", [(1, 10)], (1, 10), axis=1, flatten=False)) == "softmax_1x10"
    assert task_name(lowered("Identity", [()], ())) == "identity_scalar"
