"""Every loss module against torch's: outputs and gradients for each reduction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pairs import close, ours

import spiraltorch as st

G = torch.Generator().manual_seed(2)
X, Y = torch.randn(6, 5, generator=G), torch.randn(6, 5, generator=G)
P, Q = torch.rand(6, 5, generator=G) * 0.9 + 0.05, torch.rand(6, 5, generator=G)
CLASSES = torch.tensor([0, 4, 2, 2, 1, 3])
IMAGE, LABELS = torch.randn(2, 4, 3, generator=G), torch.tensor([[0, 3, 1], [2, 2, 0]])
W, WIDE = torch.rand(5, generator=G) + 0.5, torch.rand(6, 5, generator=G)

LOSSES = [
    ("MSELoss", {}, X, Y), ("L1Loss", {}, X, Y), ("SmoothL1Loss", {"beta": 0.5}, X, Y), ("HuberLoss", {"delta": 0.7}, X, Y),
    ("KLDivLoss", {}, X, Q), ("KLDivLoss", {"log_target": True}, X, Y),
    ("BCELoss", {}, P, Q), ("BCELoss", {"weight": WIDE}, P, Q),
    ("BCEWithLogitsLoss", {}, X, Q), ("BCEWithLogitsLoss", {"weight": WIDE, "pos_weight": W}, X, Q),
    ("NLLLoss", {}, X, CLASSES), ("NLLLoss", {"weight": W, "ignore_index": 2}, X, CLASSES),
    ("CrossEntropyLoss", {}, X, CLASSES), ("CrossEntropyLoss", {"weight": W, "label_smoothing": 0.1}, X, CLASSES),
    ("CrossEntropyLoss", {"ignore_index": 2}, IMAGE, LABELS), ("CrossEntropyLoss", {"label_smoothing": 0.2}, X, Q),
]  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "batchmean"])
@pytest.mark.parametrize(("name", "options", "x", "y"), LOSSES)
def test_loss(name: str, options: dict[str, Any], x: torch.Tensor, y: torch.Tensor, reduction: str) -> None:
    if reduction == "batchmean" and name != "KLDivLoss":
        with pytest.raises(ValueError, match="not a valid value for reduction"):
            getattr(st.nn, name)(reduction=reduction)(ours(x), ours(y))
        return
    mine = getattr(st.nn, name)(
        **{k: ours(v) if isinstance(v, torch.Tensor) else v for k, v in options.items()}, reduction=reduction
    )
    other = getattr(torch.nn, name)(**options, reduction=reduction)
    assert repr(mine) == repr(other)
    assert list(mine.state_dict()) == list(other.state_dict())
    a, b = x.clone().requires_grad_(), ours(x).requires_grad_()
    wanted, got = other(a, y), mine(b, ours(y))
    close(got, wanted)
    seed = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(1))
    wanted.backward(seed)
    got.backward(ours(seed))
    close(b.grad, a.grad)


def test_older_flags_mean_a_reduction() -> None:
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert st.nn.MSELoss(size_average=False).reduction == "sum"
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert st.nn.MSELoss(reduce=False).reduction == "none"
