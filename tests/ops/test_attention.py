"""Attention: the tiled kernels against torch, against their definition, and the same bits on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.config import config
from spiraltorch.ir import graph
from spiraltorch.jit.program import counters
from spiraltorch.kernels.library.routine import evaluate
from spiraltorch.tensor import from_node

F = st.nn.functional


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def results(lib, arrays, mask, kwargs, dtype="float32"):
    """Output and gradients of float64 sums, in ``lib``."""
    tensors = [lib.tensor(a).to(getattr(lib, dtype)).requires_grad_() for a in arrays]
    given = None if mask is None else lib.tensor(mask)
    if mask is not None and mask.dtype != bool:
        tensors.append(given.to(getattr(lib, dtype)).requires_grad_())
        given = tensors[-1]
    out = lib.nn.functional.scaled_dot_product_attention(*tensors[:3], given, **kwargs)
    out.backward(lib.tensor(normal(*out.shape, seed=7)).to(out.dtype))
    return [t.detach().float().numpy() for t in [out, *[t.grad for t in tensors]]]


GONE = np.random.default_rng(3).random((70, 130)) > 0.4
GONE[[3, 60, 69]] = False  # queries without keys
CASES = {
    "plain": (((2, 3, 70, 32), (2, 3, 130, 32), (2, 3, 130, 48)), None, {}),
    "causal": (((2, 3, 200, 16), (2, 3, 200, 16), (2, 3, 200, 16)), None, {"is_causal": True}),
    "more queries": (((1, 2, 170, 16), (1, 2, 90, 16), (1, 2, 90, 16)), None, {"is_causal": True, "scale": 0.3}),
    "more keys": (((1, 2, 65, 16), (1, 2, 300, 16), (1, 2, 300, 16)), None, {"is_causal": True}),
    "negative scale": (((1, 2, 70, 16), (1, 2, 90, 16), (1, 2, 90, 16)), None, {"scale": -0.3}),
    "one query": (((2, 2, 1, 64), (2, 2, 1025, 64), (2, 2, 1025, 64)), None, {}),
    "shared heads": (((2, 6, 70, 16), (2, 2, 130, 16), (2, 2, 130, 16)), None, {"enable_gqa": True}),
    "broadcast": (((2, 4, 70, 16), (2, 1, 130, 16), (1, 4, 130, 16)), None, {}),
    "two axes": (((64, 16), (130, 16), (130, 16)), None, {}),
    "five axes": (((2, 1, 2, 60, 16), (1, 3, 2, 50, 16), (2, 3, 2, 50, 16)), None, {}),
    "float mask": (((2, 4, 70, 16), (2, 4, 130, 16), (2, 4, 130, 16)), normal(70, 130), {}),
    "mask of a batch": (((2, 4, 70, 16), (2, 4, 130, 16), (2, 4, 130, 16)), normal(2, 1, 70, 130), {}),
    "padding mask": (((2, 4, 70, 16), (2, 4, 130, 16), (2, 4, 130, 16)), normal(2, 1, 1, 130) > 0, {}),
    "queries without keys": (((2, 4, 70, 16), (2, 4, 130, 16), (2, 4, 130, 16)), GONE, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_tiles_agree_with_torch(name):
    shapes, mask, kwargs = CASES[name]
    arrays = [normal(*s, seed=k) for k, s in enumerate(shapes)]
    for ours, theirs in zip(results(st, arrays, mask, kwargs), results(torch, arrays, mask, kwargs)):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_other_types(dtype):
    arrays = [normal(1, 2, 80, 16, seed=k) for k in range(3)]
    close = {"float64": 1e-6, "bfloat16": 4e-2, "float16": 6e-3}[dtype]
    for ours, theirs in zip(
        results(st, arrays, None, {"is_causal": True}, dtype), results(torch, arrays, None, {"is_causal": True}, dtype)
    ):
        np.testing.assert_allclose(ours, theirs, rtol=close, atol=close)


def test_the_kernels_do_what_their_definition_says():
    """Every element of both flat results, the saved logarithms too, with operands that are views and broadcast."""
    q, k, v, up = (normal(2, 70, 3, 16, seed=i) for i in range(4))
    bias = normal(1, 3, 90, 70)
    k, v = (np.concatenate([a, a[:, :20] * 2], 1) for a in (k, v))

    def nodes(arrays):
        return [graph.permute(n, (0, 2, 1, 3)) for n in arrays[:4]] + list(arrays[4:])

    def calls(q, k, v, up, bias):
        size = q.size // 16 * 17
        forward = graph.call("attention.forward", (q, k, v, bias), (size,), dtypes.float32, True, 0.2)
        back = (q, k, v, bias, up, forward)
        return forward, graph.call("attention.backward", back, (q.size + k.size + v.size,), dtypes.float32, True, 0.2)

    tensors = [st.tensor(a) for a in (q, k, v, up, bias)]
    ours = [from_node(n).numpy() for n in calls(*nodes([t._read() for t in tensors]))]
    wide = [a.transpose(0, 2, 1, 3).astype(np.float64) for a in (q, k, v, up)] + [bias.astype(np.float64)]
    leaves = [graph.param(i, a.shape, dtypes.float64) for i, a in enumerate(wide)]
    forward, back = calls(*leaves)
    first = evaluate(forward, [wide[0], wide[1], wide[2], wide[4]])
    second = evaluate(back, [wide[0], wide[1], wide[2], wide[4], wide[3], first])
    for a, b in zip(ours, (first, second)):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=3e-6)


def test_bits_do_not_depend_on_threads_or_compilation():
    arrays = [normal(1, 4, 200, 32, seed=k) for k in range(3)]
    before = st.get_num_threads()

    def step(q, k, v):
        q.grad = k.grad = v.grad = None
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out.backward(out.detach())
        return out.detach(), q.grad, k.grad, v.grad

    seen = []
    try:
        for threads in (1, 2, 4):
            st.set_num_threads(threads)
            for f in (step, st.compile(step)):
                seen.append([t.numpy().tobytes() for t in f(*[st.tensor(a, requires_grad=True) for a in arrays])])
    finally:
        st.set_num_threads(before)
    assert all(s == seen[0] for s in seen)


def test_views_are_read_where_they_lie():
    """Heads that are parts of one product are not copied, and neither is the output for what follows."""
    x = st.tensor(normal(1, 64, 3 * 32))
    q, k, v = (t.view(1, 64, 2, 16).transpose(1, 2) for t in x.split(32, 2))
    launches = counters["launches"]
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 64, 32) * 2
    y.tolist()
    assert counters["launches"] - launches == 2  # attention, and the multiplication


def test_a_new_length_compiles_nothing():
    def run(length, features):
        q = st.randn(1, 2, length, features)
        F.scaled_dot_product_attention(q, q, q).transpose(1, 2).reshape(-1).tolist()

    run(64, 16)
    before = counters["kernels"]
    run(97, 16)
    run(80, 32)
    assert counters["kernels"] == before


def test_gradient_of_the_gradient():
    arrays = [normal(1, 1, 50, 16, seed=k) for k in range(3)]

    def second(lib):
        q, k, v = (lib.tensor(a, requires_grad=True) for a in arrays)
        if lib is torch:
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        (dq,) = lib.autograd.grad((out * out).sum(), q, create_graph=True)
        return [g.numpy() for g in lib.autograd.grad((dq * dq).sum(), (q, k, v))]

    for ours, theirs in zip(second(st), second(torch)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_dropout_is_drawn_from_the_generator():
    q, k, v = (st.tensor(normal(1, 2, 60, 8, seed=s), requires_grad=True) for s in range(3))

    def run(seed):
        st.manual_seed(seed)
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=0.4)
        v.grad = None
        out.sum().backward()
        return out.tolist(), v.grad.tolist()

    assert run(1) == run(1) != run(2)
    assert not st.tensor(run(1)[0]).isnan().any()
    # Weights that stay are divided by 0.6: a mean over many queries keeps its expectation.
    st.manual_seed(0)
    ones = st.ones(1, 1, 400, 8)
    kept = F.scaled_dot_product_attention(st.zeros(1, 1, 400, 8), st.zeros(1, 1, 400, 8), ones, dropout_p=0.4)
    assert abs(kept.mean().item() - 1) < 0.02
    assert (F.scaled_dot_product_attention(q, k, v, dropout_p=1.0) == 0).all()


def test_what_is_not_a_number_stays_in_its_row():
    q = normal(1, 1, 70, 16)
    q[0, 0, 5, 0] = np.nan
    k = normal(1, 1, 90, 16, seed=1)
    out = F.scaled_dot_product_attention(st.tensor(q), st.tensor(k), st.tensor(k)).numpy()
    assert np.isnan(out[0, 0, 5]).all()
    assert np.isfinite(np.delete(out, 5, 2)).all()


@pytest.mark.parametrize(
    "shapes, kwargs",
    [
        (((4,), (4,), (4,)), {}),
        (((1, 3, 4), (1, 5, 3), (1, 5, 4)), {}),
        (((1, 3, 4), (1, 5, 4), (1, 6, 4)), {}),
        (((2, 3, 4), (3, 5, 4), (3, 5, 4)), {}),
        (((2, 4, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)), {}),
        (((2, 4, 3, 4), (2, 3, 5, 4), (2, 3, 5, 4)), {"enable_gqa": True}),
        (((3, 4), (5, 4), (5, 4)), {"enable_gqa": True}),
        (((1, 3, 4), (1, 5, 4), (1, 5, 4)), {"dropout_p": 1.5}),
        (((1, 3, 4), (1, 5, 4), (1, 5, 4)), {"attn_mask": (4, 5)}),
    ],
)
def test_refusals(shapes, kwargs):
    for lib in (torch, st):
        tensors = [lib.ones(s) for s in shapes]
        given = {k: lib.ones(v) if k == "attn_mask" else v for k, v in kwargs.items()}
        with pytest.raises((RuntimeError, IndexError)):
            lib.nn.functional.scaled_dot_product_attention(*tensors, **given)


def test_refused_types():
    x = st.ones(1, 3, 4)
    for args in ((x, x.double(), x), (x.long(), x.long(), x.long()), (x, x, x, st.ones(3, 3, dtype=st.float64))):
        with pytest.raises(RuntimeError, match="dtype|floating point"):
            F.scaled_dot_product_attention(*args)


def test_the_reference_interpreter_runs_the_definition():
    arrays = [normal(2, 70, 2, 16, seed=k) for k in range(3)]

    def run():
        q, k, v = (st.tensor(a).transpose(1, 2).requires_grad_() for a in arrays)
        out = F.scaled_dot_product_attention(q, k, v, st.tensor(normal(1, 2, 70, 70)))
        out.sum().backward()
        return [t.detach().numpy() for t in (out, q.grad, k.grad, v.grad)]

    expected = run()
    before = config.cpu
    config.cpu = "reference"
    try:
        found = run()
    finally:
        config.cpu = before
    for a, b in zip(expected, found):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
