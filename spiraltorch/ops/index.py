"""Operators that take or put elements at positions given by tensors.

In: data and integer index nodes.  Out: nodes over the primitives GATHER (take along one axis) and SCATTER
(add or set along one axis); several index tensors become one by flat positions.  A position out of range
raises when the value is computed, as indices are data.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x, i = graph.param(0, (5, 3), dtypes.float32), graph.param(1, (2, 2), dtypes.int64)
    >>> OPS["index_tensors"].apply([x, [i, None]], {}).shape
    (2, 2, 3)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import filling, lifted
from .registry import op, wrap_dim

T = s.T
Index = Node | None


def _positions(name: str, index: Node) -> Node:
    if index.dtype not in (dtypes.int64, dtypes.int32):
        kinds = "int32 or int64" if name == "index_select" else "int32/int64"
        raise SpiralError(f"{name}(): Expected dtype {kinds} for index")
    return cast(index, dtypes.int64)


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def checked(position: Node, index: Node, size: int) -> Node:
    """``position`` where ``index`` is inside 0 to ``size`` - 1, else -1, which no gather accepts."""
    return lang.where(lang.le(0, index) & lang.lt(index, size), position, -1)


def flat_position(index: Node, shape: tuple[int, ...], axis: int) -> Node:
    """Flat positions in a tensor of ``shape``: ``index`` along ``axis``, the index's own place along the others."""
    total: Node | None = None
    for a, stride in enumerate(_strides(shape)):
        at = index if a == axis else graph.iota(index.shape, a)
        term = at * stride if stride != 1 else at
        total = term if total is None else total + term
    assert total is not None
    return checked(total, index, shape[axis]) if len(shape) > 1 else total


def _same_rank(input: Node, dim: int, index: Node) -> tuple[Node, Node, int]:
    """A 0-d input or index as a vector of one."""
    axis = wrap_dim(dim, len(input.shape))
    if max(1, len(index.shape)) != max(1, len(input.shape)):
        raise ShapeError("Index tensor must have the same number of dimensions as input tensor")
    return graph.reshape(input, input.shape or (1,)), graph.reshape(index, index.shape or (1,)), axis


@op("gather", out="exact", kinds="buifc", saves=("index",), acc=False, samples=s.calls(
    s.call(T(4, 3), 0, T(2, 3, fill="index", high=4)), s.call(T(4, 3), -1, T(4, 5, fill="index", high=3)),
    s.call(T(4, 3, 2), 1, T(3, 2, 1, fill="index", high=3)), s.call(T(5), 0, T(7, fill="index", high=5)),
    s.call(T(), 0, T(fill="index", high=1)),
    s.call(T(4, 3), 0, T(0, 3, fill="index", high=4)),
    s.call(T(4, 3), 0, T(2, 2, fill="index", high=4, dtype=dtypes.int32))))  # fmt: skip
def gather(input: Node, dim: int, index: Node) -> Node:
    """``out[i][j] = input[index[i][j]][j]`` for ``dim`` 0, and so on; shape of ``index``.  (torch.gather)"""
    if not index.size:  # torch looks at no shape and no type then
        return graph.reshape(nothing(input), index.shape)
    wide = _positions("gather", index)
    x, at, axis = _same_rank(input, dim, wide)
    for a, (n, have) in enumerate(zip(at.shape, x.shape)):
        if a != axis and n > have:
            raise ShapeError(
                f"Size does not match at dimension {a} expected index {list(index.shape)} to be no larger than self "
                f"{list(input.shape)} apart from dimension {axis}"
            )
    return graph.reshape(graph.gather_along(x, at, axis), index.shape)


def nothing(x: Node) -> Node:
    """No element of ``x``, as a vector."""
    return graph.slice_(graph.reshape(x, (x.size,)), ((0, 0, 1),))


