"""Compiled functions whose arguments share memory with each other or with what they capture."""

from __future__ import annotations

from typing import Any

import spiraltorch as st


def test_one_tensor_twice_and_then_two() -> None:
    @st.compile
    def f(a: Any, b: Any) -> Any:
        return a + 2 * b

    x, y = st.ones(2), st.full((2,), 5.0)
    for a, b in ((x, x), (x, y), (y, y), (y, x)):
        assert f(a, b).tolist() == (a + 2 * b).tolist()
    assert f.compilations == 2


def test_a_write_through_one_argument_is_seen_through_the_other() -> None:
    @st.compile
    def f(a: Any, b: Any) -> Any:
        a.add_(1)
        return a + b

    x, y = st.ones(2), st.full((2,), 5.0)
    assert f(x, x).tolist() == [4.0, 4.0]
    assert f(x, y).tolist() == [8.0, 8.0]
    assert f(y, y[:]).tolist() == [12.0, 12.0]


def test_an_argument_that_is_captured_too() -> None:
    w = st.ones(2)

    def product(a: Any) -> Any:
        return a + 2 * w

    other = st.full((2,), 3.0)
    for order in ((w, other, w, other), (other, w, other, w)):
        f = st.compile(product)
        for a in order:
            assert f(a).tolist() == (a + 2 * w).tolist()
        assert f.compilations == 2


def test_a_parameter_as_argument() -> None:
    m = st.nn.Linear(2, 2)
    f = st.compile(lambda a: m(a))
    for a in (m.weight, st.ones(2, 2), m.weight, st.zeros(2, 2)):
        assert f(a).tolist() == m(a).tolist()
