"""A directory of checked entries: what building keeps on disk between processes.

An entry is a JSON header and bytes, in a file of its own that is named by the SHA-256 of its key::

    magic 8 bytes | SHA-256 of the rest 32 bytes | size of the header, uint64 little-endian | header | bytes

Any number of processes may use one directory, over a network too: a file appears whole, by renaming; one that is
damaged or cut off fails its checksum, is dropped and counts as absent; one that is evicted while it is read stays
readable. Nothing is unpickled. A disk that is full or cannot be written to never fails a build: the cache says so once
and stops storing. Reading an entry renews its modification time, by which :meth:`Cache.trim` finds the least recently
used. (A library such as diskcache would pickle, and keep an SQLite file that network file systems do not take well.)
The entries are native code: a directory must belong to whom builds. Next: :mod:`.cached`, which decides what is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config
from ..errors import Error

_MAGIC = b"\x89LUTOBJ1"
_PREFIX = struct.Struct("<8s32sQ")
_SUFFIX = ".entry"
_TEMPORARY = ".writing-"
_RENEW_S = 3600.0  # an entry that was used within the hour is not renewed: most hits write nothing
_ABANDONED_S = 3600.0  # a file that a killed process never finished
_TRIM_TO = 0.9  # of the limit, so that not every build has to evict


@dataclass(frozen=True, slots=True)
class Usage:
    """What a cache holds; sizes as they are on disk."""

    entries: int
    size_bytes: int


class Cache:
    """Entries in ``directory``, at most about ``limit_bytes`` of them. Safe in several threads."""

    def __init__(self, directory: str | os.PathLike[str], limit_bytes: int) -> None:
        self.directory = Path(directory)
        self.limit_bytes = limit_bytes
        self._writable = True
        self._stored = False

    def get(self, key: str) -> tuple[dict[str, Any], bytes] | None:
        """The header and the bytes stored under ``key``; None where there is no sound entry."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                data = file.read()
                modified = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        entry = _decode(data, key)
        if entry is None:
            with suppress(OSError):
                path.unlink()
        elif time.time() - modified > _RENEW_S:
            with suppress(OSError):
                os.utime(path)
        return entry

    def put(self, key: str, header: Mapping[str, Any], data: bytes) -> None:
        """Store an entry, or do nothing where that is not possible."""
        if not self._writable:
            return
        path = self._path(key)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # native code: nobody else's
            path.parent.mkdir(mode=0o700, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_encode(key, header, data))
                os.replace(name, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            self._give_up(error)
        else:
            self._stored = True

    def trim(self) -> None:
        """After something was stored: remove the least recently used entries while the limit is exceeded."""
        if not self._stored:
            return
        self._stored = False
        entries = sorted(self._entries(), key=lambda e: e.used_at)
        excess = sum(e.size_bytes for e in entries) - self.limit_bytes
        if excess <= 0:
            return
        excess += int((1 - _TRIM_TO) * self.limit_bytes)
        for entry in entries:
            if excess <= 0:
                break
            with suppress(OSError):
                with suppress(FileNotFoundError):  # another process trims too: what it removed counts
                    if os.stat(entry.path).st_mtime != entry.used_at:
                        continue  # used since
                    os.unlink(entry.path)
                excess -= entry.size_bytes

    def usage(self) -> Usage:
        """Count what is there."""
        entries = list(self._entries())
        return Usage(len(entries), sum(e.size_bytes for e in entries))

    def clear(self) -> Usage:
        """Remove every entry and return what was there; other files in the directory stay.

        Raises OSError where an entry cannot be removed.
        """
        entries = list(self._entries())
        for entry in entries:
            with suppress(FileNotFoundError):  # another process was quicker
                os.unlink(entry.path)
        for folder in self._folders():
            with suppress(OSError):  # not empty
                os.rmdir(folder)
        return Usage(len(entries), sum(e.size_bytes for e in entries))

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self.directory / digest[:2] / (digest[2:] + _SUFFIX)

    def _folders(self) -> list[str]:
        try:
            with os.scandir(self.directory) as found:
                return [f.path for f in found if len(f.name) == 2 and f.is_dir(follow_symlinks=False)]
        except OSError:
            return []

    def _entries(self) -> Iterator[_File]:
        """All entries; on the way, files that killed processes left behind are removed."""
        for folder in self._folders():
            try:
                with os.scandir(folder) as found:
                    files = list(found)
            except OSError:
                continue
            for file in files:
                with suppress(OSError):  # evicted by another process meanwhile
                    status = file.stat(follow_symlinks=False)
                    if file.name.endswith(_SUFFIX):
                        yield _File(file.path, status.st_mtime, status.st_blocks * 512)
                    elif file.name.startswith(_TEMPORARY) and time.time() - status.st_mtime > _ABANDONED_S:
                        os.unlink(file.path)

    def _give_up(self, error: OSError) -> None:
        self._writable = False
        warnings.warn(
            f"cache {self.directory}: cannot be written ({error.strerror or error}); building goes on without storing: "
            "set LUTHIER_CACHE to another directory, or to nothing to do without a cache",
            stacklevel=2,
        )


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    used_at: float
    size_bytes: int


def default_directory() -> Path:
    """``luthier`` in the user's cache directory, as the XDG base directory specification has it."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "luthier"
    home = os.path.expanduser("~")
    return Path(home if os.path.isabs(home) else tempfile.gettempdir()) / ".cache" / "luthier"


def configured() -> Cache | None:
    """The cache that the switches ask for, one object for each directory; None where they ask for none."""
    switches = config.get()
    if switches.cache == "":
        return None
    if switches.cache_mb < 1:
        raise Error(f"LUTHIER_CACHE_MB={switches.cache_mb}: must be at least 1; LUTHIER_CACHE= (empty) turns it off")
    directory = os.path.abspath(default_directory() if switches.cache is None else switches.cache)
    limit_bytes = switches.cache_mb * 2**20
    return _opened.setdefault((directory, limit_bytes), Cache(directory, limit_bytes))


_opened: dict[tuple[str, int], Cache] = {}


def _encode(key: str, header: Mapping[str, Any], data: bytes) -> bytes:
    text = json.dumps({"key": key, "header": header}, separators=(",", ":")).encode()
    rest = len(text).to_bytes(8, "little") + text + data
    return _MAGIC + hashlib.sha256(rest).digest() + rest


def _decode(data: bytes, key: str) -> tuple[dict[str, Any], bytes] | None:
    if len(data) < _PREFIX.size:
        return None
    magic, digest, size = _PREFIX.unpack_from(data)
    if magic != _MAGIC or hashlib.sha256(memoryview(data)[_PREFIX.size - 8 :]).digest() != digest:
        return None
    end = _PREFIX.size + size
    try:
        entry = json.loads(data[_PREFIX.size : end])
    except ValueError:
        return None
    if entry["key"] != key:  # two keys of one hash, or a file under another's name
        return None
    return entry["header"], data[end:]
