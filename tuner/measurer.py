"""What a session needs from whoever measures its candidates: worker processes here (:mod:`.measure`), or a fleet of
machines (:mod:`.fleet`).

    with measurer:
        measurer.submit(task, candidate)
        result = measurer.next_result()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..errors import TuningError
from ..target import Target
from .candidate import Candidate
from .cpu import Cores
from .task import TuningTask

if TYPE_CHECKING:
    from .measure import MeasureResult


class MeasurerLost(TuningError):
    """Nothing is left to measure with. What was measured before stays good: a session ends in good order."""


class AbstractMeasurer(ABC):
    """Measures candidates in any order; every candidate has exactly one result.

    target   what it measures for
    cores    the cores of this machine: whoever computes here meanwhile takes its share of them
    pending  candidates that were submitted and have no result yet
    """

    target: Target
    cores: Cores
    pending: int

    @property
    def capacity(self) -> int:
        """How many candidates should be pending for all of it to be busy."""
        return 16

    @abstractmethod
    def set_best(self, task: TuningTask, best_s: float, earlier: Candidate | None = None) -> None:
        """Tell what is already known: only a faster candidate is checked, a much slower one is sampled less.

        earlier: whose time that was; candidates are then timed beside it, as the machine may be slower than it was
        """

    @abstractmethod
    def submit(self, task: TuningTask, candidate: Candidate) -> None:
        """Queue a candidate. Raises TuningError after close."""

    @abstractmethod
    def next_result(self, timeout_s: float | None = None) -> MeasureResult | None:
        """Wait for an outcome; None when nothing is pending, or when ``timeout_s`` passed.

        Raises MeasurerLost when nothing is left to measure with, TuningError when measuring cannot begin.
        """

    @abstractmethod
    def drop_pending(self) -> None:
        """Forget all that was submitted and has no result yet."""

    @abstractmethod
    def compare(
        self, task: TuningTask, candidates: Sequence[Candidate], timeout_s: float | None = None
    ) -> list[MeasureResult]:
        """Time candidates again that were measured before, in turns on one machine; all of them are checked.

        [] after ``timeout_s``, and where machine after machine was lost meanwhile: what was known of them then stays.
        Raises as :meth:`next_result` does.
        """

    @abstractmethod
    def close(self) -> None:
        """Drop what is pending and give back what measuring held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
