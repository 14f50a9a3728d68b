"""Whole sessions on small real tasks: budgets, resuming, interruption, and the way back from the log."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from processes import alive, all_end, children
from waiting import wait_until

from luthier.codegen.detect import host_target
from luthier.errors import TuningError
from luthier.schedule.decide import Default
from luthier.tuner.builder import Builder
from luthier.tuner.database import MemoryDatabase, open_log
from luthier.tuner.inputs import differences, random_inputs
from luthier.tuner.jobs import BuildJob, OutputsJob
from luthier.tuner.lookup import best_schedule, schedules_from_log
from luthier.tuner.measure import MeasureResult
from luthier.tuner.measurer import AbstractMeasurer, MeasurerLost
from luthier.tuner.record import Status
from luthier.tuner.runner import Runner
from luthier.tuner.session import tune, tune_workload
from luthier.tuner.task import TuningTask, tuning_tasks
from luthier.tuner.whole_model import ModelTimes


class FakeMeasurer(AbstractMeasurer):
    """Measures on a made-up machine, at once; remembers what it was asked."""

    def __init__(self, outcome=None) -> None:
        from luthier.tuner.cpu import Cores

        self.cores = Cores(1)
        self.outcome = outcome or (
            lambda c: (Status.OK, 1e-3 / (1 + sum(map(hash, map(str, c.decisions.values()))) % 7))
        )
        self.submitted, self._waiting, self._best, self.closed, self.compared = [], [], {}, False, []
        self.earlier = {}

    def set_best(self, task, best_s, earlier=None):
        self._best[task.key] = best_s
        self.earlier[task.key] = earlier

    @property
    def pending(self):
        return len(self._waiting)

    def submit(self, task, candidate):
        self.submitted.append(candidate)
        self._waiting.append((task, candidate))

    def next_result(self, timeout_s=None):
        if not self._waiting or timeout_s == 0.0:
            return None
        task, candidate = self._waiting.pop(0)
        status, run_s = self.outcome(candidate)
        if status is not Status.OK:
            return MeasureResult(task, candidate, status, error="as told")
        verified = run_s < self._best.get(task.key, math.inf)
        if verified:
            self._best[task.key] = run_s
        return MeasureResult(task, candidate, status, (run_s,), verified)

    def drop_pending(self):
        self._waiting.clear()

    def compare(self, task, candidates, timeout_s=None):
        self.compared.append([c.hash for c in candidates])
        outcomes = [(c, *self.outcome(c)) for c in candidates]
        return [MeasureResult(task, c, status, (run_s,) * 5, True) for c, status, run_s in outcomes]

    def close(self):
        self.closed = True


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeModel:
    """A model that takes ``build_s`` to build twice, and runs ``ratio`` times as long with the log as by default."""

    def __init__(self, clock, build_s, ratio) -> None:
        self.clock, self.seconds, self.ratio, self.runs = clock, build_s, ratio, 0
        self.report, self.accuracy, self.target = None, "fast", host_target(1)

    def build_s(self, compile_s, constants_bytes):
        return self.seconds

    def run(self, log, deadline, clock, keep_defaults):
        self.runs += 1
        self.clock.now = min(self.clock.now + self.seconds + 4.0, deadline)
        default, tuned = (0.01,) * 8, (0.01 * self.ratio,) * 8
        return ModelTimes(default, tuned, "tuned" if self.ratio <= 1 else "default")


def run(tasks, log, host, measurer=None, **options):
    options = {"trials": 20, "search": "random", "cost_model": "random", "progress": False} | options
    if "budget_s" in options:
        del options["trials"]
    return tune(tasks, log=log, target=host, measurer=measurer or FakeMeasurer(), **options)


class TestLoop:
    def test_trials_are_recorded_and_counted(self, matmul, host):
        log, measurer = MemoryDatabase(), FakeMeasurer()
        report = run([matmul], log, host, measurer)
        assert report.trials == len(list(log.records())) == len(measurer.submitted) == 20
        assert (report.stopped, report.statuses, report.complete) == ("trials", {"ok": 20}, True)
        assert measurer.closed
        (task,) = report.tasks
        assert task.best_s == log.best(matmul.key, host).best_s <= task.default_s < math.inf
        first = next(log.records())
        assert first.decisions == matmul.instantiate(Default(), host).decisions
        assert (first.task, first.workload, first.search) == ("matmul", matmul.workload.text, "random")
        assert first.luthier_version and first.llvm_version and first.created_at > 1.7e9 and first.trace

    def test_nothing_is_measured_again_by_a_later_session(self, matmul, host):
        log, first, second = MemoryDatabase(), FakeMeasurer(), FakeMeasurer()
        run([matmul], log, host, first)
        report = run([matmul], log, host, second, search="evolutionary", cost_model="xgboost")
        assert not {c.hash for c in first.submitted} & {c.hash for c in second.submitted}
        assert len(list(log.records())) == 40
        assert [c.trial for c in second.submitted] == list(range(20, 40))
        assert report.tasks[0].default_s < math.inf  # known from the first session
        assert first.earlier == {matmul.key: None}
        best = next(r for r in log.ranked(matmul.key, host) if r.trial < 20)
        assert second.earlier[matmul.key].hash == best.decisions_hash  # how fast the machine is now is seen by it

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_what_was_measured_by_the_end_is_noted(self, matmul, host, interrupted):
        class Late(FakeMeasurer):
            asked = 0

            def next_result(self, timeout_s=None):
                if timeout_s == 0.0:
                    return super().next_result()
                self.asked += 1
                if self.asked < 4:
                    return super().next_result()
                if interrupted:
                    raise KeyboardInterrupt
                clock.now += 1000.0
                return None

        clock, log, measurer = Clock(), MemoryDatabase(), Late()
        report = run([matmul], log, host, measurer, budget_s=60.0, clock=clock)
        assert report.stopped == ("interrupted" if interrupted else "budget")
        assert len(list(log.records())) == report.trials == len(measurer.submitted) > 4

    def test_failures_are_values(self, matmul, host):
        log = MemoryDatabase()
        report = run([matmul], log, host, FakeMeasurer(lambda c: (Status.CRASHED, 0.0)), search="evolutionary")
        assert (report.trials, report.statuses, report.complete) == (20, {"crashed": 20}, False)
        assert report.tasks[0].best_s == math.inf
        assert "no measured schedule" in str(report)

    def test_an_exhausted_space(self, tiny, host):
        report = run([tiny], MemoryDatabase(), host, trials=100)
        assert (report.trials, report.stopped) == (6, "exhausted")

    def test_convergence(self, matmul, host):
        report = run([matmul], MemoryDatabase(), host, FakeMeasurer(lambda c: (Status.OK, 1e-6)), trials=10_000)
        assert report.stopped == "converged" and report.trials < 10_000

    def test_a_time_budget(self, matmul, host):
        def slow(candidate):
            time.sleep(0.02)
            return Status.OK, 1e-3

        start = time.monotonic()
        report = run([matmul], MemoryDatabase(), host, FakeMeasurer(slow), budget_s=0.5)
        assert report.stopped == "budget"
        assert 0.4 <= report.elapsed_s <= time.monotonic() - start < 3
        assert 1 <= report.trials <= 25

    @pytest.mark.parametrize(("budget_s", "trial_s"), [(8.0, 0.04), (300.0, 0.5), (300.0, 2.0), (2700.0, 6.0)])
    def test_a_budget_is_kept_with_all_that_comes_at_the_end(self, matmul, tiny, wide, budget_s, trial_s):
        clock = Clock()

        def measured(candidate):
            clock.now += trial_s
            return Status.OK, 1e-3 / (1 + int(candidate.hash, 16) % 97)

        class Measures(FakeMeasurer):
            def compare(self, task, candidates, timeout_s=None):
                clock.now += 0.06 * len(candidates) - trial_s * len(candidates)
                return super().compare(task, candidates)

        model = FakeModel(clock, build_s=4.0, ratio=0.9)
        measurer, log = Measures(measured), MemoryDatabase()
        options = {"budget_s": budget_s, "clock": clock, "model": model, "stop_below": 0.0}
        report = run([matmul, replace(tiny, uses=2)], log, wide, measurer, **options)
        assert (report.stopped, report.elapsed_s) == ("budget", clock.now - 1000.0)
        assert 0.95 * budget_s <= report.elapsed_s <= 1.05 * budget_s
        assert model.runs == (budget_s > 8) and ("too short" in report.note) == (budget_s == 8)
        assert measurer.compared

    def test_the_default_schedules_stay_where_the_model_is_slower_with_the_log(self, matmul, host):
        log, clock = MemoryDatabase(), Clock()
        default = matmul.instantiate(Default(), host).decisions

        def outcome(candidate):
            return Status.OK, 1e-3 if candidate.decisions == default else 0.5e-3

        for ratio, kept in ((0.9, "tuned"), (1.1, "default")):
            model = FakeModel(clock, build_s=1.0, ratio=ratio)
            report = run([matmul], log, host, FakeMeasurer(outcome), model=model, clock=clock)
            assert report.model.kept == kept and "The whole model" in str(report)
            run_of_model = log.model_runs()[-1]
            assert (run_of_model.kept, run_of_model.trials) == (kept, 20)
            assert run_of_model.gain == pytest.approx(1 / ratio)
            found = schedules_from_log(log, host)(matmul.workload)
            assert (found.decisions == default) == (kept == "default")

    def test_the_wall_clock_does_not_matter(self, matmul, host, monkeypatch):
        jumps = iter(range(10**9, 0, -(10**5)))  # a day back at each look
        monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
        log = MemoryDatabase()
        for records in (20, 40):
            report = run([matmul], log, host, trials=20)
            assert (report.trials, len(list(log.records()))) == (20, records)
            assert 0 < report.elapsed_s < 60
        tuned = schedules_from_log(log, host)(matmul.workload)
        assert tuned.decisions == log.best(matmul.key, host).decisions

    def test_every_task_gets_its_default(self, matmul, tiny, host):
        log = MemoryDatabase()
        report = run([matmul, tiny], log, host, trials=2)
        assert report.complete and [t.trials for t in report.tasks] == [1, 1]

    def test_interruption_leaves_a_report_and_a_log(self, matmul, host):
        def interrupted() -> Iterator[tuple[Status, float]]:
            yield from [(Status.OK, 1e-3)] * 3
            raise KeyboardInterrupt

        (
            outcomes,
            log,
        ) = interrupted(), MemoryDatabase()
        measurer = FakeMeasurer(lambda c: next(outcomes))
        report = run([matmul], log, host, measurer)
        assert (report.stopped, report.trials, measurer.closed) == ("interrupted", 3, True)
        assert len(list(log.records())) == 3

    def test_the_loss_of_all_machines_leaves_a_report_and_a_log(self, matmul, host):
        class Lost(FakeMeasurer):
            def next_result(self, timeout_s=None):
                if len(self.submitted) - self.pending == 3:
                    raise MeasurerLost("nobody is left")
                return super().next_result(timeout_s)

        log, measurer = MemoryDatabase(), Lost()
        with pytest.warns(RuntimeWarning, match="nobody is left -- what was measured is in the log"):
            report = run([matmul], log, host, measurer)
        assert (report.stopped, report.trials, measurer.closed) == ("lost", 3, True)
        assert len(list(log.records())) == 3

    def test_a_seed_makes_proposals_reproducible(self, matmul, host):
        def proposals(seed):
            m = FakeMeasurer(lambda c: (Status.OK, 1e-3 * c.decisions["tile"][0]))
            run([matmul], MemoryDatabase(), host, m, seed=seed, search="evolutionary", cost_model="xgboost", trials=40)
            return [c.hash for c in m.submitted]

        assert proposals(5) == proposals(5) != proposals(6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"trials": None}, "either budget_s or trials"),
            ({"trials": 5, "budget_s": 1.0}, "either budget_s or trials"),
            ({"trials": 0}, "trials=0 must be positive"),
            ({"trials": None, "budget_s": -1}, "budget_s=-1 must be positive"),
            ({"trials": 5, "pattern": "conv*"}, r"'conv\*' matches none of the 1 tasks; their names are matmul"),
            ({"trials": 5, "search": "magic"}, "unknown"),
        ],
    )
    def test_bad_arguments(self, matmul, host, options, message):
        with pytest.raises(TuningError, match=message):
            tune([matmul], log=MemoryDatabase(), target=host, measurer=FakeMeasurer(), progress=False, **options)

    def test_no_tasks(self, host):
        with pytest.raises(TuningError, match="nothing to tune"):
            run([], MemoryDatabase(), host)

    def test_progress_shows_the_models_time(self, matmul, host, capsys):
        run([matmul], MemoryDatabase(), host, progress=True)
        shown = capsys.readouterr().err
        assert re.search(r"20 of 20 trials, model \d+\.\d+ ms \(\d+\.\d+x\), 20 trials, \d+\.\d/s; now matmul", shown)


def test_the_models_constants_are_those_of_all_tasks_whichever_are_chosen(matmul, tiny):
    chosen = tuning_tasks([matmul, tiny], "matmul")
    assert chosen[0].constants_bytes == tuning_tasks([matmul, tiny])[0].constants_bytes > 0
    assert tuning_tasks([replace(chosen[0], constants_bytes=1 << 30)])[0].constants_bytes == 1 << 30


def test_equal_tasks_are_added_up(matmul):
    (one,) = tuning_tasks([matmul, TuningTask(matmul.workload, "again", 4)])
    assert (one.uses, one.name) == (7, "matmul")


class TestForReal:
    """With worker processes and generated code."""

    def test_tune_then_build_from_the_log(self, matmul, host, tmp_path):
        with open_log(tmp_path / "a.db") as log:
            report = tune([matmul], log=log, target=host, trials=12, progress=False)
            assert report.complete and report.statuses == {"ok": 12}
            lookup = schedules_from_log(log)
            found = lookup(matmul.workload, host)
            best = log.best(matmul.key, host)
            assert (found.decisions, found.origin) == (best.decisions, "tuned")
            assert best.verified and 0 < best.best_s < 1e-3
            assert 0.5 * report.best_s <= matmul.uses * best.best_s <= 2 * report.best_s

    def test_a_workload_with_a_space_of_ones_own(self, tiny, host):
        log = MemoryDatabase()
        report = tune_workload(tiny.workload, space=tiny.space, log=log, target=host, trials=100, progress=False)
        assert (report.trials, report.statuses, report.stopped) == (6, {"ok": 6}, "exhausted")
        assert log.best(tiny.key, host).space.endswith("tiny_space")
        lookup = schedules_from_log(log, host)
        assert lookup(tiny.workload).origin == "default"  # its decisions mean nothing to the usual space
        schedule = best_schedule(log, tiny.workload, host)
        job = BuildJob(host, schedule.decisions, schedule.to_json())
        outputs = Runner().handle(tiny.workload, OutputsJob(Builder().handle(tiny.workload, job)))
        (x,) = random_inputs(tiny.workload)
        assert differences(tiny.workload.outputs, [x * np.float32(2)], outputs) == ""


class TestOldRecords:
    def make(self, matmul, target, run_s=1e-3, **changes):
        from luthier.tuner.record import Record

        decisions = matmul.instantiate(Default(), target).decisions
        values = {"decisions": decisions, "status": Status.OK, "run_s": (run_s,), "verified": True} | changes
        return Record(matmul.key, matmul.workload.text, "matmul", target.fingerprint(), **values)

    def test_a_session_does_not_try_to_beat_what_can_no_longer_be_built(self, matmul, host):
        log = MemoryDatabase()
        log.add(self.make(matmul, host, run_s=1e-9, decisions={"tile": "of another age"}))
        report = run([matmul], log, host, FakeMeasurer(lambda c: (Status.OK, 1e-3)), trials=1)
        assert report.tasks[0].best_s == 1e-3


SESSION = """
import sys
from luthier import te
from luthier.codegen.detect import host_target
from luthier.tuner.database import open_log
from luthier.tuner.session import tune_workload
x, k = te.placeholder((256, 256)), te.reduce_axis(256)
w = te.workload(te.compute((256, 256), lambda i, j: te.sum(x[i, k] * x[k, j], k), tag="matmul"))
with open_log(sys.argv[1]) as log:
    print(tune_workload(w, log=log, target=host_target(1), budget_s=100, progress=False).stopped)
"""


def start_session(path, env, records: int) -> subprocess.Popen[str]:
    """Start tuning in a process of its own, and wait until the log holds ``records``."""
    session = subprocess.Popen([sys.executable, "-c", SESSION, str(path)], env=env, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: session.poll() is not None or count(path) >= records, 60)
    return session


def count(path) -> int:
    if not path.exists() or not path.stat().st_size:
        return 0
    with open_log(path) as log:
        return len(list(log.records()))


def test_ctrl_c_and_kill_9_leave_a_sound_log_and_no_workers(tmp_path, repository_env):
    path = tmp_path / "a.db"
    session = start_session(path, repository_env, 3)
    workers = children(session.pid)
    session.send_signal(signal.SIGINT)
    assert session.communicate(timeout=30)[0] == "interrupted\n"
    assert len(workers) >= 2 and not any(map(alive, workers))
    before = count(path)
    session = start_session(path, repository_env, before + 3)
    workers = children(session.pid)
    session.kill()
    session.communicate()
    assert count(path) >= before + 3
    assert len(workers) >= 2 and all_end(workers)
