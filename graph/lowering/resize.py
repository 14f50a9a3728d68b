"""Resize, nearest and linear."""

from __future__ import annotations

from ...te.ops.resize import COORDINATES, NEAREST, resize
from ...te.tensor import Compute
from ..ir import Node
from .context import Context
from .registry import lowers


def _check(node: Node) -> str | None:
    a = node.attrs
    if a["mode"] not in ("nearest", "linear"):
        return f"Resize with mode {a['mode']!r} is not supported; use nearest or linear"
    if a["coordinate_transformation_mode"] not in COORDINATES:
        return f"Resize with coordinate_transformation_mode {a['coordinate_transformation_mode']!r} is not supported"
    if a["mode"] == "nearest" and a["nearest_mode"] not in NEAREST:
        return f"Resize with nearest_mode {a['nearest_mode']!r} is not supported"
    if a.get("antialias"):
        return "Resize with antialias=1 is not supported"
    return None


@lowers("Resize", check=_check)
def resample(ctx: Context, node: Node) -> Compute:
    x, y, a = node.inputs[0], node.outputs[0], node.attrs
    assert x is not None
    return resize(
        ctx.operand(x),
        y.shape,
        a["scales"],
        mode=a["mode"],
        coordinates=a["coordinate_transformation_mode"],
        nearest=a["nearest_mode"] if a["mode"] == "nearest" else "floor",
        block=y.layout.block,
    )
