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


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_gradient_of_indexing_is_summed_in_floats(name: str) -> None:
    """16-bit rows that are taken several times: bits of halves were once added as integers."""
    at = torch.tensor([0, 2, 0, 0])
    a = X.to(getattr(torch, name)).requires_grad_()
    b = ours(X).to(getattr(st, name)).detach().requires_grad_()
    a[at].sum().backward()
    b[ours(at)].sum().backward()
    close(b.grad.float(), a.grad.float())


def test_older_loss_flags() -> None:
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "soft_margin_loss"):
        a, b = getattr(TF, name), getattr(F, name)
        close(b(ours(X), ours(Y), None, None, "sum"), a(X, Y, None, None, "sum"))
        with pytest.warns(UserWarning, match="please use reduction='none'"):
            close(b(ours(X), ours(Y), reduce=False), a(X, Y, reduction="none"))


def test_unpool_undoes_pool() -> None:
    x = X.reshape(1, 4, 6)
    values, at = F.max_pool2d_with_indices(ours(x), 2)
    wanted = TF.max_unpool2d(*TF.max_pool2d_with_indices(x, 2), 2)
    close(F.max_unpool2d(values, at, 2), wanted)


def test_random_activations() -> None:
    x = ours(X)
    soft = F.gumbel_softmax(x, tau=0.5)
    close(soft.sum(-1), torch.ones(4))
    hard = F.gumbel_softmax(x, hard=True)
    assert ((hard > 0.5).sum(-1) == 1).all()
    drawn, low, high = F.rrelu(x, 0.1, 0.3, training=True), F.leaky_relu(x, 0.1), F.leaky_relu(x, 0.3)
    assert ((drawn <= low) & (drawn >= high)).all()
    close(F.rrelu(x), TF.rrelu(X))
    with pytest.raises(RuntimeError, match="Lower bound"):
        F.rrelu(x, 0.5, 0.1, training=True)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = st.randn(200, 500)
    y = F.alpha_dropout(x, 0.3, training=True)
    assert abs(y.mean().item()) < 0.02 and abs(y.std().item() - 1) < 0.02
    z = F.feature_alpha_dropout(st.ones(40, 50, 3), 0.5, training=True)
    assert (z == z[:, :, :1]).all()


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_put_adds_halves(name: str) -> None:
    x, v, at = X.to(getattr(torch, name)), Y[0, :3].to(getattr(torch, name)), torch.tensor([1, 4, 1])
    got = ours(X).to(getattr(st, name)).put(ours(at), ours(Y[0, :3]).to(getattr(st, name)), True)
    close(got.float(), x.put(at, v, True).float(), 1e-2, 1e-2)


@pytest.mark.parametrize("own", [True, False])
def test_instance_norm_moves_running_figures(own: bool) -> None:
    x = X.reshape(2, 3, 4)
    mean, var = torch.zeros(3), torch.ones(3)
    a, b = ours(mean), ours(var)
    wanted, got = TF.instance_norm(x, mean, var, None, None, own, 0.3), F.instance_norm(ours(x), a, b, None, None, own, 0.3)
    for g, w in ((got, wanted), (a, mean), (b, var)):
        close(g, w)
    with pytest.raises(RuntimeError):
        F.instance_norm(ours(x), use_input_stats=False)
    with pytest.raises(ValueError):
        F.instance_norm(ours(x[:, :, :1]))
