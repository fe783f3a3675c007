"""Functions that ``st`` has beside ``st.nn.functional``, with the order of arguments that torch's own namespace gives them,
and a few that are one line of others.

    >>> import spiraltorch as st
    >>> st.embedding(st.eye(3), st.tensor([2, 0])).tolist()  # nn.functional has the ids first
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .nn import functional as F
from .tensor import Tensor

_REDUCTIONS = ("none", "mean", "sum")


def dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """:func:`spiraltorch.nn.functional.dropout` (torch.dropout)."""
    return F.dropout(input, p, train)


def dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """:func:`dropout` written into ``input`` (torch.dropout_)."""
    return F.dropout(input, p, train, inplace=True)


def alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """:func:`spiraltorch.nn.functional.alpha_dropout` (torch.alpha_dropout)."""
    return F.alpha_dropout(input, p, train)


def feature_alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """:func:`spiraltorch.nn.functional.feature_alpha_dropout` (torch.feature_alpha_dropout)."""
    return F.feature_alpha_dropout(input, p, train)


def feature_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Whole channels of ``input`` [N, C, ...] set to 0 (torch.feature_dropout)."""
    return F._channels("dropout", input, p, train, False, input.ndim - 1)


def batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    training: bool, momentum: float, eps: float, cudnn_enabled: bool,
) -> Tensor:  # fmt: skip
    """:func:`spiraltorch.nn.functional.batch_norm` (torch.batch_norm)."""
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool,
) -> Tensor:  # fmt: skip
    """:func:`spiraltorch.nn.functional.instance_norm` (torch.instance_norm)."""
    return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Tensor:
    """Rows of ``weight`` at ``indices``; ``padding_idx`` below 0 says none (torch.embedding)."""
    return F.embedding(indices, weight, None if padding_idx < 0 else padding_idx, scale_grad_by_freq=scale_grad_by_freq)  # type: ignore[attr-defined,no-any-return]


def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = 1
) -> Tensor:
    """The loss of nn.functional; ``reduction`` 0 is none, 1 the mean, 2 the sum (torch.binary_cross_entropy_with_logits)."""
    return F.binary_cross_entropy_with_logits(  # type: ignore[attr-defined,no-any-return]
        input, target, weight, pos_weight=pos_weight, reduction=_REDUCTIONS[reduction]
    )


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 1) -> Tensor:
    """The loss of nn.functional; ``reduction`` 0 is none, 1 the mean, 2 the sum (torch.cosine_embedding_loss)."""
    return F.cosine_embedding_loss(input1, input2, target, margin, reduction=_REDUCTIONS[reduction])  # type: ignore[attr-defined,no-any-return]


def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """``input`` with ``value`` around it; ``pad`` as in nn.functional.pad (torch.constant_pad_nd)."""
    return F.pad(input, tuple(pad), "constant", value)  # type: ignore[attr-defined,no-any-return]


def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor like ``input`` with every element ``value``, a number or a tensor of one (torch.fill)."""
    return input.clone().fill_(value)  # type: ignore[no-any-return]


def frobenius_norm(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """Root of the sum of squares over the axes ``dim`` (torch.frobenius_norm)."""
    return input.norm("fro", dim, keepdim)  # type: ignore[no-any-return]


def nuclear_norm(input: Tensor, dim: Any = (-2, -1), keepdim: bool = False) -> Tensor:
    """Sum of the singular values of the matrices in the axes ``dim`` (torch.nuclear_norm)."""
    return input.norm("nuc", tuple(dim), keepdim)  # type: ignore[no-any-return]


def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The ``q`` largest singular values of ``A`` (less ``M``) and their vectors, (U [..., m, q], S [..., q], V [..., n, q]).

    They are exact: the whole decomposition is computed and cut, so ``niter`` changes nothing (torch.svd_lowrank).
    """
    from .dispatch import call
    from .ops.registry import OPS

    q = 6 if q is None else q
    if not 0 <= q <= min(A.shape[-2:]):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(A.shape[-2:])}")
    u, s, vh = call(OPS["linalg_svd"], (A if M is None else A - M, False))
    return u[..., :q], s[..., :q], vh.mH[..., :q]


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`svd_lowrank` of the rows of ``A`` less their mean: ``q`` principal components (torch.pca_lowrank)."""
    q = min(6, *A.shape[-2:]) if q is None else q
    return svd_lowrank(A - A.mean(-2, keepdim=True) if center else A, q, niter)


__all__ = [
    "alpha_dropout", "batch_norm", "binary_cross_entropy_with_logits", "constant_pad_nd", "cosine_embedding_loss", "dropout", "dropout_",
    "embedding", "feature_alpha_dropout", "feature_dropout", "fill", "frobenius_norm", "instance_norm", "nuclear_norm", "pca_lowrank",
    "svd_lowrank",
]  # fmt: skip
