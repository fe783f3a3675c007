"""Constructors of graph nodes: each checks its shapes, derives the type and drops what does nothing.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph, node
    >>> x = graph.param(0, (2, 3), dtypes.float32)
    >>> graph.permute(graph.permute(x, (1, 0)), (1, 0)) is x
    True

Shapes are tuples of int; errors here are bugs of the caller, users are refused earlier, in ``ops``.
"""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import DType, bool_, int64, uint32
from ..errors import VerifyError
from .node import Node, Shape, cast, const, make

Range = tuple[int, int, int]


def buffer(ref: Any, shape: Shape, dtype: DType) -> Node:
    """A leaf that reads a runtime buffer (contiguous, row-major)."""
    return make("BUFFER", (), ref, shape, dtype)


def param(index: int | tuple[str, int], shape: Shape, dtype: DType) -> Node:
    """A program's input number ``index``; ``("s", i)`` is run-time scalar i."""
    return make("PARAM", (), index, shape, dtype)


def full(value: Any, shape: Shape, dtype: DType, static: bool = True) -> Node:
    return expand(const(value, dtype, static), shape)


def iota(shape: Shape, axis: int, dtype: DType = int64) -> Node:
    """0, 1, 2 ... along ``axis``."""
    n = make("IOTA", (), axis, shape, int64)
    if dtype is not int64:
        return make("CAST", (n,), None, shape, dtype)
    return n


def reshape(n: Node, shape: Shape) -> Node:
    if n.shape == shape:
        return n
    if n.op == "RESHAPE":
        return reshape(n.src[0], shape)
    if math.prod(shape) != n.size:
        raise VerifyError(f"reshape {n.shape} -> {shape}")
    if n.op == "EXPAND" and not n.src[0].shape:
        return expand(n.src[0], shape)
    return make("RESHAPE", (n,), shape, shape, n.dtype)


def permute(n: Node, order: tuple[int, ...]) -> Node:
    if order == tuple(range(len(order))):
        return n
    if n.op == "PERMUTE":
        return permute(n.src[0], tuple([n.arg[i] for i in order]))
    return make("PERMUTE", (n,), order, tuple([n.shape[i] for i in order]), n.dtype)


def expand(n: Node, shape: Shape) -> Node:
    """Repeat size-1 axes (or a 0-d value) to ``shape``; same rank."""
    if n.shape == shape:
        return n
    if n.op == "EXPAND":
        return expand(n.src[0], shape)
    if n.shape and (len(n.shape) != len(shape) or any(a != b and a != 1 for a, b in zip(n.shape, shape))):
        raise VerifyError(f"expand {n.shape} -> {shape}")
    return make("EXPAND", (n,), shape, shape, n.dtype)


def broadcast(n: Node, shape: Shape) -> Node:
    """NumPy broadcasting of ``n`` to ``shape``: axes are added in front, size-1 axes repeated."""
    if n.shape == shape or not n.shape:
        return expand(n, shape)
    return expand(reshape(n, (1,) * (len(shape) - len(n.shape)) + n.shape), shape)


