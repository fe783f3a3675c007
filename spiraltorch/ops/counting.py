"""Counting elements: of each number, in bins of a range, and in order of whole rows.

In: nodes, and sizes that the caller has looked at.  Out: counts, one a bin, or positions.  Bin numbers are computed in
the graph and fuse with what comes before; a library routine (:mod:`spiraltorch.kernels.library.counting`) counts them.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["histc"].apply([graph.param(0, (1000,), dtypes.float32), 10, -1.0, 1.0], {}).shape
    (10,)
"""

from __future__ import annotations

import math
from builtins import range as numbers
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .create import linspace
from .elementwise import number
from .registry import op, raise_dtype
from .sorting import order

T = s.T


def counted(index: Node, weights: Node | None, size: int) -> Node:
    """How often each number below ``size`` is in the vector ``index``, or the sum of its ``weights``."""
    from ..kernels.library.counting import parts_of

    parts = parts_of(index.size, size)
    operands = (index,) if weights is None else (index, weights)
    kind = dtypes.int64 if weights is None else weights.dtype
    if not size or not index.size:
        return graph.full(0, (size,), kind)
    return fold("add", graph.call("counting.bins", operands, (parts, size), kind, parts, size), 0)


@op("bincount", kinds="ui", acc=False, differentiable=False, where=(), samples=s.calls(
    s.call(T(50, fill="index", high=7), None, 7), s.call(T(9, fill="index", high=4), T(9), 6),
    s.call(T(9, fill="index", high=4, dtype=dtypes.uint8), T(9), 4), s.call(T(0, fill="index", high=1), None, 3)))  # fmt: skip
def bincount(input: Node, weights: Node | None, size: int) -> Node:
    """How often each of 0 .. ``size`` - 1 is in the vector ``input``, or the sum of its ``weights`` (float64, unless they
    are float32).  (torch.bincount)"""
    if weights is not None and weights.dtype is not dtypes.float32:
        weights = cast(weights, dtypes.float64)
    return counted(cast(input, dtypes.int64), weights, size)


# -- histograms -------------------------------------------------------------------------------------------


def _spaced(x: Node, low: Any, high: Any, bins: int) -> Node:
    """The bin of each element by its distance from ``low``, each step in the type of ``x``; what is outside gets -1."""
    kind = x.dtype

    def stepped(v: Any) -> Node:
        return cast(v if isinstance(v, Node) else number(float(v), x), kind)

    def wide(v: Node) -> Node:
        return cast(v, kind.acc)

    first, last, v = wide(stepped(low)), wide(stepped(high)), wide(x)
    place = wide(stepped(v - first)) * wide(stepped(bins))
    place = wide(stepped(wide(stepped(place)) / wide(stepped(last - first))))
    inside = lang.le(first, v) & lang.le(v, last)
    return lang.where(inside, lang.minimum(cast(lang.where(inside, place, 0), dtypes.int64), bins - 1), -1)


@op("histc", kinds="f", acc=False, differentiable=False, where=(), samples=s.calls(
    s.call(T(50), 10, -1.0, 1.0), s.call(T(5, 4), 3, -2, 2), s.call(T(0), 4, 0, 1),
    s.call(T(14, fill="special"), 5, -3.0, 3.0)))  # fmt: skip
def histc(input: Node, bins: int, min: Any, max: Any) -> Node:
    """How many elements lie in each of ``bins`` equal parts of the range; the last one holds its end.  (torch.histc)"""
    if input.dtype.kind != "f":
        raise_dtype(histc, input.dtype)
    x = graph.reshape(input, (input.size,))
    return cast(counted(_spaced(x, min, max, bins), None, bins), input.dtype)


def _near(x: Node, edges: Node, low: float, high: float) -> Node:
    """As :func:`_spaced`, corrected by a look at the edges beside."""
    bins = edges.size - 1
    place = _spaced(x, low, high, bins)
    safe = lang.maximum(place, 0)
    below = lang.lt(x, graph.gather(edges, safe, 0))
    above = lang.le(graph.gather(edges, lang.minimum(safe + 1, bins), 0), x) & lang.lt(safe, bins - 1)
    moved = safe - cast(below, dtypes.int64) + cast(above, dtypes.int64)
    return lang.where(lang.lt(place, 0), -1, moved)


def _between(x: Node, edges: Node) -> Node:
    """The bin of each element between edges at any places."""
    bins = edges.size - 1
    if not bins:
        return graph.full(-1, x.shape, dtypes.int64)
    first, last = (graph.slice_(edges, ((k, k + 1, 1),)) for k in (0, bins))
    place = graph.call("sorting.search", (edges, x), x.shape, dtypes.int64, True, False) - 1
    inside = lang.le(first, x) & lang.le(x, last)
    return lang.where(inside, lang.minimum(place, bins - 1), -1)


