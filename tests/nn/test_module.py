"""What Module itself does: members, state dicts, hooks, copies, changes that count."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from pairs import close, ours

import spiraltorch as st
from spiraltorch import nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4))
        self.scale = nn.Parameter(st.ones(4))
        self.register_buffer("offset", st.zeros(4))
        self.register_buffer("scratch", st.zeros(2), persistent=False)
        self.tied = self.first
        self.kind = "block"

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x)) * self.scale + self.offset


class TorchBlock(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.second = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm1d(4))
        self.scale = torch.nn.Parameter(torch.ones(4))
        self.register_buffer("offset", torch.zeros(4))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.tied = self.first
        self.kind = "block"

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x)) * self.scale + self.offset


def test_members_come_in_torchs_order() -> None:
    a, b = Block(), TorchBlock()
    for listing in (
        lambda m: [n for n, _ in m.named_parameters()],
        lambda m: [n for n, _ in m.named_parameters(prefix="p", recurse=False)],
        lambda m: [n for n, _ in m.named_parameters(remove_duplicate=False)],
        lambda m: [n for n, _ in m.named_buffers()],
        lambda m: [n for n, _ in m.named_modules()],
        lambda m: [n for n, _ in m.named_modules(prefix="p", remove_duplicate=False)],
        lambda m: [n for n, _ in m.named_children()],
        lambda m: [type(x).__name__ for x in m.children()],
        lambda m: [type(x).__name__ for x in m.modules()][1:],
        lambda m: list(m.state_dict()),
        lambda m: list(m.state_dict(prefix="x.")),
        lambda m: dict(m.state_dict()._metadata),
    ):
        assert listing(a) == listing(b)
    assert len(list(a.parameters())) == 5 and len(list(a.buffers())) == 5
    assert repr(a).replace("Block", "") == repr(b).replace("TorchBlock", "")
    assert {"first", "scale", "offset"} <= set(dir(a))


def test_submodules_by_name() -> None:
    m = Block()
    assert m.get_submodule("second.1") is m.second[1] and m.get_submodule("") is m
    assert m.get_parameter("first.weight") is m.first.weight
    assert m.get_buffer("second.1.running_mean") is m.second[1].running_mean
    with pytest.raises(AttributeError, match="has no attribute `third`"):
        m.get_submodule("third")
    with pytest.raises(AttributeError, match="is not a parameter"):
        m.get_parameter("offset")


def test_attributes_move_between_kinds() -> None:
    m = nn.Module()
    m.x = 1
    m.x = nn.Parameter(st.ones(2))
    assert "x" in m._parameters and "x" not in m.__dict__
    with pytest.raises(TypeError, match="as parameter 'x'"):
        m.x = st.ones(2)
    m.x = None
    assert m.x is None and "x" in m._parameters
    with pytest.raises(TypeError, match="as parameter 'x'"):
        m.x = nn.Linear(1, 1)
    del m.x
    m.x = nn.Linear(1, 1)
    assert "x" in m._modules and "x" not in m._parameters
    with pytest.raises(TypeError, match="as child module 'x'"):
        m.x = 3
    del m.x
    assert not hasattr(m, "x")
    m.register_buffer("b", None)
    m.b = st.ones(1)
    assert "b" in m._buffers
    with pytest.raises(TypeError, match="as buffer 'b'"):
        m.b = 3
    with pytest.raises(AttributeError, match="object has no attribute 'nothing'"):
        _ = m.nothing
    with pytest.raises(AttributeError):
        del m.nothing


def test_registration_is_checked() -> None:
    m = nn.Linear(1, 1)
    with pytest.raises(KeyError, match="already exists"):
        m.register_buffer("weight", st.ones(1))
    with pytest.raises(KeyError, match="name can"):
        m.register_parameter("a.b", None)
    with pytest.raises(KeyError, match="empty string|name can"):
        m.add_module("", nn.ReLU())
    with pytest.raises(TypeError, match="is not a Module subclass"):
        m.add_module("x", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nn.Parameter or None required"):
        m.register_parameter("p", st.ones(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="non-leaf Tensor"):
        m.register_parameter("p", _non_leaf())

    class Early(nn.Module):
        def __init__(self) -> None:
            self.weight = nn.Parameter(st.ones(1))

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
        Early()
    with pytest.raises(NotImplementedError, match='missing the required "forward"'):
        nn.Module()(1)


def _non_leaf() -> Any:
    p = nn.Parameter(st.ones(1))
    p._fn = (st.ones(1, requires_grad=True) * 2)._fn
    return p


def test_parameter() -> None:
    data = st.ones(3)
    p = nn.Parameter(data)
    assert p.requires_grad and p.is_leaf and isinstance(p, st.Tensor)
    assert type(p + 1) is st.Tensor and type(p.detach()) is st.Tensor
    data.add_(1)
    assert p.tolist() == [2.0, 2.0, 2.0]
    assert not nn.Parameter(st.ones(2, dtype=st.int64), requires_grad=False).requires_grad
    with pytest.raises(RuntimeError, match="floating point"):
        nn.Parameter(st.ones(2, dtype=st.int64))
    with pytest.raises(TypeError, match="made from a Tensor"):
        nn.Parameter([1.0])  # type: ignore[arg-type]
    for q in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert type(q) is nn.Parameter and q.requires_grad and q.tolist() == p.tolist()
    assert repr(p) == repr(torch.nn.Parameter(torch.full((3,), 2.0)))
    assert nn.Parameter().shape == (0,)


def test_state_dict_shares_memory_and_loads() -> None:
    m, n = Block(), Block()
    state = m.state_dict()
    assert isinstance(state, OrderedDict) and not state["scale"].requires_grad
    with st.no_grad():
        m.scale.fill_(3.0)
    assert state["scale"].tolist() == [3.0] * 4
    before = n.scale
    assert repr(n.load_state_dict(state)) == "<All keys matched successfully>"
    assert n.scale is before and n.scale.requires_grad and n.scale.tolist() == [3.0] * 4
    with st.no_grad():
        m.scale.fill_(4.0)
    assert n.scale.tolist() == [3.0] * 4
    assert m.state_dict(keep_vars=True)["scale"] is m.scale


def test_load_takes_torch_numpy_and_other_types() -> None:
    other = torch.nn.Linear(3, 2)
    m = nn.Linear(3, 2)
    m.load_state_dict(other.state_dict())
    close(m.weight, other.weight)
    m.load_state_dict({k: v.double().numpy() for k, v in other.state_dict().items()})
    assert m.weight.dtype is st.float32
    a = np.ones((2, 3), np.float32)
    m.load_state_dict({"weight": a, "bias": np.zeros(2)})
    a[0, 0] = 9
    assert m.weight.detach()[0, 0].item() == 1.0
    m.load_state_dict({k: v.to(torch.bfloat16) for k, v in other.state_dict().items()})
    close(m.weight, other.weight.to(torch.bfloat16).float())


@pytest.mark.parametrize("strict", [True, False])
def test_load_errors_are_torchs(strict: bool) -> None:
    a, b = Block(), TorchBlock()

    def spoil(state: Any, wrong: Any) -> Any:
        state = OrderedDict(state)
        state.pop("first.bias"), state.pop("second.1.running_var")
        state["first.weight"] = wrong
        state["extra.thing"] = state["odd"] = state["second.0.w"] = wrong
        return state

    texts = []
    for m, state in ((a, spoil(a.state_dict(), st.ones(2, 2))), (b, spoil(b.state_dict(), torch.ones(2, 2)))):
        with pytest.raises(RuntimeError) as e:
            m.load_state_dict(state, strict=strict)
        texts.append(str(e.value).replace("TorchBlock", "Block"))
    assert texts[0] == texts[1]


def test_load_without_strict_reports_keys() -> None:
    a, b = nn.Linear(2, 2), torch.nn.Linear(2, 2)
    found = a.load_state_dict({"weight": st.ones(2, 2), "odd": st.ones(1)}, strict=False)
    wanted = b.load_state_dict({"weight": torch.ones(2, 2), "odd": torch.ones(1)}, strict=False)
    assert tuple(found) == tuple(wanted) and repr(found) == repr(wanted)
    with pytest.raises(TypeError, match="dict-like"):
        a.load_state_dict([1])
    with pytest.raises(RuntimeError, match="expected a Tensor"):
        a.load_state_dict({"weight": "x", "bias": st.ones(2)})


def test_load_with_assign_takes_the_tensors_themselves() -> None:
    m = nn.Linear(2, 2)
    w = st.ones(2, 2, dtype=st.float64)
    m.load_state_dict({"weight": w, "bias": nn.Parameter(st.zeros(2))}, assign=True)
    assert m.weight.dtype is st.float64 and type(m.weight) is nn.Parameter and m.weight._storage is w._storage


def test_state_dict_hooks() -> None:
    m = nn.Linear(2, 2)
    seen: list[Any] = []
    with m.register_state_dict_post_hook(lambda mod, d, prefix, meta: d.update(tag=st.ones(1))):
        assert "tag" in m.state_dict()
    assert "tag" not in m.state_dict()
    m.register_load_state_dict_pre_hook(lambda mod, d, *rest: d.update(weight=d.pop("w")))
    m.register_load_state_dict_post_hook(lambda mod, keys: seen.append(keys.missing_keys))
    m.load_state_dict({"w": st.ones(2, 2), "bias": st.zeros(2)})
    assert m.weight.tolist() == [[1.0, 1.0]] * 2 and seen == [[]]


def test_extra_state() -> None:
    class Counting(nn.Module):
        count = 0

        def get_extra_state(self) -> Any:
            return {"count": self.count}

        def set_extra_state(self, state: Any) -> None:
            self.count = state["count"]

    a, b = Counting(), Counting()
    a.count = 5
    b.load_state_dict(a.state_dict())
    assert b.count == 5
    with pytest.raises(RuntimeError, match="_extra_state"):
        b.load_state_dict({})


def test_copies_are_independent_and_keep_ties() -> None:
    m = Block()
    x = st.randn(5, 3)
    m(x).sum().backward()
    for n in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert n.tied is n.first and n.kind == "block"
        assert (n.eval()(x).detach() == m.eval()(x).detach()).all()
        with st.no_grad():
            n.scale.add_(1)
        assert m.scale.tolist() == [1.0] * 4
        n(x)


def test_to_changes_types_in_place() -> None:
    m = Block()
    weight = m.first.weight
    m(st.randn(5, 3)).sum().backward()
    assert m.double() is m
    assert m.first.weight is weight and weight.dtype is st.float64 and weight.grad.dtype is st.float64
    assert m.offset.dtype is st.float64 and m.second[1].num_batches_tracked.dtype is st.int64
    assert m(st.randn(5, 3, dtype=st.float64)).dtype is st.float64
    for convert, d in (
        (lambda: m.half(), st.float16), (lambda: m.bfloat16(), st.bfloat16), (lambda: m.float(), st.float32),
        (lambda: m.to(st.float64), st.float64), (lambda: m.to("cpu", st.float32), st.float32),
        (lambda: m.to(st.ones(1, dtype=st.float16)), st.float16), (lambda: m.to(dtype=st.float32, device="cpu"), st.float32),
        (lambda: m.type(st.float64), st.float64),
    ):  # fmt: skip
        convert()
        assert m.scale.dtype is d
    assert m.cpu() is m
    with pytest.raises(TypeError, match="floating point or complex"):
        m.to(st.int64)


def test_train_apply_zero_grad_requires_grad() -> None:
    m = Block()
    assert m.training and m.eval() is m and not m.second[1].training
    assert m.train().second[1].training
    with pytest.raises(ValueError, match="boolean"):
        m.train(1)  # type: ignore[arg-type]
    order: list[str] = []
    m.apply(lambda x: order.append(type(x).__name__))
    assert order == ["Linear", "ReLU", "BatchNorm1d", "Sequential", "Block"]
    m(st.randn(5, 3)).sum().backward()
    m.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any().item() for p in m.parameters())
    m.zero_grad()
    assert all(p.grad is None for p in m.parameters())
    m.requires_grad_(False)
    assert not any(p.requires_grad for p in m.parameters())


def test_version_counts_changes_and_nothing_else() -> None:
    m = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    lin, norm = m[0], m[1]

    def changed(x: nn.Module, act: Any) -> bool:
        before = x._version
        act()
        return x._version != before

    assert not changed(norm, lambda: m(st.randn(4, 2)).sum().backward())
    assert not changed(lin, lambda: setattr(lin, "weight", lin.weight))
    assert not changed(lin, lambda: setattr(lin, "in_features", lin.in_features))
    assert not changed(lin, lambda: m.train())
    assert not changed(lin, lambda: m.load_state_dict(m.state_dict()))
    assert not changed(lin, lambda: m.zero_grad())
    assert not changed(lin, lambda: m.float())
    assert changed(lin, lambda: m.eval()) and changed(m, lambda: m.train())
    assert changed(lin, lambda: setattr(lin, "weight", nn.Parameter(st.ones(2, 2))))
    assert changed(lin, lambda: setattr(lin, "note", "x")) and changed(lin, lambda: delattr(lin, "note"))
    assert changed(lin, lambda: lin.register_buffer("b", st.ones(1)))
    assert changed(lin, lambda: m.double()) and changed(lin, lambda: m.requires_grad_(False))
    handle = lin.register_forward_hook(lambda *a: None)
    assert changed(lin, handle.remove) and not changed(lin, handle.remove)
    assert changed(m, lambda: m.append(nn.ReLU()))


# -- hooks -------------------------------------------------------------------------------------------------


def test_forward_hooks_change_arguments_and_results() -> None:
    results = []
    for lib in (st, torch):
        m = lib.nn.Identity()
        m.register_forward_pre_hook(lambda mod, args: args[0] + 1)
        m.register_forward_pre_hook(lambda mod, args: (args[0] * 10,))
        m.register_forward_hook(lambda mod, args, out: out + args[0])
        last = m.register_forward_hook(lambda mod, args, out: out * 2, prepend=True)
        with m.register_forward_hook(lambda mod, args, out: out * 100):
            first = m(lib.tensor(1.0)).item()
        second = m(lib.tensor(1.0)).item()
        last.remove()
        results.append((first, second, m(lib.tensor(1.0)).item()))
    assert results[0] == results[1]


def test_forward_hooks_with_kwargs_and_always_called() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Any, *, by: float = 1.0) -> Any:
            if by < 0:
                raise ValueError("negative")
            return x * by

    m = Scaled()
    seen: list[Any] = []
    pre = m.register_forward_pre_hook(lambda mod, args, kwargs: (args, {"by": kwargs["by"] + 1}), with_kwargs=True)
    m.register_forward_hook(lambda mod, args, kwargs, out: seen.append(kwargs["by"]), with_kwargs=True)
    assert m(st.tensor(2.0), by=2.0).item() == 6.0 and seen == [3.0]
    pre.remove()
    m.register_forward_hook(lambda mod, args, out: seen.append(out), always_call=True)
    with pytest.raises(ValueError, match="negative"):
        m(st.tensor(2.0), by=-2.0)
    assert seen == [3.0, None]


def test_backward_hooks_see_and_change_gradients() -> None:
    results = []
    torch.manual_seed(0)
    w, x = torch.randn(2, 3), torch.randn(4, 3)
    for lib, make in ((st, ours), (torch, torch.clone)):
        m = lib.nn.Linear(3, 2, bias=False)
        m.load_state_dict({"weight": make(w)})
        seen: list[Any] = []

        def after(mod: Any, grad_input: Any, grad_output: Any, seen: Any = seen) -> Any:
            seen.append((grad_input[0], grad_output[0]))
            return (grad_input[0] * 2,)

        m.register_full_backward_hook(after)
        m.register_full_backward_pre_hook(lambda mod, grad_output: (grad_output[0] * 3,))
        a = make(x).requires_grad_()
        (m(a) ** 2).sum().backward()
        results.append([a.grad, m.weight.grad, *seen[0]])
        assert len(seen) == 1
    close(results[0], results[1])


def test_backward_hook_without_input_gradient() -> None:
    m = nn.Linear(3, 2)
    seen: list[Any] = []
    m.register_full_backward_hook(lambda mod, gi, go: seen.append((gi, tuple(go[0].shape))))
    m(st.ones(4, 3)).sum().backward()
    assert seen == [((None,), (4, 2))]
    assert m.weight.grad is not None


# -- compiling ---------------------------------------------------------------------------------------------


def test_compiled_module_is_the_same_module() -> None:
    m = Block()
    keys = list(m.state_dict())
    plain = copy.deepcopy(m)
    assert st.compile(m) is m
    x = st.randn(5, 3)
    assert (m(x).detach() == plain(x).detach()).all()
    assert list(m.state_dict()) == keys and m.second[1].num_batches_tracked.item() == 1
    for n in (m, plain):
        n(x).sum().backward()
    assert (m.scale.grad == plain.scale.grad).all()
    m.eval(), plain.eval()
    assert (m(x).detach() == plain(x).detach()).all()
    assert m.forward.compilations == 2
    for n in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert (n(x).detach() == plain(x).detach()).all()
        assert n.forward.compilations == 1 and n.forward is not m.forward


def test_compile_in_place_keeps_hooks() -> None:
    m = nn.Linear(3, 2)
    m.register_forward_hook(lambda mod, args, out: out + 1)
    x = st.ones(1, 3)
    wanted = m(x).tolist()
    m.compile(fullgraph=True)
    assert m(x).tolist() == wanted and m(x).tolist() == wanted and m.forward.hits == 1
