"""``__torch_function__`` beside torch: one source, run with either library, answers the same."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st

LIBRARIES = [st, torch]


def kinds(value: Any) -> Any:
    return [kinds(v) for v in value] if isinstance(value, (tuple, list)) else type(value).__name__


def of(L: Any) -> dict[str, Any]:
    """Two subclasses, one of a subclass, and values of them."""
    T = type("T", (L.Tensor,), {})
    U = type("U", (T,), {})
    return {
        "L": L, "F": L.nn.functional, "T": T, "U": U, "V": type("V", (L.Tensor,), {}), "p": L.ones(2, 2), "copy": copy,
        "t": L.arange(4.0).reshape(2, 2).as_subclass(T), "P": type("P", (L.nn.Parameter,), {}),
    }  # fmt: skip


KEPT = """
t + 1; 1 + t; t + p; p + t; p * t; p @ t; 2 ** t; -t; abs(t); t == p; p < t; ~(t > 0); t // 1; t.sum(); L.sum(t); L.add(p, t)
L.cat([p, t]); t[0]; t[t > 1]; t.T; t.mT; t.data; t.view(-1); t.clone(); t.detach(); t.double(); t.to(L.int64); t.max(0); t.sort()
L.split(t, 1); [x for x in t]; F.relu(t); F.linear(p, t); F.cross_entropy(t, L.tensor([0, 1])); L.where(t > 0, t, p)
L.zeros_like(t); L.rand_like(t); t.new_zeros(2); t.new_tensor([1.0]); L.tensor(t); L.as_tensor(t); L.einsum("ij,jk->ik", t, p)
L.linalg.svd(t); L.fft.fft(t).real; t.requires_grad_(); t.as_subclass(U) + t; t + t.as_subclass(U); t.as_subclass(L.Tensor)
T(2, 3); T([1, 2]); T(L.ones(2)); t.add_(1); t.shape; t.tolist(); t.item; L.equal(t, p); L.broadcast_tensors(t, p); copy.copy(t)
L.Tensor._make_subclass(T, p, True); P(L.ones(2)); P(L.ones(2)) * 2; P(L.ones(2)).T; L.nn.Linear(2, 2)(t); t.unbind(); L.topk(t, 1)
L.meshgrid(t[0], t[0], indexing="ij"); L.unique(t); L.stack((t, t)).mean(0); t.t().contiguous(); L.add(input=p, other=t)
"""


@pytest.mark.parametrize("code", [c.strip() for line in KEPT.split("\n") for c in line.split(";") if c.strip()])
def test_results_keep_the_class(code):
    ours, theirs = [kinds(eval(code, of(L))) for L in LIBRARIES]
    if ours == "method":
        theirs = "method"
    assert ours == theirs


def test_a_subclass_prints_pickles_and_copies_as_itself():
    t = st.ones(2).as_subclass(Named)
    t.label = "a"
    again = pickle.loads(pickle.dumps(t))
    assert repr(t) == "Named([1., 1.])" and type(again) is Named and again.label == "a"
    other = copy.deepcopy(t)
    assert type(other) is Named and other.label == "a" and other.data_ptr() != t.data_ptr()
    with pytest.raises(TypeError, match="unsupported format string"):
        f"{t[0]:.2f}"


class Named(st.Tensor):
    label: str


@pytest.mark.parametrize("L", LIBRARIES)
def test_gradients_of_a_subclass_arrive(L):
    t = L.arange(4.0).as_subclass(of(L)["T"]).requires_grad_()
    (t * t).sum().backward()
    assert type(t.grad) is L.Tensor and t.grad.tolist() == [0.0, 2.0, 4.0, 6.0]


def asked_about(L: Any, code: str) -> Any:
    """What a class that says ``__torch_function__`` is asked about while ``code`` runs."""
    asked: list[Any] = []

    class Logged(L.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            asked.append((func.__name__, [c.__name__ for c in types]))
            return super().__torch_function__(func, types, args, kwargs or {})

    found = eval(code, {"L": L, "F": L.nn.functional, "l": L.ones(2, 2).as_subclass(Logged), "p": L.ones(2, 2)})
    return asked, type(found).__name__


@pytest.mark.parametrize(
    "code",
    "l + 1; 1 + l; 1 - l; p * l; L.add(p, l); l.sum(0); L.cat([p, l]); F.relu(l); l[0]; l.T; l.shape; l.view(4); l.add_(1); l == 1; "
    "len(l); l.mean().item(); F.linear(p, l); L.where(l > 0, l, p); L.zeros_like(l); L.split(l, 1); l.tolist()".split("; "),
)  # fmt: skip
def test_classes_are_asked_as_in_torch(code):
    assert asked_about(st, code) == asked_about(torch, code)


@pytest.mark.parametrize("L", LIBRARIES)
def test_a_class_passes_on_what_it_carries(L):
    class Image(L.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            found = super().__torch_function__(func, types, args, kwargs)
            if isinstance(found, Image):
                found.path = next((a.path for a in args if hasattr(a, "path")), None)
            return found

        def sum(self, *args):
            return super().sum(*args) + 100

    class Plain(L.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            found = super().__torch_function__(func, types, args, kwargs)
            return found.as_subclass(L.Tensor) if isinstance(found, Plain) else found

    image = L.ones(2, 2).as_subclass(Image)
    image.path = "p"
    made = [image + 1, 1 + image, image[0], image.T, L.exp(image), image.clone(), image.sum(), image.detach()]
    assert [x.path for x in made] == ["p"] * 8 and made[6].item() == 104
    plain = L.ones(2).as_subclass(Plain)
    assert kinds([plain, plain + 1, plain.sum()]) == ["Plain", "Tensor", "Tensor"]
    assert kinds(np.add(image, 1)) == "Image"


@pytest.mark.parametrize("L", LIBRARIES)
def test_classes_that_are_no_tensors_take_part(L):
    table: dict[Any, Any] = {}

    class Diagonal:
        def __init__(self, value: float) -> None:
            self.value = value

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            return table[func](*args, **(kwargs or {})) if func in table else NotImplemented

    table[L.mean] = lambda x: x.value / 2
    table[L.add] = lambda a, b: "sum"
    table[L.stack] = lambda tensors, dim=0: len(tensors)
    table[L.nn.functional.relu] = lambda x, inplace=False: inplace
    table[L.transpose] = lambda x, a, b: (a, b)
    d, p = Diagonal(3), L.ones(2)
    assert L.mean(d) == 1.5 and L.add(p, d) == L.add(d, d) == "sum" and L.stack([p, d]) == 2 and L.transpose(d, 0, 1) == (0, 1)
    assert L.nn.functional.relu(d) is False
    assert L.overrides.is_tensor_like(d) and L.overrides.has_torch_function((p, d)) and not L.overrides.has_torch_function((p,))
    for refused in (lambda: L.mul(d, 3), lambda: L.sum(d), lambda: p + d):
        with pytest.raises(TypeError):
            refused()


def test_compiled_functions_give_the_class_of_the_traced_results():
    @st.compile
    def f(x, y):
        return x * 2 + y, y + 1

    named, plain = st.arange(3.0).as_subclass(Named), st.ones(3)
    for _ in range(3):
        assert kinds(f(named, plain)) == ["Named", "Tensor"]
        assert kinds(f(plain * 1, plain)) == ["Tensor", "Tensor"]
    assert f.hits == 4
