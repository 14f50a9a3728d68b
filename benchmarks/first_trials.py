"""What a log of other models is worth in a task's first trials: searches with it and without, judged together.

    luthier tune light_resnet50 --threads 2 --budget 5m --log one.db
    python -m benchmarks.first_trials light_inception_v2 --log one.db --threads 2

:mod:`.learning` compares two sessions, which give most tasks one batch each and ran at other hours of the machine. Here
every task is searched twice for the same number of trials, and both searches share what they measure. In the end what
a session would have compared after any of their trials is measured again in turns (:mod:`.settle`). Tasks that the log
knows itself are left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

from benchmarks.common import environment, write_json
from benchmarks.learning import WITHIN, Needed, summaries
from benchmarks.search import NOTHING, Knowledge, Machine, judged, run, trials_needed
from luthier.cli_table import table
from luthier.cli_values import count
from luthier.codegen.detect import host_target
from luthier.tuner.database import MemoryDatabase, open_log
from luthier.tuner.experience import samples_of
from luthier.tuner.measure import Measurer
from luthier.tuner.model_tasks import model_tasks
from luthier.tuner.task import tuning_tasks
from luthier.tuner.transfer import hints

CHECKPOINTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Searched:
    """Times of the best so far after each trial of a task, in seconds, and of the best of all."""

    task: str
    best_s: float
    without: Sequence[float]
    with_log: Sequence[float]

    @property
    def needed(self) -> Needed:
        """Trials until within 3 % of the best."""
        return Needed(
            trials_needed(self.without, self.best_s, WITHIN),
            trials_needed(self.with_log, self.best_s, WITHIN),
            len(self.without),
        )

    def off(self, curve: Sequence[float]) -> list[float]:
        """How far off the best, in %, after each of the checkpoints."""
        return [100 * (curve[min(n, len(curve)) - 1] / self.best_s - 1) for n in CHECKPOINTS]


def main() -> int:
    arguments = _arguments()
    target = host_target(arguments.threads)
    found: list[Searched] = []
    with open_log(arguments.log, "r") as log:
        samples = samples_of(log, target)
        tasks = [t for t in tuning_tasks(model_tasks(arguments.model, target)) if not log.targets(t.key)]
        for task in tasks:
            knowledge = Knowledge(samples, partial(hints, log, task.workload, target))
            with Measurer(target) as measurer:
                machine = Machine(task, target, MemoryDatabase(), measurer)
                runs = {
                    name: [run(machine, "evolutionary", 0, arguments.trials, known)]
                    for name, known in (("without", NOTHING), ("with_log", knowledge))
                }
                best_s, curves = judged(machine, runs)
            searched = Searched(task.name, best_s, curves["without"][0], curves["with_log"][0])
            found.append(searched)
            needed = searched.needed
            print(f"{task.name} {best_s * 1e6:.1f} us: {needed.without:.0f} {needed.with_log:.0f}", flush=True)
    rows = [
        [name, *(f"{statistics.mean(column):.1f}" for column in zip(*offs, strict=True))]
        for name, offs in (
            ("without", [s.off(s.without) for s in found]),
            ("with the log", [s.off(s.with_log) for s in found]),
        )
    ]
    print(table(["% off in the mean after", *map(str, CHECKPOINTS)], rows, left=1))
    print(summaries([s.needed for s in found]))
    options = {"model": arguments.model, "trials": arguments.trials, "threads": arguments.threads}
    tables = {"environment": environment(target), "options": options, "tasks": [asdict(s) for s in found]}
    write_json(arguments.json, tables)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the model whose tasks are searched")
    parser.add_argument("--log", required=True, metavar="FILE", help="log of other models")
    parser.add_argument("--trials", type=count, default=24, metavar="N", help="of each search (default: 24)")
    parser.add_argument("--threads", type=count, metavar="N", default=1)
    parser.add_argument("--json", metavar="FILE", help="write all curves")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
