"""Constructors against torch: values, types, strides, memory and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st
from tests.helpers import same, same_error

MADE: dict[str, Any] = {
    "arange": lambda m: [m.arange(5), m.arange(1, 2.5, 0.5), m.arange(3, 0, -1, dtype=m.float32), m.arange(m.tensor(3)), m.arange(0, 5, 2, dtype=m.int16)],
    "range": lambda m: [m.arange(0), m.linspace(0, 1, 3, dtype=m.float64), m.linspace(3, -3, 7), m.linspace(0, 10, 4, dtype=m.int64)],
    "logspace": lambda m: [m.logspace(0, 2, 5), m.logspace(-1, 1, 3, base=2, dtype=m.float64), m.logspace(1, 2, 0)],
    "eye": lambda m: [m.eye(3), m.eye(2, 4, dtype=m.int64), m.eye(0)], "full": lambda m: [m.full((2,), True), m.full((), 2), m.full((2, 1), 1.5, dtype=m.float16), m.full_like(m.ones(2), 3)],
    "like": lambda m: [m.ones_like(m.make(2, 2), dtype=m.int32), m.zeros_like(m.make(0, 2)), m.make(3).new_full((2,), 7), m.make(3).new_tensor([1, 2]), m.make(2, kind="i").new_ones(2, 2)],
    "new": lambda m: [m.make(2).double().new_zeros(3), m.make(2).new_zeros((1, 2), dtype=m.int64), m.ones(1).new_empty((0, 2)), m.make(2).new_empty_strided((2, 2), (1, 2)).stride()],
    "empty": lambda m: [m.empty_strided((2, 3), (1, 2)).stride(), m.empty_permuted((2, 3, 4), (1, 2, 0)).stride(), m.empty(2, 3).shape, m.empty_like(m.make(2), dtype=m.int8).dtype == m.int8],
    "triangles": lambda m: [m.tril_indices(3, 4, 1), m.triu_indices(4, 2, -1), m.triu_indices(2, 3, dtype=m.int32)],
    "windows": lambda m: [w(n, p, dtype=m.float64) for w in (m.hann_window, m.hamming_window, m.blackman_window, m.bartlett_window, m.kaiser_window) for n in (1, 2, 7, 8) for p in (True, False)],
    "window options": lambda m: [m.hamming_window(6, True, 0.6, 0.3), m.kaiser_window(9, False, 5.0), m.hann_window(0)],
    "scalar": lambda m: [m.scalar_tensor(3), m.scalar_tensor(2, dtype=m.int64)], "asarray": lambda m: [m.asarray([1, 2.5]), m.asarray(np.arange(3), dtype=m.float32), m.asarray(m.make(2)), m.asarray(3, dtype=m.float64)],
    "frombuffer": lambda m: [m.frombuffer(bytearray(range(8)), dtype=m.int16), m.frombuffer(bytearray(range(12)), dtype=m.int32, count=1, offset=4)],
    "to": lambda m: [m.make(2).to(m.float64), m.make(2).to("cpu"), m.make(2).to(m.device("cpu"), m.int64), m.make(2).to(m.ones(1, dtype=m.float64)), m.make(2).to(dtype=m.int8, copy=True), m.make(2).to("cpu", m.float16, False, True)],
    "type": lambda m: [m.make(2).type(), m.make(2, kind="b").type(), m.make(2).type(m.int64), m.make(2).type("torch.DoubleTensor"), m.make(2).type_as(m.ones(1, dtype=m.int32))],
    "short": lambda m: [m.make(2).byte().dtype == m.uint8, m.make(2).char(), m.make(2).half(), m.make(2).bfloat16().float(), m.make(2).cdouble().real if m is torch else m.make(2).double()][:4],
    "finfo": lambda m: [(f.bits, f.eps, f.max, f.min, f.tiny, f.smallest_normal, f.resolution, f.dtype) for f in map(m.finfo, (m.float16, m.bfloat16, m.float32, m.float64))],
    "iinfo": lambda m: [(i.bits, i.max, i.min, i.dtype) for i in map(m.iinfo, (m.uint8, m.int8, m.int16, m.int32, m.int64))],
    "questions": lambda m: [m.is_tensor(m.make(1)), m.is_tensor(3), m.is_floating_point(m.make(1)), m.is_complex(m.make(1)), m.numel(m.make(2, 3)), m.is_nonzero(m.tensor([2.0])),
                            m.is_same_size(m.make(2), m.make(2)), m.make(2).is_signed(), m.make(2).get_device(), m.make(2).ndimension(), m.make(2).element_size(), m.make(2, 3).nbytes,
                            m.can_cast(m.float32, m.int32), m.can_cast(m.int32, m.float32), m.equal(m.ones(2), m.ones(2)), m.make(2).is_inference(), m.make(2).is_cpu],
    "map_": lambda m: [m.make(3).apply_(lambda v: v * 2), m.make(2, 2).map_(m.make(2), lambda a, b: a - b)],
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_made_as_torch_makes_it(name: str) -> None:
    same(MADE[name], rtol=1e-5)


@pytest.mark.parametrize(
    "refused",
    [
        lambda m: m.arange(0, 1, 0), lambda m: m.arange(1, 0), lambda m: m.arange(float("inf")), lambda m: m.linspace(0, 1, -1), lambda m: m.eye(-1), lambda m: m.full((-1,), 2),
        lambda m: m.empty_strided((2,), (1, 1)), lambda m: m.empty_permuted((2, 3), (0, 0)), lambda m: m.hann_window(-1), lambda m: m.hann_window(3, dtype=m.int64), lambda m: m.frombuffer(bytearray(3), dtype=m.int16),
        lambda m: m.frombuffer(bytearray(4), dtype=m.int16, offset=9), lambda m: m.frombuffer(bytearray(0), dtype=m.int16), lambda m: m.asarray([1], copy=False), lambda m: m.make(2).type("NoTensor"),
        lambda m: m.is_nonzero(m.make(2)), lambda m: m.finfo(m.int32), lambda m: m.iinfo(m.float32), lambda m: m.zeros(2, dtype=3), lambda m: m.arange(3, requires_grad=True),
    ],
)  # fmt: skip
def test_refusals(refused: Any) -> None:
    same_error(refused)


def test_buffers_are_shared() -> None:
    raw = bytearray(8)
    t = st.frombuffer(raw, dtype=st.int32)
    t[1] = 7
    assert raw[4] == 7
    a = np.zeros(3, np.float32)
    shared, copied = st.asarray(a), st.asarray(a, copy=True)
    a[0] = 5
    assert shared[0] == 5 and copied[0] == 0


def test_results_go_into_out() -> None:
    def program(m: Any) -> Any:
        out = m.empty(0, dtype=m.float64)
        made = [m.arange(4, out=out) is out, out.clone(), m.linspace(0, 1, 3, out=out).clone(), m.eye(2, out=out).clone(), m.full((2,), 3, out=out).clone()]
        return [*made, m.zeros(2, out=out).clone(), m.rand(3, out=out).shape, m.multinomial(m.tensor([0.0, 1.0]), 1, out=m.empty(0, dtype=m.int64))]

    same(program)
    same_error(lambda m: m.multinomial(m.ones(2), 1, out=m.empty(1)))
    same_error(lambda m: m.arange(3, dtype=m.int64, out=m.empty(3)))
    assert st.zeros(2, layout=st.strided).layout is st.strided
