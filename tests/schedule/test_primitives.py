"""Each primitive: the loop nest that it makes, and the errors that it raises."""

import textwrap

import pytest
from workloads import conv_relu

from luthier import te
from luthier.errors import ScheduleError
from luthier.schedule import Schedule


def matmul(m=8, n=12, k=6):
    a = te.placeholder((m, k), name="A")
    b = te.placeholder((k, n), name="B")
    r = te.reduce_axis(k, "k")
    c = te.compute((m, n), lambda i, j: te.sum(a[i, r] * b[r, j], r), name="C")
    return Schedule(te.workload(c))


def chain(n=12):
    x = te.placeholder((n,), name="x")
    y = te.compute((n,), lambda i: x[i] + 1.0, name="y")
    z = te.compute((n - 2,), lambda i: y[i] + y[i + 2], name="z")
    return Schedule(te.workload(z))


def loops(schedule):
    """The loop lines of the printed schedule."""
    return [
        line
        for line in str(schedule).splitlines()
        if line.strip().split()[0] in ("for", "unroll", "vectorize", "parallel")
    ]


def nest(text):
    return textwrap.dedent(text).strip("\n").splitlines()


def test_split_that_divides():
    s = matmul()
    outer, inner = s.split("C", "j", 4)
    assert (outer.name, outer.extent, inner.name, inner.extent) == ("j.o", 3, "j.i", 4)
    assert loops(s) == nest(
        """
        for i in 0..8:
          for j.o in 0..3:
            for j.i in 0..4:
              for k in 0..6:
        """
    )
    assert "C[i, j.o * 4 + j.i]" in str(s)
    assert "if" not in str(s)


def test_split_with_a_guarded_tail():
    s = matmul()
    s.split("C", "j", 5, tail="guard")
    assert "if j.o * 5 + j.i < 12" in str(s)


@pytest.mark.parametrize(
    "factor, tail, message",
    [
        (5, "none", "must divide the extent 12"),
        (0, "none", "1 or more"),
        (4, "pad", "'none' or 'guard'"),
        (2.0, "none", "integer"),
    ],
)
def test_split_errors(factor, tail, message):
    with pytest.raises(ScheduleError, match=message):
        matmul().split("C", "j", factor, tail)


def test_tile():
    s = matmul()
    s.tile("C", "i", "j", 4, 6)
    assert [line.strip() for line in loops(s)] == [
        "for i.o in 0..2:",
        "for j.o in 0..2:",
        "for i.i in 0..4:",
        "for j.i in 0..6:",
        "for k in 0..6:",
    ]
    assert len(s.trace) == 1


def test_fuse():
    s = matmul()
    fused = s.fuse("C", "i", "j")
    assert (fused.name, fused.extent) == ("i@j", 96)
    assert [line.strip() for line in loops(s)] == ["for i@j in 0..96:", "for k in 0..6:"]


@pytest.mark.parametrize("pair, message", [(("j", "i"), "right inside"), (("j", "k"), "reduction")])
def test_fuse_errors(pair, message):
    with pytest.raises(ScheduleError, match=message):
        matmul().fuse("C", *pair)


def test_reorder_permutes_only_what_it_is_given():
    s = matmul()
    s.reorder("C", ["k", "i"])
    assert [line.split()[1] for line in loops(s)] == ["k", "j", "i"]
    with pytest.raises(ScheduleError, match="twice"):
        s.reorder("C", ["k", "k"])


def test_marks_are_printed_and_exclusive():
    s = matmul()
    s.parallel("C", "i")
    s.vectorize("C", "j")
    s.unroll("C", "k")
    assert [line.split()[0] for line in loops(s)] == ["parallel", "vectorize", "unroll"]
    with pytest.raises(ScheduleError, match="already marked"):
        s.unroll("C", "j")
    with pytest.raises(ScheduleError, match="split it before"):
        s.split("C", "j", 2)


