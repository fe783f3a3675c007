"""Operators that put, fold or take many elements at positions given by tensors: the reducing and the flat ones.

In: data and index nodes.  Out: nodes over SCATTER, GATHER and SCAN.  A position out of range raises when the
value is computed.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x, i = graph.param(0, (5, 3), dtypes.float32), graph.param(1, (2,), dtypes.int64)
    >>> OPS["take"].apply([x, i], {}).shape, OPS["index_fill"].apply([x, 0, i, 1.0], {}).shape
    ((2,), (5, 3))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..dtypes import FLOAT
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast, const
from . import samples as s
from .elementwise import filling, floor_divide, remainder
from .index import _positions as integer_positions
from .index import flat_position, unchanged
from .registry import OPS, op, raise_dtype, wrap_dim

T = s.T

_HOW = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}


def _identity(how: str, like: Node) -> Any:
    """What changes nothing under a fold of ``like``'s type."""
    d = like.dtype
    if how in ("sum", "mean"):
        return 0
    if how == "prod":
        return 1
    if d.kind == "f":
        return -math.inf if how == "amax" else math.inf
    if d.kind == "b":
        return how == "amin"
    low = -(1 << (d.bits - 1)) if d.kind == "i" else 0
    return low if how == "amax" else (1 << (d.bits - (d.kind == "i"))) - 1


def folded(base: Node, place: Node, values: Node, axis: int, how: str, include_self: bool) -> Node:
    """``values`` folded into ``base`` at ``place`` (a vector) along ``axis``."""
    x = base
    if not include_self:
        x = graph.scatter(base, place, graph.full(_identity(how, base), values.shape, base.dtype), axis, "set")
    out = graph.scatter(x, place, values, axis, _HOW[how])
    if how != "mean":
        return out
    kind = base.dtype.to_real() if base.dtype.category >= FLOAT else dtypes.int64
    count = graph.full(1 if include_self else 0, base.shape, kind)
    count = graph.scatter_add(count, place, graph.full(1, values.shape, kind), axis)
    count = cast(lang.maximum(count, 1), base.dtype)
    return out / count if base.dtype.category >= FLOAT else _floor_divided(out, count)


def _floor_divided(a: Node, b: Node) -> Node:
    """Rounded down, for positive ``b``."""
    rest = lang.row("REM", a, b)
    return lang.row("IDIV", a, b) - cast(lang.lt(rest, 0), a.dtype) if a.dtype.is_signed else lang.row("IDIV", a, b)


def _checked_how(name: str, reduce: str, allowed: Sequence[str]) -> None:
    if reduce not in allowed:
        raise SpiralError(f"{name}(): reduce argument must be one of {', '.join(allowed)}, got {reduce!r}")


def _all_reductions(*args: Any) -> list[Any]:
    hows = ("sum", "prod", "mean", "amax", "amin")
    return [s.call(*args, how, include_self=own) for how in hows for own in (True, False)]


@op("scatter_reduce", kinds="buifc", out="exact", inplace=True, samples=s.calls(
    *_all_reductions(T(4, 3), 0, T(5, 3, fill="index", high=4), T(5, 3)),
    s.call(T(4, 3), -1, T(2, 4, fill="index", high=3), T(3, 5), "prod"),
    s.call(T(), 0, T(fill="index", high=1), T(), "amax"), s.call(T(4), 0, T(0, fill="index", high=4), T(0), "sum")))  # fmt: skip
