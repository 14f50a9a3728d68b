"""The measuring pipeline: real candidates, then candidates that do harm."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path

import pytest
from schedules import candidates

from luthier import config
from luthier.codegen import cached
from luthier.codegen.build import build_kernel
from luthier.errors import TuningError
from luthier.schedule.decide import Default
from luthier.tuner.bench import KEPT_BUILDS, MOST_CHANGE, Bench, TaskState
from luthier.tuner.candidate import Candidate
from luthier.tuner.cpu import Cores
from luthier.tuner.jobs import Built, TimeJob, Timings
from luthier.tuner.measure import Limits, Measurer
from luthier.tuner.process import Answer, Failure
from luthier.tuner.record import Status

FAULTS = str(Path(__file__).parent / "faults")


def drain(measurer):
    results = []
    while (r := measurer.next_result(60)) is not None:
        results.append(r)
    return results


def test_times_are_at_the_usual_pace_of_the_best_so_far():
    state = TaskState(b"")
    state.set_best(1.0)
    assert state.pace([2.0]) == 1.0  # the best is another session's
    first, second = object(), object()
    state.set_best(1.0, first)
    assert state.pace([]) == 1.0  # it was not measured this time
    assert state.pace([1.3, 1.2, 1.25]) == 1.2 and state.pace([0.5]) == 0.5
    assert state.pace([50.0]) == MOST_CHANGE and state.pace([0.01]) == 1 / MOST_CHANGE
    state.set_best(0.5, second)
    assert state.pace([1.0]) == 2.0 and state.anchor is first and state.anchor_s == 1.0


WANDER = 0.2


class NoisyBench(Bench):
    """Runs nothing: a candidate's true time is its ``build_s``; the machine's pace wanders, and all runs are off.

    Everything takes ``slowdown`` times as long meanwhile.
    """

    def __init__(self, target):
        super().__init__(target, Limits(), Cores(2), None, None)
        self.rng, self.rate, self.slowdown = random.Random(0), 1.0, 1.0

    def _time(self, task, job):
        self.rate = min(max(self.rate * self.rng.uniform(0.97, 1.03), 1 - WANDER), 1 + WANDER)

        def times(built):
            rate = self.rate * self.slowdown
            return tuple(built.build_s * rate * (1.0 + self.rng.expovariate(20.0)) for _ in range(8))

        return Answer(Timings(tuple(map(times, job.candidates)), times(job.incumbent) if job.incumbent else ()))

    def _verdict(self, task, state, built):
        return None

    def times_of(self, task, true_s, count, seed):
        group = [(task, Candidate({"n": seed + i}, None, "", trial=seed + i), Built((), (), None, true_s)) for i in range(count)]  # fmt: skip  # noqa: E501
        return [min(r.run_s) for r in self.measure(group)]


def test_times_do_not_drift_with_the_luck_of_those_that_became_the_best(tiny, host):
    bench = NoisyBench(host)
    state = bench.state(tiny)
    bench.times_of(tiny, 1.0, 1, 0)
    same = [t for i in range(150) for t in bench.times_of(tiny, 1.0, 4, 1 + 4 * i)]
    lowest, highest = (1 - WANDER) * 0.95, (1 + WANDER) * 1.1
    assert lowest < min(same) and max(same) < highest and lowest < state.best_s < highest
    better = [t for i in range(150) for t in bench.times_of(tiny, 0.6, 4, 1001 + 4 * i)]
    assert 0.6 * lowest < min(better) and max(better) < 0.6 * highest
    assert state.incumbent.build_s == 0.6 and 0.6 * lowest < state.best_s < 0.6 * highest
    worse = [t for i in range(50) for t in bench.times_of(tiny, 0.7, 4, 2001 + 4 * i)]
    assert state.incumbent.build_s == 0.6 and 0.7 * lowest < min(worse) and max(worse) < 0.7 * highest


@pytest.mark.parametrize("slowdown", [1.9, 1 / 1.9])
def test_two_threads_on_one_core_for_minutes_change_no_order(tiny, host, slowdown):
    """The first times were noted while they were, or were not."""
    bench = NoisyBench(host)
    state = bench.state(tiny)
    (default_s,) = bench.times_of(tiny, 1.0, 1, 0)
    noted = []
    for i in range(40):
        bench.slowdown = slowdown if i % 20 >= 5 else 1.0
        noted += bench.times_of(tiny, 1.0, 3, 1 + 4 * i) + bench.times_of(tiny, 1.2, 1, 4 + 4 * i)
    equal, worse = [t for i, t in enumerate(noted) if i % 4 < 3], noted[3::4]
    assert 0.9 * default_s < min(equal) and max(equal) < 1.1 * default_s
    assert 1.1 * default_s < min(worse) and max(worse) < 1.3 * default_s
    assert 0.9 * default_s < state.best_s < 1.1 * default_s and state.incumbent.build_s == 1.0


@pytest.mark.parametrize("slowdown", [1.0, 1.9])
def test_a_later_session_sees_how_fast_the_machine_is_by_the_earlier_best(tiny, host, monkeypatch, slowdown):
    bench = NoisyBench(host)
    bench.slowdown = slowdown
    monkeypatch.setattr(bench, "call_build", lambda *job: Answer(Built((), (), None, 1.0)))
    bench.set_best(tiny, 1.0, Candidate({"n": 0}))
    assert 0.8 < min(bench.times_of(tiny, 0.9, 4, 1)) < 1.1 / (1 - WANDER)
    assert bench.state(tiny).anchor.build_s == 1.0 and bench.state(tiny).anchor_s == 1.0


def test_an_earlier_best_that_does_no_longer_run_harms_nobody(tiny, host, monkeypatch):
    bench = NoisyBench(host)
    monkeypatch.setattr(bench, "_rebuilt", lambda task, c: Built((), (), None, 13.0))
    usual = bench._time

    def time(task, job):
        bad = any(b.build_s == 13.0 for b in (*job.candidates, *([job.incumbent] if job.incumbent else [])))
        return Failure(Status.CRASHED, "was killed by SIGSEGV") if bad else usual(task, job)

    monkeypatch.setattr(bench, "_time", time)
    bench.set_best(tiny, 1.0, Candidate({"n": 0}))
    assert len(bench.times_of(tiny, 0.9, 4, 1)) == 4


def test_what_a_comparison_has_built_is_kept(tiny, host, monkeypatch):
    bench, built = NoisyBench(host), []
    monkeypatch.setattr(bench, "call_build", lambda *job: built.append(job) or Answer(Built((), (), None, 1.0)))
    finalists = [Candidate({"n": n}, None, "", trial=n) for n in range(3)]
    for _ in range(2):
        assert len(bench.compare(tiny, finalists)) == 3
    assert len(built) == 3


def test_one_of_a_comparison_that_fails_takes_no_other_with_it(tiny, host, monkeypatch):
    bench, usual = NoisyBench(host), NoisyBench._time
    built = {n: Built((), (), None, 1.0 + n) for n in range(4)}
    monkeypatch.setattr(bench, "_rebuilt", lambda task, c: built[c.decisions["n"]])

    def time(task, job):
        bad = any(b is built[2] for b in job.candidates)
        return Failure(Status.CRASHED, "was killed by SIGSEGV") if bad else usual(bench, task, job)

    monkeypatch.setattr(bench, "_time", time)
    results = bench.compare(tiny, [Candidate({"n": n}, None, "", trial=n) for n in range(4)])
    assert {r.candidate.trial: r.status for r in results} == {
        n: Status.CRASHED if n == 2 else Status.OK for n in range(4)
    }


def test_a_comparison_of_slow_candidates_has_the_time_it_takes(tiny, host):
    bench = Bench(host, Limits(), Cores(2), None, None)
    bench.state(tiny).set_best(0.3)
    job = TimeJob(tuple(Built((), (), None, 1.0) for _ in range(5)), min_samples=15)
    assert bench._limit_s(bench.state(tiny), job) > 5 * 2 * 15 * 0.3 * 1.5


def test_a_slow_build_of_one_task_holds_up_no_other(matmul, tiny):
    measurer = Measurer.__new__(Measurer)
    measurer.group, measurer._building = 2, Counter({matmul.key: 1})
    jobs = [(t, Candidate({"n": n}), None) for n, t in enumerate((matmul, tiny, tiny, tiny))]
    measurer._built = deque(jobs)
    assert measurer._group() == jobs[1:3]
    measurer._building.clear()
    assert measurer._group() == jobs[:1]


def test_the_default_and_the_fastest_are_kept_as_they_were_built(tiny, host):
    bench = NoisyBench(host)
    true_s = [1.0, 2.0, 2.1, 0.5, 2.2, 2.3, 2.4, 0.5, 2.5, 0.5, 2.6]
    for trial, t in enumerate(true_s):
        bench.times_of(tiny, t, 1, trial)
    kept = sorted(b.build_s for b, _ in bench.state(tiny).finalists.values())
    assert len(kept) == KEPT_BUILDS and kept[:4] == [0.5, 0.5, 0.5, 1.0]


@pytest.fixture(scope="module")
def healthy(host):
    with Measurer(host) as m:
        yield m


class TestMeasurer:
    @pytest.fixture
    def measurer(self, healthy, matmul):
        healthy.set_best(matmul, math.inf)
        return healthy

    def test_good_candidates(self, measurer, matmul, host):
        some = candidates(matmul, host, 5)
        for c in some:
            measurer.submit(matmul, c)
        results = drain(measurer)
        assert measurer.pending == 0
        assert {r.candidate.hash for r in results} == {c.hash for c in some}
        assert all(r.status is Status.OK and r.run_s and 0 < r.compile_s < 20 for r in results)
        # what is no faster than the best by more than the noise is not checked
        assert min(min(r.run_s) for r in results if r.verified) < 1.5 * min(min(r.run_s) for r in results)

    def test_the_reference_is_built_beside_the_first_candidates_or_when_it_is_needed(self, matmul, host):
        for best_s, by_the_runner in ((math.inf, False), (1.0, True)):
            with Measurer(host, builders=1) as m:
                m.set_best(matmul, best_s)
                m.submit(matmul, candidates(matmul, host, 1)[0])
                (result,) = drain(m)
                assert result.verified
                assert (m._reference_builder.starts == 1) == by_the_runner

    def test_only_what_would_be_the_best_is_checked(self, measurer, matmul, host):
        measurer.set_best(matmul, 1e-12)
        measurer.submit(matmul, candidates(matmul, host, 1)[0])
        (result,) = drain(measurer)
        assert result.status is Status.OK and not result.verified

    def test_a_space_of_ones_own_travels_as_its_trace(self, measurer, tiny, host):
        for c in candidates(tiny, host, 3):
            measurer.submit(tiny, c)
        results = drain(measurer)
        assert [r.status for r in results] == [Status.OK] * 3

    def test_a_trace_that_does_not_fit_is_a_build_error(self, measurer, tiny, host):
        (c,) = candidates(tiny, host, 1)
        measurer.submit(tiny, replace(c, trace={"names": c.trace["names"], "steps": [["explode", {}]]}))
        (result,) = drain(measurer)
        assert result.status is Status.BUILD_ERROR
        assert "explode" in result.error

    def test_close_with_work_pending_is_quick_and_ends_the_workers(self, matmul, host):
        m = Measurer(host)
        for c in candidates(matmul, host, 6):
            m.submit(matmul, c)
        m.next_result(60)
        processes = [w._process for w in (*m._builders, m._runner) if w._process]
        start = time.monotonic()
        m.close()
        assert time.monotonic() - start < 5
        assert processes and all(p.poll() is not None for p in processes)
        with pytest.raises(TuningError, match="closed"):
            m.submit(matmul, candidates(matmul, host, 1)[0])


PATIENT = Limits(build_s=60, run_s=60, build_bytes=3 << 30, run_bytes=3 << 30)


@pytest.fixture(scope="module")
def faulty(host):
    """A measurer whose workers do harm when told to; most faults leave it usable, which is the point."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FAULTS)
        roles = {"builder_role": "faulty_roles:FaultyBuilder", "runner_role": "faulty_roles:FaultyRunner"}
        with Measurer(host, PATIENT, builders=1, **roles) as m:
            yield m


