"""The nine models that come with onnx, with seeded weights: every output and a sample of inner tensors.

Inner tensors are made outputs of the model; the build then has to keep them, beside the fused ones.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from luthier.graph.compile import compile_model
from luthier.graph.onnx_import import bundled_models
from luthier.graph.seeding import seed_weights

TOLERANCE = 1e-4
"""Largest difference, as a part of the largest value of the reference; measured: at most 6e-6."""


def bundled(name):
    return seed_weights(onnx.load(bundled_models()[name]))


def with_inner_outputs(model, count):
    """Make ``count`` floating-point results from evenly spaced nodes outputs of the model too."""
    shaped = onnx.shape_inference.infer_shapes(model)
    known = {v.name: v for v in shaped.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    operators = ("Conv", "Relu", "Concat", "Add", "Sum", "MaxPool", "LRN", "BatchNormalization")
    candidates = [n.output[0] for n in model.graph.node if n.op_type in operators and n.output[0] in known]
    step = max(1, len(candidates) // (count + 1))
    model.graph.output.extend(known[name] for name in candidates[step::step][:count])
    return model


def image(model):
    weights = {t.name for t in model.graph.initializer}
    (data,) = (i for i in model.graph.input if i.name not in weights)
    shape = [d.dim_value for d in data.type.tensor_type.shape.dim]
    return {data.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}


def check(found, expected):
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        assert f.shape == e.shape and f.dtype == e.dtype
        assert np.abs(f - e).max() <= TOLERANCE * np.abs(e).max()


CASES = [(name, 1) for name in sorted(bundled_models())]
CASES += [(name, 2) for name in ("light_resnet50", "light_shufflenet", "light_squeezenet")]


@pytest.mark.parametrize(("name", "threads"), CASES)
def test_outputs_and_inner_tensors_are_those_of_onnxruntime(name, threads):
    model = with_inner_outputs(bundled(name), 4)
    feed = image(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    expected = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feed)
    check(compile_model(model, threads=threads).run(None, feed), expected)


def test_inner_tensors_of_squeezenet_are_those_of_the_reference():
    """Not its output: the reference has only the Softmax of opset 13, the model that of opset 9."""
    model = with_inner_outputs(bundled("light_squeezenet"), 6)
    feed = image(model)
    check(compile_model(model, threads=1).run(None, feed)[1:], ReferenceEvaluator(model).run(None, feed)[1:])
