"""What can happen to a log while sessions use it: locks, full disks, files taken away, clocks set anew."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from luthier.errors import LogError, LogUnavailableError
from luthier.tuner.database import MemoryDatabase, open_log
from luthier.tuner.exchange import export_records, import_records, merge_logs, read_records
from luthier.tuner.model_run import ModelRun
from luthier.tuner.patient import PatientLog, open_patiently
from luthier.tuner.record import Record
from luthier.tuner.statistics import statistics_of

HOLDER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
c.execute("ROLLBACK")
"""


class Holder:
    """Another process that keeps a log locked until it is told to let go."""

    def __init__(self, path: Path, env: dict[str, str]) -> None:
        command = [sys.executable, "-c", HOLDER, str(path)]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "locked\n"

    def let_go(self) -> None:
        self.process.communicate("\n", timeout=30)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def run_of(machine):
    def make(name: str = "net.onnx", tuned_s: float = 0.5) -> ModelRun:
        return ModelRun(name, machine.fingerprint(), 1.0, tuned_s, "tuned", created_at=1.7e9)

    return make


def tiles(log) -> list[int]:
    return sorted(r.decisions["tile"] for r in log.records())


class TestLocked:
    def test_the_error_says_who_is_to_blame(self, path, make_record, repository_env):
        with open_log(path, busy_s=0.05) as log:
            holder = Holder(path, repository_env)
            with pytest.raises(LogUnavailableError, match=r"another process has kept it locked.*or use another log"):
                log.add(make_record())
            assert list(log.records()) == []  # reading goes on
            holder.let_go()
            assert log.add(make_record())

    def test_records_wait_in_memory(self, path, make_record, run_of, repository_env):
        with PatientLog(path, busy_s=0.05, retry_s=0) as log:
            log.add(make_record(1))
            holder = Holder(path, repository_env)
            with pytest.warns(RuntimeWarning, match="locked.*kept in memory"):
                log.add(make_record(2))
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # once is enough
                log.add(make_record(3, 2e-3), replace=True)
                log.add_model_run(run_of())
            assert log.waiting == 3
            assert tiles(log) == [1, 2, 3] and log.best("v1:task", make_record().target_hash) is not None
            assert log.has("v1:task", make_record().target_hash, make_record(2).decisions_hash)
            assert len(log.identities("v1:task", make_record().target_hash)) == 3
            assert log.tasks()[0].records == 3 and log.model_runs() == [run_of()]
            with open_log(path, "r") as other:
                assert tiles(other) == [1]
            holder.let_go()
            log.add(make_record(4))
            assert log.waiting == 0
            with open_log(path, "r") as other:
                assert tiles(other) == [1, 2, 3, 4] and other.model_runs() == [run_of()]

    def test_looking_into_an_open_file_does_not_drop_its_locks(self, path, make_record, repository_env):
        """Else the last other process to leave would delete the write-ahead log that this one goes on writing to."""
        with open_log(path) as log:
            log.add(make_record(1))
            open_log(path, "r").close()
            merge_logs([path], MemoryDatabase())
            holder = Holder(path, repository_env)
            holder.let_go()
            assert path.with_name("log.db-wal").exists()
            log.add(make_record(2))
        with open_log(path, "r") as log:
            assert tiles(log) == [1, 2]

    def test_closing_waits_for_the_lock(self, path, make_record, repository_env):
        log = PatientLog(path, busy_s=0.05, retry_s=60, last_s=30)
        holder = Holder(path, repository_env)
        with pytest.warns(RuntimeWarning, match="locked"):
            log.add(make_record(1))
        timer = threading.Timer(0.3, holder.let_go)
        timer.start()
        log.close()
        timer.join()
        with open_log(path, "r") as other:
            assert tiles(other) == [1]
        assert sorted(p.name for p in path.parent.glob("*.jsonl")) == []

    def test_what_cannot_be_written_even_then_is_rescued(self, path, make_record, run_of, repository_env):
        log = PatientLog(path, busy_s=0.02, retry_s=60, last_s=0.1)
        log.add(make_record(1))
        holder = Holder(path, repository_env)
        with pytest.warns(RuntimeWarning, match="kept in memory"):
            log.add(make_record(2))
        log.add_model_run(run_of())
        with pytest.warns(RuntimeWarning, match=r"luthier log import .*rescued"):
            log.close()
        log.close()  # once is enough
        holder.let_go()
        (rescued,) = path.parent.glob("*.jsonl")
        with open_log(path) as again:
            assert tiles(again) == [1]
            import_records(rescued, again)
            assert tiles(again) == [1, 2] and again.model_runs() == [run_of()]

    def test_who_does_not_want_to_wait_loses_nothing(self, path, make_record, repository_env, monkeypatch):
        """Ctrl-C while a log that is closed waits for the lock."""

        def interrupt(seconds):
            raise KeyboardInterrupt

        log = PatientLog(path, busy_s=0.02, retry_s=60, last_s=30)
        holder = Holder(path, repository_env)
        with pytest.warns(RuntimeWarning, match="kept in memory"):
            log.add(make_record(1))
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=interrupt)
        monkeypatch.setattr("luthier.tuner.patient.time", clock)
        with pytest.raises(KeyboardInterrupt), pytest.warns(RuntimeWarning, match="rescued"):
            log.close()
        holder.let_go()
        (rescued,) = path.parent.glob("*.jsonl")
        assert [r.decisions["tile"] for r in read_records(rescued)] == [1]

    def test_several_sessions_of_one_process_are_rescued(self, path, make_record, repository_env):
        open_log(path).close()
        holder = Holder(path, repository_env)
        for tile in (1, 2, 3):
            log = PatientLog(path, busy_s=0.02, retry_s=60, last_s=0.0)
            with pytest.warns(RuntimeWarning, match="kept in memory"):
                log.add(make_record(tile))
            with pytest.warns(RuntimeWarning, match="rescued"):
                log.close()
        holder.let_go()
        with open_log(path) as log:
            for rescued in path.parent.glob("*.jsonl"):
                import_records(rescued, log)
            assert tiles(log) == [1, 2, 3]

    @pytest.mark.parametrize("known", [False, True], ids=["an empty file", "a log"])
    def test_a_log_that_is_locked_at_the_start_is_refused(self, known, path, make_record, repository_env, monkeypatch):
        monkeypatch.setattr("luthier.tuner.sqlite.BUSY_TIMEOUT_S", 0.05)
        if known:
            open_log(path).close()
        else:
            path.touch()
        holder = Holder(path, repository_env)
        with pytest.raises(LogUnavailableError, match="locked"):
            open_patiently(path)
        holder.let_go()
        with open_patiently(path) as log:
            log.add(make_record())
            log.prune(1)
            assert len(list(log.records())) == 1


