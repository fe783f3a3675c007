"""Python numbers beside tensors: which are refused, and to what they are rounded, against torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import spiraltorch as st

Function = Callable[[Any, Any, Any], Any]  # of the library, a tensor and a number


def _set(x: Any, at: Any, v: Any) -> Any:
    x[at] = v
    return x


WRITING: dict[str, Function] = {
    "full": lambda m, x, v: m.full((2,), v, dtype=x.dtype),
    "full_like": lambda m, x, v: m.full_like(x, v),
    "new_full": lambda m, x, v: x.new_full((2,), v),
    "fill_": lambda m, x, v: x.clone().fill_(v),
    "masked_fill": lambda m, x, v: x.masked_fill(x > 0, v),
    "masked_fill_": lambda m, x, v: x.clone().masked_fill_(x > 0, v),
    "index_fill": lambda m, x, v: x.index_fill(0, m.tensor([0]), v),
    "clamp": lambda m, x, v: x.clamp(max=v),
    "clamp_min": lambda m, x, v: m.clamp_min(x, v),
    "pad": lambda m, x, v: m.constant_pad_nd(x, (1, 1), v),
    "fill_diagonal_": lambda m, x, v: m.zeros(2, 2, dtype=x.dtype).fill_diagonal_(v),
    "setitem": lambda m, x, v: _set(x.clone(), 0, v),
    "set by mask": lambda m, x, v: _set(x.clone(), x > 0, v),
    "tensor": lambda m, x, v: m.tensor([v], dtype=x.dtype),
    "lerp": lambda m, x, v: m.lerp(x, x, v),
    "leaky_relu": lambda m, x, v: m.nn.functional.leaky_relu(-x, v),
    "add alpha": lambda m, x, v: m.add(x, x, alpha=v),
}
READING: dict[str, Function] = {
    "add": lambda m, x, v: x + v,
    "mul": lambda m, x, v: x * v,
    "rsub": lambda m, x, v: v - x,
    "lt": lambda m, x, v: x < v,
    "eq": lambda m, x, v: x == v,
    "rpow": lambda m, x, v: v**x,
    "nan_to_num": lambda m, x, v: x.nan_to_num(v),
}
NUMBERS = (70000.0, 1e30, 300, -1, 2**40, 2**63, 2**70, math.inf, math.nan)


def outcome(m: Any, function: Function, dtype: str, v: Any) -> Any:
    """The class of what was raised, or the numbers."""
    try:
        result = function(m, m.ones(2, dtype=getattr(m, dtype)), v)
    except (RuntimeError, OverflowError, ValueError) as e:
        return next(c for c in (OverflowError, ValueError, RuntimeError) if isinstance(e, c))
    return str(result.dtype).split(".")[-1], str(result.tolist())


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "int64", "bool"])
@pytest.mark.parametrize("name", [*WRITING, *READING])
def test_numbers_that_do_not_fit(name: str, dtype: str) -> None:
    function = {**WRITING, **READING}[name]
    apart = {"pad": (2**70,), "leaky_relu": (2**70,), "nan_to_num": (2**70,), "lerp": (2**63, 2**70)}  # beyond 64 bits
    if dtype == "bool" and name not in ("clamp", "clamp_min", "lerp", "leaky_relu", "add alpha"):
        apart[name] = (2**63, 2**70)
    if (name, dtype) == ("add alpha", "float16"):  # torch rounds alpha, here it meets the numbers in float32
        apart[name] = (70000.0, 1e30, 2**40, 2**63)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for v in NUMBERS:
            if v not in apart.get(name, ()):
                assert outcome(st, function, dtype, v) == outcome(torch, function, dtype, v), v


MEETING: dict[str, Function] = {
    "mul": lambda m, x, v: x * v,
    "rmul": lambda m, x, v: v * x,
    "mul_": lambda m, x, v: x.clone().mul_(v),
    "mul 0-d": lambda m, x, v: x * m.tensor(v),
    "0-d mul": lambda m, x, v: m.tensor(v) * x,
    "div": lambda m, x, v: x / v,
    "div_": lambda m, x, v: x.clone().div_(v),
    "div 0-d": lambda m, x, v: x / m.tensor(v),
    "0-d div": lambda m, x, v: m.tensor(v) / x,
    "true_divide": lambda m, x, v: m.true_divide(x, v),
    "trunc": lambda m, x, v: m.div(x, v, rounding_mode="trunc"),
    "floor": lambda m, x, v: m.div(x, v, rounding_mode="floor"),
    "floor_divide": lambda m, x, v: x // v,
    "add": lambda m, x, v: x + v,
    "sub": lambda m, x, v: x - v,
    "remainder": lambda m, x, v: x % v,
    "fmod": lambda m, x, v: m.fmod(x, v),
    "lt": lambda m, x, v: x < v,
}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", MEETING)
def test_16_bit_floats_meet_numbers_as_in_torch(name: str, dtype: str) -> None:
    """0.999 in bfloat16 is 1: products and quotients take the number as it is, bit by bit as torch's."""
    numbers = np.random.default_rng(3).normal(size=512).astype(np.float32) * 10
    x, y = (m.from_numpy(numbers).to(getattr(m, dtype)) for m in (torch, st))
    compiled = st.compile(lambda t, v: MEETING[name](st, t, v))
    for v in (1.01, 0.999, -2.7183, 1 / 7):
        want = MEETING[name](torch, x, v).double().numpy()
        assert np.array_equal(MEETING[name](st, y, v).double().numpy(), want), v
        assert np.array_equal(compiled(y, v).double().numpy(), want), v


def test_gradient_of_a_16_bit_product_takes_the_number_as_it_is() -> None:
    grads = []
    for m in (torch, st):
        x = m.arange(1.0, 65).to(m.bfloat16).requires_grad_()
        ((x * 0.999 / 1.01) * m.arange(1.0, 65)).sum().backward()
        grads.append(x.grad.double().numpy())
    assert np.array_equal(*grads)


@pytest.mark.parametrize("name", ["baddbmm", "addmm", "addmv"])
def test_products_are_scaled_before_they_are_rounded(name: str) -> None:
    def value(m: Any) -> Any:
        a, v = m.arange(16.0).reshape(4, 4).to(m.bfloat16), m.ones(4, dtype=m.bfloat16)
        given = {"baddbmm": (a[None], a[None], a[None]), "addmm": (a, a, a), "addmv": (v, a, v)}[name]
        return getattr(m, name)(*given, beta=0.999, alpha=1.01).double().numpy()

    exact = np.arange(16.0).reshape(4, 4)
    want = {"baddbmm": 0.999 * exact + 1.01 * exact @ exact, "addmm": 0.999 * exact + 1.01 * exact @ exact,
            "addmv": 0.999 + 1.01 * exact.sum(1)}[name]  # fmt: skip
    assert np.abs(value(st).reshape(want.shape) - want).max() <= np.abs(want).max() * 2**-8  # the product is rounded too
    assert np.allclose(value(st), value(torch), rtol=2**-7)


def test_names_of_numbers_and_types() -> None:
    for name in ("inf", "pi", "e", "newaxis"):
        assert getattr(st, name) == getattr(torch, name)
    assert math.isnan(st.nan) and st.cfloat is st.complex64 and st.cdouble is st.complex128
