"""Functions whose result's size is in the data, against torch: each element once, counts, histograms, covariances."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from tests.ops.harness import from_torch

RNG = np.random.default_rng(7)


def both(call: Callable[[Any, Any], Any], *arrays: np.ndarray) -> tuple[list[Any], list[Any]]:
    """The results of ``call(library, tensors)`` in both libraries, as lists."""
    found = []
    for m in (st, torch):
        out = call(m, [m.tensor(a) for a in arrays])
        found.append([t for v in (out if isinstance(out, tuple) else (out,)) for t in (v if isinstance(v, tuple) else (v,))])
    return found[0], found[1]


def same(call: Callable[[Any, Any], Any], *arrays: np.ndarray) -> None:
    ours, theirs = both(call, *arrays)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        want = from_torch(b)
        assert a.dtype.name == str(b.dtype)[6:] and tuple(a.shape) == want.shape
        np.testing.assert_allclose(a.numpy(), want, rtol=1e-6 if want.dtype.kind == "f" else 0, atol=1e-6)


def refused(call: Callable[[Any], Any], error: type[Exception]) -> None:
    for m in (st, torch):
        with pytest.raises(error):
            out = call(m)
            (out if isinstance(out, tuple) else (out,))[0].numpy()


ARRAYS = [
    RNG.integers(-4, 5, (7, 3)), RNG.integers(0, 2, 40).astype(bool), np.array(3.5, "f4"), np.zeros((0,), "i4"),
    RNG.integers(-3, 3, (5, 4)).astype("f4")[:, ::2], np.array([0.0, np.inf, -np.inf, 1.0, np.inf, 1.0]), RNG.integers(0, 9, 3000).astype("u1"),
    np.zeros((0, 3), "f4"),
]  # fmt: skip


@pytest.mark.parametrize("k", range(len(ARRAYS)))
def test_unique(k: int) -> None:
    x = ARRAYS[k]
    dims = [None, *range(-x.ndim, x.ndim)] if x.size else [None]
    for dim, inverse, counts in itertools.product(dims, (False, True), (False, True)):
        same(lambda m, t: m.unique(t[0], return_inverse=inverse, return_counts=counts, dim=dim), x)
        same(lambda m, t: t[0].unique_consecutive(return_inverse=inverse, return_counts=counts, dim=dim), x)


def test_every_nan_is_one_of_its_own() -> None:
    x = st.tensor([1.0, float("nan"), 1.0, float("nan")])
    values, counts = x.unique(return_counts=True)
    assert values.shape == (3,) and counts.tolist() == [2, 1, 1] and values.isnan().tolist() == [False, True, True]


def test_unique_of_many_columns_sorts_rows_in_one_go() -> None:
    rows = RNG.integers(0, 2, (300, 9)).astype("f4")
    same(lambda m, t: m.unique(t[0], dim=0, return_inverse=True, return_counts=True), np.repeat(rows, 2, 0))
    values = st.unique(st.tensor(rows).requires_grad_(), dim=0)
    assert not values.requires_grad


def test_unique_refuses() -> None:
    refused(lambda m: m.unique(m.zeros((2, 0)), dim=0), RuntimeError)
    refused(lambda m: m.unique(m.zeros(2), dim=1), IndexError)
    refused(lambda m: m.unique(m.zeros(2, dtype=m.complex64)), NotImplementedError)


def test_bincount() -> None:
    x, w = RNG.integers(0, 11, 50), RNG.normal(size=50)
    for weights in (w, w.astype("f4"), (w * 4).astype("i4")):
        same(lambda m, t: m.bincount(t[0], t[1]), x, weights)
    same(lambda m, t: (m.bincount(t[0]), t[0].bincount(minlength=20)), x.astype("u1"))
    same(lambda m, t: m.bincount(t[0], minlength=3), x[:0])
    same(lambda m, t: m.bincount(t[0]), np.concatenate([RNG.integers(0, 9000, 200_000), [8999]]))
    refused(lambda m: m.bincount(m.tensor([1, -1])), RuntimeError)
    refused(lambda m: m.bincount(m.tensor([[1]])), RuntimeError)
    refused(lambda m: m.bincount(m.tensor([1.0])), NotImplementedError)
    refused(lambda m: m.bincount(m.tensor([1]), m.tensor([1.0, 2.0])), RuntimeError)
    refused(lambda m: m.bincount(m.tensor([1]), minlength=-1), RuntimeError)


def test_counts_do_not_depend_on_threads() -> None:
    index, weights = st.tensor(RNG.integers(0, 700, 300_000)), st.tensor(RNG.normal(size=300_000).astype("f4"))
    found = []
    before = st.get_num_threads()
    for n in (1, 2, 4):
        st.set_num_threads(n)
        found.append(st.bincount(index, weights).numpy())
    st.set_num_threads(before)
    assert all(np.array_equal(f, found[0]) for f in found)
    np.testing.assert_allclose(found[0], np.bincount(index.numpy(), weights.numpy()), atol=1e-3)


def test_histograms() -> None:
    x, w = RNG.normal(size=(40, 2)).astype("f4"), RNG.uniform(size=(40, 2)).astype("f4")
    same(lambda m, t: (m.histc(t[0], 5), t[0].histc(7, -1, 1), m.histc(t[0], bins=3, min=2, max=2)), x)
    same(lambda m, t: m.histc(t[0], 4), np.zeros(0, "f4"))
    for density in (False, True):
        same(lambda m, t: tuple(m.histogram(t[0], 5, weight=t[1], density=density)), x, w)
        same(lambda m, t: tuple(t[0].histogram(t[1], density=density)), x, np.array([-1.0, 0.0, 0.25, 2.0], "f4"))
        same(lambda m, t: tuple(m.histogram(t[0], 4, range=(-1.0, 1.0), density=density)), x)
        same(lambda m, t: tuple(m.histogramdd(t[0], [3, 4], weight=t[1], density=density)), x, w[:, 0].copy())
    same(lambda m, t: tuple(m.histogramdd(t[0], [t[1], t[1]])), x, np.array([-1.0, 0.0, 2.0], "f4"))
    same(lambda m, t: tuple(m.histogram(t[0], 3)), np.array([2.0, 2.0], "f4"))
    found = st.histogram(st.tensor(x), 3)
    assert found.hist is found[0] and found.bin_edges.shape == (4,)
    out = st.empty(0), st.empty(0)
    assert st.histogram(st.tensor(x), 3, out=out).hist is out[0] and out[0].tolist() == found.hist.tolist()


def test_histograms_refuse() -> None:
    nan = float("nan")
    refused(lambda m: m.histc(m.tensor([1.0, nan])), RuntimeError)
    refused(lambda m: m.histc(m.tensor([1.0]), 3, 2, 1), RuntimeError)
    refused(lambda m: m.histc(m.tensor([1.0]), 0), RuntimeError)
    refused(lambda m: m.histc(m.tensor([1]), 3), NotImplementedError)
    refused(lambda m: m.histogram(m.tensor([1.0]), m.tensor([[1.0, 2.0]])), RuntimeError)
    refused(lambda m: m.histogram(m.tensor([1.0]), m.tensor([1.0, 2.0], dtype=m.float64)), RuntimeError)
    refused(lambda m: m.histogram(m.tensor([1.0]), 3, weight=m.ones(2)), RuntimeError)
    refused(lambda m: m.histogram(m.tensor([1.0]), 3, range=(2.0, 1.0)), RuntimeError)
    refused(lambda m: m.histogramdd(m.ones(2, 2), [1, 2, 3]), RuntimeError)


def test_covariance_refuses_negative_weights() -> None:
    refused(lambda m: m.cov(m.ones(2, 3), fweights=m.tensor([1, -1, 1])), RuntimeError)
    refused(lambda m: m.cov(m.ones(2, 3), aweights=m.tensor([1.0, -1, 1])), RuntimeError)
    refused(lambda m: m.cov(m.ones(2, 3), aweights=m.tensor([1, 1, 1])), RuntimeError)
    refused(lambda m: m.cov(m.ones(2, 3, 1)), RuntimeError)
