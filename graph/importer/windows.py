"""The internal form of operators that slide a window: convolution and pooling.

Conv           x, w, b|None; kernel_shape, strides, dilations, pads (all begins, then all ends), group
ConvTranspose  the same and output_padding; pads as derived from output_shape or auto_pad, where given
MaxPool        x; kernel_shape, strides, dilations, pads, ceil_mode
AveragePool    the same and count_include_pad
LpPool         the same as MaxPool and p

``auto_pad`` is always resolved to numbers.
"""

from __future__ import annotations

from ...errors import OnnxError
from ..shapes import same_pads
from .site import Site


def normalize_conv(site: Site) -> None:
    """Fill in kernel_shape from the weights, and every default."""
    x, w = site.required(0), site.required(1)
    if len(x.shape) < 3 or len(w.shape) != len(x.shape):
        raise OnnxError(f"data of shape {list(x.shape)} and weights of shape {list(w.shape)} do not make a convolution")
    group = int(site.attrs.get("group", 1))
    if x.shape[1] != w.shape[1] * group:
        raise OnnxError(f"{x.shape[1]} input channels, but the weights {list(w.shape)} take {group} x {w.shape[1]}")
    if w.shape[0] % group:
        raise OnnxError(f"{w.shape[0]} output channels do not divide into {group} groups")
    kernel, strides, dilations, pads = _window(site, tuple(w.shape[2:]))
    if kernel != tuple(w.shape[2:]):
        raise OnnxError(f"kernel_shape {list(kernel)} contradicts the weights' shape {list(w.shape)}")
    inputs = [*site.inputs, None][:3]
    site.become("Conv", 3, kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads, group=group)
    site.inputs = inputs


def normalize_conv_transpose(site: Site) -> None:
    """Resolve output_shape and auto_pad to pads."""
    x, w = site.required(0), site.required(1)
    spatial, kernel = x.shape[2:], tuple(w.shape[2:])
    n = len(spatial)
    extra = tuple(int(v) for v in site.attrs.get("output_padding") or (0,) * n)
    _, strides, dilations, pads = _window(site, kernel, resolve=False)
    wanted = site.attrs.get("output_shape")
    auto = site.attrs.get("auto_pad", "NOTSET")
    if wanted or auto in ("SAME_UPPER", "SAME_LOWER"):
        sizes = tuple(wanted)[-n:] if wanted else tuple(s * d for s, d in zip(spatial, strides, strict=True))
        begins, ends = [], []
        for i in range(n):
            total = strides[i] * (spatial[i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - int(sizes[i])
            small, large = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
            begins.append(small if auto == "SAME_UPPER" else large)
            ends.append(large if auto == "SAME_UPPER" else small)
        pads = (*begins, *ends)
    group = int(site.attrs.get("group", 1))
    inputs = [*site.inputs, None][:3]
    site.become(
        "ConvTranspose",
        3,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=extra,
        group=group,
    )
    site.inputs = inputs


def normalize_pool(site: Site) -> None:
    """Resolve pads; refuse the indices output and column-major storage of MaxPool."""
    if len(site.outputs) > 1:
        raise OnnxError("the indices output of MaxPool is not supported")
    kernel = tuple(int(k) for k in site.attrs["kernel_shape"])
    kernel, strides, dilations, pads = _window(site, kernel)
    attrs = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "ceil_mode": int(site.attrs.get("ceil_mode") or 0),
    }
    if site.op == "AveragePool":
        attrs["count_include_pad"] = int(site.attrs.get("count_include_pad") or 0)
    if site.op == "LpPool":
        attrs["p"] = int(site.attrs.get("p") or 2)
    site.become(site.op, 1, **attrs)


def _window(
    site: Site, kernel: tuple[int, ...], resolve: bool = True
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """kernel_shape, strides, dilations and pads, each complete."""
    n = site.rank - 2
    kernel = tuple(int(k) for k in site.attrs.get("kernel_shape") or kernel)
    strides = tuple(int(s) for s in site.attrs.get("strides") or (1,) * n)
    dilations = tuple(int(d) for d in site.attrs.get("dilations") or (1,) * n)
    pads = tuple(int(p) for p in site.attrs.get("pads") or (0,) * (2 * n))
    for what, value, length in (("kernel_shape", kernel, n), ("strides", strides, n), ("dilations", dilations, n)):
        if len(value) != length or min(value) < 1:
            raise OnnxError(f"{what} is {list(value)}, but must be {length} positive numbers")
    if len(pads) != 2 * n:
        raise OnnxError(f"pads is {list(pads)}, but must be {2 * n} numbers")
    auto = site.attrs.get("auto_pad") or "NOTSET"
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise OnnxError(f"auto_pad is {auto!r}, but must be NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    if auto == "VALID":
        pads = (0,) * (2 * n)
    elif auto != "NOTSET" and resolve:
        pads = same_pads(site.shape[2:], kernel, strides, dilations, auto == "SAME_UPPER")
    return kernel, strides, dilations, pads
