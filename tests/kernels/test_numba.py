"""The plain-Python spelling: the same kernels as Python, jitted, and through the native convention."""

import ctypes
import itertools

import numpy as np
import pytest
from kernel_cases import binary_kernel, case_id, edge_pairs, gather, layer_norm, pointwise, small_cases, softmax

from spiraltorch import dtypes as dt
from spiraltorch.ir import node
from spiraltorch.ir.kernel import Access, Kernel, Load, Param, Phase, Slot, Store
from spiraltorch.kernels import numba as spelling
from spiraltorch.kernels import reference
from spiraltorch.kernels.numba import helpers


@pytest.mark.parametrize("case", small_cases(), ids=case_id)
def test_plain_python(case):
    arrays = case.copies()
    spelling.run(case.kernel, arrays, case.ints, case.scalars, jit=False)
    case.check(arrays)


@pytest.mark.parametrize("case", small_cases(), ids=case_id)
def test_jitted(case):
    arrays = case.copies()
    spelling.run(case.kernel, arrays, case.ints, case.scalars)
    case.check(arrays)


def native_call(case, arrays, pieces):
    k = case.kernel
    words = np.zeros(len(k.params) + k.slots + len(k.scalars), np.int64)
    words[: len(arrays)] = [a.ctypes.data for a in arrays]
    words[len(arrays) : len(arrays) + k.slots] = case.ints
    for i, (value, d) in enumerate(zip(case.scalars, k.scalars)):
        words[len(arrays) + k.slots + i :][:1].view(d.np)[0] = value
    f = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(spelling.compile(k))
    tasks = k.tasks(case.ints) if isinstance(k, Kernel) else spelling.gemm_tasks(k, case.ints)
    edges = np.linspace(0, tasks, pieces + 1).astype(int)
    for lo, hi in reversed(list(itertools.pairwise(edges))):
        f(words.ctypes.data, lo, hi)


@pytest.mark.parametrize(
    "case", [c for c in small_cases() if c.name in ("column_sum", "interleaved", "halves", "gemm_bfloat16", "softmax", "gather")],
    ids=case_id,
)  # fmt: skip
def test_native_tasks_in_any_grouping(case):
    results = []
    for pieces in (1, 3):
        arrays = case.copies()
        native_call(case, arrays, pieces)
        case.check(arrays)
        results.append(arrays)
    for one, other in zip(*results):
        np.testing.assert_array_equal(one.view(np.uint8), other.view(np.uint8))


def test_readable_softmax():
    k = softmax(np.random.default_rng(0), 2, 3).kernel
    assert (
        spelling.source(k, "softmax")
        == f'''\
import numpy as np


def softmax(x, out, rows, cols, x_row_stride):
    """{k.key}: loops; numba.njit(error_model="numpy") compiles it.

    x: float32, in
    out: float32, out
    """
    for row in range(rows):
        # phase 1: r0 = max of v0 over col
        r0 = np.float32(-np.inf)
        for col in range(cols):
            v0 = x[row * x_row_stride + col]
            r0 = np.maximum(r0, v0)
        # phase 2: r1 = sum of v3 over col
        sum1 = 0.0
        for col in range(cols):
            v0 = x[row * x_row_stride + col]
            v2 = v0 - r0
            v3 = np.exp(v2)
            sum1 += v3
        r1 = np.float32(sum1)
        # phase 3: write out over col
        for col in range(cols):
            v0 = x[row * x_row_stride + col]
            v2 = v0 - r0
            v3 = np.exp(v2)
            v5 = v3 / r1
            out[row * x_row_stride + col] = v5
'''
    )


def test_invariant_values_leave_the_inner_loop():
    lines = spelling.source(layer_norm(np.random.default_rng(0), 2, 3).kernel, "f").splitlines()
    assert "        v10 = np.float32(1) / np.sqrt(v9)" in lines
    assert sum("v10 =" in line for line in lines) == 1


def test_the_text_runs_alone():
    case = gather(np.random.default_rng(2), 4, 3, True)
    space = {}
    exec(spelling.source(case.kernel, "gather"), space)
    arrays = case.copies()
    views = [a.view(np.uint16) if a.dtype == dt.bfloat16.np else a for a in arrays]
    space["gather"](*views, *case.ints)
    case.check(arrays)


