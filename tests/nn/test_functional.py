"""Functions of nn.functional that are written out, and that every name torch users reach for is there."""

from __future__ import annotations

import pytest
import torch
from pairs import close, ours

import spiraltorch as st

F, TF = st.nn.functional, torch.nn.functional
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
Y = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))


def test_names() -> None:
    for name in (
        "linear conv1d conv2d max_pool2d avg_pool2d adaptive_avg_pool2d batch_norm layer_norm group_norm rms_norm embedding one_hot "
        "dropout relu relu_ gelu silu softmax log_softmax softplus cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss "
        "binary_cross_entropy binary_cross_entropy_with_logits kl_div pad normalize cosine_similarity tanh sigmoid"
    ).split():
        assert callable(getattr(F, name)), name


@pytest.mark.parametrize("name", ["softmin", "tanhshrink", "normalize", "glu"])
def test_unary(name: str) -> None:
    args = (1,) if name == "softmin" else ()
    a, b = X.clone().requires_grad_(), ours(X).requires_grad_()
    wanted, got = getattr(TF, name)(a, *args), getattr(F, name)(b, *args)
    close(got, wanted)
    wanted.square().sum().backward()
    got.square().sum().backward()
    close(b.grad, a.grad, 1e-4, 1e-5)


@pytest.mark.parametrize("name", ["cosine_similarity", "pairwise_distance"])
def test_distances(name: str) -> None:
    a, b = X.clone().requires_grad_(), ours(X).requires_grad_()
    wanted, got = getattr(TF, name)(a, Y), getattr(F, name)(b, ours(Y))
    close(got, wanted)
    wanted.sum().backward()
    got.sum().backward()
    close(b.grad, a.grad)


def test_inplace_flag() -> None:
    for call in (
        lambda m, x: m.relu(x, True),
        lambda m, x: m.relu(x, inplace=True),
        lambda m, x: m.relu_(x),
        lambda m, x: m.relu(input=x, inplace=True),
        lambda m, x: m.leaky_relu(x, 0.3, True),
        lambda m, x: m.elu(x, inplace=True),
        lambda m, x: m.hardtanh(x, -0.1, 0.2, True),
    ):
        a, b = X.clone(), ours(X)
        assert call(F, b) is b
        close(b, call(TF, a))
    x = ours(X)
    assert F.relu(x, False) is not x and F.silu(x).shape == (4, 6)


def test_glu_refuses_odd() -> None:
    with pytest.raises(RuntimeError, match="must be even"):
        F.glu(st.ones(2, 3))


def test_dropout() -> None:
    x = st.ones(100, 100)
    assert F.dropout(x, 0.5, training=False) is x
    assert not F.dropout(x, 1.0).any().item()
    st.manual_seed(0)
    a = F.dropout(x, 0.5)
    st.manual_seed(0)
    b = x.clone()
    assert F.dropout(b, 0.5, inplace=True) is b and (a == b).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        F.dropout(x, -0.1)
    c = x.clone()
    assert F.dropout2d(c.reshape(100, 10, 5, 2), 0.5, inplace=True).shape == (100, 10, 5, 2) and not (c == 1).any()


def test_batch_norm_writes_running_figures() -> None:
    mean, var = torch.zeros(6), torch.ones(6)
    m, v = ours(mean), ours(var)
    close(F.batch_norm(ours(X), m, v, training=True), TF.batch_norm(X, mean, var, training=True))
    close(m, mean)
    close(v, var)
    close(F.batch_norm(ours(X), m, v), TF.batch_norm(X, mean, var))
    close(F.batch_norm(ours(X), None, None, training=True), TF.batch_norm(X, None, None, training=True))
    with pytest.raises(RuntimeError, match="running_mean"):
        F.batch_norm(ours(X), None, None)
