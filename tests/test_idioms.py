"""What users write, in both libraries: the same statements with ``t`` the one or the other give the same value, type, shape and
``requires_grad``, or an error of the same class.

A case is a line of statements; the last is an expression, whose value is compared.
"""

from __future__ import annotations

import ast
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st

INDEX = """
x = t.arange(24).view(2, 3, 4); x[[[0, 1], [1, 0]]], x[[0, [1, 2]]], x[[[0], [1, 2]]], x[[0, slice(None)]], x[[slice(0, 1), 1]], x[[None, 0]]
x = t.arange(24).view(2, 3, 4); x[[t.tensor(0), t.tensor(1)]], x[[t.tensor([0, 1]), t.tensor([1, 1])]], x[[range(2), range(2)]]
x = t.arange(24).view(2, 3, 4); x[(0, 1),], x[(0, 1), (1, 2)], x[[(0, 1), (1, 2)]], x[0, [[t.tensor(1), t.tensor(2)]]], x[[[0]] * 33]
x = t.arange(24).view(2, 3, 4); x[[1.5, 0.2]], x[:, [1.5]], x[[True, 1]], x[np.array([1.0, 0.0])], x[np.array(1.0)], x[np.array([], int)]
x = t.arange(24).view(2, 3, 4); x[t.tensor(True)], x[t.tensor(False)], x[t.tensor(True), t.tensor(1)], x[np.array(True)], t.tensor(5)[t.tensor(True)]
x = t.arange(24).view(2, 3, 4); x[t.tensor(1, dtype=t.uint8)], x[t.tensor(0, dtype=t.uint8)], x[np.array([0, 1], 'i2')], x[t.tensor(1, dtype=t.int16)]
x = t.arange(24).view(2, 3, 4); m = [[True, False, True]] * 2; x[m, :], x[m,], x[m, [0, 1, 2, 3]], x[..., ...], x[t.tensor(True):], x[:, :, :, ..., ...]
x = t.zeros(2, 3); m = t.tensor([[True, False, True]] * 2); x[m] = t.tensor([[2]]); x[t.tensor([True, False])] = t.tensor(3); x
x = t.zeros(2, 3, dtype=t.int64); m = t.tensor([[True, False, True]] * 2); x[m] = t.tensor(2.5); x
x = t.zeros(2, 3); x[0] = t.tensor([1j, 2, 3]); x
t.zeros(2, 3)[[[True, False, True], [True, False, True]]]
t.zeros(2, 3)[t.tensor([0, 1], dtype=t.int16)]
t.zeros(2, 3)[t.zeros(0, dtype=t.int8)]
t.zeros(2, 3)[1.5:]
t.zeros(2, 3)[1:'a']
t.zeros(2, 3)[:t.tensor(1.0)]
t.zeros(2, 3)[..., ..., 0]
t.zeros(2, 3)[['a']]
t.zeros(2, 3)[b'ab']
t.zeros(2, 3)[[1j]]
t.zeros(2, 3)[0, [0, (1, 2)]]
t.zeros(2, 3)[0, [t.tensor([1, 0]), t.tensor([2, 1])]]
t.zeros(2, 3)[np.bool_(True)]
t.zeros(2, 3)[{0, 1}]
x = t.zeros(2, 3); x[[0, 1]] = t.tensor([1, 2, 3])
x = t.zeros(2, 3); x[[0, 1]] = t.tensor(1.0, dtype=t.float64)
x = t.zeros(2, 3); x[t.tensor([[True, False, True]] * 2)] = t.tensor([2, 3, 4, 5])
x = t.zeros(2, 3); x[0] = 1e50
x = t.zeros(3); x[0] = np.float32(2)
x = t.zeros(3); x[x > -1] = np.bool_(True)
x = t.zeros(3); x[0] = np.float64(2); x[1] = np.uint8(3); x
x = t.zeros(2, 3, dtype=t.uint8); x[0] = 300
"""

CREATED = """
t.zeros(2, dtype=float), t.ones(2, dtype=bool), t.tensor([1.5, 2], dtype=int), t.ones(2).to(float), t.ones(2).to(int), t.ones(2).sum(dtype=float)
t.arange(3, dtype=float), t.zeros_like(t.ones(2), dtype=int), t.as_tensor([1, 0], dtype=bool), t.ones(2).to(dtype=complex), t.rand(2, dtype=float).dtype.itemsize
t.full((2,), 7, dtype=t.float32, device='cpu', layout=t.strided, pin_memory=False), t.tensor([1.0], pin_memory=False)
t.empty(1, 2, 3, 4, memory_format=t.channels_last).stride(), t.arange(end=5), t.arange(start=1, end=3), t.randint(high=5, size=(3,)).shape
t.ones(2).new(t.Size([2, 3])).shape, t.ones(2).new([1, 2]), t.ones(2).new(3).shape, t.finfo(t.complex64).eps, t.cfloat is t.complex64
t.full(3, 1)
t.full((2,), 1e50)
t.full((2,), 300, dtype=t.uint8)
t.full((2,), -1, dtype=t.uint8)
t.full((2,), 2.5, dtype=t.int32)
t.zeros(2, dtype=t.uint8).fill_(300)
t.zeros(2).fill_(1e50)
t.zeros(2).fill_(float('inf'))
t.zeros_like([1, 2])
t.ones_like(np.ones(2))
t.tensor(np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)).stride(), t.tensor(np.ones((2, 3, 4))[:, ::2].T, dtype=t.int8).stride()
t.tensor(np.arange(6.0)[::-1])
t.fft.fftfreq(0), t.fft.rfftfreq(0).shape, t.fft.fftfreq(4, 0)
t.nn.init.sparse_(t.empty(10, 4), 0.25).eq(0).sum(0), t.nn.init._calculate_fan_in_and_fan_out(t.empty(4, 3, 2, 2))
t.nn.init.sparse_(t.empty(10), 0.25)
x = t.ones(1, 4, 3, 8); F.scaled_dot_product_attention(x, x[:, :2], x[:, :1], enable_gqa=True).shape
F.scaled_dot_product_attention(t.ones(1, 4, 3, 8), t.ones(1, 3, 3, 8), t.ones(1, 1, 3, 8), enable_gqa=True)
~t.ones(2)
~t.tensor(1j)
t.arange()
t.eye(2.0)
t.randperm(5.0)
t.randperm(300, dtype=t.uint8)
t.randint(0, 300, (3,), dtype=t.uint8)
t.randint(0, 1.5, (3,))
t.randint(0, 5)
t.randint(0, 5, 3)
t.zeros(5, dtype=t.uint8).random_(0, 300)
t.rand(2, generator=3)
t.manual_seed(2**64)
t.is_floating_point(3)
"""

