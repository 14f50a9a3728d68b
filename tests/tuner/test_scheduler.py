"""The task scheduler: who gets the next trials, and when it is time to stop."""

from __future__ import annotations

import math

import pytest

from luthier import te
from luthier.tuner.scheduler import TaskProgress, TaskScheduler
from luthier.tuner.task import TuningTask


def progress(name: str, uses: int = 1, n: int = 4096, times: tuple[float, ...] = ()) -> TaskProgress:
    x = te.placeholder(n)
    w = te.workload(te.compute(n, lambda i: x[i] * 2.0))
    state = TaskProgress(TuningTask(w, name, uses), searcher=None)  # type: ignore[arg-type]
    for t in times:
        state.add(t, True)
    state.submitted = len(times)
    return state


def names(scheduler: TaskScheduler, trials: int, batch: int = 8, speed=lambda name, n: 1e-3) -> list[str]:
    chosen = []
    for _ in range(trials):
        state = scheduler.next()
        if state is None:
            break
        chosen.append(state.task.name)
        for _ in range(batch if state.submitted else 1):
            state.submitted += 1
            state.add(speed(state.task.name, state.submitted), True)
    return chosen


def test_every_task_gets_its_default_first_the_heaviest_before_the_others(machine):
    tasks = [progress("small", n=64), progress("often", uses=50), progress("large")]
    assert names(TaskScheduler(tasks, machine), 3) == ["often", "large", "small"]


def test_what_the_first_defaults_tell_is_waited_for(machine):
    slow, other = progress("slow", n=1 << 20), progress("other")
    scheduler = TaskScheduler([slow, other], machine)
    slow.submitted = other.submitted = 1
    assert scheduler.next() is None
    other.add(1e-3, True)
    assert scheduler.next() is other  # nothing is known of the heavier one yet
    alone = progress("alone")
    alone.submitted = 1
    assert TaskScheduler([alone], machine).next() is alone  # its builders would have nothing to do


def test_time_does_not_go_where_memory_is_read_at_its_rate(machine):
    n = 4 * machine.l3_bytes // 4
    reads, computes = progress("reads", n=n), progress("computes")
    reads.add(reads.task.workload.bytes_moved / 10e9, True)
    computes.add(reads.best_s / 4, True)
    reads.submitted = computes.submitted = 1
    scheduler = TaskScheduler([reads, computes], machine)
    assert scheduler.headroom(reads) < 0.05 < 0.5 < scheduler.headroom(computes)
    assert scheduler.next() is computes


def test_time_goes_where_the_model_spends_it(machine):
    tasks = [progress("rare", 1), progress("frequent", 10)]
    chosen = names(TaskScheduler(tasks, machine), 22)[2:]
    assert chosen.count("frequent") > 2 * chosen.count("rare") > 0


def test_time_goes_where_there_was_improvement(machine):
    stuck = progress("stuck", times=(1e-3,) * 100)
    moving = progress("moving", times=tuple(2e-3 / (1 + 0.01 * i) for i in range(100)))
    assert TaskScheduler([stuck, moving], machine).next() is moving


def test_gains_are_counted_for_each_second(machine):
    cheap, dear = progress("cheap", times=(1e-3,) * 20), progress("dear", uses=2, times=(1e-3,) * 20)
    scheduler = TaskScheduler([cheap, dear], machine)
    assert scheduler.next() is dear
    dear.compile_s = 20 * 0.5
    assert dear.trial_s > 5 * cheap.trial_s > 0
    assert scheduler.next() is cheap


def test_runs_take_time_too():
    assert progress("slow", times=(0.1,)).trial_s > 10 * progress("fast", times=(1e-4,)).trial_s


def test_the_model_needs_the_defaults_and_what_is_better():
    state = progress("x")
    state.default_s, state.default_compile_s = 2e-3, 0.25
    state.add(2e-3, True, 0.25)
    assert (state.builds_s(kept=False), state.builds_s(kept=True)) == (0.25, 0.0)
    state.add(1e-3, True, 0.5)
    state.add(1e-3, False, 4.0)
    assert (state.builds_s(kept=False), state.builds_s(kept=True)) == (0.75, 0.5)


def test_tasks_near_the_roofline_wait(machine):
    floor = TaskScheduler([progress("x", n=1 << 20)], machine).least_s(progress("x", n=1 << 20))
    near, far = progress("near", n=1 << 20, times=(1.05 * floor,)), progress("far", n=1 << 18, times=(floor,))
    scheduler = TaskScheduler([near, far], machine)
    assert scheduler.headroom(near) < scheduler.headroom(far)
    assert scheduler.next() is far


def test_it_stops_when_nothing_more_can_be_expected(machine):
    tasks = [progress("a"), progress("b")]
    scheduler = TaskScheduler(tasks, machine)
    names(scheduler, 100_000)
    assert scheduler.next() is None
    assert scheduler.expected_gain < 0.01
    assert 100 < sum(t.submitted for t in tasks) < 10_000


def test_it_goes_on_while_there_is_improvement(machine):
    tasks = [progress("a")]
    scheduler = TaskScheduler(tasks, machine)
    names(scheduler, 400, speed=lambda name, n: 1.0 / n)
    assert scheduler.next() is tasks[0]


def test_stop_below_zero_never_stops(machine):
    tasks = [progress("a", times=(1e-3,) * 100_000)]
    assert TaskScheduler(tasks, machine).next() is None
    assert TaskScheduler(tasks, machine, stop_below=0.0).next() is tasks[0]


def test_exhausted_tasks_are_left_alone(machine):
    tasks = [progress("a", 100), progress("b")]
    tasks[0].exhausted = True
    assert set(names(TaskScheduler(tasks, machine), 20)) == {"b"}
    tasks[1].exhausted = True
    assert TaskScheduler(tasks, machine).next() is None


def test_failures_only(machine):
    """A task for which nothing works is tried for a while, and does not hold up the others for ever."""
    bad, good = progress("bad"), progress("good")
    scheduler = TaskScheduler([bad, good], machine)
    chosen = names(scheduler, 60, speed=lambda name, n: math.inf if name == "bad" else 1e-3)
    assert {"bad", "good"} == set(chosen)
    assert scheduler.latency_s == pytest.approx(1e-3)
    names(scheduler, 100_000, speed=lambda name, n: math.inf if name == "bad" else 1e-3)
    assert scheduler.next() is None


def test_only_verified_times_count():
    state = progress("a")
    assert state.add(2.0, True)
    assert not state.add(1.0, False)
    assert not state.add(3.0, True)
    assert state.best_s == 2.0 and state.history == [2.0, 2.0, 2.0]
