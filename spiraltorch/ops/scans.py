"""Running folds: sums, products, extremes, log-sum-exp along an axis.

In: a node and an axis.  Out: a node of the same shape, over the primitive SCAN; running extremes also say where they
are, and are gathered there.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["cumsum"].apply([graph.param(0, (2, 3), dtypes.int32), 1], {}).dtype
    spiraltorch.int64
"""

from __future__ import annotations

from .. import dtypes
from ..dtypes import FLOAT, DType
from ..ir import graph
from ..ir.node import Node, cast
from . import samples as s
from .reduce import total_dtype
from .registry import Op, op, raise_dtype, wrap_dim

T = s.T


def _scanned(record: Op, input: Node, dim: int, dtype: DType | None, how: str) -> Node:
    target = total_dtype(input, dtype)
    axis = wrap_dim(dim, len(input.shape))
    if target is dtypes.bool_ and input.shape:
        raise_dtype(record, target)
    x = cast(input, target.acc)
    return cast(graph.scan(x, how, axis) if input.shape else x, target)


_CASES = s.calls(
    s.call(T(2, 3), 0), s.call(T(2, 3, 4), -2), s.call(T(), 0), s.call(T(0, 3), 0), s.call(T(37), 0),
    s.call(T(2, 3), 1, dtype=dtypes.float64), s.call(T(2, 9), -1), s.call(T(17, 5), dim=1),
)  # fmt: skip


@op("cumsum", kinds="buifc", acc=False, out="dtype", saves="", inplace=True, samples=_CASES)
def cumsum(input: Node, dim: int, *, dtype: DType | None = None) -> Node:
    """Running sum along ``dim``; integers and bools sum in int64, float32 in float64.  (torch.cumsum)"""
    return _scanned(cumsum, input, dim, dtype, "add")


@op("cumprod", kinds="buifc", acc=False, out="dtype", inplace=True, samples=s.more(_CASES, s.calls(s.call(T(2, 5, fill="unit"), 1))))
def cumprod(input: Node, dim: int, *, dtype: DType | None = None) -> Node:
    """Running product along ``dim``; integers and bools multiply in int64, float32 in float64.  (torch.cumprod)"""
    return _scanned(cumprod, input, dim, dtype, "mul")


@op("logcumsumexp", kinds="buifc", saves="io", out="exact", samples=s.calls(
    s.call(T(2, 3), 0), s.call(T(2, 3, 4), -2), s.call(T(), 0), s.call(T(0, 3), 0), s.call(T(37), 0),
    s.value_only(T(2, 14, fill="special"), 0), s.call(T(17, 5), 1)))  # fmt: skip
def logcumsumexp(input: Node, dim: int) -> Node:
    """``log(cumsum(exp(input)))`` along ``dim`` without overflow on the way, for floats and complex numbers.
    (torch.logcumsumexp)"""
    if input.dtype.category < FLOAT:
        raise_dtype(logcumsumexp, input.dtype)
    axis = wrap_dim(dim, len(input.shape))
    return graph.scan(input, "logaddexp", axis) if input.shape else input


def _extreme(input: Node, dim: int, how: str) -> tuple[Node, Node]:
    axis = wrap_dim(dim, len(input.shape))
    if not input.shape:
        return input, graph.full(0, (), dtypes.int64)
    x = cast(input, input.dtype.acc)
    places = graph.call("scanning.position", (x,), x.shape, dtypes.int64, how, axis, False)
    return graph.gather_along(input, places, axis), places


_EXTREME = s.calls(
    s.call(T(2, 5, fill="distinct"), 0), s.call(T(2, 3, 4, fill="distinct"), -2), s.call(T(), 0), s.call(T(0, 3), 0),
    s.call(T(37, fill="distinct"), 0), s.value_only(T(40), 0), s.value_only(T(2, 14, fill="special"), 1),
    s.call(T(3, 5, fill="distinct"), dim=1),
)  # fmt: skip


@op("cummax", acc=False, saves="o", results=("values", "indices"), out="exact", samples=_EXTREME)
def cummax(input: Node, dim: int) -> tuple[Node, Node]:
    """(values, indices) of the largest element so far along ``dim``, the last of equals; nan is above all.  (torch.cummax)"""
    return _extreme(input, dim, "max")


@op("cummin", acc=False, saves="o", results=("values", "indices"), out="exact", samples=_EXTREME)
def cummin(input: Node, dim: int) -> tuple[Node, Node]:
    """(values, indices) of the smallest element so far along ``dim``, the last of equals; nan is below all.  (torch.cummin)"""
    return _extreme(input, dim, "min")
