"""How far apart, or how much alike, pairs of vectors are: settings once, then called with two tensors.

>>> import spiraltorch as st
>>> st.nn.PairwiseDistance(p=1, eps=0)(st.tensor([[0.0, 3.0]]), st.tensor([[4.0, 0.0]]))
tensor([7.])
"""

from __future__ import annotations

from ...tensor import Tensor
from .. import functional as F
from .module import Module


class PairwiseDistance(Module):
    """The ``p``-norm of ``x1 - x2 + eps`` over the last axis of (N, D) or (D) (torch.nn.PairwiseDistance)."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)  # type: ignore[attr-defined, no-any-return]


class CosineSimilarity(Module):
    """The cosine of the angle between vectors along ``dim`` (torch.nn.CosineSimilarity)."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)  # type: ignore[attr-defined, no-any-return]
