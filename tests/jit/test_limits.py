"""The limits of the pending queue do not reach into a trace."""

from __future__ import annotations

from typing import Any

import pytest

import spiraltorch as st
from spiraltorch.config import config


@pytest.mark.parametrize(("name", "limit"), [("queue_nodes", 0), ("queue_bytes", 8)])
def test_compiling_with_a_full_queue(name: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    w = st.ones(3, requires_grad=True)

    @st.compile
    def forward(x: Any) -> Any:
        return (x * w).exp()

    @st.compile
    def count(x: Any) -> Any:
        x.add_(1)
        return x * 2

    monkeypatch.setattr(config, name, limit)
    total = st.zeros(3)
    for k in range(1, 4):
        y = forward(st.full((3,), float(k)))
        y.sum().backward()
        assert y.tolist() == (st.full((3,), float(k))).exp().tolist()
        assert count(total).tolist() == [2.0 * k] * 3 and total.tolist() == [float(k)] * 3
    assert forward.compilations == count.compilations == 1
