"""What only a log in a file can get wrong: other files, damage, locks, full disks, killed and concurrent writers."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luthier.errors import LogError
from luthier.tuner.database import open_log
from luthier.tuner.record import Record


class TestFile:
    def test_reopening_keeps_everything(self, tmp_path, make_record):
        path = tmp_path / "a.db"
        with open_log(path) as log:
            log.add(make_record())
        for mode in ("w", "r"):
            with open_log(path, mode) as log:
                assert list(log.records()) == [make_record()]

    def test_a_name_that_is_no_text(self, tmp_path, make_record):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/na\xefve %23.db"))
        with open_log(path) as log:
            log.add(make_record())
        with open_log(path, "r") as log:
            assert list(log.records()) == [make_record()]

    def test_an_empty_file_is_no_log_to_read(self, tmp_path):
        path = tmp_path / "a.db"
        path.touch()
        with pytest.raises(LogError, match="it is empty; tune first"):
            open_log(path, "r")

    def test_no_room_to_make_the_file_smaller(self, tmp_path, make_record, monkeypatch):
        """Records are dropped all the same, and nobody is told that they were not."""
        with open_log(tmp_path / "a.db") as log:
            for n in range(4):
                log.add(make_record(n, 1e-3 * (n + 1)))

            class Full:
                def execute(self, query, *values):
                    if query == "VACUUM":
                        raise sqlite3.OperationalError("database or disk is full")
                    return connection.execute(query, *values)

                def __getattr__(self, name):
                    return getattr(connection, name)

            connection = log._connection
            log._connection = Full()
            with pytest.warns(RuntimeWarning, match="disk is full.*the records are gone, but the file stays"):
                assert log.prune(1) == 3
            log._connection = connection
            assert len(list(log.records())) == 1

    def test_reader_sees_what_a_writer_adds_meanwhile(self, tmp_path, make_record):
        path = tmp_path / "a.db"
        with open_log(path) as writer, open_log(path, "r") as reader:
            writer.add(make_record())
            assert len(list(reader.records())) == 1

    def test_file_on_a_read_only_medium(self, tmp_path, make_record):
        path = tmp_path / "a.db"
        with open_log(path) as log:
            log.add(make_record())
        content = path.read_bytes()
        with open_log(path, "r") as log:
            with pytest.raises(LogError, match="opened for reading"):
                log.add(make_record(2))
            assert len(list(log.records())) == 1
        assert path.read_bytes() == content

    @pytest.mark.parametrize("content", [b"not a log at all", b"x", b"PK\3\4" + bytes(2000)])
    def test_other_files_are_refused_and_left_alone(self, tmp_path, content):
        path = tmp_path / "a.db"
        path.write_bytes(content)
        with pytest.raises(LogError, match="not a Luthier log"):
            open_log(path)
        assert path.read_bytes() == content

    def test_databases_of_other_programs_are_refused(self, tmp_path):
        path = tmp_path / "a.db"
        with sqlite3.connect(path) as c:
            c.execute("CREATE TABLE records (x)")
        with pytest.raises(LogError, match="another program"):
            open_log(path)

    def test_newer_format(self, tmp_path):
        path = tmp_path / "a.db"
        open_log(path).close()
        with sqlite3.connect(path) as c:
            c.execute("PRAGMA user_version = 99")
        with pytest.raises(LogError, match=r"format 99.*update"):
            open_log(path)

    def test_missing_directory_missing_file_and_directory_as_file(self, tmp_path):
        with pytest.raises(LogError, match=r"directory .*nowhere does not exist"):
            open_log(tmp_path / "nowhere" / "a.db")
        with pytest.raises(LogError, match="no such file"):
            open_log(tmp_path / "a.db", "r")
        with pytest.raises(LogError, match="is a directory"):
            open_log(tmp_path)

    @pytest.mark.parametrize("keep", [50, 4096, 0.5, 0.9])
    def test_truncated_file(self, tmp_path, make_record, keep):
        path = tmp_path / "a.db"
        with open_log(path) as log:
            log.merge(make_record(t) for t in range(200))
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
        with pytest.raises(LogError, match="truncated"):
            open_log(path)

    def test_damaged_pages(self, tmp_path, make_record):
        path = tmp_path / "a.db"
        with open_log(path) as log:
            log.merge(make_record(t) for t in range(200))
        content = bytearray(path.read_bytes())
        content[4096 * 2 :] = b"\xa5" * (len(content) - 4096 * 2)
        path.write_bytes(content)
        with pytest.raises(LogError, match="damaged"), open_log(path) as log:
            list(log.records())

    def test_damaged_json(self, tmp_path, make_record):
        path = tmp_path / "a.db"
        with open_log(path) as log:
            log.add(make_record())
        with sqlite3.connect(path) as c:
            c.execute("UPDATE records SET decisions = '{'")
        with open_log(path) as log, pytest.raises(LogError, match="damaged"):
            list(log.records())

    def test_locked(self, tmp_path, make_record, monkeypatch):
        path = tmp_path / "a.db"
        open_log(path).close()
        monkeypatch.setattr("luthier.tuner.sqlite.BUSY_TIMEOUT_S", 0.05)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with open_log(path) as log, pytest.raises(LogError, match="locked"):
            log.add(make_record())
        holder.close()

    def test_full_disk_and_read_only_errors_say_what_to_do(self, tmp_path, make_record):
        path = tmp_path / "a.db"
        with open_log(path) as log:
            log._connection.execute("PRAGMA max_page_count = 10")  # SQLite reports this as it does a full disk
            with pytest.raises(LogError, match="disk is full"):
                log.merge(make_record(t) for t in range(2000))
            assert list(log.records()) == []
            log._connection.execute("PRAGMA query_only = 1")
            with pytest.raises(LogError, match="read-only"):
                log.add(make_record())

    def test_use_after_close(self, tmp_path, make_record):
        log = open_log(tmp_path / "a.db")
        log.close()
        log.close()
        with pytest.raises(LogError, match="closed"):
            log.add(make_record())


WRITER = """
import dataclasses, json, sys
from luthier.tuner.database import open_log
from luthier.tuner.record import Record
path, template, first, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
log = open_log(path)
for n in range(first, first + count):
    log.add(Record.from_json(template | {"decisions": {"n": n}, "trial": n}))
    print(n, flush=True)
