"""Random tensors from a key and a counter: the same two give the same numbers, on every backend.

In: ``key`` and ``counter`` (0-d uint64 nodes) and a shape.  Out: a node whose element i depends on random
word ``counter + i`` under ``key``, and under keys derived from it where one word is too few.  Every
operator uses :func:`words` counter values; the caller advances its counter by that.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> key, counter = (graph.param(i, (), dtypes.uint64) for i in (0, 1))
    >>> OPS["randn"].apply([key, counter, (2, 3)], {"dtype": dtypes.bfloat16}).dtype
    spiraltorch.bfloat16
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast, const
from . import samples as s
from .elementwise import lifted
from .registry import OPS, op, raise_dtype
from .sorting import order

Shape = tuple[int, ...]
_STREAM = 0x9E3779B97F4A7C15  # odd, so keys of different streams differ


def words(shape: Shape) -> int:
    """How many counter values a random tensor of ``shape`` uses."""
    return math.prod(shape)


def bits(key: Node, counter: Node, shape: Shape, stream: int = 0) -> Node:
    """uint32 words; each ``stream`` is independent of the others."""
    if stream:
        key = key ^ const(_STREAM * stream, dtypes.uint64)
    return graph.random(key, counter, shape)


def fraction(key: Node, counter: Node, shape: Shape, dtype: DType, stream: int = 0) -> Node:
    """Multiples of 2**-k in [0, 1), k the bits of ``dtype``'s significand, in its computing type."""
    high = bits(key, counter, shape, stream)
    if dtype is dtypes.float64:
        low = bits(key, counter, shape, stream + 1)
        top = cast(lang.row("SHR", high, 5), dtypes.float64) * float(1 << 26)
        return (top + cast(lang.row("SHR", low, 6), dtypes.float64)) * 2.0**-53
    keep = {dtypes.float16: 11, dtypes.bfloat16: 8}.get(dtype, 24)
    return cast(lang.row("SHR", high, 32 - keep), dtypes.float32) * 2.0**-keep


def _floating(name: str, dtype: DType | None) -> DType:
    target = dtype or dtypes.get_default_dtype()
    if target.kind != "f":
        raise_dtype(rand if name == "rand" else randn, target)
    return target


def _normal(key: Node, counter: Node, shape: Shape, dtype: DType) -> Node:
    """Box and Muller's: a radius from one uniform number and an angle from another; in the computing type."""
    wide = dtype.acc
    radius = 1 - fraction(key, counter, shape, wide)  # in (0, 1]
    angle = fraction(key, counter, shape, wide, 2)
    return lang.sqrt(-2.0 * lang.log(radius)) * lang.cos(angle * (2 * math.pi))


def _call(*args: Any, **kwargs: Any) -> s.Call:
    return s.call(np.array(0x123456789ABCDEF, np.uint64), np.array(40, np.uint64), *args, **kwargs)


_SHAPES = (_call((50, 40)), _call(()), _call((0, 3)), _call((2000,), dtype=dtypes.float64),
    _call((2000,), dtype=dtypes.bfloat16),
           _call((2000,), dtype=dtypes.float16))  # fmt: skip


@op("rand", where=(), differentiable=False, samples=s.calls(*_SHAPES))
def rand(key: Node, counter: Node, shape: Shape, dtype: DType | None = None) -> Node:
    """Uniform in [0, 1).  (torch.rand)"""
    target = _floating("rand", dtype)
    return cast(fraction(key, counter, shape, target), target)


@op("randn", where=(), differentiable=False, samples=s.calls(*_SHAPES))
def randn(key: Node, counter: Node, shape: Shape, dtype: DType | None = None) -> Node:
    """Normal, mean 0 and variance 1.  (torch.randn)"""
    target = _floating("randn", dtype)
    return cast(_normal(key, counter, shape, target), target)


@op("uniform", where=(), differentiable=False, samples=s.calls(_call((2000,), -2.0, 3.0), _call((0,))))
def uniform(
    key: Node, counter: Node, shape: Shape, low: Any = 0.0, high: Any = 1.0, dtype: DType | None = None
) -> Node:
    """Uniform in [low, high).  (torch.Tensor.uniform_)"""
    target = _floating("rand", dtype)
    u = fraction(key, counter, shape, target)
    return cast(u * lifted(high - low, u) + lifted(low, u), target)


@op("normal", where=(), differentiable=False, samples=s.calls(
    _call((2000,), 1.5, 0.5), _call((0,)),
    _call((2000,), s.T(1, dtype=dtypes.float32), s.T(1, fill="positive", dtype=dtypes.float32))))  # fmt: skip
