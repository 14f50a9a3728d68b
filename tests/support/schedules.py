"""Schedules held against the NumPy evaluator, a decider for some decisions, and candidates of a tuning task."""

import random

import numpy as np

from luthier import config
from luthier.codegen.interpret import interpret
from luthier.codegen.pipeline import lower_preparation, lower_schedule
from luthier.runtime.function import build
from luthier.schedule import Default
from luthier.schedule.decide import Random
from luthier.te.evaluate import evaluate
from luthier.tuner.candidate import Candidate
from luthier.tuner.inputs import clear_padding


def arrays_for(workload, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(p.shape).astype(p.dtype) for p in workload.inputs]
    clear_padding(workload, arrays)
    return arrays


def check(schedule, target, threads=1):
    """The compiled schedule gives what the evaluator does."""
    inputs = arrays_for(schedule.workload)
    with config.override(verify=True):
        function = build(schedule, target, threads=threads)
    found = function(*inputs)
    found = found if isinstance(found, (tuple, list)) else [found]
    for f, expected in zip(found, evaluate(schedule.workload, inputs), strict=True):
        np.testing.assert_allclose(f, expected, rtol=2e-5, atol=3e-5 * max(1.0, np.abs(expected).max(initial=0.0)))


def check_loops(schedule, target, threads=1):
    """So does the loop IR under the interpreter, which checks every index."""
    inputs = arrays_for(schedule.workload)
    with config.override(verify=True):
        fn = lower_schedule(schedule, target)
    physical = [_prepared(schedule, p, a, target) for p, a in zip(schedule.workload.inputs, inputs, strict=True)]
    outputs = [np.full(t.shape, np.nan, t.dtype) for t in schedule.workload.outputs]
    interpret(fn, [*physical, *outputs], threads=threads)
    for f, expected in zip(outputs, evaluate(schedule.workload, inputs), strict=True):
        np.testing.assert_allclose(f, expected, rtol=2e-5, atol=3e-5 * max(1.0, np.abs(expected).max(initial=0.0)))


def _prepared(schedule, source, array, target):
    """An input as the kernel takes it: in its layout, or what is computed from it when a model is built."""
    stand_in = schedule.precomputed_for(source)
    if stand_in is None:
        layout = schedule.layouts.get(source)
        return array if layout is None else layout.apply(array)
    fn = lower_preparation(schedule, source, target, "prepare")
    result = np.full(fn.params[-1].shape, np.nan, fn.params[-1].dtype)
    interpret(fn, [array, result])
    return result


class Choosing(Default):
    """Defaults, except for some decisions."""

    def __init__(self, **chosen):
        super().__init__()
        self.chosen = chosen

    def pick(self, name, options, default):
        return options.index(self.chosen[name]) if name in self.chosen else super().pick(name, options, default)


def candidates(task, target, count, seed=0):
    """Different ones of a tuning task, the default schedule first."""
    rng = random.Random(seed)
    made = {}
    for decider in [Default(), *(Random(rng) for _ in range(20 * count))]:
        s = task.instantiate(decider, target)
        c = Candidate(s.decisions, s.to_json(), task.space_name, trial=len(made))
        made.setdefault(c.hash, c)
    return list(made.values())[:count]
