"""What a model computes in float64: the outputs that every engine's error is measured against.

``onnx.reference`` evaluates the graph with its float initialisers, constants and casts in float64. Two of its operators
depart from the standard and are corrected here, and the old default axis of Softmax is written out for it. A reference
is believed only if ONNX Runtime's f32 outputs agree with it to :data:`TRUST`; it is kept in a folder, if one is given.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from luthier.errors import Error
from luthier.peers import Array, Feed, OnnxRuntime, explicit_defaults, output_error
from luthier.whole_file import whole_file

TRUST = 1e-4
VERSION = 1  # of what is computed here; a change of the corrections below changes it


class NoReference(Error):
    """The float64 reference of a model cannot be computed, or is not to be believed."""


def reference(file: Path, feed: Feed, cache: Path | None = None) -> list[Array]:
    """Outputs of the model in ``file`` in float64, in its order.

    cache  a folder to keep them in, by the model's contents (weights included), the inputs and the versions
    Raises NoReference where ONNX Runtime disagrees.
    """
    kept = cache / f"{_key(file, feed)}.npz" if cache else None
    if kept and (found := _read(kept)) is not None:
        return found
    model = onnx.load(file)
    outputs = evaluate(model, feed)
    del model
    shapes = {name: array.shape for name, array in feed.items()}
    error = output_error(OnnxRuntime(file, 1, shapes).run(feed), outputs)
    if not error <= TRUST:
        raise NoReference(
            f"the float64 reference and onnxruntime are {error:.1e} apart, more than {TRUST:.0e}: "
            "one of them computes an operator of this model wrongly, so errors cannot be stated"
        )
    if kept:
        _write(kept, outputs)
    return outputs


def evaluate(model: onnx.ModelProto, feed: Feed) -> list[Array]:
    """Run ``model``, which is changed to float64 in place."""
    explicit_defaults(model)
    _double(model.graph)
    evaluator = ReferenceEvaluator(model, new_ops=[BatchNormalization, LRN])
    doubled = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in feed.items()}
    return [np.asarray(a) for a in evaluator.run(None, doubled)]


# ------------------------------------------------------------------------------------------ float64


def _double(graph: onnx.GraphProto) -> None:
    """Turn float32 tensors, constants, casts and declared types of ``graph`` into float64."""
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in graph.initializer:
        _double_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            _double_attribute(node, attribute)


def _double_attribute(node: onnx.NodeProto, attribute: AttributeProto) -> None:
    if attribute.type == AttributeProto.GRAPH:
        _double(attribute.g)
    elif attribute.type == AttributeProto.TENSOR:
        _double_tensor(attribute.t)
    elif attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
        attribute.i = TensorProto.DOUBLE
    elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
        values = attribute.f if attribute.name == "value_float" else list(attribute.floats)
        tensor = numpy_helper.from_array(np.array(values, np.float64))
        attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))


def _double_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


# -------------------------------------------------------------------------------------- corrections


class BatchNormalization(OpRun):
    """Of inference. onnx.reference takes version 9 for training, because momentum has a default value."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        mean: Array,
        var: Array,
        epsilon: float | None = None,
        momentum: float | None = None,
        training_mode: int | None = None,
        **_: Any,
    ) -> tuple[Array]:
        if training_mode:
            raise NoReference("BatchNormalization in training mode has no reference; export the model for inference")
        shape = (-1,) + (1,) * (x.ndim - 2)
        factor = scale / np.sqrt(var + float(1e-5 if epsilon is None else epsilon))
        return (x * factor.reshape(shape) + (bias - mean * factor).reshape(shape),)


class LRN(OpRun):
    """Over all channels. onnx.reference visits as many channels as there are batches."""

    op_domain = ""

    def _run(self, x: Array, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int = 1) -> tuple[Array]:
        alpha, beta, bias = float(alpha), float(beta), float(bias)  # np.float32 would round their quotient
        before, after = (size - 1) // 2, size // 2
        squares = np.pad(x * x, [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))
        total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
        return (x / (bias + alpha / size * total) ** beta,)


# -------------------------------------------------------------------------------------------- cache


def _key(file: Path, feed: Feed) -> str:
    versions = (VERSION, *(metadata.version(p) for p in ("onnx", "numpy", "onnxruntime")))
    digest = hashlib.sha256(repr(versions).encode())
    with file.open("rb") as stream:
        while block := stream.read(1 << 24):
            digest.update(block)
    for name in sorted(feed):
        digest.update(f"{name} {feed[name].dtype} {feed[name].shape}".encode())
        digest.update(np.ascontiguousarray(feed[name]).tobytes())
    return digest.hexdigest()[:32]


def _read(path: Path) -> list[Array] | None:
    """The outputs kept in ``path``; None where there are none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[f"arr_{i}"] for i in range(len(file.files))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, outputs: Sequence[Array]) -> None:
    """All or nothing, so that a run that is broken off leaves no half of a reference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez(file, *outputs)  # which are named arr_0, arr_1, ...
