"""Protobuf messages to Python values: tensors, attributes, types."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, SparseTensorProto, TensorProto, TypeProto, helper, numpy_helper

from ...errors import OnnxError
from ...te import dtype as dt


def element_type(code: int, what: str) -> str:
    """The dtype name of an ONNX element type; OnnxError for strings and the types that Luthier lacks."""
    name = TensorProto.DataType.Name(code).lower() if code in TensorProto.DataType.values() else f"type {code}"
    if name not in ("string", "undefined", "complex64", "complex128"):
        try:
            return dt.check(np.dtype(helper.tensor_dtype_to_np_dtype(code)).name)
        except Exception:  # a type that this NumPy or Luthier has no name for
            pass
    raise OnnxError(f"{what} has element type {name}, which is not supported")


def element_code(dtype: str) -> int:
    """The ONNX element type of a dtype name."""
    return int(helper.np_dtype_to_tensor_dtype(dt.to_numpy(dtype)))


def to_array(tensor: TensorProto, directory: Path | None) -> np.ndarray[Any, Any]:
    """Decode a tensor; its external data is looked for in ``directory``."""
    name = tensor.name or "(unnamed)"
    element_type(tensor.data_type, f"tensor {name!r}")
    try:
        if onnx.external_data_helper.uses_external_data(tensor):
            if directory is None:
                raise OnnxError(
                    f"tensor {name!r} has its data in an external file; pass the model's path instead of its bytes"
                )
            return numpy_helper.to_array(tensor, base_dir=str(directory))
        return numpy_helper.to_array(tensor)
    except OnnxError:
        raise
    except Exception as error:  # protobuf, NumPy and the operating system each have their own
        raise OnnxError(f"tensor {name!r} cannot be read: {first_line(error)}") from None


def raw_array(tensor: TensorProto, raw: memoryview) -> np.ndarray[Any, Any]:
    """The array of a tensor whose raw data was taken out: where possible, as a view of them that cannot be written."""
    dtype = np.dtype(dt.to_numpy(element_type(tensor.data_type, f"tensor {tensor.name or '(unnamed)'!r}")))
    dims = tuple(tensor.dims)
    # bits per element and byte order as NumPy's: the rest (4 bits, bfloat16, a wrong size) goes the long way
    if (
        dtype.kind in "fiu"
        and dtype.isnative
        and sys.byteorder == "little"
        and math.prod(dims) * dtype.itemsize == len(raw)
    ):
        return np.frombuffer(raw, dtype).reshape(dims)
    whole = TensorProto()
    whole.CopyFrom(tensor)
    whole.raw_data = raw.tobytes()
    return to_array(whole, None)


def sparse_to_array(tensor: SparseTensorProto, directory: Path | None) -> np.ndarray[Any, Any]:
    """Decode a sparse tensor to a dense array; indices are linear (nnz,) or coordinates (nnz, rank)."""
    values, indices = to_array(tensor.values, directory), to_array(tensor.indices, directory)
    dense = np.zeros(tuple(tensor.dims), values.dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return dense


def attribute_value(attribute: AttributeProto, directory: Path | None) -> Any:
    """An attribute as int, float, str, tuple of these, or array. Graphs are given as they are."""
    value = helper.get_attribute_value(attribute)
    match attribute.type:
        case AttributeProto.TENSOR:
            return to_array(value, directory)
        case AttributeProto.SPARSE_TENSOR:
            return sparse_to_array(value, directory)
        case AttributeProto.STRING:
            return value.decode("utf-8", "replace")
        case AttributeProto.STRINGS:
            return tuple(v.decode("utf-8", "replace") for v in value)
        case AttributeProto.INTS | AttributeProto.FLOATS:
            return tuple(value)
        case _:
            return value


def tensor_type(dtype: str, shape: tuple[int, ...]) -> TypeProto:
    """The protobuf type of a tensor."""
    return helper.make_tensor_type_proto(element_code(dtype), shape)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for messages on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
