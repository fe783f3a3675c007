"""Results and gradients lie in memory as torch's do, whatever the order of their operands' axes."""

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


IMAGES: dict[str, Call] = {
    "rows": lambda m, x: x, "channels last": lambda m, x: x.contiguous(memory_format=m.channels_last),
    "one image": lambda m, x: x[:1].contiguous(memory_format=m.channels_last),
    "photograph": lambda m, x: x[0].permute(1, 2, 0).contiguous().permute(2, 0, 1).unsqueeze(0),  # torch takes it for rows
    "turned": lambda m, x: x.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2),
}  # fmt: skip
LAYERS: dict[str, Call] = {
    "conv2d": lambda m, x: m.conv2d(x, m.ones(6, 4, 3, 3)), "conv2d 1x1": lambda m, x: m.conv2d(x, m.ones(6, 4, 1, 1)),
    "conv2d by filter": lambda m, x: m.conv2d(x, m.ones(6, 4, 3, 3).to(memory_format=m.channels_last)),
    "conv2d of one": lambda m, x: m.conv2d(x[0], m.ones(6, 4, 3, 3).to(memory_format=m.channels_last)),
    "conv1d": lambda m, x: m.conv1d(x[0], m.ones(6, 6, 3)), "conv1d by filter": lambda m, x: m.conv1d(x[0], m.ones(6, 3, 6).transpose(1, 2)),
    "groups": lambda m, x: m.conv2d(x, m.ones(4, 1, 3, 3), groups=4),
    "conv_transpose2d": lambda m, x: m.conv_transpose2d(x, m.ones(4, 2, 3, 3), stride=2),
    "max_pool2d": lambda m, x: m.max_pool2d(x, 2), "avg_pool2d": lambda m, x: m.nn.functional.avg_pool2d(x, 2),
    "indices": lambda m, x: m.nn.functional.max_pool2d(x, 2, return_indices=True)[1],
    "adaptive": lambda m, x: m.nn.functional.adaptive_avg_pool2d(x, 2), "adaptive max": lambda m, x: m.nn.functional.adaptive_max_pool2d(x, 2),
    "interpolate": lambda m, x: m.nn.functional.interpolate(x, scale_factor=2), "pixel_shuffle": lambda m, x: m.pixel_shuffle(x, 2),
    "batch_norm": lambda m, x: m.nn.functional.batch_norm(x, m.zeros(4), m.ones(4), training=True),
    "eval": lambda m, x: m.nn.functional.batch_norm(x, m.zeros(4), m.ones(4)), "group_norm": lambda m, x: m.nn.functional.group_norm(x, 2),
    "pad": lambda m, x: m.nn.functional.pad(x, (1, 2)), "cat": lambda m, x: m.cat([x, x], 1), "cat with rows": lambda m, x: m.cat([x, m.ones(1, 4, 6, 6)]),
    "flip": lambda m, x: x.flip(3), "sort": lambda m, x: x.sort(2)[1], "flatten": lambda m, x: x.flatten(1), "sum": lambda m, x: x.sum(1, keepdim=True),
}  # fmt: skip


@pytest.mark.parametrize("images", IMAGES)
def test_layers_keep_channels_last_as_torch_does(images: str) -> None:
    for name, call in LAYERS.items():
        if (images, name) in (("turned", "pixel_shuffle"), ("photograph", "batch_norm"), ("photograph", "eval")):
            # torch shuffles no other order; its batch norm alone takes a photograph for one with channels last
            continue
        found, want = (call(m, IMAGES[images](m, m.arange(288.0).sin().view(2, 4, 6, 6))) for m in (st, torch))
        assert layout(found) == layout(want), name
        torch.testing.assert_close(torch.from_numpy(found.numpy()).double(), want.double(), rtol=1e-4, atol=1e-5)


OTHERS: dict[str, Call] = {
    "sort": lambda m, x: x.sort(), "argsort": lambda m, x: x.argsort(0), "msort": lambda m, x: m.msort(x), "flip": lambda m, x: x.flip(0),
    "flipud": lambda m, x: x.flipud(), "index_put": lambda m, x: x.index_put((m.tensor([1]),), m.tensor(2.0)),
    "index_fill": lambda m, x: x.index_fill(1, m.tensor([0]), 3.0), "put": lambda m, x: x.put(m.tensor([3]), m.tensor([9.0])),
    "select_scatter": lambda m, x: x.select_scatter(m.ones(4), 1, 2), "slice_scatter": lambda m, x: m.slice_scatter(x, m.ones(4, 2), 1, 0, 2),
    "diagonal_scatter": lambda m, x: m.diagonal_scatter(x, m.ones(4)), "glu": lambda m, x: m.nn.functional.glu(x, 0),
    "prelu": lambda m, x: m.nn.functional.prelu(x, m.tensor([0.5])), "clone": lambda m, x: x.clone(), "cat": lambda m, x: m.cat([x, x]),
    "inv": lambda m, x: m.linalg.inv(x), "solve": lambda m, x: m.linalg.solve(x, m.ones(4, 2)), "vector": lambda m, x: m.linalg.solve(x, m.ones(4)),
    "right": lambda m, x: m.linalg.solve(x, m.ones(2, 4), left=False), "cholesky": lambda m, x: m.linalg.cholesky(x),
    "qr": lambda m, x: m.linalg.qr(x), "svd": lambda m, x: m.linalg.svd(x), "eigh": lambda m, x: m.linalg.eigh(x), "lu": lambda m, x: m.linalg.lu_factor(x),
    "batch": lambda m, x: m.linalg.qr(m.stack([x, x])), "pinv": lambda m, x: m.linalg.pinv(x), "det": lambda m, x: m.linalg.slogdet(x),
    "cholesky_solve": lambda m, x: m.cholesky_solve(m.ones(4, 1), x), "triangular": lambda m, x: m.linalg.solve_triangular(x, m.ones(4, 3), upper=True),
}  # fmt: skip