DISK = """
import resource, sys, warnings
from luthier.tuner.patient import PatientLog
from luthier.tuner.record import Record
import json
template = json.loads(sys.argv[2])
with PatientLog(sys.argv[1], retry_s=0) as log:
    log.add(Record.from_json(template | {"decisions": {"tile": 0}}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        for n in range(1, 4):
            log.add(Record.from_json(template | {"decisions": {"tile": n}}))
    print([str(w.message) for w in caught], log.waiting)
    if sys.argv[3] == "room":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        log.add(Record.from_json(template | {"decisions": {"tile": 4}}))
        print(log.waiting)
"""


class TestFullDisk:
    """A limit on the size of files makes the system refuse writes as a full disk does."""

    def run(self, path, record, env, how):
        command = [sys.executable, "-c", DISK, str(path), json.dumps(record.to_json()), how]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    def test_records_wait_until_there_is_room(self, path, make_record, repository_env):
        done = self.run(path, make_record(), repository_env, "room")
        assert done.returncode == 0, done.stderr
        first, last = done.stdout.splitlines()
        assert first.count("kept in memory") == 1 and first.endswith(" 3")
        assert last == "0"
        with open_log(path, "r") as log:
            assert tiles(log) == [0, 1, 2, 3, 4]

    def test_without_room_anywhere_the_loss_is_told(self, path, make_record, repository_env):
        done = self.run(path, make_record(error="x" * 1500), repository_env, "none")
        assert done.returncode == 1
        assert "3 records could be written neither" in done.stderr and "are lost" in done.stderr
        with open_log(path, "r") as log:  # what was there before is sound
            assert tiles(log) == [0]
        assert not list(path.parent.glob("*.tmp"))

    def test_sqlite_reports_a_full_disk(self, path, make_record):
        with PatientLog(path, retry_s=0) as log:
            log._file._connection.execute("PRAGMA max_page_count = 12")  # what SQLite makes of it is SQLITE_FULL
            with pytest.warns(RuntimeWarning, match="disk is full.*kept in memory"):
                for n in range(60):
                    log.add(make_record(n, error="x" * 1900))
            assert log.waiting
            log._file._connection.execute("PRAGMA max_page_count = 100000")
        with open_log(path, "r") as log:
            assert tiles(log) == list(range(60))


