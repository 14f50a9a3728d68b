"""Operators in tests: arrays in blocked layouts with poisoned tail lanes, and the evaluation of a compute."""

import numpy as np

from luthier import te
from luthier.te.evaluate import evaluate
from luthier.te.ops.operand import Operand, physical_shape


def store(array, block, poison=True):
    """Lay a logical array out in blocks of channels; lanes past the last channel hold NaN (or the least integer)."""
    if not block:
        return array
    kind = array.dtype.kind
    fill = (np.nan if kind == "f" else np.iinfo(array.dtype).min if kind in "iu" else True) if poison else 0
    result = np.full(physical_shape(array.shape, block), fill, array.dtype)
    for c in range(array.shape[1]):
        result[:, c // block, ..., c % block] = array[:, c]
    return result


def load(array, shape, block):
    """The logical array of ``shape`` that a blocked one holds."""
    if not block:
        return array
    return np.stack([array[:, c // block, ..., c % block] for c in range(shape[1])], axis=1).reshape(shape)


def make(array, block=0, name="x", constant=False):
    """A placeholder for ``array`` in a layout, seen as an operand."""
    shape = physical_shape(array.shape, block)
    return Operand(te.placeholder(shape, array.dtype.name, name, constant=constant), array.shape, block)


def run(compute, *bindings, shape=None, block=0):
    """Evaluate ``compute`` for pairs (operand, logical array); the result as a logical array of ``shape``."""
    inputs = [x.tensor for x, _ in bindings]
    work = te.workload(compute, inputs)
    (result,) = evaluate(work, [store(a, x.block) for x, a in bindings])
    return load(result, compute.shape if shape is None else shape, block)


def data(*shape, dtype="float32", seed=0):
    """Reproducible data between -2 and 2 (floats) or -5 and 5 (integers)."""
    rng = np.random.default_rng((seed, *shape))
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind == "f":
        return rng.uniform(-2, 2, shape).astype(dtype)
    return rng.integers(-5, 6, shape).astype(dtype)
