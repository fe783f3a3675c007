"""Sums over many rows: blocks of rows first, in the kernel that walks the rows where there is one, and always the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch.config import config
from spiraltorch.ir.kernel import Kernel

F = st.nn.functional


def layer_norm(x, w, b, g):
    x.grad = w.grad = b.grad = None
    out = F.layer_norm(x, (x.shape[-1],), w, b)
    out.backward(g)
    return out, x.grad, w.grad, b.grad


def rms_norm(x, w, b, g):
    x.grad = w.grad = None
    F.rms_norm(x, (x.shape[-1],), w).backward(g)
    return x.grad, w.grad


def softmax_of_biased(x, w, b, g):
    x.grad = b.grad = None
    (x + b).softmax(-1).backward(g)
    return x.grad, b.grad


def scaled(x, w, b, g):
    """A sum beside rows that are softmax's, of something else that it reads."""
    w.grad = None
    (g * w).sum().backward()
    return g.softmax(-1), w.grad


FUNCTIONS = [layer_norm, rms_norm, softmax_of_biased, scaled]


def arguments(shape, dtype=st.float32):
    r = np.random.default_rng(0)
    x, w, b, g = [st.tensor(r.standard_normal(s).astype("f")).to(dtype) for s in (shape, shape[-1:], shape[-1:], shape)]
    return x.requires_grad_(), w.requires_grad_(), b.requires_grad_(), g


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_sums_are_made_where_the_rows_are_walked(f):
    lowered = st.compile(f).lower(*arguments((1024, 40)))
    kernels = [k for k in lowered.kernels if isinstance(k, Kernel)]
    assert lowered.launches <= 3 and kernels[0].walked == 1
    assert any(s.fold == "add" for p in kernels[0].phases for s in p.stores)


def test_the_kernel_of_a_layer_norm_step(golden):
    golden("layer_norm_kernel", str(st.compile(layer_norm).lower(*arguments((1024, 40))).kernels[0]))


@pytest.mark.parametrize("shape", [(1024, 40), (16, 130, 7), (3, 4, 100, 5), (521, 33), (8191, 3), (512, 1), (576, 16500)], ids=str)
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_same_bits_fused_or_not_on_any_number_of_threads(f, shape):
    if shape[-1] > 1000 and f is not layer_norm:
        return
    wanted = None
    before = config.queue_nodes
    for threads, nodes in ((2, before), (1, before), (4, before), (2, 0)):
        st.set_num_threads(threads)
        config.queue_nodes = nodes
        try:
            found = [t.detach().numpy().tobytes() for t in f(*arguments(shape))]
        finally:
            config.queue_nodes = before
            st.set_num_threads(2)
        assert wanted is None or found == wanted, (threads, nodes)
        wanted = found


@pytest.mark.parametrize("dtype", [st.float16, st.bfloat16, st.float64])
def test_narrow_sums_round_once(dtype):
    x = arguments((4096, 24), dtype)[3]
    wide = x.to(st.float64).numpy().sum(0)
    found = x.sum(0)
    assert found.dtype is dtype
    want = st.tensor(wide).to(dtype).to(st.float64).numpy()
    step = 1e-12 if dtype is st.float64 else float(st.finfo(dtype).eps) * 1.01
    np.testing.assert_allclose(found.to(st.float64).numpy(), want, rtol=step, atol=1e-4 * step)


def test_lengths_share_kernels():
    f = st.compile(lambda x: x.sum(0))
    keys = {tuple(k.key for k in f.lower(st.ones(n, 40)).kernels) for n in (1024, 2048, 4096, 640, 1536)}
    assert len(keys) == 1


def test_narrow_rows_are_walked_and_wide_ones_cut_into_blocks_with_the_same_bits():
    x = arguments((1088, 1500))[3]
    kernels = {n: st.compile(lambda x: x.sum(0)).lower(x[:, :n].clone()).kernels[0] for n in (500, 1500)}
    assert (kernels[500].walked, kernels[500].lane) == (1, "inner") and (kernels[1500].walked, kernels[1500].lane) == (0, "row")
    np.testing.assert_array_equal(x.sum(0)[:500].numpy(), x[:, :500].clone().sum(0).numpy())
    np.testing.assert_array_equal(x.sum(0)[:9].numpy(), x[:, :9].clone().sum(0).numpy())


def test_refusals_are_said():
    def wide(x):
        return x.softmax(-1), x.sum(0)

    short = st.compile(wide).lower(st.ones(1024, 64)).launches
    assert st.compile(wide).lower(st.ones(512, 20000)).launches == short + 1  # its sums have no room on the stack
