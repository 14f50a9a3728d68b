"""What kind of operator a node is: the sets that layout assignment and fusion share."""

from __future__ import annotations

from .ir import Layout, Node, Value

UNARY = frozenset(
    "Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus "
    "Softsign Sqrt Swish Tan Tanh ThresholdedRelu".split()
)
NARY = frozenset(
    "Add And BitShift Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum "
    "Where Xor".split()
)
PER_CHANNEL = frozenset({"BatchNormalization", "ScaleShift"})
"""One affine map per channel: the first input is the data."""

ELEMENTWISE = UNARY | NARY | PER_CHANNEL
"""Each element of the output depends on one element of each input."""

POOLS = frozenset({"AveragePool", "LpPool", "MaxPool"})
GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"})
RESHAPES = frozenset({"Dropout", "Flatten", "Identity", "PhysicalFlatten", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that return their input's elements in the same order."""


def is_depthwise(node: Node) -> bool:
    """Whether ``node`` is a convolution of each channel by itself."""
    x, y = node.inputs[0], node.outputs[0]
    return node.op == "Conv" and x is not None and node.attrs["group"] == x.shape[1] == y.shape[1] > 1


def same_memory(shape: tuple[int, ...], a: Layout, b: Layout) -> bool:
    """Whether a tensor of ``shape`` lies in memory in the same way in both layouts."""
    if a == b:
        return True
    return (
        len(shape) >= 2
        and all(s == 1 for s in shape[2:])
        and all(not layout.block or shape[1] % layout.block == 0 for layout in (a, b))
    )


def is_view(node: Node) -> bool:
    """Whether ``node`` returns its input's memory under another shape or layout."""
    x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
    if x is None:
        return False
    if node.op == "LayoutConvert":
        return same_memory(x.shape, x.layout, y.layout)
    return node.op in RESHAPES


def data_inputs(node: Node) -> list[Value]:
    """The inputs that an elementwise node reads element by element (not the vectors of per-channel operators)."""
    inputs = node.inputs[:1] if node.op in PER_CHANNEL else node.inputs
    return [v for v in inputs if v is not None]
