"""Initial values: exact ones as torch's, random ones by range and spread."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch.nn import init


@pytest.fixture(autouse=True)
def _seeded() -> None:
    st.manual_seed(11)
    torch.manual_seed(11)


def values(t: Any) -> np.ndarray:
    return np.array(t.detach()._values() if isinstance(t, st.Tensor) else t.detach().numpy(), np.float64)


@pytest.mark.parametrize(
    ("name", "shape", "args"),
    [
        ("constant_", (3, 4), (2.5,)),
        ("zeros_", (3,), ()),
        ("ones_", (3, 1), ()),
        ("eye_", (3, 5), ()),
        ("eye_", (5, 3), ()),
        ("dirac_", (4, 3, 3), ()),
        ("dirac_", (4, 2, 3, 4), (2,)),
        ("dirac_", (2, 3, 1, 2, 3), ()),
    ],
)
def test_exact(name: str, shape: tuple[int, ...], args: tuple[Any, ...]) -> None:
    t = st.full(shape, 7.0)
    assert getattr(init, name)(t, *args) is t
    assert (values(t) == values(getattr(torch.nn.init, name)(torch.full(shape, 7.0), *args))).all()


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("uniform_", {"a": -2.0, "b": 1.0}),
        ("normal_", {"mean": 3.0, "std": 0.2}),
        ("trunc_normal_", {"mean": 1.0, "std": 2.0, "a": 0.0, "b": 2.0}),
        ("xavier_uniform_", {"gain": 2.0}),
        ("xavier_normal_", {}),
        ("kaiming_uniform_", {"a": math.sqrt(5)}),
        ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}),
        ("kaiming_normal_", {"nonlinearity": "tanh"}),
    ],
)
@pytest.mark.parametrize("shape", [(200, 300), (64, 32, 3, 3)])
def test_random(name: str, kwargs: dict[str, Any], shape: tuple[int, ...]) -> None:
    p = st.nn.Parameter(st.zeros(*shape))
    assert getattr(init, name)(p, **kwargs) is p and p.requires_grad and p.grad_fn is None
    a, b = values(p), values(getattr(torch.nn.init, name)(torch.empty(*shape), **kwargs))
    assert abs(a.mean() - b.mean()) < 0.02 * b.std() + 1e-3
    assert abs(a.std() - b.std()) < 0.02 * b.std()
    if "uniform" in name or "trunc" in name:
        assert abs(a.min() - b.min()) < 0.01 * b.std() and abs(a.max() - b.max()) < 0.01 * b.std()
    assert abs(np.mean(a**4) / np.mean(b**4) - 1) < 0.15


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 2, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    m = values(init.orthogonal_(st.empty(*shape), gain=2.0)).reshape(shape[0], -1)
    product = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)


def test_generator_decides_and_seeds_repeat() -> None:
    draws = [values(init.normal_(st.empty(5), generator=st.Generator().manual_seed(s))) for s in (1, 1, 2)]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_uniform_(st.empty(3))
    with pytest.raises(ValueError, match="Mode wrong not supported"):
        init.kaiming_normal_(st.empty(3, 3), mode="wrong")
    with pytest.raises(ValueError, match="2 dimensions"):
        init.eye_(st.empty(3))
    with pytest.raises(ValueError, match="2 or more dimensions"):
        init.orthogonal_(st.empty(3))
    with pytest.raises(ValueError, match="divisible by groups"):
        init.dirac_(st.empty(3, 2, 2), groups=2)
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.calculate_gain("wrong")
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3))
