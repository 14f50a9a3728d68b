"""``--explain``: where each schedule is from. And the counts, which are always printed."""

from __future__ import annotations

import pytest

from luthier.codegen.detect import host_target
from luthier.schedule.decide import Default
from luthier.tuner.database import open_log
from luthier.tuner.model_tasks import model_tasks
from luthier.tuner.record import Record, Status


@pytest.fixture
def log_of(tmp_path):
    """Write a log with the default schedule of a model's tasks whose name has ``part`` in it."""

    def write(model, part="", name="net.db", **changes):
        target = host_target(1)
        with open_log(tmp_path / name) as log:
            for task in model_tasks(str(model), target):
                if part in task.name:
                    decisions = task.instantiate(Default(), target).decisions
                    values = {"decisions": decisions, "status": Status.OK, "run_s": (1e-5, 1e-5), "verified": True}
                    fingerprint = target.fingerprint()
                    log.add(Record(task.key, task.workload.text, task.name, fingerprint, **(values | changes)))
        return tmp_path / name

    return write


def lines_of(text: str, name: str) -> str:
    """The line of a task and the one below it, which gives the reason."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if name in line and "(v1-" in line)
    return lines[at] + lines[at + 1]


def test_build(luthier, tiny, log_of):
    done = luthier("build", tiny, "--log", log_of(tiny, "conv"), "--threads", "1", "--explain")
    assert done.code == 0
    assert "1 tuned, 0 reused, 0 transferred" in done.out.splitlines()[0]
    assert ": tuned" in lines_of(done.out, "conv2d") and "trial 0, 10 us" in lines_of(done.out, "conv2d")
    assert ": default" in lines_of(done.out, "matmul") and "no record of it" in lines_of(done.out, "matmul")
    again = luthier("run", "tiny.luthier", "--explain")
    assert lines_of(again.out, "conv2d") == lines_of(done.out, "conv2d")


def test_without_it_only_the_counts_are_printed(luthier, tiny, log_of):
    done = luthier("build", tiny, "--log", log_of(tiny), "--threads", "1")
    assert "tuned, 0 reused, 0 transferred" in done.out and "no record" not in done.out


def test_bench(luthier, tiny, log_of):
    path = log_of(tiny, decisions={"tile": "of another age"})
    done = luthier("bench", tiny, "--log", path, "--threads", "1", "--rounds", "1", "--explain")
    assert done.code == 0, done.err
    reason = lines_of(done.out, "conv2d")
    assert ": default" in reason and "1 stale record passed over" in reason and "of another age" in reason
    assert "0 tuned, 0 reused, 0 transferred, 2 default, 2 stale records passed over" in next(
        line for line in done.out.splitlines() if "kernels of" in line
    )


def test_run_without_a_log(luthier, tiny):
    assert "no log was asked" in lines_of(luthier("run", tiny, "--explain").out, "conv2d")


def test_tune(luthier, tiny):
    done = luthier("tune", tiny, "--trials", "1", "--task", "conv*", "--threads", "1", "--explain")
    assert done.code == 0, done.err
    assert ": tuned" in lines_of(done.out, "conv2d") and ": default" in lines_of(done.out, "matmul")


def test_an_unknown_task_is_named_as_the_option_was(luthier, tiny):
    complaint = luthier("tune", tiny, "--trials", "1", "--task", "nothing*").complaint
    assert "task pattern 'nothing*' matches none of the" in complaint and "tasks=" not in complaint
