"""The cases of the ONNX standard's own node tests, for every operator that has a lowering rule.

Each case is imported, lowered node by node in plain layout and evaluated with NumPy. Inputs that the importer wants
as constants (shapes, axes, scales) become initialisers. Cases that the importer refuses are not of concern here.
"""

import warnings

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from luthier.errors import OnnxError
from luthier.graph.ir import Group
from luthier.graph.lowering import lower_group, supports
from luthier.graph.lowering.registry import supported_operators
from luthier.graph.onnx_import import load_model
from luthier.te.evaluate import evaluate

_CONSTANT = ("constant", "depends on the data", "dynamic", "run time")
"""What the importer's message says where an input should be a constant."""


def to_array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def collect():
    """The cases of one node with a supported operator whose data are plain arrays."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    operators = {*supported_operators(), "CastLike", "Upsample"}
    chosen = {}
    for case in cases:
        if case.model is None or len(case.model.graph.node) != 1 or case.model.graph.node[0].op_type not in operators:
            continue
        inputs, outputs = ([to_array(a) for a in side] for side in case.data_sets[0])
        if all(a.dtype.kind in "fiub" or a.dtype.name == "bfloat16" for a in (*inputs, *outputs)):
            chosen[case.name.removeprefix("test_")] = (case.model, inputs, outputs)
    return chosen


CASES = collect()


def imported(model, arrays):
    """The graph, with inputs baked in as constants where the importer needs them; None where it refuses the model."""
    try:
        return load_model(model)
    except OnnxError as error:
        if not any(word in str(error) for word in _CONSTANT):
            return None
    names = [i.name for i in model.graph.input]
    for first in (1, 0):
        baked = onnx.ModelProto()
        baked.CopyFrom(model)
        baked.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in list(arrays.items())[first:])
        del baked.graph.input[first:]
        try:
            return load_model(baked, {n: arrays[n].shape for n in names[:first]})
        except OnnxError:
            continue
    return None


def lowered_results(graph, feeds):
    values = dict(feeds)
    for node in graph.nodes:
        lowered = lower_group(Group("kernel", [node], [], list(node.outputs)), graph)
        arrays = [lowered.constants[i] if i in lowered.constants else values[v] for i, v in enumerate(lowered.inputs)]
        values.update(zip(lowered.outputs, evaluate(lowered.workload, arrays), strict=True))
    return [values[v] if v in values else graph.constants[v] for v in graph.outputs]


@pytest.mark.parametrize("name", sorted(CASES))
def test_standard_case(name):
    model, inputs, expected = CASES[name]
    arrays = dict(zip((i.name for i in model.graph.input), inputs, strict=True))
    graph = imported(model, arrays)
    if graph is None:
        pytest.skip("refused by the importer")
    reasons = [r for n in graph.nodes if (r := supports(n)) is not None]
    if reasons:
        pytest.skip(reasons[0])
    results = lowered_results(graph, {v: arrays[v.name] for v in graph.inputs})
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == wanted.dtype
        half = wanted.dtype.name in ("float16", "bfloat16")
        wide = (a.astype(np.float64) if half else a for a in (result, wanted))
        np.testing.assert_allclose(*wide, rtol=1e-2 if half else 1e-3, atol=1e-6)


def test_the_standard_covers_the_operators():
    """Guards against a change of onnx's test collection that would leave these tests without cases."""
    covered = {model.graph.node[0].op_type for model, _, _ in CASES.values()}
    own = {"ChannelShuffle", "LayoutConvert", "PhysicalFlatten", "ScaleShift", "GlobalLpPool"}
    assert set(supported_operators()) - covered <= own
    assert len(CASES) > 600
