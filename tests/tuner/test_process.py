"""Workers that crash, hang, print, or eat memory; the supervisor must outlive all of it."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import alive, all_end

from luthier.errors import TuningError
from luthier.tuner.cpu import STOPPABLE
from luthier.tuner.process import Answer, Failure, Worker
from luthier.tuner.record import Status

FAULTS = str(Path(__file__).parent / "faults")
DATA = pickle.dumps("the task")


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", FAULTS)
    w = Worker("echo_roles:Echo", memory_bytes=3 << 30)
    yield w
    w.close()


def state(pid):
    """R: runs, S: sleeps, T: is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def call(worker, *job, timeout_s=30.0):
    return worker.call("key", DATA, job, timeout_s)


def test_answers_and_task_data_is_sent_once(worker):
    assert call(worker, "echo", 1) == Answer(("the task", 1))
    assert worker.call("key", b"not a pickle: it must not be sent again", ("echo", 2), 30) == Answer(("the task", 2))
    assert worker.call("other", pickle.dumps("another"), ("echo", 3), 30) == Answer(("another", 3))
    assert worker.starts == 1


def test_one_that_was_started_early_answers_the_first_call(worker):
    worker.start()
    assert worker.starts == 1 and worker.idle_since_start
    worker.start()
    assert call(worker, "echo", 1) == Answer(("the task", 1))
    assert worker.starts == 1 and not worker.idle_since_start


