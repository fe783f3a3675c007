"""Gradients of compiled functions: at every call they reach the arguments of that call, whatever those were made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st

ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "leaf": lambda a: a, "made": lambda a: a * 2, "view": lambda a: a.t(), "view of what was made": lambda a: (a * a)[:, 1:],
    "twice made": lambda a: (a.exp() + 1).t(),
}  # fmt: skip


def several(x: Any, y: Any) -> Any:
    z = (x + 1).sin() * y
    z[0] = 2.0
    return x, z, (z * z).sum()


@pytest.mark.parametrize("made", ARGUMENTS)
def test_gradients_reach_what_arguments_were_made_of(made: str) -> None:
    compiled = st.compile(several)
    for call in range(3):
        grads = []
        for m, f in ((st, compiled), (torch, several)):
            a: Any = (m.arange(6.0) + call).view(2, 3).requires_grad_()
            x = ARGUMENTS[made](a)
            same, z, total = f(x, m.ones(x.shape[-1]))
            assert same is x
            (total + z.sum() + same.sum()).backward()
            grads.append(a.grad.tolist())
        torch.testing.assert_close(torch.tensor(grads[0]), torch.tensor(grads[1]), msg=f"call {call}")


def test_one_argument_given_twice_and_beside_its_own_part() -> None:
    compiled = st.compile(lambda x, y: (x * y).sum())
    for _ in range(3):
        a = st.arange(4.0).requires_grad_()
        b = a * 3
        compiled(b, b).backward()
        assert a.grad.tolist() == [0, 18, 36, 54]
        c = st.arange(4.0).requires_grad_()
        compiled(c * 1, c).backward()
        assert c.grad.tolist() == [0, 2, 4, 6]


def test_a_compiled_block_inside_a_model_trains() -> None:
    st.manual_seed(0)
    first, last = st.nn.Linear(3, 4), st.nn.Linear(4, 1)
    block = st.compile(lambda h: (h.relu() * 2).tanh())
    data = st.randn(16, 3)
    losses = []
    optimizer = st.optim.SGD([*first.parameters(), *last.parameters()], lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss = (last(block(first(data))) - 1).pow(2).mean()
        loss.backward()
        assert first.weight.grad is not None and first.weight.grad.abs().sum().item() > 0
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_what_is_given_up_after_its_backward_was_traced_still_has_one():
    kept = []

    @st.compile
    def f(x):
        y = (x * 2).exp()
        kept.append(y)  # no result, so each call runs operation by operation
        return y.sum()

    with pytest.warns(UserWarning):
        for _ in range(2):
            x = st.ones(3, requires_grad=True)
            f(x).backward()
            assert np.allclose(x.grad.numpy(), 2 * np.exp(2.0))


def test_a_value_that_was_overwritten_whole_gets_zeros():
    def f(x, v):
        z = x * 2
        z[0] = v
        return (z * z).sum()

    for g in (f, st.compile(f)):
        x, v = st.ones(1, 3, requires_grad=True), st.ones(3, requires_grad=True)
        g(x, v).backward()
        assert x.grad.tolist() == [[0, 0, 0]] and v.grad.tolist() == [2, 2, 2]


def test_an_error_of_backward_waits_for_backward():
    a = st.rand(3, requires_grad=True)
    f = st.compile(lambda x: st.special.zeta(x + 1, st.ones(3)))
    for _ in range(2):
        y = f(a)
        assert y.requires_grad
        with pytest.raises(RuntimeError, match="not implemented"):
            y.sum().backward()


def test_leaves_made_inside_require_grad_at_every_call():
    f = st.compile(lambda: st.hann_window(4, requires_grad=True))
    assert all(f().requires_grad and f().is_leaf for _ in range(2))
