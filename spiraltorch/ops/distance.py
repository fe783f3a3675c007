"""Distances and angles between vectors.

In: two tensors that broadcast (or one whose rows are compared), and the axis of the vectors.  Out: one number a pair.
A length of 0 has gradient 0, as in torch.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["pdist"].apply([graph.param(0, (5, 3), dtypes.float32)], {}).shape
    (10,)
"""

from __future__ import annotations

from .. import dtypes
from ..errors import DtypeError, ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import floating, number
from .registry import op, raise_dtype, wrap_dim

T = s.T


def length(x: Node, p: float, axis: int, keepdim: bool = False) -> Node:
    """``sum(|x| ** p) ** (1 / p)`` along ``axis``, with gradient 0 where it is 0."""
    size = lang.absolute(x)
    if p == 0:
        return fold("add", cast(lang.ne(x, 0), size.dtype), axis, keepdim)
    if p == 1:
        return fold("add", size, axis, keepdim)
    if p == float("inf"):
        return fold("max", size, axis, keepdim)
    if p == 2:
        total = fold("add", lang.size_squared(x), axis, keepdim)
        none = lang.eq(total, 0)
        return lang.where(none, 0, lang.sqrt(lang.where(none, 1, total)))
    nothing = lang.eq(size, 0)
    power = lang.where(nothing, 0, lang.pow_(lang.where(nothing, 1, size), number(p, size)))
    total = fold("add", power, axis, keepdim)
    none = lang.eq(total, 0)
    return lang.where(none, 0, lang.pow_(lang.where(none, 1, total), number(1 / p, size)))


_PAIRS = s.calls(
    s.call(T(4, 3), T(4, 3)), s.call(T(2, 4, 3), T(4, 1)), s.call(T(3), T(3)), s.call(T(0, 3), T(1, 3)),
    s.value_only(T(14, 2, fill="special"), T(14, 2)),
)  # fmt: skip


def _cosine(x1: Node, x2: Node, axis: int, eps: float) -> Node:
    def unit(x: Node) -> Node:
        n = length(x, 2, axis, keepdim=True)
        least = number(eps, x)
        return x / lang.where(lang.lt(n, least), n - lang.detach(n) + least, n)  # the limit has the length's gradient

    return fold("add", unit(x1) * unit(x2), axis)


@op("cosine_similarity", pointwise=False, operands=2, promote="arith", kinds="f", where=("", "nn.functional"), tolerance=1e-4,
    samples=s.more(s.calls(s.call(T(4, 3), T(4, 3)), s.call(T(2, 4, 3), T(4, 3), -1), s.call(T(3), T(3), 0),
    s.call(T(2, 3, 1), T(3, 4), dim=-2, eps=0.1), s.call(T(0, 3), T(1, 3)))))  # fmt: skip
def cosine_similarity(x1: Node, x2: Node, dim: int = 1, eps: float = 1e-8) -> Node:
    """The cosine of the angle between ``x1`` and ``x2`` along ``dim``; lengths are at least ``eps``.
    (torch.nn.functional.cosine_similarity)"""
    shape = lang.shapes_broadcast([x1.shape, x2.shape])
    return _cosine(graph.broadcast(x1, shape), graph.broadcast(x2, shape), wrap_dim(dim, len(shape)), eps)


def between(x1: Node, x2: Node, p: float, eps: float, keepdim: bool = False) -> Node:
    """The p-norm of ``x1 - x2 + eps`` over the last axis."""
    apart = x1 - x2
    apart = floating(apart)
    apart = apart + number(eps, apart)
    if not apart.shape:
        return lang.absolute(apart)
    return length(apart, float(p), len(apart.shape) - 1, keepdim)


@op("pairwise_distance", pointwise=False, operands=2, promote="arith", kinds="uifc", where=("", "nn.functional"), tolerance=1e-4,
    samples=s.more(_PAIRS, s.calls(s.call(T(4, 3), T(4, 3), 1), s.call(T(4, 3), T(4, 3), 3.5, 0.1, True),
    s.call(T(4, 3), T(3), float("inf")), s.call(T(4, 3), T(3), 0))))  # fmt: skip
