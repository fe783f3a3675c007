"""ctc_loss against torch: forms of targets and lengths, reductions, targets that do not fit, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pairs import close, ours

import spiraltorch as st

F, TF = st.nn.functional, torch.nn.functional
GEN = torch.Generator().manual_seed(3)
LOGS = torch.randn(6, 3, 5, generator=GEN).log_softmax(-1)
LABELS = torch.tensor([[1, 2, 2], [3, 1, -1], [4, -1, -1]])
SPANS, SIZES = (6, 5, 4), (3, 2, 1)


def both(call: Any, logs: torch.Tensor = LOGS) -> None:
    a, b = logs.clone().requires_grad_(), ours(logs).requires_grad_()
    want, got = call(torch, TF, a), call(st, F, b)
    close(got, want, 1e-4, 1e-5)
    want.sum().backward()
    got.sum().backward()
    close(b.grad, a.grad, 1e-4, 1e-5)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_forms(reduction: str) -> None:
    both(lambda m, f, x: f.ctc_loss(x, m.tensor(LABELS.tolist()), SPANS, SIZES, 0, reduction))
    both(lambda m, f, x: f.ctc_loss(x, m.tensor(LABELS.tolist()), m.tensor(SPANS), m.tensor(SIZES), reduction=reduction))
    both(lambda m, f, x: f.ctc_loss(x, m.tensor([1, 2, 2, 3, 1, 4]), SPANS, SIZES, reduction=reduction))
    both(lambda m, f, x: f.ctc_loss(x[:, 0], m.tensor([1, 2]), m.tensor(6), m.tensor(2), reduction=reduction))
    both(lambda m, f, x: f.ctc_loss(x, m.tensor([0, 3, 2]), SPANS, (1, 1, 1), 4, reduction), LOGS.double())


def test_targets_that_do_not_fit() -> None:
    spans, sizes = (2, 5, 0), (3, 0, 0)
    loss = F.ctc_loss(ours(LOGS), ours(LABELS), spans, sizes, reduction="none")
    assert loss.isinf().tolist() == [True, False, False] and float(loss[2]) == 0
    both(lambda m, f, x: f.ctc_loss(x, m.tensor(LABELS.tolist()), spans, sizes, reduction="none", zero_infinity=True))


def test_compiled() -> None:
    @st.compile
    def step(x: Any, labels: Any, spans: Any, sizes: Any) -> Any:
        return F.ctc_loss(x.log_softmax(-1), labels, spans, sizes)

    x = ours(LOGS * 2)
    given = ours(LABELS), st.tensor(SPANS), st.tensor(SIZES)
    for _ in range(2):
        close(step(x, *given), TF.ctc_loss((LOGS * 2).log_softmax(-1), LABELS, torch.tensor(SPANS), torch.tensor(SIZES)), 1e-4, 1e-5)


def test_refusals() -> None:
    x, y = ours(LOGS), ours(LABELS)
    cases: list[tuple[type[Exception], Any]] = [
        (RuntimeError, lambda: F.ctc_loss(x, y, (6, 7, 4), SIZES)), (RuntimeError, lambda: F.ctc_loss(x, y, SPANS, (4, 1, 1))),
        (RuntimeError, lambda: F.ctc_loss(x, y, SPANS, (1, 1))), (RuntimeError, lambda: F.ctc_loss(x, y, SPANS, SIZES, 5)),
        (RuntimeError, lambda: F.ctc_loss(x, y, st.tensor([6.0, 5, 4]), SIZES)), (ValueError, lambda: F.ctc_loss(x, y, SPANS, SIZES, reduction="all")),
        (NotImplementedError, lambda: F.ctc_loss(x.half(), y, SPANS, SIZES)), (RuntimeError, lambda: F.ctc_loss(x, y + 3, SPANS, SIZES)),
        (RuntimeError, lambda: F.ctc_loss(x[:, :0], y[:0], (), ())), (RuntimeError, lambda: F.ctc_loss(x, y.reshape(-1)[:5], SPANS, SIZES)),
    ]  # fmt: skip
    for error, call in cases:
        with pytest.raises(error):
            call().item()
