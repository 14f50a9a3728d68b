"""Constants of a build: laid out in place, kept once."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.codegen.kernel import Param
from luthier.errors import InternalError
from luthier.graph.constants import Request, pack_constants

RNG = np.random.default_rng(0)
BLOCKED = {"factors": [[16], []], "order": [[0, 0], [1, 0], [0, 1]]}


def param(*shape: int, layout: dict[str, object] | None = None, dtype: str = "float32") -> Param:
    return Param("w", shape, dtype, int(np.prod(shape)) * np.dtype(dtype).itemsize, layout)


def read(block: np.ndarray, offset: int, p: Param) -> np.ndarray:
    return block[offset : offset + p.size_bytes].view(p.dtype).reshape(p.shape)


@pytest.mark.parametrize("jobs", [1, 3])
def test_each_is_as_its_kernel_reads_it(jobs: int) -> None:
    a, b = RNG.standard_normal((40, 7)).astype(np.float32), RNG.integers(0, 9, (3, 5))
    requests = [
        Request(a, param(40, 7)),
        Request(a, param(3, 7, 16, layout=BLOCKED)),
        Request(b, param(15, dtype="int64")),  # what a kernel that copies declares
        Request(np.float32(3.5).reshape(()), param()),
    ]
    block, offsets = pack_constants(requests, jobs)
    assert all(offset % 64 == 0 for offset in offsets)
    found = [read(block, o, r.param) for o, r in zip(offsets, requests, strict=True)]
    np.testing.assert_array_equal(found[0], a)
    padded = np.pad(a, [(0, 8), (0, 0)])
    np.testing.assert_array_equal(found[1], padded.reshape(3, 16, 7).transpose(0, 2, 1))
    np.testing.assert_array_equal(found[2], b.reshape(-1))
    assert found[3] == 3.5


def test_equal_ones_are_kept_once_and_near_ones_are_not() -> None:
    a = RNG.standard_normal((100, 100)).astype(np.float32)
    near = a.copy()
    near[57, 43] += 1  # no sample sees it
    zero, minus_zero = np.zeros(9, np.float32), -np.zeros(9, np.float32)
    nan = np.full(9, np.nan, np.float32)
    arrays = [a, a.copy(), near, a[:], near.copy(), zero, minus_zero, nan, nan.copy()]
    block, offsets = pack_constants([Request(x, param(*x.shape)) for x in arrays])
    places = {o: i for i, o in reversed(list(enumerate(offsets)))}
    assert [places[o] for o in offsets] == [0, 0, 2, 0, 2, 5, 6, 7, 7]
    for array, offset in zip(arrays, offsets, strict=True):
        assert read(block, offset, param(*array.shape)).tobytes() == array.tobytes()
    assert block.size < 2 * a.nbytes + 4 * 64


def test_one_array_in_two_layouts_is_kept_twice() -> None:
    a = RNG.standard_normal((32, 4)).astype(np.float32)
    _, offsets = pack_constants([Request(a, param(32, 4)), Request(a, param(2, 4, 16, layout=BLOCKED))])
    assert len(set(offsets)) == 2


def test_what_does_not_fit_is_a_defect() -> None:
    a = np.zeros((4, 4), np.float32)
    for wrong in (param(4, 5), param(4, 4, dtype="int32"), param(2, 4, 16, layout=BLOCKED)):
        with pytest.raises(InternalError, match=r"float32\[4, 4\] does not become"):
            pack_constants([Request(a, wrong)])
