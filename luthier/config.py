"""Environment switches, each typed, in one table; overridable in a scope.

LUTHIER_DEBUG=1..4     log to stderr: 1 builds, 2 kernels, 3 passes, 4 candidates
LUTHIER_DUMP=dir       write every level of every kernel there, numbered (te, schedule, loops, llvm, asm)
LUTHIER_VERIFY=1       check the loop IR before and after every pass
LUTHIER_CACHE=dir      where object code is cached (default: luthier in the user's cache directory); empty: no cache
LUTHIER_CACHE_MB=1024  how large the cache may grow; what has not been used for longest goes first
LUTHIER_OPENMP=0       run on one thread, as if no OpenMP runtime were installed
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from .errors import Error


@dataclass(frozen=True, slots=True)
class Config:
    debug: int = 0
    dump: str = ""
    verify: bool = False
    cache: str | None = None
    cache_mb: int = 1024
    openmp: bool = True


def _from_environment() -> Config:
    values: dict[str, object] = {}
    for f in fields(Config):
        text = os.environ.get(f"LUTHIER_{f.name.upper()}")
        if text is None:
            continue
        if f.default is None or isinstance(f.default, str):
            values[f.name] = text
            continue
        try:
            number = int(text or 0)
            values[f.name] = bool(number) if isinstance(f.default, bool) else number
        except ValueError:
            raise Error(f"LUTHIER_{f.name.upper()}={text!r}: must be an integer") from None
    return Config(**values)  # type: ignore[arg-type]


_current: Config | None = None


def get() -> Config:
    """The switches in force."""
    global _current
    if _current is None:
        _current = _from_environment()
    return _current


def environment() -> dict[str, str]:
    """The variables that give a process of its own the switches in force here."""
    values = {f.name: getattr(get(), f.name) for f in fields(Config)}
    return {
        f"LUTHIER_{name.upper()}": str(int(value)) if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value is not None
    }


@contextmanager
def override(**values: object) -> Iterator[Config]:
    """Change switches inside a ``with`` block: ``with config.override(verify=True): ...``."""
    global _current
    before = get()
    _current = replace(before, **values)  # type: ignore[arg-type]
    try:
        yield _current
    finally:
        _current = before
