"""Views of parts: positions, ranges, pieces, diagonals, windows, and any strides over the storage.

As in :mod:`.view`, each is a function from the input's shape to movement steps.

    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["select"].view((2, 3), 1, -1)
    [('SLICE', ((0, 2, 1), (2, 3, 1))), ('RESHAPE', (2,))]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..errors import ShapeError, SpiralError
from ..ir import graph
from ..ir.node import Shape
from . import samples as s
from .registry import wrap_dim
from .view import Steps, list_op, view_op

T = s.T


def _all(shape: Shape) -> list[graph.Range]:
    return [(0, n, 1) for n in shape]



def cut(shape: Shape, axis: int, start: int, stop: int, step: int = 1) -> Steps:
    """``start:stop:step`` along ``axis``, all of the others."""
    ranges = _all(shape)
    ranges[axis] = (start, stop, step)
    return [] if ranges == _all(shape) else [("SLICE", tuple(ranges))]


@view_op("select", s.calls(s.call(T(2, 3), 0, 1), s.call(T(2, 3, 4), -1, -2), s.call(T(3), 0, 0)))
def select(shape: Shape, dim: int, index: int) -> Steps:
    """Position ``index`` along ``dim``, which disappears.  (torch.select)"""
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    axis = wrap_dim(dim, len(shape))
    n = shape[axis]
    if not -n <= index < n:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(shape)} at dimension {axis}")
    index = int(index) % n
    return [*cut(shape, axis, index, index + 1), ("RESHAPE", shape[:axis] + shape[axis + 1 :])]


@view_op("narrow", s.calls(s.call(T(5, 3), 0, 1, 3), s.call(T(2, 3), -1, -2, 2), s.call(T(2, 3), 0, 2, 0)))
def narrow(shape: Shape, dim: int, start: Any, length: int) -> Steps:
    """``length`` positions from ``start``, an int or a tensor of one, on along ``dim``.  (torch.narrow)"""
    if hasattr(start, "dtype"):
        if start.shape or start.dtype.kind not in "iu":
            raise SpiralError("start must be an 0-dim integral Tensor.")
    elif isinstance(start, bool) or not isinstance(start, int):
        raise TypeError(f"narrow(): argument 'start' (position 3) must be int, not {type(start).__name__}")
    if not shape:
        raise ShapeError("narrow() cannot be applied to a 0-dim tensor.")
    axis = wrap_dim(dim, len(shape))
    n, start = shape[axis], int(start)
    if length < 0:
        raise ShapeError("narrow(): length must be non-negative.")
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    start += n if start < 0 else 0
    if start + length > n:
        raise ShapeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return cut(shape, axis, start, start + length)


@view_op("slice", s.calls(s.call(T(5, 3), 0, 1, 4), s.call(T(5, 3), 0, -3), s.call(T(7), 0, 1, None, 2),
    s.call(T(5), 0, 4, 2),
    s.call(T(5), 0, 0, 99, 3)), where=())  # fmt: skip
def slice_(shape: Shape, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Steps:
    """``start:end:step`` along ``dim``, as Python slices; ``step`` is positive.  (torch.Tensor.__getitem__)"""
    if step <= 0:
        raise ValueError("step must be greater than zero")
    axis = wrap_dim(dim, len(shape))
    first, last, _ = slice(start, end, step).indices(shape[axis])
    return cut(shape, axis, first, max(first, last), step)


def _lengths(shape: Shape, axis: int, size: int | Sequence[int]) -> list[int]:
    n = shape[axis]
    if isinstance(size, int):
        if size < 0:
            raise ShapeError(f"split expects split_size be non-negative, but got split_size={size}")
        if size == 0 and n:
            raise ShapeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        return [min(size, n - at) for at in range(0, n, size)] if n else [0]
    if sum(size) != n or any(k < 0 for k in size):
        raise ShapeError(
            f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {axis}), "
            f"but got split_sizes={list(size)}"
        )
    return list(size)


def _pieces(shape: Shape, axis: int, lengths: Sequence[int]) -> list[Steps]:
    out, at = [], 0
    for n in lengths:
        out.append(cut(shape, axis, at, at + n))
        at += n
    return out


@list_op(
    "split",
    s.calls(s.call(T(5, 3), 2), s.call(T(5, 3), [1, 4]), s.call(T(2, 6), 2, -1), s.call(T(0), 2)),
)
def split(shape: Shape, split_size_or_sections: int | Sequence[int], dim: int = 0) -> list[Steps]:
    """Parts along ``dim``: of one size (the last may be smaller), or of the sizes listed.  (torch.split)"""
    if not shape:
        raise ShapeError("split expects at least a 1-dimensional tensor")
    axis = wrap_dim(dim, len(shape))
    return _pieces(shape, axis, _lengths(shape, axis, split_size_or_sections))


@list_op("chunk", s.calls(s.call(T(5, 3), 2), s.call(T(5, 3), 4), s.call(T(2, 6), 3, 1), s.call(T(0), 3)))
def chunk(shape: Shape, chunks: int, dim: int = 0) -> list[Steps]:
    """At most ``chunks`` parts of equal size (the last may be smaller) along ``dim``.  (torch.chunk)"""
    if chunks <= 0:
        raise ShapeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    if not shape:
        raise ShapeError("chunk expects at least a 1-dimensional tensor")
    axis = wrap_dim(dim, len(shape))
    n = shape[axis]
    return _pieces(shape, axis, _lengths(shape, axis, -(-n // chunks)) if n else [0] * chunks)


@list_op(
    "split_with_sizes",
    s.calls(s.call(T(5, 3), [1, 4]), s.call(T(2, 6), [2, 0, 4], -1)),
    aliases=("unsafe_split_with_sizes",),
)
def split_with_sizes(shape: Shape, split_sizes: Sequence[int], dim: int = 0) -> list[Steps]:
    """Parts of the sizes listed along ``dim``.  (torch.Tensor.split_with_sizes)"""
    return split(shape, list(split_sizes), dim)  # type: ignore[no-any-return]


@list_op("unsafe_split", s.calls(s.call(T(5, 3), 2), s.call(T(2, 6), 2, -1)))
def unsafe_split(shape: Shape, split_size: int, dim: int = 0) -> list[Steps]:
    """As :func:`split`; parts may be written to in place here in any case.  (torch.unsafe_split)"""
    return split(shape, split_size, dim)  # type: ignore[no-any-return]


@list_op("unsafe_chunk", s.calls(s.call(T(5, 3), 2), s.call(T(2, 6), 3, 1)))
def unsafe_chunk(shape: Shape, chunks: int, dim: int = 0) -> list[Steps]:
    """As :func:`chunk`.  (torch.unsafe_chunk)"""
    return chunk(shape, chunks, dim)  # type: ignore[no-any-return]


def _cuts(shape: Shape, axis: int, where: Any) -> list[Steps]:
    """Parts along ``axis``: as many as an int says, the first ones one longer, or cut at the positions listed."""
    n = shape[axis]
    where = where.tolist() if hasattr(where, "tolist") else where
    if isinstance(where, int):
        if where <= 0:
            raise ShapeError(f"number of sections must be larger than 0, got {where}")
        lengths = [n // where + (k < n % where) for k in range(where)]
        return _pieces(shape, axis, lengths)
    edges = [0, *[max(0, min(n, k + n if k < 0 else k)) for k in where], n]
    return [cut(shape, axis, a, max(a, b)) for a, b in zip(edges, edges[1:])]


@list_op(
    "tensor_split",
    s.calls(s.call(T(7, 3), 3), s.call(T(7, 3), (1, 5)), s.call(T(2, 7), 4, -1), s.call(T(5), (3, 1)), s.call(T(0), 2)),
)
def tensor_split(shape: Shape, indices_or_sections: Any, dim: int = 0) -> list[Steps]:
    """That many parts along ``dim``, sizes differing by at most one, or cut at the positions listed.
    (torch.tensor_split)"""
    if not shape:
        raise ShapeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    return _cuts(shape, wrap_dim(dim, len(shape)), indices_or_sections)


def _split_along(name: str, shape: Shape, least: int, axis: int, where: Any) -> list[Steps]:
    if len(shape) < least:
        raise ShapeError(
            f"torch.{name} requires a tensor with at least {least} dimension{'s' * (least > 1)}, but got a tensor with "
            f"{len(shape)} dimensions!"
        )
    if isinstance(where, int) and (where <= 0 or shape[axis] % where):
        raise ShapeError(
            f"torch.{name} attempted to split along dimension {axis}, but the size of the dimension {shape[axis]} is not "
            f"divisible by the split_size {where}!"
        )
    return _cuts(shape, axis, where)


@list_op("hsplit", s.calls(s.call(T(4, 6), 3), s.call(T(6), 2), s.call(T(4, 6), (1, 4)), s.call(T(2, 4, 3), [2])))
def hsplit(shape: Shape, indices_or_sections: Any) -> list[Steps]:
    """Equal parts, or parts cut at positions, along axis 1 (of vectors: 0).  (torch.hsplit)"""
    return _split_along("hsplit", shape, 1, 0 if len(shape) == 1 else 1, indices_or_sections)


@list_op("vsplit", s.calls(s.call(T(4, 6), 2), s.call(T(4, 6), (1, 3))))
def vsplit(shape: Shape, indices_or_sections: Any) -> list[Steps]:
    """Equal parts, or parts cut at positions, along axis 0.  (torch.vsplit)"""
    return _split_along("vsplit", shape, 2, 0, indices_or_sections)


@list_op("dsplit", s.calls(s.call(T(2, 3, 4), 2), s.call(T(2, 3, 4), (1, 3))))
def dsplit(shape: Shape, indices_or_sections: Any) -> list[Steps]:
    """Equal parts, or parts cut at positions, along axis 2.  (torch.dsplit)"""
    return _split_along("dsplit", shape, 3, 2, indices_or_sections)


@list_op("unbind", s.calls(s.call(T(2, 3)), s.call(T(2, 3), -1), s.call(T(4))))
def unbind(shape: Shape, dim: int = 0) -> list[Steps]:
    """Every position along ``dim``, which disappears.  (torch.unbind)"""
    axis = wrap_dim(dim, len(shape))
    if not shape:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    return [select(shape, axis, i) for i in range(shape[axis])]


@view_op("diagonal", s.calls(s.call(T(3, 4)), s.call(T(3, 4), 1), s.call(T(3, 4), -1), s.call(T(3, 4), 9),
    s.call(T(2, 3, 4), 0, 0, 2),
    s.call(T(2, 3, 4), -1, -1, 0)))  # fmt: skip
def diagonal(shape: Shape, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Steps:
    """The elements at ``(i, i + offset)`` of axes ``dim1`` and ``dim2``, as a new last axis.  (torch.diagonal)"""
    rank = len(shape)
    a, b = wrap_dim(dim1, rank), wrap_dim(dim2, rank)
    if a == b:
        raise ShapeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return [("DIAGONAL", (int(offset), a, b))]


@view_op("unfold", s.calls(s.call(T(7), 0, 3, 2), s.call(T(2, 6), 1, 2, 2), s.call(T(5, 3), -2, 2, 1),
    s.call(T(), 0, 1, 1)),
    where=("Tensor",))  # fmt: skip
def unfold(shape: Shape, dimension: int, size: int, step: int) -> Steps:
    """Windows of ``size`` every ``step`` along ``dimension``, each a new last axis.  (torch.Tensor.unfold)"""
    axis = wrap_dim(dimension, len(shape))
    lead: Steps = [] if shape else [("RESHAPE", (1,))]
    n = shape[axis] if shape else 1
    if size < 0:
        raise ShapeError(f"size is {size} but must be >= 0")
    if size > n:
        raise ShapeError(f"maximum size for tensor at dimension {axis} is {n} but size is {size}")
    if step <= 0:
        raise ShapeError(f"step is {step} but must be > 0")
    if not shape:
        return lead  # its one window is the element
    return [("WINDOW", (axis, size, step, 1))]


# -- any strides ----------------------------------------------------------------------------------


def strided_steps(total: int, sizes: Shape, strides: Sequence[int], offset: int) -> Steps | None:
    """Movement steps from ``total`` flat elements to a view of any non-overlapping strides; None if there are none.

    By falling stride, each axis is a slice with a step over units of memory: those that its stride and the units
    of the axis before have in common.
    """
    live = [i for i, n in enumerate(sizes) if n > 1 and strides[i] != 0]
    order = sorted(live, key=lambda i: -strides[i])
    rest = offset
    dims, ranges = [total], []
    for i in order:
        unit = math.gcd(strides[i], dims[-1])
        at, rest = divmod(rest, unit)
        stop = at + (sizes[i] - 1) * (strides[i] // unit) + 1
        if stop > dims[-1] // unit:
            return None
        dims[-1:] = [dims[-1] // unit, unit]
        ranges.append((at, stop, strides[i] // unit))
    ranges.append((rest, rest + 1, 1))
    place = (*[order.index(i) for i in live], len(order))
    kept = tuple([n if i in live else 1 for i, n in enumerate(sizes)])
    steps: Steps = [("RESHAPE", tuple(dims)), ("SLICE", tuple(ranges)), ("PERMUTE", place), ("RESHAPE", kept)]
    return steps if kept == sizes else [*steps, ("EXPAND", sizes)]


def as_strided_steps(total: int, sizes: Shape, strides: Shape, offset: int) -> Steps:
    """Movement steps from ``total`` flat elements to sizes, strides and offset.  Raises RuntimeError out of bounds."""
    if len(sizes) != len(strides):
        raise ShapeError("mismatch in length of strides and shape")
    if min(sizes, default=0) < 0:
        raise ShapeError(f"Trying to create tensor with negative dimension {min(sizes)}: {list(sizes)}")
    if min(strides, default=0) < 0:
        raise ShapeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(strides)}")
    if offset < 0:
        raise ShapeError(f"Tensor: invalid storage offset {offset}")
    empty = 0 in sizes
    last = offset + sum([(n - 1) * k for n, k in zip(sizes, strides)])
    if not empty and last >= total:
        raise ShapeError(
            f"setStorage: sizes {list(sizes)}, strides {list(strides)}, storage offset {offset} require a storage of "
            f"{last + 1} elements and are out of bounds for storage of {total}"
        )
    found = None if empty else strided_steps(total, sizes, strides, offset)
    return [("STRIDED", (sizes, strides, offset))] if found is None else found


@view_op(
    "as_strided",
    s.calls(
        s.call(T(12), (3, 2), (4, 1)), s.call(T(12), (3, 4), (1, 3), 0), s.call(T(12), (4, 3), (1, 1), 2),
        s.call(T(3, 4), (2, 2), (5, 2), 1), s.call(T(4), (), (), 3), s.call(T(4), (2, 3), (0, 1)), s.call(T(4), (0,), (1,)),
    ),
)  # fmt: skip
def as_strided(
    shape: Shape, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Steps:
    """The storage under ``input`` seen with other sizes, strides (elements) and offset.  (torch.as_strided)"""
    return as_strided_steps(math.prod(shape), tuple(size), tuple(stride), storage_offset or 0)
