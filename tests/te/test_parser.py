"""Reading the canonical text of a workload back."""

from __future__ import annotations

import pytest

from luthier import te
from luthier.codegen.detect import named_target
from luthier.errors import ExpressionError
from luthier.graph.onnx_import import bundled_models
from luthier.te.parser import parse_workload
from luthier.tuner.model_tasks import model_tasks


@pytest.mark.parametrize("model", ["light_shufflenet", "light_inception_v2", "light_bvlc_alexnet"])
def test_every_task_of_a_model_reads_back(model):
    for task in model_tasks(str(bundled_models()[model]), named_target("x86-64-v3", 1)):
        again = parse_workload(task.workload.text)
        assert again.text == task.workload.text
        assert (again.key, again.flops, again.anchor.tag) == (
            task.workload.key,
            task.workload.flops,
            task.workload.anchor.tag,
        )


def test_every_kind_of_expression_reads_back():
    x = te.placeholder((4, 6), name="x")
    b = te.placeholder(4, "bool", name="b")
    n = te.placeholder((4, 6), "uint8", name="n")
    k = te.reduce_axis(6, "k")
    first = te.compute(
        (4, 6),
        lambda i, j: te.select(
            te.any_of(b[i], te.all_of(i < 2, te.logical_not(te.equal(j, 3)))),
            te.call("exp", x[i, j] - (x[i, 5] - 2.5)) * -0.0,
            te.minimum((x[i, j] ** 2.0) ** x[i, 0], te.cast(n[i, j] + 7, "float32")),
        ),
        attrs={"names": ("a", "it's"), "pads": (1,), "none": (), "alpha": 0.1, "flag": True},
    )
    second = te.compute(4, lambda i: te.max(first[i, (k * 2 + 1) % 6], k, where=te.not_equal(k - 1, -1)), tag="odd's")
    third = te.compute((), lambda: te.select(b[0], float("inf"), second[3] / (second[2] * 1e-30)))
    text = te.workload([third, first], [n, x, b]).text
    assert parse_workload(text).text == text


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.replace("return", "retrun"),
        lambda t: t.replace("t0[i0, k0]", "t9[i0, k0]"),
        lambda t: t.replace("float32[8, 4]", "float33[8, 4]"),
        lambda t: t.replace("k0:4", "k0"),
        lambda t: t.replace("reduce.sum", "reduce.mean"),
        lambda t: t.replace("* ", "@ "),
        lambda t: t.replace("* ", " * "),
        lambda t: t[: len(t) // 2],
        lambda t: "",
    ],
)
def test_other_texts_are_refused(damage):
    x, y = te.placeholder((8, 4), name="x"), te.placeholder((4, 8), name="y")
    k = te.reduce_axis(4, "k")
    text = te.workload(te.compute((8, 8), lambda i, j: te.sum(x[i, k] * y[k, j], k)), [x, y]).text
    assert parse_workload(text).text == text
    with pytest.raises(ExpressionError, match="canonical text"):
        parse_workload(damage(text))
