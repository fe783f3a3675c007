"""Gradient clipping and parameter vectors, beside torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pairs import close, ours

import spiraltorch as st

GRADS = [
    torch.randn(3, 4, generator=torch.Generator().manual_seed(1)),
    torch.randn(5, generator=torch.Generator().manual_seed(2)) * 3,
]


def models() -> tuple[list[Any], list[Any]]:
    theirs = [torch.nn.Parameter(torch.zeros_like(g)) for g in GRADS] + [torch.nn.Parameter(torch.zeros(2))]
    mine = [st.nn.Parameter(st.zeros(*g.shape)) for g in GRADS] + [st.nn.Parameter(st.zeros(2))]
    for p, q, g in zip(theirs, mine, GRADS):
        p.grad, q.grad = g.clone(), ours(g)
    return mine, theirs


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
@pytest.mark.parametrize("max_norm", [1.0, 100.0])
def test_clip_grad_norm(norm_type: float, max_norm: float) -> None:
    mine, theirs = models()
    wanted = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    got = st.nn.utils.clip_grad_norm_(mine, max_norm, norm_type)
    close(got, wanted)
    for p, q in zip(theirs[:2], mine):
        close(q.grad, p.grad)
    assert mine[2].grad is None


def test_clip_one_parameter_and_nothing() -> None:
    mine, theirs = models()
    close(st.nn.utils.clip_grad_norm_(mine[0], 0.5), torch.nn.utils.clip_grad_norm_(theirs[0], 0.5))
    close(mine[0].grad, theirs[0].grad)
    assert st.nn.utils.clip_grad_norm_([mine[2]], 1.0).item() == 0.0


def test_clip_grad_value() -> None:
    mine, theirs = models()
    torch.nn.utils.clip_grad_value_(theirs, 0.5)
    st.nn.utils.clip_grad_value_(mine, 0.5)
    for p, q in zip(theirs[:2], mine):
        close(q.grad, p.grad)


def test_nonfinite_norm_is_an_error_when_asked() -> None:
    p = st.nn.Parameter(st.zeros(2))
    p.grad = st.tensor([float("inf"), 1.0])
    with pytest.raises(RuntimeError, match="non-finite"):
        st.nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert st.nn.utils.get_total_norm([p.grad]).item() == float("inf")


def test_vectors() -> None:
    m = st.nn.Linear(3, 2)
    v = st.nn.utils.parameters_to_vector(m.parameters())
    assert v.shape == (8,) and v.requires_grad
    st.nn.utils.vector_to_parameters(st.arange(8.0), m.parameters())
    assert m.weight.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] and m.bias.tolist() == [6.0, 7.0]
    with pytest.raises(TypeError, match="expected Tensor"):
        st.nn.utils.vector_to_parameters([1.0], m.parameters())  # type: ignore[arg-type]
