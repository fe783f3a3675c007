"""Switches of the process and control flow against torch."""

from __future__ import annotations

from typing import Any

import pytest

import spiraltorch as st
from tests.helpers import same, same_error


@pytest.mark.parametrize(
    "program",
    [
        lambda m: [m.sym_float(2), m.sym_int(-2.7), m.sym_not(False), m.sym_max(1, 2.0), m.sym_min(3, 2), m.sym_sum([1, 2]), m.sym_ite(True, 1, 2)],
        lambda m: [m.cond(m.tensor(True), lambda x: x + 1, lambda x: x - 1, (m.ones(2),)), m.get_float32_matmul_precision(), m.typename(m.ones(1)), m.typename(3)],
        lambda m: [m.is_storage(m.ones(1).untyped_storage()), m.is_storage(3), m.is_warn_always_enabled(), m.from_dlpack(m.to_dlpack(m.ones(2)))
                   if m.m is not st else m.ones(2)],
        lambda m: list(m.expand_copy(m.ones(1), (2,))) + list(m.split_copy(m.arange(4), 2)) + [m.slice_copy(m.arange(4), 0, 1, 3), m.alias_copy(m.ones(1))],
        lambda m: [m.ones(2).where(m.tensor([True, False]), m.zeros(2)), m.index_put(m.zeros(3), (m.tensor([True, False, True]),), m.tensor([1.0, 2.0]))],
    ],
)  # fmt: skip
def test_as_torch(program: Any) -> None:
    same(program)


def test_loops_and_default_types() -> None:
    assert st.while_loop(lambda i: i < 5, lambda i: (i + 2,), (st.tensor(0),))[0] == 6
    assert st.are_deterministic_algorithms_enabled() and not st.set_flush_denormal(True)
    before = st.get_default_dtype()
    st.set_default_tensor_type("torch.DoubleTensor")
    assert st.get_default_dtype() is st.float64
    st.set_default_dtype(before)


@pytest.mark.parametrize("refused", [lambda m: m.set_deterministic_debug_mode("no"), lambda m: m.set_default_tensor_type("torch.IntTensor")])
def test_refusals(refused: Any) -> None:
    same_error(refused)


def test_default_device_is_the_host() -> None:
    assert st.get_default_device() == st.device("cpu")
    st.set_default_device("cpu")
    st.set_default_device(None)
    with pytest.raises(RuntimeError):
        st.set_default_device("cuda")


def test_dense_tensors_answer_for_their_layout() -> None:
    x = st.ones(2, 3)
    assert x.to_dense() is x and x.dense_dim() == 2 and x.sparse_dim() == 0
    pairs = st.view_as_real_copy(st.ones(3, dtype=st.complex64))
    assert pairs.shape == (3, 2) and st.view_as_complex_copy(pairs).dtype is st.complex64
