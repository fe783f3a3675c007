"""Complex tensors: arithmetic, views of parts, casts, refusals and gradients, against torch; and the pass that splits them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.ir import graph, lang
from spiraltorch.ir.node import toposort
from spiraltorch.jit.complex_rows import ROWS
from spiraltorch.jit.interpret import run_lowered
from spiraltorch.jit.program import lower
from spiraltorch.jit.realify import realify
from spiraltorch.kernels.reference import evaluate

TWO = {"ADD", "SUB", "MUL", "DIV", "POW", "EQ", "NE"}


def numbers(dtype, shape=(5, 7), seed=0):
    rng = np.random.default_rng(seed)
    z = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * 1.5
    z.reshape(-1)[:5] = [0, 1, -1, 1j, -1j]
    return z.astype(dtype)


@pytest.mark.parametrize("d", [dtypes.complex64, dtypes.complex128], ids=lambda d: d.name)
@pytest.mark.parametrize("op", sorted(ROWS))
def test_rows_in_parts_are_the_rows(op, d):
    z, w = numbers(d.np), numbers(d.np, seed=1)[::-1].copy()
    x, y = graph.param(0, z.shape, d), graph.param(1, w.shape, d)
    n = lang.absolute(x) if op == "ABS" else lang.row(op, x, y) if op in TWO else lang.row(op, x)
    (want,) = evaluate([n], {x: z, y: w})
    part = d.to_real().np
    got = run_lowered(lower([n], [None]), [z.view(part), w.view(part)])[0].view(n.dtype.np).reshape(n.shape)
    finite = np.isfinite(want.astype(complex))
    assert (np.isfinite(got.astype(complex)) == finite).all()
    np.testing.assert_allclose(got[finite], want[finite], rtol=40 * float(np.finfo(d.np).eps), atol=1e-6 * (d is dtypes.complex64))


def test_only_real_types_are_left():
    x = graph.param(0, (3, 4), dtypes.complex64)
    total = graph.reduce(lang.exp(x), "mul", (0,))
    root = graph.dot(total, graph.scan(graph.reduce(x, "add", (0,)), "mul", 0), (), (), (0,), (0,))
    (split,) = realify([root])
    assert all(n.dtype.kind != "c" for n in toposort([split])) and split.shape == (2,)


CALLS = {
    "mul": lambda m, v: v * v.flip(0) + 2, "div": lambda m, v: (1 + 2j) / v, "parts": lambda m, v: v.real * v.imag,
    "abs": lambda m, v: v.abs(), "angle": lambda m, v: v.angle(), "view": lambda m, v: m.view_as_real(v) * 3,
    "matmul": lambda m, v: m.outer(v, v.conj()) @ v, "prod": lambda m, v: v.prod(), "mean": lambda m, v: v.mean(),
    "var": lambda m, v: v.var(), "norm": lambda m, v: v.norm(), "sgn": lambda m, v: v.sgn(), "pow": lambda m, v: v**2.5,
    "cumsum": lambda m, v: v.cumsum(0), "tanh": lambda m, v: (v * 1.25j).tanh(), "sigmoid": lambda m, v: v.sigmoid(),
    "sinh": lambda m, v: v.sinh() + v.cosh(), "index": lambda m, v: v[m.tensor([2, 0])] * v[1:], "where": lambda m, v: m.where(v.real > 0, v, 1j),
    "cat": lambda m, v: m.cat([v, v.conj()]).reshape(3, 2).mH, "real input": lambda m, v: m.exp(1j * v.abs()), "std": lambda m, v: v.std(),
    "sqrt": lambda m, v: (v.sqrt() + v.log()) * v.asin(), "polar": lambda m, v: m.polar(v.abs(), v.angle()), "rdiv": lambda m, v: v.reciprocal(),
}  # fmt: skip


def loss(v):
    return (v.real + 2 * v.imag).sum() if v.is_complex() else v.sum()


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients(name):
    data = [1 + 2j, 3 - 1j, -0.5j + 0.25]
    a, b = (m.tensor(data, dtype=m.complex128, requires_grad=True) for m in (st, torch))
    got, want = CALLS[name](st, a), CALLS[name](torch, b)
    assert got.dtype.name == str(want.dtype)[6:]
    np.testing.assert_allclose(got.numpy(force=True), want.resolve_conj().numpy(force=True), rtol=1e-12, atol=1e-14)
    loss(got).backward()
    loss(want).backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.resolve_conj().numpy(), rtol=1e-11, atol=1e-13)


def test_second_derivatives():
    x = st.randn(3, dtype=st.complex128, requires_grad=True)
    assert st.autograd.gradcheck(lambda v: v.tanh() * v.conj(), x)
    assert st.autograd.gradgradcheck(lambda v: v.tanh() * v.abs(), x)


def test_parts_share_memory():
    x = st.tensor([1 + 2j, 3 - 1j])
    x.real = 5
    x.imag[1] = 7
    assert x.tolist() == [5 + 2j, 5 + 7j]
    assert x.real.data_ptr() == x.data_ptr() and x.imag.stride() == (2,) and x.imag.storage_offset() == 1
    z = st.zeros(2, 2)
    w = st.view_as_complex(z)
    w[0] = 1 + 2j
    w *= 1j
    assert z.tolist() == [[-2, 1], [0, 0]]
    assert st.view_as_real(w).data_ptr() == z.data_ptr()
    with pytest.raises(RuntimeError, match="stride 1"):
        st.view_as_complex(st.zeros(2, 3).t())


REFUSALS = {
    "lt": lambda m, v: v < v, "max": lambda m, v: v.max(), "floor": lambda m, v: v.floor(), "mod": lambda m, v: v % 2,
    "relu": lambda m, v: v.relu(), "float": lambda m, v: float(v.detach()[0]), "backward": lambda m, v: (v * v).sum().backward(),
    "view_as_real": lambda m, v: m.view_as_real(v.real), "imag": lambda m, v: v.real.imag, "into real": lambda m, v: m.zeros(2).mul_(1j),
    "clamp": lambda m, v: v.clamp(0, 1), "mixed": lambda m, v: m.complex(m.zeros(2), m.zeros(2, dtype=m.float64)),
    "floor division": lambda m, v: v // 2, "width": lambda m, v: m.view_as_complex(m.zeros(2, 3)), "mH": lambda m, v: v.mH,
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name):
    for m in (torch, st):
        x = m.tensor([1 + 2j, 3 - 1j], requires_grad=True)
        with pytest.raises(RuntimeError):
            REFUSALS[name](m, x)


def test_casts():
    x = st.tensor([1 + 2j, 2j, 0])
    with pytest.warns(UserWarning, match="discards the imaginary part"):
        assert x.float().tolist() == [1, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert x.bool().tolist() == [True, True, False]
        assert x.to(st.complex128).dtype is st.complex128 and st.tensor([1, 2]).cfloat().tolist() == [1, 2]


def test_a_size_that_overflows_when_squared():
    big = np.array([3e200 + 4e200j, 1e-200 + 1e-200j, np.inf + 1j, complex(np.nan, np.inf)])
    np.testing.assert_allclose(st.tensor(big).abs().numpy(), np.abs(big))
    np.testing.assert_allclose((st.tensor(big[:2]) / st.tensor(big[:2])).numpy(), [1, 1])


def test_compiled_and_a_number_that_changes():
    f = st.compile(lambda v, k: (v * v).abs() * k)
    x = st.tensor([1 + 2j, 3 - 1j])
    for k in (1.5, 2.5, 3.5):
        np.testing.assert_allclose(f(x, k).numpy(), np.abs(np.array([1 + 2j, 3 - 1j]) ** 2) * k, rtol=1e-6)


def test_a_changing_complex_factor_is_data():
    from spiraltorch.jit.program import counters

    x = st.tensor([1 + 2j, 3 - 1j])
    (x * (1.25 + 0.25j)).tolist()
    before = counters["programs"]
    for k in (1.75 + 1.25j, 2.25 - 0.75j, -1.5 + 4j):
        assert (x * k).tolist() == pytest.approx([(1 + 2j) * k, (3 - 1j) * k])
    assert counters["programs"] == before


CONJUGATES = {
    "conj": lambda m, x: x.conj(), "H": lambda m, x: x.H, "mH": lambda m, x: x.mH, "adjoint": lambda m, x: m.adjoint(x), "twice": lambda m, x: x.conj().conj(),
    "row": lambda m, x: x.conj()[1], "turned": lambda m, x: x.conj().t(), "flat": lambda m, x: x.conj().reshape(-1), "real": lambda m, x: x.conj().real,
    "imag": lambda m, x: x.conj().imag, "element of imag": lambda m, x: x.conj().imag[0, 1], "strided": lambda m, x: x.conj().as_strided((2,), (2,), 1),
    "expanded": lambda m, x: x.conj()[:1].expand(3, 3), "detached": lambda m, x: x.conj().detach(),
    "clone": lambda m, x: x.conj().clone(), "resolved": lambda m, x: x.conj().resolve_conj(), "resolved imag": lambda m, x: x.conj().imag.resolve_neg(),
    "sum": lambda m, x: x.conj() + 1, "flip": lambda m, x: x.conj().flip(0), "zeros": lambda m, x: m.zeros_like(x.conj()),
}  # fmt: skip


@pytest.mark.parametrize("name", CONJUGATES)
def test_conjugates_are_views(name):
    """The memory, what holds it, and what a write to either side does to the other."""
    found = []
    for m in (st, torch):
        x = m.tensor(np.array([[1 + 2j, 3 - 1j, 0.5j], [1j, 2, -1 - 1j]]))
        v = CONJUGATES[name](m, x)
        shares = v.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
        seen = [v.is_conj(), v.is_neg(), shares, v.stride(), v.storage_offset(), v.tolist(), v._base is None, v.is_contiguous()]
        try:
            seen.append(v.numpy().tolist())
        except RuntimeError as e:
            seen += [str(e), v.numpy(force=True).tolist()]
        if v.ndim == 0:
            seen.append(v.item())
        if name != "expanded":
            v.mul_(2)
            v += 1
        x[0] = 5 - 1j
        found.append([*seen, x.tolist(), v.tolist()])
    assert found[0] == found[1]


def test_gradients_through_conjugate_views():
    grads = []
    for m in (st, torch):
        leaf = m.tensor(np.array([1 + 2j, 3 - 1j]), requires_grad=True)
        x = leaf * 2
        x.conj()[0].mul_(1j)
        x.conj().imag[1:].add_(3)
        y = x.conj()
        (y * x.real + y.imag * leaf).abs().sum().backward()
        assert y.grad_fn.name() == "ConjBackward0" or m is torch
        grads.append([x.tolist(), leaf.grad.resolve_conj().tolist()])
    np.testing.assert_allclose(*grads, rtol=1e-12)


def test_what_a_conjugate_view_refuses():
    for m in (st, torch):
        x = m.tensor(np.array([1 + 2j]))
        for call in (m.view_as_real, lambda v: v.view(st.float64 if isinstance(v, st.Tensor) else torch.float64), lambda v: v.numpy()):
            with pytest.raises(RuntimeError):
                call(x.conj())


def test_a_compiled_function_of_a_conjugate_view():
    x = st.tensor(np.array([1 + 2j, 3j]))
    call = st.compile(lambda v: (v * 1j, v.conj()))
    for given in (x, x.conj(), x, x.conj()):
        found = call(given)
        assert found[0].tolist() == (given * 1j).tolist() and found[1].tolist() == given.conj().tolist()
        assert found[1].is_conj() != given.is_conj()
