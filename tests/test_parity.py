"""Calls that once differed from torch: value, type, shape, gradient and refusal are torch's.

A case is an expression over ``L`` (the library), ``F`` (its nn.functional) and ``t(*shape, dtype)``, which makes a tensor
of the same numbers on both sides, or ``v(*numbers)``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import spiraltorch as st
from tests.ops.harness import close, from_torch

C = {"float32": 1e-5, "float64": 1e-9, "complex64": 1e-5, "bfloat16": 2e-2, "float16": 4e-3}


class Side:
    """One library, and the tensors that a case made with it."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.made: list[Any] = []

    def t(self, *shape: int, dtype: str = "float32", low: float = -2.0) -> Any:
        rng = np.random.default_rng(len(self.made) + 1)
        a = np.asarray(rng.uniform(low, 2, shape))
        a = a + 1j * rng.uniform(low, 2, shape) if dtype == "complex64" else a * 4 if dtype == "int64" else a
        a = a.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        numbers = torch.from_numpy(a.astype(np.float32)).bfloat16() if dtype == "bfloat16" else torch.from_numpy(a)
        x = numbers if self.library is torch else st.tensor(a)
        self.made.append(x.requires_grad_() if dtype in C else x)
        return self.made[-1]

    def v(self, *numbers: float) -> Any:
        self.made.append(self.library.tensor(numbers, dtype=self.library.float32, requires_grad=True))
        return self.made[-1]

    def run(self, case: str) -> Any:
        """The results as a list, or the error."""
        names = {"L": self.library, "F": self.library.nn.functional, "t": self.t, "v": self.v, "inf": float("inf"), "nan": float("nan")}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = eval(case, names)
                found = list(found) if isinstance(found, (tuple, list)) else [found]
                for x in found:
                    x.tolist()
            except Exception as e:
                return e
        return found


def array(x: Any) -> np.ndarray:
    return from_torch(x.detach().resolve_conj()) if isinstance(x, torch.Tensor) else np.asarray(x.numpy(force=True))


def both(case: str) -> tuple[Side, Any, Side, Any]:
    ours, theirs = Side(st), Side(torch)
    return ours, ours.run(case), theirs, theirs.run(case)


def gradients(side: Side, found: list[Any], grad: Callable[..., Any], give: Callable[..., Any]) -> list[np.ndarray | None]:
    live = [x for x in found if x.requires_grad]
    rng = np.random.default_rng(0)
    draws = [give(array(x), rng.normal(size=tuple(x.shape))) for x in live]
    leaves = [x for x in side.made if x.requires_grad]
    return [None if g is None else array(g) for g in grad(live, leaves, draws, allow_unused=True)]


def torch_like(a: np.ndarray, draw: np.ndarray) -> torch.Tensor:
    if a.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(np.asarray(draw, np.float32)).bfloat16()
    return torch.from_numpy(np.asarray(draw).astype(a.dtype))


def ours_like(a: np.ndarray, draw: np.ndarray) -> st.Tensor:
    return st.tensor(np.asarray(draw).astype(a.dtype))