def test_all_sixteen_bit_values_convert():
    bits = np.arange(65536, dtype=np.uint16)
    for d, to_value, to_bits in (
        (dt.float16, helpers.f16_value, helpers.f16_bits),
        (dt.bfloat16, helpers.bf16_value, helpers.bf16_bits),
    ):
        want = bits.view(d.np).astype(np.float32)
        got = np.array([to_value(b) for b in bits])
        np.testing.assert_array_equal(got, want)
        # Halfway points, and their neighbours, between adjacent finite numbers.
        finite = np.sort(want[np.isfinite(want)])
        with np.errstate(over="ignore"):
            middle = ((finite[:-1].astype(np.float64) + finite[1:]) / 2).astype(np.float32)
            middle = np.concatenate([middle, np.nextafter(middle, np.float32(np.inf)), [np.float32(3e38)]])
            middle = middle[::7]
            np.testing.assert_array_equal(np.array([to_bits(v) for v in middle]).view(d.np), middle.astype(d.np))
        assert np.isnan(np.array([to_bits(np.float32(np.nan))]).view(d.np)[0])


@pytest.mark.parametrize("op", ["IDIV", "REM", "SHL", "SHR", "MIN", "LT", "MULHI", "SUB", "MUL"])
@pytest.mark.parametrize("dtype", [dt.int8, dt.int64, dt.uint64, dt.uint8], ids=lambda d: d.name)
def test_integer_edges(op, dtype):
    if op == "MULHI" and dtype.is_signed:
        op = "MAX"
    a, b = edge_pairs(op, dtype)
    k = binary_kernel(op, dtype)
    results = []
    for run in (reference.run_kernel, spelling.run):
        out = np.zeros(a.size, k.params[2].dtype.np)
        run(k, [a, b, out], [a.size])
        results.append(out)
    np.testing.assert_array_equal(*results)


def test_fma_rounds_once():
    rng = np.random.default_rng(4)
    for d in (np.float32, np.float64):
        a, b = rng.standard_normal((2, 500)).astype(d)
        c = -(a * b) * (1 + rng.integers(-3, 4, 500) * np.finfo(d).eps).astype(d)
        f = helpers.fma32 if d is np.float32 else helpers.fma64
        got = [f(*v) for v in zip(a, b, c)]
        want = reference.apply_row("FMA", [a, b, c], dt.from_numpy_dtype(d))
        np.testing.assert_array_equal(got, want)


def test_float_to_integer_never_traps():
    at = Access(0, ((0, 1),))
    x = node.make("LOAD", (), Load(0, at), (), dt.float32)
    stores = tuple(Store(i, at, node.cast(x, d)) for i, d in enumerate((dt.int8, dt.uint8, dt.int64), 1))
    params = (Param(dt.float32), *(Param(s.value.dtype, "out") for s in stores))
    k = Kernel((Slot(0),), 1, "row", 8, params, (), 1, (Phase((), (), stores),))
    values = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 100.9, -100.9], np.float32)
    for jit in (False, True):
        outs = [np.ones(7, p.dtype.np) for p in params[1:]]
        spelling.run(k, [values, *outs], [7], jit=jit)
        assert outs[0].tolist()[5:] == [100, -100] and outs[1][5] == 100 and outs[2].tolist()[5:] == [100, -100]


def test_division_by_zero_gives_an_infinity():
    k = binary_kernel("DIV", dt.float32)
    out = np.zeros(2, np.float32)
    spelling.run(k, [np.float32([1, 0]), np.float32([0, 0]), out], [2])
    assert out[0] == np.inf and np.isnan(out[1])


def test_zero_rows():
    case = pointwise(np.random.default_rng(0), 2, 3)
    arrays = case.copies()
    spelling.run(case.kernel, arrays, [0, 3, 3], case.scalars)
    assert not arrays[2].any()


def test_names_are_unique_and_in_order():
    for case in small_cases():
        k = case.kernel
        text_of = spelling.source(k, "f")
        head = text_of[text_of.index("def f(") + 6 :].partition("):")[0].split(", ")
        assert len(head) == len(set(head)) == len(k.params) + k.slots + len(k.scalars)
