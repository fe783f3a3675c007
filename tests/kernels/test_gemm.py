"""Generated matrix products against float64 NumPy: sizes, layouts, types, epilogues, threads, machines."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from ctypes import CDLL, CFUNCTYPE, c_int64, c_void_p
from functools import partial
from typing import Any

import numpy as np
import pytest
from kernel_cases import Case, gemm_table
from kernel_cases import gemm as gemm_case

from spiraltorch.dtypes import DType, bfloat16, bool_, float16, float32, float64, int8, int32, int64, uint8
from spiraltorch.ir import text
from spiraltorch.ir.kernel import Access, Gemm, Load, Operand, Param, Phase, Slot, Store
from spiraltorch.ir.node import Node, cast, const, make, scalar
from spiraltorch.kernels.llvm import gemm as module
from spiraltorch.kernels.llvm import gemm_core, target
from spiraltorch.runtime import cache, native, threads, tuning
from spiraltorch.runtime.plan_table import Launch, Plan, scalar_word

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


def run(g: Gemm, arrays: Sequence[Array], ints: Sequence[int], scalars: Sequence[Any] = ()) -> module.GemmPlan:
    """Run on the arrays' memory, as a program would."""
    machine = target.host()
    plan = module.plan_gemm(g, ints, machine)
    address = cache.functions([(g.key, lambda: module.emit_gemm(g, machine, g.key))])[g.key]
    words = [a.ctypes.data for a in arrays]
    words += [*ints, *[scalar_word(v, d) for v, d in zip(scalars, g.scalars)], *plan.words]
    assert Plan([Launch(address, [words], [plan.tasks], plan.grain, True, scratch=True)]).run() == (1, 0)
    return plan


def product(
    dtype: DType, acc: DType, a_outer: Any, a_inner: Any, b_outer: Any, b_inner: Any,
    epilogue: Callable[[Node], Node] = lambda v: v, params: Sequence[Param] = (), out: DType | None = None,
    store: Access | None = None,
) -> Gemm:
    """slots: m, n, k, then four strides, then what the epilogue uses."""
    value = epilogue(make("VALUE", (), 0, (), acc))
    out = out or acc
    access = store or Access(0, ((0, Slot(1)), (1, 1)))
    return Gemm(
        (Slot(0), Slot(1)), Slot(2), Operand(0, a_outer, a_inner), Operand(1, b_outer, b_inner), acc,
        (Param(dtype), Param(dtype), Param(out, "out"), *params), (), 12, Phase((), (), (Store(2, access, value),)),
    )  # fmt: skip


def layout(dtype: DType, a_t: bool, b_t: bool, acc: DType = float32, **more: Any) -> Gemm:
    """Row-major ``a`` (m, k) and ``b`` (k, n), or their transposes."""
    a = (1, Slot(3)) if a_t else (Slot(3), 1)
    b = (Slot(4), 1) if b_t else (1, Slot(4))
    return product(dtype, acc, *a, *b, **more)


def sizes(m: int, n: int, k: int, a_t: bool, b_t: bool) -> list[int]:
    return [m, n, k, m if a_t else k, k if b_t else n] + [0] * 7