def slice_length(r: Range) -> int:
    start, stop, step = r
    return max(0, -(-(stop - start) // step))


def slice_(n: Node, ranges: tuple[Range, ...]) -> Node:
    """``n[start:stop:step]`` per axis with non-negative starts; step < 0 walks back to stop (-1: all)."""
    shape = tuple([slice_length(r) for r in ranges])
    if shape == n.shape and all(r[2] == 1 for r in ranges):
        return n
    return make("SLICE", (n,), ranges, shape, n.dtype)


def pad(n: Node, widths: tuple[Range, ...]) -> Node:
    """Zeros before, after and between (``interior``) the elements of each axis."""
    if not any(b or a or i for b, a, i in widths):
        return n
    shape = tuple([b + a + s + max(0, s - 1) * i for s, (b, a, i) in zip(n.shape, widths)])
    return make("PAD", (n,), widths, shape, n.dtype)


def window(n: Node, axis: int, size: int, stride: int, dilation: int = 1) -> Node:
    """Windows of ``size`` every ``stride`` along ``axis``; the window is a new last axis."""
    length = n.shape[axis]
    count = (length - dilation * (size - 1) - 1) // stride + 1
    if stride == size and dilation == 1 and count * size == length:
        split = n.shape[:axis] + (count, size) + n.shape[axis + 1 :]
        rank = len(split)
        order = tuple([i for i in range(rank) if i != axis + 1]) + (axis + 1,)
        return permute(reshape(n, split), order)
    shape = n.shape[:axis] + (count,) + n.shape[axis + 1 :] + (size,)
    return make("WINDOW", (n,), (axis, size, stride, dilation), shape, n.dtype)


def diagonal_length(rows: int, cols: int, offset: int) -> int:
    return max(0, min(rows, cols - offset) if offset >= 0 else min(rows + offset, cols))


def diagonal(n: Node, offset: int, a: int, b: int) -> Node:
    """The elements (i, i + offset) of axes ``a`` and ``b``, as a new last axis in their stead."""
    shape = tuple([s for i, s in enumerate(n.shape) if i not in (a, b)])
    length = diagonal_length(n.shape[a], n.shape[b], offset)
    return make("DIAGONAL", (n,), (offset, a, b), (*shape, length), n.dtype)


def set_diagonal(n: Node, values: Node, offset: int, a: int, b: int) -> Node:
    """``n`` with that diagonal replaced by ``values``: the transpose of :func:`diagonal` on zeros."""
    rank = len(n.shape)
    rest = [i for i in range(rank) if i not in (a, b)]
    before = max(0, -offset)
    wide = pad(values, ((0, 0, 0),) * len(rest) + ((before, n.shape[a] - before - values.shape[-1], 0),))
    at = rest.copy()
    at.insert(a if a < b else a - 1, a)  # where axis a comes among the axes without b
    order = [(*rest, a).index(i) for i in at]
    wide = permute(wide, tuple(order))
    kept = tuple([1 if i == b else s for i, s in enumerate(n.shape)])
    on = make("EQ", (add_const(iota(n.shape, a), offset), iota(n.shape, b)), None, n.shape, bool_)
    return make("WHERE", (on, expand(reshape(wide, kept), n.shape), n), None, n.shape, n.dtype)


def add_const(n: Node, value: int) -> Node:
    return n if value == 0 else make("ADD", (n, const(value, n.dtype)), None, n.shape, n.dtype)


def gather(n: Node, index: Node, axis: int) -> Node:
    """``n`` taken along ``axis`` at ``index``, whose shape replaces the axis."""
    shape = n.shape[:axis] + index.shape + n.shape[axis + 1 :]
    return make("GATHER", (n, index), axis, shape, n.dtype)


def gather_along(n: Node, index: Node, axis: int) -> Node:
    """``n[.., index[.., i, ..], ..]``: torch.gather; ``index`` has n's rank."""
    return make("GATHER", (n, index), ("along", axis), index.shape, n.dtype)


def scatter(n: Node, index: Node, values: Node, axis: int, op: str) -> Node:
    """``n`` with ``values`` put at ``index`` along ``axis`` in the order of the index: set, add, mul, max, min.

    16-bit floats, which a kernel only moves, are combined in float32.
    """
    if op != "set" and n.dtype.acc is not n.dtype:
        wide = n.dtype.acc
        return cast(scatter(cast(n, wide), index, cast(values, wide), axis, op), n.dtype)
    return make("SCATTER", (n, index, values), (axis, op), n.shape, n.dtype)


def scatter_add(n: Node, index: Node, values: Node, axis: int) -> Node:
    """``n`` with ``values`` added at ``index`` along ``axis``, in the order of the index."""
    return scatter(n, index, values, axis, "add")


def update(n: Node, ranges: tuple[Range, ...], values: Node) -> Node:
    """``n`` with the region ``ranges`` replaced by ``values``."""
    if values.shape == n.shape and all(r == (0, s, 1) for r, s in zip(ranges, n.shape)):
        return values
    return make("UPDATE", (n, values), ranges, n.shape, n.dtype)


def reduce(n: Node, op: str, axes: tuple[int, ...]) -> Node:
    """Fold ``axes`` (sorted) with ``op``; they disappear.  The type stays: cast first."""
    if not axes:
        return n
    shape = tuple([s for i, s in enumerate(n.shape) if i not in axes])
    return make("REDUCE", (n,), (op, axes), shape, n.dtype)


def scan(n: Node, op: str, axis: int, reverse: bool = False) -> Node:
    return make("SCAN", (n,), (op, axis, reverse), n.shape, n.dtype)


Axes = tuple[int, ...]


def dot(a: Node, b: Node, batch_a: Axes = (), batch_b: Axes = (), contract_a: Axes = (), contract_b: Axes = ()) -> Node:
    """Sum of products over the contracted axes; out axes are batch, free of ``a``, free of ``b``."""
    batch = tuple([a.shape[i] for i in batch_a])
    free_a = tuple([s for i, s in enumerate(a.shape) if i not in batch_a and i not in contract_a])
    free_b = tuple([s for i, s in enumerate(b.shape) if i not in batch_b and i not in contract_b])
    return make("DOT", (a, b), (batch_a, batch_b, contract_a, contract_b), batch + free_a + free_b, a.dtype)


def random(key: Node, counter: Node, shape: Shape) -> Node:
    """uint32 bits: word 0 of Philox4x32-10 at ``counter`` + flat index under ``key`` (both 0-d uint64)."""
    return make("RANDOM", (key, counter), None, shape, uint32)


def call(name: str, inputs: tuple[Node, ...], shape: Shape, dtype: DType, *static: Any) -> Node:
    """A library routine ``module.routine`` kept whole (:mod:`spiraltorch.kernels.library`); ``static`` are literals."""
    return make("CALL", inputs, (name, static), shape, dtype)


def real(n: Node) -> Node:
    """The real part; a real number is its own."""
    if n.dtype.kind != "c":
        return n
    if n.op == "COMPLEX":
        return n.src[0]
    if n.op == "CONST":
        return const(n.arg.value.real, n.dtype.to_real())
    return make("REAL", (n,), None, n.shape, n.dtype.to_real())


def imag(n: Node) -> Node:
    """The imaginary part of a complex number."""
    if n.op == "COMPLEX":
        return n.src[1]
    if n.op == "CONST":
        return const(n.arg.value.imag, n.dtype.to_real())
    return make("IMAG", (n,), None, n.shape, n.dtype.to_real())


def complex_(re: Node, im: Node) -> Node:
    """The numbers ``re + i im`` of two real nodes of one shape and type."""
    return make("COMPLEX", (re, im), None, re.shape, re.dtype.to_complex())


def as_real(n: Node) -> Node:
    """Complex numbers as their parts along a new last axis."""
    return n.src[0] if n.op == "AS_COMPLEX" else make("AS_REAL", (n,), None, (*n.shape, 2), n.dtype.to_real())


def as_complex(n: Node) -> Node:
    """Pairs along the last axis as complex numbers."""
    return n.src[0] if n.op == "AS_REAL" else make("AS_COMPLEX", (n,), None, n.shape[:-1], n.dtype.to_complex())


def copy(n: Node) -> Node:
    return make("COPY", (n,), None, n.shape, n.dtype)


__all__ = [name for name in dir() if not name.startswith("_") and name not in ("annotations", "Any", "math", "Bits")]
