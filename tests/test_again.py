"""Calls seen before: what is recorded as one node means what was recorded the long way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch import again, dtypes
from spiraltorch.dispatch import call
from spiraltorch.errors import SpiralError
from spiraltorch.jit.eager import cached_programs, clear_programs
from spiraltorch.jit.program import counters
from spiraltorch.ops import OPS
from spiraltorch.ops.registry import Op

DRAWN = {name for name, o in OPS.items() if "key" in o.parameters}
OPERATORS = [o for name, o in OPS.items() if name not in DRAWN]


def tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        t = st.tensor(value)
        return t.requires_grad_() if t.dtype.kind == "f" else t
    return [tensors(v) for v in value] if isinstance(value, list) else value


def outcome(op: Op, sample: Any) -> list[bytes] | str:
    """The bytes of all results, and of the gradients of their sum."""
    args = tensors(list(sample.args))
    try:
        out = call(op, args, {k: tensors(v) for k, v in sample.kwargs.items()})
        outs = [o for o in (out if isinstance(out, (list, tuple)) else [out]) if isinstance(o, st.Tensor)]
        for o in outs:
            if o.requires_grad and o.dtype.kind == "f":
                o.sum().backward(retain_graph=True)
        leaves = [a for v in args for a in (v if isinstance(v, list) else [v]) if isinstance(a, st.Tensor)]
        found = [*outs, *[a.grad for a in leaves if a.grad is not None]]
        return [str((o.dtype, tuple(o.shape))).encode() + o.detach().numpy().tobytes() for o in found]
    except (RuntimeError, ValueError, TypeError, IndexError) as e:
        return type(e).__name__


@pytest.mark.parametrize("op", OPERATORS, ids=[o.name for o in OPERATORS])
def test_a_call_seen_before_means_the_same(op: Op) -> None:
    assert op.samples is not None
    for sample in op.samples(dtypes.float32)[:1]:
        first = outcome(op, sample)
        assert outcome(op, sample) == first, sample


def test_the_second_call_is_one_node() -> None:
    x = st.randn(3, 17)
    for _ in range(2):
        y = x.softmax(-1)[None].sum(2)
    assert y._read().op == "APPLY" and [n.op for n in y._read().src] == ["APPLY"]
    np.testing.assert_allclose(y.tolist(), [[1, 1, 1]], rtol=1e-6)


def test_repeated_code_makes_no_programs() -> None:
    def turn() -> float:
        x = st.arange(12.0).reshape(3, 4).requires_grad_()
        y = st.nn.functional.gelu(x - x.mean(-1)[:, None]) * x[0]
        y.sum().backward()
        assert x.grad is not None
        return float(x.grad.sum().item())

    values = {turn() for _ in range(3)}
    before = counters["programs"]
    values |= {turn() for _ in range(5)}
    assert counters["programs"] == before and len(values) == 1


def test_changing_numbers_are_not_programs_each() -> None:
    x = st.arange(7.0)
    clear_programs()
    for _ in range(2):
        for k in range(40):
            assert x.clamp(max=0.1 * k).max().item() == pytest.approx(min(6, 0.1 * k))
    assert cached_programs() <= 2 * again.FEW + 3


def test_what_is_equal_but_not_the_same_is_kept_apart() -> None:
    x, i = st.ones(3), st.ones(3, dtype=st.int64)
    for _ in range(3):
        assert str(st.copysign(x, 0.0).tolist()) != str(st.copysign(x, -0.0).tolist())
        assert [st.mul(i, v).dtype for v in (1, 1.0, True)] == [st.int64, st.float32, st.int64]
        assert st.mul(i, 1.5).dtype is st.float32
        st.set_default_dtype(st.float64)
        try:
            assert st.mul(i, 1.5).dtype is st.float64
        finally:
            st.set_default_dtype(st.float32)


def test_what_was_refused_is_refused_again() -> None:
    x = st.ones(2, 3)
    for _ in range(3):
        with pytest.raises(IndexError):
            x.sum(5)
        with pytest.raises(SpiralError):
            x.view(5)
        with pytest.raises(RuntimeError):
            st.cat([x, st.ones(2, 3, 1)])


def test_a_failed_index_inside_a_call_seen_before() -> None:
    table = st.ones(4, 2) * 2
    good, bad = st.tensor([1, 3]), st.tensor([1, 4])
    for index in (good, good, good):
        st.nn.functional.embedding(index, table).tolist()
    other = table.softmax(-1)
    taken = st.nn.functional.embedding(bad, table).softmax(-1)
    for _ in range(2):
        with pytest.raises(IndexError, match=r"index is not in \[0, 4\).*test_again.py:\d+"):
            taken.tolist()
    np.testing.assert_allclose(other.sum(-1).tolist(), [1, 1, 1, 1], rtol=1e-6)


def test_memory_is_reused_in_place() -> None:
    x = st.ones(100) * 1
    at = x.data_ptr()
    for k in range(4):
        x.add_(1)
        assert x[0].item() == k + 2 and x.data_ptr() == at


def test_a_write_under_a_view() -> None:
    for _ in range(3):
        x = st.zeros(3, 4)
        row = x[1]
        x.add_(2)
        row.mul_(3)
        assert row.tolist() == [6] * 4 and x.sum().item() == 40


def test_long_chains() -> None:
    for _ in range(2):
        x = st.ones(4)
        for _ in range(3000):
            x = (x * 0.5 + 0.5).relu().clamp(max=2)
        assert x.tolist() == [1.0] * 4


def test_gradients_of_gradients() -> None:
    for _ in range(3):
        x = st.tensor([0.3, 0.7], requires_grad=True)
        (g,) = st.autograd.grad((x**3).sum(), x, create_graph=True)
        (h,) = st.autograd.grad(g.sum(), x)
        np.testing.assert_allclose(h.tolist(), [1.8, 4.2], rtol=1e-6)


def test_a_product_that_sums_nothing():
    """Its operand may be a number, as the gradient of a dot product is."""
    a, b = st.tensor([1.0, -2.0]).requires_grad_(), st.tensor([3.0, 0.0]).requires_grad_()
    st.dot(a, b).backward()
    assert a.grad.tolist() == [3, 0] and b.grad.tolist() == [1, -2]
    assert [str(v) for v in st.outer(a, b)[1].tolist()] == ["-6.0", "-0.0"]
