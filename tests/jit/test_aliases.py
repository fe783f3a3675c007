"""Compiled functions whose arguments share memory with each other or with what they capture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

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


ROWS: dict[str, Callable[[Any, Any], Any]] = {
    "softmax": lambda L, x: L.softmax(x, -1),
    "softmax of columns": lambda L, x: L.softmax(x, 0, dtype=L.float64),
    "layer_norm": lambda L, x: L.nn.functional.layer_norm(x, (40,)),
    "centred": lambda L, x: x - x.mean(-1, keepdim=True),
    "var": lambda L, x: x.var(-1),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_read_again_after_they_were_written_in_place(name: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(6, 40)).astype(np.float32) for _ in range(2))

    def step(L: Any, x: Any, y: Any) -> Any:
        x.add_(y)
        return x, ROWS[name](L, x)

    want = [t.numpy() for t in step(torch, torch.from_numpy(a.copy()), torch.from_numpy(b))]
    compiled = st.compile(lambda x, y: step(st, x, y))
    for run in (lambda x, y: step(st, x, y), compiled, compiled):
        for got, t in zip(run(st.tensor(a), st.tensor(b)), want):
            np.testing.assert_allclose(got.numpy(), t, rtol=1e-5, atol=1e-6)
