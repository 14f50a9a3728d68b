"""Emitted loops, masks and memory accesses against the interpreter and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from loop_harness import TARGETS, Guarded, Native, arrays_for, buffer, check, loop

from luthier.codegen import emit
from luthier.codegen.nodes import Alloc, Function, If, Let, Prefetch, Store, seq
from luthier.te.expr import Var, all_of, cast, const, equal, maximum, minimum, select

target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)


def variables(names: str) -> list[Var]:
    return [Var(n) for n in names.split()]


def matmul(m: int, n: int, k: int, vector: int) -> Function:
    a, b, c = buffer("a", (m, k)), buffer("b", (k, n)), buffer("c", (m, n))
    i, jo, ji, kk, z = variables("i jo ji k z")
    j = jo * vector + ji
    init = loop(z, vector, "vectorize", Store(c, (i, jo * vector + z), const(0.0)))
    body = loop(kk, k, "serial", loop(ji, vector, "vectorize", Store(c, (i, j), c[i, j] + a[i, kk] * b[kk, j])))
    return Function("matmul", (a, b, c), 1, loop(i, m, "parallel", loop(jo, n // vector, "serial", seq(init, body))))


@target
@pytest.mark.parametrize("vector", [1, 4, 7, 16, 24, 33])
def test_matmul(target, vector):
    fn = matmul(5, 2 * vector, 9, vector)
    arrays = arrays_for(fn)
    (c,) = check(fn, arrays, target=target)
    np.testing.assert_allclose(c, arrays[0] @ arrays[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 8])
def test_parallel_parts_cover_everything_once(threads, rows):
    x, y = buffer("x", (rows, 3)), buffer("y", (rows, 3))
    i, j = variables("i j")
    fn = Function("f", (x, y), 1, loop(i, rows, "parallel", loop(j, 3, "serial", Store(y, (i, j), x[i, j] + 1.0))))
    arrays = arrays_for(fn)
    (out,) = check(fn, arrays, threads=threads)
    np.testing.assert_array_equal(out, arrays[0] + np.float32(1))


def conv_tile(channels: int, unrolled: int, tile: int, outputs: int, vector: int = 16) -> Function:
    """A 3x3 convolution of NCHWc rows with a register tile of tile x outputs vectors."""
    width = 2 * tile
    x = buffer("x", (channels // vector, 5, width + 2, vector))
    w = buffer("w", (channels // vector, 3, 3, vector, outputs, vector))
    y = buffer("y", (outputs, 3, width, vector))
    acc = buffer("acc", (tile, outputs, vector), scope="register")
    h, wo, co, kh, kw, ci, cu, r, o, v = variables("h wo co kh kw ci cu r o v")
    r2, o2, v2, r3, o3, v3 = variables("r2 o2 v2 r3 o3 v3")

    def tiled(rr: Var, oo: Var, vv: Var, body) -> object:
        return loop(rr, tile, "unroll", loop(oo, outputs, "unroll", loop(vv, vector, "vectorize", body)))

    c = ci * unrolled + cu
    init = tiled(r2, o2, v2, Store(acc, (r2, o2, v2), const(0.0)))
    term = x[co, h + kh, wo * tile + r + kw, c] * w[co, kh, kw, c, o, v]
    update = tiled(r, o, v, Store(acc, (r, o, v), acc[r, o, v] + term))
    reduction = loop(ci, vector // unrolled, "serial", loop(cu, unrolled, "unroll", update))
    for var, n in ((kw, 3), (kh, 3), (co, channels // vector)):
        reduction = loop(var, n, "serial", reduction)
    final = tiled(r3, o3, v3, Store(y, (o3, h, wo * tile + r3, v3), maximum(acc[r3, o3, v3], const(0.0))))
    tile_body = Alloc(acc, seq(init, reduction, final))
    return Function("conv", (x, w, y), 1, loop(h, 3, "parallel", loop(wo, 2, "serial", tile_body)))


@target
@pytest.mark.parametrize("tile, outputs, vector", [(2, 2, 16), (2, 1, 8), (2, 3, 4), (1, 2, 6)])
def test_register_tile(target, tile, outputs, vector):
    fn = conv_tile(vector, 2, tile, outputs, vector)
    x, w, _ = arrays = arrays_for(fn)
    if vector == 4:  # the interpreter takes seconds for the larger ones
        check(fn, arrays, target=target, rtol=1e-4)
    y = Native(fn, target)(arrays)[-1]
    want = np.zeros(y.shape)
    for kh in range(3):
        for kw in range(3):
            window = x[:, kh : kh + 3, kw : kw + 2 * tile].astype(np.float64)
            want += np.einsum("chwi,cioj->ohwj", window, w[:, kh, kw])
    np.testing.assert_allclose(y, np.maximum(want, 0), rtol=1e-4, atol=1e-4)


def test_register_tile_stays_in_registers():
    from luthier.codegen.detect import named_target
    from luthier.codegen.llvm import assembly

    v4 = named_target("x86-64-v4")
    text = assembly(emit.emit_function(conv_tile(32, 1, 14, 2), v4), v4)
    assert text.count("vfmadd231ps") >= 28
    inner = text[text.index("vfmadd231ps") : text.rindex("vfmadd231ps")]
    assert "(%rsp)" not in inner


@target
@pytest.mark.parametrize("n", [1, 15, 16, 17, 40])
def test_guarded_tail(target, n):
    x, y = buffer("x", (n,)), buffer("y", (n,))
    io, ii = variables("io ii")
    i = io * 16 + ii
    body = If(i < n, Store(y, (i,), x[i] * 2.0))
    fn = Function("f", (x, y), 1, loop(io, -(-n // 16), "serial", loop(ii, 16, "vectorize", body)))
    check(fn, target=target)


@target
@pytest.mark.parametrize("op", ["lt", "le", "gt", "ge", "eq", "ne"])
@pytest.mark.parametrize("slope", [1, -1, 2])
def test_lane_masks(target, op, slope):
    from luthier.te.expr import compare

    y = buffer("y", (6, 16))
    i, j = variables("i j")
    body = If(compare(op, j * slope + i * 3, 7), Store(y, (i, j), const(1.0)), Store(y, (i, j), const(2.0)))
    fn = Function("f", (y,), 1, loop(i, 6, "serial", loop(j, 16, "vectorize", body)))
    check(fn, target=target)


@target
def test_select_never_reads_out_of_bounds(target):
    """A padded copy whose index is far outside the buffer where the condition is false."""
    x, y = buffer("x", (3, 10)), buffer("y", (5, 32))
    i, j = variables("i j")
    inside = all_of(equal(i // 3, 0), j >= 2, j < 12)
    value = select(inside, x[i, j - 2], const(0.0))
    fn = Function("f", (x, y), 1, loop(i, 5, "serial", loop(j, 32, "vectorize", Store(y, (i, j), value))))
    arrays = arrays_for(fn)
    (out,) = check(fn, arrays, target=target)
    want = np.zeros((5, 32), np.float32)
    want[:3, 2:12] = arrays[0]
    np.testing.assert_array_equal(out, want)


@target
@pytest.mark.parametrize("kind", ["serial", "vectorize", "unroll"])
def test_nested_selects_guard_scalar_reads(target, kind):
    x, s, y = buffer("x", (4,)), buffer("s", (1,)), buffer("y", (12,))
    i = Var("i")
    far = 1 << 40
    inner = select(i < 4, x[i], x[i - 4 + select(i < 8, const(0), const(far))])
    value = select(i < 8, inner, s[0]) + select(i >= 1000, x[i + far], const(1.0))
    fn = Function("f", (x, s, y), 1, loop(i, 12, kind, Store(y, (i,), value)))
    check(fn, target=target)


@target
@pytest.mark.parametrize("stride", [-1, 2, 3, 4, 5, -2])
def test_strided_reads_and_writes(target, stride):
    n = 3 * 16 * abs(stride)
    x, y, z = buffer("x", (n,)), buffer("y", (48,)), buffer("z", (n,))
    i, j, k = variables("i j k")
    at = (i * 16 + j) * abs(stride) if stride > 0 else n - 1 - (i * 16 + j) * abs(stride)
    fill = loop(k, n, "serial", Store(z, (k,), const(0.0)))
    body = seq(Store(y, (i * 16 + j,), x[at]), Store(z, (at,), x[at] + 1.0))
    fn = Function("f", (x, y, z), 2, seq(fill, loop(i, 3, "serial", loop(j, 16, "vectorize", body))))
    check(fn, target=target)


@target
def test_gather_by_data(target):
    table, index, y = buffer("table", (7, 4)), buffer("index", (20,), "int64"), buffer("y", (20, 4))
    i, j = variables("i j")
    by_row = loop(j, 4, "vectorize", Store(y, (i, j), table[index[i], j]))
    fn = Function("f", (table, index, y), 1, loop(i, 20, "parallel", by_row))
    arrays = arrays_for(fn)
    arrays[1] %= 7
    (out,) = check(fn, arrays, target=target)
    np.testing.assert_array_equal(out, arrays[0][arrays[1]])
    by_lane = loop(i, 20, "vectorize", Store(y, (i, const(0)), table[index[i], 3]))
    zero = loop(j, 20, "serial", loop(k := Var("k"), 4, "serial", Store(y, (j, k), const(0.0))))
    check(Function("f", (table, index, y), 1, seq(zero, by_lane)), arrays, target=target)


@target
def test_division_of_indices(target):
    y = buffer("y", (7, 40), "int64")
    i, j = variables("i j")
    value = (i * 8 + j) // 8 + (j - 20) % 7 * 10 + (i - 3) // 4 * 1000 + (j * i - 17) // (i + 1) + (j // 16) % 2
    fn = Function("f", (y,), 1, loop(i, 7, "serial", loop(j, 40, "vectorize", Store(y, (i, j), value))))
    (out,) = check(fn, target=target)
    a, b = np.mgrid[0:7, 0:40]
    np.testing.assert_array_equal(
        out, (a * 8 + b) // 8 + (b - 20) % 7 * 10 + (a - 3) // 4 * 1000 + (b * a - 17) // (a + 1) + (b // 16) % 2
    )


@pytest.mark.parametrize("kind", ["serial", "unroll"])
def test_loops_with_computed_bounds(kind):
    """A triangle: the extent depends on the outer loop, and may be empty."""
    y = buffer("y", (6, 6))
    i, j, z = variables("i j z")
    zero = loop(z, 6, "serial", Store(y, (i, z), const(0.0)))
    body = seq(zero, loop(j, minimum(i - 1, 3), kind, Store(y, (i, j), cast(i + j, "float32")), begin=1))
    outer = "serial" if kind == "serial" else "unroll"
    fn = Function("f", (y,), 1, loop(i, 6, outer, body))
    check(fn)


def test_let_and_branches():
    x, n, y = buffer("x", (16,)), buffer("n", (1,), "int64"), buffer("y", (16,))
    i, m, h, q = variables("i m h q")
    scaled = Var("scaled", "float32")
    then = Store(y, (i,), scaled + x[h])
    otherwise = seq(Store(y, (i,), const(-1.0)), If(equal(m, 3), Store(y, (i,), const(-3.0))))
    body = Let(h, (i * 5 + m) % 16, Let(scaled, x[i] * 2.0, If(i < m, then, otherwise)))
    inner = loop(q, m - 4, "serial", Store(y, (q,), y[q] + 1.0))
    fn = Function("f", (x, n, y), 1, Let(m, n[0] + 2, seq(loop(i, 16, "serial", body), inner)))
    for count in (0, 1, 5, 14):
        check(fn, [arrays_for(fn)[0], np.array([count], np.int64), np.zeros(16, np.float32)])


def test_stack_buffer_at_run_time_indices():
    x, y = buffer("x", (8,)), buffer("y", (8,))
    row = buffer("row", (8,), scope="stack")
    i, j, k = variables("i j k")
    fill = loop(i, 8, "vectorize", Store(row, (i,), x[i]))
    total = loop(j, 7, "serial", Store(row, (j + 1,), row[j] + row[j + 1]))
    out = loop(k, 8, "vectorize", Store(y, (k,), row[7 - k]))
    fn = Function("f", (x, y), 1, Alloc(row, seq(fill, total, out)))
    arrays = arrays_for(fn)
    (result,) = check(fn, arrays)
    np.testing.assert_allclose(result, np.cumsum(arrays[0])[::-1], rtol=1e-5, atol=1e-5)


def test_lanes_of_a_register_are_summed_one_by_one():
    x, y = buffer("x", (4, 16)), buffer("y", (1,))
    acc, total = buffer("acc", (16,), scope="register"), buffer("total", (1,), scope="register")
    i, j, k, z = variables("i j k z")
    zero = const(0)
    init = seq(loop(z, 16, "vectorize", Store(acc, (z,), const(0.0))), Store(total, (zero,), const(0.0)))
    rows = loop(i, 4, "serial", loop(j, 16, "vectorize", Store(acc, (j,), acc[j] + x[i, j])))
    lanes = loop(k, 16, "unroll", Store(total, (zero,), total[0] + acc[k]))
    fn = Function("f", (x, y), 1, Alloc(acc, Alloc(total, seq(init, rows, lanes, Store(y, (zero,), total[0])))))
    arrays = arrays_for(fn)
    (out,) = check(fn, arrays, rtol=1e-4)
    np.testing.assert_allclose(out[0], arrays[0].sum(dtype=np.float64), rtol=1e-4, atol=1e-4)


def test_scratch_of_both_scopes():
    x, y = buffer("x", (6, 16)), buffer("y", (6, 16))
    shared, own = buffer("shared", (3, 16), scope="shared"), buffer("own", (5, 16), scope="thread")
    more = buffer("more", (16,), scope="thread")
    i, j, k, m, v = variables("i j k m v")
    first = loop(k, 3, "serial", loop(v, 16, "vectorize", Store(shared, (k, v), x[k, v] + 1.0)))
    row = loop(j, 16, "vectorize", seq(Store(own, (const(4), j), x[i, j]), Store(more, (j,), x[i, 15 - j])))
    out = loop(m, 16, "vectorize", Store(y, (i, m), own[4, m] + more[m]))
    fn = Function("f", (x, y), 1, seq(first, loop(i, 6, "parallel", seq(row, out))), (shared,), (own, more))
    assert emit.scratch_layout(fn.thread) == ((0, 320), 384)
    check(fn, threads=3)


def test_store_through_an_alias_is_seen():
    """An output that is the input's own buffer: values loaded before the store must not be reused."""
    x, y = buffer("x", (16,)), buffer("y", (16,))
    i = Var("i")
    body = seq(Store(y, (i,), x[i] + 1.0), Store(y, (i,), y[i] * x[i]))
    fn = Function("f", (x, y), 1, loop(i, 16, "vectorize", body), in_place=((0, 0),))
    native = Native(fn)
    data = np.linspace(-1, 1, 16, dtype=np.float32)
    memory = Guarded(data)
    address = memory.array.ctypes.data
    native.entry(address, address, None, None, 0, 1)
    np.testing.assert_allclose(memory.array, (data + 1) * (data + 1), rtol=1e-6)


