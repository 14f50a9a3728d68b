import json

import pytest

from luthier import te
from luthier.errors import ScheduleError
from luthier.schedule import Schedule


def workload(names=("A", "B", "C"), axes=("i", "j")):
    a = te.placeholder((8, 6), name=names[0])
    b = te.placeholder((6, 12), name=names[1], constant=True)
    k = te.reduce_axis(6, "k" + axes[0])
    c = te.compute(
        (8, 12),
        eval(
            f"lambda {axes[0]}, {axes[1]}: te.sum(a[{axes[0]}, k] * b[k, {axes[1]}], k)",
            {"te": te, "a": a, "b": b, "k": k},
        ),
        name=names[2],
    )
    return te.workload(c, [a, b])


def scheduled(w):
    s = Schedule(w)
    name = w.outputs[0].name
    i, j = (a.name for a in w.outputs[0].axes)
    local = s.cache_write(w.outputs[0])
    jo, ji = s.split(name, j, 4)
    s.reorder(name, [jo, i, ji])
    s.compute_at(local, name, jo)
    s.parallel(name, jo)
    s.vectorize(name, ji)
    s.transform_layout(w.inputs[1], [[], [4]], [(1, 0), (0, 0), (1, 1)])
    return s


def test_a_trace_survives_json_and_replays():
    w = workload()
    s = scheduled(w)
    data = json.loads(json.dumps(s.to_json()))
    again = Schedule.replay(w, data)
    assert str(again) == str(s)
    assert again.to_json() == s.to_json()
    assert again.layouts == s.layouts


def test_a_trace_fits_an_equal_workload_with_other_names():
    s = scheduled(workload())
    other = workload(names=("x", "w", "y"), axes=("p", "q"))
    assert other.key == s.workload.key
    again = Schedule.replay(other, s.to_json())
    assert again.to_json() == s.to_json()
    assert list(again.layouts) == [other.inputs[1]]


def test_inputs_of_one_name_are_told_apart():
    a, b = te.placeholder((8, 6), constant=True), te.placeholder((8, 6), constant=True)
    c = te.compute((8, 6), lambda i, j: a[i, j] + b[i, j], name="C")
    s = Schedule(te.workload(c, [a, b]))
    for constant, factor in ((a, 2), (b, 3)):
        s.transform_layout(constant, [[], [factor]], [(1, 0), (0, 0), (1, 1)])
    again = Schedule.replay(s.workload, s.to_json())
    assert again.layouts == s.layouts and set(s.layouts) == {a, b}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("steps"),
        lambda d: d["steps"].append(["burn", {}]),
        lambda d: d["steps"].append(["split", {"stage": "C"}]),
        lambda d: d["steps"].append(["split", {"stage": "nope", "axis": "i", "factor": 2}]),
        lambda d: d["steps"].append(["__init__", {}]),
        lambda d: d["names"].pop(),
    ],
)
def test_a_damaged_trace_is_an_error(change):
    w = workload()
    data = json.loads(json.dumps(scheduled(w).to_json()))
    change(data)
    with pytest.raises(ScheduleError):
        Schedule.replay(w, data)


def test_primitives_that_fail_leave_no_step():
    s = Schedule(workload())
    with pytest.raises(ScheduleError):
        s.split("C", "i", 3)
    assert s.trace == []
