"""What a log of one model saves another: trials until each task is near its best, without the log and with it.

    luthier tune light_resnet50 --budget 5m --log one.db
    luthier tune light_inception_v2 --budget 5m --stop-below 0 --log alone.db
    cp one.db after.db && luthier tune light_inception_v2 --budget 5m --stop-below 0 --log after.db
    python -m benchmarks.learning light_inception_v2 --alone alone.db --before one.db --after after.db

For each task, whatever either session would have compared in its end, had it ended after any of its trials, is measured
again (:mod:`.settle`); the best is the best of these. The table counts trials until the best so far was within 3 % of
it: 0 where that was known from the other model, inf where a session ended before.

With ``--cost-model xgboost-local`` both sessions do without the model that ships, and the second one begins with what
the log alone teaches.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.search import trials_needed
from benchmarks.settle import Settled, finalists, settle
from luthier.cli_table import table
from luthier.cli_values import count
from luthier.codegen.detect import host_target
from luthier.target import Target
from luthier.tuner.candidate import Candidate
from luthier.tuner.database import Database, open_log
from luthier.tuner.history import replay
from luthier.tuner.measure import Measurer
from luthier.tuner.model_tasks import model_tasks
from luthier.tuner.record import Record
from luthier.tuner.task import TuningTask, tuning_tasks

WITHIN = 0.03


@dataclass(frozen=True)
class Needed:
    """Trials that a task needed, and those of the session without the log."""

    without: float
    with_log: float
    tried: int

    @property
    def share(self) -> float:
        """Of the trials without the log, what it needs with it: at most so much where the former were not enough."""
        return self.with_log / min(self.without, self.tried)


def session(log: Database, task: TuningTask, target: Target) -> list[Record]:
    """A task's records in the order of their proposal."""
    return sorted(log.records(task.key, target), key=lambda r: r.trial)


def compared(records: Sequence[Record]) -> list[list[str]]:
    """After each trial, what the session would have compared if it had ended there."""
    return finalists([(r.decisions_hash, r.best_s) for r in records])


def settled(measurer: Measurer, task: TuningTask, target: Target, sessions: Sequence[list[Record]]) -> Settled | None:
    """Times of those that were compared, by the hash of decisions; None where nothing can be measured."""
    chosen: dict[str, Candidate] = {}
    for records in sessions:
        names = {name for some in compared(records) for name in some}
        for r in sorted(records, key=lambda r: r.best_s):
            wanted = r.ok and r.decisions_hash in names and r.decisions_hash not in chosen
            schedule = replay(task, target, r) if wanted else None
            if schedule is not None:
                chosen[r.decisions_hash] = Candidate(schedule.decisions, schedule.to_json(), task.space_name)
    return settle(measurer, task, list(chosen.values())) if chosen else None


def needed(records: Sequence[Record], times: Settled, first: int = 0) -> float:
    """Trials after the ``first`` ones until the best so far is near the best of all."""
    curve = times.curve(compared(records))
    return max(trials_needed(curve, times.best_s, WITHIN) - first, 0.0)


def summary(what: str, tasks: Sequence[Needed]) -> str:
    """Medians over tasks, as a line of text."""
    if not tasks:
        return f"{what}: none"
    without, with_log, share = (
        statistics.median(values)
        for values in ([t.without for t in tasks], [t.with_log for t in tasks], [t.share for t in tasks])
    )
    trials = f"{without:.1f} trials in the median, {with_log:.1f} with the log"
    return f"{what} ({len(tasks)}): {trials}; median of shares {share:.2f}"


def summaries(tasks: Sequence[Needed]) -> str:
    """Of all tasks, and of those for which the default is not enough."""
    hard = [t for t in tasks if t.without > 1]
    return "\n".join((summary("all tasks", tasks), summary("tasks that need more than the default", hard)))


def main() -> int:
    arguments = _arguments()
    target = host_target(arguments.threads)
    rows, tasks = [], []
    with ExitStack() as stack:
        paths = (arguments.before, arguments.alone, arguments.after)
        before, alone, after = (stack.enter_context(open_log(path, "r")) for path in paths)
        measurer = stack.enter_context(Measurer(target))
        for task in tuning_tasks(model_tasks(arguments.model, target)):
            both = [session(log, task, target) for log in (alone, after)]
            known = len(session(before, task, target))
            times = settled(measurer, task, target, both) if all(both) else None
            if times is None:
                continue
            without, with_log = needed(both[0], times), needed(both[1], times, known)
            tasks.append(Needed(without, with_log, len(both[0])))
            best_s = f"{times.best_s * 1e6:.1f} us"
            rows.append(
                [task.name, best_s, *(str(len(b)) for b in both), str(known), f"{without:.0f}", f"{with_log:.0f}"]
            )
            print(" ".join(rows[-1]), flush=True)
    header = ["task", "best", "trials", "with the log", "known", "needed", "with the log"]
    print(table(header, rows, left=1))
    print(summaries(tasks))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the model that both sessions tuned")
    parser.add_argument("--alone", required=True, metavar="FILE", help="log of the session that began with nothing")
    parser.add_argument("--before", required=True, metavar="FILE", help="the other model's log")
    parser.add_argument(
        "--after", required=True, metavar="FILE", help="log of the session that began with a copy of it"
    )
    parser.add_argument("--threads", type=count, metavar="N", default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