@op("histogramdd", kinds="f", acc=False, differentiable=False, where=(), results=("hist", "bin_edges"), samples=s.calls(
    s.call(T(20, 1), [5], [-2.0, 2.0]), s.call(T(9, 2), [2, 3], [-2.0, 2.0, -1.0, 1.0], T(9, fill="positive")),
    s.call(T(20, 1), [5], [-2.0, 2.0], None, True), s.call(T(14, 1, fill="special"), [4], [-3.0, 3.0]),
    s.call(T(0, 2), [2, 3], [-2.0, 2.0, -1.0, 1.0])))  # fmt: skip
def histogramdd(
    input: Node, bins: Sequence[Any], range: Sequence[float] | None = None, weight: Node | None = None, density: bool = False
) -> Any:
    """(hist, edges): how many rows of ``input`` [N, D], or how much ``weight``, lie in each of the boxes between the edges
    of D axes, which are ``bins`` equal parts of ``range``, or vectors.  (torch.histogramdd)"""
    name = "torch.histogramdd"
    if input.dtype.kind != "f":
        raise_dtype(histogramdd, input.dtype)
    wide = input.dtype.acc
    if weight is not None:
        if weight.shape != input.shape[:-1]:
            raise ShapeError(
                f"{name}: if weight tensor is provided it should have the same shape as the input tensor excluding its innermost "
                f"dimension, but got input with shape {list(input.shape)} and weight with shape {list(weight.shape)}"
            )
        if weight.dtype is not input.dtype:
            raise SpiralError(
                f"{name}: if weight tensor is provided, input tensor and weight tensor should have the same dtype, but got "
                f"input({input.dtype.name}), and weight({weight.dtype.name})"
            )
    axes = input.shape[-1]
    if len(bins) != axes:
        raise ShapeError(f"{name}: The size of bins must be equal to the innermost dimension of the input.")
    rows = graph.reshape(input, (math.prod(input.shape[:-1]), axes))
    place: Node = graph.full(0, (rows.shape[0],), dtypes.int64)
    outside: Node = graph.full(False, place.shape, dtypes.bool_)
    edges, sizes = [], []
    for d, b in enumerate(bins):
        x = graph.reshape(graph.slice_(rows, ((0, rows.shape[0], 1), (d, d + 1, 1))), place.shape)
        if isinstance(b, Node):
            if len(b.shape) != 1:
                raise ShapeError(f"{name}: bins tensor should have one dimension, but got {len(b.shape)} dimensions for dimension {d}")
            if not b.size:
                raise ShapeError(f"{name}: bins tensor should have at least 1 element, but got 0 elements for dimension {d}")
            if b.dtype is not input.dtype:
                raise SpiralError(
                    f"{name}: input tensor and bins tensors should have the same dtype, but got input with dtype "
                    f"{input.dtype.name} and bins for dimension {d} with dtype {b.dtype.name}"
                )
            if b.size == 1:
                raise SpiralError(f"torch.histogram(): bins must be > 0, but got 0 for dimension {d}")
            edges.append(b)
            own = _between(cast(x, wide), cast(b, wide))
        else:
            if b <= 0:
                raise SpiralError(f"torch.histogram(): bins must be > 0, but got {b} for dimension {d}")
            assert range is not None
            low, high = float(range[2 * d]), float(range[2 * d + 1])
            edges.append(linspace.body(low, high, b + 1, dtype=input.dtype))
            own = _near(x, edges[-1], low, high)
        sizes.append(edges[-1].size - 1)
        outside = outside | lang.lt(own, 0)
        place = place * sizes[-1] + own
    place = lang.where(outside, -1, place)
    flat = None if weight is None else cast(graph.reshape(weight, place.shape), wide)
    hist = graph.reshape(cast(counted(place, flat, math.prod(sizes)), input.dtype), tuple(sizes))
    if density:
        hist = hist / fold("add", hist, None)
        for d, e in enumerate(edges):
            n = e.size - 1
            width = graph.slice_(e, ((1, n + 1, 1),)) - graph.slice_(e, ((0, n, 1),))
            hist = hist / graph.reshape(width, tuple([n if k == d else 1 for k in numbers(len(sizes))]))
    return hist, *edges


# -- rows -------------------------------------------------------------------------------------------------


@op("order_of_rows", kinds="buif", acc=False, differentiable=False, where=(), torch_name="unique", samples=s.calls(
    s.call(T(9, 3)), s.call(T(40, 12)), s.call(T(1, 2)), s.call(T(0, 3)), s.value_only(T(14, 2, fill="special")),
    s.call(T(5, 9, fill="ones"))))  # fmt: skip
def order_of_rows(input: Node) -> Node:
    """Positions that sort the rows of a matrix, by their first element, then the second, and so on; stable.  (torch.unique)"""
    from ..kernels.library.counting import MOST_ROWS

    n, width = input.shape
    if width > 4 and n <= MOST_ROWS:
        return graph.call("counting.rows", (input,), (n,), dtypes.int64)
    places = graph.iota((n,), 0)
    for c in reversed(range(width)):
        column = graph.reshape(graph.slice_(input, ((0, n, 1), (c, c + 1, 1))), (n,))
        places = graph.gather(places, order(graph.gather(column, places, 0), 0), 0)
    return places


__all__ = ["bincount", "counted", "histc", "histogramdd", "order_of_rows"]
