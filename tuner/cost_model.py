"""Cost models: guess which candidates are fast, so that only the promising ones are measured.

A model sees candidates of all tasks of a session. Its scores compare candidates of one task only: higher is faster.
:class:`RandomModel` is the baseline that any model must beat. Next: :mod:`.xgboost_model`, the one that ships.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..target import Target
from .candidate import Features
from .registry import Registry

Scores = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What a model learns from.

    task    key that groups samples: only times of one task compare
    run_s   seconds, infinity for a failure
    weight  how much it counts against samples of other tasks
    """

    task: str
    features: Features
    run_s: float
    weight: float = 1.0


class CostModel(ABC):
    """Base of all cost models; made with the session's seed.

    learns  whether :meth:`update` has any use
    target  what the candidates are for; None until :meth:`adapt`
    """

    learns = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.target: Target | None = None

    def adapt(self, target: Target) -> None:
        """Prepare for candidates of a target; called once, before anything else."""
        self.target = target

    @abstractmethod
    def update(self, samples: Sequence[Sample]) -> None:
        """Learn from new samples, in addition to all earlier ones."""

    @abstractmethod
    def predict(self, task: str, features: Features) -> Scores:
        """Score candidates of one task (features: one row each); one finite number each, higher is faster."""

    @abstractmethod
    def ready(self, task: str) -> bool:
        """Whether enough was learnt for scores of this task to mean something."""


COST_MODELS: Registry[CostModel] = Registry("cost model", "luthier.cost_models", CostModel)  # type: ignore[type-abstract]


@COST_MODELS.register("random")
class RandomModel(CostModel):
    """Scores at random."""

    learns = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._rng = np.random.default_rng(seed)

    def update(self, samples: Sequence[Sample]) -> None:
        pass

    def predict(self, task: str, features: Features) -> Scores:
        return self._rng.random(len(features))

    def ready(self, task: str) -> bool:
        return True


def find_cost_model(name: str) -> type[CostModel]:
    """The class of a cost model. Raises TuningError when the name is unknown."""
    from . import xgboost_model  # noqa: F401  (registers itself; imports xgboost only when it is used)

    return COST_MODELS.get(name)


def make_cost_model(name: str, seed: int = 0, target: Target | None = None) -> CostModel:
    """Make a model by name, for a target's candidates. Raises TuningError when it is unknown."""
    model = find_cost_model(name)(seed)
    if target is not None:
        model.adapt(target)
    return model
