"""Folding batch normalisation and per-channel arithmetic into weights, or into one ScaleShift."""

import numpy as np
import pytest
from onnx_graphs import apply_passes, batch_norm, load, node, norm, ops, positive, weights

from luthier.graph.passes.affine import fold_affine
from luthier.graph.passes.constants import fold_constants


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_folds_into_conv(bias, groups):
    conv = node("Conv", "x w c" if bias else "x w", "a", name="conv", group=groups)
    constants = {**norm(6), "w": weights(6, 4 // groups, 3, 3), "c": weights(6)}
    graph = apply_passes(load([conv, batch_norm("a", "y")], [1, 4, 5, 5], constants), fold_affine)
    assert ops(graph) == ["Conv"]
    assert graph.nodes[0].names == ("conv", "bn_y")
    assert graph.nodes[0].outputs == graph.outputs


def test_folded_weights_are_rounded_once():
    """Scale, then divide: in float32 each step would round; the weights are the float64 result's nearest."""
    w, m, d = weights(8, 4, 1, 1), positive(8, 1, 1), positive(8, 1, 1)
    chain = [node("Conv", "x w", "a"), node("Mul", "a m", "b"), node("Div", "b d", "y")]
    graph = fold_affine(load(chain, [1, 4, 2, 2], {"w": w, "m": m, "d": d}))
    folded = graph.constants[graph.nodes[0].inputs[1]]
    exact = w.astype(np.float64) * (m / 1.0).astype(np.float64)[..., None] * (1.0 / d.astype(np.float64))[..., None]
    np.testing.assert_array_equal(folded, exact.astype(np.float32))


def test_normalisation_and_scale_as_separate_nodes():
    """BatchNormalization, Mul and Add by per-channel constants, as in models that Caffe trained."""
    chain = [
        node("Conv", "x w", "a"),
        batch_norm("a", "n"),
        node("Unsqueeze", "g axes", "g1"),
        node("Mul", "n g1", "o"),
        node("Unsqueeze", "h axes", "h1"),
        node("Add", "h1 o", "p"),
        node("Relu", "p", "y"),
    ]
    constants = {**norm(70), "w": weights(70, 3, 1, 1), "g": weights(70), "h": weights(70), "axes": [1, 2]}
    graph = apply_passes(load(chain, [1, 3, 4, 4], constants), fold_constants, fold_affine)
    assert ops(graph) == ["Conv", "Relu"]
    graph = apply_passes(
        load([batch_norm("x", "n"), *chain[2:]], [1, 70, 4, 4], constants), fold_constants, fold_affine
    )
    assert ops(graph) == ["ScaleShift", "Relu"]
    assert [v.shape for v in graph.nodes[0].inputs[1:]] == [(70,), (70,)]


def test_weights_that_others_use_are_copied():
    chain = [node("Conv", "x w", "a"), batch_norm("a", "y"), node("Conv", "x w", "z")]
    graph = apply_passes(load(chain, [1, 3, 4, 4], {**norm(5), "w": weights(5, 3, 1, 1)}, ["y", "z"]), fold_affine)
    assert ops(graph) == ["Conv", "Conv"]
    assert graph.nodes[0].inputs[1] is not graph.nodes[1].inputs[1]


def test_a_result_that_others_read_is_not_folded_away():
    chain = [node("Conv", "x w", "a"), batch_norm("a", "b"), node("Add", "a b", "y")]
    graph = apply_passes(load(chain, [1, 3, 4, 4], {**norm(5), "w": weights(5, 3, 1, 1)}), fold_affine)
    assert ops(graph) == ["Conv", "ScaleShift", "Add"]
    chain = [node("Conv", "x w", "z"), batch_norm("z", "y")]
    graph = apply_passes(load(chain, [1, 3, 4, 4], {**norm(5), "w": weights(5, 3, 1, 1)}, ["y", "z"]), fold_affine)
    assert ops(graph) == ["Conv", "ScaleShift"]


@pytest.mark.parametrize("transpose", [0, 1])
def test_scale_folds_into_gemm(transpose):
    w = weights(7, 5) if transpose else weights(5, 7)
    chain = [
        node("Gemm", "x w c", "a", transB=transpose, alpha=0.5, beta=2.0),
        node("Mul", "a k", "b"),
        node("Sub", "t b", "y"),
    ]
    graph = apply_passes(
        load(chain, [3, 5], {"w": w, "c": weights(7), "k": weights(7), "t": weights(1, 7)}), fold_affine
    )
    assert ops(graph) == ["Gemm"]


def test_bias_after_matmul_becomes_gemm():
    chain = [node("MatMul", "x w", "a"), node("Add", "a b", "y")]
    graph = apply_passes(load(chain, [3, 5], {"w": weights(5, 7), "b": weights(7)}), fold_affine)
    assert ops(graph) == ["Gemm"]


def test_scale_folds_into_transposed_convolution():
    chain = [node("ConvTranspose", "x w", "a", strides=[2, 2]), batch_norm("a", "y")]
    graph = apply_passes(load(chain, [1, 3, 4, 4], {**norm(5), "w": weights(3, 5, 2, 2)}), fold_affine)
    assert ops(graph) == ["ConvTranspose"]


@pytest.mark.parametrize(
    "tail",
    [
        [node("Mul", "a rows", "y")],  # varies along a row, not per channel
        [node("Div", "one a", "y")],
        [node("Add", "a wide", "y")],  # widens the result
        [node("Add", "a x2", "y")],
    ],
)
def test_what_is_not_per_channel_stays(tail):
    constants = {
        "w": weights(5, 3, 1, 1),
        "rows": weights(4),
        "one": np.ones(1),
        "wide": weights(2, 5, 4, 4),
        "x2": weights(1, 5, 4, 4),
    }
    graph = apply_passes(load([node("Conv", "x w", "a"), *tail], [1, 3, 4, 4], constants), fold_affine)
    assert len(graph.nodes) == 2


def test_a_lone_addition_stays_an_addition():
    assert ops(apply_passes(load([node("Add", "x c", "y")], [1, 3, 4, 4], {"c": weights(3, 1, 1)}), fold_affine)) == [
        "Add"
    ]


def test_large_weights_are_scaled_in_pieces(monkeypatch):
    monkeypatch.setattr("luthier.graph.passes.affine._CHUNK", 100)
    for transpose, w in ((0, weights(40, 30)), (1, weights(30, 40))):
        chain = [node("Gemm", "x w", "a", transB=transpose), node("Mul", "a k", "y")]
        assert ops(apply_passes(load(chain, [2, 40], {"w": w, "k": weights(30)}), fold_affine)) == ["Gemm"]