def unchanged(input: Node, index: Node, src: Node, how: str) -> Node:
    """``input`` with nothing of ``src`` written to the places of an empty index, whatever the shapes, as in torch."""
    out = graph.scatter(graph.reshape(input, (input.size,)), graph.reshape(index, (0,)), nothing(src), 0, how)
    return graph.reshape(out, input.shape)


def _scattered(name: str, input: Node, dim: int, index: Node, src: Any, how: str) -> Node:
    wide = _positions(name, index)
    if isinstance(src, Node) and src.dtype is not input.dtype:
        raise SpiralError(f"{name}(): Expected self.dtype to be equal to src.dtype")
    if not wide.size:
        return input if not isinstance(src, Node) else unchanged(input, wide, src, how)
    x, at, axis = _same_rank(input, dim, wide)
    if isinstance(src, Node):
        values = graph.reshape(src, src.shape or (1,))
        for a, n in enumerate(at.shape):
            if len(values.shape) != len(at.shape) or (a != axis and n > x.shape[a]) or n > values.shape[a]:
                raise ShapeError(
                    f"Expected index {list(index.shape)} to be no larger than self {list(input.shape)} apart from "
                    f"dimension {axis} and to be no larger size than src {list(src.shape)}"
                )
        values = graph.slice_(values, tuple([(0, n, 1) for n in at.shape]))
    else:
        values = graph.expand(filling(src, x), at.shape)
    flat = graph.reshape(flat_position(at, x.shape, axis), (at.size,))
    out = graph.scatter(graph.reshape(x, (x.size,)), flat, graph.reshape(values, (at.size,)), 0, how)
    return graph.reshape(out, input.shape)


_SCATTER = s.calls(
    s.call(T(4, 3), 0, T(2, 3, fill="index", high=4), T(2, 3)),
    s.call(T(4, 3), 1, T(4, 5, fill="index", high=3), T(4, 6)),
    s.call(T(5), -1, T(7, fill="index", high=5), T(7)), s.call(T(), 0, T(fill="index", high=1), T()),
    s.call(T(4, 3), 0, T(0, 3, fill="index", high=4), T(0, 3)),
)  # fmt: skip


@op("scatter_add", out="exact", kinds="buifc", saves=("index",), inplace=True, samples=_SCATTER)
def scatter_add(input: Node, dim: int, index: Node, src: Node) -> Node:
    """``input`` with ``src[i][j]`` added at ``[index[i][j]][j]`` for ``dim`` 0, and so on, in order.
    (torch.scatter_add)"""
    return _scattered("scatter_add", input, dim, index, src, "add")


def _one_each(*shape: int) -> T:
    """Index samples along axis 0 without repeats: which of two equal positions wins is not torch's promise."""
    return T(*shape, fill="index", high=1)


_PUT_HOW = {None: "set", "add": "add", "multiply": "mul"}


@op("scatter", out="exact", kinds="buifc", inplace=True, samples=s.calls(
    s.call(T(4, 3), 0, _one_each(1, 3), T(1, 3)), s.call(T(4, 3), 0, _one_each(1, 2), 2.0),
    s.call(T(5), 0, _one_each(1), T(1)), s.call(T(4, 3), 1, T(4, 5, fill="index", high=3), 1),
    s.call(T(4, 3), 1, T(4, 5, fill="index", high=3), value=2),
    s.value_only(T(4, 3), 1, T(4, 5, fill="index", high=3), T(4, 5), reduce="multiply"),
    s.value_only(T(4, 3), 1, T(4, 5, fill="index", high=3), 3, reduce="add")))  # fmt: skip
