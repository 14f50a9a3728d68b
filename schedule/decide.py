"""Deciders: what answers the open decisions of a space.

A space calls ``decider.choose(name, options, default)``. Each decider records what was chosen in ``decisions``;
values are JSON data (numbers, strings, booleans, lists). The deciders differ in nothing else:

    Default()                        the space's analytical rule
    Random(rng)                      uniformly
    Mutate(decisions, rng, rate)     as before, but each with probability ``rate`` anew
    Replay(decisions)                exactly as recorded; ScheduleError where that is not legal
    Adapt(decisions)                 as recorded, the default where nothing is, and if wanted the nearest legal size
    Grid                             every combination in turn (see :func:`.space.enumerate_space`)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import inf, log2
from random import Random as Rng
from typing import TypeVar, Union, cast

from ..errors import ScheduleError

Json = Union[int, float, str, bool, None, list["Json"], dict[str, "Json"]]
Decisions = dict[str, Json]
T = TypeVar("T")


def to_json(value: object) -> Json:
    """Turn tuples into lists, so that a value equals what comes back from JSON."""
    if value is None or isinstance(value, (int, str, float)):
        return value
    if isinstance(value, (tuple, list)):
        return [to_json(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    raise ScheduleError(
        f"decision value {value!r} is not JSON data; use numbers, strings, booleans and sequences of them"
    )


class Decider(ABC):
    """Base of all deciders."""

    def __init__(self) -> None:
        self.decisions: Decisions = {}

    def choose(self, name: str, options: Sequence[T], default: T, before: T | None = None) -> T:
        """Pick one of ``options``, which must hold ``default``; ``name`` must be new in this space.

        before: for a decision that a space has not always asked for, the option that is what it used to do. Records
        that are older stand for that, whatever the default has become.
        """
        if name in self.decisions:
            raise ScheduleError(f"decision {name!r} was already made; give each decision a name of its own")
        if not options:
            raise ScheduleError(f"decision {name!r} has no options")
        values = [to_json(o) for o in options]
        older = before is not None and self.predates(name)
        position = _position(name, values, to_json(before)) if older else self.pick(name, values, to_json(default))
        self.decisions[name] = values[position]
        return options[position]

    def predates(self, name: str) -> bool:
        """Whether what this decider follows is a whole schedule that was recorded before there was this decision."""
        return False

    @abstractmethod
    def pick(self, name: str, options: Sequence[Json], default: Json) -> int:
        """Return the position of the option to take."""


def _position(name: str, options: Sequence[Json], value: Json) -> int:
    try:
        return options.index(value)
    except ValueError:
        raise ScheduleError(f"decision {name!r}: {value!r} is not among the options {list(options)!r}") from None


class Default(Decider):
    """Take the default of each decision."""

    def pick(self, name: str, options: Sequence[Json], default: Json) -> int:
        return _position(name, options, default)


class Random(Decider):
    """Take any option with equal probability."""

    def __init__(self, rng: Rng) -> None:
        super().__init__()
        self.rng = rng

    def pick(self, name: str, options: Sequence[Json], default: Json) -> int:
        return self.rng.randrange(len(options))


class Mutate(Decider):
    """Keep recorded decisions; with probability ``rate``, or where one is no longer legal, draw anew."""

    def __init__(self, decisions: Mapping[str, Json], rng: Rng, rate: float = 0.2) -> None:
        super().__init__()
        self.base, self.rng, self.rate = decisions, rng, rate

    def pick(self, name: str, options: Sequence[Json], default: Json) -> int:
        if self.rng.random() >= self.rate and name in self.base and self.base[name] in options:
            return options.index(self.base[name])
        return self.rng.randrange(len(options))


class Replay(Decider):
    """Take exactly the recorded decisions."""

    def __init__(self, decisions: Mapping[str, Json]) -> None:
        super().__init__()
        self.recorded = decisions

    def predates(self, name: str) -> bool:
        return name not in self.recorded

    def pick(self, name: str, options: Sequence[Json], default: Json) -> int:
        if name not in self.recorded:
            raise ScheduleError(f"decision {name!r} is not recorded; the record is of another version of this space")
        return _position(name, options, to_json(self.recorded[name]))


class Adapt(Decider):
    """Take recorded decisions as far as there are any: of an older version of a space, or of another workload.

    A decision that is not recorded gets its default; its name is then in ``filled``. With ``whole``, the decisions are
    all that some version of the space asked for: those that it had not yet are what it did without. With ``nearest``,
    a size (or a list of sizes) that is not among the options gives way to the option with the least difference of
    logarithms, if that is within a factor of :data:`FARTHEST` in all; ``moved`` says from what to what. Anything else
    that is not among the options raises ScheduleError.
    """

    FARTHEST = 4.0

    def __init__(self, decisions: Mapping[str, Json], *, whole: bool = False, nearest: bool = False) -> None:
        super().__init__()
        self.recorded, self.whole, self.nearest = decisions, whole and bool(decisions), nearest
        self.filled: list[str] = []
        self.moved: dict[str, tuple[Json, Json]] = {}

    def predates(self, name: str) -> bool:
        return self.whole and name not in self.recorded

    def pick(self, name: str, options: Sequence[Json], default: Json) -> int:
        if name not in self.recorded:
            self.filled.append(name)
            return _position(name, options, default)
        wanted = to_json(self.recorded[name])
        if wanted in options or not self.nearest:
            return _position(name, options, wanted)
        gaps = [_gap(wanted, option) for option in options]
        if min(gaps) > log2(self.FARTHEST):
            return _position(name, options, wanted)
        position = gaps.index(min(gaps))
        self.moved[name] = (wanted, options[position])
        return position


def _gap(a: Json, b: Json) -> float:
    """How often one size, or list of sizes, has to be doubled to become another; infinity for other values."""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return sum(map(_gap, a, b))
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) and x > 0 for x in (a, b))
    return abs(log2(cast(float, a) / cast(float, b))) if numbers else 0.0 if a == b else inf


class Grid(Decider):
    """Follow a path of option positions; past its end take the first option. Extends ``path`` as it goes."""

    def __init__(self, path: Sequence[int] = ()) -> None:
        super().__init__()
        self.path = list(path)
        self.counts: list[int] = []

    def pick(self, name: str, options: Sequence[Json], default: Json) -> int:
        depth = len(self.counts)
        self.counts.append(len(options))
        if depth == len(self.path):
            self.path.append(0)
        return self.path[depth]

    def following(self) -> list[int] | None:
        """The path after this one in lexical order; None after the last."""
        for depth in reversed(range(len(self.counts))):
            if self.path[depth] + 1 < self.counts[depth]:
                return [*self.path[:depth], self.path[depth] + 1]
        return None