@pytest.mark.parametrize(
    "primitive, axis, message",
    [("vectorize", "k", "reduction"), ("parallel", "k", "outermost"), ("parallel", "j", "outermost")],
)
def test_mark_errors(primitive, axis, message):
    with pytest.raises(ScheduleError, match=message):
        getattr(matmul(), primitive)("C", axis)


def test_vectorize_has_a_limit():
    with pytest.raises(ScheduleError, match="split the loop first"):
        matmul(n=1000).vectorize("C", "j")


def test_partition_checks_its_cuts():
    s = matmul()
    s.partition("C", "i", [1, 7])
    assert "for i in 0..8 cut at 1, 7:" in str(s)
    with pytest.raises(ScheduleError, match="strictly between"):
        s.partition("C", "i", [8])
    s.unroll("C", "j")
    with pytest.raises(ScheduleError, match="unroll"):
        s.partition("C", "j", [1])


def test_compute_inline_substitutes():
    s = chain()
    s.compute_inline("y")
    assert "z[i] = x[i] + 1" in str(s)
    assert [line.strip() for line in loops(s)] == ["for i in 0..10:"]


def test_compute_inline_errors():
    with pytest.raises(ScheduleError, match="reduction"):
        matmul().compute_inline("C")
    with pytest.raises(ScheduleError, match="output"):
        chain().compute_inline("z")


def test_compute_at_infers_the_region():
    s = chain(n=14)
    outer, _ = s.split("z", "i", 4)
    s.compute_at("y", "z", outer)
    assert [r.extent for r in s["y"].roots] == [6]
    assert [line.strip() for line in loops(s)] == ["for i.o in 0..3:", "for i in 0..6:", "for i.i in 0..4:"]
    assert "y[i.o * 4 + i] = x[i.o * 4 + i] + 1" in str(s)


def test_compute_at_errors():
    s = chain(n=14)
    with pytest.raises(ScheduleError, match="output"):
        s.compute_at("z", "y", "i")
    s.split("y", "i", 7)
    with pytest.raises(ScheduleError, match="already changed"):
        s.compute_at("y", "z", "i")


def test_cache_write_moves_the_reduction():
    s = matmul()
    local = s.cache_write("C")
    assert local.name == "C.local"
    assert [a.name for a in s["C"].leaves] == ["i", "j"]
    assert [a.name for a in local.leaves] == ["i", "j", "k"]
    s.compute_at(local, "C", "j")
    assert [r.extent for r in local.roots] == [1, 1]


def test_cache_read_redirects_its_readers():
    s = matmul()
    copy = s.cache_read("B", ["C"])
    assert copy.name == "B.local"
    assert copy.tensor in s["C"].inputs() and s.workload.inputs[1] not in s["C"].inputs()
    with pytest.raises(ScheduleError, match="does not read"):
        s.cache_read("B", ["C"])


def test_prefetch_is_printed_where_it_is_asked_for():
    s = matmul()
    s.prefetch("C", "B", "k", 3)
    assert str(s).splitlines()[-2:] == ["      prefetch B, k + 3", "      C[i, j] sum= A[i, k] * B[k, j]"]


def test_prefetch_for_a_stage_stands_in_the_loop_inside_which_it_is_computed():
    s = matmul()
    local = s.cache_write("C")
    s.compute_at(local, "C", "i")
    s.prefetch(local, "A", None, 2)
    lines = [line.strip() for line in str(s).splitlines()]
    at = lines.index("prefetch A, i + 2")
    assert lines[at - 1].startswith("for i") and lines[at + 1].startswith("C.local")
    assert Schedule.replay(s.workload, s.to_json()).to_json() == s.to_json()


def test_unswitch_is_for_stages_that_reduce_nothing():
    s = matmul()
    with pytest.raises(ScheduleError, match=r"unswitch\(C\): it is a reduction; use partition"):
        s.unswitch("C")


