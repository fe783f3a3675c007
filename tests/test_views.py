"""Views and in-place writes: every alias sees every write, strides and refusals are torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st

from .helpers import Library, same, same_error

WRITES = {
    "slice": lambda m, x: x[1:3].mul_(2),
    "step": lambda m, x: x[::2, 1::3].add_(1),
    "transpose": lambda m, x: x.t()[0].fill_(7),
    "view": lambda m, x: x.view(-1)[5:9].zero_(),
    "reshape back": lambda m, x: x.reshape(2, 12).t().add_(m.make(12, 2)),
    "select": lambda m, x: x[2].copy_(m.make(6)),
    "select negative": lambda m, x: x[-1].copy_(m.make(6)),
    "element": lambda m, x: x[1, 2].add_(5),
    "setitem": lambda m, x: x.__setitem__((slice(1, 3), slice(None, None, 2)), 3.0),
    "setitem tensor": lambda m, x: x.__setitem__(0, m.make(6)),
    "setitem broadcast": lambda m, x: x.__setitem__((slice(None), slice(1, 3)), m.make(4, 1)),
    "mask": lambda m, x: x.__setitem__(x > 0, 0.0),
    "mask tensor": lambda m, x: x.__setitem__(x[:, 0] > 0, 1.5),
    "index": lambda m, x: x.__setitem__(m.tensor([0, 2]), m.make(2, 6)),
    "index pair": lambda m, x: x.__setitem__((m.tensor([0, 2]), m.tensor([1, 1])), 9.0),
    "diagonal": lambda m, x: x[:4, :4].diagonal().zero_(),
    "split": lambda m, x: x.split(2, 1)[1].neg_(),
    "chunk": lambda m, x: x.chunk(2)[0].abs_(),
    "unbind": lambda m, x: x.unbind(1)[3].fill_(-1),
    "squeeze": lambda m, x: x[1:2].squeeze(0).mul_(3),
    "unsqueeze": lambda m, x: x.unsqueeze(1)[2].mul_(3),
    "detach": lambda m, x: x.detach().add_(10),
    "flatten": lambda m, x: x.flatten()[3:].mul_(-1),
    "narrow": lambda m, x: x.narrow(1, 2, 3).exp_(),
    "permute": lambda m, x: x.view(2, 2, 6).permute(2, 0, 1)[1].sub_(4),
    "overlap in value": lambda m, x: x[1:].copy_(x[:-1].clone()),
    "self": lambda m, x: x.add_(x.t()[:4, :4].sum()),
}


@pytest.mark.parametrize("name", WRITES)
def test_write_through_view_is_seen_by_all(name):
    def program(m):
        x = m.make(4, 6)
        row, flipped, flat = x[1], x.t(), x.view(24)
        early = x * 2
        WRITES[name](m, x)
        return [x, row, flipped, flat, early, x._version > 0]

    same(program)


@pytest.mark.parametrize("name", WRITES)
def test_write_through_view_is_differentiable(name):
    def program(m):
        leaf = m.make(4, 6, grad=True)
        x = leaf * 1.5
        row = x[1]
        try:
            WRITES[name](m, x)
        except RuntimeError:
            return "refused"
        loss = (x * m.make(4, 6)).sum() + (row * 0.5).sum()
        loss.backward()
        return [loss, leaf.grad]

    same(program)


def test_versions_and_history_follow_the_base():
    def program(m):
        a = m.make(3, grad=True)
        b = a.clone()
        v = b[:2]
        v.mul_(a[:2])
        b[2] = a[0] * a[1]
        (b * b).sum().backward()
        return [b, v, a.grad, v.requires_grad, b.requires_grad, v._version, b._version]

    same(program)


@pytest.mark.parametrize(
    "write",
    [
        lambda m, a, b: a.add_(1),
        lambda m, a, b: a[0].add_(1),
        lambda m, a, b: a.detach().requires_grad_().mul_(2),
        lambda m, a, b: m.make(1, 3).expand(4, 3).add_(1),
        lambda m, a, b: b.add_(m.make(2, 3, 3)),
        lambda m, a, b: m.make(3, kind="i").add_(1.5),
        lambda m, a, b: m.make(3, kind="b").add_(2),
        lambda m, a, b: b.t().view(-1),
        lambda m, a, b: b.view(4, 4),
        lambda m, a, b: b.reshape(5, -1),
        lambda m, a, b: b[7],
        lambda m, a, b: b[0, 0, 0],
        lambda m, a, b: b[1.5],
        lambda m, a, b: b[::-1],
        lambda m, a, b: b.expand(2, 2),
        lambda m, a, b: b.__setitem__(0, m.make(4)),
        lambda m, a, b: b.transpose(0, 5),
        lambda m, a, b: b.permute(0, 0),
        lambda m, a, b: b[m.tensor([0, 9])],
    ],
)
def test_refusals(write):
    same_error(lambda m: write(m, m.make(3, 3, grad=True), m.make(3, 3)))


def test_saved_tensor_changed_in_place_raises():
    def program(m):
        a = m.make(3, grad=True)
        b = a * 1
        c = b * b
        b.add_(1)
        c.sum().backward()

    same_error(program, "modified by an inplace operation")

    def result_changed(m):
        a = m.make(3, grad=True)
        c = a.exp()
        c.add_(1)
        c.sum().backward()

    same_error(result_changed, "modified by an inplace operation")

    def fine(m):
        a = m.make(3, grad=True)
        c = a * 2
        c.add_(1)
        (c * 3).sum().backward()
        return a.grad

    same(fine)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x, lambda x: x.t(), lambda x: x[1:, ::2], lambda x: x[2], lambda x: x.unsqueeze(1), lambda x: x.view(2, 2, 6),
        lambda x: x.t().reshape(-1), lambda x: x[:, 1:3].t(), lambda x: x.permute(1, 0)[None], lambda x: x[:1].expand(5, 6),
        lambda x: x.view(2, 12)[:, 3:7].view(2, 2, 2), lambda x: x.unfold(1, 3, 2), lambda x: x[:4, :4].diagonal(1),
    ],
)  # fmt: skip
def test_strides_offsets_and_pointers(view):
    def program(m):
        x = m.make(4, 6)
        v = view(x)
        shares = v.data_ptr() - x.data_ptr() if v.numel() and v.stride() != () else 0
        is_alias = 0 <= shares < 96
        return [v, list(v.stride()), v.is_contiguous(), is_alias, v.storage_offset() if is_alias else 0]

    same(program)


def test_numpy_shares_memory_both_ways():
    x = st.arange(6).reshape(2, 3)
    n = x.numpy()
    n[0, 1] = 50
    assert x[0, 1].item() == 50
    y = x * 2
    n[0, 0] = 7
    assert y[0, 0].item() == 0, "a pending result does not see later writes from outside"
    x[1] = 9
    assert n[1].tolist() == [9, 9, 9]
    t = x.t().numpy()
    assert t.strides == (8, 24) and t[1, 0] == 50


def test_from_numpy_shares_memory_and_keeps_strides():
    a = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (a, a.T, a[1:, ::2], a[2], a[:, 3], np.broadcast_to(a[0], (3, 6)), a.reshape(2, 2, 6).transpose(2, 0, 1)):
        t = st.from_numpy(view)
        assert np.array_equal(t.numpy(), view)
        assert t.data_ptr() == view.__array_interface__["data"][0]
    t = st.from_numpy(a)
    t.add_(1)
    assert a[0, 0] == 1
    a[0, 0] = 100
    assert t[0, 0].item() == 100
    with pytest.raises(ValueError, match="negative"):
        st.from_numpy(a[::-1])
    with pytest.raises(TypeError, match="can't convert"):
        st.from_numpy(np.array(["a"]))


def test_dlpack_both_ways_without_a_copy():
    x = st.arange(6, dtype=st.float32).reshape(2, 3)
    t = torch.from_dlpack(x)
    t[0, 0] = 5
    assert x[0, 0].item() == 5
    back = st.from_dlpack(torch.arange(4, dtype=torch.float64))
    assert back.tolist() == [0, 1, 2, 3]
    source = torch.ones(3)
    y = st.from_dlpack(source)
    source[1] = 8
    assert y.tolist() == [1, 8, 1]
    half = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    assert st.from_dlpack(half).dtype is st.bfloat16 and st.from_dlpack(half).tolist() == [1.5, -2.0]


INDICES = [
    (0,), (-1,), (slice(1, 3),), (slice(None), 2), (None,), (Ellipsis, 1), (None, 0, Ellipsis, None), (slice(5, 2),),
    ([0, 2],), (slice(None), [1, 1, 0]), ([0, 1], [2, 3]), ([[0], [1]], [[2, 3]]), (0, [1, 2]), ([1, 2], 0), (True,), (False,),
    ([0, 1], slice(None), [1, 0]), (slice(1, 3), [0, 1]), (None, [0, 1]),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES)
def test_getitem(index):
    def program(m):
        x = m.make(4, 5, 3, grad=True)
        key = tuple(m.tensor(i) if isinstance(i, list) else i for i in index)
        y = x[key]
        (y * y).sum().backward()
        return [y, x.grad]

    same(program)


def test_mask_indexing():
    def program(m):
        x = m.make(4, 5)
        return [x[x > 0], x[x[:, 0] > 0], x[:, x[0] > 0], x[m.tensor([True, False, True, True])], (x > 0).nonzero()]

    same(program)


def test_library_inputs_are_equal():
    assert np.array_equal(Library(torch).make(3).numpy(), Library(st).make(3).numpy())


def test_ravel_copies_what_is_not_contiguous() -> None:
    x = st.arange(12.0)
    assert x.view(3, 4).ravel().data_ptr() == x.data_ptr()
    assert x[::2].ravel().data_ptr() != x.data_ptr() == x[::2].flatten().data_ptr()


def test_what_changes_nothing_is_the_tensor_itself() -> None:
    for library in (st, torch):
        x: Any = library.ones(2, 3)
        assert library.positive(x) is x and (+x) is x
        assert library.conj_physical(x) is x and x.sum_to_size(2, 3) is x
        assert x.sum_to_size(1, 3) is not x


LAID = {
    "permuted": lambda m: m.ones(2, 3, 4).permute(2, 0, 1), "channels_last": lambda m: m.ones(2, 3, 4, 5).to(memory_format=m.channels_last),
    "every second": lambda m: m.ones(6, 8).t()[::2], "expanded": lambda m: m.ones(3, 1).expand(3, 4), "thin": lambda m: m.ones(1, 4).t(),
}  # fmt: skip
NEW = {
    "clone": lambda m, x: x.clone(), "double": lambda m, x: x.double(), "copy": lambda m, x: x.to(x.dtype, copy=True),
    "contiguous clone": lambda m, x: x.clone(memory_format=m.contiguous_format), "zeros_like": lambda m, x: m.zeros_like(x),
    "full_like": lambda m, x: m.full_like(x, 2), "rand_like": lambda m, x: m.rand_like(x), "randint_like": lambda m, x: m.randint_like(x, 5),
    "contiguous like": lambda m, x: m.empty_like(x, memory_format=m.contiguous_format),
}  # fmt: skip


@pytest.mark.parametrize("make", NEW)
@pytest.mark.parametrize("laid", LAID)
def test_new_tensors_lie_as_the_one_they_are_like(laid, make):
    found, want = (NEW[make](m, LAID[laid](m)) for m in (st, torch))
    assert [s for n, s in zip(found.shape, found.stride()) if n > 1] == [s for n, s in zip(want.shape, want.stride()) if n > 1]
    assert found.storage_offset() == 0 and found.is_contiguous() == want.is_contiguous()


def test_writes_and_gradients_of_a_clone_that_lies_permuted():
    grads = []
    for m in (st, torch):
        x = m.arange(12.0).view(3, 4).requires_grad_()
        y = x.t().clone()
        y.mul_(2)
        y[0] = 5
        (y * y).sum().backward()
        z = m.zeros_like(x.t(), requires_grad=True)
        (z * y.detach()).sum().backward()
        assert z.is_leaf and x[0, 0].item() == 0
        grads.append(x.grad.tolist() + z.grad.tolist())
    assert grads[0] == grads[1]


def test_data_is_another_memory_from_then_on():
    """Weights that are put aside, replaced and put back are what they were."""

    def program(m):
        p, other = m.nn.Parameter(m.make(3)), m.make(3)
        aside, alias, row = p.data, p.detach(), p[:2]
        p.data = other
        seen = [p.tolist(), aside.tolist(), alias.tolist(), row.tolist()]
        other.add_(5)
        seen.append(p.tolist())
        p.data = aside
        p.data.mul_(2)
        y = p * 2
        kept = y.detach()
        y.data = m.make(3) * 0
        y.sum().backward()
        return [*map(m.tensor, seen), p, aside, alias, other, y, kept, p.grad, y.requires_grad, y._version]

    same(program)


def test_a_compiled_function_sees_replaced_data():
    net = st.nn.Linear(2, 1, bias=False)
    with st.no_grad():
        net.weight.fill_(1.0)
    call = st.compile(lambda x: net(x))
    x = st.ones(1, 2)
    assert [call(x).item() for _ in range(3)] == [2.0] * 3
    aside = net.weight.data
    net.weight.data = st.full((1, 2), 4.0)
    assert [call(x).item() for _ in range(3)] == [8.0] * 3
    net.weight.data = aside
    assert call(x).item() == 2.0


FORMATS = {
    "to": lambda m, x: x.to(memory_format=m.channels_last), "to rows": lambda m, x: x.to(memory_format=m.contiguous_format),
    "contiguous": lambda m, x: x.contiguous(memory_format=m.channels_last), "rows": lambda m, x: x.contiguous(),
    "clone": lambda m, x: x.clone(memory_format=m.channels_last), "copy": lambda m, x: x.clone(), "float": lambda m, x: x.double(),
    "clone rows": lambda m, x: x.clone(memory_format=m.contiguous_format), "like": lambda m, x: m.zeros_like(x),
    "like format": lambda m, x: m.ones_like(x, memory_format=m.channels_last), "to type": lambda m, x: x.to(m.float64, memory_format=m.channels_last),
    "empty": lambda m, x: m.empty(2, 3, 4, 5, memory_format=m.channels_last).zero_(), "copied": lambda m, x: x.to(m.float32, copy=True),
    "wrong rank": lambda m, x: x[0].contiguous(memory_format=m.channels_last), "wrong to": lambda m, x: x[0].to(memory_format=m.channels_last),
}  # fmt: skip
SOURCES = {
    "rows": lambda m, x: x, "channels last": lambda m, x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), "one channel": lambda m, x: x[:, :1].clone(),
    "pixels": lambda m, x: x[:, :, :1, :1].clone(), "turned": lambda m, x: x.transpose(0, 3), "part": lambda m, x: x[:, 1:, ::2],
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_memory_formats(source):
    for name, change in FORMATS.items():
        found = []
        for m in (Library(st), Library(torch)):
            x = SOURCES[source](m, m.make(2, 3, 4, 5))
            try:
                y = change(m, x)
            except RuntimeError:
                found.append("refused")
                continue
            y.mul_(2)
            found.append([tuple(y.shape), y.stride(), y is x, y._base is None or y is x, x.flatten().tolist(), y.flatten().tolist()])
        assert found[0] == found[1], name


MOVED = [
    ("ij->ji", (2, 3)), ("ba", (2, 3)), ("ij", (2, 3)), ("ii->i", (3, 3)), ("iijj->ji", (2, 2, 3, 3)), ("iii->i", (2, 2, 2)), ("...ij->...ji", (2, 3, 4)),
    ("i...->...i", (2, 3, 4)), (" i j -> j i ", (2, 3)), ("ij->i", (2, 3)), ("ii", (3, 3)), ("ii->i", (2, 3)), ("ij->ijk", (2, 3)), ("ij->jj", (2, 3)),
    ("i1->1i", (2, 3)), ("...->", (2, 3)), ("ij...->ij", (2, 3, 4)), ("->", ()), ("i", (2, 3)), ("ijk->kji", (2, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "shape"), MOVED)
def test_einsum_that_only_moves_axes_is_a_view(equation, shape):
    found = []
    for m in (st, torch):
        x = m.arange(float(np.prod(shape))).view(shape)
        try:
            y = m.einsum(equation, x)
        except RuntimeError:
            found.append("refused")
            continue
        shares = y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
        found.append([y.stride(), shares, y.tolist(), y.add_(1).tolist() if shares else 0, x.tolist()])
    assert found[0] == found[1]


PARTS = {
    "tensor_split": lambda x: x.tensor_split(2)[0], "hsplit": lambda x: x.hsplit(2)[1], "vsplit": lambda x: x.vsplit(2)[0],
    "split": lambda x: x.split(2)[0], "chunk": lambda x: x.chunk(2)[1], "unbind": lambda x: x.unbind()[0], "iteration": lambda x: next(iter(x)),
    "unpacked": lambda x: (lambda a, *rest: a)(*x), "row": lambda x: x[0],
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_which_parts_autograd_lets_write_to(part):
    for tracked in (False, True):
        found = []
        for m in (st, torch):
            leaf = m.ones(4, 4, requires_grad=tracked)
            x = leaf * m.arange(16.0).view(4, 4)
            try:
                PARTS[part](x).mul_(3)
                if tracked:
                    x.sum().backward()
                found.append([x.tolist(), leaf.grad.tolist() if tracked else None])
            except RuntimeError as e:
                found.append("multiple views" in str(e))
        assert found[0] == found[1], tracked
