"""Values kept between the phases of a row: the same bits as computed again, in rows of any length."""

from __future__ import annotations

import numpy as np
import pytest
import test_llvm as llvm

import spiraltorch as st
from spiraltorch.ir import text
from spiraltorch.kernels.llvm import emit, stash, target, writer

SOFTMAX = """kernel rows=2 lane=inner block=0 axes=(s0, s1, s2) params=({params}) scalars=() slots=7
  phase (a2)
    %0 = LOAD p0[a0*s3+a1*s4+a2] : {t}
    r0 = max %0
  phase (a2)
    %1 = VALUE 0 : {t}
    %2 = SUB(%0, %1) : {t}
    %3 = EXP(%2) : {t}
    r1 = add %3
  phase (a2)
    %4 = VALUE 1 : {t}
    %5 = DIV(%3, %4) : {t}
    store p1[a0*s5+a1*s6+a2] = %5
"""


def emitted(kernel, machine=llvm.HOST):
    return emit.emit_kernel(kernel, machine, "f")


@pytest.mark.parametrize("machine", llvm.TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("room", [64, 1 << 16])
def test_same_bits_on_the_stack_and_in_the_result(machine, dtype, room, monkeypatch):
    spec = SOFTMAX.format(t=dtype, params=f"in {dtype}, out {dtype}")
    kernel = text.parse_kernel(spec)
    found = {}
    for kept in (False, True):
        llvm.compiled.cache_clear()
        monkeypatch.setattr(stash, "ROOM", room)
        monkeypatch.setattr(writer, "stash", stash.stash if kept else lambda k: (k, []))
        for n in (1, 7, 16, 17, 63, 200):
            x = np.random.default_rng(n).standard_normal(6 * n).astype(dtype)
            ints = [2, 3, n, 3 * n, n, 3 * n + 5, n + 1]
            out = np.zeros(6 * n + 20, dtype)
            (_, y) = llvm.agrees(spec, [x, out], ints, machine=machine, rtol=1e-5)
            found.setdefault(n, set()).add(y.tobytes())
    llvm.compiled.cache_clear()
    assert all(len(bits) == 1 for bits in found.values())
    assert len(stash.stash(kernel)[1]) == 1


def test_exponential_is_computed_once():
    kernel = st.compile(lambda x: x.softmax(-1)).lower(st.zeros(8, 33)).kernels[0]
    (kept,) = stash.stash(kernel)[1]
    assert kernel.params[kept.out].mode == "out"
    changed = stash.stash(kernel)[0]
    assert [sum(n.op == "EXP" for n in {*p.exprs()} | {s for e in p.exprs() for s in e.src}) for p in changed.phases] == [0, 1, 0]


def test_what_has_no_row_of_its_own_is_computed_again():
    """In place there is nowhere to keep long rows; a result of another type has no room; one phase needs nothing kept."""
    in_place = text.parse_kernel(SOFTMAX.format(t="float32", params="inout float32, in float32").replace("p1[", "p0["))
    narrow = st.compile(lambda x: x.softmax(-1)).lower(st.zeros(8, 33, dtype=st.float16)).kernels[0]
    log = st.compile(lambda x: x.log_softmax(-1)).lower(st.zeros(8, 33)).kernels[0]
    for kernel in (in_place, narrow, log):
        assert stash.stash(kernel)[1] == []


def test_long_rows_through_the_whole_system():
    x = np.random.default_rng(0).standard_normal((40, 20001)).astype("f")
    y = st.tensor(x).softmax(-1).numpy()
    assert target.host() is llvm.HOST
    e = np.exp(x.astype("d") - x.max(1, keepdims=True))
    np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=2e-6)
