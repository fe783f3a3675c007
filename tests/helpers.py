"""Running one piece of code under torch and under SpiralTorch and comparing what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import spiraltorch as st


class Library:
    """torch or spiraltorch, with inputs made from the same NumPy arrays."""

    def __init__(self, module: Any) -> None:
        self.m = module
        self.rng = np.random.default_rng(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.m, name)

    def make(self, *shape: int, grad: bool = False, kind: str = "f", low: float = -2.0, high: float = 2.0) -> Any:
        if kind == "f":
            a = self.rng.uniform(low, high, shape).astype(np.float32)
        elif kind == "d":
            a = self.rng.uniform(low, high, shape)
        elif kind == "b":
            a = self.rng.integers(0, 2, shape).astype(bool)
        else:
            a = self.rng.integers(int(low), int(high) + 1, shape)
        t = self.m.tensor(a)
        return t.requires_grad_() if grad else t


def values(x: Any) -> Any:
    """Plain data of nested results."""
    if isinstance(x, torch.Tensor):
        x = x.detach()
        return x.float().numpy() if x.dtype is torch.bfloat16 else x.numpy()
    if isinstance(x, st.Tensor):
        x = x.detach()
        return x.float().numpy() if x.dtype is st.bfloat16 else x.numpy()
    if isinstance(x, (list, tuple)):
        return [values(v) for v in x]
    if isinstance(x, dict):
        return {k: values(v) for k, v in x.items()}
    return x


def type_name(x: Any) -> str:
    return str(x.dtype).rpartition(".")[2]


def compare(ours: Any, theirs: Any, rtol: float = 2e-5, atol: float = 1e-6, path: str = "result") -> None:
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, st.Tensor), f"{path}: {type(ours).__name__} instead of a tensor"
        assert tuple(ours.shape) == tuple(theirs.shape), path
        assert type_name(ours) == type_name(theirs), path
        np.testing.assert_allclose(values(ours), values(theirs), rtol=rtol, atol=atol, err_msg=path)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), path
        for i, (a, b) in enumerate(zip(ours, theirs)):
            compare(a, b, rtol, atol, f"{path}[{i}]")
    elif isinstance(theirs, float):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=path)
    else:
        assert ours == theirs, f"{path}: {ours!r} != {theirs!r}"


def same(program: Callable[[Any], Any], rtol: float = 2e-5, atol: float = 1e-6) -> Any:
    """Run ``program`` on both libraries and compare what it returns."""
    theirs = program(Library(torch))
    ours = program(Library(st))
    compare(ours, theirs, rtol, atol)
    return ours


def same_error(program: Callable[[Any], Any], match: str = "") -> None:
    """Both libraries raise, ours an instance of what torch raises."""
    try:
        program(Library(torch))
    except Exception as e:
        expected = e
    else:
        raise AssertionError("torch raised nothing")
    try:
        result = program(Library(st))
        if isinstance(result, st.Tensor):
            result.numpy(force=True)
    except Exception as e:
        base = next(c for c in (IndexError, TypeError, ValueError, RuntimeError, Exception) if isinstance(expected, c))
        assert isinstance(e, base), f"{type(e).__name__}({e}) instead of {type(expected).__name__}({expected})"
        assert match in str(e), str(e)
        return
    raise AssertionError(f"nothing was raised, torch: {expected!r}")
