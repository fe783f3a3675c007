"""The repr of tensors beside torch's, character for character."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import spiraltorch as st
from spiraltorch.printing import set_printoptions

SHAPES = [
    (),
    (1,),
    (5,),
    (30,),
    (0,),
    (0, 3),
    (2, 0, 3),
    (3, 4),
    (2, 3, 4),
    (1, 1),
    (2, 2, 2, 2),
    (1001,),
    (40, 40),
    (12, 11, 10),
    (5, 5, 50),
    (7, 200),
]


@pytest.fixture(autouse=True)
def _default_options() -> Iterator[None]:
    yield
    set_printoptions(profile="default")
    torch.set_printoptions(profile="default")


def check(a: Any) -> None:
    a = np.ascontiguousarray(a).reshape(np.shape(a))
    assert repr(st.tensor(a)) == repr(torch.from_numpy(a.copy()))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_floats(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64, np.float16):
        for scale in (1, 1e-5, 1e5, 1e9, 1e-12, 1000, 1 / 3):
            with np.errstate(over="ignore"):
                check((rng.standard_normal(shape) * scale).astype(dtype))
                check(np.round(rng.standard_normal(shape) * scale).astype(dtype))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_other_types(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    for dtype in (np.int64, np.int32, np.int16, np.int8, np.uint8, np.uint32):
        check(rng.integers(-100 if np.dtype(dtype).kind == "i" else 0, 100, shape).astype(dtype))
    check(rng.integers(0, 2, shape).astype(bool))
    check((rng.standard_normal(shape) + 1j * rng.standard_normal(shape) * 100).astype(np.complex64))
    a = np.asarray(rng.standard_normal(shape), np.float32)
    assert repr(st.tensor(a.astype(ml_dtypes.bfloat16))) == repr(torch.from_numpy(a).to(torch.bfloat16))


@pytest.mark.parametrize("shape", [s for s in SHAPES if 0 not in s], ids=str)
def test_special_values(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    for fill in (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3.4e38):
        check(np.full(shape, fill, np.float32))
        for a in (rng.standard_normal(shape), np.round(rng.standard_normal(shape) * 5)):
            a = np.asarray(a, np.float32)
            a.reshape(-1)[0] = fill
            check(a)
            a.reshape(-1)[-1] = -np.inf
            check(a)


def test_suffixes() -> None:
    for build in (
        lambda m: m.ones(3, requires_grad=True),
        lambda m: m.ones(3, requires_grad=True) * 2,
        lambda m: m.ones(2, 2, requires_grad=True).exp(),
        lambda m: m.ones(3, dtype=m.float64, requires_grad=True).sum(),
        lambda m: m.nn.Parameter(m.ones(2, 2)),
        lambda m: m.ones(30, requires_grad=True) + 1,
        lambda m: m.nn.Parameter(m.zeros(0, 2)),
        lambda m: m.arange(3, dtype=m.int32),
        lambda m: m.ones(6, dtype=m.float64, requires_grad=True) * 1234.5,
        lambda m: m.zeros(0, dtype=m.int64),
        lambda m: m.ones(2, 3).size(),
        lambda m: m.arange(6).reshape(2, 3).t(),
        lambda m: m.arange(10)[::3],
    ):
        assert repr(build(st)) == repr(build(torch))
    assert f"{st.tensor(1.5):.3f}" == f"{torch.tensor(1.5):.3f}" and str(st.ones(2)) == str(torch.ones(2))


def test_default_type_has_no_suffix() -> None:
    for m in (st, torch):
        m.set_default_dtype(m.float64)
    try:
        for build in (
            lambda m: m.ones(2),
            lambda m: m.ones(2, dtype=m.float32),
            lambda m: m.zeros(0),
            lambda m: m.zeros(0, dtype=m.float32),
        ):
            assert repr(build(st)) == repr(build(torch))
    finally:
        for m in (st, torch):
            m.set_default_dtype(m.float32)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": 2},
        {"threshold": 5},
        {"threshold": 5, "edgeitems": 1},
        {"linewidth": 40},
        {"linewidth": 200, "precision": 8},
        {"sci_mode": True},
        {"sci_mode": False},
        {"profile": "short"},
        {"profile": "full"},
        {"profile": "short", "precision": 6},
        {"threshold": 5, "edgeitems": 0},
    ],
    ids=str,
)
def test_options(options: dict[str, Any]) -> None:
    set_printoptions(**options)
    torch.set_printoptions(**options)
    rng = np.random.default_rng(3)
    for shape in ((), (12,), (8, 7), (3, 9, 9)) if options.get("edgeitems") != 0 else ((12,),):
        check(rng.standard_normal(shape).astype(np.float32))
        check(rng.standard_normal(shape) * 1e6)
        check(rng.integers(0, 1000, shape))