def scatter_reduce(input: Node, dim: int, index: Node, src: Node, reduce: str, *, include_self: bool = True) -> Node:
    """``input`` with ``src[i][j]`` folded (sum, prod, mean, amax, amin) into ``[index[i][j]][j]`` for ``dim`` 0, and
    so on; without ``include_self`` only what comes is folded.  (torch.scatter_reduce)"""
    _checked_how("scatter_reduce", reduce, tuple(_HOW))
    if src.dtype is not input.dtype:
        raise SpiralError("scatter(): Expected self.dtype to be equal to src.dtype")
    if (input.dtype is dtypes.bool_ and reduce == "mean") or (input.dtype.kind == "c" and reduce in ("amax", "amin")):
        raise_dtype(OPS["scatter_reduce"], input.dtype)
    at = integer_positions("scatter", index)
    if not at.size:
        return unchanged(input, at, src, "add")
    axis = wrap_dim(dim, len(input.shape))
    x, at, values = (graph.reshape(n, n.shape or (1,)) for n in (input, at, src))
    if not len(x.shape) == len(at.shape) == len(values.shape):
        raise ShapeError("Index tensor must have the same number of dimensions as self and src tensor")
    for a, n in enumerate(at.shape):
        if (a != axis and n > x.shape[a]) or n > values.shape[a]:
            raise ShapeError(
                f"Expected index {list(index.shape)} to be no larger than self {list(input.shape)} apart from dimension "
                f"{axis} and to be no larger size than src {list(src.shape)}"
            )
    values = graph.slice_(values, tuple([(0, n, 1) for n in at.shape]))
    place = graph.reshape(flat_position(at, x.shape, axis), (at.size,))
    out = folded(graph.reshape(x, (x.size,)), place, graph.reshape(values, (at.size,)), 0, reduce, include_self)
    return graph.reshape(out, input.shape)


def _slices(name: str, input: Node, dim: int, index: Node, source: Node) -> tuple[Node, Node, Node, int]:
    """(input, positions, slices, axis) with vectors for 0-d, shapes checked."""
    axis = wrap_dim(dim, len(input.shape))
    if len(index.shape) > 1:
        raise IndexError(f"{name}(): Index should have dimension 1 or 0 (got {len(index.shape)})")
    if index.dtype is not dtypes.int64 and not (name == "index_reduce" and index.dtype is dtypes.int32):
        raise SpiralError(f"{name}(): Expected a long tensor for index, but got {index.dtype.name}")
    if source.dtype is not input.dtype:
        raise SpiralError(
            f"{name}(): self and source expected to have the same dtype, but got (self) {input.dtype.name} and (source) "
            f"{source.dtype.name}"
        )
    x = graph.reshape(input, input.shape or (1,))
    values = graph.reshape(source, source.shape or (1,))
    wanted = x.shape[:axis] + (index.size,) + x.shape[axis + 1 :]
    if values.shape != wanted:
        raise (IndexError if name == "index_copy" and values.shape[axis : axis + 1] != (index.size,) else ShapeError)(
            f"{name}(): Source/destination tensor must have same slice shapes. Destination slice shape: {list(input.shape)} at "
            f"dimension {axis} and source slice shape: {list(source.shape)} at dimension 0; there are {index.size} indices."
        )
    return x, cast(graph.reshape(index, (index.size,)), dtypes.int64), values, axis


@op("index_reduce", kinds="buifc", out="exact", inplace=True, samples=s.calls(
    *[s.call(T(4, 3), 0, T(6, fill="index", high=4), T(6, 3), how, include_self=own)
      for how in ("prod", "mean", "amax", "amin") for own in (True, False)],
    s.call(T(2, 4), 1, T(3, fill="index", high=4), T(2, 3), "amin")))  # fmt: skip
def index_reduce(input: Node, dim: int, index: Node, source: Node, reduce: str, *, include_self: bool = True) -> Node:
    """``input`` with the k-th slice of ``source`` folded (prod, mean, amax, amin) into slice ``index[k]`` of ``dim``.
    (torch.index_reduce)"""
    _checked_how("index_reduce", reduce, ("prod", "mean", "amax", "amin"))
    refused = reduce == "mean" or not include_self or len(input.shape) < 2  # torch's loop over slices alone takes bools
    if (input.dtype is dtypes.bool_ and refused) or (input.dtype.kind == "c" and reduce != "mean"):
        raise_dtype(OPS["index_reduce"], input.dtype)
    x, at, values, axis = _slices("index_reduce", input, dim, index, source)
    if input.dtype is dtypes.bool_:  # 0 and 1 multiply and compare as False and True do
        numbers = folded(cast(x, dtypes.uint8), at, cast(values, dtypes.uint8), axis, reduce, include_self)
        return graph.reshape(cast(numbers, dtypes.bool_), input.shape)
    return graph.reshape(folded(x, at, values, axis, reduce, include_self), input.shape)


