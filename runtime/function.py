"""One operator of one's own as a function of NumPy arrays.

    A, B = te.placeholder((64, 32)), te.placeholder((32, 16))
    C = te.compute((64, 16), lambda i, j: te.sum(A[i, k] * B[k, j], k))
    matmul = luthier.build(C)
    c = matmul(a, b)

Comes in: a schedule, or what to compute (then the operator's space schedules it by its default rule). Goes out: a
:class:`Function`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..codegen.build import build_kernel
from ..codegen.kernel import Kernel
from ..errors import InputError
from ..schedule.decide import Default
from ..schedule.schedule import Schedule
from ..schedule.space import instantiate
from ..target import Target
from ..te import dtype as dt
from ..te.tensor import Compute
from ..te.workload import Workload, workload
from .prepare import prepared
from .single import single_executable


class Function:
    """A compiled operator. Call it with the workload's inputs, in order; it returns the output, or a tuple of them."""

    def __init__(self, schedule: Schedule, kernel: Kernel, target: Target) -> None:
        self.schedule = schedule
        self.kernel = kernel
        self._executable = single_executable(kernel, target)

    def __call__(self, *arrays: Any) -> Any:
        """Compute. Inputs are checked (InputError); constant ones are put into the layout that the schedule chose."""
        return self._executable(*self._physical(arrays))

    def time(self, *arrays: Any, repeats: int = 10, number: int = 1) -> list[float]:
        """Return ``repeats`` latencies in seconds, each the mean of ``number`` runs; without arrays, of random ones."""
        return self.timer(*arrays)(repeats, number=number)

    def timer(self, *arrays: Any) -> Callable[..., list[float]]:
        """Bring arrays into their layouts once; returns what times runs with them: ``(repeats=10, number=1)``."""
        specs = self._executable.inputs
        feed = {s.name: a for s, a in zip(specs, self._physical(arrays), strict=True)} if arrays else None
        return partial(self._executable.time, inputs=feed)

    def _physical(self, arrays: Sequence[Any]) -> list[Any]:
        """Check the arrays that change their layout, and change it."""
        inputs = self.schedule.workload.inputs
        if len(arrays) != len(inputs):
            names = ", ".join(f"{t.name}: {t.dtype}{list(t.shape)}" for t in inputs)
            raise InputError(f"{len(arrays)} arrays were given; the function takes {len(inputs)}: {names}")
        result = []
        for tensor, param, value in zip(inputs, self.kernel.params, arrays, strict=False):
            array = value
            if param.layout is not None or param.prepare is not None:
                array = np.asarray(value, None if hasattr(value, "__array__") else dt.to_numpy(tensor.dtype))
                if array.shape != tensor.shape:
                    raise InputError(f"input {tensor.name!r} has shape {list(array.shape)}; it must be {tensor.shape}")
                array = prepared(param, array)
            result.append(array)
        return result

    def __repr__(self) -> str:
        return f"Function({self.kernel.symbol}: {self._executable!r})"


def build(
    what: Schedule | Workload | Compute | Sequence[Compute], target: Target, *, threads: int | None = None
) -> Function:
    """Compile one operator for ``target``.

    what     a schedule; or a workload or its outputs, whose inputs are then the arguments in order of first use
    threads  threads to run with; default: the target's

    Raises ScheduleError when the schedule cannot be lowered.
    """
    if threads is not None:
        if threads < 1:
            raise InputError(f"build: threads is {threads}; it must be at least 1")
        target = target.with_threads(threads)
    if isinstance(what, Schedule):
        schedule = what
    else:
        task = what if isinstance(what, Workload) else workload(what)
        schedule = instantiate(task, Default(), target)
    return Function(schedule, build_kernel(schedule, target), target)
