"""Named targets in a form that this machine can run."""

from dataclasses import replace

from luthier.codegen.detect import can_run, host_target, named_target
from luthier.target import Target


def runnable(name: str, threads: int = 1) -> Target:
    """The named target; where this machine lacks some of its instructions, one with the same vectors and registers.

    Code for the latter has the same loops and tiles; LLVM makes several instructions of each that is too wide.
    """
    target, host = named_target(name, threads), host_target(threads)
    return target if can_run(target) else replace(target, triple=host.triple, cpu=host.cpu, features=host.features)


def starting_two(threads: int = 1) -> Target:
    """x86-64-v4 for cores that start two multiply-adds of 512 bits in a cycle; without such
    vectors here, what :func:`runnable` gives."""
    target = named_target("x86-64-v4", threads)
    return (
        replace(target, cpu="skylake-avx512", l2_bytes=2 << 20) if can_run(target) else runnable("x86-64-v4", threads)
    )


def narrow(threads: int = 1) -> Target:
    """x86-64-v3 with the caches of the cores on which narrow vectors were measured."""
    return replace(runnable("x86-64-v3", threads), l1_bytes=32 << 10, l2_bytes=512 << 10, l3_bytes=32 << 20)


TARGETS = {name: runnable(name, threads=2) for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4")}
