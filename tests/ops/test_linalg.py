"""torch.linalg and torch.fft beyond the records' own samples: factors that are defined up to a sign, complex types,
errors with the line that recorded them, empty matrices, batches, and transforms with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch.ir.node import toposort


def both(*shape, seed=0, dtype="float64", definite=False, grad=True):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=shape)
    if dtype.startswith("complex"):
        a = a + 1j * rng.normal(size=shape)
    if definite:
        a = a @ np.conj(np.swapaxes(a, -1, -2)) + shape[-1] * np.eye(shape[-1])
    a = a.astype(dtype)
    return st.tensor(a, requires_grad=grad), torch.tensor(a, requires_grad=grad)


def weights(shape):
    return np.arange(1.0, 1 + int(np.prod(shape))).reshape(shape)


# What does not change with the signs (or phases) of the vectors.
INVARIANT = {
    "svd": lambda m, a: [m.linalg.svd(a, full_matrices=False).S, rebuilt(m, m.linalg.svd(a, full_matrices=False))],
    "svdvals": lambda m, a: [m.linalg.svdvals(a)], "old svd": lambda m, a: [m.svd(a).S],
    "projector": lambda m, a: [projector(m.linalg.svd(a, full_matrices=False).U[..., :1])],
    "eigh": lambda m, a: [m.linalg.eigh(a @ a.mH).eigenvalues, projector(m.linalg.eigh(a @ a.mH)[1][..., :1])],
    "eigvalsh": lambda m, a: [m.linalg.eigvalsh(a @ a.mH)],
    "cond": lambda m, a: [m.linalg.cond(a)], "nuclear": lambda m, a: [m.linalg.matrix_norm(a, "nuc")],
    "qr": lambda m, a: [projector(m.linalg.qr(a).Q[..., :2])], "pinv": lambda m, a: [m.linalg.pinv(a)],
    "lstsq": lambda m, a: [m.linalg.lstsq(a, a[..., :2] * 2).solution], "lu": lambda m, a: list(m.linalg.lu(a))[1:],
}  # fmt: skip


def rebuilt(m, f):
    return (f.U * f.S.unsqueeze(-2).to(f.U.dtype)) @ f.Vh


def projector(q):
    return q @ q.mH


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(2, 4, 3), (3, 4)], ids=str)
@pytest.mark.parametrize("name", INVARIANT)
def test_invariants_and_gradients(name, shape, dtype):
    a, b = both(*shape, dtype=dtype)
    ours, theirs = INVARIANT[name](st, a), INVARIANT[name](torch, b)
    total, want = 0, 0
    for x, y in zip(ours, theirs):
        np.testing.assert_allclose(x.numpy(force=True), y.numpy(force=True), rtol=1e-8, atol=1e-8)
        w = weights(tuple(y.shape))
        total = total + (x.real * st.tensor(w)).sum()
        want = want + (y.real * torch.tensor(w)).sum()
    total.backward()
    want.backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-6, atol=1e-6)


def test_eig_of_real_and_complex_matrices():
    for dtype in ("float64", "complex128"):
        a, b = both(4, 4, dtype=dtype)
        w, v = st.linalg.eig(a)
        assert w.dtype is st.complex128
        np.testing.assert_allclose((a.detach().to(st.complex128) @ v.detach()).numpy(), (v * w).numpy(force=True), atol=1e-10)
        got = sorted(st.linalg.eigvals(a).detach().tolist(), key=lambda z: (round(z.real, 6), z.imag))
        want = sorted(torch.linalg.eigvals(b).detach().tolist(), key=lambda z: (round(z.real, 6), z.imag))
        np.testing.assert_allclose(got, want, rtol=1e-8)
        (st.linalg.eigvals(a) ** 2).abs().sum().backward()
        (torch.linalg.eigvals(b) ** 2).abs().sum().backward()
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-7, atol=1e-8)


COMPLEX = {
    "inv": lambda m, a: m.linalg.inv(a), "det": lambda m, a: m.linalg.det(a), "solve": lambda m, a: m.linalg.solve(a, a[..., :2] * 2j),
    "logabsdet": lambda m, a: m.linalg.slogdet(a).logabsdet, "sign": lambda m, a: m.linalg.slogdet(a).sign, "chol": lambda m, a: m.linalg.cholesky(a),
    "exp": lambda m, a: m.linalg.matrix_exp(a * 0.1), "power": lambda m, a: m.linalg.matrix_power(a, -2),
    "triangular": lambda m, a: m.linalg.solve_triangular(a, a.mH, upper=True), "lu": lambda m, a: m.linalg.lu_factor(a).LU,
    "norm": lambda m, a: m.linalg.norm(a, 1), "vecdot": lambda m, a: m.linalg.vecdot(a, a * 1j), "multi": lambda m, a: m.linalg.multi_dot([a, a, a]),
    "cholesky_solve": lambda m, a: m.cholesky_solve(a, m.linalg.cholesky(a)), "cross": lambda m, a: m.linalg.cross(a, a * a),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_matrices(name):
    a, b = both(3, 3, dtype="complex128", definite=True)
    x, y = COMPLEX[name](st, a), COMPLEX[name](torch, b)
    np.testing.assert_allclose(x.numpy(force=True), y.detach().resolve_conj().numpy(), rtol=1e-9, atol=1e-9)
    w = weights(tuple(y.shape))
    (x * st.tensor(w * (1 + 0.5j))).real.sum().backward()
    (y * torch.tensor(w * (1 + 0.5j))).real.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.resolve_conj().numpy(), rtol=1e-7, atol=1e-8)


def test_second_derivatives():
    a = st.tensor(np.random.default_rng(1).normal(size=(3, 3)) + 3 * np.eye(3), requires_grad=True)
    for f in (st.linalg.inv, st.linalg.det, st.linalg.matrix_exp, st.linalg.svdvals, lambda x: st.linalg.qr(x).R,
              lambda x: st.linalg.eigvalsh(x + x.mT)):  # fmt: skip
        assert st.autograd.gradgradcheck(f, a)
    assert st.autograd.gradgradcheck(lambda x: st.fft.irfft(st.fft.rfft(x) ** 2), st.tensor(np.arange(5.0), requires_grad=True))


def test_a_singular_matrix_raises_with_its_line():
    singular = st.ones(3, 3)
    for f in (st.linalg.inv, lambda x: st.linalg.solve(x, x), lambda x: st.linalg.cholesky(-x)):
        with pytest.raises(st.linalg.LinAlgError, match="test_linalg.py"):
            f(singular).tolist()
    assert issubclass(st.linalg.LinAlgError, RuntimeError)
    assert st.linalg.inv_ex(singular).info.item() == 2 and st.linalg.cholesky_ex(-singular).info.item() == 1
    x = st.zeros(3, 3, dtype=st.float64, requires_grad=True)
    st.linalg.det(x + st.diag(st.tensor([1.0, 2.0, 0.0], dtype=st.float64))).backward()
    assert x.grad.diagonal().tolist() == pytest.approx([0, 0, 2])


REFUSED = {
    "square": lambda m: m.linalg.inv(m.zeros(2, 3)), "rank": lambda m: m.linalg.det(m.zeros(3)), "integers": lambda m: m.linalg.inv(m.ones(2, 2, dtype=m.int64)),
    "half": lambda m: m.linalg.inv(m.ones(2, 2, dtype=m.float16)), "types": lambda m: m.linalg.solve(m.eye(2), m.eye(2, dtype=m.float64)),
    "rows": lambda m: m.linalg.solve(m.eye(2), m.ones(3, 2)), "mode": lambda m: m.linalg.qr(m.eye(2), mode="x"), "UPLO": lambda m: m.linalg.eigh(m.eye(2), "X"),
    "norm": lambda m: m.linalg.matrix_norm(m.eye(2), 3), "cross": lambda m: m.linalg.cross(m.ones(2), m.ones(2)), "nan": lambda m: m.linalg.svd(m.full((2, 2), float("nan"))).S.tolist(),
    "rfft": lambda m: m.fft.rfft(m.ones(3, dtype=m.complex64)), "length": lambda m: m.fft.fft(m.ones(3), n=0), "mode of fft": lambda m: m.fft.fft(m.ones(3), norm="x"),
    "dims": lambda m: m.fft.fftn(m.ones(3, 3), dim=(0, 0)), "chain": lambda m: m.linalg.multi_dot([m.eye(2)]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    for m in (torch, st):
        with pytest.raises(RuntimeError):
            REFUSED[name](m)


def test_empty_matrices():
    for shape in ((0, 0), (0, 3, 3), (2, 0, 0)):
        x, y = st.zeros(*shape), torch.zeros(*shape)
        for f in (lambda m, a: m.linalg.det(a), lambda m, a: m.linalg.inv(a), lambda m, a: m.linalg.slogdet(a).logabsdet, lambda m, a: m.linalg.svd(a).S,
                  lambda m, a: m.linalg.lu_factor(a).pivots, lambda m, a: m.linalg.matrix_exp(a), lambda m, a: m.linalg.inv_ex(a).info):  # fmt: skip
            assert np.array_equal(f(st, x).numpy(), f(torch, y).numpy())


def test_a_new_size_compiles_nothing():
    from spiraltorch.jit.program import counters

    a, b = (st.tensor(np.eye(n) * 2) for n in (5, 9))  # copies by columns of less than five have kernels of their own
    st.linalg.inv(a).tolist()
    kernels = counters["kernels"]
    assert st.linalg.inv(b).tolist() == (np.eye(9) / 2).tolist()
    assert counters["kernels"] == kernels


TRANSFORMS = {
    "fft": lambda m, x: m.fft.fft(x), "padded": lambda m, x: m.fft.ifft(x, 9, 0, "ortho"), "rfft2": lambda m, x: m.fft.rfft2(x.real, norm="forward"),
    "irfftn": lambda m, x: m.fft.irfftn(x, (5, 7)), "hfft": lambda m, x: m.fft.hfft(x, 6), "ihfft": lambda m, x: m.fft.ihfft(x.real),
    "hfftn": lambda m, x: m.fft.hfftn(x), "even": lambda m, x: m.fft.irfft(x), "shift": lambda m, x: m.fft.fftshift(m.fft.fftn(x)), "ifft2": lambda m, x: m.fft.ifft2(x),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_complex_signals(name):
    a, b = both(6, 5, dtype="complex128")
    x, y = TRANSFORMS[name](st, a), TRANSFORMS[name](torch, b)
    assert x.dtype.name == str(y.dtype)[6:]
    np.testing.assert_allclose(x.numpy(force=True), y.detach().resolve_conj().numpy(), rtol=1e-10, atol=1e-10)
    w = weights(tuple(y.shape))
    (x * st.tensor(w)).abs().sum().backward()
    (y * torch.tensor(w)).abs().sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.resolve_conj().numpy(), rtol=1e-8, atol=1e-8)


def test_float32_stays_single_and_a_compiled_transform():
    x = st.randn(8)
    assert st.fft.fft(x).dtype is st.complex64 and st.fft.irfft(st.fft.rfft(x)).dtype is st.float32
    f = st.compile(lambda v: st.fft.irfft(st.fft.rfft(v) * 2))
    for _ in range(3):
        np.testing.assert_allclose(f(x).numpy(), x.numpy() * 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"n_fft": 8}, {"n_fft": 8, "hop_length": 3, "win_length": 6}, {"n_fft": 8, "normalized": True, "onesided": False}], ids=str)
def test_short_time_transforms(options):
    x = np.random.default_rng(0).normal(size=(2, 41))
    width = options.get("win_length", 8)
    a = st.stft(st.tensor(x), **options, window=st.hann_window(width, dtype=st.float64), return_complex=True)
    b = torch.stft(torch.tensor(x), **options, window=torch.hann_window(width, dtype=torch.float64), return_complex=True)
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-10)
    back = st.istft(a, **options, window=st.hann_window(width, dtype=st.float64))
    want = torch.istft(b, **options, window=torch.hann_window(width, dtype=torch.float64))
    np.testing.assert_allclose(back.numpy(), want.numpy(), rtol=1e-8, atol=1e-8)


def test_row_exchanges_beyond_the_rows_are_refused():
    with pytest.raises(RuntimeError, match="3 row exchanges for 2 rows"):
        st.lu_unpack(st.ones(2, 3), st.ones(3, dtype=st.int32))


@pytest.mark.parametrize("product", [
    lambda x, y: st.dot(x[0], y[0]), lambda x, y: x[0] @ y[0], lambda x, y: st.linalg.vecdot(x, y), lambda x, y: st.inner(x[0], y[0]),
    lambda x, y: st.einsum("ij,ij->i", x, y), lambda x, y: st.einsum("ij,ij->", x, y), lambda x, y: st.tensordot(x, y, 2),
])  # fmt: skip
def test_products_of_vectors_alone_are_sums(product) -> None:
    """A product of matrices adds along each row in order, so that one of vectors would wait for every addition."""
    out = product(st.randn(3, 5), st.randn(3, 5))
    assert "DOT" not in {n.op for n in toposort([out._read()])}
