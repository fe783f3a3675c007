"""Tensors from numbers alone: bodies that take sizes and give a node.

The public functions of :mod:`spiraltorch.creation` add devices and ``requires_grad``.

    >>> from spiraltorch.ops.registry import OPS
    >>> n = OPS["arange"].apply([1, 10, 3], {})
    >>> n.shape, n.dtype
    ((3,), spiraltorch.int64)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast, const
from . import samples as s
from .registry import op
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
    return graph.expand(const(value, dtype, static=False), shape)


@op("full", where=(), differentiable=False, samples=s.calls(
    s.call((2, 3), 1.5), s.call((), 2), s.call((0, 3), True), s.call((4,), 7, dtype=dtypes.float64),
    s.call((2,), 300, dtype=dtypes.int16)))  # fmt: skip
def full(size: Sequence[int], fill_value: Any, *, dtype: DType | None = None) -> Node:
    """``fill_value`` everywhere; its own type unless ``dtype`` says.  (torch.full)"""
    return filled(fill_value, shape_of(size), dtype or dtypes.of_python(fill_value))


@op(
    "zeros",
    where=(),
    differentiable=False,
    samples=s.calls(s.call(2, 3), s.call((2, 3)), s.call(()), s.call(0, dtype=dtypes.int64)),
)
def zeros(*size: Any, dtype: DType | None = None) -> Node:
    """0 everywhere.  (torch.zeros)"""
    return graph.full(0, shape_of(size), dtype or dtypes.get_default_dtype())


@op(
    "ones",
    where=(),
    differentiable=False,
    samples=s.calls(s.call(2, 3), s.call((2, 3)), s.call(()), s.call(3, dtype=dtypes.bool_)),
)
def ones(*size: Any, dtype: DType | None = None) -> Node:
    """1 everywhere.  (torch.ones)"""
    return graph.full(1, shape_of(size), dtype or dtypes.get_default_dtype())


@op("zeros_like", where=(), differentiable=False, samples=s.more(s.unary(), s.unary(dtype=dtypes.int64)))
def zeros_like(input: Node, *, dtype: DType | None = None) -> Node:
    """0 in the shape and type of ``input``.  (torch.zeros_like)"""
    return graph.full(0, input.shape, dtype or input.dtype)


@op("ones_like", where=(), differentiable=False, samples=s.more(s.unary(), s.unary(dtype=dtypes.int64)))
def ones_like(input: Node, *, dtype: DType | None = None) -> Node:
    """1 in the shape and type of ``input``.  (torch.ones_like)"""
    return graph.full(1, input.shape, dtype or input.dtype)


@op(
    "full_like",
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
    if (end - start) / step < 0:
        raise SpiralError("upper bound and lower bound inconsistent with step sign")
    whole = all(isinstance(v, int) for v in (start, end, step))
    target = dtype or (dtypes.int64 if whole else dtypes.get_default_dtype())
    at = graph.iota((math.ceil((end - start) / step),), 0)
    if whole:
        return cast(lang.add(lang.mul(at, step), start) if start else lang.mul(at, step), target)
    wide = cast(at, dtypes.float64)  # rounded once, at the end
    first, by = (const(float(v), dtypes.float64, static=False) for v in (start, step))
    return cast(lang.mul(wide, by) + first, target)


@op("linspace", where=(), differentiable=False, samples=s.calls(
    s.call(0, 1, 5), s.call(-1.5, 2.0, 4), s.call(3, 3, 1), s.call(0, 1, 0),
    s.call(5, -5, 11, dtype=dtypes.float64)))  # fmt: skip
def linspace(start: float, end: float, steps: int, *, dtype: DType | None = None) -> Node:
    """``steps`` numbers at equal distances from ``start`` to ``end``, both included.  (torch.linspace)"""
    if steps < 0:
        raise SpiralError("number of steps must be non-negative")
    at = graph.iota((steps,), 0)
    gap = (float(end) - float(start)) / max(1, steps - 1)
    first, last, by = (const(float(v), dtypes.float64, static=False) for v in (start, end, gap))
    near = lang.lt(at, steps // 2) if steps > 1 else lang.le(at, 0)  # counted from the nearer end: exact at both
    up = lang.mul(cast(at, dtypes.float64), by) + first
    down = last - lang.mul(cast((steps - 1) - at, dtypes.float64), by)
    return cast(lang.where(near, up, down), dtype or dtypes.get_default_dtype())


@op(
    "eye",
    where=(),
    differentiable=False,
    samples=s.calls(s.call(3), s.call(2, 4), s.call(3, dtype=dtypes.int64), s.call(0)),
)
def eye(n: int, m: int | None = None, *, dtype: DType | None = None) -> Node:
    """1 on the diagonal of an ``n`` by ``m`` matrix, 0 elsewhere.  (torch.eye)"""
    shape = shape_of((n, n if m is None else m))
    return cast(lang.eq(graph.iota(shape, 0), graph.iota(shape, 1)), dtype or dtypes.get_default_dtype())
