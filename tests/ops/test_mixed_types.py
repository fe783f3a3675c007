"""Losses, norms and products of tensors of different types: promoted, settled or refused as torch does; and arguments that
torch warns of or refuses.  Once some of these were kernels that could not be compiled."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import spiraltorch as st
from tests.test_parity import C, array, both, close, gradients, ours_like, torch_like

VALUES = """
F.binary_cross_entropy_with_logits(t(3, 4), t(3, 4).detach(), weight=t(4, dtype='float64').detach())
F.binary_cross_entropy_with_logits(t(3, 4, dtype='float64'), t(3, 4).detach(), pos_weight=t(4, dtype='float64').detach())
F.binary_cross_entropy_with_logits(t(3, 4, dtype='bfloat16'), t(3, 4).detach())
F.binary_cross_entropy(t(3, 4).sigmoid(), t(3, 4).sigmoid(), t(4, dtype='int64').abs(), reduction='none')
F.binary_cross_entropy(t(3, 4).sigmoid(), t(3, 4).sigmoid(), t(4, dtype='bfloat16').detach())
F.multilabel_soft_margin_loss(t(3, 4), t(3, 4).detach(), t(4, dtype='float64').detach())
F.multilabel_soft_margin_loss(t(3), t(2, 3).detach(), reduction='none')
F.cross_entropy(t(3, 4, dtype='float64'), t(3, 4).softmax(1), t(4).detach(), label_smoothing=0.1)
F.cross_entropy(t(3, 4), t(3, 4, dtype='float64').softmax(1))
F.cross_entropy(t(3, 4, dtype='bfloat16'), t(3, 4).softmax(1), reduction='none')
F.cross_entropy(t(3, 4), L.tensor([0, 3, 1]), label_smoothing=-0.5)
F.huber_loss(t(3, dtype='float16').detach(), t(3).detach())
F.hinge_embedding_loss(t(3), t(3, dtype='float64').sign().detach())
F.soft_margin_loss(t(3), t(3, dtype='float64').sign().detach())
F.poisson_nll_loss(t(3, dtype='complex64'), t(3, dtype='complex64'))
F.kl_div(t(4), t(3, 4).sigmoid(), reduction='batchmean')
F.nll_loss(t(5).detach(), L.tensor([2]))
F.layer_norm(t(2, 4, dtype='bfloat16').detach(), (4,), t(4).detach(), t(4).detach())
F.instance_norm(t(2, 4, 3), L.zeros(4, dtype=L.float64), L.ones(4, dtype=L.float64))
F.lp_pool2d(t(1, 2, 4, 4), inf, 2)
L.einsum('i,j->ij', t(2), t(3, dtype='float64'))
L.einsum('i,j->ij', t(2) > 0, t(3) > 0)
L.einsum('ij,jk->ik', t(3, 1), t(1, 3, dtype='float64'))
L.einsum(t(2, 3), [0, 1], t(3, 4), [1, 2], [0, 2])
L.einsum(t(2, 3), [27, 1], t(3, 4), [1, 0])
L.einsum(t(2, 3), [..., 1], [1, ...])
L.bucketize(t(5).detach(), L.tensor([-1.0, 0.0, 1.0], dtype=L.float64))
L.searchsorted(L.tensor([1, 2, 3]), t(5).detach())
L.vander(t(3, dtype='complex64').detach())
L.linalg.eigvals(L.diag(v(3, 2, 1))).real
L.linalg.eig(L.diag(v(3, 2, 1)))[1].abs()
L.linalg.vector_norm(t(3, dtype='bfloat16'), dtype=L.float64)
""".strip().splitlines()

REFUSALS = """
F.binary_cross_entropy_with_logits(t(3, 4), t(3, 4).detach(), pos_weight=t(2, 3, 4).detach())
F.binary_cross_entropy(t(3, 4).sigmoid(), t(3, 4).sigmoid(), t(2, 3, 4).detach())
F.binary_cross_entropy(t(3).sigmoid(), t(3, dtype='float64').sigmoid())
F.binary_cross_entropy(t(3).sigmoid(), t(3).sigmoid(), t(3)).backward()
F.multilabel_soft_margin_loss(t(3, 4), t(3, 4) > 0)
F.cross_entropy(t(3, 4), L.tensor([0, 3, 1]), t(4, dtype='float64').detach())
F.cross_entropy(t(3, 4), t(3, 4), t(1, 4).detach())
F.cross_entropy(t(3, 4), L.tensor([0, 3, 1], dtype=L.int32))
F.nll_loss(t(1, 4, 2), L.tensor([[0, 3]], dtype=L.uint8))
F.l1_loss(t(3), t(3) > 0)
F.huber_loss(t(3, dtype='int64'), t(3))
F.soft_margin_loss(t(3), t(2, 3).detach())
F.kl_div(t(3), t(3, dtype='int64'))
F.layer_norm(t(2, 4), (4,), t(4, dtype='float64'))
F.layer_norm(t(2, 4), 4)
F.group_norm(t(2, 4, dtype='float64'), 2, t(4))
F.group_norm(t(1, 2), 2)
F.batch_norm(t(2, 4), L.zeros(4, dtype=L.float64), L.ones(4, dtype=L.float64))
F.batch_norm(t(2, 4), L.zeros(4), None, training=True)
F.scaled_dot_product_attention(t(1, 3, 4), t(1, 3, 4), t(1, 3, 4), t(3, 3), is_causal=True)
F.max_pool2d(t(1, 1, 7, 7), 3, 2, 2, 2)
F.conv2d(t(1, 1, 0, 3), t(1, 1, 1, 1), padding=1)
L.einsum('i,i->', t(3), t(3, dtype='float64'))
L.einsum(t(2, 3), [0, 52])
L.einsum('ij')
L.cross(t(2, 3), t(2, 3, dtype='float64'))
L.linalg.vector_norm(t(3), dtype=L.bfloat16)
L.linalg.vector_norm(t(3), dtype=L.complex64)
L.linalg.vector_norm(t(3, dtype='int64'), dtype=L.float32)
L.linalg.matrix_norm(t(3, 3), dtype=L.float16)
L.linalg.lstsq(t(2, 3, 3), t(3, 2))
L.linalg.solve_triangular(t(3, 3), t(3), upper=True, left=False)
""".strip().splitlines()

WARNINGS = """
F.mse_loss(t(3, 1), t(3, 4))
F.huber_loss(t(3, 1), target=t(3, 4))
F.kl_div(t(3), t(3).sigmoid())
F.grid_sample(t(1, 1, 3, 3), t(1, 2, 2, 2))
F.affine_grid(t(1, 2, 3), (1, 1, 3, 1), align_corners=True)
F.upsample_bilinear(t(1, 1, 2, 2), 4)
""".strip().splitlines()


@pytest.mark.parametrize("case", VALUES)
def test_values_types_and_gradients(case: str) -> None:
    ours, got, theirs, want = both(case)
    assert not isinstance(want, Exception), f"torch: {want}"
    assert not isinstance(got, Exception), f"{type(got).__name__}: {got}"
    for g, w in zip(got, want, strict=True):
        assert str(g.dtype).split(".")[-1] == str(w.dtype).split(".")[-1] and g.requires_grad == w.requires_grad
        close(case, array(g), array(w), 2e-2 if "16" in case else max(C.get(str(w.dtype)[6:], 1e-5), 1e-6))
    if any(w.requires_grad for w in want):
        mine, its = gradients(ours, got, st.autograd.grad, ours_like), gradients(theirs, want, torch.autograd.grad, torch_like)
        for a, b in zip(mine, its, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                close(case, a, np.asarray(b), 2e-2 if "16" in case else 1e-4)


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    _, got, _, want = both(case)
    assert isinstance(want, Exception), want
    family = next(c for c in type(want).__mro__ if c.__module__ == "builtins")
    assert isinstance(got, family) and "LLVM" not in str(got), f"{got!r} where torch raises {want!r}"


@pytest.mark.parametrize("case", WARNINGS)
def test_warnings(case: str) -> None:
    from tests.test_parity import Side

    for library in (torch, st):
        side = Side(library)
        names = {"L": library, "F": library.nn.functional, "t": side.t, "v": side.v}
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            eval(case, names)
        assert [w.category for w in seen] == [UserWarning], library
