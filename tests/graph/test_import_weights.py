"""Weights that stay in the file: the same models as parsed whole, without copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_graphs import model, node

from luthier.errors import OnnxError
from luthier.graph.importer.wire import detach_weights
from luthier.graph.onnx_import import load_model

RNG = np.random.default_rng(0)
BIG, SMALL = RNG.standard_normal((64, 64)).astype(np.float32), np.arange(64, dtype=np.float32)


def proto(big: np.ndarray[Any, Any] = BIG) -> onnx.ModelProto:
    return model(
        [node("MatMul", "x a", "b"), node("Add", "b s", "c"), node("MatMul", "c d", "y")],
        {"x": [1, 64]},
        ["y"],
        {"s": SMALL, "a": big, "d": BIG},
    )


def constants(source: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {v.name: a for v, a in load_model(source).constants.items()}


@pytest.mark.parametrize("as_file", [True, False])
def test_large_weights_are_views_and_equal(as_file: bool, tmp_path: Path) -> None:
    data = proto().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data)
    found = constants(tmp_path / "m.onnx" if as_file else data)
    whole = constants(proto())
    assert found.keys() == whole.keys()
    for name, array in found.items():
        assert array.dtype == whole[name].dtype
        np.testing.assert_array_equal(array, whole[name])
    assert not found["a"].flags.owndata and not found["a"].flags.writeable


def test_what_is_left_is_small_and_says_where_the_rest_is() -> None:
    data = proto().SerializeToString()
    light, weights = detach_weights(memoryview(data)) or pytest.fail("nothing was detached")
    assert len(data) - len(light) >= 2 * BIG.nbytes
    rest = onnx.ModelProto.FromString(light)
    assert [t.name for t in rest.graph.initializer] == ["s", "a", "d"]
    assert {i: bytes(w) for i, w in weights.items()} == {1: BIG.tobytes(), 2: BIG.tobytes()}
    for i, view in weights.items():
        rest.graph.initializer[i].raw_data = bytes(view)
    assert rest == proto()


@pytest.mark.parametrize("dtype", [TensorProto.BFLOAT16, TensorProto.BOOL, TensorProto.FLOAT16, TensorProto.INT8])
def test_every_element_type_reads_as_it_does_whole(dtype: int) -> None:
    values = RNG.integers(0, 2, (64, 128))
    tensor = numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(dtype)), "w")
    graph = helper.make_graph(
        [node("Identity", "w", "y")], "g", [], [helper.make_tensor_value_info("y", dtype, (64, 128))], [tensor]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    whole, found = constants(proto)["w"], constants(proto.SerializeToString())["w"]
    assert found.dtype == whole.dtype
    np.testing.assert_array_equal(found.astype(np.float32), whole.astype(np.float32))


def test_a_wrong_size_is_refused_as_in_a_whole_model() -> None:
    broken = proto()
    broken.graph.initializer[1].raw_data = BIG.tobytes()[:-4]
    messages = []
    for source in (broken, broken.SerializeToString()):
        with pytest.raises(OnnxError, match="tensor 'a' cannot be read") as caught:
            load_model(source)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, its size as a two-byte varint at least."""
    size = len(content)
    return bytes([number << 3 | 2, size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + content


def test_unusual_files_are_left_whole() -> None:
    data = proto().SerializeToString()
    floats = proto()
    floats.graph.initializer[1].CopyFrom(helper.make_tensor("a", TensorProto.FLOAT, (64, 64), BIG.reshape(-1)))
    found = detach_weights(memoryview(floats.SerializeToString()))
    assert found is not None and list(found[1]) == [2]  # the numbers of a are in a field of their own
    functions = proto()
    functions.functions.add(name="f", domain="d")
    twice = field(1, b"") + field(9, bytes(5000)) + field(9, BIG.tobytes())  # the last one counts
    cases = {
        "two graphs, to be merged": data + field(7, b""),
        "functions, which are inlined": functions.SerializeToString(),
        "raw data twice": field(7, field(5, twice)),
        "a group": data + bytes([8 << 3 | 3]),
        "a size past the end": data + bytes([8 << 3 | 2, 100]),
        "an endless integer": data + bytes([8 << 3]) + b"\xff" * 20,
        "nothing": b"",
        "no graph": field(8, b"text"),
    }
    for name, case in cases.items():
        assert detach_weights(memoryview(case)) is None, name


def test_any_cut_is_refused_or_harmless(tmp_path: Path) -> None:
    data = proto().SerializeToString()
    for size in [*range(1, 60), *range(60, len(data), 997), len(data) - 1]:
        (tmp_path / "m.onnx").write_bytes(data[:size])
        with pytest.raises(OnnxError, match=r"m\.onnx: "):
            load_model(tmp_path / "m.onnx")