def scatter(
    input: Node, dim: int, index: Node, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Node:
    """``input`` with ``src[i][j]`` (or a number) put at ``[index[i][j]][j]`` for ``dim`` 0, and so on, or added or
    multiplied there as ``reduce`` says; of equal positions the last stays.  (torch.scatter)"""
    if reduce not in _PUT_HOW:
        raise SpiralError(f"reduce argument must be either add or multiply, got {reduce!r}")
    if (src is None) == (value is None):
        raise TypeError("scatter() takes either src or value")
    return _scattered("scatter", input, dim, index, value if src is None else src, _PUT_HOW[reduce])


@op("index_select", out="exact", kinds="buifc", saves=("index",), acc=False, samples=s.calls(
    s.call(T(4, 3), 0, T(5, fill="index", high=4)), s.call(T(4, 3, 2), -2, T(2, fill="index", high=3)),
    s.call(T(4), 0, T(fill="index", high=4)),
    s.call(T(4, 3), 1, T(0, fill="index", high=3)), s.call(T(), 0, T(1, fill="index", high=1))))  # fmt: skip
def index_select(input: Node, dim: int, index: Node) -> Node:
    """Positions ``index`` (a vector) along ``dim``.  (torch.index_select)"""
    if len(index.shape) > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    at = graph.reshape(_positions("index_select", index), (index.size,))
    axis = wrap_dim(dim, len(input.shape))
    out = graph.gather(graph.reshape(input, input.shape or (1,)), at, axis)
    return out if input.shape else graph.reshape(out, ())


@op("index_add", out="exact", kinds="buifc", saves=("index",), inplace=True, samples=s.calls(
    s.call(T(4, 3), 0, T(5, fill="index", high=4), T(5, 3)),
    s.call(T(4, 3), -1, T(2, fill="index", high=3), T(4, 2), alpha=2),
    s.call(T(4), 0, T(0, fill="index", high=4), T(0))))  # fmt: skip
def index_add(input: Node, dim: int, index: Node, source: Node, *, alpha: Any = 1) -> Node:
    """``input`` with ``alpha`` times the k-th slice of ``source`` added at ``index[k]`` along ``dim``, in order.
    (torch.index_add)"""
    axis = wrap_dim(dim, len(input.shape))
    if source.dtype is not input.dtype:
        raise SpiralError("index_add_(): self and source must have the same scalar type")
    if len(index.shape) > 1:
        raise IndexError("index_add_(): Index is supposed to be a vector")
    if source.shape and index.size != source.shape[axis]:
        raise ShapeError(
            f"index_add_(): Number of indices ({index.size}) should be equal to source.size(dim): "
            f"({source.shape[axis]}), for dim: {axis}"
        )
    wanted = input.shape[:axis] + (index.size,) + input.shape[axis + 1 :]
    if source.shape != wanted and source.shape:
        raise ShapeError(
            "source tensor shape must match self tensor shape, excluding the specified dimension. "
            f"Got self.shape = {list(input.shape)} source.shape = {list(source.shape)}"
        )
    x = graph.reshape(input, input.shape or (1,))
    values = graph.reshape(source, wanted or (1,))
    values = values if alpha == 1 else lang.mul(values, lifted(alpha, values))
    at = graph.reshape(_positions("index_add", index), (index.size,))
    return graph.reshape(graph.scatter_add(x, at, values, axis), input.shape)


@op("take_along_dim", out="exact", kinds="buifc", saves=("indices",), acc=False, samples=s.calls(
    s.call(T(4, 3), T(2, 3, fill="index", high=4), 0), s.call(T(4, 1), T(1, 5, fill="index", high=4), 0),
    s.call(T(4, 3), T(5, fill="index", high=12))))  # fmt: skip
def take_along_dim(input: Node, indices: Node, dim: int | None = None) -> Node:
    """As :func:`gather`, with the other axes broadcast; without ``dim`` both are flat.  (torch.take_along_dim)"""
    at = _positions("take_along_dim", indices)
    if dim is None:
        return graph.gather(graph.reshape(input, (input.size,)), graph.reshape(at, (at.size,)), 0)
    if len(at.shape) != len(input.shape):
        raise ShapeError(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
            f"{len(input.shape)} dimensions for input, and {len(at.shape)} dimensions for indices"
        )
    axis = wrap_dim(dim, len(input.shape))
    with_one = [(n if a != axis else 1, k if a != axis else 1) for a, (n, k) in enumerate(zip(input.shape, at.shape))]
    common = list(lang.shapes_broadcast([tuple(n for n, _ in with_one), tuple(k for _, k in with_one)]))
    wide, places = list(common), list(common)
    wide[axis], places[axis] = input.shape[axis], at.shape[axis]
    at = lang.row("REM", at, max(input.shape[axis], 1))  # as torch, indices beyond the end come round
    at = lang.where(lang.lt(at, 0), at + input.shape[axis], at)
    return graph.gather_along(graph.expand(input, tuple(wide)), graph.expand(at, tuple(places)), axis)


@op("masked_fill", kinds="buifc", saves=("mask",), acc=False, inplace=True, where=("", "Tensor"), samples=s.calls(
    s.call(T(2, 3), T(2, 3, fill="mask"), 1.5), s.call(T(2, 3), T(3, fill="mask"), 0),
    s.call(T(2, 1), T(2, 3, fill="mask"), -1.0),
    s.call(T(2, 3), T(fill="mask"), T()), s.call(T(), T(fill="mask"), 2), s.call(T(0, 3), T(3, fill="mask"), 1),
    s.call(T(2, 3), T(2, 3, fill="mask"), float("-inf"))))  # fmt: skip
def masked_fill(input: Node, mask: Node, value: Any) -> Node:
    """``value`` (a number or 0-d tensor) where ``mask`` (bool) is true, else ``input``.  (torch.Tensor.masked_fill)"""
    if mask.dtype is not dtypes.bool_:
        raise SpiralError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype.name}")
    if isinstance(value, Node) and value.shape:
        raise ShapeError(
            "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{len(value.shape)} dimension(s)."
        )
    if isinstance(value, Node) and value.dtype.kind == "c" and input.dtype.kind != "c":
        raise SpiralError(f"value cannot be converted to type {input.dtype.name} without overflow")
    fill = cast(value, input.dtype) if isinstance(value, Node) else filling(value, input)
    return lang.row("WHERE", mask, fill, input)


