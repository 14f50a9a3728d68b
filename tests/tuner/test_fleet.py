"""Sessions on a fleet of real worker processes, which are killed, stopped, dismissed, and lose their scheduler.

Whatever happens, each candidate is recorded once, and the log is good for the next session.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from fleet import Fleet
from processes import all_end
from waiting import wait_until

from luthier.errors import TuningError
from luthier.tuner.database import MemoryDatabase
from luthier.tuner.fleet import FleetMeasurer, choose_target, connect, survey
from luthier.tuner.fleet.dispatch import Patience
from luthier.tuner.session import tune

pytest.importorskip("distributed", reason="a fleet needs dask: pip install luthier[fleet]")
psutil = pytest.importorskip("psutil", reason="comes with dask")

HASTY = Patience(silence=4.0, rest=0.2, alone=30.0, connect=1.0, poll=0.1, wait=0.2)
TRIALS = 24


@pytest.fixture(scope="module")
def fleet(repository_env):
    fleet = Fleet(repository_env)
    try:
        fleet.start("left", "--threads", "1")
        fleet.start("right", "--threads", "1")
        fleet.start("other", "--threads", "1", "--target", "x86-64-v2")
        fleet.wait()
        yield fleet
    finally:
        fleet.close()


class Tripwire(MemoryDatabase):
    """A log that lets something happen in the middle of a session."""

    def __init__(self, at=0, action=None):
        super().__init__()
        self.at, self.action, self.added = at, action, 0

    def add(self, record, *, replace=False):
        self.added += not replace  # what is measured again in the end takes the place of a record
        if self.added == self.at and not replace:
            self.action()
        return super().add(record, replace=replace)


def session(fleet, task, host, log, trials=TRIALS, patience=HASTY, **options):
    measurer = FleetMeasurer(fleet.url, host, patience=patience, **options)
    settings = {"search": "random", "cost_model": "random", "progress": False, "stop_below": 0.0}
    return tune([task], log=log, target=host, trials=trials, measurer=measurer, **settings)


def recorded_once(report, log, trials=TRIALS):
    records = list(log.records())
    return report.trials == log.added == len(records) == trials and all(r.ok for r in records)


class TestRoster:
    def test_who_is_there(self, fleet, host):
        workers = survey(fleet.url).workers
        assert sorted(w.name for w in workers.values()) == ["left", "other", "right"]
        assert {w.target.name for w in workers.values()} == {"host", "x86-64-v2"}
        assert choose_target(workers.values()).name == "host"  # of two machines
        assert choose_target(workers.values(), "x86-64-v2").threads == 1

    def test_another_version_is_refused(self, fleet, monkeypatch):
        monkeypatch.setattr(connect, "IDENTITY", "9.9.9, sources 0123")
        with pytest.raises(TuningError, match=r"session has 9\.9\.9.*install the same on both"):
            survey(fleet.url)


class TestSessions:
    """In this order: each leaves fewer workers to the next."""

    def test_results_say_who_measured(self, fleet, tiny, matmul, host):
        """A space of one's own travels as traces, beside a task of the usual kind."""
        from luthier.tuner.search import SearchContext, make_searcher

        with FleetMeasurer(fleet.url, host, patience=HASTY) as measurer:
            jobs = [(t, c) for t in (tiny, matmul) for c in make_searcher("random", SearchContext(t, host)).propose(6)]
            wait_until(lambda: measurer._dispatcher.active >= 2, 30)
            for job in jobs:
                measurer.submit(*job)
            assert measurer.capacity == 32 and measurer.pending == len(jobs)
            with pytest.warns(RuntimeWarning, match="worker other"):
                results = [measurer.next_result(60) for _ in jobs]
            assert measurer.next_result() is None
        assert {id(r.candidate) for r in results} == {id(c) for _, c in jobs}
        assert {r.worker for r in results} == {"left", "right"}
        assert all(r.status == "ok" for r in results)
        with pytest.raises(TuningError, match="closed"):
            measurer.submit(*jobs[0])
        left = psutil.Process(fleet.processes["left"].pid)
        assert left.children() == []  # builders and runners are given back with the session's end

    def test_a_worker_that_stops_loses_nothing_and_may_come_back(self, fleet, matmul, host):
        log = Tripwire(4, lambda: fleet.send("right", signal.SIGSTOP))
        try:
            other = pytest.warns(RuntimeWarning, match="worker other: its target is another one")
            with (
                other,
                pytest.warns(
                    RuntimeWarning, match=r"worker right: no answer within 4 s; \d+ candidates? to be given to others"
                ),
            ):
                report = session(fleet, matmul, host, log)
        finally:
            fleet.send("right", signal.SIGCONT)
        assert recorded_once(report, log) and log.best(matmul.key, host).verified
        with FleetMeasurer(fleet.url, host, patience=HASTY) as measurer:
            wait_until(lambda: measurer._dispatcher.active >= 2, 30)
            assert measurer._dispatcher.active == 2

    @pytest.mark.filterwarnings("ignore:worker other")
    def test_a_worker_that_is_killed_loses_nothing(self, fleet, matmul, host):
        log = Tripwire(4, lambda: fleet.send("right", signal.SIGKILL))
        with pytest.warns(RuntimeWarning, match=r"worker right: .*; \d+ candidates? to be given to others"):
            report = session(fleet, matmul, host, log)
        assert recorded_once(report, log)
        assert {r.worker for r in log.records()} >= {"left"}

    @pytest.mark.filterwarnings("ignore:worker")
    def test_when_the_last_worker_leaves_the_session_ends_in_good_order(self, fleet, matmul, host):
        log = Tripwire(4, lambda: fleet.send("left", signal.SIGTERM))
        with pytest.warns(RuntimeWarning, match="no worker left for .*its target is another one.*is in the log"):
            report = session(fleet, matmul, host, log, patience=replace(HASTY, alone=5.0))
        assert report.stopped == "lost" and "no worker was left" in str(report)
        assert recorded_once(report, log, report.trials) and 4 <= report.trials < TRIALS
        assert "stopped" in fleet.processes["left"].stdout.read()
        assert fleet.processes["left"].wait(10) == 0

    @pytest.mark.filterwarnings("ignore:worker", "ignore:the scheduler", "ignore:no dask")
    def test_when_the_scheduler_is_lost_this_machine_can_take_over(self, fleet, matmul, host):
        """The worker that is left is of another target: it may help if asked to."""
        log = Tripwire(4, lambda: fleet.cluster.close(5))
        with pytest.warns(RuntimeWarning, match="measuring goes on on this machine"):
            options = {"any_target": True, "fallback": True}
            report = session(fleet, matmul, host, log, patience=replace(HASTY, alone=5.0), **options)
        assert recorded_once(report, log)
        assert report.stopped == "trials"
        assert {r.worker for r in log.records()} == {"other", ""}
        with pytest.raises(TuningError, match="no dask scheduler answers"):
            survey(fleet.url, 0.5)


def test_the_candidates_processes_end_with_their_worker(repository_env):
    """However a worker ends, builders and runners see their pipes close."""
    code = (
        "import os, sys, time; from luthier.tuner.process import Worker; "
        "w = Worker('luthier.tuner.builder:Builder'); p = w._start(); print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=repository_env)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait(10)
    parent.stdout.close()
    assert all_end([child])
