"""What the schedules and the code generator need to know of a machine; plain data.

:mod:`luthier.codegen.detect` fills it in for the host and for the named targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

WITH_TILES = frozenset({"sapphirerapids", "emeraldrapids", "graniterapids", "graniterapids-d", "diamondrapids"})
"""CPUs with matrix tiles (AMX), by LLVM's names: Intel's servers of today."""


@dataclass(frozen=True, slots=True)
class Target:
    """A CPU to generate code for.

    name            ``host`` or one of the named targets (``x86-64-v3``, ...)
    triple, cpu     as LLVM spells them
    features        LLVM feature string: ``+avx512f,+fma,...``
    vector_bits     width of the vector registers that generated code uses
    vector_registers  their number
    fma_units       fused multiply-adds of full width that one core starts per cycle
    l1_bytes, l2_bytes   data cache of one core
    l3_bytes        last-level cache, shared
    line_bytes      cache line
    cores           physical cores that the process may use; no part of the machine's identity
    threads         threads that a build for this target runs with
    model           human-readable CPU model; part of a log record's fingerprint
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bits: int
    vector_registers: int
    fma_units: int = 2
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    l3_bytes: int = 8 * 1024 * 1024
    line_bytes: int = 64
    cores: int = 1
    threads: int = 1
    model: str = ""

    def lanes(self, dtype_bits: int = 32) -> int:
        """Elements of ``dtype_bits`` that one vector register holds."""
        return self.vector_bits // dtype_bits

    def with_threads(self, threads: int) -> Target:
        """Return the same machine running ``threads`` threads."""
        return replace(self, threads=threads)

    def fingerprint(self) -> dict[str, Any]:
        """Everything that a tuning record must match, as JSON-able data; see :func:`machine_identity`."""
        return machine_identity(asdict(self))


def machine_identity(description: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a target's description that says which machine it is and how code runs there.

    The threads that code runs with belong to it; ``cores`` does not: how many cores a process may use depends on its
    affinity (``taskset``), and the same code on the same threads runs alike. Of ``features``, those that the CPU has
    belong to it; which ones are listed as absent depends on the version of LLVM.
    """
    identity = {name: value for name, value in description.items() if name != "cores"}
    if isinstance(identity.get("features"), str):
        identity["features"] = ",".join(sorted(f for f in identity["features"].split(",") if f.startswith("+")))
    return identity
