"""How many trials a search needs: best-so-far curves on the layers of :mod:`.held_out`, from repeated runs.

    python -m benchmarks.search --log search.db --best-known 2000      # first the best of 2000 candidates of each layer
    python -m benchmarks.search --log search.db --repeats 5            # then runs of every searcher, measured
    python -m benchmarks.search --log search.db --repeats 20 --replay  # the same without measuring

Every run starts with nothing but the cost model that ships, and the runs of a layer share what they measure: the times
of a log are of other hours of the machine, which differ by more than the search is judged by. With ``--replay``, to
judge a change of the search, times are the log's: candidates that it lacks get the time that a model trained on this
layer's records expects, never less than the best known; the table says how many those were.

In the end the best of the log, and whatever a session would have compared in its end, had it ended after any trial of a
run, are measured again (:mod:`.settle`). The table shows for each searcher the trials (median of the runs) after which
the best schedule it had is within 2 % of the best known.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from benchmarks.collect import collect
from benchmarks.common import environment, write_json
from benchmarks.held_out import HELD_OUT
from benchmarks.settle import Settled, finalists, settle
from benchmarks.tuning_layers import Layer, task
from luthier.cli_table import table
from luthier.cli_values import count
from luthier.codegen.detect import host_target
from luthier.schedule.decide import Decisions
from luthier.target import Target
from luthier.tuner.candidate import Candidate
from luthier.tuner.cost_model import Sample, make_cost_model
from luthier.tuner.database import Database, open_log
from luthier.tuner.features import extract
from luthier.tuner.history import make_record, replay
from luthier.tuner.measure import Measurer
from luthier.tuner.search import Observation, SearchContext, make_searcher
from luthier.tuner.task import TuningTask

WITHIN = 0.02
BAR_TRIALS = 48
NEAR_AT_ONCE = 0.10
BATCH = 8
DRAWS = "draws"
"""Random search as others have it: unlike the searcher ``random``, it does not begin with the default schedule."""
BASELINES = (DRAWS, "random")
CHECKPOINTS = (1, 2, 8, 16, 32, 48)
CONTENDERS = 16
"""Of the log's best, how many are measured again."""


class Machine:
    """Answers with times: by measuring what it has not measured, or (replay) from the log, else by a model of it."""

    def __init__(self, task: TuningTask, target: Target, log: Database, measurer: Measurer | None) -> None:
        self.task, self.target, self.log, self.measurer = task, target, log, measurer
        self.known: dict[str, float] = {}
        if measurer is None:
            self.known = {r.decisions_hash: r.best_s for r in log.records(task.key, target)}
        self.guesses: dict[str, float] = {}
        self._model: Any = None if measurer is not None else self._trained()

    def times(self, candidates: Sequence[Candidate], search: str) -> list[float]:
        missing = [c for c in candidates if c.hash not in self.known]
        if missing and self.measurer is None:
            features = np.stack([c.features for c in missing if c.features is not None])
            least_s = min(self.known.values())
            expected = np.exp(self._model.inplace_predict(features))
            self.guesses |= {c.hash: max(float(t), least_s) for c, t in zip(missing, expected, strict=True)}
            return [self.time(c) for c in candidates]
        for c in missing:
            assert self.measurer is not None
            self.measurer.submit(self.task, c)
        while self.measurer is not None and (result := self.measurer.next_result()) is not None:
            record = make_record(result, self.target, search, 0)
            self.log.add(record)
            self.known[record.decisions_hash] = record.best_s
        return [self.time(c) for c in candidates]

    def time(self, candidate: Candidate) -> float:
        """What it answered."""
        return self.known.get(candidate.hash) or self.guesses[candidate.hash]

    def settled(self, candidates: Iterable[Candidate]) -> Settled:
        """Settle ``candidates`` and the log's best; see the module's docstring. Replay: as known."""
        chosen = {c.hash: c for c in candidates}
        if self.measurer is None:
            known = {h: self.time(c) for h, c in chosen.items()} | self.known
            return Settled(known, known)
        for r in sorted(self.log.records(self.task.key, self.target), key=lambda r: r.best_s)[:CONTENDERS]:
            schedule = replay(self.task, self.target, r)
            if schedule is not None:
                c = Candidate(schedule.decisions, schedule.to_json(), self.task.space_name)
                chosen.setdefault(c.hash, c)
        order = sorted(chosen.values(), key=lambda c: self.known.get(c.hash, math.inf))
        return settle(self.measurer, self.task, order)

    def _trained(self) -> Any:
        import xgboost

        features, times = [], []
        for r in self.log.records(self.task.key, self.target):
            schedule = replay(self.task, self.target, r)
            if schedule is not None and math.isfinite(r.best_s):
                features.append(extract(schedule, self.target))
                times.append(math.log(r.best_s))
        if len(times) < 20:
            raise SystemExit(
                f"{self.task.name}: the log holds {len(times)} candidates; measure with --best-known first"
            )
        parameters = {"max_depth": 6, "eta": 0.1, "nthread": 1, "seed": 0, "base_score": float(np.mean(times))}
        return xgboost.train(parameters, xgboost.DMatrix(np.stack(features), label=np.array(times)), 200)


