import numpy as np
import pytest

from luthier import te
from luthier.errors import ScheduleError
from luthier.schedule import BlockedLayout, Schedule, apply_layout


def weights_layout(padding: tuple[int, ...] = ()) -> BlockedLayout:
    return BlockedLayout(((8,), (4,), (), ()), ((0, 0), (1, 0), (2, 0), (3, 0), (1, 1), (0, 1)), padding)


@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (13, 5, 1, 2), (1, 1, 1, 1), (8, 0, 3, 3)])
@pytest.mark.parametrize("padding", [(), (0, 0, 0, 0, 0, 3), (1, 0, 2, 0, 1, 0)])
def test_apply_places_every_element_where_the_index_map_says(shape, padding):
    layout = weights_layout(padding)
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1
    physical = layout.apply(array)
    assert physical.shape == layout.physical_shape(shape)
    assert physical.flags["C_CONTIGUOUS"]
    for index in np.ndindex(*shape):
        where = tuple(int(e.value) for e in layout.physical_indices([te.const(int(i)) for i in index]))
        assert physical[where] == array[index]
    assert np.count_nonzero(physical) == array.size


@pytest.mark.parametrize("padding", [(), (0, 0, 0, 1, 0, 3)])
def test_layout_survives_json(padding):
    layout = weights_layout(padding)
    assert BlockedLayout.from_json(layout.to_json()) == layout
    array = np.random.default_rng(0).random((16, 8, 3, 3), dtype=np.float32)
    np.testing.assert_array_equal(apply_layout(layout.to_json(), array), layout.apply(array))
    np.testing.assert_array_equal(apply_layout(None, array[:, ::2]), array[:, ::2])


@pytest.mark.parametrize(
    "factors, order",
    [
        ([[4]], [(0, 0), (0, 1)]),
        ([[4], []], [(0, 0), (1, 0)]),
        ([[4], []], [(0, 0), (0, 1), (1, 0), (1, 0)]),
        ([[0], []], [(0, 0), (0, 1), (1, 0)]),
    ],
)
def test_a_layout_that_does_not_fit_is_an_error(factors, order):
    w = te.placeholder((8, 8), name="W", constant=True)
    c = te.compute((8,), lambda i: w[i, 0])
    with pytest.raises(ScheduleError, match="transform_layout"):
        Schedule(te.workload(c)).transform_layout(w, factors, order)


@pytest.mark.parametrize("padding", [(1,), (0, 0, 0, 0), (0, -1, 0)])
def test_padding_that_does_not_fit_is_an_error(padding):
    w = te.placeholder((8, 8), name="W")
    c = te.compute((8, 8), lambda i, j: w[i, j], name="C")
    d = te.compute((8, 8), lambda i, j: c[i, j], name="D")
    with pytest.raises(ScheduleError, match="padding must be 3 numbers"):
        Schedule(te.workload(d)).transform_layout(c, [[4], []], [(0, 0), (1, 0), (0, 1)], padding)


def test_only_constant_inputs_change_their_layout():
    x = te.placeholder((8, 8), name="x")
    c = te.compute((8,), lambda i: x[i, 0], name="C")
    s = Schedule(te.workload(c))
    with pytest.raises(ScheduleError, match="cache_read"):
        s.transform_layout(x, [[4], []], [(0, 0), (1, 0), (0, 1)])
    with pytest.raises(ScheduleError, match="output"):
        s.transform_layout(c, [[4]], [(0, 0), (0, 1)])


@pytest.mark.parametrize("shape", [(128, 9), (100, 9), (128, 1)])
@pytest.mark.parametrize("lanes", [16, 64])
def test_layouts_are_written_where_they_are_wanted(shape, lanes):
    layout = BlockedLayout(factors=((lanes,), ()), order=((0, 0), (1, 0), (0, 1)))
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    blocks = -(-shape[0] // lanes)
    expected = np.pad(array, [(0, blocks * lanes - shape[0]), (0, 0)]).reshape(blocks, lanes, -1).transpose(0, 2, 1)
    out = np.full(expected.shape, np.nan, np.float32)
    assert layout.apply(array, out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(layout.apply(array), expected)
