"""Sums over the rows that one task walks, in every spelling; and rows that are fetched ahead."""

from __future__ import annotations

import numpy as np
import pytest
import test_llvm as llvm
from kernel_cases import SOFTMAX

from spiraltorch.ir import text
from spiraltorch.ir.verify import VerifyError, verify_kernel
from spiraltorch.kernels import reference, triton
from spiraltorch.kernels.llvm import emit
from spiraltorch.kernels.numba import emit as loops
from spiraltorch.kernels.numba import run as run_loops
from spiraltorch.kernels.triton.emit import Tile

# Rows less their maxima, and sums over the rows of each block: of what is read, and of what is stored.
WALKED = """kernel rows=3 lane=inner block=0 walked=2 axes=(s0, s1, s2, s3) params=(in {t}, out {t}, out {t}, out {t}) scalars=() slots=9
  phase (a3)
    %0 = LOAD p0[a0*s4+a1*s5+a2*s3+a3] : {t}
    r0 = max %0
    store p1[a0*s3+a3] add= %0
  phase (a3)
    %1 = VALUE 0 : {t}
    %2 = SUB(%0, %1) : {t}
    store p2[a0*s6+a1*s7+a2*s3+a3] = %2
    store p3[s8+a0*s3+a3] add= %2
"""
# The same sum by a kernel of its own.
ALONE = """kernel rows=2 lane=row block=64 axes=(s0, s1, s2) params=(in {t}, out {t}) scalars=() slots=4
  phase (a2)
    %0 = LOAD p0[a0*s3+a1+a2*s1] : {t}
    r0 = add %0
  phase ()
    %1 = VALUE 0 : {t}
    store p1[a0*s1+a1] = %1
"""


def case(dtype, blocks, outer, rows, cols):
    """Arrays and ints of WALKED, and the sums in float64."""
    r = np.random.default_rng(0)
    x = r.standard_normal((blocks, outer, rows, cols)).astype(dtype)
    arrays = [x.ravel(), np.full(blocks * cols, 7, dtype), np.zeros(x.size, dtype), np.full(3 + blocks * cols, 7, dtype)]
    block = outer * rows * cols
    wide = x.astype(np.float64)
    sums = [wide.sum((1, 2)), (wide - wide.max(-1, keepdims=True)).sum((1, 2))]
    return arrays, [blocks, outer, rows, cols, block, rows * cols, block, rows * cols, 3], sums


SIZES = [(3, 1, 8, 16), (2, 2, 5, 37), (1, 1, 1, 5), (4, 3, 7, 130), (2, 1, 20, 1)]


@pytest.mark.parametrize("machine", llvm.TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sums_beside_rows(machine, dtype, sizes):
    arrays, ints, sums = case(dtype, *sizes)
    got = llvm.agrees(WALKED.format(t=dtype), arrays, ints, machine=machine, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got[1], sums[0].ravel(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got[3][3:], sums[1].ravel(), rtol=1e-5, atol=1e-5)
    assert (got[3][:3] == 7).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_sums_have_the_bits_of_a_kernel_of_their_own(dtype, sizes):
    arrays, ints, _ = case(dtype, *sizes)
    blocks, outer, rows, cols = sizes
    beside = [llvm.padded(a, 1) for a in arrays]
    llvm.run(text.parse_kernel(WALKED.format(t=dtype)), beside, ints)
    alone = [llvm.padded(a, 1) for a in arrays[:2]]
    llvm.run(text.parse_kernel(ALONE.format(t=dtype)), alone, [blocks, cols, outer * rows, outer * rows * cols])
    np.testing.assert_array_equal(beside[1], alone[1])


def test_other_spellings():
    for sizes in ((2, 2, 5, 37), (3, 1, 9, 4)):
        arrays, ints, _ = case("float32", *sizes)
        kernel = text.parse_kernel(WALKED.format(t="float32"))
        verify_kernel(kernel)
        assert kernel.tasks(ints) == sizes[0] and text.parse_kernel(str(kernel)) == kernel
        want = [a.copy() for a in arrays]
        reference.run_kernel(kernel, want, ints)
        for tile in (None, Tile(1, 16), Tile(1, 64, one_block=True)):
            got = [a.copy() for a in arrays]
            triton.interpret(kernel, got, ints, [], tile)
            np.testing.assert_allclose(got[3], want[3], rtol=1e-5, atol=1e-5)
        got = [a.copy() for a in arrays]
        run_loops(kernel, got, ints, [], jit=False)
        for a, b in zip(got, want):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_readable_loops():
    lines = loops.source(text.parse_kernel(WALKED.format(t="float32")), by_task=True)
    assert "for task in range(lo, hi):" in lines and "if i == 0 and j == 0 else" in lines


def test_what_cannot_be_folded_is_refused():
    moving = WALKED.format(t="float32").replace("store p1[a0*s3+a3]", "store p1[a0*s3+a2*s3+a3]")
    for spec, words in ((moving, "does not move"), (WALKED.format(t="float32").replace("add=", "max="), "by addition")):
        with pytest.raises(VerifyError, match=words):
            verify_kernel(text.parse_kernel(spec))


CENTRED = """kernel rows=1 lane=inner block=0 axes=(s0, s1) params=(in float32, out float32) scalars=() slots=3
  phase (a1)
    %0 = LOAD p0[a0*s2+a1] : float32
    r0 = max %0
  phase (a1)
    %1 = VALUE 0 : float32
    %2 = SUB(%0, %1) : float32
    store p1[a0*s2+a1] = %2
"""


def test_the_next_row_is_fetched_where_later_phases_compute_enough():
    for spec, some in ((SOFTMAX, True), (CENTRED, False)):
        kernel = text.parse_kernel(spec)
        assert ("@llvm.prefetch" in emit.emit_kernel(kernel, llvm.HOST, "f")) == some
        x = np.random.default_rng(0).standard_normal(3 * 70).astype("f")
        llvm.agrees(spec, [x, np.zeros_like(x)], [3, 70, 70], rtol=1e-5, atol=1e-6)
