"""What the engines have in common: a model in, outputs out. The engines of other projects are in :mod:`.runtimes` (read
ONNX) and :mod:`.converted` (have formats of their own)."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from numpy.typing import NDArray

from ..errors import Error
from ..runtime.executable import Executable

Array = NDArray[Any]
Feed = Mapping[str, Array]
Model = Union[Path, bytes]
"""An ONNX file, or its contents."""


class PeerError(Error):
    """An engine to compare with is unknown, not installed, or cannot run the model."""


class PeerMissing(PeerError):
    """An engine to compare with is not installed."""


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

    package   the distribution that holds it
    requires  the distributions to install
    """

    package: str
    requires: tuple[str, ...] = ()

    def __init__(self, model: Model, threads: int, shapes: Mapping[str, Sequence[int]]) -> None:
        """Prepare ``model`` for ``threads``; shapes: those of its inputs. Raises PeerError."""
        try:
            self._prepare(model, threads, shapes)
        except ImportError:
            packages = " ".join(self.requires or (self.package,))
            raise PeerMissing(f"{self.name} is not installed; pip install {packages}, or leave it out") from None
        except Exception as error:  # whatever an engine raises for a model that it cannot run
            raise PeerError(f"{self.name} cannot load the model: {error}") from error

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version(cls.package)

    @abstractmethod
    def _prepare(self, model: Model, threads: int, shapes: Mapping[str, Sequence[int]]) -> None: ...
