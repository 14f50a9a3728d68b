"""Luthier: compile ONNX models to native CPU code and tune that code on the machine that runs it.

The public functions are in :mod:`.api`; they are imported when they are first used, so that ``import luthier`` and the
command line's ``--help`` are quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import build, compile, load, tune

__version__ = "0.1.0"
__all__ = ["__version__", "build", "compile", "load", "tune"]


def __getattr__(name: str) -> Any:
    if name in ("build", "compile", "load", "tune"):
        return getattr(importlib.import_module(".api", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