def check(got: Array, a: Array, b: Array, epsilon: float = 2.0**-24) -> None:
    """``got`` is a @ b up to the rounding of k additions."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    want, scale = a @ b, np.abs(a) @ np.abs(b)
    assert not np.isnan(got).any()
    assert (np.abs(got - want) <= (a.shape[-1] + 4) * epsilon * scale).all()


def operands(rng: np.random.Generator, m: int, n: int, k: int, dtype: Any = np.float32) -> tuple[Array, Array]:
    return rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)


def stored(x: Array, transposed: bool) -> Array:
    return np.ascontiguousarray(x.T) if transposed else x


@pytest.mark.parametrize("b_t", [False, True])
@pytest.mark.parametrize("a_t", [False, True])
def test_tails_of_every_size(a_t: bool, b_t: bool) -> None:
    rng = np.random.default_rng(1)
    g = layout(float32, a_t, b_t)
    for m in range(1, 71):
        for n, k in ((m * 37 % 70 + 1, m * 13 % 67), (71 - m, m * 29 % 70 + 1), (m, m)):
            a, b = operands(rng, m, n, k)
            # What lies behind the result must stay as it is.
            out = np.full(m * n + 64, np.nan, np.float32)
            run(g, [stored(a, a_t), stored(b, b_t), out], sizes(m, n, k, a_t, b_t))
            assert np.isnan(out[m * n :]).all()
            check(out[: m * n].reshape(m, n), a, b)


@pytest.mark.parametrize("a_t,b_t", [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("m,n,k", [
    (64, 512, 784), (512, 784, 64), (300, 1100, 390), (1, 1000, 800), (3, 2000, 5), (2000, 3, 17), (257, 129, 1153),
])  # fmt: skip
def test_many_blocks_and_steps(m: int, n: int, k: int, a_t: bool, b_t: bool) -> None:
    rng = np.random.default_rng(2)
    a, b = operands(rng, m, n, k)
    out = np.full((m, n), np.nan, np.float32)
    plan = run(layout(float32, a_t, b_t), [stored(a, a_t), stored(b, b_t), out], sizes(m, n, k, a_t, b_t))
    assert plan.tasks >= 1
    check(out, a, b)


@pytest.mark.parametrize("a_t,b_t", [(False, True), (True, False)])
def test_panels_too_large_to_keep(monkeypatch: pytest.MonkeyPatch, a_t: bool, b_t: bool) -> None:
    monkeypatch.setattr(module, "room", lambda area: 1000)
    rng = np.random.default_rng(3)
    m, n, k = 300, 600, 1000
    a, b = operands(rng, m, n, k)
    out = np.full((m, n), np.nan, np.float32)
    plan = run(layout(float32, a_t, b_t), [stored(a, a_t), stored(b, b_t), out], sizes(m, n, k, a_t, b_t))
    words = dict(zip(gemm_core.PLAN, plan.words))
    assert not words["keep_a"] and not words["keep_b"] and words["k_steps"] == 3
    check(out, a, b)


_THIN = [(float32, 2.0**-24), (float64, 2.0**-53), (int32, 0.0), (bfloat16, 2.0**-24), (float16, 2.0**-24), (int8, 0.0)]


@pytest.mark.parametrize("dtype,unit", _THIN, ids=lambda x: getattr(x, "name", ""))
@pytest.mark.parametrize("b_t", [False, True])
def test_few_rows_have_the_bits_of_many(dtype: DType, unit: float, b_t: bool) -> None:
    """B is read once where A has few rows; each sum is the one that a product of packed panels makes."""
    rng = np.random.default_rng(19)
    acc = dtype if dtype in (float64, int32) else float32
    g = layout(dtype, False, b_t, acc)
    for m in (1, 2, 3, 4, 5, 8):
        for n, k in ((1, 64), (7, 65), (8, 1), (33, 500), (1100, 1000), (48, 385)):
            a, b = ((9 * x).astype(dtype.np) for x in operands(rng, m, n, k, np.float64))
            results = []
            for most in (8, 0):
                # What lies behind the result must stay as it is.
                out = np.zeros(m * n + 64, acc.np) + acc.np.type(7)
                with tuning.using(tuning.Choice(thin_across=most, thin_along=most)):
                    plan = run(g, [a, stored(b, b_t), out], sizes(m, n, k, False, b_t))
                assert bool(dict(zip(gemm_core.PLAN, plan.words))["thin"]) == (most > 0)
                assert (out[m * n :] == 7).all()
                results.append(out[: m * n].reshape(m, n))
            assert results[0].tobytes() == results[1].tobytes()
            if n * k < 20_000:
                check(results[0], a, b, unit)


def test_few_rows_read_nothing_behind_an_operand() -> None:
    """The last vector of a row of B ends with the memory."""
    mapped = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    memory = np.frombuffer(mapped, np.float32)
    libc = CDLL(None, use_errno=True)
    last = memory.ctypes.data + mmap.PAGESIZE
    assert libc.mprotect(c_void_p(last), mmap.PAGESIZE, 0) == 0
    for b_t in (False, True):
        for n, k in ((5, 7), (17, 3), (3, 21)):
            b = memory[mmap.PAGESIZE // 4 - n * k : mmap.PAGESIZE // 4].reshape((n, k) if b_t else (k, n))
            b[...] = np.arange(n * k).reshape(b.shape)
            a, out = np.ones((1, k), np.float32), np.zeros((1, n), np.float32)
            run(layout(float32, False, b_t), [a, b, out], sizes(1, n, k, False, b_t))
            np.testing.assert_array_equal(out[0], b.sum(1 if b_t else 0))
    assert libc.mprotect(c_void_p(last), mmap.PAGESIZE, 3) == 0


@pytest.mark.parametrize("k", [0, 1, 384, 385])
def test_steps_of_k(k: int) -> None:
    a, b = operands(np.random.default_rng(4), 20, 40, k)
    out = np.full((20, 40), np.nan, np.float32)
    g = layout(float32, False, False, epilogue=lambda v: scalar("ADD", v, const(2.0, float32)))
    run(g, [a, b, out], sizes(20, 40, k, False, False))
    np.testing.assert_allclose(out, a.astype(np.float64) @ b + 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("m,n", [(0, 5), (5, 0)])
def test_empty_results_have_no_tasks(m: int, n: int) -> None:
    a, b = operands(np.random.default_rng(5), m, n, 3)
    assert run(layout(float32, False, False), [a, b, np.zeros(1, np.float32)], sizes(m, n, 3, False, False)).tasks == 0


_TYPES = [
    (float64, float64, 2.0**-53), (float16, float32, 2.0**-24), (bfloat16, float32, 2.0**-24),
    (float64, float32, 2.0**-23), (int8, float32, 2.0**-24), (float32, float64, 2.0**-53), (bool_, float32, 0.0),
]  # fmt: skip


@pytest.mark.parametrize("dtype,acc,epsilon", _TYPES)
@pytest.mark.parametrize("a_t,b_t", [(False, False), (True, True)])
def test_operands_are_cast_when_packed(dtype: DType, acc: DType, epsilon: float, a_t: bool, b_t: bool) -> None:
    rng = np.random.default_rng(6)
    g = layout(dtype, a_t, b_t, acc)
    for m, n, k in ((5, 7, 3), (33, 65, 50), (70, 20, 400)):
        a, b = ((3 * x).astype(dtype.np) for x in operands(rng, m, n, k, np.float64))
        out = np.full((m, n), np.nan, acc.np)
        run(g, [stored(a, a_t), stored(b, b_t), out], sizes(m, n, k, a_t, b_t))
        check(out, a.astype(acc.np), b.astype(acc.np), epsilon)


@pytest.mark.parametrize("dtype", [int32, int64, uint8, int8])
def test_integers_wrap(dtype: DType) -> None:
    rng = np.random.default_rng(7)
    info = np.iinfo(dtype.np)
    for m, n, k in ((5, 7, 3), (33, 65, 500)):
        a, b = (rng.integers(info.min, info.max, s, dtype.np, endpoint=True) for s in ((m, k), (k, n)))
        out = np.zeros((m, n), dtype.np)
        run(layout(dtype, False, False, dtype), [a, b, out], sizes(m, n, k, False, False))
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(out, a @ b)


@pytest.mark.parametrize("dtype,ulp", [(float16, 2.0**-11), (bfloat16, 2.0**-8)])
def test_half_results_are_rounded_once(dtype: DType, ulp: float) -> None:
    a, b = (x.astype(dtype.np) for x in operands(np.random.default_rng(8), 40, 50, 300))
    out = np.zeros((40, 50), dtype.np)
    run(layout(dtype, False, True, dtype), [a, stored(b, True), out], sizes(40, 50, 300, False, True))
    want = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(out.astype(np.float64), want, rtol=ulp * 1.01, atol=1e-4)


def test_any_strides_and_offsets() -> None:
    rng = np.random.default_rng(9)
    m, n, k = 37, 45, 400
    memory_a = rng.standard_normal((m + 3, 2 * k, 3)).astype(np.float32)
    memory_b = rng.standard_normal((k, n, 2)).astype(np.float32)
    a, b = memory_a[2 : m + 2, 1::2, 1], memory_b[::-1, ::-1, 1]
    g = product(float32, float32, Slot(3), Slot(4), Slot(5), Slot(6))
    g = Gemm(
        g.axes, g.depth, Operand(0, Slot(3), Slot(4), (), Slot(7)), Operand(1, Slot(5), Slot(6), (), Slot(8)),
        g.acc, g.params, (), 12, g.epilogue,
    )  # fmt: skip
    strides = [s // 4 for s in (a.strides[0], a.strides[1], b.strides[1], b.strides[0])]
    offsets = [2 * 6 * k + 3 + 1, (k * n - 1) * 2 + 1]
    out = np.full((m, n), np.nan, np.float32)
    run(g, [memory_a, memory_b, out], [m, n, k, *strides, *offsets, 0, 0, 0])
    check(out, a, b)


def test_tables_of_a_convolution() -> None:
    """out[f, (y, x)] = sum over (c, i, j) of w[f, (c, i, j)] * image[c, y + i, x + j]."""
    rng = np.random.default_rng(10)
    c, height, width, f = 3, 12, 40, 9
    image = rng.standard_normal((c, height, width)).astype(np.float32)
    weight = rng.standard_normal((f, c * 9)).astype(np.float32)
    at = np.arange(c * height * width).reshape(c, height, width)
    pixels = at[0, : height - 2, : width - 2].ravel().astype(np.int64)
    taps = (at[:, :3, :3] - at[0, 0, 0]).ravel().astype(np.int64)
    g = product(float32, float32, Slot(3), 1, "p3", "p4", params=(Param(int64), Param(int64)))
    out = np.full((f, pixels.size), np.nan, np.float32)
    run(g, [weight, image, out, pixels, taps], [f, pixels.size, taps.size, taps.size] + [0] * 8)
    check(out, weight, image.ravel()[taps[:, None] + pixels])


def test_tables_of_any_order() -> None:
    rng = np.random.default_rng(11)
    m, n, k = 50, 100, 70
    memory_a, memory_b = rng.standard_normal((2, 20_000)).astype(np.float32)
    rows, columns = (rng.permutation(9_000)[:s].astype(np.int64) for s in (m, n))
    deep = rng.permutation(9_000)[:k].astype(np.int64)
    g = product(float32, float32, "p3", 1, "p4", "p5", params=(Param(int64),) * 3)
    out = np.full((m, n), np.nan, np.float32)
    run(g, [memory_a, memory_b, out, rows, columns, deep], [m, n, k] + [0] * 9)
    check(out, memory_a[rows[:, None] + np.arange(k)], memory_b[deep[:, None] + columns])


def test_batches_with_shared_operands() -> None:
    rng = np.random.default_rng(12)
    p, q, m, n, k = 3, 4, 19, 35, 23
    a, b = rng.standard_normal((p, q, m, k)).astype(np.float32), rng.standard_normal((q, k, n)).astype(np.float32)
    bias = rng.standard_normal((p, n)).astype(np.float32)
    load = make("LOAD", (), Load(3, Access(0, ((0, Slot(2)), (3, 1)))), (), float32)
    value = scalar("ADD", make("VALUE", (), 0, (), float32), load)
    s = [Slot(j) for j in range(12)]
    # p q m n k | a: p q m | b: q k | out: p q m
    g = Gemm(
        (s[0], s[1], Slot(11), s[2]), s[3], Operand(0, s[3], 1, (s[4], s[5])), Operand(1, 1, s[2], (0, s[6])), float32,
        (Param(float32), Param(float32), Param(float32, "out"), Param(float32)), (), 12,
        Phase((), (), (Store(2, Access(0, ((0, s[7]), (1, s[8]), (2, s[2]), (3, 1))), value),)),
    )  # fmt: skip
    out = np.full((p, q, m, n), np.nan, np.float32)
    run(g, [a, b, out, bias], [p, q, n, k, q * m * k, m * k, k * n, q * m * n, m * n, 0, 0, m])
    check(out - bias[:, None, None] * np.float32(1), a, b, 2.0**-22)


def test_epilogue_reads_rows_columns_scalars_and_a_residual() -> None:
    rng = np.random.default_rng(13)
    m, n, k = 45, 83, 30
    a, b = operands(rng, m, n, k)
    row, column = rng.standard_normal(m).astype(np.float32), rng.standard_normal(n).astype(np.float32)
    residual = rng.standard_normal((n, m)).astype(np.float32)  # transposed: gathered
    spec = """
