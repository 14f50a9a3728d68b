"""How candidates are given out, on made-up workers in this process: no dask, no code, short deadlines."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from waiting import wait_until

from luthier.codegen.detect import host_target
from luthier.errors import TargetError, TuningError
from luthier.tuner import finish
from luthier.tuner.bench import MeasureResult
from luthier.tuner.candidate import Candidate
from luthier.tuner.database import MemoryDatabase
from luthier.tuner.fleet import FleetMeasurer, choose_target, connect, dispatch, misfit, remote
from luthier.tuner.fleet.dispatch import DEPTH, Patience
from luthier.tuner.fleet.messages import IDENTITY, Exchange, Greeting, Order, Outcome
from luthier.tuner.history import make_record
from luthier.tuner.measurer import MeasurerLost
from luthier.tuner.record import Status

HASTY = Patience(silence=0.1, results=0.3, rest=0.02, alone=0.3, connect=0.1, poll=0.01, wait=0.0)


class FakeWorker:
    """Measures ``speed`` candidates in each message; ``behave`` may do otherwise."""

    def __init__(self, name, target, machine=None, speed=4, behave=None):
        self.greeting = Greeting(name, machine or name, target)
        self.speed, self.behave = speed, behave
        self.held, self.seen, self.told = {}, [], []
        self.tasks, self.messages, self.engagements = Counter(), [], []

    async def exchange(self, message: Exchange):
        await asyncio.sleep(0.001)
        self.messages.append(message)
        if message.target is not None:
            self.held.clear()
            self.engagements.append(message.engagement)
        self.tasks.update(message.tasks.keys())
        self.told.append(dict(message.best))
        if message.drop:
            self.held.clear()
        self.held |= {o.ticket: o for o in message.orders}
        self.seen += [o.decisions["n"] for o in message.orders]
        if self.behave is not None:
            await self.behave(self)
        groups = {o.group for o in self.held.values()}
        if groups and None not in groups:
            assert len(groups) == 1
            done, self.held = list(self.held.values()), {}
            return [self.outcome(o, verified=True) for o in done]
        done = [self.held.pop(ticket) for ticket in list(self.held)[: self.speed]]
        return [self.outcome(o) for o in done]

    def outcome(self, order, run_s=1e-3, verified=False):
        return Outcome(order.ticket, {"status": Status.OK, "run_s": (run_s,), "verified": verified})


def test_a_default_is_one_on_a_worker_too(tiny, host):
    """Whatever number the session gives it among all its candidates."""
    asked = []
    engagement = remote._Engagement.__new__(remote._Engagement)
    engagement._tasks = {"a": tiny}
    engagement.measurer = SimpleNamespace(submit=lambda task, candidate: asked.append(candidate))
    engagement._submit([Order(41, "a", {"n": 1}, None, trial=0), Order(42, "a", {"n": 2}, None, trial=7)], False)
    assert [c.trial for c in asked] == [0, 7]
    results = [MeasureResult(tiny, c, Status.OK, (1.0,)) for c in asked]
    assert [remote._outcome(r).ticket for r in results] == [41, 42]


class FakeScheduler:
    status = "running"

    def __init__(self):
        self.workers, self.reachable, self.released = {}, True, []

    async def nthreads(self):
        return dict.fromkeys(self.workers, 1)


@pytest.fixture
def scheduler(monkeypatch):
    fake = FakeScheduler()

    @asynccontextmanager
    async def connected(url, timeout_s):
        if not fake.reachable:
            raise TuningError("no dask scheduler answers")
        yield fake

    async def greet(client, address, target):
        if isinstance(client.workers[address], str):
            raise TuningError(client.workers[address])
        return client.workers[address].greeting

    async def call(client, address, timeout_s, function, argument):
        if function is remote.release:
            client.released.append(argument)
            return None
        if not client.reachable:
            raise OSError("connection lost")
        try:
            return await asyncio.wait_for(client.workers[address].exchange(argument), timeout_s)
        except TimeoutError:
            raise TimeoutError("no answer") from None

    for name, value in (("connected", connected), ("greet", greet), ("call", call)):
        monkeypatch.setattr(dispatch, name, value)
    monkeypatch.setattr("luthier.tuner.fleet.measurer.dask_distributed", lambda url: None)
    return fake


@pytest.fixture
def target():
    return host_target(1)


def measurer_of(target, **options):
    return FleetMeasurer("dask://fake", target, patience=HASTY, **options)


def measure(measurer, task, count, first=0):
    """Submit candidates and return their results by number."""
    for n in range(first, first + count):
        measurer.submit(task, Candidate({"n": n}))
    results = [measurer.next_result(10) for _ in range(count)]
    assert measurer.pending == 0 and None not in results
    found = {r.candidate.decisions["n"]: r for r in results}
    assert sorted(found) == list(range(first, first + count))
    return found


class TestGivingOut:
    def test_everybody_gets_a_share_and_nobody_too_much(self, scheduler, target, matmul):
        workers = [FakeWorker(name, target) for name in "abc"]
        scheduler.workers = {w.greeting.name: w for w in workers}
        with measurer_of(target) as m:
            wait_until(lambda: m._dispatcher.active >= 3, 5)
            assert m.capacity == 3 * DEPTH
            found = measure(m, matmul, 60)
        assert Counter(r.worker for r in found.values()).keys() == {"a", "b", "c"}
        assert all(w.tasks == {f"{matmul.key}/": 1} for w in workers)  # sent once
        assert all(len(message.orders) <= DEPTH for w in workers for message in w.messages)
        assert sorted(scheduler.released) == sorted(e for w in workers for e in w.engagements)

    def test_workers_of_one_machine_do_not_measure_at_once(self, scheduler, target, matmul):
        scheduler.workers = {n: FakeWorker(n, target, "one machine") for n in ("first", "spare")}
        with measurer_of(target) as m:
            (used,) = {r.worker for r in measure(m, matmul, 20).values()}
            other = "spare" if used == "first" else "first"
            assert scheduler.workers[other].messages == []
            del scheduler.workers[used]  # it leaves, and the other one takes its place
            m._dispatcher.patience = replace(HASTY, alone=10.0)
            assert {r.worker for r in measure(m, matmul, 20, 20).values() if r.candidate.decisions["n"] > 36} == {other}

    def test_best_times_travel(self, scheduler, target, matmul):
        async def improve(worker):
            worker.outcome = lambda o: FakeWorker.outcome(worker, o, 1e-3 / (1 + o.ticket), verified=o.ticket == 2)

        scheduler.workers = {"a": FakeWorker("a", target, behave=improve, speed=1)}
        with measurer_of(target) as m:
            m.set_best(matmul, 0.5)
            measure(m, matmul, 4)
            del scheduler.workers["a"]
            scheduler.workers["b"] = b = FakeWorker("b", target)
            measure(m, matmul, 1, 4)
        assert [best for best in b.told if best] == [{f"{matmul.key}/": 1e-3 / 3}]

    def test_traces_travel_only_where_the_space_is_ones_own(self, scheduler, target, matmul, tiny):
        scheduler.workers = {"a": FakeWorker("a", target)}
        with measurer_of(target) as m:
            for n, task in enumerate((matmul, tiny)):
                m.submit(task, Candidate({"n": n}, {"steps": []}, task.space_name))
                assert m.next_result(10).task is task
        orders = [o for message in scheduler.workers["a"].messages for o in message.orders]
        assert [o.trace for o in orders] == [None, {"steps": []}]


class TestComparing:
    """What ends a session: forget the rest, and time the best again on one machine."""

    def test_finalists_are_timed_by_one_worker(self, scheduler, target, matmul):
        scheduler.workers = {n: FakeWorker(n, target) for n in "abc"}
        finalists = [Candidate({"n": n}) for n in range(5)]
        with measurer_of(target) as m:
            results = m.compare(matmul, finalists, 10)
            assert m.pending == 0
        assert {id(r.candidate) for r in results} == {id(c) for c in finalists}
        assert len({r.worker for r in results}) == 1 and all(r.verified for r in results)

    def test_a_lost_worker_does_not_end_a_comparison(self, scheduler, target, matmul):
        failures = []

        async def die_once(worker):
            if worker.held and not failures:
                failures.append(worker.greeting.name)
                raise OSError("connection closed")

        scheduler.workers = {n: FakeWorker(n, target, behave=die_once) for n in "ab"}
        with measurer_of(target) as m, pytest.warns(RuntimeWarning, match="5 candidates to be given to others"):
            assert len(m.compare(matmul, [Candidate({"n": n}) for n in range(5)], 10)) == 5
        assert failures

    def test_a_comparison_that_costs_every_worker_ends_and_condemns_nothing(
        self, scheduler, target, matmul, monkeypatch
    ):
        ill = [True]

        async def die(worker):
            if worker.held and ill:
                raise OSError("connection closed")

        scheduler.workers = {n: FakeWorker(n, target, behave=die) for n in "ab"}
        log = MemoryDatabase()
        default, other = Candidate({"n": 0}), Candidate({"n": 1})
        for candidate, run_s in ((default, 2e-3), (other, 1e-3)):
            result = MeasureResult(matmul, candidate, Status.OK, (run_s,), True)
            log.add(make_record(result, target, "random", 0))
        before = list(log.records())
        monkeypatch.setattr(finish, "replay", lambda task, target, record: record)
        with measurer_of(target) as m, pytest.warns(RuntimeWarning, match="are not compared"):
            assert finish.settle(matmul, default, log, target, m, 10) is None
            ill.clear()
            assert measure(m, matmul, 2, first=20)
        assert list(log.records()) == before

    def test_time_is_kept_and_what_was_dropped_does_not_return(self, scheduler, target, matmul):
        gate = []

        async def wait(worker):
            while not gate:
                await asyncio.sleep(0.005)

        scheduler.workers = {"a": FakeWorker("a", target, behave=wait)}
        with measurer_of(target) as m:
            m._dispatcher.patience = replace(HASTY, silence=10.0)
            for n in range(4):
                m.submit(matmul, Candidate({"n": n}))
            assert m.next_result(0.1) is None
            m.drop_pending()
            assert m.pending == 0
            assert m.compare(matmul, [Candidate({"n": 9})], 0.05) == []
            gate.append(True)
            assert measure(m, matmul, 3, first=20)
        with pytest.raises(TuningError, match="closed"):
            m.compare(matmul, [Candidate({"n": 9})])


class TestTrouble:
    async def _silent(self, worker):
        await asyncio.sleep(1000)

    def test_a_silent_worker_loses_nothing_and_is_asked_again(self, scheduler, target, matmul):
        async def silent_at_first(worker):
            if len(worker.engagements) == 1:
                await asyncio.sleep(1000)

        scheduler.workers = {"a": FakeWorker("a", target), "b": FakeWorker("b", target, behave=silent_at_first)}
        with (
            measurer_of(target) as m,
            pytest.warns(RuntimeWarning, match=r"worker b: no answer; \d+ candidates? to be given"),
        ):
            measure(m, matmul, 40)
            assert wait_until(lambda: any(r.worker == "b" for r in measure(m, matmul, 40, 40).values()), 5)
        assert len(scheduler.workers["b"].engagements) == 2

    def test_a_worker_that_answers_but_measures_nothing_is_given_up(self, scheduler, target, matmul):
        scheduler.workers = {"a": FakeWorker("a", target), "b": FakeWorker("b", target, speed=0)}
        with measurer_of(target) as m, pytest.warns(RuntimeWarning, match="worker b: no result within 0.3 s"):
            found = measure(m, matmul, 40)
        assert {r.worker for r in found.values()} == {"a"}

    def test_a_worker_that_cannot_measure_says_why(self, scheduler, target, matmul):
        async def refuse(worker):
            raise TuningError("a worker process cannot be started")

        scheduler.workers = {"a": FakeWorker("a", target), "b": FakeWorker("b", target, behave=refuse)}
        with measurer_of(target) as m, pytest.warns(RuntimeWarning, match="worker b: a worker process cannot be"):
            measure(m, matmul, 40)

    def test_a_candidate_that_costs_workers_is_found_and_no_other_suffers(self, scheduler, target, matmul):
        async def die_of_seven(worker):
            if any(o.decisions["n"] == 7 for o in worker.held.values()):
                raise OSError("connection closed")

        scheduler.workers = {n: FakeWorker(n, target, behave=die_of_seven) for n in "abc"}
        with measurer_of(target) as m, pytest.warns(RuntimeWarning, match="connection closed"):
            found = measure(m, matmul, 40)
        bad = found.pop(7)
        assert bad.status is Status.CRASHED and "3 workers were lost while they had this candidate" in bad.error
        assert all(r.status is Status.OK for r in found.values())
        assert sum(w.seen.count(7) for w in scheduler.workers.values()) == 3

    def test_a_defect_here_is_not_taken_for_a_lost_worker(self, scheduler, target, matmul, monkeypatch):
        monkeypatch.setattr(dispatch, "misfit", lambda *_: 1 / 0)
        scheduler.workers = {"a": FakeWorker("a", target)}
        m = measurer_of(target)
        m.submit(matmul, Candidate({"n": 0}))
        with pytest.raises(ZeroDivisionError):
            m.next_result(10)

    def test_nobody_is_left(self, scheduler, target, matmul):
        other = replace(target, cpu="another-cpu", model="Another CPU")
        scheduler.workers = {"a": FakeWorker("a", other), "b": "it has luthier 9: install the same on both"}
        m = measurer_of(target)
        m.submit(matmul, Candidate({"n": 0}))
        with (
            pytest.warns(RuntimeWarning, match="worker a: its target is another one: Another CPU"),
            pytest.raises(MeasurerLost, match=r"no worker left for .*; a: its target.*; b: it has luthier 9"),
        ):
            m.next_result(10)
        with pytest.raises(TuningError, match="closed"):
            m.submit(matmul, Candidate({"n": 1}))

    def test_no_scheduler(self, scheduler, target, matmul):
        scheduler.reachable = False
        m = measurer_of(target)
        m.submit(matmul, Candidate({"n": 0}))
        with pytest.warns(RuntimeWarning), pytest.raises(MeasurerLost, match="no dask scheduler answers"):
            m.next_result(10)

    def test_a_scheduler_that_comes_back_finds_the_session_waiting(self, scheduler, target, matmul):
        scheduler.workers = {"a": FakeWorker("a", target)}
        with measurer_of(target) as m:
            measure(m, matmul, 4)
            m._dispatcher.patience = replace(HASTY, alone=10.0)
            scheduler.reachable, scheduler.status = False, "connecting"
            with pytest.warns(RuntimeWarning, match="the scheduler at dask://fake was lost") as warned:
                m.submit(matmul, Candidate({"n": 4}))
                assert wait_until(lambda: m.next_result(0.05) is not None or warned.list) and m.pending == 1
            scheduler.reachable, scheduler.status = True, "running"
            assert m.next_result(10).candidate.decisions == {"n": 4}

    def test_waiting_ends_in_time_and_so_does_closing(self, scheduler, target, matmul):
        scheduler.workers = {"a": FakeWorker("a", target, behave=self._silent)}
        m = measurer_of(target)
        assert m.next_result(10) is None  # nothing is pending
        m.submit(matmul, Candidate({"n": 0}))
        assert m.next_result(0.01) is None
        m.close()
        m.close()
        assert m.pending == 0 and not m._thread.is_alive()

    def test_a_fallback_to_a_machine_that_does_not_fit(self, scheduler, target):
        with pytest.raises(TuningError, match=r"this machine cannot measure.*leave fallback out"):
            measurer_of(replace(target, cpu="another-cpu"), fallback=True)


class TestTargets:
    def greetings(self, target):
        old = replace(target, cpu="old-cpu")
        return [
            Greeting("a", "m1", target.with_threads(4)),
            Greeting("b", "m2", old.with_threads(4)),
            Greeting("c", "m2", old.with_threads(4)),
            Greeting("d", "m3", target.with_threads(4)),
            Greeting("e", "m4", target.with_threads(2)),
        ]

    def test_most_machines_win(self, target):
        found = self.greetings(target)
        assert choose_target(found) == target.with_threads(4)
        assert choose_target(found[1:4]).threads == 4
        assert choose_target(found, threads=2) == target.with_threads(2)

    def test_by_name_and_by_hash(self, target):
        from luthier.tuner.record import target_hash

        found = self.greetings(target)
        old = found[1].target
        assert choose_target(found, target_hash(old)[:6]) == old
        assert choose_target(found, "host", 1) == target
        assert choose_target(found, "x86-64-v3", 3).threads == 3
        with pytest.raises(TuningError, match="neither one of host"):
            choose_target(found, "zzzz")
        with pytest.raises(TuningError, match="no worker can run 64 threads"):
            choose_target(found, threads=64)

    def test_who_fits(self, target):
        a, b, _, _, e = self.greetings(target)
        four = target.with_threads(4)
        assert misfit(a, four) == misfit(a, target.with_threads(2)) == ""
        assert misfit(e, four) == "it can run 2 threads, not 4"
        assert "its target is another one" in misfit(b, four)
        assert misfit(b, four, any_target=True) == ""
        assert "cannot run code for host" in misfit(replace(b, runs=False), four, any_target=True)

    def test_a_worker_cannot_be_of_a_target_that_it_cannot_run(self, monkeypatch):
        monkeypatch.setattr(remote, "settings", remote.Settings(target="aarch64"))
        with pytest.raises(TargetError, match="cannot run code for aarch64"):
            remote.greet(IDENTITY)


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("dask://host:1234", "tcp://host:1234"),
            ("dask://10.0.0.1", "tcp://10.0.0.1:8786"),
            ("dask://[::1]:8786", "tcp://[::1]:8786"),
            ("dask+tls://host:1234", "tls://host:1234"),
        ],
    )
    def test_good(self, url, expected):
        assert connect.scheduler_address(url) == expected

    @pytest.mark.parametrize(
        "url", ["", "host:8786", "tcp://host:8786", "dask://", "dask://host:port", "dask://h:99999"]
    )
    def test_bad(self, url):
        with pytest.raises(TuningError, match="write it as dask://host:8786"):
            connect.scheduler_address(url)

    def test_a_survey_asks_about_a_target(self, scheduler, monkeypatch, target):
        scheduler.workers = {"a": FakeWorker("a", target)}

        async def greet(client, address, asked):
            return replace(client.workers[address].greeting, runs=asked != target)

        monkeypatch.setattr(connect, "connected", dispatch.connected)
        monkeypatch.setattr(connect, "greet", greet)
        asked = [connect.survey("dask://host", target=t).workers["a"].runs for t in (None, target)]
        assert asked == [True, False]

    def test_a_scheduler_that_is_silent_is_an_error(self, scheduler, monkeypatch):
        async def silent():
            raise TimeoutError

        monkeypatch.setattr(scheduler, "nthreads", silent)
        monkeypatch.setattr(connect, "connected", dispatch.connected)
        with pytest.raises(TuningError, match="the scheduler at dask://host does not answer"):
            connect.survey("dask://host")

    def test_without_dask(self, monkeypatch, target):
        monkeypatch.setitem(__import__("sys").modules, "distributed", None)
        with pytest.raises(TuningError, match=r"pip install luthier\[fleet\]"):
            FleetMeasurer("dask://host", target)
        with pytest.raises(TuningError, match=r"pip install luthier\[fleet\]"):
            connect.survey("dask://host")
