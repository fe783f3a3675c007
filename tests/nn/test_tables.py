"""Embeddings, bags of them and one-hot rows against torch, with what the record's samples do not reach."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from pairs import close, ours

import spiraltorch as st

F, TF = st.nn.functional, torch.nn.functional
W = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
AT = torch.tensor([1, 2, 6, 1, 0, 5, 2, 2])


def grads(call: Any, *tensors: torch.Tensor) -> None:
    """Values and gradients of ``call(functional, *tensors)``, floats as leaves."""
    theirs = [t.clone().requires_grad_(t.is_floating_point()) for t in tensors]
    mine = [ours(t).requires_grad_(t.is_floating_point()) for t in tensors]
    want, got = call(TF, *theirs), call(F, *mine)
    close(got, want)
    (want.square().sum()).backward()
    (got.square().sum()).backward()
    for a, b in zip(mine, theirs):
        if b.grad is not None:
            close(a.grad, b.grad, 1e-4, 1e-5)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_between_offsets(mode: str) -> None:
    for offsets, closed, padding in itertools.product(([0], [0, 3, 3, 8], [0, 0, 5]), (False, True), (None, 2, -6)):
        if closed:
            offsets = [*offsets, 8]
        at = torch.tensor(offsets)
        grads(lambda f, w, i, o: f.embedding_bag(i, w, o, mode=mode, include_last_offset=closed, padding_idx=padding), W, AT, at)
    rows = AT.reshape(2, 4).int()
    grads(lambda f, w, i: f.embedding_bag(i, w, mode=mode), W, rows)
    empty = F.embedding_bag(ours(AT[:0]), ours(W), st.tensor([0, 0]), mode=mode)
    assert empty.tolist() == [[0.0] * 3] * 2


def test_bags_of_weighted_rows() -> None:
    scale = torch.arange(8.0)
    grads(lambda f, w, i, s, o: f.embedding_bag(i, w, o, mode="sum", per_sample_weights=s), W, AT, scale, torch.tensor([0, 3]))
    grads(lambda f, w, i, s: f.embedding_bag(i, w, mode="sum", per_sample_weights=s, padding_idx=1), W, AT.reshape(4, 2), scale.reshape(4, 2))


def test_gradients_by_frequency() -> None:
    grads(lambda f, w, i: f.embedding(i, w, 5, scale_grad_by_freq=True), W, AT)
    w = ours(W).requires_grad_()
    F.embedding_bag(ours(AT), w, st.tensor([0]), mode="sum", scale_grad_by_freq=True).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [[float(i in AT)] * 3 for i in range(7)]


def test_long_rows_are_shortened_in_place() -> None:
    for p in (2.0, 1.0):
        a, b = W.clone(), ours(W)
        close(F.embedding(ours(AT), b, None, 0.5, p), TF.embedding(AT, a, None, 0.5, p))
        close(b, a)
        close(F.embedding_bag(ours(AT[:1]), b, st.tensor([0]), 0.2), TF.embedding_bag(AT[:1], a, torch.tensor([0]), 0.2))
        close(b, a)
    leaf = ours(W).requires_grad_()
    F.embedding(ours(AT), leaf, max_norm=0.1).sum().backward()
    assert leaf.grad is not None


def test_refusals() -> None:
    w, i = ours(W), ours(AT)
    cases: list[tuple[type[Exception], Any]] = [
        (RuntimeError, lambda: F.embedding_bag(i, w, st.tensor([1, 3]))), (RuntimeError, lambda: F.embedding_bag(i, w, st.tensor([0, 9]))),
        (RuntimeError, lambda: F.embedding_bag(i, w, st.tensor([0, 4, 3]))), (ValueError, lambda: F.embedding_bag(i, w)),
        (RuntimeError, lambda: F.embedding_bag(i + 3, w, st.tensor([0]))), (ValueError, lambda: F.embedding_bag(i, w, st.tensor(0))),
        (ValueError, lambda: F.embedding_bag(i.reshape(2, 4), w, st.tensor([0]))), (ValueError, lambda: F.embedding_bag(i, w, mode="min")),
        (RuntimeError, lambda: F.embedding_bag(i.float(), w, st.tensor([0]))), (ValueError, lambda: F.embedding_bag(i[None, None], w)),
        (NotImplementedError, lambda: F.embedding_bag(i, w, st.tensor([0]), per_sample_weights=st.ones(8))),
        (ValueError, lambda: F.embedding_bag(i, w, st.tensor([0]), mode="sum", per_sample_weights=st.ones(7))),
        (RuntimeError, lambda: F.embedding_bag(i, w, st.tensor([0]), padding_idx=7)),
        (RuntimeError, lambda: F.one_hot(i, 6)), (RuntimeError, lambda: F.one_hot(-i)), (RuntimeError, lambda: F.one_hot(-i, 6)),
        (RuntimeError, lambda: F.one_hot(i[:0])), (RuntimeError, lambda: F.one_hot(i.int())), (RuntimeError, lambda: F.one_hot(i, 0)),
    ]  # fmt: skip
    for error, call in cases:
        with pytest.raises(error):
            call().numpy()


def test_one_hot_finds_its_classes() -> None:
    for t in (AT, AT.reshape(2, 4), AT[2]):
        close(F.one_hot(ours(t)), TF.one_hot(t))
        close(F.one_hot(ours(t), 9), TF.one_hot(t, 9))