def killed_at_start(worker, times):
    """Kill the process of a worker as soon as there is one, so many times, from another thread."""

    def kill():
        for n in range(times):
            wait_for(lambda n=n: worker.starts > n)
            os.kill(worker._process.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_one_that_is_killed_while_it_starts_is_started_again(worker):
    thread = killed_at_start(worker, 1)
    assert call(worker, "echo", 1) == Answer(("the task", 1))
    thread.join()
    assert worker.starts == 2


def test_one_that_is_always_killed_while_it_starts_is_an_error(worker):
    thread = killed_at_start(worker, 2)
    with pytest.raises(TuningError, match="cannot be started"):
        call(worker, "echo", 1)
    thread.join()


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no scheduling policies")
def test_one_in_the_background_gives_way_and_another_does_not(worker, monkeypatch):
    background = Worker("echo_roles:Echo", background=True)
    try:
        assert call(background, "echo", 1) == call(worker, "echo", 1) == Answer(("the task", 1))
        polite, usual = (w._process.pid for w in (background, worker))
        assert os.getpriority(os.PRIO_PROCESS, polite) == 19
        assert os.sched_getscheduler(polite) == os.SCHED_IDLE
        assert os.sched_getscheduler(usual) == os.sched_getscheduler(0)
        autogroup = Path(f"/proc/{polite}/autogroup")
        assert not autogroup.exists() or "nice 19" in autogroup.read_text()
    finally:
        background.close()


@pytest.mark.skipif(not STOPPABLE, reason="processes are not stopped here")
class TestRest:
    def test_one_in_the_background_rests(self, worker):
        background = Worker("echo_roles:Echo", background=True)
        try:
            with background.paused():
                pass  # there is none yet
            for w, expected in ((background, "T"), (worker, "RS")):
                call(w, "echo", 1)
                with w.paused():
                    wait_for(lambda w=w, expected=expected: state(w._process.pid) in expected)
                assert call(w, "echo", 2) == Answer(("the task", 2))
            with background.paused():
                background.close()  # also while it rests
            assert call(background, "echo", 3) == Answer(("the task", 3))
        finally:
            background.close()

    def test_time_at_rest_does_not_count(self, worker):
        background = Worker("echo_roles:Echo", background=True)
        try:
            call(background, "echo", 1)
            answers = []
            caller = threading.Thread(target=lambda: answers.append(call(background, "sleep", 0.3, timeout_s=0.6)))
            caller.start()
            for _ in range(3):
                with background.paused():
                    time.sleep(0.4)
                time.sleep(0.02)
            caller.join()
            assert isinstance(answers[0], Answer)
            assert call(background, "sleep", 5, timeout_s=0.1).status is Status.TIMEOUT
        finally:
            background.close()

    def test_it_ends_with_its_parent_even_at_rest(self, tmp_path):
        script = (
            "import os, signal, sys\n"
            "from luthier.tuner.process import Worker\n"
            "w = Worker('echo_roles:Echo', background=True)\n"
            "w.call('key', __import__('pickle').dumps(1), ('echo', 1), 30.0)\n"
            "with w.paused():\n"
            "    print(w._process.pid, flush=True)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([FAULTS, *sys.path])}
        done = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        assert done.returncode == -signal.SIGKILL
        wait_for(lambda: not alive(int(done.stdout)))


def test_an_exception_is_an_error_and_the_worker_stays(worker):
    assert call(worker, "raise", "oh no") == Failure(None, "ValueError: oh no")
    assert call(worker, "echo", 1) == Answer(("the task", 1))
    assert worker.starts == 1


@pytest.mark.parametrize(
    ("job", "word"),
    [(("segfault",), "SIGSEGV"), (("abort",), "SIGABRT"), (("exit", 3), "exit code 3"), (("garble",), "damaged reply")],
)
def test_a_crash_is_reported_and_the_next_call_gets_a_new_worker(worker, job, word):
    failure = call(worker, *job)
    assert failure.status is Status.CRASHED
    assert word in failure.error
    assert call(worker, "echo", 1) == Answer(("the task", 1))
    assert worker.starts == 2


@pytest.mark.parametrize("job", ["hang", "spin"])
def test_a_hang_ends_at_its_time(worker, job):
    call(worker, "echo", 0)
    start = time.monotonic()
    assert call(worker, job, timeout_s=0.2) == Failure(Status.TIMEOUT, "took longer than 0.2 s")
    assert time.monotonic() - start < 5
    assert call(worker, "echo", 1) == Answer(("the task", 1))


def test_memory_is_limited(worker):
    assert call(worker, "allocate", 1 << 20) == Answer(1 << 20)
    failure = call(worker, "allocate", 64 << 30)
    assert failure.status is Status.OUT_OF_MEMORY
    assert "3.0 GiB" in failure.error
    assert call(worker, "echo", 1) == Answer(("the task", 1))


def test_megabytes_of_output_do_no_harm(worker):
    assert call(worker, "print", 6_000_000) == Answer("printed")
    assert call(worker, "echo", 1) == Answer(("the task", 1))
    assert sum(map(len, worker._output)) <= 1 << 17


def test_large_messages(worker):
    assert call(worker, "echo", b"x" * 5_000_000) == Answer(("the task", b"x" * 5_000_000))
    assert len(call(worker, "reply", 20_000_000).value) == 20_000_000


def test_workers_are_recycled(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", FAULTS)
    w = Worker("echo_roles:Echo", recycle_after=2)
    pids = [call(w, "pid").value for _ in range(4)]
    w.close()
    assert pids[0] == pids[1] != pids[2] == pids[3]


@pytest.mark.parametrize("role", ["echo_roles:BrokenAtStart", "no_such_module:Role"])
def test_a_worker_that_cannot_start_is_an_error_with_its_reason(monkeypatch, role):
    monkeypatch.setenv("PYTHONPATH", FAULTS)
    with pytest.raises(TuningError, match=r"cannot be made|no_such_module"):
        call(Worker(role), "echo", 1)


def test_a_system_without_room_for_a_worker_is_an_error(monkeypatch):
    def full(*args, **options):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("luthier.tuner.process.subprocess.Popen", full)
    with pytest.raises(TuningError, match="cannot be started: Resource temporarily unavailable; end other programs"):
        call(Worker("echo_roles:Echo"), "echo", 1)


def test_kill_from_outside_is_taken_for_lack_of_memory(worker):
    pid = call(worker, "pid").value
    os.kill(pid, signal.SIGKILL)
    assert call(worker, "echo", 1).status is Status.OUT_OF_MEMORY
    assert call(worker, "echo", 1) == Answer(("the task", 1))


PARENT = """
import os, pickle, signal, sys
from luthier.tuner.process import Worker
w = Worker("echo_roles:Echo")
print(w.call("k", pickle.dumps(None), ("pid",), 60).value, flush=True)
w.call("k", b"", ("hang",), 60)
"""


def test_workers_end_with_a_parent_that_is_killed(repository_env):
    """Also in the middle of a job; and a script without a __main__ guard may start them."""
    env = repository_env | {"PYTHONPATH": os.pathsep.join([FAULTS, repository_env["PYTHONPATH"]])}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=env, stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    os.kill(pid, 0)
    parent.kill()
    parent.wait()
    assert all_end([pid])