VALUES = """
L.linalg.slogdet(L.tensor([[[nan, 1.0], [1, 2]], [[1, nan], [2, 3]], [[2, 1], [1, 2]], [[1, 2], [2, 1]]]))
L.remainder(v(0, 1, -1, 2.5, 3, inf, -inf, nan, 1), v(1, 0, inf, -inf, 1 / 3, 2, 3, 1, nan))
(lambda x: L.autograd.grad(L.celu(x).sum(), x))(L.full((64,), float('nan'), requires_grad=True))
(lambda x: L.autograd.grad(L.nn.functional.hardswish(x).sum(), x))(L.full((64,), float('nan'), requires_grad=True))
L.arange(0.0, -8.000001, -4.0, dtype=L.int64)
L.arange(-1.7, 2.9, dtype=L.int64)
L.linspace(4.3, 0, 11, dtype=L.int64)
L.linspace(-4.3, 4.3, 11, dtype=L.int64)
L.logspace(0.4, 2.9, 7, dtype=L.int64)
t(3, 3, 3).diff(0, 2, t(3, 3, 3), t(3, 3, 3))
t(3, 4, dtype='complex64').diff()
t(2, 3, dtype='complex64').sum_to_size(1, 3)
L.tensor(True).sum_to_size(())
L.var_mean(t(3, 4, dtype='complex64'))
L.std_mean(t(3, 4, dtype='complex64'), 1)
L.softmax(t(3, 4, dtype='complex64'), 0, dtype=L.float64)
L.log_softmax(t(3, 4, dtype='complex64'), 0, dtype=L.float64)
L.logaddexp(t(3, dtype='complex64'), t(3, dtype='complex64'))
L.logsumexp(t(3, 4, dtype='complex64'), 1)
L.sinc(t(3, dtype='complex64'))
L.nan_to_num(t(3, dtype='complex64').detach() * L.tensor([1.0, nan, inf]))
L.div(t(10, 1, 5, dtype='bfloat16'), t(10, 5, dtype='bfloat16'), rounding_mode='trunc')
L.div(t(40, 5, dtype='float16'), t(40, 5, dtype='float16'), rounding_mode='trunc')
F.conv1d(t(1, 3, 4, dtype='complex64'), t(3, 3, 3, dtype='complex64'), t(3, dtype='complex64'), 2, 2)
F.conv2d(t(1, 3, 4, 4, dtype='complex64'), t(2, 3, 3, 3, dtype='complex64'))
F.conv3d(t(1, 1, 3, 4, 4, dtype='complex64'), t(1, 1, 2, 2, 2, dtype='complex64'), padding='same')
F.conv_transpose2d(t(1, 3, 4, 4, dtype='complex64'), t(3, 2, 3, 3, dtype='complex64'), None, 2, 1)
F.pad(t(1, 3, 4, 4), (-1, 1, -2, 1), 'circular')
F.unfold(t(2, 1, 5, 5, dtype='complex64'), 2)
F.rms_norm(t(2, 3, dtype='complex64'), (3,), t(3, dtype='complex64'), 0.5)
F.soft_margin_loss(t(5, dtype='complex64').detach(), t(5, dtype='complex64').detach())
F.l1_loss(t(5, dtype='complex64'), t(5, dtype='complex64'))
F.smooth_l1_loss(t(5, dtype='complex64'), t(5, dtype='complex64'), beta=0)
F.softsign(t(5, dtype='complex64'))
F.tanhshrink(t(5, dtype='complex64'))
F.triplet_margin_loss(t(5, 4, dtype='complex64'), t(5, 4, dtype='complex64'), t(5, 4, dtype='complex64'))
F.pairwise_distance(t(5, 4, dtype='complex64'), t(5, 4, dtype='complex64'))
F.max_pool1d(t(1, 2, 6, dtype='int64'), 3, 2, return_indices=True)
L.adaptive_max_pool1d(t(1, 2, 6), 3)
L.max_pool1d_with_indices(t(1, 2, 6), 2)
F.batch_norm(t(0), t(0), t(0), training=True)
F.batch_norm(t(0, 3), L.ones(3), L.ones(3), t(3), t(3), True)
L.nextafter(t(4), L.where(t(4) > 0, t(4), t(4) + 1))
L.nextafter(v(1, 1, 1), v(1, 2, -3))
L.istft(t(10, 2, dtype='complex64'), 10)
L.istft(t(1, 10, 4, dtype='complex64'), 10, window=t(10, low=0.5), onesided=False)
L.take_along_dim(t(3, 4), L.tensor([[-1, 0, -4, 3, 4, 9, -7]]), 1)
t(3, 4).norm('nuc')
L.norm(t(2, 3, 4), 'nuc', (0, 2), True)
L.linalg.norm(t(5) * 0, 0.5)
L.linalg.norm(t(5) * 0, 3.5)
L.linalg.norm(t(5) * 0, -3.5)
t(5, low=0.5).polygamma(1)
L.scatter_reduce(t(4, 3, dtype='complex64').detach(), 0, L.tensor([[0, 1, 1]]), t(1, 3, dtype='complex64').detach(), 'mean')
t(4, 1).gather(0, L.zeros(0, 3, dtype=L.int64))
t(4, 1).detach().scatter_add(0, L.zeros(0, 3, dtype=L.int64), t(4, 1).detach())
t(4, 1).detach().scatter(0, L.zeros(0, 3, 2, dtype=L.int64), t(4, 1).detach())
t(4, 1).detach().scatter_reduce(0, L.zeros(5, 0, dtype=L.int64), t(4, 1).detach(), 'prod')
L.trapezoid(L.zeros(2, 0, dtype=L.int64), dx=0.5)
L.prod(v(nan, inf, 0, 2)[:, None], -1)
L.max(v(nan, 1, nan, 2, 3), v(1, nan, nan, 2, 1))
L.min(v(nan, 1, nan, 2, 3), v(1, nan, nan, 2, 1))
L.clamp(v(nan, 1, -1), min=0.5)
L.acosh(v(nan, inf, -inf, 2, -30, 0.5))
L.clamp(v(nan, 1, -1), max=0.5)
L.view_copy(t(2, 6).detach(), (3, 4), out=L.zeros(3, 4))
L.nonzero(L.tensor([0, 1, 2]), out=L.zeros(0, dtype=L.int64))
L.where(L.tensor([True, False]), L.ones(2), L.zeros(2), out=L.ones(2))
L.zeros(0, 3).expand(5, 0, 3).frac_()
L.trapezoid(t(2, 3, dtype='complex64'), t(2, 3, dtype='complex64'))
L.cumulative_trapezoid(t(2, 3, dtype='complex64'))
F.hardsigmoid(v(nan, 3, -3, 1))
F.elu(v(nan, inf, -1, 2))
L.embedding(t(4, 3), L.tensor([3, 0]), 0)
L.batch_norm(t(4, 3), t(3), t(3), None, None, True, 0.1, 1e-5, False)
L.instance_norm(t(2, 3, 4), t(3), t(3), None, None, True, 0.1, 1e-5, False)
L.binary_cross_entropy_with_logits(t(3), t(3).detach(), None, t(3).detach(), 2)
L.cosine_embedding_loss(t(2, 3), t(2, 3), L.tensor([1, -1]), 0.25, 0)
L.constant_pad_nd(t(2, 3), [1, 2], 0.5)
L.dropout(t(3), 0.5, False) + L.alpha_dropout(t(3), 0.5, False) + L.feature_dropout(t(3, 3), 0.5, False)
L.fill(t(2, 3), 2)
L.frobenius_norm(t(2, 3), (0, 1)) + L.nuclear_norm(t(2, 3))
L.svd_lowrank(t(5, 3).detach(), 3)[1] + L.pca_lowrank(t(5, 3).detach())[1]
L.lu_unpack(*L.linalg.lu_factor(t(3, 3)))
L.linalg.lu(t(3, 3))
F.smooth_l1_loss(v(inf, 1, -inf, 0.25, nan), v(1, inf, 2, 0, 1))
F.huber_loss(v(inf, 1, -inf, 0.25, nan), v(1, inf, 2, 0, 1))
F.lp_pool1d(v(0, 0, 0, 1, 2, 0).view(1, 1, 6), 3, 2)
F.glu(v(1, 2, -3, 4, -100, -1e4, -inf, 1))
F.prelu(v(inf, -1, 2, -3), v(inf))
L.atan2(v(0, 0, 1), v(0, 2, 0))
L.var_mean(t(2, 3), 0, correction=2)
L.var_mean(t(2, 3, dtype='float16'), 0, correction=3)
L.var(t(2, 3), 0, correction=3)
F.kl_div(v(1, 1, 1), v(-1, 1, 2), reduction='none')
F.hinge_embedding_loss(v(nan, inf, 1, 0.25), v(1, -1, 0, 0.5), reduction='none', margin=0.25)
L.unravel_index(L.tensor([-7, -1, 0, 3, 100]), (5, 2))
t(3).to('cpu', L.float32, False, True)
t(3).double(memory_format=L.preserve_format)
L.as_strided(t(12)[2:9], (2, 2), (2, 1), 1)
F.normalize(t(2, 3).detach(), out=L.zeros(2, 3))
L.as_strided(t(12)[1::2], (3,), (1,))
L.as_strided(t(12)[3:4].expand(5), (3,), (1,))
L.as_strided_copy(t(3, 4).t(), (2, 3), (1, 1), 0)
F.interpolate((L.arange(63) * 37 % 256).to(L.uint8).reshape(1, 1, 7, 9), 12, mode='bilinear')
F.interpolate((L.arange(63) * 37 % 256).to(L.uint8).reshape(1, 1, 7, 9), (16, 5), mode='bicubic', align_corners=True)
F.interpolate((L.arange(63) * 37 % 256).to(L.uint8).reshape(1, 1, 7, 9), (3, 4), mode='bicubic', antialias=True)
F.max_pool1d(v(1, nan, nan, 2, nan, 0).view(1, 1, 6), 2, 1, dilation=2, return_indices=True)
F.max_pool2d(v(1, nan, nan, 2, nan, 0, 3, nan, 2).view(1, 1, 3, 3), 2, 1)
F.max_pool3d(v(1, nan, nan, 2, nan, 0, 3, nan, 2, 1, nan, nan).view(1, 1, 3, 2, 2), 2, 1, return_indices=True)
F.adaptive_max_pool1d(v(1, nan, nan, 2, nan, 0, 2).view(1, 1, 7), 3, return_indices=True)
F.adaptive_max_pool2d(v(1, nan, nan, 2, nan, 0, 3, nan, 2).view(1, 1, 3, 3), 2, return_indices=True)
L.prod(v(inf, 0, 1, 2))
L.prod(v(inf, 0, nan, 0))
L.prod(v(inf, 0, nan, 0, 1, 2).view(2, 3))
L.prod(v(inf, inf, -inf, 0, 0, 3, nan, 0, nan, -inf, 1, -2).view(4, 3), 1)
L.prod(v(inf, 2, 1, 2, -inf, 1).view(2, 3), 1)
L.lerp(v(inf, 1, -inf, 2, 0, 0), v(1, inf, 2, -inf, inf, 3), v(inf, inf, 0, 0, 0, inf))
L.lerp(t(3, dtype='complex64'), t(2, 3, dtype='complex64'), t(3, dtype='complex64'))
L.special.zeta(v(nan, nan, inf, inf, 1, nan).detach(), v(0, -inf, -2.5, 0.5, inf, 2).detach())
L.linalg.svdvals(v(1, inf, 2, 3).view(2, 2).detach())
L.linalg.norm(L.stack([v(1, inf, 2, 3).view(2, 2), v(1, 2, 2, 3).view(2, 2)]).detach(), 'nuc', (1, 2))
L.linalg.matrix_rank(v(1, inf, 2, 3).view(2, 2).detach())
L.linalg.pinv(v(1, inf, 2, 3).view(2, 2).detach())
L.linalg.eigvalsh(v(1, nan, 2, 3).view(2, 2))
L.linalg.eigvalsh(v(1, 2, inf, 3).view(2, 2).detach())
L.linalg.matrix_rank(v(1, nan, 2, 3).view(2, 2).detach(), hermitian=True)
L.linalg.det(t(3, 0, 0, dtype='bfloat16'))
L.scatter_reduce(t(4, dtype='complex64').detach(), 0, L.tensor([0, 1, 1]), t(3, dtype='complex64').detach(), 'prod')
L.scatter(t(4, dtype='complex64').detach(), 0, L.tensor([0, 1, 1]), t(3, dtype='complex64').detach(), reduce='multiply')
L.logcumsumexp(t(2, 5, dtype='complex64'), 1)
L.logcumsumexp(L.tensor([-inf, 1, 2 + 3j, -inf]), 0)
L.nn.PairwiseDistance(1, 0.5, True)(t(3, 4), t(3, 4))
L.nn.CosineSimilarity(0)(t(3, 4), t(3, 4))
L.as_strided_scatter(t(12).detach()[2:9], t(2, 2).detach(), (2, 2), (2, 1), 1)
L.as_strided_scatter(t(3, 4).detach().t(), t(2, 2).detach(), (2, 2), (2, 1))
L.log_softmax(t(3, 4), 1, dtype=L.float16)
L.softmax(t(3, 4), 1, dtype=L.bfloat16)
F.logsigmoid(v(-200, 200, 0))
L.tensor(L.permute_copy(t(1, 2, 3, 4), (0, 2, 3, 1)).stride())
L.tensor(L.detach_copy(t(2, 3).t()).stride())
L.ormqr(t(2, 5).detach(), t(2).detach(), t(2, 3).detach())
L.ormqr(t(2, 1, 2, 5).detach(), t(2, 1, 2).detach(), t(2, 1, 2, 5).detach(), True, True)
L.gather(t(5), 0, L.zeros(0, dtype=L.uint8))
L.gather(t(5), 0, L.zeros(2, 0, dtype=L.uint8))
L.lerp(t(3, dtype='complex64'), t(3, dtype='complex64'), 0.4j)
L.lerp(t(3, dtype='complex64'), t(3, dtype='complex64'), 2 + 0.4j)
L.linalg.lstsq(t(3, 2), t(3, 2), driver='gelss')
L.special.zeta(v(2, 3).detach(), v(1, 2))
(lambda a, x: L.autograd.grad(L.igamma(a, x).sum(), x))(v(2, 3), v(1, 2))
L.zeros(1).expand(3).fill_(2)
L.zeros(1, 2).expand(3, 2)[1].add_(2)
(lambda x: x.index_fill_(0, L.tensor([0, 1, 2]), x[0]))(L.ones(3))
t(2, 3).sum(L.tensor(1))
L.cat([t(2, 3), t(2, 3)], L.tensor(1))
t(2, 3).topk(L.tensor(2))
t(2, 3).std(dim=L.tensor(0))
t(2, 3).flip(L.tensor(1))
t(2, 3).repeat(L.tensor(2), L.tensor(1))
F.pad(t(2, 3), (L.tensor(1), L.tensor(2)))
(lambda y: F.one_hot(y, y.max() + 1))(L.tensor([0, 2]))
F.interpolate(t(1, 2, 3), L.tensor(4))
t(2, 3).max(L.tensor(1))
L.tensor(9).index_add(0, L.tensor([0]), L.tensor(6))
L.tensor(9).index_reduce(0, L.tensor([0]), L.tensor(6), 'prod')
L.linalg.solve(L.eye(3).expand(2, 3, 3) * 2, t(2, 3, 0))
L.linalg.solve_triangular(L.eye(3), t(3, 0), upper=False)
L.linalg.solve(t(0, 5, 5), t(0, 5, 1))
L.tensor(9).index_copy(0, L.tensor([0]), L.tensor(6))
L.cdist(v(0, 1, 1, 0, 2, 1).reshape(3, 2), v(0, 0, 2, 2).reshape(2, 2), inf)
F.pdist(v(0, 1, 1, 0, 2, 1).reshape(3, 2), inf)
L.cdist(v(inf, 1, 1, 0).detach().reshape(2, 2), v(0, 0, 1, 2).detach().reshape(2, 2), inf)
L.trapezoid(L.tensor([], dtype=L.int64), L.arange(4))
L.trapezoid(L.zeros(0, 3, dtype=L.bool), L.arange(4), dim=0)
L.linalg.det(v(1, 2, 4, nan).reshape(2, 2))
L.linalg.det(t(4, 3, 3) * L.tensor([1, 0.5, 1e-9, 2]).reshape(4, 1, 1))
L.corrcoef(v(1, 2, 4, 1, 3, 2).detach().double().reshape(2, 3) * 1e-160)
""".strip().splitlines()