def pairwise_distance(x1: Node, x2: Node, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Node:
    """The p-norm of ``x1 - x2 + eps`` over the last axis.  (torch.nn.functional.pairwise_distance)"""
    return between(x1, x2, p, eps, keepdim)


def _apart(way: Node, p: float) -> Node:
    """:func:`length` along the last axis; of the largest differences each has the whole gradient, where a norm shares it."""
    axis = len(way.shape) - 1
    if not way.shape[axis]:
        return graph.full(0, way.shape[:-1], way.dtype)
    if p != float("inf"):
        return length(way, p, axis)
    size = lang.absolute(way)
    most = lang.detach(fold("max", size, axis, keepdim=True))
    slope = lang.where(lang.eq(size, most) & lang.lt(size, p), size - lang.detach(size), 0)
    return graph.reshape(most, way.shape[:-1]) + fold("add", slope, axis)


@op("pdist", where=("", "nn.functional"), kinds="f", tolerance=1e-4, samples=s.calls(
    s.call(T(5, 3)), s.call(T(4, 3), 1.0), s.call(T(4, 2), 3.5), s.call(T(6, 2), float("inf")), s.call(T(3, 2), 0.0),
    s.call(T(3, 2, fill="ones")), s.value_only(T(1, 3)), s.value_only(T(0, 3)), s.value_only(T(4, 0))))  # fmt: skip
def pdist(input: Node, p: float = 2.0) -> Node:
    """The p-norm of the difference of each pair of rows of a matrix, in the order (0, 1), (0, 2), ...
    (torch.nn.functional.pdist)"""
    if len(input.shape) != 2:
        raise SpiralError(f"pdist only supports 2D tensors, got: {len(input.shape)}D")
    if input.dtype.kind != "f":
        raise_dtype(pdist, input.dtype)
    if p < 0:
        raise SpiralError("pdist only supports non-negative p values")
    n = input.shape[0]
    count = n * (n - 1) // 2
    # Pair k is (i, j): before row i's pairs there are i * n - i * (i + 1) / 2 others.
    k = graph.iota((count,), 0)
    half = n - 0.5
    root = lang.sqrt(half * half - 2 * cast(k, dtypes.float64) - 1)
    i = cast(lang.floor(half - root), dtypes.int64)
    j = k - i * n + lang.row("IDIV", i * (i + 1), 2) + i + 1
    return _apart(graph.gather(input, i, 0) - graph.gather(input, j, 0), float(p))


@op("cdist", kinds="f", acc=False, where=("",), samples=s.calls(
    s.call(T(3, 2), T(4, 2)), s.call(T(2, 3, 2), T(4, 2), p=1.0), s.call(T(3, 2), T(4, 2), 3.0),
    s.call(T(3, 2), T(4, 2), float("inf")), s.call(T(3, 2), T(4, 2), 0.0), s.call(T(0, 2), T(4, 2))))  # fmt: skip
def cdist(x1: Node, x2: Node, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Node:
    """The p-norm of the difference of every row of ``x1`` [.., m, d] and ``x2`` [.., n, d]: [.., m, n].  (torch.cdist)"""
    if len(x1.shape) < 2 or len(x2.shape) < 2:
        raise ShapeError(f"cdist only supports at least 2D tensors, got {len(x1.shape)}D and {len(x2.shape)}D")
    if x1.shape[-1] != x2.shape[-1]:
        raise ShapeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    if x1.dtype is not x2.dtype or x1.dtype not in (dtypes.float32, dtypes.float64):
        raise DtypeError(f"cdist only supports floating-point dtypes of one type, got {x1.dtype.name} and {x2.dtype.name}")
    if p < 0:
        raise SpiralError("cdist only supports non-negative p values")
    left = graph.reshape(x1, (*x1.shape[:-1], 1, x1.shape[-1]))
    right = graph.reshape(x2, (*x2.shape[:-2], 1, *x2.shape[-2:]))
    way = left - right
    return _apart(way, float(p))


def cosine_of(x1: Node, x2: Node) -> Node:
    """The cosine along the last axis as the cosine embedding loss has it: a tiny number beside the squared lengths."""
    axis = len(x1.shape) - 1
    lengths = [fold("add", x * x, axis) + 1e-12 for x in (x1, x2)]
    return fold("add", x1 * x2, axis) / lang.sqrt(lengths[0] * lengths[1])


__all__ = ["between", "cosine_of", "length"]