def test_prefetch_along_a_loop_of_the_consumer():
    s, local, block = in_blocks()
    s.prefetch(local, "x", local.reduce_roots[0], 1, along=block)
    assert "prefetch x, i.o + 1" in [line.strip() for line in str(s).splitlines()]
    replayed = Schedule.replay(s.workload, s.to_json())
    assert str(replayed) == str(s)


def in_blocks():
    """y = relu(x), in blocks of two rows of a product that is computed in them."""
    x, w = te.placeholder((6, 16), name="x"), te.placeholder((16, 4), name="w")
    k = te.reduce_axis(16, "k")
    y = te.compute((6, 16), lambda i, j: te.maximum(x[i, j], 0.0), name="y")
    z = te.compute((6, 4), lambda i, j: te.sum(y[i, k] * w[k, j], k), name="z")
    s = Schedule(te.workload(z))
    local = s.cache_write("z")
    block, row = s.split("z", "i", 2)
    s.compute_at(local, "z", row)
    s.compute_at("y", "z", block)
    return s, local, block


def test_prefetch_shared_by_the_iterations_of_a_loop_around():
    s, local, _ = in_blocks()
    s.prefetch(local, "w", local.reduce_roots[0], 16, share="i.i")
    assert "prefetch w, k + 16, shared by i.i" in [line.strip() for line in str(s).splitlines()]
    replayed = Schedule.replay(s.workload, s.to_json())
    assert str(replayed) == str(s)


def test_prefetch_along_errors():
    s, local, block = in_blocks()
    with pytest.raises(ScheduleError, match=r"\(z\): it is not computed inside another stage; leave out share"):
        s.prefetch("z", local.tensor, "j", 1, share=block)
    with pytest.raises(ScheduleError, match=r"\(z\): it is not computed inside another stage; leave out along"):
        s.prefetch("z", local.tensor, "j", 1, along=block)
    with pytest.raises(ScheduleError, match=r"i is no loop any more; the loops are i\.o, i\.i, j"):
        s.prefetch(local, "x", "k", 1, along="i")
    with pytest.raises(ScheduleError, match="neither reads nor makes it"):
        s.prefetch("y", "w", "i", 1)


def test_prefetch_errors():
    s = matmul()
    with pytest.raises(ScheduleError, match="not computed inside another stage; name a loop"):
        s.prefetch("C", "B", None, 1)
    local = s.cache_write("C")
    with pytest.raises(ScheduleError, match="neither reads nor makes it; it reads A, B"):
        s.prefetch(local, "C", "k", 1)
    s = matmul()
    with pytest.raises(ScheduleError, match="positive integer"):
        s.prefetch("C", "B", "k", -1)
    s.unroll("C", "k")
    with pytest.raises(ScheduleError, match="is marked unroll; name a loop around it"):
        s.prefetch("C", "B", "k", 1)


def test_set_scope_checks_where_the_stage_is():
    s = chain()
    with pytest.raises(ScheduleError, match="not possible"):
        s.set_scope("y", "register")
    s.compute_at("y", "z", "i")
    s.set_scope("y", "register")
    with pytest.raises(ScheduleError, match="output"):
        s.set_scope("z", "stack")


def test_unknown_names_list_what_there_is():
    s = matmul()
    with pytest.raises(ScheduleError, match="the stages are C"):
        s.split("D", "i", 2)
    with pytest.raises(ScheduleError, match="its loops are i, j, k"):
        s.split("C", "x", 2)
    s.split("C", "i", 2)
    with pytest.raises(ScheduleError, match="no longer a loop"):
        s.split("C", "i", 2)


def test_use_algorithm_keeps_to_the_accuracy_that_the_stage_asks_for():
    s = Schedule(conv_relu(outputs=16))
    assert [st.name for st in s.use_algorithm("conv", "winograd", {"m": 2})][-1] == "conv.columns"
    exact = Schedule(conv_relu(outputs=16, accuracy="exact"))
    with pytest.raises(ScheduleError, match=r"conv, 'winograd'.*is to be exact.*accuracy='fast'"):
        exact.use_algorithm("conv", "winograd", {"m": 2})
