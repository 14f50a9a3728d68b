"""The host's description and the named targets."""

from __future__ import annotations

import os

import pytest

from luthier.codegen.detect import NAMES, can_run, host_target, named_target
from luthier.errors import TargetError


def test_host():
    host = host_target()
    assert host.name == "host" and host.threads == host.cores
    assert 1 <= host.cores <= len(os.sched_getaffinity(0))
    assert host.vector_bits in (128, 256, 512)
    assert 8 * 1024 <= host.l1_bytes <= host.l2_bytes <= 2**30
    assert host.line_bytes in (32, 64, 128, 256)
    assert can_run(host)
    assert host_target(3) == host.with_threads(3)
    assert host_target() is not None and host_target().fingerprint() == host.fingerprint()


@pytest.mark.parametrize(
    "name, bits, registers",
    [("x86-64-v2", 128, 16), ("x86-64-v3", 256, 16), ("x86-64-v4", 512, 32), ("aarch64", 128, 32)],
)
def test_named(name, bits, registers):
    target = named_target(name, 2)
    assert (target.name, target.vector_bits, target.vector_registers, target.threads) == (name, bits, registers, 2)
    assert target.lanes() == bits // 32
    assert name in NAMES


def test_only_one_architecture_runs():
    assert not (can_run(named_target("aarch64")) and can_run(named_target("x86-64-v2")))


def test_unknown_name_lists_the_known():
    with pytest.raises(TargetError, match="'x86-64-v5' is unknown; use one of host, x86-64-v2"):
        named_target("x86-64-v5")


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_must_be_positive(threads):
    with pytest.raises(TargetError, match="must be a positive integer"):
        host_target(threads)
