"""Contractions of type bfloat16: by pairs of k where the machine has the instruction, and the same promises elsewhere."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from ctypes import CDLL, c_void_p

import numpy as np
import pytest
from test_gemm import Array, layout, operands, run, sizes, stored

from spiraltorch.dtypes import bfloat16, float16, float32
from spiraltorch.kernels.llvm import gemm_core, pairs, target
from spiraltorch.runtime import threads, tuning


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


def product(a: Array, b: Array, a_t: bool = False, b_t: bool = False) -> Array:
    (m, k), n = a.shape, b.shape[1]
    out = np.full(m * n + 64, 7, bfloat16.np)
    run(layout(bfloat16, a_t, b_t, bfloat16), [stored(a, a_t), stored(b, b_t), out], sizes(m, n, k, a_t, b_t))
    assert (out[m * n :] == 7).all()
    return out[: m * n].reshape(m, n)


def test_where_pairs_are_used() -> None:
    new = target.Target("new", "x86_64-unknown-linux-gnu", "x86-64-v4", "+avx512f,+avx512bf16", 512)
    assert pairs.in_pairs(new, bfloat16) and not pairs.in_pairs(new, float32) and not pairs.in_pairs(new, float16)
    assert not pairs.in_pairs(target.avx2(), bfloat16) and not pairs.in_pairs(target.neon(), bfloat16)


@pytest.mark.parametrize("a_t,b_t", [(False, False), (False, True), (True, False), (True, True)])
def test_whole_numbers_are_exact(a_t: bool, b_t: bool) -> None:
    rng = np.random.default_rng(1)
    shapes = [(m, m * 37 % 70 + 1, m * 13 % 67) for m in range(1, 71, 3)] + [(20, 70, 768), (9, 40, 769), (300, 600, 1001)]
    for m, n, k in shapes:
        a, b = rng.integers(-4, 5, (m, k)).astype(np.float32), rng.integers(-4, 5, (k, n)).astype(np.float32)
        got = product(a.astype(bfloat16.np), b.astype(bfloat16.np), a_t, b_t)
        np.testing.assert_array_equal(got, (a @ b).astype(bfloat16.np))


@pytest.mark.parametrize("b_t", [False, True])
def test_bits_depend_neither_on_threads_nor_on_blocks_nor_on_rows(b_t: bool) -> None:
    rng = np.random.default_rng(2)
    for m, n, k in ((1, 300, 1601), (5, 70, 64), (8, 1100, 999), (130, 200, 1603)):
        a, b = [x.astype(bfloat16.np) for x in operands(rng, m, n, k)]
        found = []
        for count in (1, 2, 4):
            threads.set_num_threads(count)
            for choice in (tuning.Choice(), tuning.Choice(thin_across=0, thin_along=0, block_rows=16, block_bytes=512)):
                with tuning.using(choice):
                    found.append(product(a, b, False, b_t))
        assert all(x.tobytes() == found[0].tobytes() for x in found)
        assert product(a[:1], b, False, b_t).tobytes() == found[0][:1].tobytes()
        exact, size = a.astype(np.float64) @ b.astype(np.float64), np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))
        near = np.abs(found[0].astype(np.float64) - exact) <= 2.0**-8 * np.abs(exact) + k * 2.0**-24 * size
        assert near.all()


def test_infinities_and_nans_stay_in_their_rows_and_columns() -> None:
    for m in (3, 40):
        a, b = np.ones((m, 33), np.float32), np.ones((33, 20), np.float32)
        a[1, 32], b[32, 5] = np.inf, np.nan
        want = np.full((m, 20), 33, np.float32)
        want[1], want[:, 5] = np.inf, np.nan
        np.testing.assert_array_equal(product(a.astype(bfloat16.np), b.astype(bfloat16.np)).astype(np.float32), want)


def test_few_rows_read_nothing_behind_an_operand() -> None:
    """The last vector of a row of B ends with the memory."""
    mapped = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    memory = np.frombuffer(mapped, bfloat16.np)
    libc = CDLL(None, use_errno=True)
    assert libc.mprotect(c_void_p(memory.ctypes.data + mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
    end = mmap.PAGESIZE // 2
    for b_t in (False, True):
        for n, k in ((5, 7), (17, 3), (3, 21), (2, 65), (16, 34)):
            b = memory[end - n * k : end].reshape((n, k) if b_t else (k, n))
            b[...] = (np.arange(n * k) % 5).reshape(b.shape)
            out = np.zeros((1, n), bfloat16.np)
            plan = run(layout(bfloat16, False, b_t, bfloat16), [np.ones((1, k), bfloat16.np), b, out], sizes(1, n, k, False, b_t))
            assert dict(zip(gemm_core.PLAN, plan.words))["thin"]
            np.testing.assert_array_equal(out[0], b.astype(np.float32).sum(1 if b_t else 0).astype(bfloat16.np))
    assert libc.mprotect(c_void_p(memory.ctypes.data + mmap.PAGESIZE), mmap.PAGESIZE, 3) == 0
