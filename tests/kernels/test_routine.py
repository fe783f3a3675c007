"""Library routines kept whole: called back from the native plan, as Numba loops, and failing."""

from __future__ import annotations

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.ir import graph
from spiraltorch.ir.text import format_graph, parse_graph
from spiraltorch.jit.program import counters
from spiraltorch.kernels.library.language import f32
from spiraltorch.kernels.library.routine import routine
from spiraltorch.tensor import from_node


class Singular(RuntimeError):
    pass


@routine("tests.reverse")
def reverse(static, a):
    (axis,) = static
    return np.flip(a, axis)


@routine("tests.reciprocal", fails=True)
def reciprocal(static, a):
    if (a == 0).any():
        raise Singular("there is a zero")
    return 1 / a


def double_loops(k):
    def loops(x, out, n, lo, hi, scratch):
        for i in range(n):
            out[i] = x[i] * 2

    return loops, [f32, f32]


@routine("tests.double", sizes=lambda n: [n.size], loops=double_loops)
def double(static, a):
    return a * 2


def call(name, x, *static):
    return from_node(graph.call(name, (x._read(),), tuple(x.shape), dtypes.float32, *static))


def test_a_routine_is_part_of_a_program():
    x = st.arange(6.0).reshape(2, 3)
    want = (np.arange(6.0, dtype=np.float32).reshape(2, 3) + 1)[:, ::-1] * 2
    assert np.array_equal((call("tests.reverse", x + 1, 1) * 2).numpy(), want)

    f = st.compile(lambda t: call("tests.reverse", t + 1, 1) * 2)
    for _ in range(3):
        assert np.array_equal(f(x).numpy(), want)


def test_native_loops_agree():
    x = st.arange(5.0)
    assert call("tests.double", x).tolist() == [0, 2, 4, 6, 8]


def test_a_new_size_makes_no_new_kernel():
    call("tests.reverse", st.arange(4.0), 0).tolist()
    before = counters["kernels"]
    call("tests.reverse", st.arange(9.0), 0).tolist()
    assert counters["kernels"] == before


def test_what_a_routine_raises_reaches_the_user_and_loses_nothing():
    good, bad = st.tensor([1.0, 2.0]), st.tensor([1.0, 0.0])
    other = good + 5
    failed = call("tests.reciprocal", bad)
    later = failed + 1
    for _ in range(2):
        with pytest.raises(Singular, match="there is a zero; the operation was recorded at .*test_routine.py"):
            later.tolist()
    assert other.tolist() == [6, 7]
    assert call("tests.reciprocal", good).tolist() == [1, 0.5]


def test_a_compiled_step_that_fails_leaves_its_inputs():
    state = st.zeros(2)

    @st.compile
    def step(x):
        state.add_(1)
        return call("tests.reciprocal", x)

    assert step(st.tensor([1.0, 2.0])).tolist() == [1, 0.5]
    with pytest.raises(Singular, match="there is a zero"):
        step(st.tensor([1.0, 0.0]))
    assert state.tolist() == [1, 1]


def test_a_call_is_printed_and_parsed():
    n = graph.call("tests.reverse", (graph.param(0, (3,), dtypes.float32),), (3,), dtypes.float32, 0)
    assert parse_graph(format_graph([n])) == [n]
