"""Custom operators: translated scalar functions, native loops, array functions and Triton kernels."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest

import spiraltorch as st
from spiraltorch.jit.program import counters

SLOPE = 0.25


@numba.njit
def helper(x):
    return x * x + 1


@numba.njit
def branches(x, y):
    a = math.sin(x) * SLOPE
    if x > 1 and not y > 0.5:
        a += helper(y)
    elif x < -1 or y == 0:
        return -a
    b = max(a, y, 0.1) if x > y else min(a, y)
    for k in range(1, 4):
        b = b / k + abs(x) ** 2 % 3
    return b - math.pi * (x >= 0)


@numba.njit
def bits(x):
    y = np.floor(x) // 2
    return np.sqrt(abs(y)) + np.float64(0.5) if y > 0 else float(-2)


@numba.njit
def known(x, n):
    if n > 2:
        return x * n
    return x + n


def values() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.uniform(-3, 3, (4, 50)), draw.uniform(-1, 1, 50)


def test_translated_functions_are_what_python_says() -> None:
    x, y = values()
    op = st.library.custom_op("tests::branches", branches)
    assert op.fused and "branches" in repr(op)
    want = np.vectorize(branches.py_func)(x, y)
    np.testing.assert_allclose(op(st.tensor(x), st.tensor(y)).numpy(), want, rtol=1e-12)
    assert op(st.tensor(x, dtype=st.float32), y=st.tensor(y, dtype=st.float32)).dtype is st.float32
    assert op(st.tensor([1, 2]), 0.25).dtype is st.float32
    np.testing.assert_allclose(st.library.custom_op("tests::bits", bits)(st.tensor(x)).numpy(), np.vectorize(bits.py_func)(x))


def test_translated_functions_have_gradients_of_any_order() -> None:
    draw = np.random.default_rng(1)
    x = st.tensor(draw.uniform(-3, 3, 6)).requires_grad_()
    y = st.tensor(draw.uniform(-1, 1, 6)).requires_grad_()
    op = st.library.custom_op("tests::smooth", numba.njit(smooth))
    assert st.autograd.gradcheck(op, [x, y]) and st.autograd.gradgradcheck(op, [x, y])


def smooth(x, y):
    return math.tanh(x) * math.exp(-y * y) if x > 0 else x * y


def test_translated_functions_fuse_with_their_neighbours() -> None:
    op = st.library.custom_op("tests::fused", numba.njit(smooth))
    x = st.tensor(values()[0], dtype=st.float32)
    (op(x * 2, x) + 1).sum(1).numpy()
    before = counters["launches"]
    (op(x * 2, x) + 1).sum(1).numpy()
    assert counters["launches"] - before == 1


def test_numbers_decide_at_once() -> None:
    op = st.library.custom_op("tests::known", known)
    assert op(st.ones(2), 3).tolist() == [3, 3] and op(st.ones(2), 1).tolist() == [2, 2]


@numba.njit
def collatz(x):
    steps = 0.0
    while x > 1:
        x = x / 2 if x % 2 == 0 else 3 * x + 1
        steps += 1
    return steps


def test_what_can_not_be_read_runs_as_a_native_loop() -> None:
    op = st.library.custom_op("tests::collatz", collatz)
    assert not op.fused and "While" in op.reason
    x = np.arange(1, 5000.0)
    want = np.vectorize(collatz.py_func)(x)
    for threads in (1, 2):
        st.set_num_threads(threads)
        assert np.array_equal(op(st.tensor(x)).numpy(), want)
    assert np.array_equal(st.compile(lambda t: op(t) + 1)(st.tensor(x)).numpy(), want + 1)
    assert op(st.zeros(0)).shape == (0,)
    with pytest.raises(RuntimeError, match="no gradient"):
        op(st.ones(2, requires_grad=True))


def test_the_native_loop_in_half_precision() -> None:
    op = st.library.custom_op("tests::collatz", collatz)
    assert op(st.tensor([3.0, 7.0], dtype=st.bfloat16)).tolist() == [7, 16]


def test_array_functions_say_their_shape_and_fail_with_their_error() -> None:
    def shape(a: Any, b: Any) -> Any:
        return (*a, b[0])

    @st.library.custom_op("tests::table", shape=shape)
    def table(a, b, power):
        if power < 0:
            raise ValueError("power")
        return a[..., None] ** power + b

    a, b = st.arange(3.0), st.ones(2)
    assert table(a, b, 2).shape == (3, 2) and table(a + 1, b, 2).tolist() == [[2, 2], [5, 5], [10, 10]]
    with pytest.raises(ValueError, match="power"):
        table(a, b, -1).numpy()


def test_triton_kernels() -> None:
    import triton
    import triton.language as tl

    def grid(x: Any, y: Any) -> Any:
        return (triton.cdiv(x[0], 4),)

    @st.library.custom_op("tests::add_rows", grid=grid, sizes=lambda x, y: (x[0], x[1]), constants={"ROWS": 4, "COLS": 8})
    @triton.jit
    def add_rows(x_ptr, y_ptr, out_ptr, rows, cols, ROWS: tl.constexpr, COLS: tl.constexpr):
        r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
        c = tl.arange(0, COLS)[None, :]
        inside = (r < rows) & (c < cols)
        x = tl.load(x_ptr + r * cols + c, mask=inside)
        y = tl.load(y_ptr + c, mask=c < cols)
        tl.store(out_ptr + r * cols + c, x + y, mask=inside)

    x, y = st.arange(35.0).reshape(7, 5), st.arange(5.0)
    assert (add_rows(x, y) * 2).tolist() == ((x + y) * 2).tolist()
    with pytest.raises(TypeError, match="triton"):
        st.library.custom_op("tests::no", smooth, grid=grid)


def test_bad_definitions() -> None:
    with pytest.raises(NotImplementedError):
        st.library.custom_op("tests::writes", smooth, mutates_args=("x",))
    with pytest.raises(TypeError, match="While"):
        st.library.custom_op("tests::plain", collatz.py_func)
    with pytest.raises(TypeError, match="expected a function"):
        st.library.custom_op("tests::three", 3)
    with pytest.raises(TypeError):
        st.library.custom_op("tests::known", known)(st.ones(2))
