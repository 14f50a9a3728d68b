"""Engines with formats of their own: the model is converted in a temporary folder, loaded, and the folder removed."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .engine import Array, Feed, Model, Peer, PeerError
from .prepared import Source, captured, convert, source


class Mnn(Peer):
    """MNN's CPU backend through a session, in f32 (precision "high": nothing is computed in bf16 or fp16).

    Not through its modules: without a runtime manager they ignore the number of threads, and with their weights
    rearranged VGG19 takes 1.4 times as long. The memory and power modes made no measurable difference.
    """

    name, package = "mnn", "MNN"

    # Not the command mnnconvert, which is the same function: it installs a package and reports each conversion.
    CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"

    def _prepare(self, model: Model, threads: int, shapes: Mapping[str, Sequence[int]]) -> None:
        with captured():
            import MNN
        self._mnn = MNN
        with tempfile.TemporaryDirectory() as folder:
            given = source(model, Path(folder))
            file = Path(folder) / "model.mnn"
            names = ["-f", "ONNX", "--modelFile", str(given.file), "--MNNModel", str(file), "--bizCode", "luthier"]
            convert(self.CONVERT, names, [file])
            with captured():
                self._interpreter = MNN.Interpreter(str(file))
                options = {"backend": "CPU", "precision": "high", "numThread": threads}
                self._session = self._interpreter.createSession(options)
        types: dict[int, Any] = {
            onnx.TensorProto.FLOAT: MNN.Halide_Type_Float,
            onnx.TensorProto.INT32: MNN.Halide_Type_Int,
        }
        self._inputs: list[tuple[str, Any, tuple[int, ...], Any]] = []
        for name, code in zip(given.inputs, given.input_types, strict=True):
            if code not in types:
                raise PeerError(f"input {name!r} is neither float32 nor int32")
            tensor = self._interpreter.getSessionInput(self._session, name)
            if tuple(tensor.getShape()) != tuple(shapes[name]):
                self._interpreter.resizeTensor(tensor, tuple(shapes[name]))
            self._inputs.append((name, tensor, tuple(shapes[name]), types[code]))
        self._interpreter.resizeSession(self._session)
        found = self._interpreter.getSessionOutputAll(self._session)
        missing = [name for name in given.outputs if name not in found]
        if missing:
            raise PeerError(f"the converted model has no output {missing[0]!r}, only {', '.join(found)}")
        self._outputs = [found[name] for name in given.outputs]

    def run(self, feed: Feed) -> list[Array]:
        mnn, plain = self._mnn, self._mnn.Tensor_DimensionType_Caffe
        for name, tensor, shape, kind in self._inputs:
            tensor.copyFrom(mnn.Tensor(shape, kind, np.ascontiguousarray(feed[name]), plain))
        self._interpreter.runSession(self._session)
        results = []
        for tensor in self._outputs:
            shape, kind = tensor.getShape(), tensor.getDataType()
            empty = np.empty(shape, np.float32 if kind == mnn.Halide_Type_Float else np.int32)
            host = mnn.Tensor(shape, kind, empty, plain)
            tensor.copyToHostTensor(host)
            results.append(np.array(host.getNumpyData()))
        return results


class Ncnn(Peer):
    """ncnn in f32, converted by pnnx; its own defaults (Winograd, packed layouts, light mode) but for 16-bit floats."""

    name = package = "ncnn"
    requires = ("ncnn", "pnnx")

    CONVERT = "from pnnx import pnnx; pnnx()"
    TYPES: Mapping[int, str] = {
        onnx.TensorProto.FLOAT: "f32",
        onnx.TensorProto.INT32: "i32",
        onnx.TensorProto.INT64: "i64",
    }
    UNBATCHED = 233  # what ncnn and pnnx write for a tensor without a dimension of batches

    def _prepare(self, model: Model, threads: int, shapes: Mapping[str, Sequence[int]]) -> None:
        import ncnn

        importlib.metadata.version("pnnx")  # not imported here: it would bring torch and its threads
        self._ncnn = ncnn
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        for option in dir(options):
            if option.startswith(("use_fp16_", "use_bf16_")):
                setattr(options, option, False)
        with tempfile.TemporaryDirectory() as folder:
            given = source(model, Path(folder))
            param, weights, script = (Path(folder) / f"model.{end}" for end in ("param", "bin", "py"))
            products = {"ncnnparam": param, "ncnnbin": weights, "ncnnpy": script}
            scrap = dict.fromkeys(("pnnxbin", "pnnxonnx", "pnnxpy"), os.devnull)
            settings = {**products, **scrap, "inputshape": self._input_shapes(given, shapes), "fp16": 0}
            convert(self.CONVERT, [str(given.file), *(f"{k}={v}" for k, v in settings.items())], [*products.values()])
            with captured() as printed:
                failed = self._net.load_param(str(param)) or self._net.load_model(str(weights))
            if failed:
                raise PeerError(printed.text)
            text = script.read_text(encoding="utf-8")
        self._inputs = [(n, f"in{i}", _batch(text, f"in{i}")) for i, n in enumerate(given.inputs)]
        self._outputs = [(f"out{i}", _batch(text, f"out{i}")) for i in range(len(given.outputs))]

    def _input_shapes(self, given: Source, shapes: Mapping[str, Sequence[int]]) -> str:
        texts = []
        for name, code in zip(given.inputs, given.input_types, strict=True):
            if code not in self.TYPES:
                raise PeerError(f"input {name!r} is none of float32, int32 and int64")
            texts.append(f"[{','.join(map(str, shapes[name]))}]{self.TYPES[code]}")
        return ",".join(texts)

    def run(self, feed: Feed) -> list[Array]:
        with self._net.create_extractor() as extractor:
            for name, blob, batch in self._inputs:
                array = np.ascontiguousarray(feed[name])
                # A copy, as pnnx's own script makes: a first layer that works in place would crash on borrowed memory.
                extractor.input(blob, self._ncnn.Mat(array, batch).clone())
            results = []
            for blob, batch in self._outputs:
                failed, mat = extractor.extract(blob)
                if failed:
                    raise PeerError(f"{self.name} cannot compute {blob}: code {failed}")
                results.append(np.array(mat.numpy(batch_index=batch)))
            return results


def _batch(script: str, blob: str) -> int:
    """The dimension of batches that pnnx found for a tensor: its Python script is where it says so."""
    found = re.search(rf"\b{blob}\.numpy\(\)?(?:, )?(?:batch_index=(\d+))?", script)
    if not found:
        raise PeerError(f"the converted model has no {blob}")
    return int(found[1]) if found[1] else Ncnn.UNBATCHED
