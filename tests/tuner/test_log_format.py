"""Logs of older formats: read as they are, brought up to date in place, all or nothing.

``data/format_1.db`` was written by the code of format 1. It holds two tasks of one family. The first was tuned with one
thread by a process that could use two cores, by one that could use one core (two of the same candidates), and with two
threads; the second has an unverified record and one of a space of the user's own.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from luthier import te
from luthier.errors import LogError
from luthier.te.ops.conv import conv
from luthier.tuner.database import open_log
from luthier.tuner.exchange import export_records, import_records
from luthier.tuner.family import FAMILY_VERSION
from luthier.tuner.lookup import schedules_from_log
from luthier.tuner.record import Status, relative_spread
from luthier.tuner.sqlite_format import FORMAT_VERSION

OLD = Path(__file__).parent / "data" / "format_1.db"


@pytest.fixture
def old(tmp_path) -> Path:
    return Path(shutil.copy(OLD, tmp_path / "old.db"))


def version(path: Path) -> int:
    with sqlite3.connect(path) as c:
        found = c.execute("PRAGMA user_version").fetchone()[0]
    c.close()
    return found


def check(log) -> None:
    """What any way of reading the old file must give."""
    records = list(log.records())
    assert len(records) == 7  # of nine, two pairs differed in the allowed cores only
    assert len({r.target_hash for r in records}) == 2  # one thread, two threads
    assert all("cores" not in r.target and "-" not in r.target["features"] for r in records)
    first, second = sorted({(t.key, t.name) for t in log.tasks()}, key=lambda t: t[1])
    one_thread = next(r.target_hash for r in records if r.target["threads"] == 1)
    default, best = log.default(first[0], one_thread), log.best(first[0], one_thread)
    assert len(default.run_s) == 6 and default.best_s == 4.9e-5  # the better founded of the two
    assert best.best_s == 4.0e-5 and best.noise == relative_spread((4.0e-5, 4.1e-5, 4.4e-5))
    again = [r for r in log.records(first[0], one_thread) if r.best_s == 6.0e-5]
    assert len(again) == 1 and again[0].ok  # a success stays rather than the time-out of the other
    assert not [r for r in records if r.status is Status.TIMEOUT]
    assert log.best(second[0], one_thread, "").best_s == 9.0e-5
    assert log.best(second[0], one_thread, "mine.space").best_s == 2e-4
    assert all((r.predicted, r.cold, r.worker) == (None, False, "") for r in records)
    assert log.model_runs() == []


def test_reading_changes_nothing(old):
    before = old.read_bytes()
    with open_log(old, "r") as log:
        check(log)
        with pytest.raises(LogError, match="opened for reading"):
            log.add(next(log.records()))
    assert old.read_bytes() == before and version(old) == 1


def test_writing_brings_it_up_to_date_once(old):
    for _ in range(2):
        with open_log(old) as log:
            check(log)
        assert version(old) == FORMAT_VERSION
    with open_log(old, "r") as log:
        check(log)
    with sqlite3.connect(old) as c:
        assert c.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert c.execute("SELECT count(*) FROM targets").fetchone() == (2,)
        families = {row[0] for row in c.execute("SELECT family FROM tasks")}
        assert len(families) == 1 and families.pop().startswith(FAMILY_VERSION)


def test_an_up_to_date_file_has_the_same_tables_as_a_new_one(old, tmp_path):
    open_log(old).close()
    open_log(tmp_path / "new.db").close()

    def columns(path):
        with sqlite3.connect(path) as c:
            tables = [row[0] for row in c.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
            indices = [row[0] for row in c.execute("SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name")]
            return {t: sorted(row[1:6] for row in c.execute(f"PRAGMA table_info({t})")) for t in tables}, indices

    assert columns(old) == columns(tmp_path / "new.db")


def test_a_damaged_record_stops_the_migration_and_the_file_stays_as_it_was(old):
    with sqlite3.connect(old) as c:
        c.execute("UPDATE records SET run_s = '[1e-5,' WHERE id = 4")
        before = list(c.iterdump())
    c.close()
    with pytest.raises(LogError, match="damaged"):
        open_log(old)
    assert version(old) == 1
    with sqlite3.connect(old) as c:
        assert list(c.iterdump()) == before


def test_a_full_disk_stops_the_migration_and_the_file_stays_as_it_was(old, repository_env):
    """A limit on the size of files stands for the disk: the migration needs room for its pages."""
    code = (
        "import resource, sys; from luthier.tuner.database import open_log; from luthier.errors import LogError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))\n"
        "try: open_log(sys.argv[1])\n"
        "except LogError as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(old)], env=repository_env, capture_output=True, text=True, check=True
    )
    assert "I/O error" in done.stdout or "full" in done.stdout
    assert version(old) == 1
    with open_log(old) as log:
        check(log)


def test_several_processes_may_bring_it_up_to_date_at_once(old, repository_env):
    code = "import sys; from luthier.tuner.database import open_log; print(len(list(open_log(sys.argv[1]).records())))"
    command = [sys.executable, "-c", code, str(old)]
    running = [subprocess.Popen(command, env=repository_env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [p.communicate(timeout=50)[0] for p in running] == ["7\n"] * 3
    with open_log(old, "r") as log:
        check(log)


def test_an_index_of_another_version_is_made_anew(old):
    open_log(old).close()
    with sqlite3.connect(old) as c:
        (family,) = {row[0] for row in c.execute("SELECT family FROM tasks")}
        c.execute("UPDATE tasks SET family = 'f0-of another age'")
    c.close()
    with open_log(old, "r") as log:
        assert len(log.family(family)) == 2
    with open_log(old) as log:
        assert len(log.family(family)) == 2
    with sqlite3.connect(old) as c:
        assert c.execute("SELECT DISTINCT family FROM tasks").fetchall() == [(family,)]


def test_an_export_of_the_old_file_is_the_same_log(old, tmp_path):
    with open_log(old, "r") as log:
        assert export_records(log, tmp_path / "old.jsonl") == 7
    with open_log(tmp_path / "copy.db") as copy:
        import_records(tmp_path / "old.jsonl", copy)
        check(copy)


def test_builds_find_the_old_records(old, machine):
    """The records are of another machine with the same registers: they are reused, or say why not."""
    x = te.placeholder((1, 2, 14, 14, 8), name="x")
    w = te.placeholder((32, 16, 3, 3), name="w", constant=True)
    work = te.workload(conv(x, w, in_channels=16, out_channels=32, pads=(1,) * 4, in_block=8, out_block=8), [x, w])
    with open_log(old, "r") as log:
        fingerprint = next(log.records(work.key)).target
        own = replace(machine, name="host", cpu="haswell", features="+avx,+avx2,+fma,-amx", model="Some CPU", cores=64)
        assert own.fingerprint() == fingerprint
        lookup = schedules_from_log(log)
        assert lookup(work, own).why.startswith("record of 2025-11-22, trial")
        assert lookup(work, own.with_threads(4)).origin != "tuned"
