"""The cost model that ships: gradient-boosted trees (after Chen et al., "Learning to Optimize Tensor Programs", NeurIPS
2018), in two layers.

The lower layer was trained when Luthier was made (:mod:`.pretrained`), on layers of many kinds and on a machine with
vectors as wide as the target's: it ranks candidates of a task that was never measured. The upper one is trained in the
session on what was measured, of all its tasks and of those in the log, and corrects the lower one: it learns what
remains of the order within each task. It counts more the more was measured of a task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..target import Target
from .candidate import Features
from .cost_model import COST_MODELS, CostModel, Sample, Scores
from .pretrained import folder_for, load_pretrained

Objective = Literal["rank:pairwise", "reg:squarederror"]

FEWEST_SAMPLES = 8
ENOUGH_TASKS, ENOUGH_SAMPLES = 8, 256
"""What must be known of other tasks before a task of which nothing was measured is ranked by that alone."""
LARGEST_GROUP = 512
HALF_TRUSTED = 16
OTHERS_HALF_TRUSTED = 256
"""Samples of a task, or of others, at which the upper layer's word counts half. A few tasks alone would order a new one
worse than the lower layer does."""


@COST_MODELS.register("xgboost")
class XgboostModel(CostModel):
    """Ranks by relative throughput: a task's best time over a sample's, 0 for a failure.

    objective   ``reg:squarederror`` learns the value, ``rank:pairwise`` only the order
    rounds      trees of the upper layer
    pretrained  whether to start from the model that ships; without it, a task is ranked once enough was measured of it,
                or of others
    """

    def __init__(
        self, seed: int = 0, objective: Objective = "reg:squarederror", rounds: int = 60, pretrained: bool = True
    ) -> None:
        super().__init__(seed)
        self.objective, self.rounds = objective, rounds
        self.pretrained = pretrained
        self._base: Any = None
        self._samples: dict[str, list[Sample]] = defaultdict(list)
        self._booster: Any = None
        self._trained_on = 0
        self._count = 0

    def adapt(self, target: Target) -> None:
        """Take the lower layer that was trained on machines like the target's."""
        super().adapt(target)
        self._base = load_pretrained(folder_for(target)) if self.pretrained else None

    def update(self, samples: Sequence[Sample]) -> None:
        """Learn. The upper layer is made anew once the samples have grown by a tenth."""
        for s in samples:
            self._samples[s.task].append(s)
        self._count += len(samples)
        if samples and self._count >= self._trained_on + max(4, self._trained_on // 10):
            self._train()

    def ready(self, task: str) -> bool:
        if self._base is not None:
            return True
        if self._booster is None:
            return False
        well_read = len(self._samples) >= ENOUGH_TASKS and self._count >= ENOUGH_SAMPLES
        return well_read or len(self._samples.get(task, ())) >= FEWEST_SAMPLES

    def predict(self, task: str, features: Features) -> Scores:
        scores = np.zeros(len(features))
        if len(features):
            trust = 1.0 if self._base is None else self._trust(task)
            for layer, weight in ((self._base, 1.0), (self._booster, trust)):
                if layer is not None and weight > 0.0:
                    scores += weight * np.asarray(layer.inplace_predict(features), np.float64)
        return scores

    def _trust(self, task: str) -> float:
        """How much the upper layer's word counts for a task, from 0 to 1: by what it learnt of it and of others."""
        own = len(self._samples.get(task, ()))
        evidence = own / HALF_TRUSTED + max(self._trained_on - own, 0) / OTHERS_HALF_TRUSTED
        return evidence / (1.0 + evidence)

    def _train(self) -> None:
        import xgboost

        groups = [_newest(g) for g in self._samples.values() if _has_contrast(g)]
        if not groups or sum(map(len, groups)) < FEWEST_SAMPLES:
            return
        features = np.stack([s.features for g in groups for s in g])
        starts = np.cumsum([0, *(len(g) for g in groups)])
        labels = np.concatenate([relative_throughput(g) for g in groups])
        if self._base is not None:
            labels -= np.asarray(self._base.inplace_predict(features), np.float64)
            for a, b in zip(starts[:-1], starts[1:], strict=True):  # only the order within a task counts
                labels[a:b] -= labels[a:b].mean()
        weights = np.array([s.weight for g in groups for s in g])
        by_group = self.objective != "reg:squarederror"
        data = xgboost.DMatrix(
            features,
            label=labels - labels.min() if by_group else labels,
            weight=np.array([g[0].weight for g in groups]) if by_group else weights,
            qid=np.repeat(np.arange(len(groups)), [len(g) for g in groups]) if by_group else None,
        )
        parameters = {
            "objective": self.objective,
            "max_depth": 4 if len(labels) < 1000 else 6,
            "eta": 0.2 if self._base is None else 0.15,
            "base_score": 0.0 if self._base is not None and not by_group else 0.5,
            "subsample": 0.9,
            "colsample_bytree": 0.7,
            "tree_method": "hist",
            "max_bin": 64,
            "nthread": 1,  # the other cores are measuring
            "seed": self.seed,
            "verbosity": 0,
        }
        if by_group:
            parameters |= {"lambdarank_pair_method": "mean", "lambdarank_num_pair_per_sample": 16}
        self._booster = xgboost.train(parameters, data, self.rounds)
        self._booster.set_param({"nthread": 1})
        self._trained_on = self._count


@COST_MODELS.register("xgboost-local")
class LocalModel(XgboostModel):
    """The same without the layer that ships: it knows this log alone, for machines unlike those that one was made on,
    and to compare."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed, pretrained=False)


def relative_throughput(group: Sequence[Sample]) -> Scores:
    """The best time of the group over each sample's: 1 for the best, 0 for a failure."""
    times = np.array([s.run_s for s in group], float)
    times[~(times > 0)] = np.inf  # NaN, and what no clock can have measured
    return float(times.min()) / times if np.isfinite(times).any() else np.zeros(len(times))


def _has_contrast(group: Sequence[Sample]) -> bool:
    return len({s.run_s for s in group}) > 1


def _newest(group: Sequence[Sample]) -> Sequence[Sample]:
    """The fastest half and the newest half of what training has time for."""
    if len(group) <= LARGEST_GROUP:
        return group
    fastest = sorted(group, key=lambda s: s.run_s)[: LARGEST_GROUP // 2]
    known = set(map(id, fastest))
    return fastest + [s for s in group if id(s) not in known][-LARGEST_GROUP // 2 :]
