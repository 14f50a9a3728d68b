"""Artifacts: an :class:`Executable` as one ``.luthier`` file, for machines of the same kind.

The file holds native code: load only files that you would run as programs. Constants are mapped, not read, so that
loading is quick and processes on one machine share them. The bytes are those of :mod:`.container`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate, pairwise
from os import PathLike, fspath
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from .. import __version__
from ..codegen.detect import can_run
from ..codegen.program import KernelCall, Program, Slot
from ..errors import ArtifactError, InternalError
from ..target import Target
from .container import read_container, write_container
from .executable import Executable, TensorSpec
from .loader import load_objects
from .report import BuildReport


def save(executable: Executable, path: str | PathLike[str]) -> None:
    """Write ``executable`` to ``path``, all or nothing. Raises ArtifactError when that is not possible."""
    manifest = {
        "luthier": __version__,
        "llvm": ".".join(map(str, llvm.llvm_version_info)),
        "target": asdict(executable.target),
        "program": asdict(executable.program),
        "objects": [len(code) for code in executable.objects],
        "inputs": [asdict(s) for s in executable.inputs],
        "outputs": [asdict(s) for s in executable.outputs],
        "report": None if executable.report is None else executable.report.to_json(),
    }
    code = np.frombuffer(b"".join(executable.objects), np.uint8)
    write_container(path, manifest, {"objects": code, "constants": executable.constants})


def load(path: str | PathLike[str], *, verify: bool = True) -> Executable:
    """Return the executable in the file at ``path``.

    verify: check all checksums; False saves reading the constants once. Raises ArtifactError when the file is missing,
    not an artifact, damaged, from a newer version, or made for a CPU with features that this one lacks.
    """
    manifest, sections = read_container(path, verify=verify)
    name = fspath(path)
    try:
        target = Target(**manifest["target"])
        program = _program(manifest["program"])
        inputs, outputs = (_specs(manifest[key]) for key in ("inputs", "outputs"))
        report = None if manifest["report"] is None else BuildReport.from_json(manifest["report"])
        objects = _split(sections["objects"].tobytes(), manifest["objects"])
        constants = sections["constants"]
    except (KeyError, TypeError, ValueError) as error:
        made_by = manifest.get("luthier", "unknown")
        raise ArtifactError(
            f"{name}: the manifest of Luthier {made_by} does not fit Luthier {__version__} ({error!r}); build it again"
        ) from None
    check_host(target, name)
    try:
        loaded = load_objects(objects)
    except InternalError as error:
        raise ArtifactError(f"{name}: its code cannot be loaded here: {error}") from None
    return Executable(program, objects, constants, inputs, outputs, target, report, loaded)


def check_host(target: Target, what: str) -> None:
    """Raise ArtifactError, beginning with ``what``, unless this CPU can run code for ``target``."""
    if can_run(target):
        return
    machine, wanted = (triple.split("-")[0] for triple in (llvm.get_process_triple(), target.triple))
    if machine != wanted:
        raise ArtifactError(f"{what}: made for {wanted}, this machine is {machine}; build it here")
    available = llvm.get_host_cpu_features()
    needed = [f[1:] for f in target.features.split(",") if f.startswith("+")]
    lacking = [f for f in needed if not available.get(f, False)]
    raise ArtifactError(
        f"{what}: made for {target.model or target.cpu}; this CPU ({llvm.get_host_cpu_name()}) lacks "
        f"{', '.join(lacking)}; build it here, or for a named target such as x86-64-v3"
    )


def _program(data: Mapping[str, Any]) -> Program:
    calls = tuple(KernelCall(**{**c, "args": tuple(Slot(**s) for s in c["args"])}) for c in data["calls"])
    return Program(**{**data, "calls": calls})


def _specs(data: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(s["name"], s["dtype"], tuple(s["dims"])) for s in data)


def _split(code: bytes, sizes: Sequence[int]) -> list[bytes]:
    if sum(sizes) != len(code):
        raise ValueError(f"objects take {sum(sizes)} bytes, the section has {len(code)}")
    return [code[a:b] for a, b in pairwise(accumulate(sizes, initial=0))]
