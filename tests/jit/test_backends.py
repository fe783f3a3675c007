"""The other ways to run on a CPU: BLAS for matrix products, plain loops under Numba, the interpreter."""

from __future__ import annotations

import numpy as np
import pytest

import spiraltorch as st
from spiraltorch.config import config

F = st.nn.functional


@pytest.fixture(params=[("llvm", "blas"), ("numba", "generated"), ("numba", "blas"), ("reference", "generated")])
def other(request):
    before = config.cpu, config.gemm
    config.cpu, config.gemm = request.param
    yield
    config.cpu, config.gemm = before


def program(x, w, b, k):
    batch = F.gelu(F.linear(x, w, b)) + x[..., :1]
    image = F.conv2d(x.reshape(2, 3, 5, 8), k, padding=1).relu()
    return [batch, image, st.einsum("bij,bkj->bik", x, x), (x.double() @ w.double().t()).softmax(-1), x.t() if x.ndim == 2 else x.sum(1)]


def test_same_values_as_generated_code(other):
    rng = np.random.default_rng(0)
    args = [st.tensor(rng.standard_normal(s).astype("f")) for s in [(2, 5, 24), (7, 24), (7,), (4, 3, 3, 3)]]
    found = [t.numpy().copy() for t in st.compile(program)(*args)]
    config.cpu, config.gemm = "llvm", "generated"
    for a, b in zip(found, program(*args)):
        np.testing.assert_allclose(a, b.numpy(), rtol=2e-5, atol=2e-5)