@pytest.mark.parametrize("case", VALUES)
def test_values_and_gradients(case: str) -> None:
    ours, got, theirs, want = both(case)
    assert not isinstance(want, Exception), f"torch: {want}"
    assert not isinstance(got, Exception), f"{type(got).__name__}: {got}"
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert g.requires_grad == w.requires_grad
        close(case, array(g), array(w), C.get(str(w.dtype)[6:], 1e-5))
    if any(w.requires_grad for w in want):
        mine, its = gradients(ours, got, st.autograd.grad, ours_like), gradients(theirs, want, torch.autograd.grad, torch_like)
        for k, (a, b) in enumerate(zip(mine, its, strict=True)):
            if a is not None or b is not None:
                zeros = np.zeros_like(a if b is None else b)
                close(f"gradient {k} of {case}", zeros if a is None else a, zeros if b is None else b, 2e-2 if "16" in case else 1e-4)


REFUSALS = """
L.tensor([7, -7]) // L.tensor([2, 0])
L.tensor([7, -7]) % L.tensor(0)
L.fmod(L.tensor([7, -7]), L.tensor([2, 0]))
L.div(L.tensor([7, -7], dtype=L.uint8), L.tensor([2, 0], dtype=L.uint8), rounding_mode='trunc')
(7 // L.arange(3)).sum()
(L.arange(100000) // (L.arange(100000) - 77777)).sum()
L.abs(1.5)
L.sigmoid(True)
F.relu(2)
t(3).narrow(0, L.tensor([1]), 1)
t(3).narrow(0, L.tensor(1.0), 1)
t(3).narrow(0, 1.0, 1)
F.max_pool2d(t(1, 1, 8, 8), True)
F.max_pool2d(t(1, 1, 8, 8), 4, padding=(2, 2.0))
F.conv2d(t(1, 1, 8, 8), t(1, 1, 3, 3), stride=(True, 2))
F.conv2d(t(1, 1, 8, 8), t(1, 1, 3, 3), padding=(2.0, 2))
F.adaptive_avg_pool2d(t(1, 1, 8, 8), (2, 2.0))
F.adaptive_avg_pool2d(t(1, 1, 8, 8), [2])
F.adaptive_max_pool2d(t(1, 1, 8, 8), 'x')
F.fold(t(1, 4, 49), (8, 8), True)
t(3).narrow(0, None, 1)
(t(3) // 2.0).sum().backward()
L.heaviside(t(3), t(3)).sum().backward()
L.arange(3, dtype=L.bool)
L.arange(0, 64, 0.5, dtype=L.int64)
L.linspace(0, 1, 3, dtype=L.bool)
L.logspace(0, 1, 3, dtype=L.bool)
L.isin(t(3) > 0, t(3) > 0)
L.cumsum(t(3) > 0, 0, dtype=L.bool)
L.kthvalue(t(3) > 0, 1)
L.bucketize(t(3) > 0, t(3) > 0)
L.tril_indices(3, 3, dtype=L.float32)
L.triu_indices(3, 3, dtype=L.bool)
L.randint(10, (3,), dtype=L.bool)
L.complex(t(3, dtype='bfloat16'), t(3, dtype='bfloat16'))
t(3, dtype='complex64').detach().abs_()
t(3, dtype='int64').polygamma_(1)
F.pad((t(1, 3) > 0), (1, 2), 'reflect')
F.pad((t(1, 3) > 0), (1, 2), 'replicate')
F.max_pool1d(t(1, 2, 6, dtype='int64'), 3)
F.max_pool2d(t(1, 2, 6, 6) > 0, 3)
F.max_unpool1d(t(1, 2, 3, dtype='int64'), L.tensor([[[0, 1, 2], [0, 1, 2]]]), 2)
F.rrelu(t(3), 0.3, 0.1)
F.softsign(t(3) > 0)
F.tanhshrink(t(3) > 0)
L.mvlgamma(t(3) > 0, 1)
F.adaptive_avg_pool2d(t(2, 2), (2, 2))
F.dropout(t(3, dtype='int64'))
F.binary_cross_entropy(t(9), t(9, low=1.0) / 2)
F.binary_cross_entropy(t(9, low=1.0) / 2, t(9), reduction='none')
F.gaussian_nll_loss(t(9), t(9), t(9))
F.gaussian_nll_loss(t(3), t(3), t(3, dtype='int64') ** 2 + 1)
L.linalg.vander(t(3) > 0)
L.scatter_reduce(t(4) > 0, 0, L.tensor([0]), t(1) > 0, 'mean')
(lambda x: x[1:].add_(x[:-1]))(L.ones(6))
(lambda x: x[1:].copy_(x[:-1]))(L.ones(6))
(lambda x: x.__setitem__(slice(1, None), x[:-1]))(L.ones(6))
(lambda x: x.add_(x.t()))(L.ones(3, 3))
(lambda x: x[1:].clamp_(min=x[:-1]))(L.ones(6))
(lambda x: L.exp(x[1:], out=x[:-1]))(L.ones(6))
(lambda x: L.cat([x[:1], x[1:]], out=x))(L.ones(6))
(lambda x: L.take(x, L.tensor([0]), out=x))(L.ones(1))
(lambda x: L.masked_select(x, x > 0, out=L.zeros(1).expand(6)))(L.ones(6))
(lambda x: L.bernoulli(x, out=L.zeros(1).expand(6)))(L.ones(6))
L.masked_fill(L.ones(2, 2), L.tensor(False), 1j)
L.masked_fill(L.ones(2, dtype=L.int64), L.tensor(False), L.tensor(1j))
L.signbit(t(3).detach(), out=L.zeros(3))
L.isneginf(t(3).detach(), out=L.zeros(3))
L.mm(t(2, 3).detach(), t(3, 2).detach(), out=L.zeros(2, 2, dtype=L.float64))
L.ceil(t(3).detach(), out=L.zeros(3, dtype=L.float64))
L.isin(t(3), t(3), out=L.zeros(3, dtype=L.int64))
L.softmax(t(3).detach(), 0, out=L.zeros(3, dtype=L.float64))
L.permute_copy(t(2, 3).detach(), (1, 0), out=L.zeros(3, 2, dtype=L.float64))
L.linalg.solve(t(3, 3).detach(), t(3).detach(), out=L.zeros(3, dtype=L.float64))
L.linalg.svdvals(v(1, nan, 2, 3).view(2, 2))
L.linalg.norm(v(1, nan, 2, 3).view(2, 2), 'nuc')
L.linalg.lstsq(v(1, nan, 2, 3).view(2, 2).detach(), t(2, 2).detach())
(lambda x: L.linalg.qr(x, 'r')[1].sum().backward())(t(3, 2))
(lambda x: L.linalg.qr(x, 'complete')[1].sum().backward())(t(3, 2))
L.igamma(v(2, 3), v(1, 2)).sum().backward()
L.igammac(v(2, 3), v(1, 2)).sum().backward()
L.special.zeta(v(2, 3), v(1, 2)).sum().backward()
L.arange(3, dtype=L.complex64)
L.Tensor.__radd__(2, 3)
L.Tensor.__rmul__(2, t(3))
L.unravel_index(t(3, dtype='complex64'), (2, 3))
L.logspace(0, 3, 1.0)
L.linalg.vander(t(3, dtype='bfloat16'))
L.polar(t(3, dtype='float16'), t(3, dtype='float16'))
L.complex(t(3, dtype='float64').detach(), t(3, dtype='float64').detach(), out=L.zeros(3, dtype=L.complex64))
L.tensordot(t(2, 3).detach(), t(3, 2).detach(), 1, out=L.zeros(2, 2, dtype=L.float64))
(t(3, 3) > 0).cumsum_(0)
L.zeros(1).expand(3).copy_(L.ones(3))
L.zeros(1).expand(3).mul_(0)
(lambda x: x.index_add_(0, L.tensor([0, 1, 2]), x))(L.ones(3))
(lambda x: x.scatter_(0, L.tensor([0, 1, 2]), x))(L.ones(3))
(lambda i: i.index_put_([i], L.tensor([0, 1, 2])))(L.tensor([0, 1, 2]))
(lambda i: i.index_fill_(0, i, 1))(L.tensor([0, 1, 2]))
(lambda x: x[1:].__setitem__(L.tensor([0, 1]), x[:-1]))(L.ones(3))
""".strip().splitlines()


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    _, got, _, want = both(case)
    assert isinstance(want, Exception)
    family = next(c for c in type(want).__mro__ if c.__module__ == "builtins")
    assert isinstance(got, family), f"{got!r} where torch raises {want!r}"


@pytest.mark.parametrize(
    "case",
    "x / 2; x.sum(); x.sum(0); x.mean(1); x.max(); x.max(0)[0]; x.norm(); x.double(); x[0]; x[:1]; x[x > 0]; x.reshape(6); x.flatten(); x.square()"
    "; F.cross_entropy(x, L.tensor([0, 1])); F.linear(x, x, L.ones(2)); F.layer_norm(x, (3,)); F.conv2d(x[None, None], L.ones(1, 1, 2, 2)); x.chunk(2)[0]; x.T".split("; "),
)  # fmt: skip
def test_steps_of_the_tape_are_printed_as_in_torch(case):
    ours, theirs = [eval(case, {"L": L, "F": L.nn.functional, "x": L.ones(2, 3, requires_grad=True)}).grad_fn.name() for L in (st, torch)]
    assert ours == theirs
