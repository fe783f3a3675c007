"""Views against torch in shape, stride, offset and memory; moved, re-pointed and reinterpreted tensors; shape functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from tests.helpers import same, same_error

VIEWS: dict[str, Any] = {
    "view": lambda m, x: x.view(4, 3, 2), "reshape": lambda m, x: x.reshape(6, 4), "ravel": lambda m, x: x.ravel(),
    "reshape of t": lambda m, x: x.transpose(0, 2).reshape(24), "ravel of t": lambda m, x: m.ravel(x[0].t()),
    "flatten": lambda m, x: x.flatten(1), "flatten of t": lambda m, x: x.transpose(0, 1).flatten(1),
    "flatten slice": lambda m, x: x[:, 1:].flatten(), "unflatten": lambda m, x: x.unflatten(-1, (2, 2)),
    "transpose": lambda m, x: x.transpose(0, -1), "swapaxes": lambda m, x: m.swapaxes(x, 0, 1),
    "swapdims": lambda m, x: x.swapdims(1, 2), "permute": lambda m, x: x.permute(2, 0, 1),
    "movedim": lambda m, x: m.movedim(x, 0, 2), "moveaxis": lambda m, x: x.moveaxis((0, 1), (1, 0)),
    "mT": lambda m, x: x.mT, "mH": lambda m, x: x.mH, "H": lambda m, x: x[0].H, "T": lambda m, x: x[0].T,
    "adjoint": lambda m, x: x.adjoint(), "squeeze": lambda m, x: x[:, :1].squeeze(), "squeeze dims": lambda m, x: x[:1, :1].squeeze((0, 1)),
    "unsqueeze": lambda m, x: x.unsqueeze(1), "expand": lambda m, x: x[:, :1].expand(-1, 5, -1),
    "expand_as": lambda m, x: x[:1].expand_as(x), "broadcast_to": lambda m, x: m.broadcast_to(x, (2, 2, 3, 4)),
    "broadcast_tensors": lambda m, x: m.broadcast_tensors(x[:1], x[:, :1]), "narrow": lambda m, x: x.narrow(1, 1, 2),
    "select": lambda m, x: x.select(2, 1), "split": lambda m, x: x.split(2, 1), "split sizes": lambda m, x: x.split_with_sizes([1, 3], 2),
    "tensor_split": lambda m, x: x.tensor_split(3, 2), "tensor_split at": lambda m, x: m.tensor_split(x, (1, 3), -1),
    "tensor_split tensor": lambda m, x: m.tensor_split(x, m.tensor([1, 3]), -1),
    "chunk": lambda m, x: x.chunk(2, 2), "unbind": lambda m, x: x.unbind(1), "hsplit": lambda m, x: x.hsplit(3),
    "vsplit": lambda m, x: x.vsplit(2), "dsplit": lambda m, x: m.dsplit(x, (1, 2)), "unfold": lambda m, x: x.unfold(2, 2, 1),
    "unfold step": lambda m, x: x.unfold(1, 2, 1).unfold(2, 3, 1), "diagonal": lambda m, x: x.diagonal(1, 1, 2),
    "as_strided": lambda m, x: x.as_strided((3, 2), (8, 1), 2), "as_strided overlap": lambda m, x: x[1].as_strided((3, 3), (1, 1)),
    "as_strided expand": lambda m, x: m.as_strided(x, (2, 3), (0, 2)), "slice": lambda m, x: x[:, ::2, 1:], "index": lambda m, x: x[1, :, 2],
    "None": lambda m, x: x[None, :, None, 1], "ellipsis": lambda m, x: x[..., 1], "atleast_3d": lambda m, x: m.atleast_3d(x[0]),
    "atleast_2d": lambda m, x: m.atleast_2d(x[0, 0], x[0]), "atleast_1d": lambda m, x: m.atleast_1d(x[0, 0, 0]),
    "detach": lambda m, x: x.detach(), "view_as": lambda m, x: x.view_as(x.reshape(4, 6)), "reshape_as": lambda m, x: x.reshape_as(x.reshape(4, 6)),
    "meshgrid": lambda m, x: m.meshgrid(x[0, 0], x[0, :, 0], indexing="xy"), "view int": lambda m, x: x.view(m.int32),
    "view bytes": lambda m, x: x.view(m.uint8), "view wide": lambda m, x: x[:, :, 2:].view(m.int64), "data": lambda m, x: x.data,
    "channels_last": lambda m, x: x[None].contiguous(memory_format=m.channels_last), "clone": lambda m, x: x.clone(),
    "contiguous": lambda m, x: x.contiguous(), "contiguous of t": lambda m, x: x.mT.contiguous(), "cat": lambda m, x: m.cat([x, x]),
    "to same": lambda m, x: x.to(m.float32), "type same": lambda m, x: x.type(m.float32), "expand scalar": lambda m, x: x[0, 0, 0].expand(2, 2),
    "repeat": lambda m, x: x.repeat(1, 1, 1), "flip": lambda m, x: x.flip(0), "diag": lambda m, x: m.diag(x[0]), "narrow_copy": lambda m, x: m.narrow_copy(x, 0, 0, 1),
}  # fmt: skip


def facts(x: Any, out: Any) -> Any:
    """Shape, strides (of size 1: none, they mean nothing) and where it lies: an offset from ``x`` in bytes, or None for
    memory of its own."""
    if isinstance(out, (tuple, list)):
        return [facts(x, o) for o in out]
    away = out.data_ptr() - x.data_ptr()
    shares = 0 <= away < x.numel() * x.element_size()
    return [
        tuple(out.shape), [t for n, t in zip(out.shape, out.stride()) if n > 1], out.is_contiguous(), str(out.dtype).split(".")[1], away if shares else None, out.tolist(),
        out.storage_offset() if shares else None,
    ]  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_views_lie_where_torchs_lie(name: str) -> None:
    ours, theirs = st.arange(24.0).reshape(2, 3, 4), torch.arange(24.0).reshape(2, 3, 4)
    assert facts(ours, VIEWS[name](st, ours)) == facts(theirs, VIEWS[name](torch, theirs))


WRITES: dict[str, Any] = {
    "unfold": lambda m, x: x.unfold(0, 2, 2).mul_(2), "as_strided": lambda m, x: x.as_strided((2, 2), (5, 2), 1).fill_(7),
    "as_strided of a view": lambda m, x: x[1].as_strided((3,), (2,)).neg_(), "view int": lambda m, x: x.view(m.int32)[1].zero_(),
    "view bytes": lambda m, x: x.view(m.uint8)[0, 3].fill_(65), "tensor_split": lambda m, x: x.tensor_split(2)[1].zero_(),
    "fill_diagonal_": lambda m, x: x.fill_diagonal_(5), "fill_diagonal_ wrap": lambda m, x: x.t().fill_diagonal_(5, wrap=True),
    "index_copy_": lambda m, x: x.index_copy_(1, m.tensor([2, 0]), m.make(4, 2)), "index_fill_": lambda m, x: x.index_fill_(0, m.tensor([-1, 1]), 3),
    "put_": lambda m, x: x.put_(m.tensor([3, -1]), m.tensor([8.0, 9.0])), "put_ add": lambda m, x: x.put_(m.tensor([3, 3]), m.tensor([8.0, 9.0]), True),
    "masked_scatter_": lambda m, x: x.masked_scatter_(x > 0, m.make(24)), "scatter_": lambda m, x: x.scatter_(0, m.tensor([[1, 2, 0]]), 4.0),
    "scatter_ multiply": lambda m, x: x.scatter_(0, m.tensor([[1, 2, 0]]), 4.0, reduce="multiply"), "resize_ smaller": lambda m, x: x[1].clone().resize_(2, 2),
    "scatter_reduce_": lambda m, x: x.scatter_reduce_(0, m.tensor([[1, 1, 0], [2, 1, 0]]), m.make(2, 3), "amax"),
    "index_reduce_": lambda m, x: x.index_reduce_(0, m.tensor([1, 1]), m.make(2, 6), "prod"), "narrow copy": lambda m, x: m.narrow_copy(x, 0, 0, 1).zero_(),
    "index_put_": lambda m, x: x.index_put_((m.tensor([0, 1]), m.tensor([2, 2])), m.tensor([1.0, 2.0])), "tril_": lambda m, x: x.tril_(),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_writes_are_seen_by_every_alias(name: str) -> None:
    def program(m: Any) -> Any:
        x = m.make(4, 6)
        row, flipped, flat, early = x[1], x.t(), x.view(24), x * 2
        return [WRITES[name](m, x), x, row, flipped, flat, early]

    same(program)


MOVED: dict[str, Any] = {
    "t_": lambda m, x: x.t_(), "transpose_": lambda m, x: x.transpose_(0, 1), "swapaxes_": lambda m, x: x.swapaxes_(0, 1),
    "swapdims_": lambda m, x: x.swapdims_(0, 1), "squeeze_": lambda m, x: x.squeeze_(), "unsqueeze_": lambda m, x: x.unsqueeze_(1),
    "as_strided_": lambda m, x: x.as_strided_((2, 2), (1, 2)), "resize_": lambda m, x: x.resize_(2, 3), "resize_as_": lambda m, x: x.resize_as_(m.make(3)),
    "set_": lambda m, x: x.set_(m.make(2, 2).t()), "set_ part": lambda m, x: x.set_(m.arange(6.0), 1, (2, 2), (2, 1)), "set_ nothing": lambda m, x: x.set_(),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_a_tensor_itself_becomes_the_view(name: str) -> None:
    def program(m: Any) -> Any:
        x = m.make(4, 6)
        assert MOVED[name](m, x) is x
        leaf = m.make(4, 6, grad=True)
        y = leaf * 2
        if name[:4] != "resi" and name[:4] != "set_":
            MOVED[name](m, y)
            (y * y).sum().backward()
        return [x, x.shape, x.stride(), x + 1, leaf.grad]

    same(program)


def test_swapped_sizes_refuse_what_requires_grad() -> None:
    for change in (lambda m, x: x.resize_(2), lambda m, x: x.t_(), lambda m, x: x.unsqueeze_(0)):
        same_error(lambda m, change=change: change(m, m.make(3, 3, grad=True)))


@pytest.mark.parametrize(
    "refused",
    [
        lambda m, x: x.as_strided((2, 2), (-1, 1)), lambda m, x: x.as_strided((9, 9), (9, 9)), lambda m, x: x.as_strided((2,), (1, 1)),
        lambda m, x: x.view(m.int64)[:, ::2].view(m.int32).view(m.int64).t().view(m.int16), lambda m, x: x[0, 0].view(m.int64),
        lambda m, x: x[:, :3].view(m.int64), lambda m, x: x.tensor_split(0), lambda m, x: x.hsplit(5), lambda m, x: x[0].vsplit(2),
        lambda m, x: x.dsplit(2), lambda m, x: x.diag(0)[0].diag(), lambda m, x: m.rot90(x, 1, (0, 0)), lambda m, x: m.fliplr(x[0]),
        lambda m, x: m.combinations(x), lambda m, x: m.cartesian_prod(x), lambda m, x: m.block_diag(x[None]), lambda m, x: m.broadcast_shapes((2, 3), (4,)),
        lambda m, x: x.expand(3, 4, 6).clone().H, lambda m, x: x.sum_to_size(5), lambda m, x: x.select_scatter(x, 0, 1), lambda m, x: x.take(m.tensor([0.0])),
        lambda m, x: x.put(m.tensor([0]), m.tensor([0])), lambda m, x: x.index_copy(0, m.tensor([0]), m.make(2, 6)), lambda m, x: x.index_fill(0, m.tensor([0]), m.make(2)),
        lambda m, x: x.masked_scatter(m.tensor([1, 0, 1, 0, 1, 0]), m.make(9)), lambda m, x: x.scatter_reduce(0, m.tensor([[0]]), m.make(1, 1), "median"),
        lambda m, x: x.index_reduce(0, m.tensor([0]), m.make(1, 6), "sum"), lambda m, x: x.scatter(0, m.tensor([[0]]), 1.0, reduce="min"),
        lambda m, x: m.meshgrid(x[0], x), lambda m, x: m.tril_indices(-1, 2),
        lambda m, x: m.unravel_index(m.tensor([0.5]), (2, 3)), lambda m, x: x.repeat_interleave(m.tensor([1, 2]), 0), lambda m, x: x.repeat_interleave(-1),
        lambda m, x: x.fill_diagonal_(m.make(2)), lambda m, x: m.make(3).fill_diagonal_(1.0), lambda m, x: x.is_contiguous(memory_format=m.channels_last) + x.t().view(-1),
        lambda m, x: m.vander(x), lambda m, x: m.hstack([]), lambda m, x: m.vstack([x, m.make(2)]), lambda m, x: x.contiguous(memory_format=m.channels_last),
    ],
)  # fmt: skip
def test_refusals(refused: Any) -> None:
    same_error(lambda m: refused(m, m.make(4, 6)))


FUNCTIONS: dict[str, Any] = {
    "nonzero": lambda m: [m.nonzero(m.tensor([[0, 2], [3, 0]])), m.nonzero(m.tensor(3)), m.nonzero(m.zeros(0, 2))],
    "nonzero tuple": lambda m: [*m.nonzero(m.tensor([[0, 2], [3, 0]]), as_tuple=True), *m.nonzero(m.tensor(1), as_tuple=True)],
    "argwhere": lambda m: [m.argwhere(m.tensor([[0.0, float("nan")], [3, 0]])), m.tensor(0).argwhere()], "where": lambda m: list(m.where(m.tensor([[0, 2], [3, 0]]))),
    "masked_select": lambda m: [m.make(2, 3).masked_select(m.tensor([True, False, True])), m.masked_select(m.tensor(2.0), m.tensor(True))],
    "repeat_interleave": lambda m: [m.make(3, 2).repeat_interleave(m.tensor([2, 0, 3]), 0), m.repeat_interleave(m.tensor([1, 2, 0])), m.make(2).repeat_interleave(m.tensor([2])),
                                    m.make(2, 2).repeat_interleave(m.tensor([1, 2, 0, 1])), m.make(2, 2).repeat_interleave(m.tensor([1, 2]), dim=1, output_size=3)],
    "unravel_index": lambda m: list(m.unravel_index(m.tensor([[5, 1], [0, 11]]), (2, 3, 2))), "tril_indices": lambda m: [m.tril_indices(3, 4, 1), m.triu_indices(3, 4, -1), m.tril_indices(2, 2, dtype=m.int32)],
    "block_diag": lambda m: [m.block_diag(m.make(2, 2), m.tensor(1.0), m.make(3)), m.block_diag()], "cartesian_prod": lambda m: [m.cartesian_prod(m.tensor([1, 2]), m.tensor([3, 4, 5]))],
    "atleast": lambda m: [m.atleast_1d(m.tensor(1), m.make(2))[1], m.atleast_3d([m.make(2), m.make(2, 2)])[0]], "broadcast_shapes": lambda m: [tuple(m.broadcast_shapes((2, 1), (3,), 1))],
    "dim_order": lambda m: [m.make(2, 3).t().dim_order(), m.make(1, 2, 3, 4).to(memory_format=m.channels_last).dim_order()], "is_set_to": lambda m: [m.make(2).is_set_to(m.make(2))],
    "clone format": lambda m: [m.make(1, 2, 3, 4).clone(memory_format=m.channels_last).stride(), m.make(1, 2, 3, 4).is_contiguous(memory_format=m.channels_last)],
    "concat": lambda m: [m.concat([m.make(2), m.make(1)]), m.concatenate([m.make(2), m.make(1)]), m.row_stack([m.make(2), m.make(2)])],
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    same(FUNCTIONS[name])


GRADIENTS: dict[str, Any] = {
    "as_strided_scatter": (lambda x, y: st.as_strided_scatter(x, y, (3, 2), (4, 1)), (12,), (3, 2)),
    "vander": (lambda x, y: st.vander(x, 4) * y, (3,), (3, 4)),
    "as_strided overlap": (lambda x, y: x.as_strided((3, 3), (1, 1)) * y, (6,), (3, 3)),
    "scatter max ties": (lambda x, y: x.scatter_reduce(0, st.tensor([0, 0, 1]), y, "amax"), (3,), (3,)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_by_central_differences(name: str) -> None:
    f, *shapes = GRADIENTS[name]
    draw = np.random.default_rng(5)
    leaves = [st.tensor(draw.standard_normal(s)).requires_grad_() for s in shapes]
    assert st.autograd.gradcheck(f, leaves)
    assert st.autograd.gradgradcheck(f, leaves)


def test_products_scattered_over_zeros_have_torchs_gradient() -> None:
    def program(m: Any) -> Any:
        x, y = m.tensor([0.0, 2.0, 3.0]).requires_grad_(), m.tensor([0.0, 4.0, 0.0, 0.0, 5.0]).requires_grad_()
        out = x.scatter_reduce(0, m.tensor([0, 0, 1, 1, 2]), y, "prod")
        (out * m.tensor([1.0, 2.0, 3.0])).sum().backward()
        return [out, x.grad, y.grad]

    same(program)
