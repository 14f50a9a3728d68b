"""The file format of artifacts: a JSON manifest and named byte sections, each with a checksum.

    offset 0    8 bytes   magic "\\x89LUTHIER"
           8    uint32    format version
          12    uint32    reserved, 0
          16    uint64    size of the manifest in bytes
          24    uint64    size of the file in bytes
          32    32 bytes  SHA-256 of the manifest
          64    manifest  UTF-8 JSON: {"sections": {name: {"offset", "size", "sha256"}}, ...}
                sections, each at a multiple of 4096 bytes

All numbers are little-endian. A version is raised when an older reader could misread the file; readers take
versions up to their own. Nothing in a file is executed or unpickled by this module.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import ArtifactError
from ..whole_file import whole_file
from .arrays import Array

MAGIC = b"\x89LUTHIER"
VERSION = 2
"""1: reports without what a profile needs. 2: with it."""
PAGE_BYTES = 4096

_HEADER = struct.Struct("<8sIIQQ32s")


def write_container(path: str | PathLike[str], manifest: Mapping[str, Any], sections: Mapping[str, Array]) -> None:
    """Write a file at ``path``, replacing one that is there, all or nothing.

    sections: uint8 arrays. The data is on disk when this returns. Raises ArtifactError, and leaves nothing behind,
    when it cannot be written.
    """
    path = Path(path)
    header, body, places = _layout(manifest, sections)
    try:
        with whole_file(path, durable=True) as file:
            file.write(header + body)
            for name, array in sections.items():
                file.seek(places[name])
                file.write(array.data)
            file.truncate(_HEADER.unpack(header)[4])
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written: {error.strerror}") from None


def read_container(path: str | PathLike[str], *, verify: bool = True) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the manifest and the sections of a file; sections are read-only views of the mapped file.

    verify: check the sections' checksums too (about a second per two gigabytes); the manifest's is always checked.
    Raises ArtifactError when the file is missing, is none of ours, is newer, truncated or damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data, manifest_size = _check_header(path, file)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from None
    text = data[_HEADER.size : _HEADER.size + manifest_size].tobytes()
    if hashlib.sha256(text).digest() != _HEADER.unpack(data[: _HEADER.size].tobytes())[5]:
        raise ArtifactError(f"{path}: the manifest's checksum does not match: the file is damaged; build it again")
    manifest = json.loads(text)
    sections = {n: data[s["offset"] : s["offset"] + s["size"]] for n, s in manifest["sections"].items()}
    if verify:
        with ThreadPoolExecutor(max_workers=2) as pool:
            for name, digest in zip(sections, pool.map(_sha256, sections.values()), strict=True):
                if digest != manifest["sections"][name]["sha256"]:
                    raise ArtifactError(
                        f"{path}: the checksum of section {name!r} does not match: the file is damaged; build it again"
                    )
    return manifest, sections


def _check_header(path: Path, file: BinaryIO) -> tuple[Array, int]:
    """Map the file; return its bytes and the manifest's size."""
    header = file.read(_HEADER.size)
    if not header.startswith(MAGIC):
        raise ArtifactError(f"{path}: not a Luthier artifact; make one with Executable.save or `luthier compile`")
    if len(header) < _HEADER.size:
        raise ArtifactError(f"{path}: truncated: it ends within the header; build or copy it again")
    _, version, _, manifest_size, size, _ = _HEADER.unpack(header)
    if version > VERSION:
        raise ArtifactError(
            f"{path}: made by a newer Luthier (format {version}, this one reads up to {VERSION}); upgrade Luthier"
        )
    actual = os.fstat(file.fileno()).st_size
    if actual < size or size < _HEADER.size + manifest_size:
        raise ArtifactError(f"{path}: truncated: {actual} of {size} bytes are there; build or copy it again")
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, np.uint8), manifest_size


def _layout(manifest: Mapping[str, Any], sections: Mapping[str, Array]) -> tuple[bytes, bytes, dict[str, int]]:
    """Return header, manifest text and the offset of each section.

    The offsets are part of the manifest, whose size they depend on: room is kept for the longest ones.
    """
    table = {n: {"offset": 1 << 62, "size": a.nbytes, "sha256": _sha256(a)} for n, a in sections.items()}
    room = len(_encode(manifest, table))
    end, places = _HEADER.size + room, {}
    for name, array in sections.items():
        places[name] = table[name]["offset"] = -(-end // PAGE_BYTES) * PAGE_BYTES
        end = places[name] + array.nbytes
    body = _encode(manifest, table).ljust(room)
    return _HEADER.pack(MAGIC, VERSION, 0, room, end, hashlib.sha256(body).digest()), body, places


def _encode(manifest: Mapping[str, Any], table: Mapping[str, Any]) -> bytes:
    return json.dumps({**manifest, "sections": table}).encode()


def _sha256(array: Array) -> str:
    return hashlib.sha256(array.data).hexdigest()
