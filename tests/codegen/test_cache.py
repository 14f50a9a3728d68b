"""The cache on disk: entries as bytes. What builds keep in it is tested in tests/graph/test_cached.py."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luthier import config
from luthier.codegen import cache as module
from luthier.codegen.cache import Cache, configured
from luthier.errors import Error

LIMIT = 2**20
HEADER = {"name": "kernel", "sizes": [1, 2], "layout": None}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", LIMIT)


def files(cache: Cache) -> list[Path]:
    return sorted(p for p in cache.directory.rglob("*") if p.is_file())


def test_what_was_stored_is_found(cache: Cache) -> None:
    assert cache.get("a") is None
    cache.put("a", HEADER, b"\0code\xff")
    cache.put("b", {}, b"")
    assert cache.get("a") == (HEADER, b"\0code\xff")
    assert Cache(cache.directory, LIMIT).get("b") == ({}, b"")
    assert cache.get("c") is None
    cache.put("a", {}, b"newer")
    assert cache.get("a") == ({}, b"newer")
    assert cache.usage().entries == 2
    assert cache.directory.stat().st_mode & 0o077 == 0


def test_every_damaged_byte_and_every_cut_is_noticed(cache: Cache) -> None:
    cache.put("a", HEADER, b"object code")
    (path,) = files(cache)
    whole = path.read_bytes()
    damaged = [whole[:i] + bytes([whole[i] ^ 0x10]) + whole[i + 1 :] for i in range(len(whole))]
    for data in [*damaged, *(whole[:n] for n in range(len(whole))), whole + b"\0"]:
        path.write_bytes(data)
        assert cache.get("a") is None
        assert not path.exists()
    cache.put("a", HEADER, b"object code")
    assert cache.get("a") == (HEADER, b"object code")


def test_an_entry_under_anothers_name_is_not_taken(cache: Cache) -> None:
    cache.put("a", HEADER, b"code of a")
    (path,) = files(cache)
    cache.put("b", HEADER, b"code of b")
    (other,) = set(files(cache)) - {path}
    shutil.copy(path, other)
    assert cache.get("b") is None
    assert cache.get("a") == (HEADER, b"code of a")


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 64 * 1024)
    for n in range(16):
        before = set(files(cache))
        cache.put(f"k{n}", {}, bytes(7000))
        (path,) = set(files(cache)) - before
        os.utime(path, (1e9 + n, 1e9 + n))
    assert cache.get("k3") is not None  # used: now the newest
    cache.trim()
    assert 0 < cache.usage().size_bytes <= 64 * 1024
    kept = [n for n in range(16) if cache.get(f"k{n}") is not None]
    assert kept == [3, *range(16 - len(kept) + 1, 16)]
    before = files(cache)
    cache.trim()  # nothing was stored since
    assert files(cache) == before


def test_two_who_trim_at_once_remove_no_more_than_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, other = (Cache(tmp_path / "cache", 64 * 1024) for _ in range(2))
    for n in range(16):
        before = set(files(cache))
        cache.put(f"k{n}", {}, bytes(7000))
        (path,) = set(files(cache)) - before
        os.utime(path, (1e9 + n, 1e9 + n))
    listed = list(cache._entries())
    assert other.get("k3") is not None  # used after the first has looked, before it removes
    other.put("k16", {}, bytes(7000))
    other.trim()
    kept = files(cache)
    monkeypatch.setattr(cache, "_entries", lambda: iter(listed))
    cache.trim()
    assert files(cache) == kept


def test_nothing_goes_within_the_limit(cache: Cache) -> None:
    for n in range(20):
        cache.put(f"k{n}", {}, bytes(1000))
    cache.trim()
    assert cache.usage().entries == 20


def test_what_killed_processes_left_is_removed_and_other_files_stay(cache: Cache) -> None:
    cache.put("a", HEADER, b"code")
    (path,) = files(cache)
    old, fresh, foreign = path.parent / ".writing-old", path.parent / ".writing-new", cache.directory / "notes.txt"
    for file in (old, fresh, foreign):
        file.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert cache.usage().entries == 1
    assert not old.exists()
    assert cache.clear().entries == 1
    assert files(cache) == sorted([fresh, foreign])


def test_clearing_what_is_not_there(cache: Cache) -> None:
    assert cache.clear().entries == cache.usage().entries == 0
    assert not cache.directory.exists()


def test_a_directory_that_cannot_be_made_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache", LIMIT)
    with pytest.warns(UserWarning, match=r"cannot be written \(Not a directory\).*LUTHIER_CACHE"):
        cache.put("a", HEADER, b"code")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put("b", HEADER, b"code")
        cache.trim()
    assert cache.get("a") is None


def in_child(function: Callable[[], None]) -> None:
    """Run in a forked process, which may change its limits and its user."""
    child = multiprocessing.get_context("fork").Process(target=function)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_a_full_disk_leaves_no_half_entry(cache: Cache) -> None:
    cache.put("small", HEADER, b"code")

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.warns(UserWarning, match="File too large"):
            cache.put("large", HEADER, bytes(5000))
        assert cache.get("large") is None
        assert cache.get("small") == (HEADER, b"code")

    in_child(fill)
    assert [p.suffix for p in files(cache)] == [".entry"]


@pytest.fixture
def world_readable() -> Iterator[Path]:
    """A directory that other users can enter, which pytest's is not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_read_only_directory_is_still_read(world_readable: Path) -> None:
    cache = Cache(world_readable / "cache", LIMIT)
    cache.put("a", HEADER, b"code")
    for path in [cache.directory, *cache.directory.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
        os.utime(path, (1e9, 1e9))

    def use() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        assert cache.get("a") == (HEADER, b"code")
        with pytest.warns(UserWarning, match="Permission denied"):
            cache.put("b", HEADER, b"code")
        cache.trim()
        assert cache.get("a") == (HEADER, b"code")

    in_child(use)
    assert len(files(cache)) == 1


def test_writers_readers_and_evictions_at_the_same_time(tmp_path: Path) -> None:
    """Whatever is found is whole, and what it should be."""

    def work() -> None:
        cache = Cache(tmp_path / "cache", 100 * 1024)

        def use(n: int) -> None:
            key = str(n % 13)
            found = cache.get(key)
            assert found in (None, ({"key": key}, key.encode() * 9000))
            cache.put(key, {"key": key}, key.encode() * 9000)
            cache.trim()

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(use, range(200)))

    children = [multiprocessing.get_context("fork").Process(target=work) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    cache = Cache(tmp_path / "cache", 100 * 1024)
    assert 0 < cache.usage().size_bytes <= 100 * 1024
    assert all(p.suffix == ".entry" for p in files(cache))


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with config.override(cache=""):
        assert configured() is None
    with config.override(cache=str(tmp_path), cache_mb=7):
        found = configured()
        assert found is configured()
        assert found is not None and (found.directory, found.limit_bytes) == (tmp_path, 7 * 2**20)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    with config.override(cache=None):
        found = configured()
        assert found is not None and found.directory == tmp_path / "xdg" / "luthier"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert module.default_directory() == tmp_path / ".cache" / "luthier"
    with config.override(cache=str(tmp_path), cache_mb=0), pytest.raises(Error, match="LUTHIER_CACHE_MB=0"):
        configured()


def test_switches_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_current", None)
    monkeypatch.delenv("LUTHIER_CACHE", raising=False)
    assert config.get().cache is None
    for text in ("", "some/where"):
        monkeypatch.setattr(config, "_current", None)
        monkeypatch.setenv("LUTHIER_CACHE", text)
        monkeypatch.setenv("LUTHIER_CACHE_MB", "12")
        assert (config.get().cache, config.get().cache_mb) == (text, 12)


def test_switches_for_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("LUTHIER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(config, "_current", None)
    with config.override(cache="/there", debug=2, openmp=False) as wanted:
        told = config.environment()
    assert told["LUTHIER_CACHE"] == "/there" and told["LUTHIER_OPENMP"] == "0"
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(config, "_current", None)
    assert config.get() == wanted
    with config.override(cache=None):
        assert "LUTHIER_CACHE" not in config.environment()
