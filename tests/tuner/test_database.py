"""One conformance suite for every database, then what only a file can get wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luthier.errors import LogError
from luthier.tuner.database import Database, MemoryDatabase, open_log
from luthier.tuner.exchange import export_records, import_records, merge_logs, read_records
from luthier.tuner.family import family_of
from luthier.tuner.model_run import ModelRun
from luthier.tuner.record import ERROR_CHARACTERS, KnownTask, Record, Status, shorten


@pytest.fixture(params=["memory", "sqlite"])
def log(request, tmp_path) -> Database:
    database = MemoryDatabase() if request.param == "memory" else open_log(tmp_path / "log.db")
    with database:
        yield database


class TestEveryDatabase:
    def test_empty(self, log, machine):
        assert list(log.records()) == []
        assert log.tasks() == []
        assert log.best("v1:task", machine) is None
        assert log.identities("v1:task", machine) == set()

    def test_a_record_comes_back_as_it_was(self, log, make_record):
        record = make_record(
            error="naïve ↯", compile_s=0.25, seed=7, trial=3, space="mine", llvm_version="22",
            predicted=-0.5, noise=0.125, cold=True, worker="node-3",
        )  # fmt: skip
        assert log.add(record)
        assert list(log.records()) == [record]

    @pytest.mark.parametrize("status", [s for s in Status if s is not Status.OK])
    def test_failures_come_back_and_are_never_the_best(self, log, make_record, machine, status):
        record = make_record(status=status, error="why", trace=None)
        log.add(record)
        assert list(log.records()) == [record]
        assert log.best(record.key, machine) is None
        assert log.has(record.key, machine, record.decisions_hash)

    def test_best_is_the_fastest_verified_one(self, log, make_record, machine):
        log.add(make_record(1, 3e-3))
        log.add(make_record(2, 2e-3))
        log.add(make_record(3, 1e-3, verified=False))
        assert log.best("v1:task", machine).decisions["tile"] == 2

    def test_best_of_one_space(self, log, make_record, machine):
        log.add(make_record(1, 1e-3, space="mine"))
        log.add(make_record(2, 2e-3))
        assert log.best("v1:task", machine).decisions["tile"] == 1
        assert log.best("v1:task", machine, space="").decisions["tile"] == 2

    def test_key_and_target_keep_records_apart(self, log, make_record, machine):
        other = machine.with_threads(2)
        log.add(make_record(1, 1e-3))
        log.add(make_record(1, 2e-3, key="v1:other"))
        log.add(make_record(1, 3e-3, target=other.fingerprint()))
        assert log.best("v1:task", machine).best_s == 1e-3
        assert log.best("v1:task", other).best_s == 3e-3
        assert [r.best_s for r in log.records(key="v1:other")] == [2e-3]
        assert len(list(log.records(target=machine))) == 2
        assert log.best("v1:other", other) is None

    def test_of_two_with_one_identity_the_better_stays(self, log, make_record):
        assert log.add(make_record(1, 2e-3))
        assert not log.add(make_record(1, 3e-3))
        assert not log.add(make_record(1, status=Status.CRASHED))
        assert log.add(make_record(1, 1e-3))
        assert [r.best_s for r in log.records()] == [1e-3]

    def test_replace_overwrites_even_a_better_one(self, log, make_record, machine):
        log.add(make_record(1, 1e-3))
        assert log.add(make_record(1, status=Status.WRONG_RESULT), replace=True)
        assert log.best("v1:task", machine) is None

    def test_ranked(self, log, make_record, machine):
        for tile, run_s in ((1, 3e-3), (2, 1e-3), (3, 2e-3)):
            log.add(make_record(tile, run_s))
        log.add(make_record(4, 1e-4, space="mine"))
        log.add(make_record(5, 1e-5, verified=False))
        log.add(make_record(6, status=Status.CRASHED))
        assert [r.decisions["tile"] for r in log.ranked("v1:task", machine)] == [4, 2, 3, 1]
        assert [r.decisions["tile"] for r in log.ranked("v1:task", machine, "")] == [2, 3, 1]
        assert list(log.ranked("v1:other", machine)) == []

    def test_default(self, log, make_record, machine):
        log.add(make_record(1, 1e-3, trial=1))
        assert log.default("v1:task", machine) is None
        log.add(make_record(2, 3e-3, trial=0))
        log.add(make_record(3, 2e-3, trial=0, verified=False))
        assert log.default("v1:task", machine).decisions["tile"] == 2

    def test_targets(self, log, make_record, machine):
        two = machine.with_threads(2)
        for target in (machine, two):
            log.add(make_record(1, target=target.fingerprint()))
        log.add(make_record(2, target=two.fingerprint()))
        assert sorted(t["threads"] for t in log.targets("v1:task")) == [1, 2]
        assert log.targets("v1:other") == []

    def test_family(self, log, make_record):
        texts = {k: f"t0 = placeholder(float32[{n}])\nt1 = compute(float32[{n}], [i0])\n  {e}\nreturn t1\n"
                 for k, n, e in (("a", 4, "t0[i0]"), ("b", 9, "t0[i0]"), ("c", 4, "exp(t0[i0])"))}  # fmt: skip
        for key in ("b", "a", "c", "b"):
            log.add(make_record(1 + len(list(log.records())), key=key, task=key, workload=texts[key]))
        found = log.family(family_of(texts["a"]).signature)
        assert found == [KnownTask("b", "b", texts["b"]), KnownTask("a", "a", texts["a"])]
        assert log.family("another") == []

    def test_model_runs(self, log, machine):
        runs = [
            ModelRun("net.onnx", machine.fingerprint(), 2e-3, 1e-3, "tuned", 0.01, 0.02, 100, 300.0, created_at=1.7e9),
            ModelRun("net.onnx", machine.with_threads(2).fingerprint(), 2e-3, 3e-3, "default"),
            ModelRun("other.onnx", machine.fingerprint(), 1.0, 0.5, "tuned", accuracy="exact"),
        ]
        assert all(log.add_model_run(r) for r in runs)
        assert not log.add_model_run(runs[0])
        assert log.model_runs() == runs
        assert log.model_runs("net.onnx") == runs[:2]
        assert log.model_runs(target=machine) == [runs[0], runs[2]]
        assert log.model_runs("net.onnx", machine) == [runs[0]] and runs[0].gain == 2
        log.merge([], runs)
        assert log.model_runs() == runs

    def test_identities(self, log, make_record, machine):
        records = [make_record(t) for t in range(3)]
        for r in records:
            log.add(r)
        assert log.identities("v1:task", machine) == {r.decisions_hash for r in records}
        assert not log.has("v1:task", machine, make_record(9).decisions_hash)

    def test_tasks_counts_outcomes(self, log, make_record):
        log.add(make_record(1, 2e-3))
        log.add(make_record(2, 1e-3))
        log.add(make_record(3, status=Status.TIMEOUT))
        log.add(make_record(1, status=Status.CRASHED, key="v1:other", task="other"))
        first, second = log.tasks()
        assert (first.name, first.records, first.ok, first.best_s) == ("copy", 3, 2, 1e-3)
        assert first.statuses == {"ok": 2, "timeout": 1}
        assert (second.name, second.ok, second.best_s) == ("other", 0, math.inf)

    def test_prune_keeps_the_best_of_each_task(self, log, make_record):
        for tile in range(6):
            log.add(make_record(tile, 1e-3 * (tile + 1)))
            log.add(make_record(tile, 1e-3 * (6 - tile), key="v1:other"))
        log.add(make_record(9, status=Status.TIMEOUT))
        assert log.prune(2) == 9
        assert sorted(r.decisions["tile"] for r in log.records(key="v1:task")) == [0, 1]
        assert sorted(r.decisions["tile"] for r in log.records(key="v1:other")) == [4, 5]
        assert log.prune(2) == 0

    def test_prune_keeps_what_the_gain_is_measured_by(self, log, make_record, machine):
        for tile in range(5):
            log.add(make_record(tile, 1e-3 * (6 - tile), trial=tile))
        log.add(make_record(9, 1.0, space="mine"))
        log.add(make_record(8, 2.0, trial=1, space="mine"))
        assert log.prune(1) == 4
        assert sorted(r.decisions["tile"] for r in log.records()) == [0, 4, 9]
        assert log.default("v1:task", machine, "").best_s == 6e-3
        assert log.prune(0) == 3

    def test_merge(self, log, make_record):
        log.add(make_record(1, 2e-3))
        assert log.merge([make_record(1, 3e-3), make_record(2, 1e-3), make_record(1, 1e-3)]) == 2
        assert sorted((r.decisions["tile"], r.best_s) for r in log.records()) == [(1, 1e-3), (2, 1e-3)]


class TestConflicts:
    """Two records of one identity: which one stays, in whatever order they come."""

    def test_the_better_founded_time_stays(self, make_record):
        once = dataclasses.replace(make_record(), run_s=(1e-3,), noise=-1.0)
        often = dataclasses.replace(make_record(), run_s=(1.1e-3, 1.12e-3, 1.11e-3) * 4, noise=-1.0)
        noisy = dataclasses.replace(make_record(), run_s=(0.9e-3, 2e-3, 3e-3, 1e-3) * 3, noise=-1.0)
        assert often.better_than(once) and often.better_than(noisy)
        assert not once.better_than(often) and not noisy.better_than(often)

    def test_equally_founded_ones_are_settled_by_time(self, make_record):
        a = dataclasses.replace(make_record(), run_s=(1e-3, 1.01e-3, 1.02e-3), noise=-1.0)
        b = dataclasses.replace(make_record(), run_s=(0.9e-3, 0.91e-3, 0.915e-3, 0.92e-3), noise=-1.0)
        assert b.better_than(a) and not a.better_than(b)

    def test_noise(self, make_record):
        def noise(*run_s):
            return dataclasses.replace(make_record(), run_s=run_s, noise=-1.0).noise

        assert noise(1e-3) == 1 and noise(1e-3, 1e-3, 1e-3) == 0
        assert noise(1.0, 2.0, 3.0, 4.0, 5.0) == pytest.approx(2 / 3)
        assert make_record(status=Status.CRASHED).noise == 0
        assert make_record(noise=0.25).noise == 0.25  # what a measurer says itself is kept
        assert Record.from_json(make_record(noise=0.25).to_json()).noise == 0.25

    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    def test_the_result_does_not_depend_on_the_order_of_merging(self, kind, tmp_path, make_record):
        rng = random.Random(0)
        states = [(Status.OK, True), (Status.OK, True), (Status.OK, False), (Status.CRASHED, False)]
        records = []
        for _ in range(12):
            status, verified = rng.choice(states)
            times = tuple(1e-3 * rng.choice([1, 1.01, 1.5, 2]) for _ in range(rng.randint(1, 9)))
            changes = {"created_at": rng.choice([1.0, 2.0]), "seed": rng.randrange(3), "noise": -1.0}
            record = make_record(status=status, **changes)
            records.append(dataclasses.replace(record, verified=verified, run_s=times if record.ok else (), noise=-1.0))
        results = set()
        for n in range(30):
            rng.shuffle(records)
            with MemoryDatabase() if kind == "memory" else open_log(tmp_path / f"{n}.db") as log:
                parts = [MemoryDatabase(), MemoryDatabase()]
                for i, record in enumerate(records):
                    parts[i % 2].add(record)
                for part in (*parts, parts[0]):
                    log.merge(part.records())
                (kept,) = log.records()
                results.add(json.dumps(kept.to_json()))
        assert len(results) == 1


class TestRecord:
    def test_identity_does_not_depend_on_the_order_of_decisions(self, make_record):
        a = make_record(decisions={"x": 1, "y": [2]})
        b = make_record(decisions={"y": [2], "x": 1})
        assert a.identity == b.identity
        assert a.identity != make_record(decisions={"x": 1, "y": [3]}).identity
        assert a.identity != make_record(decisions={"x": 1, "y": [2]}, space="mine").identity

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"status": "splendid"}, "splendid"),
            ({"status": None}, "status"),
            ({"run_s": [0.0]}, "run_s"),
            ({"run_s": ["x"]}, "run_s"),
            ({"decisions": []}, "decisions"),
            ({"verified": 1}, "verified"),
            ({"seed": True}, "seed"),
            ({"cold": 1}, "cold"),
            ({"worker": None}, "worker"),
            ({"predicted": "high"}, "predicted"),
            ({"predicted": math.nan}, "predicted"),
            ({"noise": math.inf}, "noise"),
        ],
    )
    def test_from_json_names_the_wrong_field(self, make_record, change, message):
        with pytest.raises(LogError, match=message):
            Record.from_json(make_record().to_json() | change)

    def test_from_json_names_the_missing_field(self, make_record):
        data = make_record().to_json()
        del data["decisions"]
        with pytest.raises(LogError, match="decisions"):
            Record.from_json(data)

    def test_long_errors_are_cut_in_the_middle(self, make_record, tmp_path):
        text = "start" + "x" * 100_000 + "end"
        assert len(shorten(text)) <= ERROR_CHARACTERS
        with open_log(tmp_path / "a.db") as log:
            log.add(make_record(status=Status.BUILD_ERROR, error=text))
            (stored,) = log.records()
        assert stored.error.startswith("start") and stored.error.endswith("end")
        assert len(stored.error) <= ERROR_CHARACTERS


class TestFile:
    def test_reopening_keeps_everything(self, tmp_path, make_record):
        path = tmp_path / "a.db"
        with open_log(path) as log:
            log.add(make_record())
        for mode in ("w", "r"):
            with open_log(path, mode) as log:
                assert list(log.records()) == [make_record()]

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

    def test_old_log_can_still_be_read(self, make_record, tmp_path):
        stored = Path(__file__).parent / "data" / "format_1.jsonl"
        records = list(read_records(stored))
        assert [r.status for r in records] == [Status.OK, Status.TIMEOUT]
        assert records[0].best_s == 0.00025 and records[0].verified
        with open_log(tmp_path / "a.db") as log:
            assert import_records(stored, log) == 2
            assert list(log.records()) == records


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


class TestModelRun:
    def run(self, machine) -> ModelRun:
        return ModelRun("net.onnx", machine.fingerprint(), 2e-3, 1e-3, "tuned")

    def test_round_trip(self, machine):
        run = self.run(machine)
        assert ModelRun.from_json(json.loads(json.dumps(run.to_json()))) == run

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"kept": "both"}, "'both' is unknown"), ({"tuned_s": 0.0}, "positive"), ({"model": 3}, "'model'"),
            ({"trials": True}, "'trials'"), ({"default_s": math.nan}, "'default_s'"), ({"target": None}, "'target'"),
        ],
    )  # fmt: skip
    def test_from_json_names_the_wrong_field(self, machine, change, message):
        with pytest.raises(LogError, match=message):
            ModelRun.from_json(self.run(machine).to_json() | change)
        data = self.run(machine).to_json()
        del data["kept"]
        with pytest.raises(LogError, match="lacks the field 'kept'"):
            ModelRun.from_json(data)
        with pytest.raises(LogError, match="JSON object"):
            ModelRun.from_json([])

    def test_it_is_exported_and_merged(self, tmp_path, machine, make_record):
        with open_log(tmp_path / "a.db") as log:
            log.add(make_record())
            log.add_model_run(self.run(machine))
            assert export_records(log, tmp_path / "a.jsonl") == 1
        assert list(read_records(tmp_path / "a.jsonl")) == [make_record()]
        for name, sources in (("b.db", ["a.jsonl"]), ("c.db", ["a.db", "a.jsonl"])):
            with open_log(tmp_path / name) as log:
                assert merge_logs([tmp_path / s for s in sources], log) == 1
                assert log.model_runs() == [self.run(machine)]


class TestExchange:
    def test_round_trip(self, tmp_path, make_record):
        records = [make_record(1, error='quo"te\nline'), make_record(2, status=Status.CRASHED, trace=None)]
        with open_log(tmp_path / "a.db") as log:
            log.merge(records)
            assert export_records(log, tmp_path / "a.jsonl") == 2
        assert list(read_records(tmp_path / "a.jsonl")) == records

    def test_merge_logs_takes_both_kinds(self, tmp_path, make_record):
        with open_log(tmp_path / "a.db") as a:
            a.merge([make_record(1, 2e-3), make_record(2, 2e-3)])
        export_records([make_record(1, 1e-3), make_record(3, 3e-3)], tmp_path / "b.jsonl")
        with open_log(tmp_path / "all.db") as log:
            assert merge_logs([tmp_path / "a.db", tmp_path / "b.jsonl"], log) == 4
            assert {r.decisions["tile"]: r.best_s for r in log.records()} == {1: 1e-3, 2: 2e-3, 3: 3e-3}
            assert merge_logs([tmp_path / "a.db", tmp_path / "b.jsonl"], log) == 0

    def test_a_cut_off_export_changes_nothing(self, tmp_path, make_record):
        path = tmp_path / "a.jsonl"
        export_records([make_record(1), make_record(2)], path)
        path.write_text(path.read_text()[:-20])
        with open_log(tmp_path / "a.db") as log:
            with pytest.raises(LogError, match="line 3 is cut off"):
                import_records(path, log)
            assert list(log.records()) == []

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ("", "line 1"),
            ("[]\n", "not an exported Luthier log"),
            ('{"format": "luthier-log", "version": 7}\n', "format 7"),
            ('{"format": "luthier-log", "version": 1}\n{"key": 1}\n', "line 2: .*key"),
            ('{"format": "luthier-log", "version": 1}\n\nnonsense\n', "line 3 is not JSON"),
            ('{"format": "luthier-log", "version": 2}\n{"key": NaN}\n', "line 2 is not JSON"),
            ('{"format": "luthier-log", "version": 2}\n{"model_run": {}}\n', "line 2: .*lacks the field 'model'"),
        ],
    )
    def test_bad_files(self, tmp_path, lines, message):
        path = tmp_path / "a.jsonl"
        path.write_text(lines)
        with pytest.raises(LogError, match=message):
            list(read_records(path))

    def test_missing_paths(self, tmp_path, make_record):
        with pytest.raises(LogError, match="cannot be read"):
            list(read_records(tmp_path / "none.jsonl"))
        with pytest.raises(LogError, match="does not exist"):
            export_records([make_record()], tmp_path / "none" / "a.jsonl")
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00" * 50)
        with pytest.raises(LogError, match="binary file"):
            list(read_records(tmp_path / "binary"))

    def test_no_nan_can_enter(self, tmp_path, make_record):
        with pytest.raises(LogError), open_log(tmp_path / "a.db") as log:
            log.add(dataclasses.replace(make_record(), decisions={"x": math.nan}))
