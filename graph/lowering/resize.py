"""Resize: nearest, linear and cubic."""

from __future__ import annotations

from ...te.ops.resize import COORDINATES, MODES, NEAREST, Cubic, resize
from ...te.tensor import Compute
from ..ir import Node
from .context import Context, required
from .registry import lowers


def _check(node: Node) -> str | None:
    a = node.attrs
    allowed = {"mode": MODES, "coordinate_transformation_mode": COORDINATES}
    if a["mode"] == "nearest":
        allowed["nearest_mode"] = NEAREST
    for name, values in allowed.items():
        if a[name] not in values:
            return f"Resize with {name} {a[name]!r} is not supported; use one of {', '.join(values)}"
    x, roi = node.inputs[0], a.get("roi", ())
    if x is not None and roi and len(roi) != 2 * len(x.shape):
        return (
            f"Resize with a roi of {len(roi)} numbers is not supported; give the begin and the end of every dimension"
        )
    return "Resize with antialias=1 is not supported" if a.get("antialias") else None


@lowers("Resize", check=_check)
def resample(ctx: Context, node: Node) -> Compute:
    x, y, a = required(node), node.outputs[0], node.attrs
    return resize(
        ctx.operand(x),
        y.shape,
        a["scales"],
        mode=a["mode"],
        coordinates=a["coordinate_transformation_mode"],
        nearest=a["nearest_mode"] if a["mode"] == "nearest" else "floor",
        cubic=Cubic(a["cubic_coeff_a"], bool(a["exclude_outside"])),
        roi=a["roi"],
        extrapolation=a["extrapolation_value"],
        block=y.layout.block,
    )