# -- x[i, :, j]: several index tensors at once ----------------------------------------------------


class _Plan:
    """Where the indexed axes of ``shape`` lie, how they are brought together, and the shape of the result.

    The indexed axes become one axis ``at`` of ``flat`` (permuted by ``order`` first); ``place`` is the index
    into it.  torch puts the index's axes where the indexed ones were if those are neighbours, else in front.
    """

    def __init__(self, shape: tuple[int, ...], indices: Sequence[Index]) -> None:
        if len(indices) > len(shape):
            raise IndexError(f"too many indices for tensor of dimension {len(shape)}")
        axes = [a for a, i in enumerate(indices) if i is not None]
        given = [_wrapped(i, shape[a], a) for a, i in enumerate(indices) if i is not None]
        if not given:
            raise IndexError("at least one index tensor is needed")
        self.index_shape = _common(given)
        neighbours = axes == list(range(axes[0], axes[0] + len(axes)))
        rest = [a for a in range(len(shape)) if a not in axes]
        self.at = axes[0] if neighbours else 0
        self.order = tuple(rest[: self.at] + axes + rest[self.at :])
        self.permuted = tuple([shape[a] for a in self.order])
        sizes = [shape[a] for a in axes]
        self.head, self.tail = self.permuted[: self.at], self.permuted[self.at + len(axes) :]
        self.flat = (*self.head, math.prod(sizes), *self.tail)
        self.shape = (*self.head, *self.index_shape, *self.tail)
        self.place = _place(given, sizes, self.index_shape)

    def inverse(self) -> tuple[int, ...]:
        return tuple([self.order.index(a) for a in range(len(self.order))])


def _wrapped(index: Node, size: int, axis: int) -> Node:
    """Negative positions counted from the end."""
    if index.dtype.kind not in "iu":
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if index.size and not size:
        raise IndexError(f"index is out of bounds for dimension {axis} with size 0")
    at = cast(index, dtypes.int64)
    return lang.where(lang.lt(at, 0), at + size, at) if index.dtype.is_signed else at


