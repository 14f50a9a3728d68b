"""The host's description and the named targets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from luthier.codegen import detect
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


@pytest.mark.parametrize(
    ("named", "features", "cpu"),
    [
        ("rocketlake", "avx512f amx-tile", "sapphirerapids"),
        ("rocketlake", "avx512f", "rocketlake"),
        ("generic", "amx-tile amx-fp16", "graniterapids"),
        ("emeraldrapids", "amx-tile", "emeraldrapids"),
        ("znver4", "avx512f avx512bf16", "znver4"),
    ],
)
def test_features_contradict_a_model_number(monkeypatch, named, features, cpu):
    monkeypatch.setattr(detect, "_host_features", lambda: dict.fromkeys(features.split(), True) | {"mmx": False})
    monkeypatch.setattr(detect.binding, "get_host_cpu_name", lambda: named)
    assert detect._host.__wrapped__().cpu == cpu


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_must_be_positive(threads):
    with pytest.raises(TargetError, match="must be a positive integer"):
        host_target(threads)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_affinity_counts_when_it_is_asked_for():
    """In a process of its own: the affinity of the test runner stays as it is."""
    script = (
        "import os\n"
        "from luthier.codegen.detect import host_target, usable_cores, usable_cpus\n"
        "before = usable_cpus(), host_target().cores\n"
        "assert before[0] <= len(os.sched_getaffinity(0))\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "assert (usable_cpus(), usable_cores()) == (1, 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize(
    ("quotas", "cpus"),
    [
        ({}, 8),
        ({"": "max 100000"}, 8),
        ({"a/b": "200000 100000"}, 2),
        ({"a/b": "150000 100000"}, 2),
        ({"a/b": "20000 100000"}, 1),
        ({"a": "300000 100000", "a/b": "max 100000"}, 3),
        ({"": "100000 100000", "other": "10000 100000"}, 1),
        ({"a/b": "900000 100000"}, 8),
        ({"a/b": "0 0"}, 8),
        ({"a/b": "much"}, 8),
    ],
)
def test_cpu_quotas(monkeypatch, tmp_path, quotas, cpus):
    monkeypatch.setattr(detect, "_affinity", lambda: set(range(8)))
    monkeypatch.setattr(detect, "_CGROUPS", tmp_path / "v2")
    monkeypatch.setattr(detect, "_CGROUPS_OF_PROCESS", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text("4:memory:/a/b\n0::/a/b\n")
    for group, text in quotas.items():
        _group(tmp_path / "v2" / group, cpu__max=text)
    assert detect.usable_cpus() == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", 8), ("250000", 3)])
def test_cpu_quotas_of_version_1(monkeypatch, tmp_path, quota, cpus):
    monkeypatch.setattr(detect, "_affinity", lambda: set(range(8)))
    monkeypatch.setattr(detect, "_CGROUPS", tmp_path)
    monkeypatch.setattr(detect, "_CGROUPS_OF_PROCESS", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text("4:cpu,cpuacct:/of/the/host\n1:memory:/of/the/host\n")
    _group(tmp_path / "cpu", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert detect.usable_cpus() == cpus
