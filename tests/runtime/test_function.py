from __future__ import annotations

import numpy as np
import pytest

import luthier
from luthier import te
from luthier.codegen.detect import host_target
from luthier.errors import InputError
from luthier.runtime.executable import Executable
from luthier.runtime.function import Function
from luthier.schedule import Schedule


def _scaled(shape: tuple[int, ...], factor: float, name: str = "x") -> te.Compute:
    x = te.placeholder(shape, name=name)
    return te.compute(shape, lambda i, j: x[i, j] * factor, "scaled")


def _product(constant: bool) -> te.Compute:
    a, b = te.placeholder((5, 33), name="a"), te.placeholder((33, 20), name="b", constant=constant)
    k = te.reduce_axis(33, "k")
    return te.compute((5, 20), lambda i, j: te.sum(a[i, k.var] * b[k.var, j], k), "c", tag="matmul")


@pytest.fixture(scope="module")
def product() -> Function:
    return luthier.build(_product(constant=True), threads=2)


@pytest.fixture
def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s).astype(np.float32) for s in ((5, 33), (33, 20))]


def test_build_makes_a_function_of_arrays(product: Function, arrays: list[np.ndarray]) -> None:
    a, b = arrays
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(product(a.tolist(), b.tolist()), a @ b, rtol=1e-5, atol=1e-5)


def test_build_takes_a_schedule_as_it_is() -> None:
    c = _scaled((4, 6), 3.0)
    schedule = Schedule(te.workload(c))
    schedule.split(c, "i", 2)
    triple = luthier.build(schedule)
    assert triple.schedule is schedule
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(triple(x), 3 * x)


def test_several_outputs_come_as_a_tuple() -> None:
    x = te.placeholder((4, 6), name="x")
    double = te.compute((4, 6), lambda i, j: x[i, j] * 2.0, "double")
    more = te.compute((4, 6), lambda i, j: double[i, j] + 1.0, "more")
    value = np.ones((4, 6), np.float32)
    first, second = luthier.build([double, more])(value)
    assert first[0, 0] == 2
    assert second[0, 0] == 3


def test_wrong_arguments_of_a_function_are_explained(product: Function, arrays: list[np.ndarray]) -> None:
    a, b = arrays
    with pytest.raises(InputError, match=r"1 arrays were given; the function takes 2: a: float32\[5, 33\], b"):
        product(a)
    with pytest.raises(InputError, match="'a' is float64"):
        product(a.astype(np.float64), b)
    with pytest.raises(InputError, match=r"'b' has shape \[20, 33\]"):
        product(a, b.T)
    with pytest.raises(InputError, match="threads is 0"):
        luthier.build(_scaled((2, 2), 2.0), host_target(1), threads=0)


def test_a_function_can_be_timed(product: Function, arrays: list[np.ndarray]) -> None:
    assert len(product.time(*arrays, repeats=3)) == 3
    assert len(product.time(repeats=2, number=4)) == 2


def test_an_operator_can_be_profiled(x: np.ndarray) -> None:
    function = luthier.build(_scaled((4, 16), 2.0), threads=2)
    executable: Executable = function._executable
    profile = executable.profile(3, inputs={"x": x})
    (kernel,) = profile.kernels
    assert kernel.symbol == kernel.name == function.kernel.symbol
    assert 0 < kernel.min_s <= kernel.median_s < 1
    assert kernel.task is None
    assert not kernel.is_known
    assert kernel.symbol in str(profile)
    with pytest.raises(InputError, match="rounds is 0"):
        executable.profile(0)