def _common(indices: Sequence[Node]) -> tuple[int, ...]:
    try:
        return lang.shapes_broadcast([i.shape for i in indices])
    except ValueError:
        shapes = ", ".join([str(list(i.shape)) for i in indices])
        raise IndexError(
            f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
        ) from None


def _place(indices: Sequence[Node], sizes: Sequence[int], shape: tuple[int, ...]) -> Node:
    wide = [graph.broadcast(i, shape) for i in indices]
    if len(wide) == 1:
        return wide[0]
    total: Node | None = None
    for i, size, stride in zip(wide, sizes, _strides(sizes)):
        term = checked(i, i, size)
        term = lang.where(lang.lt(term, 0), -math.prod(sizes), term * stride)  # one bad index spoils the sum
        total = term if total is None else total + term
    assert total is not None
    return total


_INDICES = s.calls(
    s.call(T(4, 3), [T(2, 2, fill="wrapped", high=4)]), s.call(T(4, 3), [None, T(5, fill="wrapped", high=3)]),
    s.call(T(4, 3), [T(5, fill="wrapped", high=4), T(5, fill="index", high=3)]),
    s.call(T(4, 3, 2), [T(5, 1, fill="index", high=4), None, T(3, fill="wrapped", high=2)]),
    s.call(T(2, 4, 3, 2), [None, T(5, fill="index", high=4), T(2, 1, fill="index", high=3)]),
    s.call(T(4, 3), [T(fill="wrapped", high=4)]), s.call(T(4, 3), [T(0, fill="index", high=4)]),
)  # fmt: skip


@op("index_tensors", kinds="buifc", saves=("indices",), acc=False, where=(), samples=_INDICES)
def index_tensors(input: Node, indices: Sequence[Index]) -> Node:
    """``input[indices]`` for integer tensors, None for an axis taken whole; negative positions count from the
    end.  (torch.Tensor.__getitem__)"""
    p = _Plan(input.shape, indices)
    return graph.gather(graph.reshape(graph.permute(input, p.order), p.flat), p.place, p.at)


_PUT = s.calls(
    s.call(T(4, 3), [T(2, fill="index", high=1)], T(3)),
    s.call(T(6, 3), [T(3, fill="wrapped", high=6), T(3, fill="index", high=3)], T(3), True),
    s.call(T(4, 3, 2), [T(2, fill="index", high=4), None, T(2, fill="index", high=2)], T(2, 3), True),
    s.call(T(4, 3), [None, T(1, fill="wrapped", high=3)], T(4, 1)),
    s.call(T(4, 3), [T(1, fill="index", high=4)], T()),
    s.call(T(4, 3), [T(0, fill="index", high=4)], T(0, 3)),
    s.call(T(4, 3), [T(7, fill="index", high=4)], T(7, 3), accumulate=True),
)  # fmt: skip


@op("index_put", lies="input", kinds="buifc", saves=("indices",), inplace=True, samples=_PUT)
def index_put(input: Node, indices: Sequence[Index], values: Node, accumulate: bool = False) -> Node:
    """``input`` with ``values`` (broadcast) put at ``indices``, or added there; of equal positions the last
    stays.  (torch.index_put)"""
    if values.dtype is not input.dtype:
        raise SpiralError(
            f"Index put requires the source and destination dtypes match, got {input.dtype.name} for the destination "
            f"and {values.dtype.name} for the source."
        )
    p = _Plan(input.shape, indices)
    try:
        fits = lang.shapes_broadcast([values.shape, p.shape]) == p.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast to indexing result of "
            f"shape {list(p.shape)}"
        )
    count = math.prod(p.index_shape)
    spread = graph.reshape(graph.broadcast(values, p.shape), (*p.head, count, *p.tail))
    base = graph.reshape(graph.permute(input, p.order), p.flat)
    out = graph.scatter(base, graph.reshape(p.place, (count,)), spread, p.at, "add" if accumulate else "set")
    return graph.permute(graph.reshape(out, p.permuted), p.inverse())
