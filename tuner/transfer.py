"""Schedules from the nearest shape: what tuning found out about one task, applied to another of its operator family.

What is taken over is not the neighbour's schedule but what tuning changed in it: where its best schedule decided as the
default rule does, the rule has proved right, and knows the sizes at hand better than a neighbour's numbers do. What
was changed is replayed; a size that is no option here gives way to the nearest one.

A transfer should not be worse than the default. It is made only

* within a distance (:data:`FARTHEST`; :meth:`.family.Family.distance`, and a little for another machine),
* from a neighbour whose best schedule beat its own default by more than the noise of both, and by :data:`LEAST_GAIN`:
  least times of many candidates exaggerate small gains (of 31 transfers between tasks of five models, those with
  less than 1.1 behind them ended between 0.90 and 1.04, the others between 0.97 and 1.13 times as fast);
* if the default there was the same algorithm as it is here, and from the same version of the space;
* if, in another size, its tiles do not exceed the work by more than what was gained there, compared with the default's
  tiles here. (Incomplete tiles do only the work that is left, but less efficiently.)

The nearest neighbour of which this is known decides: where its default was good, it is here too, whatever was gained
further away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import log2, prod
from typing import Any

from ..errors import ScheduleError
from ..schedule.decide import Adapt, Decisions, Default
from ..schedule.schedule import Schedule
from ..schedule.space import instantiate
from ..target import Target
from ..te.workload import Workload
from .access import arithmetic_of, nest_of
from .database import Database
from .family import family_of
from .record import KnownTask, Record, fingerprint_hash

FARTHEST = 1.5
LEAST_GAIN = 1.1
NEIGHBOURS = 4
"""Neighbours to try, nearest first."""
SCHEDULES = 3
"""Of each neighbour, the fastest to learn from: which of them was so by luck cannot be told here."""
MOST_HINTS = 12
_OTHER_MACHINE = 0.5
_SAME_CODE = ("triple", "vector_bits", "vector_registers")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A task of the same family as measured on one machine, and how far it is from the one in question."""

    task: KnownTask
    machine: Mapping[str, Any]
    distance: float
    other_size: bool


def transfer(
    log: Database, workload: Workload, target: Target, *, other_machines: bool
) -> tuple[Decisions | None, str]:
    """Decisions for ``workload`` from its nearest neighbour in the log, and where they are from; or None, and why."""
    family = neighbours(log, workload, target, other_machines=other_machines)
    known = [n for n in family if n.task.key != workload.key]  # else it would be used as it is
    if not known:
        return None, "the log knows no task of its family"
    near = [n for n in known if n.distance <= FARTHEST]
    if not near:
        return None, f"the nearest of its family, {_named(known[0])}, is farther than {FARTHEST}"
    refusals = []
    for n in near[:NEIGHBOURS]:
        learnt = _learnt(log, n)
        if learnt.refusal:
            refusals.append(f"{_named(n)}: {learnt.refusal}")
            continue
        if not learnt.changes:
            gain = f"{learnt.gain:.2f}x gained, {learnt.needed:.2f}x wanted"
            refusals.append(f"{_named(n)}: its default is good ({gain})")
            break
        try:
            decisions, how = _adapted(workload, target, learnt)
        except ScheduleError as error:
            refusals.append(f"{_named(n)}: {error}")
            continue
        if decisions is not None:
            return decisions, f"from {_named(n)}{_machine(n, target)}: {how}"
        refusals.append(f"{_named(n)}: {how}")
    return None, f"no neighbour serves: {'; '.join(refusals)}"


def hints(log: Database, workload: Workload, target: Target, most: int = MOST_HINTS) -> list[Decisions]:
    """What a search should look at first: the fastest schedules of the nearest tasks that were searched, as they are
    and as the default with what was changed there; at most ``most``. No gain is asked for; other machines serve too.
    """
    made = [instantiate(workload, Default(), target).decisions]
    for record, default in _searched(log, neighbours(log, workload, target, other_machines=True)):
        ways = [Adapt(record.decisions, whole=True, nearest=True)]
        ways += [Adapt(_changes(record, default), nearest=True)] if default else []
        for way in ways:
            try:
                decisions = instantiate(workload, way, target).decisions
            except ScheduleError:
                continue
            if decisions not in made:
                made.append(decisions)
        if len(made) > most:
            break
    return made[1 : most + 1]


def neighbours(log: Database, workload: Workload, target: Target, *, other_machines: bool) -> list[Neighbour]:
    """The tasks of the workload's family on machines that run the same code, nearest first; of the workload itself,
    those on other machines, or on this one with another number of threads."""
    own, wanted = family_of(workload.text), target.fingerprint()
    found = []
    for task in log.family(own.signature):
        other = family_of(task.workload)
        distance, other_size = own.distance(other), other.extents != own.extents
        if distance == float("inf"):
            continue
        for machine in log.targets(task.key):
            if fingerprint_hash(machine) == fingerprint_hash(wanted):
                if task.key != workload.key:
                    found.append(Neighbour(task, machine, distance, other_size))
            elif other_machines and same_code(machine, wanted):
                further = distance + machine_distance(machine, wanted)
                found.append(Neighbour(task, machine, further, other_size))
    return sorted(found, key=lambda n: n.distance)


