"""Library routines in Python loops: the compiler, every routine against its definition, and any number of threads."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.ir import graph
from spiraltorch.ir.kernel import Param
from spiraltorch.jit.lower import Library
from spiraltorch.kernels.library import address, language, placing, run_reference, tasks
from spiraltorch.kernels.library.compiler import emit, spell
from spiraltorch.kernels.library.language import bits, exp, f32, f64, i64, u32, u64, view
from spiraltorch.kernels.library.routine import evaluate, find
from spiraltorch.kernels.llvm.target import host
from spiraltorch.runtime.cache import functions

RNG = np.random.default_rng(5)


def call_native(place, words, lo, hi):
    """The compiled kernel on an argument array, with scratch memory of its own."""
    args, scratch = np.array(words, np.int64), np.empty(32 << 20, np.uint8)
    f = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(place)
    f(args.ctypes.data, lo, hi, scratch.ctypes.data)


def run(function, types, arrays, *ints):
    """``function`` compiled, and in Python, on copies of the arrays; both results."""
    name = f"test_{function.__name__}"
    place = functions([(name, lambda: emit(function, types, host(), name))])[name]
    compiled, plain = [a.copy() for a in arrays], [a.copy() for a in arrays]
    call_native(place, [*[a.ctypes.data for a in compiled], *ints], 0, 1)
    with np.errstate(all="ignore"):
        function(*plain, *ints, 0, 1, np.empty(1 << 16, np.uint8))
    return compiled, plain


def collatz(x, out, n, lo, hi, scratch):
    for i in range(n):
        v = x[i]
        steps = i64(0)
        while v != 1 and steps < 1000:
            v = v // 2 if v % 2 == 0 else 3 * v + 1
            steps += 1
        out[i] = steps


def first_large(x, out, n, lo, hi, scratch):
    found = -i64(1)
    for i in range(n - 1, -1, -2):
        if x[i] > 2 or x[i] != x[i]:
            found = i
            break
    out[0] = found


def mixed(x, out, n, lo, hi, scratch):
    words = view(scratch, 64, u32)
    for i in range(n):
        words[i] = bits(x[i], u32) ^ 0x80000000
    for i in range(n):
        w = u64(words[i]) << 32 | u64(i)
        out[i] = f64(w >> 40) + f64(min(i, i64(3))) + exp(f64(i))


@pytest.mark.parametrize(
    ("function", "types", "x", "out"),
    [
        (collatz, [i64, i64], np.arange(1, 40), np.zeros(39, np.int64)),
        (first_large, [f32, i64], np.array([5, 1, 1, 1, np.nan, 0, 1], np.float32), np.zeros(1, np.int64)),
        (mixed, [f32, f64], RNG.normal(size=20).astype(np.float32), np.zeros(20)),
    ],
)
def test_compiled_loops_are_the_python_loops(function, types, x, out):
    compiled, plain = run(function, types, [x, out], len(x))
    np.testing.assert_allclose(compiled[1], plain[1], rtol=1e-14)


def test_what_is_not_in_the_language_is_refused():
    def wrong_types(x, out, n, lo, hi, scratch):
        out[0] = x[0] + u32(1)

    def no_statement(x, out, n, lo, hi, scratch):
        with x:
            pass

    with pytest.raises(TypeError, match="operands are f32 and u32: x"):
        spell(wrong_types, [f32, f32], "", "k")
    with pytest.raises(TypeError, match="not in the language"):
        spell(no_statement, [f32, f32], "", "k")


def sample(dtype, *shape):
    """Numbers with repetitions; floats with nan, infinities and both zeros."""
    a = RNG.integers(0, 2, shape) if dtype.kind == "b" else RNG.integers(0 if dtype.kind == "u" else -50, 50, shape)
    out = a.astype(dtype.np)
    if dtype.kind == "f":
        flat = out.reshape(-1)
        some = flat[:: max(1, flat.size // 9)]
        some[:] = np.resize(np.array([np.nan, -0.0, 0.0, np.inf, -np.inf, -np.nan]), some.size)
    return out


def leaf(a, k=0):
    return graph.param(k, a.shape, dtypes.BY_NAME[a.dtype.name])


def check(node, *arrays):
    """The compiled routine, and its loops in Python where that is quick, give its definition's bits."""
    name = node.arg[0]
    r = find(name)
    want = evaluate(node, arrays)
    static = r.key(node) if r.key is not None else node.arg[1]
    k = Library(name, tuple([Param(dtypes.BY_NAME[a.dtype.name], "in") for a in arrays] + [Param(node.dtype, "out")]), static)
    ints = r.numbers(node)
    outs = [np.zeros(want.size, node.dtype.np) for _ in range(2)]
    flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
    call_native(address(k), [*[a.ctypes.data for a in flat], outs[0].ctypes.data, *ints], 0, tasks(k, ints)[0])
    np.testing.assert_array_equal(outs[0].reshape(want.shape), want)
    if sum(a.size for a in arrays) < 800:
        run_reference(k, [*flat, outs[1]], ints)
        np.testing.assert_array_equal(outs[1].reshape(want.shape), want)


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int32", "uint8"])
def test_sorting(name):
    dtype = dtypes.BY_NAME[name]
    for shape in ((3, 7), (2, 90), (2, 5000)):
        x = sample(dtype, *shape)
        for descending in (False, True):
            check(graph.call("sorting.argsort", (leaf(x),), shape, dtypes.int64, descending, False), x)
            if shape[1] > 80 and name != "bool":
                check(graph.call("sorting.topk", (leaf(x),), (shape[0], 9), dtypes.int64, descending, 9), x)
        ranks = np.array([0, shape[1] - 2, shape[1] // 2])[: shape[0]]
        check(graph.call("sorting.kth", (leaf(x), leaf(ranks, 1)), shape[:1], dtypes.int64), x, ranks)


@pytest.mark.parametrize("name", ["float32", "int64"])
def test_few_long_rows_are_sorted_in_chunks(name):
    dtype = dtypes.BY_NAME[name]
    x = sample(dtype, 2, 70001)
    planes = 2 if dtype.bits == 64 else 1
    words = graph.call("sorting.argsort", (leaf(x),), (planes, 2, 70001), dtypes.uint64, True, True)
    check(words, x)
    packed = evaluate(words, [x])
    for last in (False, True):
        shape, to = ((2, 70001), dtypes.int64) if last else (packed.shape, dtypes.uint64)
        check(graph.call("sorting.merge", (leaf(packed),), shape, to, 1 << 15, last), packed)
    got = st.argsort(st.tensor(x.astype(dtype.np)), 1, True).numpy()
    assert np.array_equal(got, evaluate(graph.call("sorting.argsort", (leaf(x),), x.shape, dtypes.int64, True, False), [x]))


@pytest.mark.parametrize("right", [False, True])
def test_search(right):
    edges = np.sort(RNG.integers(-9, 9, (3, 20)).astype(np.float32))
    values = RNG.integers(-9, 9, (3, 50)).astype(np.float32)
    check(graph.call("sorting.search", (leaf(edges), leaf(values, 1)), values.shape, dtypes.int64, right, False), edges, values)
    order = np.argsort(-edges, -1, kind="stable")
    mixed = -np.take_along_axis(-edges, order, -1)
    back = np.argsort(mixed, -1, kind="stable")
    inputs = (leaf(mixed), leaf(values, 1), leaf(back, 2))
    check(graph.call("sorting.search", inputs, values.shape, dtypes.int64, right, True), mixed, values, back)


@pytest.mark.parametrize("op", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("name", ["float32", "int32"])
def test_scans(op, name):
    dtype = dtypes.BY_NAME[name]
    for shape, axis in (((11, 40), 1), ((3, 7), 1), ((2, 9, 5), 1), ((30, 140), 0), ((2, 40000), 1)):
        x = (RNG.normal(size=shape) * 1.5).astype(dtype.np) if dtype.kind == "f" else RNG.integers(-3, 4, shape).astype(dtype.np)
        for reverse in (False, True):
            check(graph.call("scanning.scan", (leaf(x),), shape, dtype, op, axis, reverse), x) if shape[-1] < 40000 else None
            if shape[-1] == 40000:
                from spiraltorch.kernels.library.scanning import accumulator

                wide = accumulator(dtype, op)
                totals = graph.call("scanning.totals", (leaf(x),), (2, 5), wide, op, 1, reverse)
                check(totals, x)
                carry = np.ascontiguousarray(evaluate(totals, [x]))
                check(graph.call("scanning.scan", (leaf(x), leaf(carry, 1)), shape, dtype, op, 1, reverse), x, carry)
        if op in ("max", "min"):
            check(graph.call("scanning.position", (leaf(x),), shape, dtypes.int64, op, axis, False), x)


def test_scatter_adds_in_the_order_of_the_index_on_any_number_of_threads():
    before = st.get_num_threads()
    rows = RNG.normal(size=(5000, 32)).astype(np.float32)
    index = RNG.integers(0, 3000, 5000)
    want = np.zeros((3000, 32), np.float32)
    for i, v in zip(index, rows):
        want[i] += v
    base = RNG.normal(size=(3000, 32)).astype(np.float32)
    onto = base.copy()
    for i, v in zip(index, rows):
        onto[i] += v
    try:
        for n in (1, 2, 4):
            st.set_num_threads(n)
            zeros = st.zeros(3000, 32).index_add(0, st.tensor(index), st.tensor(rows))
            assert np.array_equal(zeros.numpy(), want)
            assert np.array_equal(st.tensor(base).index_add(0, st.tensor(index), st.tensor(rows)).numpy(), onto)
            column = st.zeros(3000).index_add(0, st.tensor(index), st.tensor(rows[:, 0].copy()))
            assert np.array_equal(column.numpy(), want[:, 0])
    finally:
        st.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
def test_a_large_scatter_goes_past_the_cache_and_misses_nothing(dtype):
    """Rows of whole cache lines, and others; over zeros and over a base; one entry, several and none."""
    before = st.get_num_threads()
    width = placing.LARGE // np.dtype(dtype).itemsize
    for inner in (64, 61):
        size = width // inner + 9
        index = np.concatenate([[0, size - 1, 7, 7, 7], RNG.integers(0, size, 3000)])
        rows = RNG.integers(-9, 9, (index.size, inner)).astype(dtype)
        base = RNG.integers(-9, 9, (size, inner)).astype(dtype)
        want, onto = np.zeros((size, inner), dtype), base.copy()
        np.add.at(want, index, rows)
        np.add.at(onto, index, rows)
        try:
            for n in (1, 2):
                st.set_num_threads(n)
                zeros = st.zeros(size, inner, dtype=getattr(st, dtype)).index_add(0, st.tensor(index), st.tensor(rows))
                assert np.array_equal(zeros.numpy(), want)
                assert np.array_equal(st.tensor(base).index_add(0, st.tensor(index), st.tensor(rows)).numpy(), onto)
        finally:
            st.set_num_threads(before)


def test_lines_of_memory_in_plain_python():
    a, b = np.arange(32, dtype=np.float32), np.arange(100, 132, dtype=np.float32)
    language.clear_line(a, 16)
    assert a.tolist() == [*range(16), *[0] * 16]
    language.copy_line(a, 0, b, 3)
    assert a.tolist() == [*range(103, 119), *[0] * 16]
    assert language.misplaced(a[1:]) == (language.misplaced(a) + 4) % language.LINE


def test_a_scatter_out_of_range_raises():
    with pytest.raises(IndexError):
        st.zeros(30, 32).index_add(0, st.tensor([3, 30]), st.ones(2, 32)).tolist()
    with pytest.raises(IndexError):
        st.zeros(30).index_add(0, st.tensor([3, -31]), st.ones(2)).tolist()


@pytest.mark.parametrize("n", [1, 70_000, 300_001, 1_500_000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_positions_of_true_elements_cut_into_parts(n: int, share: float) -> None:
    mask = np.random.default_rng(n).random(n) < share
    want = np.flatnonzero(mask)
    before = st.get_num_threads()
    try:
        for threads in (1, 2):
            st.set_num_threads(threads)
            x = st.tensor(mask)
            np.testing.assert_array_equal(st.nonzero(x).numpy()[:, 0], want)
            for size in (len(want) // 2, len(want) + 3):
                first = np.concatenate([want, np.full(3, -7)])[:size]
                np.testing.assert_array_equal(st.nonzero_static(x, size=size, fill_value=-7).numpy()[:, 0], first)
    finally:
        st.set_num_threads(before)


def test_rows_and_columns_of_positions() -> None:
    mask = np.random.default_rng(0).random((7, 11, 13)) < 0.4
    np.testing.assert_array_equal(st.nonzero(st.tensor(mask)).numpy(), np.argwhere(mask))
