"""Tensors from numbers alone: bodies that take sizes and give a node.

The public functions of :mod:`spiraltorch.creation` add devices and ``requires_grad``.

    >>> from spiraltorch.ops.registry import OPS
    >>> n = OPS["arange"].apply([1, 10, 3], {})
    >>> n.shape, n.dtype
    ((3,), spiraltorch.int64)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast, const
from . import samples as s
from .registry import op, raise_dtype
from .view import sizes_of

T = s.T


def shape_of(size: Sequence[Any]) -> tuple[int, ...]:
    """``f(2, 3)`` and ``f((2, 3))``.  Raises RuntimeError for a negative size."""
    shape = sizes_of(tuple(size))
    for n in shape:
        if n < 0:
            raise SpiralError(f"Trying to create tensor with negative dimension {n}: {list(shape)}")
    return shape


def filled(value: Any, shape: tuple[int, ...], dtype: DType) -> Node:
    """A number of the caller everywhere: as data, so another number is no new program."""
    return graph.expand(const(dtypes.fitting(value, dtype), dtype, static=False), shape)


@op("full", kinds="buifc", where=(), differentiable=False, samples=s.calls(
    s.call((2, 3), 1.5), s.call((), 2), s.call((0, 3), True), s.call((4,), 7, dtype=dtypes.float64),
    s.call((2,), 300, dtype=dtypes.int16)))  # fmt: skip
def full(size: Sequence[int], fill_value: Any, *, dtype: DType | None = None) -> Node:
    """``fill_value`` everywhere; its own type unless ``dtype`` says.  (torch.full)"""
    return filled(fill_value, shape_of(size), dtype or dtypes.of_python(fill_value))


@op(
    "zeros",
    kinds="buifc",
    where=(),
    differentiable=False,
    samples=s.calls(s.call(2, 3), s.call((2, 3)), s.call(()), s.call(0, dtype=dtypes.int64)),
)
def zeros(*size: Any, dtype: DType | None = None) -> Node:
    """0 everywhere.  (torch.zeros)"""
    return graph.full(0, shape_of(size), dtype or dtypes.get_default_dtype())


@op(
    "ones",
    kinds="buifc",
    where=(),
    differentiable=False,
    samples=s.calls(s.call(2, 3), s.call((2, 3)), s.call(()), s.call(3, dtype=dtypes.bool_)),
)
def ones(*size: Any, dtype: DType | None = None) -> Node:
    """1 everywhere.  (torch.ones)"""
    return graph.full(1, shape_of(size), dtype or dtypes.get_default_dtype())


@op("zeros_like", kinds="buifc", where=(), differentiable=False, samples=s.more(s.unary(), s.unary(dtype=dtypes.int64)))
def zeros_like(input: Node, *, dtype: DType | None = None) -> Node:
    """0 in the shape and type of ``input``.  (torch.zeros_like)"""
    return graph.full(0, input.shape, dtype or input.dtype)


@op("ones_like", kinds="buifc", where=(), differentiable=False, samples=s.more(s.unary(), s.unary(dtype=dtypes.int64)))
def ones_like(input: Node, *, dtype: DType | None = None) -> Node:
    """1 in the shape and type of ``input``.  (torch.ones_like)"""
    return graph.full(1, input.shape, dtype or input.dtype)


@op(
    "full_like",
    kinds="buifc",
    where=(),
    differentiable=False,
    samples=s.calls(s.call(T(2, 3), 1), s.call(T(), 1.0, dtype=dtypes.float64)),
)
def full_like(input: Node, fill_value: Any, *, dtype: DType | None = None) -> Node:
    """``fill_value`` in the shape and type of ``input``.  (torch.full_like)"""
    return filled(fill_value, input.shape, dtype or input.dtype)


@op("arange", where=(), differentiable=False, samples=s.calls(
    s.call(5), s.call(1, 10, 3), s.call(10, 0, -3), s.call(0), s.call(0.0, 1.0, 0.1),
    s.call(5, dtype=dtypes.float32), s.call(1, 2.5, 0.5, dtype=dtypes.float64)))  # fmt: skip
def arange(start: float, end: float | None = None, step: float = 1, *, dtype: DType | None = None) -> Node:
    """``start, start + step, ...`` before ``end``; int64 for integers, else the default type.  (torch.arange)"""
    if end is None:
        start, end = 0, start
    if step == 0:
        raise SpiralError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end) and math.isfinite(step)):
        raise SpiralError(f"unsupported range: {start} -> {end}")
    if (end - start) / step < 0:
        raise SpiralError("upper bound and lower bound inconsistent with step sign")
    whole = all(isinstance(v, int) for v in (start, end, step))
    target = dtype or (dtypes.int64 if whole else dtypes.get_default_dtype())
    if target is dtypes.bool_ or target.is_complex:
        raise_dtype(arange, target)
    if target.category == dtypes.INT and not whole:  # the ends and the step count as integers
        start, end, step, whole = int(start), int(end), int(step), True
        if step == 0:
            raise ValueError("step must be nonzero")
    at = graph.iota((math.ceil((end - start) / step),), 0)
    if whole:
        return cast(lang.add(lang.mul(at, step), start) if start else lang.mul(at, step), target)
    wide = cast(at, dtypes.float64)  # rounded once, at the end
    first, by = (const(float(v), dtypes.float64, static=False) for v in (start, step))
    return cast(lang.mul(wide, by) + first, target)


@op("linspace", kinds="buifc", where=(), differentiable=False, samples=s.calls(
    s.call(0, 1, 5), s.call(-1.5, 2.0, 4), s.call(3, 3, 1), s.call(0, 1, 0),
    s.call(5, -5, 11, dtype=dtypes.float64)))  # fmt: skip
def linspace(start: float, end: float, steps: int, *, dtype: DType | None = None) -> Node:
    """``steps`` numbers at equal distances from ``start`` to ``end``, both included.  (torch.linspace)"""
    if steps < 0:
        raise SpiralError("number of steps must be non-negative")
    at = graph.iota((steps,), 0)
    target = dtype or dtypes.get_default_dtype()
    if target is dtypes.bool_ and steps > 1:
        raise_dtype(linspace, target)
    if target.category == dtypes.INT:  # the ends count as integers
        start, end = int(start), int(end)
    gap = (float(end) - float(start)) / max(1, steps - 1)
    first, last, by = (const(float(v), dtypes.float64, static=False) for v in (start, end, gap))
    near = lang.lt(at, steps // 2) if steps > 1 else lang.le(at, 0)  # counted from the nearer end: exact at both
    up = lang.mul(cast(at, dtypes.float64), by) + first
    down = last - lang.mul(cast((steps - 1) - at, dtypes.float64), by)
    return cast(lang.where(near, up, down), target)


@op(
    "eye",
    kinds="buifc",
    where=(),
    differentiable=False,
    samples=s.calls(s.call(3), s.call(2, 4), s.call(3, dtype=dtypes.int64), s.call(0)),
)
def eye(n: int, m: int | None = None, *, dtype: DType | None = None) -> Node:
    """1 on the diagonal of an ``n`` by ``m`` matrix, 0 elsewhere.  (torch.eye)"""
    shape = shape_of((n, n if m is None else m))
    return cast(lang.eq(graph.iota(shape, 0), graph.iota(shape, 1)), dtype or dtypes.get_default_dtype())


@op("logspace", where=(), differentiable=False, samples=s.calls(
    s.call(0, 2, 5), s.call(-1.5, 2.0, 4, 2.0), s.call(3, 3, 1), s.call(0, 1, 0), s.call(0, 3, 4, dtype=dtypes.float64)))  # fmt: skip
def logspace(start: float, end: float, steps: int, base: float = 10.0, *, dtype: DType | None = None) -> Node:
    """``base`` to the power of ``steps`` numbers at equal distances from ``start`` to ``end``.  (torch.logspace)"""
    target = dtype or dtypes.get_default_dtype()
    if target is dtypes.bool_ and steps > 1:
        raise_dtype(logspace, target)
    if target.category == dtypes.INT:
        start, end = int(start), int(end)
    powers = linspace.body(start, end, operator.index(steps), dtype=dtypes.float64)
    return cast(lang.pow_(const(float(base), dtypes.float64, static=False), powers), target)


# -- windows --------------------------------------------------------------------------------------


def _window(name: str, length: int, dtype: DType | None) -> DType:
    if length < 0:
        raise SpiralError(f"{name} requires non-negative window_length, got window_length={length}")
    target = dtype or dtypes.get_default_dtype()
    if target.kind != "f":
        raise SpiralError(f"{name} expects floating point dtypes, got: {target.name}")
    return target


def _cosines(length: int, periodic: bool, weights: Sequence[float], target: DType) -> Node:
    """``a0 - a1 cos(t) + a2 cos(2 t) ...`` over one turn."""
    if length == 1:
        return graph.full(1, (1,), target)
    turn = cast(graph.iota((length,), 0), dtypes.float64) * (2 * math.pi / max(1, length - (not periodic)))
    total = graph.full(weights[0], (length,), dtypes.float64)
    for k, w in enumerate(weights[1:], 1):
        total = total + lang.cos(turn * float(k)) * (w if k % 2 == 0 else -w)
    return cast(total, target)


_WINDOWS = s.calls(s.call(7), s.call(8, False), s.call(1), s.call(0), s.call(2, dtype=dtypes.float64))


@op("hann_window", where=(), differentiable=False, samples=_WINDOWS)
def hann_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None) -> Node:
    """``sin(t / 2) ** 2`` over one turn.  (torch.hann_window)"""
    return _cosines(window_length, periodic, (0.5, 0.5), _window("hann_window", window_length, dtype))


@op("hamming_window", where=(), differentiable=False, samples=_WINDOWS)
def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *, dtype: DType | None = None
) -> Node:
    """``alpha - beta * cos(t)`` over one turn.  (torch.hamming_window)"""
    return _cosines(window_length, periodic, (alpha, beta), _window("hamming_window", window_length, dtype))


@op("blackman_window", where=(), differentiable=False, samples=_WINDOWS)
def blackman_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None) -> Node:
    """``0.42 - 0.5 cos(t) + 0.08 cos(2 t)`` over one turn.  (torch.blackman_window)"""
    return _cosines(window_length, periodic, (0.42, 0.5, 0.08), _window("blackman_window", window_length, dtype))


@op("bartlett_window", where=(), differentiable=False, samples=_WINDOWS)
def bartlett_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None) -> Node:
    """A triangle from 0 to 1 and back.  (torch.bartlett_window)"""
    target = _window("bartlett_window", window_length, dtype)
    if window_length == 1:
        return graph.full(1, (1,), target)
    at = cast(graph.iota((window_length,), 0), dtypes.float64) * (2.0 / max(1, window_length - (not periodic)))
    return cast(1 - lang.absolute(at - 1.0), target)


@op("kaiser_window", where=(), differentiable=False, samples=_WINDOWS)
def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: DType | None = None
) -> Node:
    """The zeroth Bessel function along half an ellipse, over its value at the top.  (torch.kaiser_window)"""
    target = _window("kaiser_window", window_length, dtype)
    if window_length == 1:
        return graph.full(1, (1,), target)
    at = cast(graph.iota((window_length,), 0), dtypes.float64) * (2.0 / max(1, window_length - (not periodic))) - 1.0
    height = lang.sqrt(lang.maximum(1 - at * at, 0.0)) * float(beta)
    return cast(_bessel(height) / _bessel(graph.full(float(beta), (), dtypes.float64)), target)


def _bessel(x: Node) -> Node:
    """I0 by its series in (x / 2) ** 2, which converges everywhere; 60 terms are enough up to x = 40."""
    square, term = x * x * 0.25, graph.full(1.0, x.shape, dtypes.float64)
    total = term
    for k in range(1, 60):
        term = term * square * (1.0 / (k * k))
        total = total + term
    return total
