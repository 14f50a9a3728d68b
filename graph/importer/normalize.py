"""One internal form per operator, whatever the opset: what was an input in one version and an attribute in another
is an attribute, axes count from the front, defaults are filled in. ``x`` stands for the data input.

    Softmax, LogSoftmax, Hardmax   x; axis, flatten (True: over all of axis.. jointly, as before opset 13)
    Clip                           x; min, max (float or None)       -- or x, min, max where these are computed
    BatchNormalization             x, scale, bias, mean, var; epsilon
    Dropout                        x; ratio                          (inference: the identity)
    Reshape, Expand                x; shape (static, complete)
    Squeeze, Unsqueeze             x; axes (sorted; Unsqueeze: of the result)
    Flatten                        x; axis
    Transpose                      x; perm
    Concat                         parts...; axis
    Split                          x; axis, split (sizes)
    Slice                          x; axes, starts, ends, steps; all clamped, so that an end of -1 with a negative
                                   step means "before the first"
    Pad                            x; pads (begins of all axes, then ends), mode, value (float)
    Reduce*                        x; axes, keepdims
    ArgMax, ArgMin                 x; axis, keepdims, select_last_index
    Tile                           x; repeats
    Cast                           x; to (dtype name)
    ConstantOfShape                ;  shape, value (a Python number; its dtype is the output's)
    Resize                         x; mode, scales (one per axis), coordinate_transformation_mode, nearest_mode,
                                   cubic_coeff_a, exclude_outside, extrapolation_value, antialias, roi (tuple)
    TopK                           x; k, axis, largest, sorted
    CumSum                         x; axis, exclusive, reverse
    LayerNormalization             x, scale, bias|None; axis, epsilon
    Gather, GatherElements, ...    as in ONNX, axis counted from the front

Convolution and pooling: :mod:`.windows`. All other operators keep ONNX's form, with the attributes' defaults filled in.
Operators that only Luthier's passes make: :mod:`..passes`.
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import OnnxError
from ..shapes import clamp_slice, normalize_axes, normalize_axis
from .proto import element_type
from .site import Site
from .windows import normalize_conv, normalize_conv_transpose, normalize_pool


def normalize(site: Site) -> None:
    """Bring ``site`` into the internal form; OnnxError says what about this node is not supported."""
    rule = _RULES.get(site.op)
    if rule is None and site.op.startswith("Reduce"):
        rule = _reduce
    if rule is not None:
        rule(site)


def _axis(default: int) -> Callable[[Site], None]:
    """A rule that only counts the attribute ``axis`` from the front."""

    def rule(site: Site) -> None:
        axis = site.attrs.get("axis")
        site.attrs["axis"] = normalize_axis(default if axis is None else int(axis), site.rank)

    return rule


def _softmax(site: Site) -> None:
    old = site.version < 13
    axis = normalize_axis(int(site.attrs.get("axis", 1 if old else -1)), site.rank)
    flatten = old and any(size != 1 for size in site.shape[axis + 1 :])
    site.become(site.op, 1, axis=axis, flatten=flatten)


def _clip(site: Site) -> None:
    if site.version < 11:
        return site.become("Clip", 1, min=site.attrs.get("min"), max=site.attrs.get("max"))
    bounds = [site.input(1), site.input(2)]
    if any(v is not None and site.constant(v) is None for v in bounds):
        site.inputs = [site.required(0), *bounds]
        site.attrs = {}
        return None
    return site.become("Clip", 1, min=site.scalar(1, "min", None), max=site.scalar(2, "max", None))


def _batch_normalization(site: Site) -> None:
    if site.attrs.get("training_mode") or len(site.outputs) > 1:
        raise OnnxError("BatchNormalization in training mode is not supported; export the model for inference")
    if site.attrs.get("spatial", 1) != 1:
        raise OnnxError("BatchNormalization with spatial=0 is not supported")
    site.become(site.op, 5, epsilon=float(site.attrs["epsilon"]))


def _dropout(site: Site) -> None:
    if site.scalar(2, "training_mode", 0.0):
        raise OnnxError("Dropout in training mode is not supported; export the model for inference")
    if len(site.outputs) > 1:
        raise OnnxError("the mask output of Dropout is not supported")
    ratio = site.scalar(1, "ratio", 0.5) if site.version >= 12 else site.attrs.get("ratio")
    site.become("Dropout", 1, ratio=0.5 if ratio is None else float(ratio))


def _to_output_shape(site: Site) -> None:
    """Reshape and Expand: shape inference has already resolved the target."""
    site.array(1, "shape")
    site.become(site.op, 1, shape=site.outputs[0].shape)


def _squeeze(site: Site) -> None:
    axes = site.ints(1, "axes")
    if axes is None:
        found = tuple(i for i, size in enumerate(site.shape) if size == 1)
    else:
        found = normalize_axes(axes, site.rank)
    site.become("Squeeze", 1, axes=found)


def _unsqueeze(site: Site) -> None:
    axes = site.ints(1, "axes")
    if axes is None:
        raise OnnxError("axes is required, but absent")
    site.become("Unsqueeze", 1, axes=normalize_axes(axes, site.rank + len(axes)))


def _flatten(site: Site) -> None:
    axis = int(site.attrs.get("axis", 1))
    site.become("Flatten", 1, axis=axis if axis == site.rank else normalize_axis(axis, site.rank))


def _transpose(site: Site) -> None:
    perm = tuple(int(p) for p in site.attrs.get("perm") or range(site.rank - 1, -1, -1))
    if sorted(perm) != list(range(site.rank)):
        raise OnnxError(f"perm is {list(perm)}, but must be a permutation of 0..{site.rank - 1}")
    site.become("Transpose", 1, perm=perm)


def _split(site: Site) -> None:
    axis = normalize_axis(int(site.attrs.get("axis") or 0), site.rank)
    site.array(1, "split")
    site.become("Split", 1, axis=axis, split=tuple(v.shape[axis] for v in site.outputs))


def _slice(site: Site) -> None:
    starts, ends = site.ints(1, "starts"), site.ints(2, "ends")
    if starts is None or ends is None:
        raise OnnxError("starts and ends are required")
    given = site.ints(3, "axes")
    axes = tuple(range(len(starts))) if given is None else tuple(normalize_axis(a, site.rank) for a in given)
    steps = site.ints(4, "steps") or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise OnnxError("starts, ends, axes and steps must have equal lengths")
    clamped = [
        clamp_slice(start, end, step, site.shape[a])
        for start, end, step, a in zip(starts, ends, steps, axes, strict=True)
    ]
    site.become(
        "Slice",
        1,
        axes=axes,
        starts=tuple(s for s, _, _ in clamped),
        ends=tuple(max(s + n * step, -1) if step < 0 else s + n * step for s, n, step in clamped),
        steps=tuple(step for _, _, step in clamped),
    )


def _pad(site: Site) -> None:
    pads = site.ints(1, "pads")
    if pads is None:
        raise OnnxError("pads is required, but absent")
    given = site.ints(3, "axes")
    axes = tuple(range(site.rank)) if given is None else tuple(normalize_axis(a, site.rank) for a in given)
    if len(pads) != 2 * len(axes):
        raise OnnxError(f"pads is {list(pads)}, but must be {2 * len(axes)} numbers")
    full = [0] * (2 * site.rank)
    for i, axis in enumerate(axes):
        full[axis], full[site.rank + axis] = pads[i], pads[len(axes) + i]
    value = site.scalar(2, "constant_value", None)
    mode = site.attrs.get("mode") or "constant"
    site.become(
        "Pad", 1, pads=tuple(full), mode=mode, value=float(site.attrs.get("value") or 0) if value is None else value
    )


def _reduce(site: Site) -> None:
    axes = site.ints(1, "axes")
    if not axes and site.attrs.get("noop_with_empty_axes"):
        if site.op not in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
            raise OnnxError(f"{site.op} with noop_with_empty_axes=1 and no axes is not supported")
        return site.become("Identity", 1)
    full = normalize_axes(axes, site.rank) if axes else tuple(range(site.rank))
    return site.become(site.op, 1, axes=full, keepdims=int(site.attrs.get("keepdims", 1)))


def _arg_reduce(site: Site) -> None:
    site.become(
        site.op,
        1,
        axis=normalize_axis(int(site.attrs.get("axis") or 0), site.rank),
        keepdims=int(site.attrs.get("keepdims", 1)),
        select_last_index=int(site.attrs.get("select_last_index") or 0),
    )


def _tile(site: Site) -> None:
    repeats = site.ints(1, "repeats")
    if repeats is None or len(repeats) != site.rank:
        raise OnnxError(f"repeats must be {site.rank} numbers")
    site.become("Tile", 1, repeats=repeats)


def _cast(site: Site) -> None:
    if site.op == "CastLike":
        to = site.required(1).dtype
    else:
        to = element_type(int(site.attrs["to"]), "the result")
    site.become("Cast", 1, to=to)


def _constant_of_shape(site: Site) -> None:
    site.array(0, "shape")
    value = site.attrs.get("value")
    site.become(
        "ConstantOfShape", 0, shape=site.outputs[0].shape, value=0.0 if value is None else value.reshape(-1)[0].item()
    )


def _resize(site: Site) -> None:
    x, y = site.required(0), site.outputs[0]
    legacy = site.op == "Upsample" or site.version < 11
    scales_at = 1 if legacy else 2
    site.array(3, "sizes")
    array = site.array(scales_at, "scales")
    given = site.attrs.get("scales") if array is None or array.size == 0 else array.reshape(-1).tolist()
    scales = [o / i for o, i in zip(y.shape, x.shape, strict=True)]
    if given:
        axes = site.attrs.get("axes") or range(site.rank)
        for axis, scale in zip(axes, given, strict=True):
            scales[normalize_axis(int(axis), site.rank)] = float(scale)
    transform = "asymmetric" if legacy else site.attrs["coordinate_transformation_mode"]
    roi = None if legacy or transform != "tf_crop_and_resize" else site.array(1, "roi")
    site.become(
        "Resize",
        1,
        mode=site.attrs["mode"],
        scales=tuple(scales),
        coordinate_transformation_mode=transform,
        nearest_mode="floor" if legacy else site.attrs["nearest_mode"],
        cubic_coeff_a=float(site.attrs.get("cubic_coeff_a", -0.75)),
        exclude_outside=int(site.attrs.get("exclude_outside") or 0),
        extrapolation_value=float(site.attrs.get("extrapolation_value") or 0),
        antialias=int(site.attrs.get("antialias") or 0),
        roi=() if roi is None else tuple(roi.reshape(-1).tolist()),
    )


def _top_k(site: Site) -> None:
    k = site.ints(1, "k")
    site.become(
        "TopK",
        1,
        k=int(site.attrs["k"]) if k is None else k[0],
        axis=normalize_axis(int(site.attrs.get("axis", -1)), site.rank),
        largest=int(site.attrs.get("largest", 1)),
        sorted=int(site.attrs.get("sorted", 1)),
    )


def _cum_sum(site: Site) -> None:
    axis = site.ints(1, "axis") or (0,)
    site.become(
        "CumSum",
        1,
        axis=normalize_axis(axis[0], site.rank),
        exclusive=int(site.attrs.get("exclusive") or 0),
        reverse=int(site.attrs.get("reverse") or 0),
    )


def _layer_normalization(site: Site) -> None:
    if len(site.outputs) > 1:
        raise OnnxError("the mean and deviation outputs of LayerNormalization are not supported")
    axis = normalize_axis(int(site.attrs.get("axis", -1)), site.rank)
    inputs = [*site.inputs, None][:3]
    site.become("LayerNormalization", 3, axis=axis, epsilon=float(site.attrs["epsilon"]))
    site.inputs = inputs


_RULES: dict[str, Callable[[Site], None]] = {
    "ArgMax": _arg_reduce,
    "ArgMin": _arg_reduce,
    "AveragePool": normalize_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "CastLike": _cast,
    "Clip": _clip,
    "Concat": _axis(1),
    "ConstantOfShape": _constant_of_shape,
    "Conv": normalize_conv,
    "ConvTranspose": normalize_conv_transpose,
    "CumSum": _cum_sum,
    "Dropout": _dropout,
    "Expand": _to_output_shape,
    "Flatten": _flatten,
    "Gather": _axis(0),
    "GatherElements": _axis(0),
    "Hardmax": _softmax,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _softmax,
    "LpPool": normalize_pool,
    "MaxPool": normalize_pool,
    "Pad": _pad,
    "Reshape": _to_output_shape,
    "Resize": _resize,
    "ScatterElements": _axis(0),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