def same_code(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether one machine's schedules are worth a try on the other; of two fingerprints."""
    return all(a.get(f) == b.get(f) for f in _SAME_CODE)


def machine_distance(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """0 for equal fingerprints; each difference counts, numbers of threads by their ratio."""
    distance = 0.0
    for name in {*a, *b}:
        if a.get(name) != b.get(name):
            distance += _OTHER_MACHINE
            if name == "threads":
                distance += abs(log2(max(int(a.get(name) or 1), 1) / max(int(b.get(name) or 1), 1)))
    return distance


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What the log says of a neighbour. changes: none where its default is good; refusal: why nothing can be said."""

    refusal: str = ""
    gain: float = 1.0
    needed: float = LEAST_GAIN
    changes: Decisions = field(default_factory=dict)
    default: Decisions = field(default_factory=dict)
    best: Decisions = field(default_factory=dict)
    other_size: bool = True


def _searched(log: Database, near: Sequence[Neighbour]) -> Iterator[tuple[Record, Record | None]]:
    """The fastest schedules, each with the default, of the nearest few of which more than the default was measured."""
    tried = 0
    for n in near:
        machine = fingerprint_hash(n.machine)
        fastest = list(islice(log.ranked(n.task.key, machine, "", verified=False), SCHEDULES))
        if len(fastest) > 1:
            default = log.default(n.task.key, machine, "")
            yield from ((record, default) for record in fastest)
            tried += 1
        if tried == NEIGHBOURS:
            return


def _learnt(log: Database, n: Neighbour) -> _Learnt:
    machine = fingerprint_hash(n.machine)
    best, default = log.best(n.task.key, machine, ""), log.default(n.task.key, machine, "")
    if best is None or default is None:
        return _Learnt("has no verified schedule" if best is None else "its default schedule was not measured")
    gain, needed = default.best_s / best.best_s, max(LEAST_GAIN, 1 + best.noise, 1 + default.noise)
    changes = _changes(best, default) if gain >= needed else {}
    return _Learnt("", gain, needed, changes, default.decisions, best.decisions, n.other_size)


def _adapted(workload: Workload, target: Target, learnt: _Learnt) -> tuple[Decisions | None, str]:
    """What the neighbour's tuning changed, replayed on ``workload``; or None, and why that would not be wise.

    Raises ScheduleError where it is not legal.
    """
    own = instantiate(workload, Default(), target)
    if own.decisions.get("algorithm") != learnt.default.get("algorithm"):
        return None, f"the default is {own.decisions.get('algorithm')} here, not {learnt.default.get('algorithm')}"
    decider = Adapt(learnt.changes, nearest=True)
    schedule = instantiate(workload, decider, target)
    newer = [name for name in schedule.decisions if name not in learnt.best]
    if newer:
        return None, f"it was tuned before there was a choice of {', '.join(newer)}"
    if schedule.decisions == own.decisions:
        return None, "what it found is the default here"
    waste = wasted(schedule) / wasted(own)
    if waste > learnt.gain and learnt.other_size:
        gained = f"for a gain of {learnt.gain:.2f}x"
        return None, f"its tiles would cover {waste:.2f} times what the default's do here, {gained}"
    changed = [name for name in schedule.decisions if name not in decider.filled]
    moved = [f"{name} {a} became {b}" for name, (a, b) in decider.moved.items()]
    how = f"gained {learnt.gain:.2f}x there by {', '.join(f'{name}={schedule.decisions[name]}' for name in changed)}"
    return dict(schedule.decisions), "; ".join([how, *moved])


def _changes(best: Record, default: Record) -> Decisions:
    """The decisions of ``best`` that ``default`` did not make; all of them where another algorithm was chosen."""
    if best.decisions.get("algorithm") != default.decisions.get("algorithm"):
        return best.decisions
    return {
        name: value
        for name, value in best.decisions.items()
        if name == "algorithm" or name not in default.decisions or default.decisions[name] != value
    }


def wasted(schedule: Schedule) -> float:
    """How many times the points of the main stage its loops would cover if all tiles were full; 1 where they are."""
    main = max(schedule.live_stages(), key=arithmetic_of)
    points = prod(main.tensor.shape) * prod(a.extent for a in main.reduce_axes)
    return nest_of(schedule, main, 64).points / max(points, 1)


def _named(n: Neighbour) -> str:
    return f"{n.task.name} at distance {n.distance:.2f}"


def _machine(n: Neighbour, target: Target) -> str:
    wanted = target.fingerprint()
    other = sorted(name for name in {*n.machine, *wanted} if n.machine.get(name) != wanted.get(name))
    return f", of a machine with other {', '.join(other)}" if other else ""
