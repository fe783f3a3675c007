"""Results of pointwise operators lie in memory as torch's do, whatever the order of their operands' axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch import dtypes
from spiraltorch.ops.registry import OPS, Op
from tests.ops.harness import Bound, ours

Call = Callable[[Any, Any], Any]

OPERANDS: dict[str, Call] = {
    "columns": lambda m, x: x.t(), "part of columns": lambda m, x: x.t()[::2, 1:], "rows": lambda m, x: x[1:, ::2],
    "turned": lambda m, x: x.view(2, 2, 6).permute(2, 0, 1), "turned back": lambda m, x: x.view(2, 2, 6).permute(1, 2, 0).transpose(1, 2),
    "channels last": lambda m, x: x.view(1, 2, 3, 4).contiguous(memory_format=m.channels_last),
    "one channel": lambda m, x: x.view(2, 1, 3, 4).permute(0, 2, 3, 1), "repeated": lambda m, x: x[:, :1].expand(4, 5).t(),
    "windows": lambda m, x: x.view(-1).unfold(0, 4, 3).t(), "strided": lambda m, x: x.view(-1).as_strided((2, 3), (1, 4)),
    "diagonals": lambda m, x: x.view(2, 3, 4).diagonal(0, 0, 2), "empty": lambda m, x: x[:0].t(),
}  # fmt: skip
CALLS: dict[str, Call] = {
    "number": lambda m, x: x + 1, "reflected": lambda m, x: 2 / x, "unary": lambda m, x: x.exp(), "compare": lambda m, x: x < 3,
    "itself": lambda m, x: x * x, "row-major second": lambda m, x: x - m.ones(*x.shape), "row-major first": lambda m, x: m.ones(*x.shape) - x,
    "vector": lambda m, x: x * m.ones(x.shape[-1]), "vector first": lambda m, x: m.ones(x.shape[-1]) * x, "0-d": lambda m, x: m.tensor(2.0) * x,
    "more axes": lambda m, x: m.ones(2, *[1] * x.ndim) + x, "chain": lambda m, x: (x + 1).relu() * 2 - x, "bool": lambda m, x: ~(x > 3),
    "row-major minus": lambda m, x: m.rsub(x, m.ones(*x.shape)),
    "other type": lambda m, x: x + m.ones(*x.shape, dtype=m.float64), "where": lambda m, x: m.where(x > 3, x, 0.0),
    "three": lambda m, x: m.addcmul(x, x, m.ones(x.shape[-1])), "clamp": lambda m, x: x.clamp(1, max=5), "lerp": lambda m, x: m.lerp(x, x, 0.5),
    "two results": lambda m, x: m.frexp(x)[1], "softplus": lambda m, x: m.nn.functional.softplus(x),
    "loss": lambda m, x: m.nn.functional.mse_loss(x, x + 1, reduction="none"), "mean": lambda m, x: m.nn.functional.mse_loss(x, x + 1),
    "gelu": lambda m, x: m.nn.functional.gelu(x), "named": lambda m, x: m.add(input=x, other=x, alpha=2),
}  # fmt: skip


def layout(x: Any) -> tuple[Any, ...]:
    return tuple(x.shape), tuple([s for n, s in zip(x.shape, x.stride()) if n > 1]) if x.numel() else ()


@pytest.mark.parametrize("operand", OPERANDS)
def test_strides_and_values_are_torchs(operand: str) -> None:
    for name, call in CALLS.items():
        found, want = (call(m, OPERANDS[operand](m, m.arange(24.0).view(4, 6))) for m in (st, torch))
        assert layout(found) == layout(want), name
        assert found.is_contiguous() == want.is_contiguous(), name
        torch.testing.assert_close(torch.from_numpy(found.numpy()).double(), want.double(), rtol=1e-5, atol=1e-6, equal_nan=True)


POINTWISE = [op for op in OPS.values() if op.pointwise and op.samples is not None]


@pytest.mark.parametrize("op", POINTWISE, ids=[op.name for op in POINTWISE])
def test_pointwise_records_know_nothing_of_axes(op: Op) -> None:
    """With the axes of its operands reversed, a call has the same results with their axes reversed."""
    dtype = next(d for d in (dtypes.float32, dtypes.int64, dtypes.complex64) if d.kind in op.kinds)
    assert op.samples is not None
    for s in op.samples(dtype):
        rank = max([a.ndim for a in (*s.args, *s.kwargs.values()) if isinstance(a, np.ndarray)], default=0)
        if rank < 2:
            continue

        def reversed_(a: Any, rank: int = rank) -> Any:
            return a.reshape((1,) * (rank - a.ndim) + a.shape).T if isinstance(a, np.ndarray) and a.ndim else a

        plain = ours(op, Bound(s))
        turned = ours(op, Bound(replace(s, args=tuple(map(reversed_, s.args)), kwargs={k: reversed_(a) for k, a in s.kwargs.items()})))
        for a, b in zip(plain, turned, strict=True):
            a = reversed_(a) if a.ndim else a
            np.testing.assert_allclose(b.astype(np.complex128), a.astype(np.complex128), rtol=1e-4, atol=1e-5)


def test_a_result_is_no_view_and_its_views_are_views() -> None:
    for m in (st, torch):
        x: Any = m.arange(6.0).view(2, 3).t()
        y = x + 1
        assert y._base is None and y.data_ptr() != x.data_ptr() and y.storage_offset() == 0
        assert y.t().is_contiguous() and y.t().view(-1).data_ptr() == y.data_ptr()
        assert y.t().view(-1).tolist() == [1, 2, 3, 4, 5, 6]
        with pytest.raises(RuntimeError):
            y.view(-1)
        assert y.reshape(-1).tolist() == [1, 4, 2, 5, 3, 6] and y.flatten().data_ptr() != y.data_ptr()
        y.t()[1] = 0
        assert y.tolist() == [[1, 0], [2, 0], [3, 0]]
        y += x
        assert y.stride() == (1, 3) and y.sum().item() == 21


def test_gradients_through_results_and_writes_to_them() -> None:
    grads = []
    for m in (st, torch):
        x: Any = m.arange(6.0).view(2, 3).requires_grad_()
        y = (x.t() * m.tensor([1.0, 2.0])).sin()
        y[0] = 3.0
        z = y * y
        z.mul_(y.t().contiguous().t())
        z[:, 1].add_(1)
        (z * m.arange(6.0).view(3, 2)).sum().backward()
        grads.append([x.grad.flatten().tolist(), z.tolist()])
        assert y.grad_fn is not None and z.grad_fn is not None
    for found, want in zip(*grads):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(want))


def test_names_hooks_and_second_derivatives() -> None:
    found = []
    for m in (st, torch):
        x: Any = m.arange(1.0, 7.0).view(2, 3).requires_grad_()
        y = x.t().exp()
        seen: list[Any] = []
        y.retain_grad()
        y.register_hook(lambda g, seen=seen: seen.append(g.shape))
        assert y.grad_fn.name() == "ExpBackward0"
        (g,) = m.autograd.grad(y.log().pow(3).sum(), x, create_graph=True)
        g.sum().backward()
        assert tuple(seen[0]) == (3, 2)
        found.append(x.grad.flatten().tolist())
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(found[1]))


def test_compiled_functions_give_the_same_layout() -> None:
    def f(a: Any, b: Any) -> Any:
        c = a + 1
        return c, (c * b).relu(), c.t() - 1

    compiled = st.compile(f)
    for _ in range(2):
        for turned in (True, False):  # each order of the arguments is a program of its own
            given = [m.arange(6.0).view(2, 3).t() if turned else m.arange(6.0).view(3, 2) for m in (st, torch)]
            for found, want in zip(compiled(given[0], st.ones(3, 2)), f(given[1], torch.ones(3, 2))):
                assert layout(found) == layout(want) and found.tolist() == want.tolist()


def test_a_permuted_chain_stays_one_kernel_that_reads_rows() -> None:
    x = st.ones(64, 32).t()
    program = st.compile(lambda a: (a * 2 + 1).relu()).lower(x)
    assert len(program.kernels) == 1


def test_row_major_operands_take_the_way_they_took() -> None:
    x = st.ones(3, 4)
    assert (x[:, 1:] + 1)._steps == () and (x.view(4, 3) * 2)._steps == () and (x[None] + x)._steps == ()