class TestFaults:
    """A candidate that does harm gets the status it deserves, and a good one right after it is well."""

    @pytest.fixture
    def measurer(self, faulty, matmul):
        faulty.limits = PATIENT
        faulty.set_best(matmul, 1.0)
        return faulty

    @pytest.mark.parametrize(
        ("fault", "status", "word"),
        [
            ("build crash", Status.CRASHED, "SIGSEGV"),
            ("build hang", Status.TIMEOUT, "the build took longer"),
            ("build memory", Status.OUT_OF_MEMORY, "no room"),
            ("build error", Status.BUILD_ERROR, "cannot be built"),
            ("build endless", Status.OUT_OF_MEMORY, "needs more than 3.0 GiB"),
            ("run crash", Status.CRASHED, "SIGSEGV"),
            ("run exit", Status.CRASHED, "exit code 0"),
            ("run spin", Status.TIMEOUT, "the run took longer"),
            ("run endless", Status.OUT_OF_MEMORY, "needs more than 3.0 GiB"),
            ("run hang", Status.TIMEOUT, "the run took longer"),
            ("memory", Status.OUT_OF_MEMORY, "arena"),
            ("nan", Status.WRONG_RESULT, "nan instead of"),
            ("wrong", Status.WRONG_RESULT, "1 of 1152 values differ"),
            ("overrun", Status.WRONG_RESULT, "past the end"),
        ],
    )
    def test_fault(self, measurer, matmul, fault, status, word):
        if "hang" in fault or "spin" in fault:
            measurer.limits = Limits(build_s=0.2, run_s=0.2)
        measurer.submit(matmul, Candidate({"fault": fault}))
        bad = measurer.next_result(60)
        assert (bad.status, bad.run_s, bad.verified) == (status, (), False)
        assert word in bad.error
        measurer.limits = PATIENT
        measurer.submit(matmul, Candidate({"fault": None}))
        good = measurer.next_result(60)
        assert (good.status, good.verified) == (Status.OK, True)

    @pytest.mark.parametrize("fault", ["build print", "run print"])
    def test_megabytes_of_output_are_swallowed(self, measurer, matmul, fault):
        measurer.submit(matmul, Candidate({"fault": fault}))
        assert measurer.next_result(60).status is Status.OK

    @pytest.mark.parametrize("whose", ["builder", "runner"])
    def test_a_worker_killed_from_outside_does_not_condemn_its_candidate(self, measurer, matmul, whose):
        worker = measurer._runner if whose == "runner" else measurer._builders[0]
        for n in range(4):
            measurer.submit(matmul, Candidate({"fault": None, "n": n}))
            while not worker._process:  # it is started for the first candidate
                time.sleep(0.001)
            os.kill(worker._process.pid, signal.SIGKILL)
            result = measurer.next_result(60)
            assert (result.status, result.candidate.decisions["n"]) == (Status.OK, n)

    def test_one_that_gets_its_worker_killed_twice_is_guilty(self, measurer, matmul):
        measurer.submit(matmul, Candidate({"fault": "run kill"}))
        bad = measurer.next_result(60)
        assert (bad.status, bad.verified) == (Status.OUT_OF_MEMORY, False)
        assert "SIGKILL" in bad.error

    def test_a_crash_in_a_batch_of_builds_falls_on_its_candidate_alone(self, host, matmul, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", FAULTS)
        with Measurer(host, PATIENT, builders=1, batch=4, builder_role="faulty_roles:FaultyBuilder") as m:
            for n, fault in enumerate([None, "build crash", "build error", "build memory", None]):
                m.submit(matmul, Candidate({"fault": fault, "n": n}))
            results = {r.candidate.decisions["n"]: r.status for r in drain(m)}
        wanted = [Status.OK, Status.CRASHED, Status.BUILD_ERROR, Status.OUT_OF_MEMORY, Status.OK]
        assert [results[n] for n in range(5)] == wanted

    def test_code_that_is_too_long_is_not_compiled(self, host, matmul):
        first, second = candidates(matmul, host, 2)
        with Measurer(host, replace(PATIENT, code_lines=3)) as m:
            m.submit(matmul, first)  # trial 0, the default schedule, may be as long as it likes
            m.submit(matmul, second)
            results = {r.candidate.trial: r for r in drain(m)}
        assert (results[0].status, results[1].status) == (Status.OK, Status.BUILD_ERROR)
        assert "lines long" in results[1].error

    def test_workers_that_have_grown_are_replaced(self, host, matmul):
        with Measurer(host, replace(PATIENT, recycle_bytes=1), builders=1) as m:
            for c in candidates(matmul, host, 3):
                m.submit(matmul, c)
                assert m.next_result(60).status is Status.OK
            assert m._builders[0].starts > 1 and m._runner.starts > 1

    def test_one_bad_candidate_does_not_spoil_those_timed_with_it(self, measurer, matmul):
        faults = [None, "run crash", None, "slow"]
        for n, fault in enumerate(faults):
            measurer.submit(matmul, Candidate({"fault": fault, "n": n}))
        results = {r.candidate.decisions["n"]: r for r in drain(measurer)}
        assert [results[n].status for n in range(4)] == [Status.OK, Status.CRASHED, Status.OK, Status.OK]
        assert 9.0 / MOST_CHANGE <= min(results[3].run_s) <= 9.0 * MOST_CHANGE

    def test_a_good_candidate_is_not_condemned_for_memory_that_another_one_damaged(self, measurer, matmul):
        starts = measurer._runner.starts
        for fault in [None, "poison", None]:
            measurer.set_best(matmul, 1.0)
            measurer.submit(matmul, Candidate({"fault": fault}))
            assert (measurer.next_result(60).status, fault) == (Status.OK, fault)
        assert measurer._runner.starts > starts

    def test_a_reference_that_cannot_be_computed(self, host, matmul):
        with Measurer(host, Limits(reference_s=0.0), builders=1) as m:
            m.submit(matmul, candidates(matmul, host, 1)[0])
            (result,) = drain(m)
        assert result.status is Status.RUN_ERROR
        assert "reference" in result.error

    def test_workers_that_cannot_start_are_an_error_not_a_status(self, host, matmul):
        m = Measurer(host, builder_role="faulty_roles:Nowhere")
        m.submit(matmul, Candidate({}))
        with pytest.raises(TuningError, match="cannot be started"):
            m.next_result(60)


class TestCores:
    def test_who_needs_all_cores_has_them_alone(self):
        cores, running, most, lock = Cores(3), [0], [0], threading.Lock()

        def work(n):
            for _ in range(30):
                with cores.take(n):
                    with lock:
                        running[0] += n
                        most[0] = max(most[0], running[0])
                    time.sleep(0.0002)
                    with lock:
                        running[0] -= n

        threads = [threading.Thread(target=work, args=(n,)) for n in (1, 1, 1, 2, 3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(30)
        assert not any(t.is_alive() for t in threads)
        assert most[0] == 3

    def test_more_than_there_are_means_all(self):
        cores = Cores(2)
        with cores.take(8):
            assert cores._free == 0
        assert cores._free == 2


SCRIPT = """
from luthier import te
from luthier.codegen.detect import host_target
from luthier.tuner.database import MemoryDatabase
from luthier.tuner.session import tune_workload
x = te.placeholder(64)
w = te.workload(te.compute(64, lambda i: x[i] + 1.0))
print(tune_workload(w, log=MemoryDatabase(), target=host_target(1), trials=2, progress=False).trials)
"""


def test_a_script_without_a_main_guard_can_tune(tmp_path, repository_env):
    """And one whose directory holds modules named like those of the standard library."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "pickle.py").write_text("raise ImportError('the wrong pickle')")
    command = [sys.executable, "-P", str(tmp_path / "script.py")]
    run = subprocess.run(command, env=repository_env, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (run.stdout, run.returncode) == ("2\n", 0), run.stderr


def test_limits_leave_memory_for_others():
    assert 0 < Limits().run_bytes < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_default_schedules_code_is_kept_for_builds_of_the_model(matmul, host, tmp_path):
    default, other = candidates(matmul, host, 2)
    assert (default.trial, other.trial) == (0, 1)
    with config.override(cache=str(tmp_path)), Measurer(host, builders=1) as m:
        for candidate in (default, other):
            m.submit(matmul, candidate)
        assert all(r.status is Status.OK for r in drain(m))
        kernel = build_kernel(matmul.instantiate(Default(), host), host)
        for recipe, kept in ((cached.DEFAULT, True), (default.decisions, True), (other.decisions, False)):
            assert cached.kernel_for(matmul.workload, recipe, host, lambda: kernel) == (kernel, kept)
