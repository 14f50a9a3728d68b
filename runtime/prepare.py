"""Constants as a kernel reads them: in the layout that its schedule chose, or made from the original by a kernel.

Comes in: a parameter of a kernel and the array in its logical shape. Goes out: the array to bind to that parameter.
"""

from __future__ import annotations

import numpy as np

from ..codegen.detect import host_target
from ..codegen.kernel import Param
from ..schedule.layout import apply_layout
from .arrays import Array
from .executable import Executable
from .single import single_executable


def prepared(param: Param, array: Array, loaded: dict[str, Executable] | None = None) -> Array:
    """Turn a constant in its logical shape into what the kernel reads; contiguous.

    loaded  preparing kernels by symbol, to keep between the constants of one build
    """
    if param.prepare is None:
        return apply_layout(param.layout, array)
    loaded = {} if loaded is None else loaded
    symbol = param.prepare.symbol
    if symbol not in loaded:
        loaded[symbol] = single_executable(param.prepare, host_target(1))  # it was compiled for this machine
    return np.asarray(loaded[symbol](np.ascontiguousarray(array)))


def identity(param: Param) -> str:
    """A text that is equal for parameters that turn equal arrays into equal ones."""
    if param.prepare is not None:
        return param.prepare.symbol
    return repr(param.layout)
