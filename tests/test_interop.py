"""Tensors among NumPy's and Python's objects, and torch's old type names: the same expressions in both libraries."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st

BESIDE_NUMPY = """
np.float64(2) * t.arange(3.) | np.float32(2) / t.arange(1., 3.) | np.int64(2) - t.arange(3) | np.float64(2) ** t.arange(3)
np.float64(2) > t.arange(3) | t.tensor(1) + np.float32(2) | t.tensor(1, dtype=t.uint8) + np.int64(2) | t.tensor(1.) + np.bool_(True)
np.sqrt(t.ones(2)) | np.exp(t.ones(2, dtype=t.float64)) | np.maximum(t.ones(2), 0) | np.isnan(t.ones(2)) | np.add(t.arange(3.), 1)
t.ones(2) * np.ones(2, 'f4') | t.ones(2) + np.ones(2) | t.ones(2) / np.array(2.) | t.ones(2) ** np.ones(2) | t.ones(2) @ np.ones(2, 'f4')
np.ones(2) * t.ones(2) | np.ones(2) - t.ones(2) | np.ones(2) @ t.ones(2) | t.ones(2) < np.zeros(2)
t.ones(2) == np.array([1, 0]) | np.array([1, 0]) == t.ones(2) | t.ones(2) == [1, 1] | t.ones(2) == None
np.clip(t.arange(3.), 0, 1) | np.linspace(0, t.tensor(1.), 3) | np.add(t.ones(2, requires_grad=True), 1)
(np.float64(2) * t.ones(2, requires_grad=True)).requires_grad | t.ones(2).add(np.ones(2)) | t.add(t.ones(2), np.float64(1), alpha=np.int64(2))
t.full((2,), np.float32(1)) | t.full((2,), np.int32(1)) | t.as_tensor(np.int32(2)) | t.arange(np.int32(3)) | t.result_type(t.tensor(1), np.float32(1))
t.where(t.tensor([True]), np.float32(1), np.float32(2)) | t.zeros(3)[np.int32(1):np.int64(3)] | t.ones(2, 3).sum(np.int64(0))
t.ones(2, 3).std((np.int64(0), np.int64(1))) | t.ones(2, 3).roll(np.int64(1), np.int64(0)) | t.ones(2, 3).argmax(np.int64(0))
t.nn.functional.max_pool2d(t.ones(1, 1, 4, 4), np.int64(2)) | t.nn.functional.interpolate(t.ones(1, 1, 2), size=np.int64(4))
t.ones(2, 3).squeeze(np.int64(0)) | t.ones(4).chunk(np.int64(2))[1]
"""

CONSTRUCTED = """
t.tensor([t.ones(1)]) | t.tensor([t.ones(1, 1), t.ones(1)]) | t.tensor([t.ones(2)]) | t.tensor([[t.ones(1)]]) | t.tensor([t.ones(()), 2])
t.tensor([t.ones(0)]) | t.tensor([t.tensor(1), t.tensor(2.)]) | t.tensor([t.tensor(1, dtype=t.int32)]) | t.tensor([t.ones((), dtype=t.float64), 1])
t.tensor([np.ones(2), np.ones(2)]) | t.tensor([np.float16(1)]) | t.tensor([np.int32(1), 2]) | t.tensor([np.bool_(1)]) | t.tensor([1, 2.5, True])
t.tensor([np.float64(1)]) | t.tensor([np.complex128(1)]) | t.tensor([np.ones(1, 'i4'), np.ones(1, 'f4')]) | t.tensor([t.tensor(1.).bfloat16(), 2])
t.Tensor().shape | t.Tensor(2, 3).shape | t.Tensor(3).shape | t.Tensor([3]) | t.Tensor((1, 2)) | t.Tensor(t.Size([2, 2])).shape | t.Tensor(t.ones(2))
t.Tensor(2.5) | t.Tensor(np.ones(2)) | t.Tensor([[1, 2], [3, 4]]) | t.Tensor(t.ones(2, dtype=t.int64)) | t.Tensor([1 + 1j]) | t.Tensor('a')
t.Tensor(np.int64(3)).shape | t.Tensor([True]) | t.Tensor(range(3)) | t.Tensor(-1) | t.Tensor([1], device='cpu')
t.LongTensor([1, 2]) | t.LongTensor([1.5]) | t.FloatTensor(2, 2).dtype | t.BoolTensor([1, 0]) | t.DoubleTensor(np.ones(2, 'f4')) | t.LongTensor(t.ones(2))
isinstance(t.ones(2), t.FloatTensor) | isinstance(t.ones(2), t.LongTensor) | t.ones(2).type(t.DoubleTensor) | t.HalfTensor([1]) | t.ByteTensor([1, 2])
"""

PLAIN = """
t.Size((1, 2)) == (1, 2) | hash(t.Size((1, 2))) == hash((1, 2)) | 2 * t.Size([1]) | t.Size([1, 2])[0] | t.Size([1, 2])[-1:] | t.Size([1.5])
t.Size(['a']) | t.Size() | t.Size([1]) + [2] | t.Size([1]) + t.Size([3]) | (4,) + t.Size([1]) | t.Size([1]) + (2,) | t.Size([2, 3]).numel()
reversed(t.tensor(3)) | reversed(t.arange(3)) | 1 in t.arange(3) | t.tensor(9) in t.arange(3) | t.arange(3) in t.arange(3) | [1] in t.arange(3)
t.ones(2) in t.arange(3) | np.int64(1) in t.arange(3) | repr(t.finfo(t.float16)) | repr(t.finfo()) | repr(t.iinfo(t.uint8))
t.finfo(t.float32) == t.finfo(t.float32) | t.finfo(t.float32) == t.finfo(t.float64) | repr(t.ones(2, 2).max(0)) | repr(t.frexp(t.ones(1)))
"""

VALUES = """
f"{t.tensor(1.5)} {t.tensor(3):5d} {t.tensor(1.5, requires_grad=True):.3f} {t.ones(2)}" | f"{t.ones(2):.2f}" | bool(t.tensor([])) | bool(t.ones(2))
int(t.tensor([3.7])) | int(t.ones(2)) | float(t.ones(0)) | complex(t.ones(2)) | float(t.tensor(1j)) | t.ones(2).item() | t.ones(2).__delitem__(0)
t.arange(4.).view(2, 2)[t.tensor([1, 0], dtype=t.uint8)] | t.arange(4.)[np.array([1, 0, 1, 0], 'u1')] | t.arange(4)[t.tensor([[1, 0]], dtype=t.uint8)]
written(t, [1., 2.]) | written(t, np.ones(2)) | written(t, 1j) | written(t, 1 + 0j) | written(t, True) | written(t, np.float64(2)) | written(t, None)
t.tensor(1) // 0 | t.tensor(1) % 0 | t.tensor([1, 2]).fmod(0) | t.div(t.tensor(1), 0, rounding_mode='trunc') | t.tensor(1.) // 0 | t.tensor(1) / 0
pickle.loads(pickle.dumps(t.arange(6.).view(2, 3).t())).stride() | pickle.loads(pickle.dumps(t.ones(2, 3, 4).permute(2, 0, 1))).stride()
pickle.loads(pickle.dumps(t.arange(6).view(2, 3).t())) | pickle.loads(pickle.dumps(t.ones(2).bfloat16().requires_grad_()))
shared(t, copy.copy) | shared(t, copy.deepcopy) | type(copy.copy(t.nn.Parameter(t.ones(2)))).__name__ | copy.deepcopy(t.ones(2, requires_grad=True) * 2)
copy.copy(t.ones(2, requires_grad=True)).requires_grad | copy.copy(t.ones(2, requires_grad=True)).is_leaf
"""


def written(lib: Any, value: Any) -> Any:
    x = lib.arange(4.0).view(2, 2)
    x[0] = value
    return x


def shared(lib: Any, copied: Any) -> Any:
    """What a write to a copy of a tensor changes, in a view copied with it and in the original."""
    x = lib.zeros(2, 2)
    a, b = copied([x, x.view(4)[1:]])
    if copied is copy.copy:
        a = copied(x)
    a[0, 1] = 7
    return b.tolist(), x.tolist()


def expressions(*blocks: str) -> list[str]:
    return [e.strip() for block in blocks for line in block.strip().splitlines() for e in line.split(" | ")]


def outcome(lib: Any, text: str) -> Any:
    """What an expression gives in a library, as plain data; of an error, the built-in class that catches it."""
    try:
        found = eval(text, {**globals(), "t": lib})
    except Exception as e:
        return next(c for c in type(e).__mro__ if c.__module__ == "builtins")
    if isinstance(found, lib.Tensor):
        dtype = str(found.dtype).rpartition(".")[2]
        return "tensor", dtype, tuple(found.shape), found.requires_grad, found.detach().tolist()
    if isinstance(found, (lib.dtype, lib.Size)):
        return type(found).__name__.lower(), str(found).rpartition(".")[2]
    return found


@pytest.mark.parametrize("text", expressions(BESIDE_NUMPY, CONSTRUCTED, PLAIN, VALUES))
def test_as_in_torch(text: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert outcome(st, text) == outcome(torch, text)


def test_a_gradient_flows_past_a_numpy_scalar():
    x = st.ones(2, requires_grad=True)
    (np.sqrt(4.0) * x).sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_a_deep_copy_has_its_own_gradient_and_the_users_attributes():
    x = st.ones(2, requires_grad=True)
    x.tag = ["a"]
    (x * 2).sum().backward()
    y = copy.deepcopy(x)
    y.grad += 1
    assert y.grad.tolist() == [3, 3] and x.grad.tolist() == [2, 2] and y.tag == ["a"] and y.tag is not x.tag


def test_sizes_survive_copies():
    size = st.ones(2, 3).shape
    for other in (copy.deepcopy(size), pickle.loads(pickle.dumps(size)), copy.copy(size)):
        assert type(other) is st.Size and other == (2, 3)


def test_the_end_of_a_graph_is_its_leaf():
    x = st.ones(2, requires_grad=True)
    (end, number), (none, _) = (x * st.ones(2)).grad_fn.next_functions
    assert end.variable is x and number == 0 and none is None and not end.next_functions
    assert end.name() == "torch::autograd::AccumulateGrad"


def test_save_to_an_open_file():
    f = io.BytesIO()
    st.save({"a": st.arange(3)}, f)
    f.seek(0)
    assert st.load(f)["a"].tolist() == [0, 1, 2]