@dataclass(frozen=True)
class Knowledge:
    """What a log tells of other tasks: samples for the cost model, and what a session is given as ``hints``."""

    samples: Sequence[Sample] = ()
    hints: Callable[[], Sequence[Decisions]] = tuple


NOTHING = Knowledge()


def run(machine: Machine, name: str, seed: int, trials: int, knowledge: Knowledge = NOTHING) -> list[Candidate]:
    """The candidates of one run that starts with no more than ``knowledge`` of other tasks, in order."""
    model = make_cost_model("xgboost", seed, machine.target)
    model.update(knowledge.samples)
    task = machine.task
    context = SearchContext(task, machine.target, seed, model, hints=knowledge.hints)
    searcher = make_searcher("random" if name == DRAWS else name, context)
    if name == DRAWS:
        searcher.propose(1)  # the default
    tried: list[Candidate] = []
    while len(tried) < trials:
        candidates = searcher.propose(min(BATCH, trials - len(tried)) if tried else 1)
        if not candidates:
            break
        times = machine.times(candidates, name)
        searcher.observe([Observation(c, t) for c, t in zip(candidates, times, strict=True)])
        known = zip(candidates, times, strict=True)
        model.update([Sample(task.key, c.features, t) for c, t in known if c.features is not None])
        tried += candidates
    return tried


def judged(machine: Machine, runs: Mapping[str, list[list[Candidate]]]) -> tuple[float, dict[str, list[list[float]]]]:
    """The best time known, and after each trial of each run, of the best that a session would then have used."""
    compared = {
        name: [finalists([(c.hash, machine.time(c)) for c in tried]) for tried in of_one]
        for name, of_one in runs.items()
    }
    names = {n for of_one in compared.values() for one in of_one for some in one for n in some}
    settled = machine.settled(c for of_one in runs.values() for tried in of_one for c in tried if c.hash in names)
    return settled.best_s, {name: [settled.curve(one) for one in of_one] for name, of_one in compared.items()}


def trials_needed(curve: Sequence[float], best_s: float, within: float = WITHIN) -> float:
    """Trials after which a run was near the best known; infinity where it never was."""
    return next((i + 1.0 for i, t in enumerate(curve) if t <= (1 + within) * best_s), math.inf)