def normal(key: Node, counter: Node, shape: Shape, mean: Any = 0.0, std: Any = 1.0, dtype: DType | None = None) -> Node:
    """Normal with ``mean`` and ``std``, numbers or tensors that broadcast to ``shape``.  (torch.normal)"""
    target = _floating("randn", dtype)
    if not isinstance(std, Node) and std < 0:
        raise SpiralError(f"normal expects std >= 0.0, but found std {std}")
    z = _normal(key, counter, shape, target)
    scale, centre = (cast(lifted(v, z), z.dtype) for v in (std, mean))
    return cast(z * scale + centre, target)


@op("randint", where=(), differentiable=False, samples=s.calls(
    _call((2000,), -3, 5), _call((2000,), 0, 1 << 40), _call((3,), 2, 3, dtype=dtypes.float32),
    _call((0,), 0, 9)))  # fmt: skip
def randint(key: Node, counter: Node, shape: Shape, low: int, high: int, dtype: DType | None = None) -> Node:
    """Integers from ``low`` to ``high`` - 1, equally likely but for 1 part in 2**32 / range.  (torch.randint)"""
    span = high - low
    if span <= 0:
        raise SpiralError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    first = bits(key, counter, shape)
    if span < 1 << 32:
        drawn = cast(lang.row("MULHI", first, const(span, dtypes.uint32)), dtypes.int64)
    else:
        wide = lang.row("SHL", cast(first, dtypes.uint64), 32) | cast(bits(key, counter, shape, 1), dtypes.uint64)
        drawn = cast(lang.row("REM", wide, const(span, dtypes.uint64)), dtypes.int64)
    return cast(drawn + low if low else drawn, dtype or dtypes.int64)


@op("bernoulli", where=(), differentiable=False, samples=s.calls(
    _call((2000,), 0.3), _call((2000,), s.T(2000, fill="open", dtype=dtypes.float32)),
    _call((5,), 1.0, dtype=dtypes.bool_), _call((0,), 0.5)))  # fmt: skip
def bernoulli(key: Node, counter: Node, shape: Shape, p: Any, dtype: DType | None = None) -> Node:
    """1 with chance ``p`` (a number or a tensor that broadcasts to ``shape``), else 0.  (torch.bernoulli)"""
    if not isinstance(p, Node) and not 0 <= p <= 1:
        raise SpiralError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    target = dtype or (p.dtype if isinstance(p, Node) else dtypes.get_default_dtype())
    u = fraction(key, counter, shape, dtypes.float32)
    return cast(lang.lt(u, cast(lifted(p, u), dtypes.float32)), target)


@op(
    "randperm",
    where=(),
    differentiable=False,
    samples=s.calls(_call(200), _call(1), _call(0), _call(9, dtype=dtypes.int32)),
)
def randperm(key: Node, counter: Node, n: int, dtype: DType | None = None) -> Node:
    """0 to ``n`` - 1 in random order: the order that sorts ``n`` random words.  (torch.randperm)"""
    if n < 0:
        raise SpiralError("n must be non-negative")
    return cast(order(bits(key, counter, (n,)), 0), dtype or dtypes.int64)


# -- other distributions --------------------------------------------------------------------------


def _open(key: Node, counter: Node, shape: Shape, dtype: DType) -> Node:
    """Uniform in (0, 1], in the computing type."""
    return 1 - fraction(key, counter, shape, dtype.acc)


@op("exponential", where=(), differentiable=False, samples=s.calls(_call((2000,)), _call((2000,), 2.5), _call((0,))))
def exponential(key: Node, counter: Node, shape: Shape, lambd: float = 1.0, dtype: DType | None = None) -> Node:
    """Exponential with rate ``lambd``.  (torch.Tensor.exponential_)"""
    target = _floating("rand", dtype)
    if lambd <= 0:
        raise SpiralError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    u = _open(key, counter, shape, target)
    return cast(-lang.log(u) / lifted(lambd, u), target)


@op("geometric", where=(), differentiable=False, samples=s.calls(_call((2000,), 0.3), _call((0,), 0.5)))
def geometric(key: Node, counter: Node, shape: Shape, p: float, dtype: DType | None = None) -> Node:
    """How many trials of chance ``p`` it takes to the first success, from 1.  (torch.Tensor.geometric_)"""
    target = dtype or dtypes.get_default_dtype()
    if not 0 < p < 1:
        raise SpiralError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    u = _open(key, counter, shape, target if target.kind == "f" else dtypes.float32)
    return cast(lang.maximum(lang.ceil(lang.log(u) / lifted(math.log1p(-p), u)), 1), target)


