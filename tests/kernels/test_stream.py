"""Stores past the cache: the same results, chosen at run time by size and place."""

from __future__ import annotations

import numpy as np
import pytest
import test_llvm as llvm

import spiraltorch as st
from spiraltorch.ir import text
from spiraltorch.kernels.llvm import emit, stream, target, tiles

ROWS = """kernel rows=2 lane=row block=64 axes=(s0, s1) params=(in {t}, in float32, out {t}) scalars=() slots=5
  phase ()
    %0 = LOAD p0[a0*s2+a1] : {t}
    %1 = LOAD p1[a0] : float32
    %2 = CAST(%1) : {t}
    %3 = ADD(%0, %2) : {t}
    store p2[s3+a0*s4+a1] = %3
"""


@pytest.mark.parametrize("machine", llvm.TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8"])
def test_every_place_and_length(machine, dtype, monkeypatch):
    """Aligned or not, with offsets, gaps between rows and tails: nothing else is written and nothing is missed."""
    monkeypatch.setattr(stream, "LARGE", 1)
    llvm.compiled.cache_clear()
    spec = ROWS.format(t=dtype)
    assert "!nontemporal" in emit.emit_kernel(text.parse_kernel(spec), machine, "f")
    r = np.random.default_rng(0)
    for n, gap, first, offset in [(64, 0, 0, 0), (128, 0, 64, 0), (100, 28, 0, 0), (100, 27, 0, 0), (96, 0, 1, 0), (64, 64, 0, 3), (130, 62, 64, 0)]:
        x = r.integers(-9, 9, 3 * n).astype(dtype)
        out = np.zeros(first + 3 * (n + gap), dtype)
        llvm.agrees(spec, [x, np.array([1, 2, 3], "f"), out], [3, n, n, first, n + gap], machine=machine, offset=offset)
    llvm.compiled.cache_clear()


def test_a_large_result_bypasses_the_cache_and_a_small_one_does_not():
    """One kernel serves both; the fence stands at the end of the task."""
    kernel = st.compile(lambda x: x * 2).lower(st.zeros(100)).kernels[0]
    code = target.assembly(emit.emit_kernel(kernel, target.host(), "f"), target.host())
    assert str(stream.LARGE) in code or hex(stream.LARGE) in code or str(stream.LARGE - 1) in code
    if target.host().is_x86:
        assert "movnt" in code and ("mfence" in code or "lock" in code)
    x = np.arange(stream.LARGE // 4 + 5, dtype="f")
    for n in (x.size, 70):
        np.testing.assert_array_equal((st.tensor(x[:n]) * 2).numpy(), x[:n] * 2)


def test_what_is_read_again_or_written_twice_stays_in_the_cache():
    softmax = st.compile(lambda x: x.add_(1).softmax(-1)).lower(st.zeros(4, 100)).kernels
    for kernel in softmax:
        written = {s.param for p in kernel.phases for s in p.stores}
        some = any(kernel.params[k].mode == "out" for k in written)
        assert ("!nontemporal" in emit.emit_kernel(kernel, target.host(), "f")) == some


def test_a_thread_takes_the_rows_of_a_whole_tile():
    """A tile that is filled for four rows reads each of its lines four times."""
    x = st.zeros(2048, 2048)
    low = st.compile(lambda x, y: x + y.T).lower(x, x)
    assert tiles.rows_together(low.kernels[0], 2048) == tiles.HEIGHT
    assert tiles.rows_together(low.kernels[0], 7) == 1
    r = np.random.default_rng(0)
    a, b = r.standard_normal((2, 517, 517)).astype("f")
    np.testing.assert_array_equal((st.tensor(a) + st.tensor(b).T).numpy(), a + b.T)
