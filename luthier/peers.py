"""Other inference engines behind one interface, for comparisons in one process: same model, inputs and threads.

    ours = Luthier(luthier.compile(model, threads=1))
    theirs = [peer(model, threads=1, shapes=...) for peer in (OnnxRuntime, OpenVino)]
    timings = race([ours, *theirs], feed, rounds=20)

An engine is a class with a ``name`` and a ``run``; :data:`ENGINES` finds one by name. The engines themselves are
optional (``pip install 'luthier[bench]'``) and imported when they are made.
"""

from __future__ import annotations

import importlib.metadata
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from .errors import Error
from .runtime.executable import Executable

Array = NDArray[Any]
Feed = Mapping[str, Array]
Model = Union[Path, bytes]
"""An ONNX file, or its contents."""


class PeerError(Error):
    """An engine to compare with is unknown, not installed, or cannot run the model."""


class Engine(ABC):
    """A model that is ready to run in some engine."""

    name: str

    @abstractmethod
    def run(self, feed: Feed) -> list[Array]:
        """Compute all outputs, in the model's order."""


class Luthier(Engine):
    """This project's own; ``name`` tells builds apart (untuned, tuned)."""

    def __init__(self, executable: Executable, name: str = "luthier") -> None:
        self.name = name
        self.executable = executable

    def run(self, feed: Feed) -> list[Array]:
        return self.executable.run(None, feed)


class Peer(Engine):
    """An engine of another project.

    package  the distribution to install
    """

    package: str

    def __init__(self, model: Model, threads: int, shapes: Mapping[str, Sequence[int]]) -> None:
        """Prepare ``model`` for ``threads``; shapes: those of its inputs. Raises PeerError."""
        try:
            self._prepare(model, threads, shapes)
        except ImportError:
            raise PeerError(f"{self.name} is not installed; pip install {self.package}, or leave it out") from None
        except Exception as error:  # whatever an engine raises for a model that it cannot run
            raise PeerError(f"{self.name} cannot load the model: {error}") from error

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version(cls.package)

    @abstractmethod
    def _prepare(self, model: Model, threads: int, shapes: Mapping[str, Sequence[int]]) -> None: ...


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
        import openvino

        core = openvino.Core()
        network = core.read_model(str(model) if isinstance(model, Path) else model)
        network.reshape({name: list(dims) for name, dims in shapes.items()})
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        self._request = core.compile_model(network, "CPU", options).create_infer_request()

    def run(self, feed: Feed) -> list[Array]:
        results = self._request.infer(dict(feed), share_inputs=True, share_outputs=True)
        return [results[i] for i in range(len(results))]


ENGINES: dict[str, type[Peer]] = {engine.name: engine for engine in (OnnxRuntime, OpenVino)}


def engines_named(names: str) -> list[type[Peer]]:
    """Look up a comma-separated list; raises PeerError for a name that is not in :data:`ENGINES`."""
    wanted = [name for name in (part.strip() for part in names.split(",")) if name]
    for name in wanted:
        if name not in ENGINES:
            raise PeerError(f"engine {name!r} is unknown; the engines are {', '.join(ENGINES)}")
    return [ENGINES[name] for name in dict.fromkeys(wanted)]


@dataclass(frozen=True, slots=True)
class Timing:
    """Latencies of one engine in seconds, and its outputs."""

    name: str
    run_s: tuple[float, ...]
    outputs: tuple[Array, ...]

    @property
    def median_s(self) -> float:
        return statistics.median(self.run_s)

    @property
    def min_s(self) -> float:
        return min(self.run_s)


def race(engines: Sequence[Engine], feed: Feed, rounds: int = 20, round_s: float = 0.0) -> list[Timing]:
    """Time engines in turn, ``rounds`` times over, so that what disturbs the machine disturbs all of them.

    Before an engine is timed it runs once, untimed, after a pause in which the threads of the one before fall asleep.
    In each round an engine runs once, or as often as fits into ``round_s``.
    """
    times: list[list[float]] = [[] for _ in engines]
    outputs: list[tuple[Array, ...]] = [tuple(np.array(a) for a in engine.run(feed)) for engine in engines]
    for _ in range(rounds):
        for engine, measured in zip(engines, times, strict=True):
            time.sleep(0.005)
            engine.run(feed)
            end = time.perf_counter() + round_s
            while True:
                start = time.perf_counter()
                engine.run(feed)
                stop = time.perf_counter()
                measured.append(stop - start)
                if stop >= end:
                    break
    return [Timing(e.name, tuple(t), o) for e, t, o in zip(engines, times, outputs, strict=True)]


def output_error(outputs: Sequence[Array], reference: Sequence[Array]) -> float:
    """Largest difference over all outputs, relative to the largest magnitude of each reference; inf for a NaN."""
    worst = 0.0
    for ours, theirs in zip(outputs, reference, strict=True):
        if ours.shape != theirs.shape:
            return float("inf")
        if ours.size:
            difference = np.max(np.abs(np.float64(ours) - np.float64(theirs)))
            scale = np.max(np.abs(np.float64(theirs)))
            worst = max(worst, float(difference / (scale or 1.0)) if np.isfinite(difference) else float("inf"))
    return worst
