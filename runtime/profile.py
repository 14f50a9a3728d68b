"""Where an inference spends its time: every call of a program, timed by itself.

Each call gets an entry function of its own, from the same emitter and the same kernels as the program's. A round runs
all of them in order, so that caches are in the state in which an inference finds them. The sum of the parts is a
little more than the whole: every part opens a team of threads.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..codegen.emit_program import emit_program
from ..codegen.llvm import compile_object
from .loader import load_entries

if TYPE_CHECKING:
    from .executable import Executable


@dataclass(frozen=True, slots=True)
class CallProfile:
    """One call. median_s, min_s: seconds over the rounds; nodes: what its task computes; flops: of one run."""

    symbol: str
    median_s: float
    min_s: float
    nodes: tuple[str, ...] = ()
    flops: int = 0

    def __str__(self) -> str:
        rate = f"{self.flops / self.median_s / 1e9:8.1f} GFLOP/s" if self.flops and self.median_s else " " * 16
        return f"{self.median_s * 1e6:10.1f} us {rate}  {self.symbol}  {'+'.join(self.nodes)}"


def profile(executable: Executable, rounds: int = 10, inputs: Mapping[str, Any] | None = None) -> list[CallProfile]:
    """Time every call of the executable's program, in order of execution.

    inputs  as for :meth:`Executable.run`; default: :meth:`Executable.example_inputs`. Raises InputError.
    """
    program, target = executable.program, executable.target
    executable.check_host()
    parts = [replace(program, calls=(replace(call, wait=True),)) for call in program.calls]
    names = [f"luthier{k}_run" for k in range(len(parts))]
    modules = []
    for k, part in enumerate(parts):
        text = emit_program(part, target).replace("@luthier_", f"@luthier{k}_")
        modules.append(compile_object(text, target))
    times = executable.time_parts(load_entries([*executable.objects, *modules], names), rounds, inputs)
    tasks = {t.symbol: t for t in executable.report.tasks} if executable.report is not None else {}
    result = []
    for call, run_s in zip(program.calls, times, strict=True):
        task = tasks.get(call.symbol)
        nodes, flops = (task.nodes, task.flops) if task is not None else ((), 0)
        result.append(CallProfile(call.symbol, statistics.median(run_s), min(run_s), nodes, flops))
    return result
