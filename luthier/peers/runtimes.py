"""Engines that read ONNX themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .engine import Array, Feed, Model, Peer


class OnnxRuntime(Peer):
    """ONNX Runtime's CPU provider with all graph optimizations."""

    name = package = "onnxruntime"

    def _prepare(self, model: Model, threads: int, shapes: Mapping[str, Sequence[int]]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        source = str(model) if isinstance(model, Path) else model
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(self, feed: Feed) -> list[Array]:
        return list(self._session.run(None, dict(feed)))


class OpenVino(Peer):
    """OpenVINO's CPU plugin in f32 (its default on some CPUs is bf16), without copies of inputs and outputs."""

    name = package = "openvino"

    def _prepare(self, model: Model, threads: int, shapes: Mapping[str, Sequence[int]]) -> None:
        self._request = compile_with_openvino(model, threads, shapes).create_infer_request()

    def run(self, feed: Feed) -> list[Array]:
        results = self._request.infer(dict(feed), share_inputs=True, share_outputs=True)
        return [results[i] for i in range(len(results))]


def compile_with_openvino(
    model: Model, threads: int, shapes: Mapping[str, Sequence[int]], **options: str | int | bool
) -> Any:
    """OpenVINO's compiled model, in f32 and for the least latency; options: properties beyond those."""
    import openvino

    core = openvino.Core()
    network = core.read_model(str(model) if isinstance(model, Path) else model)
    network.reshape({name: list(dims) for name, dims in shapes.items()})
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        **options,
    }
    return core.compile_model(network, "CPU", properties)