def test_prefetch_beyond_the_end_is_harmless():
    x, y = buffer("x", (16,)), buffer("y", (16,))
    i = Var("i")
    body = seq(Prefetch(x, (i + 1000,), 2), Store(y, (i,), x[i]))
    check(Function("f", (x, y), 1, loop(i, 16, "serial", body)))


@pytest.mark.parametrize(("stride", "lines"), [(8, 4), (16, 8), (4, 2), (24, 8)])
def test_neighbours_in_an_unrolled_loop_ask_for_a_line_once(stride, lines):
    """Eight prefetches, ``stride`` elements apart, from the beginning of a line on."""
    x, y = buffer("x", (64, 16 * stride)), buffer("y", (64,))
    i, u = variables("i u")
    body = seq(loop(u, 8, "unroll", Prefetch(x, (i + 3, u * stride), 2)), Store(y, (i,), x[i, 0]))
    fn = Function("f", (x, y), 1, loop(i, 64, "serial", body))
    assert emit.emit_function(fn, TARGETS[0]).count("call void @llvm.prefetch") == lines
    check(fn)


def test_where_a_line_begins_is_not_known_each_prefetch_stays():
    x, y = buffer("x", (64, 17)), buffer("y", (64,))
    i, u = variables("i u")
    body = seq(loop(u, 2, "unroll", Prefetch(x, (i, u * 8), 2)), Store(y, (i,), x[i, 0]))
    fn = Function("f", (x, y), 1, loop(i, 64, "serial", body))
    assert emit.emit_function(fn, TARGETS[0]).count("call void @llvm.prefetch") == 2


