"""Describe the host CPU, or one of the named ones, as a :class:`~luthier.target.Target`.

The instruction set comes from LLVM, cache sizes from /sys (common sizes where it is absent), the number of cores
from the process's affinity mask. What the process may use of them now, see :func:`usable_cpus`, can be less.
"""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import llvmlite.binding as binding

from ..errors import TargetError
from ..target import WITH_TILES, Target

_V2 = "cx16,sahf,popcnt,sse3,sse4.1,sse4.2,ssse3"
_V3 = _V2 + ",avx,avx2,bmi,bmi2,f16c,fma,lzcnt,movbe,xsave"
_V4 = _V3 + ",avx512f,avx512bw,avx512cd,avx512dq,avx512vl"

_LINUX = "unknown-linux-gnu"
# name -> triple, LLVM cpu, features, vector bits, vector registers
_NAMED = {
    "x86-64-v2": (f"x86_64-{_LINUX}", "x86-64-v2", _V2, 128, 16),
    "x86-64-v3": (f"x86_64-{_LINUX}", "x86-64-v3", _V3, 256, 16),
    "x86-64-v4": (f"x86_64-{_LINUX}", "x86-64-v4", _V4, 512, 32),
    "aarch64": (f"aarch64-{_LINUX}", "generic", "neon,fp-armv8", 128, 32),
}
NAMES = ("host", *_NAMED)
"""Every name that :func:`named_target` knows."""

_AVX512 = {"avx512f", "avx512vl", "avx512bw", "avx512dq"}
_SYS_CPU = Path("/sys/devices/system/cpu")
_CGROUPS = Path("/sys/fs/cgroup")
_CGROUPS_OF_PROCESS = Path("/proc/self/cgroup")


def host_target(threads: int | None = None) -> Target:
    """The machine that runs this process; ``threads`` defaults to the cores that the process may use."""
    target = _host()
    return target.with_threads(_checked_threads(threads, target.cores))


def named_target(name: str, threads: int | None = None) -> Target:
    """``host`` or one of :data:`NAMES`; the named ones have generic cache sizes and one thread by default.

    Raises TargetError for an unknown name.
    """
    if name == "host":
        return host_target(threads)
    if name not in _NAMED:
        raise TargetError(f"target {name!r} is unknown; use one of {', '.join(NAMES)}")
    triple, cpu, features, bits, registers = _NAMED[name]
    return Target(
        name=name,
        triple=triple,
        cpu=cpu,
        features=",".join(f"+{f}" for f in features.split(",")),
        vector_bits=bits,
        vector_registers=registers,
        threads=_checked_threads(threads, 1),
        model=name,
    )


def can_run(target: Target) -> bool:
    """Whether this machine can execute code made for ``target``."""
    if _architecture(target.triple) != _architecture(_triple()):
        return False
    have = _host_features()
    return all(have.get(f[1:], False) or f[1:] in _ALWAYS for f in target.features.split(",") if f.startswith("+"))


def usable_cpus() -> int:
    """Logical CPUs that this process may use now: those of its affinity mask (``taskset``), but no more than the quotas
    of its control groups pay for."""
    return _within_quota(len(_affinity()))


def usable_cores() -> int:
    """As :func:`usable_cpus`; hyper-threads of one core count once."""
    return _within_quota(_physical_cores())


_ALWAYS = {"neon", "fp-armv8"}  # part of every aarch64 that runs Linux; LLVM may not list them


def _checked_threads(threads: int | None, default: int) -> int:
    if threads is None:
        return default
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise TargetError(f"threads={threads!r}: must be a positive integer")
    return threads


@lru_cache(maxsize=1)
def _host_features() -> dict[str, bool]:
    try:
        return dict(binding.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot tell on this CPU: generic code
        return {}


@lru_cache(maxsize=1)
def _triple() -> str:
    return str(binding.get_process_triple())


def _architecture(triple: str) -> str:
    first = triple.split("-")[0].lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(first, first)


@lru_cache(maxsize=1)
def _host() -> Target:
    features = _host_features()
    have = {name for name, on in features.items() if on}
    triple = _triple()
    if _architecture(triple) == "aarch64":
        bits, registers = 128, 32
        features = {"neon": True, "fp-armv8": True, **features}
    elif have >= _AVX512:
        bits, registers = 512, 32
    elif {"avx2", "fma"} <= have:
        bits, registers = 256, 16
    else:
        bits, registers = 128, 16
    cores = _physical_cores()
    caches = _caches()
    return Target(
        name="host",
        triple=triple,
        cpu=_cpu(str(binding.get_host_cpu_name()), have),
        features=",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(features.items())),
        vector_bits=bits,
        vector_registers=registers,
        l1_bytes=caches.get(1, 32 * 1024),
        l2_bytes=caches.get(2, 512 * 1024),
        l3_bytes=caches.get(3, 8 * 1024 * 1024),
        line_bytes=_line_bytes(),
        cores=cores,
        threads=cores,
        model=_model(),
    )


def _cpu(name: str, features: set[str]) -> str:
    """LLVM's name of the CPU, unless its features contradict that.

    LLVM goes by the model number. A virtual machine may show another one (a server with tiles calls itself a Rocket
    Lake), and newer ones are unknown. Only Intel's servers have tiles: with those, it is the oldest that has as many.
    """
    if "amx-tile" not in features or name in WITH_TILES:
        return name
    return "graniterapids" if "amx-fp16" in features else "sapphirerapids"


def _caches() -> dict[int, int]:
    """Bytes of the data (or unified) cache of each level, as the first CPU sees it."""
    sizes: dict[int, int] = {}
    for index in sorted(_SYS_CPU.glob("cpu0/cache/index*")):
        level, kind, size = (_read(index / name) for name in ("level", "type", "size"))
        match = re.fullmatch(r"(\d+)([KMG]?)", size)
        if kind in ("Data", "Unified") and level.isdigit() and match:
            sizes[int(level)] = int(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2]]
    return sizes


def _line_bytes() -> int:
    text = _read(_SYS_CPU / "cpu0/cache/index0/coherency_line_size")
    return int(text) if text.isdigit() and int(text) else 64


def _affinity() -> set[int]:
    """Numbers of the CPUs that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _physical_cores() -> int:
    """Cores behind the CPUs of this process: hyper-threads of one core count once."""
    return max(1, len({_read(_SYS_CPU / f"cpu{n}/topology/thread_siblings_list") or str(n) for n in _affinity()}))


def _within_quota(count: int) -> int:
    """At most ``count`` CPUs, and at most what the tightest quota of the control groups allows, rounded up."""
    limits = [quota / period for quota, period in _quotas() if quota > 0 and period > 0]
    return max(1, min([count, *map(math.ceil, limits)]))


def _quotas() -> Iterator[tuple[int, int]]:
    """CPU time per period of each control group that holds this process (versions 1 and 2), in microseconds.

    Within a container the path of a group may be the host's, which is not there; the group's own files are then those
    at the mount point.
    """
    for line in _read(_CGROUPS_OF_PROCESS).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = _CGROUPS / "cpu" if controllers else _CGROUPS
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(mount):
                break
            if controllers:
                texts = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
            else:
                texts = _read(folder / "cpu.max").split()
            if len(texts) == 2 and all(re.fullmatch("[0-9]+", t) for t in texts):  # not "max", not -1
                yield int(texts[0]), int(texts[1])


def _model() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
