"""Find and parse a model: a path, the bytes, a ModelProto, or the name of a model that ships with onnx."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, Union

import onnx

from ...errors import OnnxError
from .proto import first_line
from .wire import detach_weights

ModelSource: TypeAlias = Union[str, "os.PathLike[str]", bytes, onnx.ModelProto]

MIN_OPSET = 7
"""Earlier versions broadcast through attributes, and nobody has written them since 2017."""


@dataclass(frozen=True, slots=True)
class Model:
    """A parsed model.

    directory  where its external data is; None if it did not come from a file
    weights    raw data of initialisers that the proto lacks, by their position: parts of the file, which stays mapped
    """

    proto: onnx.ModelProto
    directory: Path | None = None
    weights: Mapping[int, memoryview] = field(default_factory=dict)


def read_model(source: ModelSource) -> Model:
    """Parse a model.

    Errors: OnnxError, on one line, where there is no such file, or it is empty, cut off or no ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        return Model(source)
    if isinstance(source, bytes):
        return _parse(source, "the model", None)
    path = find_model(source)
    try:
        data = _contents(path)
    except OSError as error:
        raise OnnxError(f"{path}: cannot be read: {error.strerror or error}") from None
    return _parse(data, str(path), path.parent)


def bundled_models() -> dict[str, Path]:
    """The models that ship with the onnx package: name (``light_resnet50``) -> path."""
    directory = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return {p.stem: p for p in sorted(directory.glob("*.onnx"))}


def find_model(source: str | os.PathLike[str]) -> Path:
    """The file that ``source`` names: a path, or the name of a bundled model with or without ``.onnx``."""
    path = Path(source)
    if path.is_dir():
        raise OnnxError(f"{path}: is a directory; pass the path of an ONNX file")
    if path.exists():
        return path
    known = bundled_models()
    if path.name == str(source) and path.name.removesuffix(".onnx") in known:
        return known[path.name.removesuffix(".onnx")]
    raise OnnxError(f"{path}: no such file; pass the path of an ONNX model or one of {', '.join(known)}")


def check_opset(model: onnx.ModelProto) -> int:
    """The version of the default operator set; OnnxError where it is absent, too old or too new."""
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        domains = ", ".join(o.domain for o in model.opset_import) or "nothing"
        raise OnnxError(
            f"the model imports {domains}, not the ONNX operator set; Luthier needs opset {MIN_OPSET}..{newest}"
        )
    version = int(max(versions))
    if version < MIN_OPSET:
        raise OnnxError(
            f"the model uses opset {version}; Luthier reads {MIN_OPSET}..{newest}: "
            "convert it with onnx.version_converter.convert_version"
        )
    if version > newest:
        raise OnnxError(
            f"the model uses opset {version}, but the installed onnx {onnx.__version__} knows "
            f"{MIN_OPSET}..{newest}; upgrade the onnx package"
        )
    return version


def _contents(path: Path) -> bytes | mmap.mmap:
    """The bytes of a file, mapped where that is possible."""
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # a pipe, a file system without mapping, an empty file
            return file.read()


def _parse(data: bytes | mmap.mmap, what: str, directory: Path | None) -> Model:
    if not len(data):
        raise OnnxError(f"{what}: is empty; an ONNX model is expected")
    light, weights = detach_weights(memoryview(data)) or (bytes(data), {})
    model = onnx.ModelProto()
    try:
        model.ParseFromString(light)
    except Exception as error:  # protobuf's DecodeError
        raise OnnxError(f"{what}: is not an ONNX model, or is cut off ({first_line(error)})") from None
    if not model.HasField("graph") or not model.ir_version:
        raise OnnxError(f"{what}: is not an ONNX model (it has no graph)")
    if not model.graph.output:
        raise OnnxError(f"{what}: the model has no outputs")
    return Model(model, directory, weights)