@pytest.mark.parametrize("turned", [False, True])
def test_results_that_are_not_pointwise_lie_as_torchs(turned: bool) -> None:
    for name, call in OTHERS.items():
        results: list[Any] = []
        for m in (st, torch):
            x: Any = m.eye(4) * 5 + m.outer(m.arange(4.0), m.arange(4.0)).sin()
            found = call(m, x.t().contiguous().t() if turned else x)
            results.append(list(found) if isinstance(found, tuple) else [found])
        for a, b in zip(*results, strict=True):
            assert layout(a) == layout(b), name
            assert a._base is None or name == "det", name
            if "svd" not in name and name != "eigh":
                torch.testing.assert_close(torch.from_numpy(a.numpy()).double(), b.double(), rtol=1e-4, atol=1e-4)


def test_gradients_lie_as_their_leaves() -> None:
    seen = []
    for m in (st, torch):
        last: Any = m.arange(48.0).view(1, 3, 4, 4).contiguous(memory_format=m.channels_last).requires_grad_()
        turned = m.arange(6.0).view(2, 3).t().requires_grad_()
        rows = m.arange(6.0).view(2, 3).requires_grad_()
        gaps = m.arange(12.0).view(4, 3)[::2].t().detach().requires_grad_()
        given = m.ones(3, 2).t()
        for _ in range(2):
            m.conv2d(last, m.ones(2, 3, 2, 2)).square().sum().backward()
            (turned * 2).sum().backward()
            (rows.t().exp() * 2).t().backward(given)
            (gaps.flip(0) * 2).sum().backward()
            seen.append([(t.grad.stride(), t.grad.flatten().tolist()) for t in (last, turned, rows, gaps)])
        assert given.tolist() == [[1] * 3] * 2
    assert [s for s, _ in seen[0]] == [s for s, _ in seen[2]] and [s for s, _ in seen[1]] == [s for s, _ in seen[3]]
    for (_, a), (_, b) in zip(seen[0] + seen[1], seen[2] + seen[3]):
        torch.testing.assert_close(torch.tensor(a), torch.tensor(b))


def test_backward_through_results_that_were_laid_out() -> None:
    grads = []
    for m in (st, torch):
        a: Any = (m.eye(3) * 4 + m.arange(9.0).view(3, 3).sin()).requires_grad_()
        inverse = m.linalg.inv(a)
        q, r = m.linalg.qr(inverse * 2)
        inverse.t()[0].mul_(2)  # the tape holds the inverse as it was
        images: Any = m.arange(32.0).view(1, 2, 4, 4).contiguous(memory_format=m.channels_last).requires_grad_()
        top = m.max_pool2d(m.conv2d(images, m.ones(2, 2, 1, 1)).sin(), 2)
        with pytest.raises(RuntimeError, match="modified by an inplace"):
            (inverse.sum() + q.sum()).backward()
        (m.linalg.inv(a).sort(0)[0].pow(2).sum() + top.sum() + (r * r).sum().detach()).backward()
        grads.append([a.grad.tolist(), images.grad.tolist()])
    for found, want in zip(*grads):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(want), rtol=1e-4, atol=1e-4)


def test_a_compiled_step_with_channels_last() -> None:
    found = []
    for m in (st, torch):
        m.manual_seed(0)
        net: Any = m.nn.Sequential(m.nn.Conv2d(3, 4, 3), m.nn.BatchNorm2d(4), m.nn.ReLU()).to(memory_format=m.channels_last)
        with m.no_grad():
            net[0].weight.copy_(m.arange(108.0).sin().view(4, 3, 3, 3))
            net[0].bias.zero_()
        x = m.arange(384.0).cos().view(2, 3, 8, 8).to(memory_format=m.channels_last)
        optimizer = m.optim.SGD(net.parameters(), 0.1)

        def step(x: Any, net: Any = net, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            y = net(x)
            y.square().mean().backward()
            optimizer.step()
            return y

        call = st.compile(step) if m is st else step
        for _ in range(3):
            y = call(x)
        assert y.is_contiguous(memory_format=m.channels_last)
        weight = net[0].weight
        assert weight.stride() == weight.grad.stride() == (27, 1, 9, 3)
        found.append([y.tolist(), weight.tolist()])
    for a, b in zip(*found):
        torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-4, atol=1e-5)


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
