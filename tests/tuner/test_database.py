"""One conformance suite for every database, and which of two records of one identity stays."""

from __future__ import annotations

import dataclasses
import json
import math
import random

import pytest

from luthier.tuner.database import Database, MemoryDatabase, open_log
from luthier.tuner.family import family_of
from luthier.tuner.model_run import ModelRun
from luthier.tuner.record import KnownTask, Record, Status


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
        everything = log.ranked("v1:task", machine, verified=False)
        assert [r.decisions["tile"] for r in everything] == [5, 4, 2, 3, 1]
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

    def test_find(self, log, make_record, machine):
        good, failed = make_record(1), make_record(2, status=Status.CRASHED)
        log.add(good)
        log.add(failed)
        for record in (good, failed):
            assert log.find(record.key, machine, record.decisions_hash) == record
            assert log.find(record.key, machine.with_threads(7), record.decisions_hash) is None
        assert log.find(good.key, machine, make_record(3).decisions_hash) is None

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