"""


def start_writer(env, path: Path, record: Record, first: int, count: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(path), json.dumps(record.to_json()), str(first), str(count)]
    return subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, text=True)


def test_no_reported_record_is_lost_by_kill_9(tmp_path, make_record, repository_env):
    """A writer is killed at random moments; each number that it printed must be in the log."""
    path, rng = tmp_path / "a.db", random.Random(0)
    reported: list[int] = []
    for round_ in range(4):
        writer = start_writer(repository_env, path, make_record(), round_ * 100_000, 100_000)
        reported.append(int(writer.stdout.readline()))
        time.sleep(rng.uniform(0.0, 0.2))
        writer.send_signal(signal.SIGKILL)
        reported += [int(line) for line in writer.stdout if line.endswith("\n")]
        assert writer.wait() == -signal.SIGKILL
        with open_log(path) as log:
            assert {r.trial for r in log.records()} >= set(reported)
    with sqlite3.connect(path) as c:
        assert c.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_several_writers_at_once(tmp_path, make_record, repository_env):
    """The file is created by whichever is first; nothing is lost and nobody fails."""
    path = tmp_path / "a.db"
    writers = [start_writer(repository_env, path, make_record(), 1000 * w, 150) for w in range(3)]
    for w in writers:
        w.communicate(timeout=50)
        assert w.returncode == 0
    with open_log(path, "r") as log:
        assert {r.trial for r in log.records()} == {1000 * w + n for w in range(3) for n in range(150)}
