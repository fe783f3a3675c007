"""Variance of long folds: exact, in one pass, and with the same bits however it is computed."""

from __future__ import annotations

import numpy as np
import pytest

import spiraltorch as st

CASES = [((1 << 18,), None), ((100003,), None), ((513, 300), (0, 1)), ((9001, 17), 0), ((3, 5, 40000), (0, 2)), ((2, 70001), 1)]


@pytest.mark.parametrize("shape, dim", CASES)
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_accuracy_far_from_zero(shape, dim, offset):
    x = (np.random.default_rng(0).standard_normal(shape) + offset).astype("f")
    axes = tuple(range(x.ndim)) if dim is None else dim
    exact = x.astype("d")
    var, mean = st.var_mean(st.tensor(x), axes)
    np.testing.assert_allclose(var.numpy(), exact.var(axes, ddof=1), rtol=2e-6)
    np.testing.assert_allclose(mean.numpy(), exact.mean(axes), rtol=2e-7, atol=1e-7)
    np.testing.assert_allclose(st.std(st.tensor(x), axes, correction=0).numpy(), exact.std(axes), rtol=1e-6)


def test_gradient_and_complex():
    rng = np.random.default_rng(1)
    x = st.tensor(rng.standard_normal((90000,)), requires_grad=True)
    x.var().backward()
    a = x.detach().numpy()
    np.testing.assert_allclose(x.grad.numpy(), 2 * (a - a.mean()) / (a.size - 1), atol=1e-15)
    z = rng.standard_normal(90000) + 1j * rng.standard_normal(90000) + (3 - 2j)
    np.testing.assert_allclose(st.tensor(z).var().item(), z.var(ddof=1), rtol=1e-12)


def test_memory_is_read_once():
    """One kernel over the pieces, one over what it found."""
    x = st.randn(512, 512)
    for f in (lambda x: x.var(), lambda x: st.var_mean(x), lambda x: (x * 2 + 1).std()):
        assert st.compile(f).lower(x).launches == 2
    kernel = st.compile(lambda x: x.var()).lower(x).kernels[0]
    assert [len(p.reduces) for p in kernel.phases if p.axes] == [1, 2], "the mean of a piece, then two sums about it"


@pytest.mark.parametrize("dim", [None, 0, 1])
def test_same_bits_on_any_number_of_threads_and_in_any_fusion(dim):
    x = st.tensor(np.random.default_rng(2).standard_normal((300, 70003 if dim == 1 else 401)).astype("f") + 7)
    found = set()
    axes = (0, 1) if dim is None else dim
    for threads in (1, 2, 4):
        st.set_num_threads(threads)
        for f in (lambda x: x.var(axes), lambda x: (x.var(axes), x * 2)[0], lambda x: st.var_mean(x, axes)[0]):
            found |= {f(x).numpy().tobytes(), st.compile(f)(x).numpy().tobytes()}
    st.set_num_threads(2)
    assert len(found) == 1


def test_special_values():
    x = np.full(70000, 0.1, "f")
    assert 0 <= st.tensor(x).var().item() < 1e-12
    x[12345] = np.nan
    assert np.isnan(st.tensor(x).std().item())
    x[12345] = np.inf
    assert np.isnan(st.tensor(x).var().item())


def test_batch_norm_of_a_large_batch():
    x = (np.random.default_rng(3).standard_normal((4000, 5, 6, 6)) * 3 + 100).astype("f")
    mean, var = st.zeros(5), st.ones(5)
    out = st.nn.functional.batch_norm(st.tensor(x), mean, var, training=True, momentum=1.0)
    exact = x.astype("d")
    want = (exact - exact.mean((0, 2, 3), keepdims=True)) / np.sqrt(exact.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(out.numpy(), want, atol=2e-5)
    np.testing.assert_allclose(mean.numpy(), exact.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var.numpy(), exact.var((0, 2, 3), ddof=1), rtol=1e-6)