@target
def test_masked_store_of_one_value_to_one_element(target):
    """Under a lane mask, a store that does not vary happens if any lane is on."""
    y = buffer("y", (3,))
    i, j, z = variables("i j z")
    zero = loop(z, 3, "serial", Store(y, (z,), const(0.0)))
    body = loop(j, 8, "vectorize", If(j + i * 4 < 5, Store(y, (i,), const(1.0))))
    fn = Function("f", (y,), 1, seq(zero, loop(i, 3, "serial", body)))
    check(fn, target=target)


@target
@pytest.mark.parametrize("n", [16 * 17, 16 * 40 + 7])
def test_long_vectorized_loop_is_short_code(target, n):
    x, y = buffer("x", (n,)), buffer("y", (2, n))
    i, r = Var("i"), Var("r")
    value = select(i < n - 9, x[i], const(1.0)) + cast(i // 3, "float32")
    body = loop(r, 2, "serial", loop(i, n, "vectorize", Store(y, (r, i), value)))
    fn = Function("f", (x, y), 1, body)
    check(fn, target=target)
    assert emit.emit_function(fn, target).count("\n") < 250


@target
@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool", "float32"])
@pytest.mark.parametrize("lane", [0, 3, 7])
def test_store_of_a_single_known_lane(target, dtype, lane):
    """The value is a truncation of a wider one, and only one lane of the vector may be written."""
    x, y = buffer("x", (8,), "int64"), buffer("y", (8,), dtype)
    i, z = Var("i"), Var("z")
    zero = loop(z, 8, "serial", Store(y, (z,), const(0, dtype) if dtype != "bool" else const(False)))
    body = loop(i, 8, "vectorize", If(all_of(equal(i, lane), x[i] < 1000), Store(y, (i,), cast(x[i], dtype))))
    both = loop(i, 8, "vectorize", If(all_of(i >= lane, i < lane + 1), Store(y, (i,), cast(x[i], dtype))))
    check(Function("f", (x, y), 1, seq(zero, body)), target=target)
    check(Function("f", (x, y), 1, seq(zero, both)), target=target)


@pytest.mark.parametrize("place", ["let", "vectorize", "serial", "team"])
def test_addresses_from_data_are_valid_in_every_block(place):
    """A base address that depends on memory is used in several branches, none of which leads to another."""
    n, x, y = buffer("n", (1,), "int64"), buffer("x", (64,)), buffer("y", (4, 8))
    m, u, v, q = variables("m u v q")
    row = If(equal(n[0] % (u + 2), 0), Store(y, (u, v), x[q + u + 1]), Store(y, (u, v), x[q + u]))
    rows = loop(u, 4, "unroll", row)
    start = n[0] * 2
    match place:
        case "let":
            body = Let(m, start, loop(v, 8, "vectorize", Let(q, m + 3, rows)))
        case "vectorize":
            reads = [Store(y, (u, v - start), x[v + u + d]) for d in (0, 1)]
            body = loop(v, 8, "vectorize", loop(u, 4, "unroll", If(equal(n[0] % (u + 2), 0), *reads)), begin=start)
        case "serial":
            body = loop(v, 8, "serial", loop(q, 1, "serial", rows, begin=start))
        case _:
            body = Let(q, start, loop(v, 8, "parallel", rows))
    for count in (0, 3, 12):
        arrays = [np.array([count], np.int64), np.arange(64, dtype=np.float32), np.zeros((4, 8), np.float32)]
        check(Function("f", (n, x, y), 1, body), arrays)
