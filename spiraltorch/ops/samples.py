"""Inputs that tests, documentation and fuzzing call operators with.

In: an element type.  Out: :class:`Sample` objects whose tensors are NumPy arrays.  A record says its
samples as data; the arrays are drawn from them, the same ones every time:

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ops.samples import T, call, calls
    >>> pick = calls(call(T(2, 3), dim=0), call(T(4, fill="positive"), -1))
    >>> [s.args[0].shape for s in pick(dtypes.float32)]
    [(2, 3), (4,)]
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import DType


@dataclass
class Sample:
    """One call.  ``grad`` is False where the gradient is not to be compared (at kinks and infinities)."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    grad: bool = True


class T:
    """A tensor to draw: its shape, how it is filled, and its type (None: the one being sampled).

    fill: 'normal', 'positive' (0.5 to 3), 'beyond' (1 to 4), 'finite' (as 'special', no nan or
    infinity), 'unit' (inside -1 to 1), 'open' (inside 0 to 1), 'special' (nan,
    infinities, zeros, halves), 'distinct' (no two equal), 'index' (0 to ``high`` - 1), 'wrapped' (also from the
    end), 'ones', 'mask' (bool), 'simplex' (positive, sums to 1 along axis 1), 'sign' (-1 or 1), 'definite' (symmetric
    positive-definite matrices).
    """

    def __init__(self, *shape: int, fill: str = "normal", high: int = 0, dtype: DType | None = None) -> None:
        self.shape, self.fill, self.high, self.dtype = shape, fill, high, dtype

    def __repr__(self) -> str:
        return f"T{self.shape}:{self.fill}"

    def draw(self, dtype: DType, rng: np.random.Generator) -> np.ndarray:
        if self.fill in ("index", "wrapped", "mask"):
            low = -self.high if self.fill == "wrapped" else 0
            high = 2 if self.fill == "mask" else self.high
            fixed = self.dtype or (dtypes.bool_ if self.fill == "mask" else dtypes.int64)
            return np.asarray(rng.integers(low, max(high, low + 1), self.shape)).astype(fixed.np)
        dtype = self.dtype or dtype
        values = np.asarray(_FILLS[self.fill](rng, self.shape, dtype.kind in "fc"))
        if dtype.kind == "c":
            values = values + 1j * np.asarray(_FILLS[self.fill](rng, self.shape, True))
        if dtype.kind == "u":
            values = values - values.min(initial=0) if self.fill == "distinct" else np.abs(values)
        if dtype.itemsize == 2 and dtype.kind == "f":
            values = values.astype(np.float32)
        return np.asarray(values.astype(dtype.np))


def _normal(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    return rng.normal(size=shape) * 1.5 if real else rng.integers(-4, 5, shape)


def _positive(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    return rng.uniform(0.5, 3, shape) if real else rng.integers(1, 6, shape)


def _beyond(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    return rng.uniform(1.1, 4, shape) if real else rng.integers(1, 6, shape)


def _finite(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    return np.resize(np.array([v for v in _SPECIAL if np.isfinite(v)]), shape)


def _unit(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    return rng.uniform(-0.9, 0.9, shape) if real else rng.integers(0, 2, shape)


def _open(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    return rng.uniform(0.05, 0.95, shape) if real else rng.integers(0, 2, shape)


_SPECIAL = (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 30.0, -30.0)


def _special(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    values = np.array(_SPECIAL) if real else np.arange(-7, 7)
    return np.resize(values, shape)


def _distinct(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    size = int(np.prod(shape, dtype=np.int64))
    return (rng.permutation(size) - size // 2).reshape(shape) * (0.25 if real else 1)


def _ones(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    return np.ones(shape)


def _simplex(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    values = rng.uniform(0.1, 1, shape)
    return values / values.sum(axis=1, keepdims=True)


def _definite(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    a = rng.normal(size=shape)
    return a @ np.swapaxes(a, -1, -2) + shape[-1] * np.eye(shape[-1])


def _sign(rng: np.random.Generator, shape: tuple[int, ...], real: bool) -> Any:
    return rng.integers(0, 2, shape) * 2 - 1


_FILLS: dict[str, Callable[[np.random.Generator, tuple[int, ...], bool], Any]] = {
    "normal": _normal, "positive": _positive, "unit": _unit, "open": _open, "special": _special,
    "beyond": _beyond, "finite": _finite, "distinct": _distinct, "ones": _ones, "simplex": _simplex,
    "definite": _definite,
    "sign": _sign,
}  # fmt: skip


@dataclass
class Call:
    """A sample before its arrays are drawn."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    grad: bool = True


def call(*args: Any, **kwargs: Any) -> Call:
    return Call(args, kwargs)


def value_only(*args: Any, **kwargs: Any) -> Call:
    """A call whose gradient is not compared."""
    return Call(args, kwargs, grad=False)


def _drawn(a: Any, dtype: DType, rng: np.random.Generator) -> Any:
    if isinstance(a, T):
        return a.draw(dtype, rng)
    if isinstance(a, (list, tuple)):
        return type(a)([_drawn(x, dtype, rng) for x in a])
    return a


def calls(*specs: Call) -> Callable[[DType], list[Sample]]:
    """A record's ``samples``: draws the arrays of ``specs`` for the type asked for."""

    def samples(dtype: DType) -> list[Sample]:
        out = []
        for k, c in enumerate(specs):
            rng = np.random.default_rng(zlib.crc32(f"{k} {c.args}".encode()))
            args = tuple([_drawn(a, dtype, rng) for a in c.args])
            out.append(Sample(args, {n: _drawn(a, dtype, rng) for n, a in c.kwargs.items()}, c.grad))
        return out

    return samples


def ordinary(fill: str = "normal", **kwargs: Any) -> Callable[[DType], list[Sample]]:
    """Shapes 2-d, 0-d, empty and a vector long enough for any block."""
    return calls(
        call(T(2, 3, fill=fill), **kwargs), call(T(fill=fill), **kwargs), call(T(0, 3), **kwargs),
        call(T(37, fill=fill), **kwargs),
    )  # fmt: skip


def unary(fill: str = "normal", **kwargs: Any) -> Callable[[DType], list[Sample]]:
    """The :func:`ordinary` ones and the special values."""
    return more(ordinary(fill, **kwargs), calls(value_only(T(14, fill="special"), **kwargs)))


def binary(fill: str = "normal", second: str | None = None, **kwargs: Any) -> Callable[[DType], list[Sample]]:
    """Equal shapes, size-1 broadcasting, ranks that differ, 0-d, empty; and the special values, all pairs."""
    other = second or fill
    return calls(
        call(T(2, 3, fill=fill), T(2, 3, fill=other), **kwargs),
        call(T(2, 1, 3, fill=fill), T(4, 1, fill=other), **kwargs),
        call(T(fill=fill), T(5, fill=other), **kwargs),
        call(T(2, 3, fill=fill), T(fill=other), **kwargs),
        call(T(0, 3, fill=fill), T(1, 3, fill=other), **kwargs),
        value_only(T(14, 1, fill="special"), T(14, fill="special"), **kwargs),
    )


def more(*groups: Callable[[DType], list[Sample]]) -> Callable[[DType], list[Sample]]:
    """The samples of all ``groups``."""

    def samples(dtype: DType) -> list[Sample]:
        return [s for group in groups for s in group(dtype)]

    return samples


__all__ = ["Call", "Sample", "T", "binary", "call", "calls", "more", "ordinary", "unary", "value_only"]
