"""How much builds disturb a measurement: ``python -m benchmarks.disturbance [SECONDS]``.

A session builds while it measures, with more builders than cores, which give way to what is measured, and rest where
that has all cores. This times one convolution on one thread and on all, with builders idle and busy, in turns, and
prints both medians, the spread of each and the ratio. It must be close to one next to the spread; run it on a machine
that does nothing else.
"""

from __future__ import annotations

import pickle
import statistics
import sys
import threading
import time
from contextlib import ExitStack

from luthier import te
from luthier.codegen.detect import host_target
from luthier.schedule.decide import Default
from luthier.te.ops.conv import conv
from luthier.tuner.builder import Builder
from luthier.tuner.cpu import available_cores
from luthier.tuner.jobs import BuildJob, TimeJob
from luthier.tuner.process import Answer, Worker
from luthier.tuner.task import TuningTask


def main(seconds: float = 20.0) -> None:
    """Measure and print."""
    for threads in sorted({1, available_cores()}):
        measure(threads, seconds)


def measure(threads: int, seconds: float) -> None:
    """Measure and print for code that runs on ``threads`` threads."""
    target = host_target(threads)
    block = target.lanes()
    data = te.placeholder((1, 64 // block, 56, 56, block), name="x")
    weight = te.placeholder((64, 64, 3, 3), name="w", constant=True)
    sizes = {"in_channels": 64, "out_channels": 64, "in_block": block, "out_block": block}
    task = TuningTask(te.workload(conv(data, weight, pads=[1, 1, 1, 1], **sizes), [data, weight]), "conv")
    decisions = task.instantiate(Default(), target).decisions
    job, content = BuildJob(target, decisions), pickle.dumps(task.workload)
    built = Builder().handle(task.workload, job)
    runner = Worker("luthier.tuner.runner:Runner")
    builders = [Worker("luthier.tuner.builder:Builder", background=True) for _ in range(available_cores() + 1)]
    busy, ended = threading.Event(), threading.Event()

    def build(worker: Worker) -> None:
        while not ended.is_set():
            if busy.wait(0.1):
                worker.call(task.key, content, job, 60.0)

    callers = [threading.Thread(target=build, args=(b,)) for b in builders]
    times: dict[bool, list[float]] = {False: [], True: []}
    try:
        for t in callers:
            t.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for on in (False, True):
                (busy.set if on else busy.clear)()
                time.sleep(0.3)  # a build that had begun has ended, or one has begun
                with ExitStack() as resting:
                    for b in builders[len(builders) if threads == 1 else 0 :]:
                        resting.enter_context(b.paused())
                    answer = runner.call(task.key, content, TimeJob((built,)), 60.0)
                assert isinstance(answer, Answer)
                times[on] += answer.value.candidates[0]
    finally:
        ended.set()
        busy.set()
        for t in callers:
            t.join()
        for w in (runner, *builders):
            w.close()
    for on, name in ((False, "builders idle"), (True, "builders busy")):
        low, middle, high = statistics.quantiles(times[on], n=4)
        print(
            f"{threads} threads, {name}: median {middle * 1e6:.1f} us, least {min(times[on]) * 1e6:.1f} us, "
            f"middle half within {(high - low) / middle:.1%}, {len(times[on])} samples"
        )
    print(
        f"busy over idle: {statistics.median(times[True]) / statistics.median(times[False]):.3f} by the median, "
        f"{min(times[True]) / min(times[False]):.3f} by the least"
    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
