"""Threads: find an OpenMP runtime that speaks the GOMP ABI, and say how many threads to use.

Generated code opens a team with ``GOMP_parallel`` and meets at ``GOMP_barrier``. Both come from a library that is
already on the machine: one that the process has loaded, the system's, or the copy that a wheel (xgboost, scikit-learn,
torch) brings. Without one, programs run on one thread, and one notice says how to change that. Next: :mod:`.loader`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import config
from ..codegen.detect import usable_cores, usable_cpus

SYMBOLS = ("GOMP_parallel", "GOMP_barrier", "omp_get_thread_num", "omp_get_num_threads")
"""What generated code may call. GNU's libgomp has them, and so do LLVM's libomp and Intel's libiomp5."""

NOTICE = (
    "no OpenMP runtime (libgomp) was found: running on one thread. Install one with "
    "`apt-get install libgomp1`, `dnf install libgomp` or `pip install xgboost`, which brings its own copy."
)


@dataclass(frozen=True, slots=True)
class OpenMP:
    """A loaded runtime. symbols: name -> address of each of :data:`SYMBOLS`."""

    path: str
    symbols: Mapping[str, int]


_THREADS = re.compile(r"\s*0*([1-9][0-9]{0,8})\s*(?:,\s*[0-9]+\s*)*")

_lock = threading.Lock()
_found: OpenMP | None = None
_searched = False
_noticed = False
_started = False
_forked = False


def runtime() -> OpenMP | None:
    """Return the OpenMP runtime, loading it on first use; None where there is none or ``LUTHIER_OPENMP=0``."""
    global _found, _searched
    if not config.get().openmp:
        return None
    with _lock:
        if not _searched:
            _found, _searched = _search(), True
        return _found


def default_threads() -> int:
    """Threads to use when the user does not say.

    ``OMP_NUM_THREADS`` (of a list, one number for each level of nesting, the first), but no more than the CPUs of this
    process; without it, or where it is no such list, the physical cores behind them. Both are asked for anew each time,
    because a process can change its affinity.
    """
    wish = _THREADS.fullmatch(os.environ.get("OMP_NUM_THREADS", ""))
    return min(int(wish[1]), usable_cpus()) if wish else usable_cores()


def usable_threads(threads: int) -> int:
    """Return how many of ``threads`` can run here: all, or 1 (with one notice) without an OpenMP runtime."""
    if threads > 1 and runtime() is None:
        _notice(NOTICE)
        return 1
    return max(threads, 1)


def team_size(threads: int) -> int:
    """Return how many of ``threads`` a call that starts now may use.

    All of them, but 1 in a process that was forked after a team had run: the workers do not survive a fork, and
    libgomp would wait for them for ever.
    """
    global _started
    if threads > 1:
        if _forked:
            _notice("forked after a model has run on several threads: running on one. Start processes with 'spawn'.")
            return 1
        _started = True
    return threads


def _notice(text: str) -> None:
    global _noticed
    with _lock:
        first, _noticed = not _noticed, True
    if first:
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def _search() -> OpenMP | None:
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)  # not RTLD_GLOBAL: it would redirect the calls of libraries loaded later
            symbols = {name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in SYMBOLS}
        except (OSError, AttributeError):
            continue
        return OpenMP(path, {name: address for name, address in symbols.items() if address})
    return None


def _candidates() -> Iterator[str]:
    """Yield names to try, best first: one runtime in a process shares its pool, so what is loaded comes first."""
    yield from _loaded()
    for name in ("gomp", "omp", "iomp5"):
        found = ctypes.util.find_library(name)
        if found:
            yield found
    yield "libgomp.so.1"
    packages = [p for p in dict.fromkeys(sys.path) if p.endswith(("site-packages", "dist-packages"))]
    for folder, pattern in [
        ("/usr", "lib*/libgomp.so*"),
        ("/usr", "lib/*/libgomp.so*"),
        *((p, pattern) for p in packages for pattern in ("*.libs/libgomp*.so*", "torch/lib/libgomp*.so*")),
    ]:
        yield from sorted(map(str, Path(folder).glob(pattern)))


def _loaded() -> list[str]:
    """Paths of the OpenMP runtimes that this process has mapped already (Linux)."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = (line.split(maxsplit=5)[5] for line in lines if line.count("/") and len(line.split(maxsplit=5)) == 6)
    return [p for p in dict.fromkeys(paths) if Path(p).name.startswith(("libgomp", "libomp", "libiomp5"))]


def _after_fork() -> None:
    global _forked, _lock
    _forked, _lock = _started, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
