"""3 x 3 convolutions large enough for Winograd's products: against torch and float64, and the same bits however they run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch.config import config
from spiraltorch.dtypes import float32, float64
from spiraltorch.ir import graph
from spiraltorch.jit.lower_matrix import window_of
from spiraltorch.jit.program import counters
from spiraltorch.ops.registry import OPS

F, TF = st.nn.functional, torch.nn.functional



@pytest.fixture(autouse=True)
def _restore_threads():
    yield
    st.set_num_threads(2)


def data(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


def is_tiled(images: int, channels: int, filters: int, height: int, width: int, dtype: Any = float32) -> bool:
    x, w = graph.param(0, (images, channels, height, width), dtype), graph.param(1, (filters, channels, 3, 3), dtype)
    n = OPS["conv2d"].apply([x, w], {"padding": 1})
    while n.op != "DOT":
        n = n.src[0]
    return window_of(n) is not None


def test_which_convolutions() -> None:
    assert is_tiled(1, 8, 8, 16, 16) and is_tiled(5, 64, 64, 7, 7)
    assert not is_tiled(1, 8, 8, 16, 16, float64)  # few bits may be lost
    assert not is_tiled(1, 3, 64, 100, 100) and not is_tiled(1, 64, 7, 100, 100)  # few products to save
    assert not is_tiled(1, 64, 64, 8, 8) and not is_tiled(64, 64, 64, 6, 6)  # filters cost more than they save


CASES = [
    # images, channels, filters, height, width, padding, groups
    (1, 8, 8, 16, 17, 1, 1), (2, 13, 70, 15, 11, 0, 1), (3, 70, 9, 7, 23, 2, 1), (8, 16, 24, 8, 9, (1, 0), 1),
    (2, 32, 48, 12, 13, 1, 2), (1, 64, 64, 9, 40, "same", 1), (1, 9, 14, 17, 300, 1, 1), (1, 1, 8, 20, 20, 1, 1),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_and_gradients(case: tuple[Any, ...]) -> None:
    images, channels, filters, height, width, padding, groups = case
    arrays = data((images, channels, height, width), (filters, channels // groups, 3, 3), (filters,))
    own = [st.tensor(a, requires_grad=True) for a in arrays]
    out = F.conv2d(*own, padding=padding, groups=groups)
    exact = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]
    want = TF.conv2d(*exact, padding=padding, groups=groups)
    (up,) = data(tuple(want.shape), seed=1)
    out.backward(st.tensor(up))
    want.backward(torch.tensor(up, dtype=torch.float64))
    np.testing.assert_allclose(out.detach().numpy(), want.detach().numpy(), rtol=2e-5, atol=2e-6 * want.abs().max().item())
    for name, mine, theirs in zip(("input", "weight", "bias"), own, exact):
        g = theirs.grad.numpy()
        np.testing.assert_allclose(mine.grad.numpy(), g, rtol=2e-5, atol=2e-6 * np.abs(g).max(), err_msg=name)


def test_the_error_has_a_bound() -> None:
    """Of docs/numerics.md, for elements of very different sizes and filters with few cells."""
    x, w = data((2, 20, 17, 18), (12, 20, 3, 3))
    x *= np.float32(10) ** np.random.default_rng(3).integers(-6, 6, x.shape).astype(np.float32)
    w *= np.random.default_rng(4).random(w.shape) < 0.3
    want = TF.conv2d(torch.tensor(x).double(), torch.tensor(w).double(), padding=1).numpy()
    largest = TF.max_pool2d(torch.tensor(abs(x)).double(), 5, 1, 2)
    scale = TF.conv2d(largest, torch.tensor(abs(w)).double().sum((2, 3), keepdim=True)).numpy()
    error = np.abs(F.conv2d(st.tensor(x), st.tensor(w), padding=1).numpy() - want)
    assert (error <= 16 * 2.0**-24 * scale).all()  # what is proven is 36 * (20 + 12)


def test_errors_are_torchs_size() -> None:
    x, w = data((2, 64, 28, 28), (64, 64, 3, 3))
    want = TF.conv2d(torch.tensor(x).double(), torch.tensor(w).double(), padding=1).numpy()
    mine = np.abs(F.conv2d(st.tensor(x), st.tensor(w), padding=1).numpy() - want)
    theirs = np.abs(TF.conv2d(torch.tensor(x), torch.tensor(w), padding=1).numpy() - want)
    assert mine.max() <= 2 * theirs.max() and (mine**2).mean() <= 4 * (theirs**2).mean()


@pytest.mark.parametrize("kind", [st.float16, st.bfloat16], ids=str)
def test_sixteen_bits(kind: Any) -> None:
    x, w = data((2, 16, 12, 12), (16, 16, 3, 3))
    a, b = st.tensor(x).to(kind), st.tensor(w).to(kind)
    want = TF.conv2d(torch.tensor(a.float().numpy()), torch.tensor(b.float().numpy()), padding=1).numpy()
    np.testing.assert_allclose(F.conv2d(a, b, padding=1).float().numpy(), want, rtol=2 * st.finfo(kind).eps, atol=1e-3)


def block(x, w, v, s):
    """What surrounds the products: a producer, bias, activation, a residual, and readers of other orders."""
    y = F.conv2d(x * 2 - 1, w, padding=1)
    z = F.relu(y * s[:, None, None] + s[:, None, None] + x)
    last = F.conv2d(z.permute(0, 1, 3, 2), v, padding=(0, 1))
    return [y, z, last, last.permute(0, 2, 3, 1) + 1, F.max_pool2d(last, 2), last + s[: last.shape[-1]], last.sum((0, 2, 3))]


def bits(results) -> list[bytes]:
    return [r.detach().numpy().tobytes() for r in results]


def test_same_bits_however_it_runs() -> None:
    arrays = data((3, 16, 16, 16), (16, 16, 3, 3), (9, 16, 3, 3), (16,))

    def fresh():
        return [st.tensor(a, requires_grad=True) for a in arrays]

    def step(*leaves):
        found = block(*leaves)
        grads = st.autograd.grad(sum([(f * f).sum() for f in found]), leaves)
        return [*found, *grads]

    want = bits(step(*fresh()))
    for threads in (1, 4):
        st.set_num_threads(threads)
        assert bits(step(*fresh())) == want
    assert bits(st.compile(step)(*fresh())) == want
    before, config.queue_nodes = config.queue_nodes, 0  # operation by operation
    try:
        assert bits(step(*fresh())) == want
    finally:
        config.queue_nodes = before


def test_same_bits_wherever_elements_lie() -> None:
    """Of a view, of what is padded in memory and while it is read, of a part, and beside windows that are in memory."""
    x, w = data((2, 8, 20, 14), (10, 8, 3, 3))
    weight = st.tensor(w)
    want = F.conv2d(st.tensor(x), weight, padding=1).numpy().tobytes()
    turned = st.tensor(np.ascontiguousarray(x.transpose(2, 3, 0, 1))).permute(2, 3, 0, 1)
    assert F.conv2d(turned, weight, padding=1).numpy().tobytes() == want
    padded = F.pad(st.tensor(x), (1, 1, 1, 1))
    assert F.conv2d(padded, weight).numpy().tobytes() == want
    padded.numpy()
    assert F.conv2d(padded, weight).numpy().tobytes() == want
    more = st.tensor(np.concatenate([x, 7 * x], 1))
    assert F.conv2d(more[:, :8], weight, padding=1).numpy().tobytes() == want
    windows = padded.unfold(2, 3, 1).unfold(3, 3, 1)
    both = st.compile(lambda p, v: (p.unfold(2, 3, 1).unfold(3, 3, 1).contiguous(), F.conv2d(p, v)))(padded, weight)
    assert both[1].numpy().tobytes() == want and both[0].numpy().tobytes() == windows.numpy().tobytes()
    flipped = F.conv2d(st.tensor(np.ascontiguousarray(x[..., ::-1])).flip(3), weight, padding=1)
    assert flipped.numpy().tobytes() == want


def test_channels_that_are_padding() -> None:
    x, w = data((2, 7, 12, 13), (12, 10, 3, 3))
    own = F.conv2d(F.pad(st.tensor(x), (1, 1, 1, 1, 1, 2)), st.tensor(w)).numpy()
    want = TF.conv2d(TF.pad(torch.tensor(x), (1, 1, 1, 1, 1, 2)), torch.tensor(w)).numpy()
    np.testing.assert_allclose(own, want, rtol=1e-4, atol=1e-4)


def test_a_broadcast_image() -> None:
    x, w = data((1, 8, 1, 20), (8, 8, 3, 3))
    own = F.conv2d(st.tensor(x).expand(3, 8, 20, 20), st.tensor(w), padding=1).numpy()
    want = TF.conv2d(torch.tensor(x).expand(3, 8, 20, 20), torch.tensor(w), padding=1).numpy()
    np.testing.assert_allclose(own, want, rtol=1e-4, atol=1e-4)


def test_a_block_is_one_launch_a_convolution() -> None:
    x, w, s = data((2, 16, 14, 14), (16, 16, 3, 3), (16,))

    def half(x, w, s):
        return F.relu(F.conv2d(x, w, padding=1) * s[:, None, None] + x)

    low = st.compile(half).lower(*[st.tensor(a) for a in (x, w, s)])
    assert len(low.kernels) == 1 and "window=" in str(low.kernels[0])


def test_a_new_size_compiles_nothing() -> None:
    step = st.compile(lambda x, w: F.relu(F.conv2d(x, w, padding=1)))
    step(*[st.tensor(a) for a in data((2, 16, 16, 16), (16, 16, 3, 3))]).numpy()
    before = counters["kernels"]
    for shape in ((3, 20, 16, 16), (2, 20, 11, 33), (2, 20, 6, 30)):  # the last one is too small for tiles
        step(*[st.tensor(a) for a in data(shape, (17, 20, 3, 3))]).numpy()
    assert counters["kernels"] == before
