"""What a session shows: a line for each task on a terminal, elsewhere a plain line now and then."""

import io
import math
import re

import pytest

from luthier import te
from luthier.tuner import progress as module
from luthier.tuner.progress import Progress, model_text, task_line
from luthier.tuner.record import Status
from luthier.tuner.scheduler import TaskProgress, TaskScheduler
from luthier.tuner.task import TuningTask


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def _state(n, name, uses=1):
    x = te.placeholder((n, 1024), name="x")
    y = te.compute((n, 1024), lambda i, j: x[i, j] * 2.0, "y")
    return TaskProgress(TuningTask(te.workload(y), name, uses), searcher=None)


@pytest.fixture
def scheduler(machine):
    return TaskScheduler([_state(i + 1, f"task{i}", i + 1) for i in range(12)], machine)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def stderr(monkeypatch):
    def use(terminal):
        stream = Stream(terminal)
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr(module.shutil, "get_terminal_size", lambda: module.shutil.os.terminal_size((100, 10)))
        return stream

    return use


@pytest.fixture
def finish(scheduler, make_record):
    """``finish(progress, 3, 2e-3)``: a trial of task 3 ends with a time, or fails where it is None."""

    def trial(progress, number, run_s):
        state = scheduler.tasks[number]
        changes = {"key": state.task.key, "task": state.task.name}
        if run_s is None:
            record = make_record(status=Status.TIMEOUT, **changes)
        else:
            record = make_record(run_s=run_s, **changes)
        if not state.history:
            state.default_s = record.best_s
        state.add(record.best_s, record.verified)
        progress.trial(scheduler, record)

    return trial


def test_the_line_of_a_task(scheduler):
    state = scheduler.tasks[0]
    line = task_line(scheduler, state)
    assert "no verified schedule yet" in line and "0 trials" in line and "noise     -" in line
    state.default_s = 2e-5
    state.add(2e-5, True)
    state.add(1e-5, True)
    line = task_line(scheduler, state, 0.021)
    assert re.fullmatch(
        r"task0 +10\.0 us +0\.1 GFLOP/s +\d+% of roof +2 trials +2\.00x +noise +2\.1%", line.replace("  ", " ")
    ), line


@pytest.mark.parametrize("width", [40, 79, 200])
def test_lines_fit_the_terminal(scheduler, width):
    state = _state(1, "conv2d_3x3_" * 20)
    state.default_s = state.best_s = 1.0
    assert len(task_line(scheduler, state, 0.5, width)) <= width


def test_a_file_gets_a_line_now_and_then(scheduler, stderr, clock, finish):
    stream = stderr(False)
    with Progress(True, 600.0, None) as progress:
        for i in range(1000):
            finish(progress, i % 12, 1e-3 / (1 + i) if i % 10 else None)
            clock.now += 0.1
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6  # at once, every 20 s, and at the end
    form = re.compile(r"tuning: \d+ of 600 s, model [\d.]+ ms( \(\d+\.\d\dx\))?, \d+ trials, ")
    assert all(form.match(x) for x in lines), lines
    assert "1000 trials, 10.0/s, 100 failed; now task3" in lines[-1]
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_lines_count_trials_where_there_is_no_time(scheduler, stderr, clock, finish):
    stream = stderr(False)
    with Progress(True, None, 5) as progress:
        finish(progress, 0, 1e-3)
    assert stream.getvalue().startswith("tuning: 1 of 5 trials, ")
    assert len(stream.getvalue().splitlines()) == 1


def test_a_terminal_shows_the_tasks_in_work(scheduler, stderr, clock, finish):
    stream = stderr(True)
    with Progress(True, 60.0, None) as progress:
        for number in (*range(12), 5):
            finish(progress, number, 1e-3)
            clock.now += 1.0
        text = stream.getvalue()
        recent = text[text.rindex("task4 ") :]
        assert "48 s left, model " in recent and "GFLOP/s" in recent
        assert {s.task.name for s in progress._view.slots} == {f"task{i}" for i in range(4, 12)}
    assert stream.getvalue().endswith("\n")


def test_a_terminal_is_not_written_to_at_every_trial(scheduler, stderr, clock, finish):
    stream = stderr(True)
    with Progress(True, 60.0, None) as progress:
        finish(progress, 0, 1e-3)
        before = len(stream.getvalue())
        for _ in range(1000):
            finish(progress, 0, 1e-3)
        assert len(stream.getvalue()) == before


def test_nothing_is_shown_where_it_is_not_wanted(scheduler, stderr, finish):
    stream = stderr(True)
    with Progress(False, 60.0, None) as progress:
        finish(progress, 0, 1e-3)
        finish(progress, 0, None)
    assert (progress.count, progress.failed, stream.getvalue()) == (2, 1, "")


def test_a_session_without_a_trial_shows_nothing(stderr):
    for terminal in (False, True):
        stream = stderr(terminal)
        with Progress(True, 60.0, None):
            pass
        assert stream.getvalue() == ""


def test_the_gain_of_the_model_weighs_tasks_by_uses(scheduler, clock):
    progress = Progress(False, 60.0, None)
    for state, default_s, best_s in ((scheduler.tasks[0], 4e-3, 2e-3), (scheduler.tasks[1], math.inf, 1e-3)):
        state.default_s = default_s
        state.add(best_s, True)
    assert model_text(progress, scheduler).startswith("model 4.000 ms (1.50x), 0 trials")