@op("index_copy", kinds="buifc", out="exact", acc=False, saves=("index",), inplace=True, samples=s.calls(
    s.call(T(4, 3), 0, T(1, fill="index", high=4), T(1, 3)), s.call(T(2, 4), -1, T(1, fill="index", high=4), T(2, 1)),
    s.call(T(4), 0, T(fill="index", high=4), T()), s.call(T(), 0, T(1, fill="index", high=1), T(1)),
    s.call(T(4, 3), 0, T(0, fill="index", high=4), T(0, 3))))  # fmt: skip
def index_copy(input: Node, dim: int, index: Node, source: Node) -> Node:
    """``input`` with the k-th slice of ``source`` in the place of slice ``index[k]`` of ``dim``; of equal indices the
    last stays.  (torch.index_copy)"""
    x, at, values, axis = _slices("index_copy", input, dim, index, source)
    return graph.reshape(graph.scatter(x, at, values, axis, "set"), input.shape)


@op("index_fill", lies="input", kinds="buifc", acc=False, saves=("index",), inplace=True, samples=s.calls(
    s.call(T(4, 3), 0, T(2, fill="index", high=4), 1.0), s.call(T(2, 4), -1, T(3, fill="wrapped", high=4), T()),
    s.call(T(4), 0, T(fill="index", high=4), 2), s.call(T(), 0, T(1, fill="index", high=1), 2),
    s.call(T(4, 3), 0, T(0, fill="index", high=4), 1)))  # fmt: skip
def index_fill(input: Node, dim: int, index: Node, value: Any) -> Node:
    """``input`` with ``value`` (a number or 0-d tensor) in slices ``index`` of ``dim``.  (torch.Tensor.index_fill)"""
    axis = wrap_dim(dim, len(input.shape))
    if len(index.shape) > 1:
        raise IndexError("index_fill_(): Index is supposed to be a vector")
    if index.dtype is not dtypes.int64:
        raise IndexError("index_fill_(): Expected dtype int64 for index.")
    if isinstance(value, Node) and value.shape:
        raise ShapeError(
            f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {len(value.shape)} dimension(s)."
        )
    x = graph.reshape(input, input.shape or (1,))
    n = x.shape[axis]
    at = graph.reshape(index, (index.size,))
    at = lang.where(lang.lt(at, 0), at + n, at)
    on = graph.scatter(graph.full(False, (n,), dtypes.bool_), at, graph.full(True, at.shape, dtypes.bool_), 0, "set")
    along = graph.reshape(on, tuple([n if a == axis else 1 for a in range(len(x.shape))]))
    fill = cast(value, x.dtype) if isinstance(value, Node) else filling(value, x)
    return graph.reshape(lang.row("WHERE", along, fill, x), input.shape)


# -- flat positions ---------------------------------------------------------------------------------


def _flat(name: str, input: Node, index: Node) -> Node:
    if index.dtype is not dtypes.int64:
        raise SpiralError(f"{name}(): Expected a long tensor for index, but got {index.dtype.name}")
    if index.size and not input.size:
        raise IndexError(f"{name}(): tried to take from an empty tensor")
    at = graph.reshape(index, (index.size,))
    return lang.where(lang.lt(at, 0), at + input.size, at)


@op("take", kinds="buifc", out="exact", acc=False, saves=("index",), samples=s.calls(
    s.call(T(4, 3), T(2, 2, fill="wrapped", high=12)), s.call(T(5), T(fill="index", high=5)),
    s.call(T(), T(3, fill="index", high=1)), s.call(T(4, 3), T(0, fill="index", high=3))))  # fmt: skip
def take(input: Node, index: Node) -> Node:
    """The elements at flat positions ``index``, in its shape.  (torch.take)"""
    at = _flat("take", input, index)
    return graph.reshape(graph.gather(graph.reshape(input, (input.size,)), at, 0), index.shape)


