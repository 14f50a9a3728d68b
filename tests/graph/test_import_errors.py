"""What a user sees when a model cannot be imported: one line that says what and what to do."""

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_graphs import model, node

from luthier.errors import OnnxError
from luthier.graph.onnx_import import bundled_models, check_supported, load_model


def message(source, shapes=None):
    with pytest.raises(OnnxError) as caught:
        load_model(source, shapes)
    text = str(caught.value)
    assert "\n" not in text
    return text


RELU = model([node("Relu", "x", "y")], {"x": [2, 3]}, ["y"])
OPEN = model([node("Relu", "data", "y")], {"data": ["N", 3, None, 224]}, ["y"])


def test_missing_file():
    text = message("no/such/model.onnx")
    assert "no/such/model.onnx: no such file" in text
    assert "light_resnet50" in text


def test_directory(tmp_path):
    assert "is a directory" in message(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"")
    assert "is empty" in message(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"hello, world", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"\x08\x07"])
def test_not_an_onnx_file(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    assert "is not an ONNX model" in message(tmp_path / "m.onnx")


def test_truncated_file(tmp_path):
    data = bundled_models()["light_squeezenet"].read_bytes()
    (tmp_path / "m.onnx").write_bytes(data[: len(data) // 2])
    assert "cut off" in message(tmp_path / "m.onnx")


def test_truncated_tensor():
    proto = model([node("Add", "x c", "y")], {"x": [4]}, ["y"], {"c": np.ones(4)})
    proto.graph.initializer[0].raw_data = b"\0" * 7
    assert "tensor 'c' cannot be read" in message(proto)


def test_external_data_needs_a_path(tmp_path):
    proto = model([node("Add", "x c", "y")], {"x": [4]}, ["y"], {"c": np.ones(4)})
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert "pass the model's path" in message((tmp_path / "m.onnx").read_bytes())
    (tmp_path / "w.bin").unlink()
    assert "tensor 'c' cannot be read" in message(tmp_path / "m.onnx")


@pytest.mark.parametrize("opset", [6, 1])
def test_old_opset(opset):
    proto = model([node("Relu", "x", "y")], {"x": [2]}, ["y"], opset=opset)
    assert f"uses opset {opset}; Luthier reads 7.." in message(proto)


def test_future_opset():
    assert "upgrade the onnx package" in message(model([node("Relu", "x", "y")], {"x": [2]}, ["y"], opset=999))


def test_no_default_opset():
    proto = model([node("Relu", "x", "y")], {"x": [2]}, ["y"])
    proto.opset_import[0].domain = "com.other"
    assert "imports com.other, not the ONNX operator set" in message(proto)


def test_dynamic_dimension_names_the_option():
    text = message(OPEN)
    assert "input 'data': dimension 0 ('N') is dynamic" in text
    assert "--shape data=1,3,1,224" in text
    assert "dimension 2 is dynamic" in message(model([node("Relu", "d", "y")], {"d": [1, 3, None]}, ["y"]))


@pytest.mark.parametrize(
    ("shapes", "part"),
    [
        ({"image": [1, 3, 224, 224]}, "shape given for 'image', but the model's inputs are data"),
        ({"data": [1, 3, 224]}, "has rank 3, but the model has 4"),
        ({"data": [1, 4, 224, 224]}, "dimension 1 is fixed at 3"),
        ({"data": [0, 3, 224, 224]}, "dimensions must be positive"),
    ],
)
def test_bad_shape_override(shapes, part):
    assert part in message(OPEN, shapes)


def test_all_unsupported_nodes_are_listed_once():
    branch = helper.make_graph([node("Neg", "x", "b")], "branch", [], [onnx.ValueInfoProto(name="b")])
    nodes = [
        helper.make_node("If", ["c"], ["a"], then_branch=branch, else_branch=branch),
        helper.make_node("Fancy", ["a"], ["b"], name="my_fancy", domain="com.mine"),
        node("Relu", "b", "r"),
        node("NonZero", "x", "n", name="nz"),
        node("Invented", "r", "y"),
        node("BatchNormalization", "x s s s s", "z m v", name="bn", training_mode=1),
        node("Det", "q", "d", name="det"),
    ]
    text = message(model(nodes, {"x": [3, 1], "c": [1], "q": [3, 3]}, ["y"], {"s": np.ones(1)}))
    assert text.startswith("6 unsupported node(s): ")
    assert "If_0 (If): operators with subgraphs" in text
    assert "my_fancy (Fancy): operators of domain 'com.mine'" in text
    assert "nz (NonZero): the shape of output 'n' depends on the data" in text
    assert "Invented_4 (Invented): is not an ONNX operator" in text
    assert "bn (BatchNormalization)" in text and "export the model for inference" in text
    assert "det (Det): operator Det is not supported" in text
    assert "Relu" not in text


def test_nodes_without_code_are_listed():
    nodes = [
        node("Det", "x", "a", name="first"),
        node("Relu", "a", "b"),
        node("Det", "x", "c"),
        node("Add", "b c", "y"),
    ]
    with pytest.raises(OnnxError) as caught:
        check_supported(load_model(model(nodes, {"x": [4, 3, 3]}, ["y"])))
    assert str(caught.value).startswith("2 unsupported node(s): first (Det): ")
    assert "Det_2 (Det): " in str(caught.value)
    check_supported(load_model(RELU))


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        (node("Conv", "x w", "y"), "4 input channels, but the weights [2, 3, 1, 1] take 1 x 3"),
        (node("Reshape", "x x", "y"), "Reshape_0 (Reshape)"),
        (node("Add", "x missing", "y"), "input 'missing' is not defined"),
        (node("Clip", "x w", "y"), "min has shape [2, 3, 1, 1]; it must be a scalar"),
        (node("Transpose", "x", "y", perm=[0, 1, 2, 2]), "Transpose"),
        (node("MaxPool", "x", "y"), "attribute kernel_shape is required"),
        (node("Concat", "x x", "y", axis=7), "Concat"),
    ],
)
def test_bad_node(bad, part):
    proto = model([bad], {"x": [1, 4, 5, 5]}, ["y"], {"w": np.ones((2, 3, 1, 1))})
    text = message(proto)
    assert part in text and "unsupported node(s)" in text


def test_computed_axes():
    proto = model([node("Cast", "x", "i", to=7), node("Squeeze", "y0 i", "y")], {"x": [1], "y0": [1, 2]}, ["y"])
    assert "Squeeze_1 (Squeeze): the shape of output 'y' depends on the data (i would have to be constant)" in message(
        proto
    )


def test_undefined_output():
    assert "output 'q' is not computed" in message(model([node("Relu", "x", "y")], {"x": [2]}, ["q"]))


def test_string_input():
    proto = model([node("Identity", "x", "y")], {"x": [2]}, ["y"], dtype=onnx.TensorProto.STRING)
    assert "input 'x' has element type string" in message(proto)


def test_sequence_input():
    proto = model([node("Relu", "x", "y")], {"x": [2]}, ["y"])
    proto.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", 1, [2]))
    assert "input 'x' is a sequence_type; only tensors are supported" in message(proto)
