"""Model files that cannot be compiled: one line that says what is wrong and what to do."""

import onnx
import pytest
from onnx import TensorProto, helper

from luthier.errors import OnnxError
from luthier.graph.onnx_import import check_supported, load_model


def _save(path, nodes, inputs, opset=17):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()]
    graph = helper.make_graph(nodes, "g", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    path.write_bytes(model.SerializeToString())
    return path


def _refused(path, **options):
    with pytest.raises(OnnxError) as caught:
        check_supported(load_model(path, **options))
    text = str(caught.value)
    assert "\n" not in text
    return text


RELU = [helper.make_node("Relu", ["x"], ["y"], "the_relu")]


def test_missing_file_lists_models_that_ship(tmp_path):
    text = _refused(tmp_path / "none.onnx")
    assert "no such file" in text and "light_resnet50" in text


def test_directory_empty_and_foreign_files(tmp_path):
    assert "is a directory" in _refused(tmp_path)
    for name, content in {
        "empty.onnx": b"",
        "text.onnx": b"hello, this is no model\n",
        "png.onnx": b"\x89PNG\r\n\x1a\n\0\0",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert name in _refused(tmp_path / name)


def test_truncated_file(tmp_path):
    whole = _save(tmp_path / "whole.onnx", RELU, {"x": [1, 4]}).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) * 2 // 3])
    assert "cut.onnx" in _refused(tmp_path / "cut.onnx")


def test_open_dimension_names_the_input_and_the_option(tmp_path):
    path = _save(tmp_path / "m.onnx", RELU, {"x": ["batch", 4]})
    text = _refused(path)
    assert "x" in text and "batch" in text and "shape" in text
    assert load_model(path, shapes={"x": (2, 4)}).inputs[0].shape == (2, 4)
    assert "x" in _refused(path, shapes={"x": (2, 5)})
    assert "x" in _refused(path, shapes={"x": (2, 4, 1)})
    assert "z" in _refused(path, shapes={"x": (2, 4), "z": (1,)})


def test_opset_too_new(tmp_path):
    newest = onnx.defs.onnx_opset_version()
    assert str(newest + 1) in _refused(_save(tmp_path / "m.onnx", RELU, {"x": [1, 4]}, opset=newest + 1))


def test_unknown_operators_are_all_listed(tmp_path):
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["h"], "first", domain="example.org"),
        helper.make_node("Transmogrify", ["h"], ["y"], "second", domain="example.org"),
    ]
    text = _refused(_save(tmp_path / "m.onnx", nodes, {"x": [1, 4]}))
    assert "Frobnicate" in text and "Transmogrify" in text