@op("cauchy", where=(), differentiable=False, samples=s.calls(_call((2000,), 1.0, 2.0), _call((0,))))
def cauchy(
    key: Node, counter: Node, shape: Shape, median: float = 0.0, sigma: float = 1.0, dtype: DType | None = None
) -> Node:
    """Cauchy around ``median`` with half width ``sigma``.  (torch.Tensor.cauchy_)"""
    target = _floating("rand", dtype)
    if sigma <= 0:
        raise SpiralError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    u = fraction(key, counter, shape, target.acc)
    return cast(lang.tan((u - 0.5) * math.pi) * lifted(sigma, u) + lifted(median, u), target)


@op("log_normal", where=(), differentiable=False, samples=s.calls(_call((2000,), 0.5, 0.25), _call((0,))))
def log_normal(
    key: Node, counter: Node, shape: Shape, mean: float = 1.0, std: float = 2.0, dtype: DType | None = None
) -> Node:
    """Numbers whose logarithm is normal with ``mean`` and ``std``.  (torch.Tensor.log_normal_)"""
    target = _floating("randn", dtype)
    if std <= 0:
        raise SpiralError(f"log_normal_ expects std > 0.0, but found std={std}")
    z = _normal(key, counter, shape, target)
    return cast(lang.exp(z * lifted(std, z) + lifted(mean, z)), target)


@op("poisson", where=(), differentiable=False, samples=s.calls(
    _call((300,), s.T(300, fill="positive", dtype=dtypes.float32)), _call((0,), s.T(0, dtype=dtypes.float64))))  # fmt: skip
def poisson(key: Node, counter: Node, shape: Shape, rate: Node) -> Node:
    """Poisson counts with mean ``rate``, one an element.  (torch.poisson)"""
    if rate.dtype.kind != "f":
        raise_dtype(OPS["poisson"], rate.dtype)
    wide = graph.broadcast(cast(rate, dtypes.float64), shape)
    return cast(graph.call("sampling.poisson", (key, counter, wide), shape, dtypes.float64), rate.dtype)


@op("binomial", where=(), differentiable=False, samples=s.calls(
    _call((200,), s.T(200, fill="ones", dtype=dtypes.float32), s.T(200, fill="open", dtype=dtypes.float32))))  # fmt: skip
def binomial(key: Node, counter: Node, shape: Shape, count: Node, prob: Node) -> Node:
    """How many of ``count`` trials succeed, each with chance ``prob``.  (torch.binomial)"""
    for given in (count, prob):
        if given.dtype.kind != "f":
            raise SpiralError(f"binomial only supports floating-point dtypes for count, got: {given.dtype.name}")
    wide = [graph.broadcast(cast(n, dtypes.float64), shape) for n in (count, prob)]
    return cast(graph.call("sampling.binomial", (key, counter, *wide), shape, dtypes.float64), count.dtype)


@op("multinomial", where=(), differentiable=False, samples=s.calls(
    _call((3, 4), s.T(3, 6, fill="positive", dtype=dtypes.float32), True),
    _call((4,), s.T(6, fill="positive", dtype=dtypes.float32))))  # fmt: skip
def multinomial(key: Node, counter: Node, shape: Shape, weights: Node, replacement: bool = False) -> Node:
    """Indices along the last axis with chances proportional to ``weights``; the result's last axis is the draws:
    with replacement the place of a uniform number among the running sums, else an exponential race, in which the
    smallest of ``-log(u) / weight`` win (Efraimidis and Spirakis, 2006).  (torch.multinomial)"""
    wide = cast(weights, dtypes.float64)
    axis = len(wide.shape) - 1
    if not replacement:
        u = 1 - fraction(key, counter, wide.shape, dtypes.float64)
        race = order(lang.where(lang.lt(0, wide), -lang.log(u) / wide, math.inf), axis)
        return graph.slice_(race, tuple([(0, n, 1) for n in shape]))
    sums = graph.scan(wide, "add", axis)
    last = wide.shape[-1]
    total = graph.slice_(sums, (*[(0, n, 1) for n in shape[:-1]], (last - 1, last, 1)))
    target = fraction(key, counter, shape, dtypes.float64) * total
    below = lang.le(graph.reshape(sums, (*shape[:-1], 1, last)), graph.reshape(target, (*shape, 1)))
    found = graph.reduce(cast(below, dtypes.int64), "add", (len(shape),))
    return lang.minimum(found, last - 1)
