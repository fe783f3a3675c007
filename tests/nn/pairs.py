"""A layer of this library beside torch's: same settings, same weights, same inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import spiraltorch as st


def ours(t: torch.Tensor) -> st.Tensor:
    """A copy of a torch tensor."""
    return st.tensor(t.detach().numpy())


def theirs(t: st.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.array(t.detach()._values()))


def close(got: Any, wanted: Any, rtol: float = 2e-5, atol: float = 2e-6) -> None:
    """Same structure, shapes, types and, nearly, values."""
    if isinstance(wanted, (tuple, list)):
        assert len(got) == len(wanted)
        for g, w in zip(got, wanted):
            close(g, w, rtol, atol)
        return
    assert tuple(got.shape) == tuple(wanted.shape)
    assert got.dtype.name == str(wanted.dtype).removeprefix("torch.")
    np.testing.assert_allclose(
        got.detach()._values().astype(np.float64), wanted.detach().double().numpy(), rtol=rtol, atol=atol
    )


def copy_weights(mine: st.nn.Module, other: torch.nn.Module) -> None:
    result = mine.load_state_dict({k: v.numpy() for k, v in other.state_dict().items()})
    assert result.missing_keys == [] and result.unexpected_keys == []


def pair(name: str, *args: Any, **kwargs: Any) -> tuple[st.nn.Module, torch.nn.Module]:
    """The layer in both libraries with torch's weights."""
    torch.manual_seed(0)
    other = getattr(torch.nn, name)(*args, **kwargs)
    mine = getattr(st.nn, name)(*args, **kwargs)
    copy_weights(mine, other)
    return mine, other


def compare_run(mine: st.nn.Module, other: torch.nn.Module, *inputs: torch.Tensor, tol: float = 2e-5) -> None:
    """Forward and backward with a random upstream gradient agree for floating inputs and parameters."""
    a = [t.clone().requires_grad_() if t.is_floating_point() else t for t in inputs]
    b = [ours(t).requires_grad_() if t.is_floating_point() else ours(t) for t in inputs]
    wanted, got = other(*a), mine(*b)
    close(got, wanted, tol, tol)
    if not wanted.requires_grad:
        assert not got.requires_grad
        return
    seed = torch.randn(wanted.shape, dtype=wanted.dtype, generator=torch.Generator().manual_seed(1))
    wanted.backward(seed)
    got.backward(ours(seed))
    for x, y in zip(a, b):
        if x.grad is None:
            assert y.grad is None
        else:
            close(y.grad, x.grad, tol, 10 * tol)
    for (n, p), (m, q) in zip(other.named_parameters(), mine.named_parameters()):
        assert n == m
        close(q.grad, p.grad, tol, 10 * tol)
    for (n, p), (m, q) in zip(other.named_buffers(), mine.named_buffers()):
        assert n == m
        close(q, p, tol, tol)
