"""Every layer against torch's: repr, state dict, outputs and gradients, in training and evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pairs import close, compare_run, ours, pair

import spiraltorch as st


def floats(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def layer(name: str, *args: Any, x: torch.Tensor, **kwargs: Any) -> Any:
    text = ", ".join([*map(str, args), *[f"{k}={v}" for k, v in kwargs.items()]])
    return pytest.param(name, args, kwargs, x, id=f"{name}({text})")


INDICES = torch.tensor([[1, 0, 3], [4, 4, 2]])

LAYERS = [
    layer("Linear", 5, 3, x=floats(4, 5)),
    layer("Linear", 5, 3, bias=False, x=floats(2, 4, 5)),
    layer("Identity", 54, unused=1, x=floats(3)),
    layer("Conv1d", 4, 6, 3, x=floats(2, 4, 9)),
    layer("Conv1d", 4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False, x=floats(2, 4, 11)),
    layer("Conv2d", 3, 4, 3, x=floats(2, 3, 6, 7)),
    layer("Conv2d", 3, 4, (3, 2), stride=(2, 1), padding=(1, 0), x=floats(2, 3, 6, 7)),
    layer("Conv2d", 4, 8, 3, padding="same", groups=4, x=floats(2, 4, 5, 5)),
    layer("Conv2d", 3, 4, 3, padding=1, padding_mode="reflect", x=floats(2, 3, 6, 7)),
    layer("Conv2d", 3, 4, 3, padding="same", padding_mode="replicate", x=floats(2, 3, 6, 7)),
    layer("MaxPool2d", 2, x=floats(2, 3, 6, 6)),
    layer("MaxPool2d", 3, stride=2, padding=1, x=floats(2, 3, 7, 7)),
    layer("AvgPool2d", 2, x=floats(2, 3, 6, 6)),
    layer("AvgPool2d", 3, stride=2, padding=1, count_include_pad=False, x=floats(2, 3, 7, 7)),
    layer("AdaptiveAvgPool2d", 1, x=floats(2, 3, 6, 6)),
    layer("AdaptiveAvgPool2d", (3, 2), x=floats(2, 3, 7, 6)),
    layer("BatchNorm1d", 4, x=floats(6, 4)),
    layer("BatchNorm1d", 4, affine=False, x=floats(6, 4, 3)),
    layer("BatchNorm1d", 4, momentum=None, x=floats(6, 4)),
    layer("BatchNorm1d", 4, track_running_stats=False, x=floats(6, 4)),
    layer("BatchNorm1d", 4, bias=False, x=floats(6, 4)),
    layer("BatchNorm2d", 3, eps=1e-3, momentum=0.3, x=floats(2, 3, 4, 4)),
    layer("LayerNorm", 6, x=floats(2, 3, 6)),
    layer("LayerNorm", (3, 6), bias=False, x=floats(2, 3, 6)),
    layer("LayerNorm", 6, elementwise_affine=False, eps=1e-2, x=floats(2, 3, 6)),
    layer("GroupNorm", 2, 6, x=floats(2, 6, 5)),
    layer("GroupNorm", 3, 6, affine=False, x=floats(2, 6, 5, 2)),
    layer("RMSNorm", 6, x=floats(2, 3, 6)),
    layer("RMSNorm", (3, 6), eps=1e-3, elementwise_affine=False, x=floats(2, 3, 6)),
    layer("Embedding", 6, 3, x=INDICES),
    layer("Embedding", 6, 3, padding_idx=-2, x=INDICES),
    layer("Flatten", x=floats(2, 3, 4)),
    layer("Flatten", 0, 1, x=floats(2, 3, 4)),
    layer("Unflatten", 1, (2, 3), x=floats(4, 6)),
    layer("Unflatten", -1, (3, -1), x=floats(4, 6)),
    layer("ReLU", x=floats(3, 4)),
    layer("ReLU6", x=floats(3, 4) * 4),
    layer("LeakyReLU", 0.2, x=floats(3, 4)),
    layer("ELU", 0.7, x=floats(3, 4)),
    layer("GELU", x=floats(3, 4)),
    layer("GELU", approximate="tanh", x=floats(3, 4)),
    layer("SiLU", x=floats(3, 4)),
    layer("Tanh", x=floats(3, 4)),
    layer("Sigmoid", x=floats(3, 4)),
    layer("Softplus", 2.0, 1.0, x=floats(3, 4)),
    layer("Hardtanh", -0.5, 0.8, x=floats(3, 4)),
    layer("Mish", x=floats(3, 4)),
    layer("Softmax", dim=1, x=floats(3, 4)),
    layer("Softmin", dim=0, x=floats(3, 4)),
    layer("LogSoftmax", dim=-1, x=floats(3, 4)),
    layer("Hardswish", x=floats(3, 4) * 3),
    layer("Hardsigmoid", x=floats(3, 4) * 3),
    layer("Softsign", x=floats(3, 4)),
    layer("LogSigmoid", x=floats(3, 4)),
    layer("Tanhshrink", x=floats(3, 4)),
    layer("GLU", 1, x=floats(3, 4)),
    layer("PReLU", x=floats(3, 4)),
    layer("PReLU", 4, init=0.1, x=floats(3, 4, 2)),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "x"), LAYERS)
def test_layer(name: str, args: Any, kwargs: Any, x: torch.Tensor) -> None:
    mine, other = pair(name, *args, **kwargs)
    assert repr(mine) == repr(other)
    assert list(mine.state_dict()) == list(other.state_dict())
    for training in (True, False):
        mine.train(training), other.train(training)
        mine.zero_grad(), other.zero_grad()
        compare_run(mine, other, x)


@pytest.mark.parametrize(
    "name", ["ReLU", "ReLU6", "LeakyReLU", "ELU", "SiLU", "Mish", "Hardtanh", "Hardswish", "Hardsigmoid"]
)
def test_inplace_activation_writes_its_argument(name: str) -> None:
    x = floats(3, 4)
    mine, other = getattr(st.nn, name)(inplace=True), getattr(torch.nn, name)(inplace=True)
    assert repr(mine) == repr(other)
    y = ours(x)
    out = mine(y)
    assert out is y
    close(y, other(x.clone()))
    leaf = ours(x).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf Variable"):
        mine(leaf)
    a, b = x.clone().requires_grad_(), ours(x).requires_grad_()
    other(a * 2).sum().backward()
    mine(b * 2).sum().backward()
    close(b.grad, a.grad)


def test_dropout_in_training_and_evaluation() -> None:
    st.manual_seed(3)
    m = st.nn.Dropout(0.25)
    assert repr(m) == repr(torch.nn.Dropout(0.25))
    x = st.ones(200, 100, requires_grad=True)
    y = m(x)
    kept = y.detach().numpy() != 0
    assert abs(kept.mean() - 0.75) < 0.01
    assert set(y.detach().numpy().reshape(-1).tolist()) <= {0.0, float(st.tensor(1 / 0.75))}
    y.sum().backward()
    assert (x.grad.numpy() == y.detach().numpy()).all()
    assert not (m(x).detach() == y.detach()).all()
    st.manual_seed(3)
    assert (m(x).detach() == y.detach()).all()
    assert m.eval()(x) is x
    with pytest.raises(ValueError, match="between 0 and 1"):
        st.nn.Dropout(1.5)


def test_compiled_dropout_draws_what_eager_draws() -> None:
    m = st.nn.Dropout(0.5)
    x = st.ones(6, 5)
    compiled = st.compile(lambda x: m(x) + m(x))
    st.manual_seed(7)
    wanted = [(m(x) + m(x)).tolist() for _ in range(3)]
    st.manual_seed(7)
    assert [compiled(x).tolist() for _ in range(3)] == wanted and wanted[0] != wanted[1]


def test_channel_dropout_drops_whole_channels() -> None:
    for m, x, rank in ((st.nn.Dropout1d(0.5), st.ones(8, 50, 7), 1), (st.nn.Dropout2d(0.5), st.ones(8, 50, 3, 4), 2)):
        y = m(x).numpy().reshape(400, -1)
        assert ((y == 0).all(1) | (y == 2).all(1)).all(), rank
        assert 100 < (y[:, 0] == 0).sum() < 300


def test_batch_norm_runs_over_several_batches_and_counts_them() -> None:
    for momentum in (0.1, None):
        mine, other = pair("BatchNorm1d", 3, momentum=momentum)
        for k in range(4):
            compare_run(mine, other, floats(5, 3) * (k + 1) + k)
            mine.zero_grad(), other.zero_grad()
        assert mine.num_batches_tracked.item() == 4
        mine.eval(), other.eval()
        compare_run(mine, other, floats(5, 3))
        mine.reset_running_stats()
        assert mine.num_batches_tracked.item() == 0 and mine.running_var.tolist() == [1.0, 1.0, 1.0]


def test_batch_norm_refuses() -> None:
    with pytest.raises(ValueError, match="expected 4D input"):
        st.nn.BatchNorm2d(3)(st.ones(2, 3))
    with pytest.raises(ValueError, match="expected 2D or 3D input"):
        st.nn.BatchNorm1d(3)(st.ones(2, 3, 4, 4))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        st.nn.BatchNorm1d(3)(st.ones(1, 3))


def test_embedding_padding_and_pretrained() -> None:
    m = st.nn.Embedding(4, 3, padding_idx=1)
    assert m.weight.detach()[1].tolist() == [0.0, 0.0, 0.0]
    m(st.tensor([1, 2, 2])).sum().backward()
    assert m.weight.grad.tolist() == [[0.0] * 3, [0.0] * 3, [2.0] * 3, [0.0] * 3]
    table = st.arange(6.0).reshape(3, 2)
    frozen = st.nn.Embedding.from_pretrained(table)
    assert not frozen.weight.requires_grad and frozen(st.tensor([2])).tolist() == [[4.0, 5.0]]
    with pytest.raises(AssertionError, match="Padding_idx"):
        st.nn.Embedding(4, 3, padding_idx=4)


def test_default_initial_values_have_torchs_ranges() -> None:
    st.manual_seed(0)
    for mine, other in (
        (st.nn.Linear(50, 400), torch.nn.Linear(50, 400)),
        (st.nn.Conv2d(8, 64, 3), torch.nn.Conv2d(8, 64, 3)),
        (st.nn.Conv1d(16, 64, 5, groups=2), torch.nn.Conv1d(16, 64, 5, groups=2)),
        (st.nn.Embedding(100, 50), torch.nn.Embedding(100, 50)),
    ):
        for (n, p), (m, q) in zip(other.named_parameters(), mine.named_parameters()):
            assert n == m
            a, b = p.detach().numpy(), q.detach().numpy()
            assert abs(a.std() - b.std()) < 0.2 * a.std()
            if n != "weight" or a.min() > -1:
                assert abs(a.max() - b.max()) < 0.25 * abs(a.max()) and abs(a.min() - b.min()) < 0.25 * abs(a.min())


def test_layers_take_dtype() -> None:
    for m in (
        st.nn.Linear(2, 3, dtype=st.float64),
        st.nn.BatchNorm1d(3, dtype=st.float64),
        st.nn.LayerNorm(3, dtype=st.float64),
    ):
        assert all(p.dtype is st.float64 for p in m.parameters())
    assert st.nn.Linear(2, 3, dtype=st.bfloat16)(st.ones(1, 2, dtype=st.bfloat16)).dtype is st.bfloat16


def test_conv_refuses_bad_settings() -> None:
    with pytest.raises(ValueError, match="in_channels must be divisible"):
        st.nn.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ValueError, match="padding='same' is not supported for strided"):
        st.nn.Conv2d(3, 4, 3, stride=2, padding="same")
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        st.nn.Conv2d(3, 4, 3, padding_mode="wrong")
    with pytest.raises(ValueError, match="must be divisible by num_groups"):
        st.nn.GroupNorm(4, 6)