@op("put", lies="input", kinds="buifc", acc=False, saves=("index",), inplace=True, samples=s.calls(
    s.call(T(4, 3), T(1, fill="wrapped", high=12), T(1)), s.call(T(4, 3), T(2, 3, fill="index", high=12), T(2, 3), True),
    s.call(T(), T(1, fill="index", high=1), T(1)), s.call(T(4, 3), T(0, fill="index", high=3), T(0))))  # fmt: skip
def put(input: Node, index: Node, source: Node, accumulate: bool = False) -> Node:
    """``input`` with ``source`` put at flat positions ``index``, or added there; of equal positions the last stays.
    (torch.Tensor.put)"""
    if source.dtype is not input.dtype:
        raise SpiralError(
            f"put_(): self and source expected to have the same dtype, but got self.dtype = {input.dtype.name} and "
            f"source.dtype = {source.dtype.name}"
        )
    if source.size != index.size:
        raise ShapeError(
            f"put_(): Expected source and index to have the same number of elements, but got source.numel() = {source.size}, "
            f"index.numel() = {index.size}"
        )
    at, flat = _flat("put", input, index), graph.reshape(input, (input.size,))
    values = graph.reshape(source, (source.size,))
    return graph.reshape(graph.scatter(flat, at, values, 0, "add" if accumulate else "set"), input.shape)


@op("masked_scatter", kinds="buifc", acc=False, saves=("mask",), inplace=True, samples=s.calls(
    s.call(T(2, 3), T(2, 3, fill="mask"), T(6)), s.call(T(2, 3), T(3, fill="mask"), T(3, 3)),
    s.call(T(2, 1), T(2, 3, fill="mask"), T(9)), s.call(T(3), T(fill="mask"), T(3)), s.call(T(0, 3), T(3, fill="mask"), T(2))))  # fmt: skip
def masked_scatter(input: Node, mask: Node, source: Node) -> Node:
    """``input`` with the elements of ``source``, in order, where ``mask`` (bool) is true.  A source that is
    too short raises when the value is computed.  (torch.Tensor.masked_scatter)"""
    if mask.dtype is not dtypes.bool_:
        raise SpiralError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype.name}")
    if source.dtype is not input.dtype:
        raise SpiralError(
            f"masked_scatter: expected self and source to have same dtypes but got {input.dtype.name} and {source.dtype.name}"
        )
    shape = lang.shapes_broadcast([input.shape, mask.shape])
    wide, on = graph.broadcast(input, shape), graph.reshape(graph.broadcast(mask, shape), (math.prod(shape),))
    if not on.size:
        return wide
    rank = graph.scan(cast(on, dtypes.int64), "add", 0) - 1
    flat = graph.reshape(source, (source.size,)) if source.size else graph.full(0, (1,), source.dtype)
    at = lang.where(on, rank if source.size else rank + 1, 0)
    taken = graph.gather(flat, at, 0)
    return graph.reshape(lang.row("WHERE", on, taken, graph.reshape(wide, on.shape)), shape)


@op("unravel_index", where=("",), kinds="buifc", acc=False, differentiable=False, samples=s.calls(
    s.call(T(2, 3, fill="index", high=24), (2, 3, 4)), s.call(T(fill="index", high=5), (5,)),
    s.call(T(0, fill="index", high=5), (5, 2))))  # fmt: skip
def unravel_index(indices: Node, shape: Sequence[int]) -> tuple[Node, ...]:
    """Coordinates in a tensor of ``shape`` for flat positions, one tensor an axis.  (torch.unravel_index)"""
    if indices.dtype.kind not in "iu":
        raise TypeError(f"expected 'indices' to be integer dtype, but got {indices.dtype.name}")
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in sizes):
        raise ValueError(f"'shape' cannot have negative values, but got {sizes}")
    out = []
    for axis, n in enumerate(sizes):
        stride = math.prod(sizes[axis + 1 :])
        at = floor_divide.body(indices, const(max(stride, 1), indices.dtype))
        out.append(remainder.body(at, const(max(n, 1), indices.dtype)))
    return tuple(out)