RANDOM = """
g = t.Generator().manual_seed(3); h = g.clone_state(); t.equal(t.rand(2, generator=g), t.rand(2, generator=h)), g.device.type, t.manual_seed(-1).initial_seed()
t.manual_seed(5); s = t.random.fork_rng(); s.__enter__(); t.rand(2); s.__exit__(None, None, None); a = t.rand(2); t.manual_seed(5); t.equal(a, t.rand(2))
t.cuda.manual_seed(1), t.cuda.manual_seed_all(1)
"""

SHAPES = """
t.arange(6).view(size=(2, 3)), t.arange(10).split(split_size=5), t.arange(6).view(t.tensor(2), np.int64(3))
t.arange(6).view('a')
t.arange(6).view(2.0, 3)
t.arange(6).view()
t.ones(2).expand('a')
t.equal(t.ones(2), [1, 1])
t.max(t.zeros(2, 3), (0, 1))
t.tensor([1.0]).clamp('a')
isinstance(t.ones(2, 2).max(0), t.return_types.max), t.return_types.topk.__name__
"""

MEMORY = """
x = t.ones(2, 3); s = x.untyped_storage(); s.nbytes(), len(s), s.size(), x.storage().size(), x.storage().nbytes(), s.element_size(), s.is_shared()
x = t.arange(4.0); y = x[1:]; x.storage().tolist(), list(y.storage()), y.storage()[1], y.storage().dtype.itemsize, t.is_storage(y.storage())
x = t.arange(3, dtype=t.uint8); x.untyped_storage().tolist(), x.untyped_storage()[1], x.untyped_storage().device.type, x.storage().untyped().nbytes()
x = t.ones(2, 3); s = x[1].untyped_storage(); s.data_ptr() == x.data_ptr(), s is x.untyped_storage(), s._cdata == x.storage()._cdata
x = t.zeros(2); x.set_(t.arange(4.0).untyped_storage(), 1, (2,), (1,)); x
x = t.ones(2, requires_grad=True); x.sum().backward(); del x.grad; x.grad
t.backends.cudnn.benchmark, t.backends.cudnn.deterministic, t.backends.cuda.matmul.allow_tf32, t.backends.mps.is_available()
"""

GRADS = """
x = t.arange(3.0).requires_grad_(); y = x**2; t.autograd.grad(y, x, t.ones(3), True, True, True, True)[0]
x = t.arange(3.0).requires_grad_(); y = x**2; t.autograd.grad(outputs=y, inputs=x, grad_outputs=t.eye(3), is_grads_batched=True)
x = t.arange(3.0).requires_grad_(); z = t.ones(2, requires_grad=True); t.autograd.grad((x**2).sum(), [x, z], only_inputs=True, materialize_grads=True)
x = t.arange(3.0).requires_grad_(); z = t.ones(2, requires_grad=True); t.autograd.grad(x**2, [x, z], t.eye(3), is_grads_batched=True, allow_unused=True)
x = t.arange(3.0).requires_grad_(); t.autograd.grad((x**2).sum(), x, allow_unused=False, materialize_grads=True)
"""


def cases(*blocks: str) -> list[str]:
    return [line for block in blocks for line in block.strip().splitlines()]


def plain(lib: Any, value: Any) -> Any:
    """A result as data that both libraries give alike."""
    if isinstance(value, lib.Tensor):
        return "tensor", str(value.dtype).rpartition(".")[2], tuple(value.shape), value.requires_grad, value.detach().tolist()
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *[plain(lib, v) for v in value]]
    return value


def outcome(lib: Any, text: str) -> Any:
    """What a case gives in a library; of an error, the error."""
    *first, last = ast.parse(text).body
    names = {"t": lib, "np": np, "F": lib.nn.functional}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(compile(ast.Module(first, []), "case", "exec"), names)
            if not isinstance(last, ast.Expr):
                exec(compile(ast.Module([last], []), "case", "exec"), names)
                return None
            return plain(lib, eval(compile(ast.Expression(last.value), "case", "eval"), names))
        except Exception as e:
            return e


@pytest.mark.parametrize("text", cases(INDEX, CREATED, RANDOM, SHAPES, MEMORY, GRADS))
def test_as_in_torch(text: str) -> None:
    ours, theirs = outcome(st, text), outcome(torch, text)
    if isinstance(theirs, Exception):
        assert isinstance(ours, next(c for c in type(theirs).__mro__ if c.__module__ == "builtins")), f"{ours!r}, torch: {theirs!r}"
    else:
        assert repr(ours) == repr(theirs)
