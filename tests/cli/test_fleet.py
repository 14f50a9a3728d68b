"""``luthier worker`` and ``luthier tune --workers``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fleet import Fleet

import luthier as package
from luthier.errors import TargetError, TuningError
from luthier.tuner.database import open_log
from luthier.tuner.fleet import connect, serve

NOWHERE = "dask://127.0.0.1:9"


@pytest.fixture
def quick_to_give_up(monkeypatch):
    pytest.importorskip("distributed", reason="a fleet needs dask: pip install luthier[fleet]")
    monkeypatch.setattr(serve, "CONNECT_S", 0.3)
    monkeypatch.setattr(connect, "CONNECT_S", 0.3)


def test_a_worker_says_what_is_wrong(luthier, quick_to_give_up):
    assert "write it as dask://host:8786" in luthier("worker", "somewhere").complaint
    assert "target 'abacus' is unknown" in luthier("worker", NOWHERE, "--target", "abacus").complaint
    assert "dask has no certificates" in luthier("worker", "dask+tls://host").complaint
    refused = luthier("worker", NOWHERE)
    assert refused.code == 2 and f"no dask scheduler answers at {NOWHERE}" in refused.err


def test_without_dask(luthier, tiny, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    for command in (["worker", NOWHERE], ["tune", tiny, "--workers", NOWHERE]):
        assert "pip install luthier[fleet]" in luthier(*command).complaint


def test_tune_refuses_before_it_writes(luthier, tiny, tmp_path, quick_to_give_up):
    for options, message in (
        (["--workers", "somewhere"], "write it as dask://host:8786"),
        (["--workers", NOWHERE], "no dask scheduler answers"),
        (["--fallback"], "--fallback: is about workers"),
        (["--any-target"], "--any-target: is about workers"),
        (["--target", "aarch64"], "cannot run code for aarch64"),
        (["--target", "abacus"], "target 'abacus' is unknown"),
    ):
        assert message in luthier("tune", tiny, *options).complaint
    assert list(tmp_path.iterdir()) == [tiny]


def test_the_function_refuses_the_same(tiny):
    with pytest.raises(TuningError, match="any_target and fallback are about workers"):
        package.tune(tiny, log="x.db", trials=1, fallback=True)
    with pytest.raises(TargetError, match="cannot run code for aarch64"):
        package.tune(tiny, log="x.db", trials=1, target="aarch64")


def test_tune_for_workers_of_another_kind(luthier, tiny, tmp_path):
    """The log then serves builds for that kind."""
    pytest.importorskip("distributed", reason="a fleet needs dask: pip install luthier[fleet]")
    root = str(Path(package.__file__).parent.parent)
    fleet = Fleet(os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))})
    try:
        fleet.start("old", "--threads", "1", "--target", "x86-64-v2")
        fleet.wait()
        done = luthier("tune", tiny, "--workers", fleet.url, "--trials", 3, "--log", "x.db")
    finally:
        fleet.close()
    assert done.code == 0, done.err
    assert "old     tcp://127.0.0.1:" in done.out and "x86-64-v2, 1 thread" in done.out
    assert "The whole model was not measured" in done.out
    command = done.out.partition("To use it on such a machine: luthier ")[2].split()
    assert command[0] == "build"
    with open_log("x.db", "r") as log:
        records = list(log.records())
    assert len(records) == 3 and {r.target["name"] for r in records} == {"x86-64-v2"}
    assert {r.status for r in records} == {"ok"}
    built = luthier(*command, "-o", "x.luthier")
    assert built.code == 0 and "2 tuned" in built.out + built.err
