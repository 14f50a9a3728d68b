from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from luthier.errors import InputError
from luthier.runtime.arrays import address_of, empty_aligned, empty_pages
from luthier.runtime.executable import Executable, TensorSpec


def test_run_is_onnx_runtimes(model: Executable, x: np.ndarray, expected: np.ndarray) -> None:
    y, n = model.run(None, {"x": x})
    np.testing.assert_array_equal(y, expected)
    assert n.tolist() == [model.threads]
    (n,) = model.run(["n"], {"x": x})
    assert n.dtype == np.int64
    n, y = model.run(["n", "y"], {"x": x})
    assert y.shape == (4, 16)
    assert [(i.name, i.shape, i.type) for i in model.get_inputs()] == [("x", [4, 16], "tensor(float)")]
    assert [(o.name, o.type) for o in model.get_outputs()] == [("y", "tensor(float)"), ("n", "tensor(int64)")]


def test_run_into_arrays_of_the_callers(model: Executable, x: np.ndarray, expected: np.ndarray) -> None:
    y, n = empty_aligned((4, 16), np.dtype(np.float32)), empty_aligned((1,), np.dtype(np.int64))
    model.run_into([y, n], {"x": x})
    np.testing.assert_array_equal(y, expected)
    assert n.tolist() == [model.threads]
    unaligned = empty_aligned((65,), y.dtype)[1:].reshape(y.shape)
    fixed = empty_aligned(y.shape, y.dtype)
    fixed.flags.writeable = False
    for wrong in (y[:2], y.astype(np.float64), y.T.copy().T, unaligned, fixed):
        with pytest.raises(InputError, match="output 'y' needs a writeable C-contiguous"):
            model.run_into([wrong, n], {"x": x})
    with pytest.raises(InputError, match="1 arrays were given for 2 outputs"):
        model.run_into([y], {"x": x})


def test_call_takes_positions_and_names(model: Executable, x: np.ndarray, expected: np.ndarray) -> None:
    for y, _ in (model(x), model(x=x)):
        np.testing.assert_array_equal(y, expected)
    with pytest.raises(InputError, match="by position and by name"):
        model(x, x=x)
    with pytest.raises(InputError, match="2 arrays were given"):
        model(x, x)


def _layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    aligned = empty_aligned(x.shape, x.dtype)
    aligned[...] = x
    odd = empty_aligned((65,), x.dtype)[1:].reshape(x.shape)
    odd[...] = x
    wide = np.zeros((4, 32), np.float32)
    wide[:, ::2] = x
    return {
        "aligned": aligned,
        "unaligned": odd,
        "strided": wide[:, ::2],
        "fortran": np.asfortranarray(x),
        "reversed": x[::-1, ::-1].copy()[::-1, ::-1],
        "big endian": x.astype(">f4"),
        "list": x.tolist(),
    }


@pytest.mark.parametrize("kind", ["aligned", "unaligned", "strided", "fortran", "reversed", "big endian", "list"])
def test_inputs_of_any_layout(model: Executable, x: np.ndarray, expected: np.ndarray, kind: str) -> None:
    given = _layouts(x)[kind]
    before = np.array(given, copy=True)
    np.testing.assert_array_equal(model(given)[0], expected)
    np.testing.assert_array_equal(given, before)


def test_outputs_are_new_and_aligned(model: Executable, x: np.ndarray, expected: np.ndarray) -> None:
    first = model(x)[0]
    second = model(2 * x)[0]
    np.testing.assert_array_equal(first, expected)
    assert not np.shares_memory(first, second)
    assert address_of(first) % 64 == address_of(second) % 64 == 0


def test_an_input_from_empty_input_is_read_in_place(model: Executable, x: np.ndarray, expected: np.ndarray) -> None:
    mine = model.empty_input("x")
    mine[...] = x
    np.testing.assert_array_equal(model(mine)[0], expected)
    (context,) = model._idle
    assert context.staging == [None]
    assert context.inputs[0] == address_of(mine)


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({}, r"input 'x' is missing; the model takes x: float32\[4, 16\]"),
        ({"z": np.zeros((4, 16), np.float32)}, r"input 'z' does not exist; the model takes x"),
        ({"x": np.zeros((4, 16))}, r"input 'x' is float64; the model takes float32: .*astype\('float32'\)"),
        ({"x": np.zeros((4, 17), np.float32)}, r"has shape \[4, 17\]; the model was built for \[4, 16\]"),
        ({"x": np.zeros((), np.float32)}, r"has shape \[\]"),
        ({"x": "text"}, r"input 'x': str is not a float32 array"),
        ([np.zeros((4, 16), np.float32)], r"input_feed is a list; pass a dictionary"),
    ],
)
def test_wrong_inputs_are_explained(model: Executable, feed: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.run(None, feed)  # type: ignore[arg-type]


def test_wrong_outputs_are_explained(model: Executable, x: np.ndarray) -> None:
    with pytest.raises(InputError, match="output 'z' does not exist; the model gives y, n"):
        model.run(["z"], {"x": x})
    with pytest.raises(InputError, match="pass a list"):
        model.run("y", {"x": x})


def test_python_threads_share_a_model(model: Executable) -> None:
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((4, 16)).astype(np.float32) for _ in range(200)]
    c = np.arange(64, dtype=np.float32).reshape(4, 16)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: model.run(["y"], {"x": x})[0], xs))
    for x, y in zip(xs, results, strict=True):
        np.testing.assert_array_equal(y, x + c)
    assert 1 <= len(model._idle) <= 4


def test_time_counts_and_checks(model: Executable, x: np.ndarray) -> None:
    latencies = model.time(5, number=3)
    assert len(latencies) == 5
    assert all(0 < t < 1 for t in latencies)
    assert len(model.time(1, inputs={"x": x}, warmup=0)) == 1
    with pytest.raises(InputError, match="repeats is 0"):
        model.time(0)
    with pytest.raises(InputError, match="number is 0"):
        model.time(1, number=0)


def test_a_model_can_be_dropped_while_its_outputs_live(model: Executable, x: np.ndarray, expected: np.ndarray) -> None:
    other = Executable(model.program, model.objects, model.constants, model.inputs, model.outputs, model.target)
    y = other(x)[0]
    del other
    gc.collect()
    np.testing.assert_array_equal(y, expected)


def test_large_arenas_start_at_a_huge_page() -> None:
    arena = empty_pages(5_000_000)
    assert arena.size == 5_000_000
    assert address_of(arena) % (2 * 1024 * 1024) == 0
    arena[-1] = 1
    assert not arena[:-1].any()


def test_specs_speak_onnx_runtimes_type_names() -> None:
    names = {"float64": "double", "float16": "float16", "bool": "bool", "uint8": "uint8", "bfloat16": "bfloat16"}
    assert all(TensorSpec("t", d, ()).type == f"tensor({n})" for d, n in names.items())
    assert TensorSpec("t", "float16", (3, 5)).size_bytes == 30
