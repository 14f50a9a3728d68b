"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_DESCRIPTORS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")
"""Names of what a process has open already: a file behind one of them must not be replaced under its other writers."""


@contextmanager
def whole_file(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a file to write, which takes the place of ``path`` when the block ends; if that fails, nothing is left.

    A symbolic link stays, and what it points at is replaced. A device, a pipe or an open descriptor (``/dev/stdout``)
    is written to directly. durable: the content is on disk when the block has ended. Raises OSError.
    """
    path = Path(path)
    if str(path).startswith(_DESCRIPTORS) or (path.exists() and not path.is_file() and not path.is_dir()):
        with path.open("wb") as file:
            yield file
        return
    final = Path(os.path.realpath(path))
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", dir=final.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(final)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        _sync_folder(final.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the new name durable; file systems that cannot sync a folder do it by themselves."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