class TestFileTakenAway:
    def test_deleted(self, path, make_record):
        with open_log(path) as log:
            log.add(make_record(1))
            path.unlink()
            with pytest.raises(LogUnavailableError, match="deleted while it was open"):
                log.add(make_record(2))
        assert not path.exists()

    def test_replaced(self, path, make_record):
        with open_log(path.with_name("other.db")) as other:
            other.add(make_record(7))
        with open_log(path) as log:
            log.add(make_record(1))
            os.replace(path.with_name("other.db"), path)
            content = path.read_bytes()
            with pytest.raises(LogUnavailableError, match="replaced by another file while it was open"):
                log.add(make_record(2))
        assert path.read_bytes() == content

    def test_a_session_rescues_all_that_was_in_it(self, path, make_record):
        log = PatientLog(path, retry_s=0)
        log.add(make_record(1))
        path.unlink()
        with pytest.warns(RuntimeWarning, match="deleted.*kept in memory"):
            log.add(make_record(2))
        with pytest.warns(RuntimeWarning, match="luthier log import"):
            log.close()
        (rescued,) = path.parent.glob("*.jsonl")
        assert sorted(r.decisions["tile"] for r in read_records(rescued)) == [1, 2]

    def test_a_disk_that_is_gone(self, path, make_record, monkeypatch):
        """A network's disk may answer again; until then records wait."""

        def gone(path):
            raise OSError(errno.ESTALE, "Stale file handle")

        with PatientLog(path, retry_s=0) as log:
            with monkeypatch.context() as m:
                m.setattr("luthier.tuner.sqlite_file.identity_of", gone)
                with pytest.warns(RuntimeWarning, match="no longer be reached.*Stale.*kept in memory"):
                    log.add(make_record(1))
            assert log.waiting == 1
            log.add(make_record(2))
        with open_log(path, "r") as log:
            assert tiles(log) == [1, 2]

    def test_a_file_that_is_put_back_is_written_again(self, path, make_record):
        with PatientLog(path, retry_s=0) as log:
            log.add(make_record(1))
            aside = path.with_name("aside.db")
            path.rename(aside)
            with pytest.warns(RuntimeWarning, match="deleted"):
                log.add(make_record(2))
            aside.rename(path)
            log.add(make_record(3))
            assert log.waiting == 0
        with open_log(path, "r") as log:
            assert tiles(log) == [1, 2, 3]

    def test_truncated_while_it_is_open(self, path, make_record):
        with open_log(path) as log:
            log.merge(make_record(n) for n in range(300))
        log = PatientLog(path, retry_s=0)
        with path.open("r+b") as f:
            f.truncate(5000)
        with pytest.warns(RuntimeWarning) as caught:
            for n in range(300, 310):
                log.add(make_record(n))
            log.close()
        assert "damaged" in str(caught[0].message) or "I/O error" in str(caught[0].message)
        (rescued,) = path.parent.glob("*.jsonl")
        assert {r.decisions["tile"] for r in read_records(rescued)} >= set(range(300, 310))
        with pytest.raises(LogError, match=r"truncated|damaged"):
            list(open_log(path).records())