gemm axes=(s0, s1) depth=s2 acc=float32 params=(in float32, in float32, out float32, in float32, in float32, in float32, out float64) scalars=(float32) slots=5
  a = p0 outer=s2 inner=1 batch=() offset=0
  b = p1 outer=1 inner=s1 batch=() offset=0
  epilogue ()
    %0 = VALUE 0 : float32
    %1 = LOAD p3[a0] : float32
    %2 = MUL(%0, %1) : float32
    %3 = LOAD p4[a1] : float32
    %4 = ADD(%2, %3) : float32
    %5 = TANH(%4) : float32
    %6 = LOAD p5[a0+a1*s0] : float32
    %7 = SCALAR 0 : float32
    %8 = MUL(%6, %7) : float32
    %9 = ADD(%5, %8) : float32
    %10 = INDEX a0+a1*s1 : int64
    %11 = CAST(%10) : float64
    store p2[a0*s1+a1] = %9
    store p6[a0+a1*s0] = %11
"""
    out, index = np.full((m, n), np.nan, np.float32), np.zeros((n, m))
    run(text.parse_gemm(spec), [a, b, out, row, column, residual, index], [m, n, k, 0, 0], [0.5])
    wide = np.tanh((a.astype(np.float64) @ b) * row[:, None] + column) + 0.5 * residual.T
    np.testing.assert_allclose(out, wide, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(index, np.arange(n)[:, None] * n + np.arange(m))


def test_guarded_store_and_transposed_output() -> None:
    rng = np.random.default_rng(14)
    m, n, k = 70, 33, 20
    a, b = operands(rng, m, n, k)
    value = make("VALUE", (), 0, (), float32)
    row, column = (make("INDEX", (), Access(0, ((axis, 1),)), (), int64) for axis in (0, 1))
    where = Store(2, Access(0, ((0, 1), (1, Slot(0)))), value, scalar("LE", column, row))
    g = layout(float32, False, False)
    g = Gemm(g.axes, g.depth, g.a, g.b, g.acc, g.params, (), 12, Phase((), (), (where,)))
    out = np.full((n, m), 7, np.float32)
    run(g, [a, b, out], sizes(m, n, k, False, False))
    lower = np.tri(m, n, dtype=bool)
    assert (out.T[~lower] == 7).all()
    check(np.where(lower, out.T, (a.astype(np.float64) @ b)), a, b)


def test_result_may_be_updated_in_place() -> None:
    """out = out + a @ b, and a cast of the result to bfloat16."""
    rng = np.random.default_rng(15)
    a, b = operands(rng, 30, 40, 50)
    before = rng.standard_normal((30, 40)).astype(np.float32)
    value = make("VALUE", (), 0, (), float32)
    access = Access(0, ((0, Slot(1)), (1, 1)))
    total = scalar("ADD", make("LOAD", (), Load(2, access), (), float32), value)
    g = Gemm(
        (Slot(0), Slot(1)), Slot(2), Operand(0, Slot(2), 1), Operand(1, 1, Slot(1)), float32,
        (Param(float32), Param(float32), Param(float32, "inout"), Param(bfloat16, "out")), (), 3,
        Phase((), (), (Store(2, access, total), Store(3, access, cast(total, bfloat16)))),
    )  # fmt: skip
    out, short = before.copy(), np.zeros((30, 40), bfloat16.np)
    run(g, [a, b, out, short], [30, 40, 50])
    np.testing.assert_allclose(out, before + a.astype(np.float64) @ b, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(short, out.astype(bfloat16.np))


@pytest.mark.parametrize("m,n,k", [(64, 64, 64), (64, 784, 512), (300, 200, 1000), (5, 3000, 129), (1000, 7, 33)])
def test_bits_do_not_depend_on_threads_or_blocks(m: int, n: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(16)
    a, b = operands(rng, m, n, k)
    results, tasks = [], set()
    for count in (1, 2, 4):
        threads.set_num_threads(count)
        for cut in (count, 64):
            monkeypatch.setattr(module, "get_num_threads", partial(int, cut))
            out = np.full((m, n), np.nan, np.float32)
            tasks.add(run(layout(float32, False, True), [a, stored(b, True), out], sizes(m, n, k, False, True)).tasks)
            results.append(out.tobytes())
    assert len(set(results)) == 1
    assert len(tasks) > 1


@pytest.mark.parametrize("count", [2, 3, 4, 16])
def test_threads_get_even_shares(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks cover the result, and the busiest thread never has more of it than without looking at shares; often less."""
    shape = gemm_core.Shape(16, 14, 2, (1, 2, 4, 8, 14))
    sides = (100, 384, 700, 1024, 1536)

    def busiest(b: module.Blocks) -> int:
        return -(-b.m_blocks * b.n_blocks // count) * b.mc * b.nc

    even = {(m, n): module.blocks(m, n, 384, 1, shape, 4, count) for m in sides for n in sides}
    monkeypatch.setattr(module, "_even", lambda m_tiles, n_tiles, m_blocks, n_blocks, batch, threads: (m_blocks, n_blocks))
    plain = {(m, n): module.blocks(m, n, 384, 1, shape, 4, count) for m, n in even}
    for (m, n), b in even.items():
        assert (b.m_blocks - 1) * b.mc < m <= b.m_blocks * b.mc and (b.n_blocks - 1) * b.nc < n <= b.n_blocks * b.nc
        assert busiest(b) <= busiest(plain[m, n])
    assert sum(busiest(b) < 0.97 * busiest(plain[size]) for size, b in even.items()) >= 5
    if count == 2:
        assert busiest(even[1024, 384]) <= 0.52 * 1036 * 384 < 0.58 * 1036 * 384 < busiest(plain[1024, 384])


@pytest.mark.parametrize("machine", [target.avx2, target.sse2])
def test_other_machines(machine: Callable[[], target.Target], monkeypatch: pytest.MonkeyPatch) -> None:
    other, known = machine(), dict[str, dict[str, int]]()

    def load(key: str, names: Sequence[str], emit: Callable[[], str]) -> dict[str, int]:
        if key not in known:
            known[key] = target.load_object(target.compile_module(emit(), other), names)
        return known[key]

    monkeypatch.setattr(cache, "load", load)
    monkeypatch.setattr(target, "host", lambda: other)
    rng = np.random.default_rng(17)
    for m, n, k in ((1, 1, 1), (3, 41, 53), (23, 41, 50), (66, 35, 500)):
        for a_t, b_t in ((False, True), (True, False)):
            a, b = operands(rng, m, n, k)
            out = np.full((m, n), np.nan, np.float32)
            run(layout(float32, a_t, b_t), [stored(a, a_t), stored(b, b_t), out], sizes(m, n, k, a_t, b_t))
            check(out, a, b, 2.0**-23)
    a, b = (x.astype(float16.np) for x in operands(rng, 20, 30, 40))
    out = np.zeros((20, 30))
    run(layout(float16, False, True, float64), [a, stored(b, True), out], sizes(20, 30, 40, False, True))
    check(out, a, b, 2.0**-52)


def _cases() -> list[Case]:
    rng = np.random.default_rng(18)
    return [
        gemm_case(rng, np.float32, np.float32, 2, 40, 50, 60), gemm_case(rng, bfloat16.np, np.float32, 3, 15, 70, 33),
        gemm_case(rng, np.float16, np.float32, 1, 64, 6, 70), gemm_case(rng, np.float64, np.float64, 1, 33, 20, 400),
        gemm_case(rng, np.int32, np.int32, 1, 40, 50, 60), gemm_table(rng, 60, 50, 70),
    ]  # fmt: skip


@pytest.mark.parametrize("case", _cases(), ids=lambda c: c.name)
def test_shared_cases(case: Case) -> None:
    arrays = case.copies()
    assert isinstance(case.kernel, Gemm)
    run(case.kernel, arrays, case.ints, case.scalars)
    case.check(arrays)


def test_too_many_batch_axes() -> None:
    g = layout(float32, False, False)
    g = Gemm((Slot(0),) * 19, g.depth, g.a, g.b, g.acc, g.params, (), 12, g.epilogue)
    with pytest.raises(ValueError, match="at most 16 batch axes, got 17"):
        module.emit_gemm(g, target.host(), "f")


def test_a_thread_packs_an_operand_once_a_launch() -> None:
    """Three blocks of rows share the columns' panels, also when each is a call of its own."""
    m, n, k = 600, 32, 64
    g, machine = layout(float32, False, False), target.host()
    a, b = operands(np.random.default_rng(0), m, n, k)
    c = np.zeros((m, n), np.float32)
    ints = sizes(m, n, k, False, False)
    plan = module.plan_gemm(g, ints, machine)
    assert plan.tasks > 1
    address = cache.functions([(g.key, lambda: module.emit_gemm(g, machine, g.key))])[g.key]
    words = np.array([a.ctypes.data, b.ctypes.data, c.ctypes.data, *ints, *plan.words], np.int64)
    call = CFUNCTYPE(None, c_void_p, c_int64, c_int64, c_void_p)(address)
    scratch = threads.scratch()
    scratch[native.KEPT :] = 0
    call(words.ctypes.data, 0, 1, scratch.ctypes.data)
    expected = a @ b
    b[:] = 0
    call(words.ctypes.data, 1, plan.tasks, scratch.ctypes.data)
    np.testing.assert_allclose(c, expected, atol=1e-4)
    scratch[native.KEPT : native.KEPT + 8] = 0  # as when a launch begins
    call(words.ctypes.data, 0, plan.tasks, scratch.ctypes.data)
    assert not c.any()