def study(
    layers: Sequence[Layer], target: Target, log: Database, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Run every searcher on every layer; returns JSON data."""
    found = []
    for layer in layers:
        measurer = None if arguments.replay else Measurer(target)
        try:
            machine = Machine(task(layer, target), target, log, measurer)
            runs = {
                name: [run(machine, name, seed, arguments.trials) for seed in range(arguments.repeats)]
                for name in arguments.searchers
            }
            best_s, curves = judged(machine, runs)
        finally:
            if measurer is not None:
                measurer.close()
        known = sum(1 for _ in log.records(machine.task.key, target))
        result = {"layer": layer.name, "best_s": best_s, "known": known, "curves": curves}
        found.append(result | {"guessed": len(machine.guesses)})
        print(report(found[-1:], arguments.searchers).splitlines()[-1], flush=True)
    return found


def report(results: Sequence[dict[str, Any]], searchers: Sequence[str]) -> str:
    """Median trials to come within 2 %, and how far the best is off after 1, 2, 8, ... trials of the first searcher."""
    rows = []
    for r in results:
        needed = [_needed(r, s) for s in searchers]
        off = [
            statistics.median(_best_after(c, n) / r["best_s"] - 1 for c in r["curves"][searchers[0]])
            for n in CHECKPOINTS
        ]
        rows.append([r["layer"], f"{r['best_s'] * 1e6:.1f} us", str(r["known"]), *(f"{n:.0f}" for n in needed), *(f"{100 * o:.1f}" for o in off), str(r["guessed"])])  # fmt: skip  # noqa: E501
    header = ["layer", "best known", "of", *searchers, *(f"% off @{n}" for n in CHECKPOINTS), "guessed"]
    return table(header, rows, left=1)


def bars(results: Sequence[dict[str, Any]], searchers: Sequence[str]) -> str:
    """The figures that the search is judged by."""
    first, total = searchers[0], len(results)
    needed = [_needed(r, first) for r in results]
    soon = sum(n <= BAR_TRIALS for n in needed)
    lines = [f"{first}: within 2 % of the best known in at most {BAR_TRIALS} trials on {soon} of {total} layers"]
    for other in BASELINES:
        if other in searchers and first != other:
            pairs = zip(needed, (_needed(r, other) for r in results), strict=True)
            share = statistics.median(n / most if math.isfinite(n) else math.inf for n, most in pairs)
            lines.append(f"trials in the median, as a part of what {other!r} needs: {share:.2f}")
    for trials, what in ((1, "trial 0 (the default rule)"), (2, "with the pretrained model's first choice")):
        off = [statistics.median(_best_after(c, trials) for c in r["curves"][first]) / r["best_s"] - 1 for r in results]
        near = sum(o <= NEAR_AT_ONCE for o in off)
        mean = 100 * statistics.mean(off)
        lines.append(f"{what}: within 10 % on {near} of {total} layers, {mean:.1f} % off in the mean")
    return "\n".join(lines)


def _needed(result: dict[str, Any], searcher: str) -> float:
    return statistics.median(trials_needed(c, result["best_s"]) for c in result["curves"][searcher])


def _best_after(curve: Sequence[float], trials: int) -> float:
    return curve[min(trials, len(curve)) - 1]


def main() -> int:
    arguments = _arguments()
    target = host_target(arguments.threads)
    layers = [layer for layer in HELD_OUT if fnmatchcase(layer.name, arguments.layers)]
    if not layers:
        raise SystemExit(f"--layers {arguments.layers}: matches none of " + ", ".join(x.name for x in HELD_OUT))
    with open_log(arguments.log, "r" if arguments.replay else "w") as log:
        if arguments.best_known:
            print(dict(collect(log, target, layers, ("random", "evolutionary", "descent"), most=arguments.best_known)))
            for layer in layers:
                found = task(layer, target)
                best = log.best(found.key, target)
                known = sum(1 for _ in log.records(found.key, target))
                if best is not None:
                    print(f"{layer.name}: {best.best_s * 1e6:.1f} us, best of {known}: {best.decisions}")
            return 0
        results = study(layers, target, log, arguments)
    print(f"\n{report(results, arguments.searchers)}\n\n{bars(results, arguments.searchers)}")
    options = {k: getattr(arguments, k) for k in ("searchers", "repeats", "trials", "threads", "replay")}
    write_json(arguments.json, {"environment": environment(target), "options": options, "layers": results})
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", required=True, metavar="FILE", help="where everything that is measured is kept")
    parser.add_argument("--layers", default="*", metavar="PATTERN", help="only layers whose name matches (conv*)")
    parser.add_argument("--best-known", type=count, metavar="N", help="measure until the log has N candidates of each")
    parser.add_argument("--searchers", default="evolutionary,draws,random", help="the first one is judged")
    parser.add_argument("--repeats", type=count, default=5, metavar="N", help="runs of each (default: 5)")
    parser.add_argument("--trials", type=count, default=96, metavar="N", help="of each run (default: 96)")
    parser.add_argument("--threads", type=count, default=1, metavar="N")
    parser.add_argument("--replay", action="store_true", help="measure nothing")
    parser.add_argument("--json", metavar="FILE", help="write all curves")
    arguments = parser.parse_args()
    arguments.searchers = [s for s in arguments.searchers.split(",") if s]
    return arguments


if __name__ == "__main__":
    sys.exit(main())