class TestClock:
    """``created_at`` may be anything: clocks are set back, and start in 1970 or far in the future."""

    TIMES = (1.7e9, 1.6e9, 0.0, -1e9, 4e11, 1e300)

    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    def test_nothing_depends_on_it(self, kind, path, make_record, machine, tmp_path):
        with MemoryDatabase() if kind == "memory" else open_log(path) as log:
            for n, at in enumerate(self.TIMES):
                log.add(make_record(n, 1e-3 + n * 1e-4, created_at=at, trial=n))
                log.add_model_run(ModelRun("net", machine.fingerprint(), 2.0, 1.0, "tuned", created_at=at))
            assert [r.created_at for r in log.records()] == list(self.TIMES)  # in the order in which they came
            assert [r.created_at for r in log.model_runs()] == list(self.TIMES)
            assert log.best("v1:task", machine).trial == log.default("v1:task", machine).trial == 0
            found = statistics_of(log)
            assert (found.first_at, found.last_at) == (1.6e9, 1e300)
            export_records(log, tmp_path / "a.jsonl")
            copy = MemoryDatabase()
            assert import_records(tmp_path / "a.jsonl", copy) == 6
            assert log.prune(2) == 4

    def test_the_same_measurement_at_another_time_is_no_better(self, make_record):
        for a, b in itertools.permutations(self.TIMES, 2):
            faster, slower = make_record(1, 1e-3, created_at=a), make_record(1, 2e-3, created_at=b)
            assert faster.better_than(slower) and not slower.better_than(faster)

    @pytest.mark.parametrize("at", [float("nan"), float("inf")])
    def test_what_is_no_time_is_refused(self, make_record, at):
        with pytest.raises(LogError, match="created_at"):
            Record.from_json(make_record().to_json() | {"created_at": at})


MIXED = """
import json, sys
from luthier.tuner.database import open_log
from luthier.tuner.record import Record
path, template, first = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
with open_log(path) as log:
    for n in range(120):
        # half of the candidates are everybody's, each measures them a little differently
        tile = n if n % 2 else first + n
        best = 1e-3 + first * 1e-7
        log.add(Record.from_json(template | {"decisions": {"tile": tile}, "run_s": [best, best * 1.01, best * 1.02]}))
        if n % 10 == 0:
            log.best("v1:task", Record.from_json(template).target_hash), log.tasks(), log.prune(10_000)
"""


def test_several_tuners_and_a_pruner_on_one_file(path, make_record, repository_env):
    """Each candidate that several measured is there once, with the shortest of equally well founded times."""
    template = json.dumps(make_record().to_json() | {"noise": -1.0})
    shutil.copy(Path(__file__).parent / "data" / "format_1.db", path)  # all find a file that must be brought up to date
    commands = [[sys.executable, "-c", MIXED, str(path), template, str(1000 * w)] for w in range(1, 4)]
    writers = [subprocess.Popen(c, env=repository_env, stderr=subprocess.PIPE, text=True) for c in commands]
    for w in writers:
        assert w.communicate(timeout=100)[1] == "" and w.returncode == 0
    with open_log(path, "r") as log:
        mine = list(log.records("v1:task"))
        assert len(mine) == 60 + 3 * 60
        assert {r.best_s for r in mine if r.decisions["tile"] % 2} == {1e-3 + 1000 * 1e-7}
    with sqlite3.connect(path) as c:
        assert c.execute("PRAGMA integrity_check").fetchone() == ("ok",)
