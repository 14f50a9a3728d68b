"""Kernels and objects through the cache: what :mod:`.build` and :mod:`.llvm` would make, unless it was made before.

The key of a kernel holds all that its code depends on: the workload's key, the recipe of its schedule (the decisions,
or the word for the default rule), the target and the host (which runs what prepares constants), the versions of Luthier
and LLVM, and a hash of the sources of this package and those below it, so that whoever edits a schedule never gets old
code. A kernel that is found has had no schedule made. Tuning does not come here: nearly all of its candidates lose.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import llvmlite
import llvmlite.binding as binding

from .. import __version__, config
from ..schedule.decide import Decisions
from ..schedule.space import space_for
from ..target import Target
from ..te.workload import Workload
from . import llvm
from .cache import Cache, configured
from .detect import host_target
from .kernel import Kernel, Param

Recipe: TypeAlias = str | Decisions
DEFAULT: Recipe = "default"
"""The recipe of a schedule that the default rule of the workload's space makes."""


def sources_hash(packages: tuple[Path, ...]) -> str:
    """A hash of the Python files in ``packages``, or of what they were compiled to where only that was installed."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted(package.rglob("*.py")) or sorted(package.rglob("*.pyc")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(package)}:{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


_ROOT = Path(__file__).parent.parent
# Hashed when this module is imported (a few milliseconds): later, the files may no longer be the code that runs.
SOURCES = sources_hash(tuple(_ROOT / name for name in ("te", "schedule", "codegen")))


def kernel_for(workload: Workload, recipe: Recipe, target: Target, build: Callable[[], Kernel]) -> tuple[Kernel, bool]:
    """Return the kernel of ``workload`` by ``recipe`` and whether it was stored; else ``build`` it and store it.

    recipe  :data:`DEFAULT` or the decisions to replay; ``build`` must follow it to the letter
    """
    cache = _usable()
    if cache is None or not _ships(workload):
        return build(), False
    key = _key("kernel", target, workload=workload.key, recipe=recipe)
    entry = cache.get(key)
    if entry is not None:
        return _from_entry(*entry), True
    kernel = build()
    entry = _to_entry(kernel)
    cache.put(key, *entry)
    decisions = kernel.metadata.get("decisions")
    if recipe == DEFAULT and decisions:  # a log may well ask for just these
        cache.put(_key("kernel", target, workload=workload.key, recipe=decisions), *entry)
    return kernel, False


def compile_object(ir_text: str, target: Target) -> bytes:
    """As :func:`.llvm.compile_object`, from the cache where the same text was compiled before."""
    cache = _usable()
    if cache is None:
        return llvm.compile_object(ir_text, target)
    key = _key("object", target, ir=hashlib.sha256(ir_text.encode()).hexdigest())
    entry = cache.get(key)
    if entry is not None:
        return entry[1]
    code = llvm.compile_object(ir_text, target)
    cache.put(key, {}, code)
    return code


def trim() -> None:
    """Keep the cache within its limit; called at the end of a build."""
    cache = _usable()
    if cache is not None:
        cache.trim()


def in_use() -> bool:
    """Whether kernels are kept."""
    return _usable() is not None


def _usable() -> Cache | None:
    """The cache, unless every kernel must be lowered here: to dump its levels or to verify them."""
    switches = config.get()
    return None if switches.dump or switches.verify else configured()


def _ships(workload: Workload) -> bool:
    """Whether the space of ``workload`` is among the hashed sources; others may register spaces of their own."""
    return space_for(workload).__module__.startswith(f"{__package__.rpartition('.')[0]}.schedule.")


@lru_cache(maxsize=8)
def _circumstances(target: Target) -> dict[str, Any]:
    return {
        "luthier": __version__,
        "sources": SOURCES,
        "llvm": [llvmlite.__version__, *binding.llvm_version_info],
        "target": target.fingerprint() | {"features": target.features},  # those that LLVM is told to do without, too
        "host": host_target(1).fingerprint(),
    }


def _key(kind: str, target: Target, **what: Any) -> str:
    return json.dumps({"kind": kind, **what, **_circumstances(target)}, sort_keys=True)


# ------------------------------------------------------------------------------------- kernels as data


def _to_entry(kernel: Kernel) -> tuple[dict[str, Any], bytes]:
    """The header of ``kernel`` and the objects of it and of its preparing kernels, in the header's order."""
    objects: list[bytes] = []
    header = _kernel_header(kernel, objects)
    return header, b"".join(objects)


def _kernel_header(kernel: Kernel, objects: list[bytes]) -> dict[str, Any]:
    objects.append(kernel.object_code)
    return {
        "symbol": kernel.symbol,
        "code_bytes": len(kernel.object_code),
        "outputs": kernel.outputs,
        "shared_bytes": kernel.shared_bytes,
        "thread_bytes": kernel.thread_bytes,
        "parallel": kernel.parallel,
        "in_place": kernel.in_place,
        "metadata": dict(kernel.metadata),
        "params": [
            {
                "name": p.name,
                "shape": p.shape,
                "dtype": p.dtype,
                "size_bytes": p.size_bytes,
                "layout": p.layout,
                "prepare": None if p.prepare is None else _kernel_header(p.prepare, objects),
            }
            for p in kernel.params
        ],
    }


def _from_entry(header: Mapping[str, Any], data: bytes) -> Kernel:
    return _kernel(header, data, 0)[0]


def _kernel(header: Mapping[str, Any], data: bytes, start: int) -> tuple[Kernel, int]:
    """The kernel whose code begins at ``start``, and where the code of its last preparing kernel ends."""
    end = start + header["code_bytes"]
    code = data[start:end]
    params = []
    for p in header["params"]:
        param = Param(**{**p, "shape": tuple(p["shape"]), "prepare": None})
        if p["prepare"] is not None:
            prepare, end = _kernel(p["prepare"], data, end)
            param = replace(param, prepare=prepare)
        params.append(param)
    fields = {k: v for k, v in header.items() if k != "code_bytes"}
    fields |= {"object_code": code, "params": tuple(params), "in_place": tuple((i, o) for i, o in header["in_place"])}
    return Kernel(**fields), end
