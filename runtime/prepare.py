"""Constants as a kernel reads them: in the layout that its schedule chose, or made from the original by a kernel.

Comes in: a parameter of a kernel and the array in its logical shape. Goes out: the array to bind to that parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..codegen import cached
from ..codegen.detect import host_target
from ..codegen.kernel import Kernel, Param
from ..schedule.layout import apply_layout
from ..te import dtype as dt
from .arrays import ALIGNMENT, Array, address_of, aligned, empty_aligned, empty_pages
from .executable import Executable
from .loader import LoadedKernel
from .single import single_executable


def prepared(
    param: Param, array: Array, preparing: Mapping[str, Executable] | None = None, out: Array | None = None
) -> Array:
    """Turn a constant in its logical shape into what the kernel reads; contiguous.

    preparing  what :func:`load_preparing` gave for this parameter; default: the kernel is loaded for this call
    out        where to, of the parameter's shape and dtype, contiguous and aligned to 64 bytes; default: a new array
    """
    if param.prepare is None:
        return apply_layout(param.layout, array, out)
    kernel = param.prepare
    source = np.ascontiguousarray(array)
    if out is None:
        out = empty_aligned(param.shape, dt.to_numpy(param.dtype))
    if preparing is None:
        _run_once(kernel, source, out)
    else:
        executable = preparing[kernel.symbol]
        executable.run_into([out], {executable.inputs[0].name: source})
    return out


def _run_once(kernel: Kernel, source: Array, out: Array) -> None:
    """Run a kernel by itself: to compile an entry function for it would take longer than all the rest."""
    if address_of(source) % ALIGNMENT:
        unaligned, source = source, empty_aligned(source.shape, source.dtype)
        np.copyto(source, unaligned)
    shared_bytes = aligned(kernel.shared_bytes)
    scratch = empty_pages(shared_bytes + kernel.thread_bytes)
    at = address_of(scratch)
    LoadedKernel(kernel)([address_of(source), address_of(out)], at, at + shared_bytes)


def load_preparing(params: Iterable[Param]) -> dict[str, Executable]:
    """Load the kernels that prepare ``params``, each distinct one once; by symbol. For builds: it uses the cache."""
    kernels: dict[str, Kernel] = {p.prepare.symbol: p.prepare for p in params if p.prepare is not None}
    return {s: single_executable(k, host_target(1), cached.compile_object) for s, k in kernels.items()}


def identity(param: Param) -> str:
    """A text that is equal for parameters that turn equal arrays into equal ones."""
    if param.prepare is not None:
        return param.prepare.symbol
    return repr(param.layout)
