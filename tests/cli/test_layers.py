"""Which layers of engines are the same: names, and rows side by side."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from luthier.layers import side_by_side
from luthier.peer_profiles import PROFILERS, Layer, Names, PeerProfile, name_nodes, profile_peer
from luthier.peers import PeerError
from luthier.runtime.profile import KernelProfile, Profile


def chain() -> onnx.ModelProto:
    """x -> conv1 -> (r1) relu1 -> (p1) pool -> a, b -> join -> out; one node has no name."""
    rng = np.random.default_rng(0)
    weights = {
        f"w{i}": rng.standard_normal((16, c, k, k), np.float32) for i, c, k in ((1, 3, 3), (2, 16, 1), (3, 16, 3))
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["a"], "left"),
        helper.make_node("Conv", ["p1", "w3"], ["b"], "right", pads=[1] * 4),
        helper.make_node("Concat", ["a", "b"], ["j"], "join", axis=1),
        helper.make_node("Sigmoid", ["j"], ["y"], "out"),
    ]
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 8, 8]), ("y", [1, 32, 4, 4]))
    )
    graph = helper.make_graph(nodes, "chain", [x], [y], [numpy_helper.from_array(w, n) for n, w in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def names():
    model = chain()
    assert name_nodes(model) and not name_nodes(model)
    return Names(model)


def test_nodes_are_found_by_their_name_or_their_tensor(names):
    assert names.exactly(["conv1", "r1", "nobody"]) == {"conv1", "relu1"}
    assert names.within("r1_nchwc") == {"relu1"}
    assert names.within("fused conv1") == {"conv1"}
    assert names.within("x_abcd_acdb_left/WithoutBiases") == {"left"}
    assert names.within("MaxPool_2") == {"MaxPool_2"}
    assert names.within("conv12") == names.within("ReorderOutput") == set()


def test_what_nobody_claims_was_absorbed_by_its_only_reader(names):
    claims = [{"relu1"}, {"MaxPool_2"}, {"right"}, {"out"}, {"relu1"}, set()]
    found = names.with_absorbed(claims)
    assert found[0] == {"conv1", "relu1"}
    assert found[1] == {"MaxPool_2"}
    assert found[2] == {"right"}
    assert found[3] == {"out", "join", "left"}
    assert found[4] == {"relu1"}  # a change of layout beside the kernel that makes the value
    assert found[5] == frozenset()


def test_what_follows_a_claimed_node_was_absorbed_by_the_layer_that_makes_its_last_operand():
    """A residual block: the sum and the activation belong to the second convolution, not to the pool behind them."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "first"),
        helper.make_node("Conv", ["a", "w"], ["b"], "second"),
        helper.make_node("BatchNormalization", ["b", "scale", "bias", "mean", "var"], ["n"], "norm"),
        helper.make_node("Add", ["n", "a"], ["s"], "sum"),
        helper.make_node("Relu", ["s"], ["r"], "act"),
        helper.make_node("GlobalAveragePool", ["r"], ["y"], "pool"),
    ]
    names = Names(helper.make_model(helper.make_graph(nodes, "g", [], [])))
    assert names.with_absorbed([{"first"}, {"norm"}, {"pool"}]) == [
        {"first"},
        {"second", "norm", "sum", "act"},
        {"pool"},
    ]
    # where the sum's first operand is inside of the layer that makes the activation, the sum is too
    assert names.with_absorbed([{"first"}, {"act"}, {"pool"}]) == [
        {"first"},
        {"second", "norm", "sum", "act"},
        {"pool"},
    ]


def kernel(name, median_s, *nodes):
    return KernelProfile(name, nodes, None, median_s, median_s, 0.0)


def profile(*kernels, views=()):
    return Profile("m", 1, kernels, 1.0, 0.0, 1, (), views)


def peer(name, *layers):
    return PeerProfile(name, tuple(Layer(n, op, s, frozenset(nodes)) for n, op, s, nodes in layers), 1)


def test_rows_hold_the_same_nodes_on_all_sides():
    ours = profile(kernel("k0", 1.0, "a", "b"), kernel("k1", 2.0, "c"), kernel("k2", 4.0, "d", "e"), views=("cat",))
    one = peer("one", ("A", "Conv", 0.5, "a"), ("B", "Relu", 0.25, "b"), ("V", "Concat", 8.0, ["cat"]),
               ("CD", "Conv", 3.0, "cd"), ("R", "Reorder", 7.0, ""))  # fmt: skip
    two = peer("two", ("AB", "Conv", 1.5, "ab"), ("E", "Relu", 0.125, "e"), ("Z", "Split", 9.0, "z"))
    matched, remainder = side_by_side(ours, [one, two])
    assert [(r.label, r.nodes, r.times_s) for r in matched] == [
        ("k0", ("a", "b"), (1.0, 0.75, 1.5)),
        ("no kernel: Concat", ("cat",), (None, 8.0, None)),
        ("k1 ; k2", ("c", "d", "e"), (6.0, 3.0, 0.125)),
    ]
    assert [(r.label, r.times_s) for r in remainder] == [
        ("no kernel: Reorder", (None, 7.0, None)),
        ("no kernel: Split", (None, None, 9.0)),
    ]
    rows = [*matched, *remainder]
    for side, total in enumerate((7.0, 18.75, 10.625)):  # nothing is lost
        assert sum(r.times_s[side] or 0.0 for r in rows) == total


@pytest.mark.parametrize("engine", sorted(PROFILERS))
def test_every_engine_names_the_nodes_of_its_layers(engine, tmp_path):
    pytest.importorskip(engine)
    onnx.save(chain(), tmp_path / "chain.onnx")
    feed = {"x": np.ones((1, 3, 8, 8), np.float32)}
    found = profile_peer(engine, tmp_path / "chain.onnx", 1, {"x": (1, 3, 8, 8)}, feed, 3)
    assert found.engine == engine and found.rounds == 3
    assert all(0 <= layer.median_s < 1 for layer in found.layers)
    assert any({"conv1", "relu1"} <= layer.nodes for layer in found.layers)
    covered = frozenset().union(*(layer.nodes for layer in found.layers))
    assert {"MaxPool_2", "left", "right", "out"} <= covered
    assert covered <= {"conv1", "relu1", "MaxPool_2", "left", "right", "join", "out"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chain.onnx"]


def test_engines_that_cannot_be_profiled_say_so(tmp_path):
    with pytest.raises(PeerError, match="ncnn has no profile of its layers; the engines that have one: onnxruntime"):
        profile_peer("ncnn", tmp_path / "m.onnx", 1, {}, {}, 1)
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(PeerError, match="onnxruntime cannot profile the model"):
        profile_peer("onnxruntime", tmp_path / "m.onnx", 1, {}, {}, 1)
