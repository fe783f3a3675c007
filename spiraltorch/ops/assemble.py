"""Tensors put together from others: stacked by axis, on diagonals, in blocks, as products of sets; and parts replaced.

In: nodes, often a list of them.  Out: a node with memory of its own.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x = graph.param(0, (2, 3), dtypes.float32)
    >>> OPS["vstack"].apply([[x, x]], {}).shape, OPS["block_diag"].apply([[x, x]], {}).shape
    ((4, 3), (4, 6))
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import filling
from .parts import as_strided_steps, diagonal, select
from .parts import slice_ as slice_steps
from .rearrange import cat, flipped, joined
from .registry import Op, op, raise_dtype, result_type, wrap_dim
from .view import Steps, apply_steps, atleast_1d, atleast_2d, atleast_3d, sizes_of, write_through

T = s.T


# -- stacking ---------------------------------------------------------------------------------------


def _list_of(name: str, tensors: Any) -> list[Node]:
    found = list(tensors) if isinstance(tensors, (list, tuple)) else []
    if not found:
        raise ShapeError(f"{name} expects a non-empty TensorList")
    for i, t in enumerate(found):
        if not isinstance(t, Node):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(t).__name__}")
    return found


def _at_least(tensors: Sequence[Node], rank: Any) -> list[Node]:
    return [apply_steps(t, rank(t.shape)) for t in tensors]


_STACKED = s.calls(
    s.call([T(2, 3), T(2, 3)]), s.call([T(3), T(3)]), s.call([T(), T()]), s.call([T(2, 3, 2), T(2, 3, 2)]),
    s.call([T(3), T(3, dtype=dtypes.float64)]),
)  # fmt: skip


@op("hstack", kinds="buifc", acc=False, saves="", where=("",), samples=s.more(_STACKED, s.calls(s.call([T(2, 1), T(2, 3)]))))
def hstack(tensors: Sequence[Node]) -> Node:
    """Side by side: joined along axis 1, vectors along axis 0.  (torch.hstack)"""
    parts = _at_least(_list_of("hstack", tensors), atleast_1d)
    return cat.body(parts, 0 if len(parts[0].shape) == 1 else 1)  # type: ignore[no-any-return]


@op("vstack", kinds="buifc", acc=False, saves="", where=("",), aliases=("row_stack",), samples=s.more(
    _STACKED, s.calls(s.call([T(1, 3), T(2, 3)]))))  # fmt: skip
def vstack(tensors: Sequence[Node]) -> Node:
    """One above the other: joined along axis 0, vectors as rows.  (torch.vstack)"""
    return cat.body(_at_least(_list_of("vstack", tensors), atleast_2d), 0)  # type: ignore[no-any-return]


@op("dstack", kinds="buifc", acc=False, saves="", where=("",), samples=s.more(_STACKED, s.calls(s.call([T(2, 3, 1), T(2, 3, 2)]))))
def dstack(tensors: Sequence[Node]) -> Node:
    """One behind the other: joined along axis 2.  (torch.dstack)"""
    return cat.body(_at_least(_list_of("dstack", tensors), atleast_3d), 2)  # type: ignore[no-any-return]


@op("column_stack", kinds="buifc", acc=False, saves="", where=("",), samples=s.more(_STACKED, s.calls(s.call([T(3), T(3, 2), T(3)]))))
def column_stack(tensors: Sequence[Node]) -> Node:
    """Side by side, vectors as columns.  (torch.column_stack)"""
    parts = [t if len(t.shape) > 1 else graph.reshape(t, (t.size, 1)) for t in _list_of("column_stack", tensors)]
    return cat.body(parts, 1)  # type: ignore[no-any-return]


@op("block_diag", kinds="buifc", acc=False, saves="", where=(), samples=s.calls(
    s.call([T(2, 3), T(1, 2)]), s.call([T(3), T(), T(2, 2)]), s.call([T(2, 2), T(1, 1, dtype=dtypes.float64)]),
    s.call([T(0, 2), T(2, 1)])))  # fmt: skip
def block_diag(tensors: Sequence[Node]) -> Node:
    """Matrices on the diagonal of a larger one, 0 elsewhere; vectors are rows.  (torch.block_diag)"""
    for i, t in enumerate(tensors):
        if len(t.shape) > 2:
            raise ShapeError(f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {i} has {len(t.shape)} dimensions")
    if not len(tensors):
        return graph.full(0, (1, 0), dtypes.get_default_dtype())
    common = result_type(tensors)
    parts = _at_least([cast(t, common) for t in tensors], atleast_2d)
    rows, columns = (sum([p.shape[axis] for p in parts]) for axis in (0, 1))
    out, r, c = graph.full(0, (rows, columns), common), 0, 0
    for p in parts:
        h, w = p.shape
        if p.size:
            out = graph.update(out, ((r, r + h, 1), (c, c + w, 1)), p)
        r, c = r + h, c + w
    return out


@op("cartesian_prod", kinds="buifc", acc=False, saves="", where=(), samples=s.calls(
    s.call([T(2), T(3)]), s.call([T(3)]), s.call([T(2), T(1), T(2)]), s.call([T(2), T(0)])))  # fmt: skip
def cartesian_prod(tensors: Sequence[Node]) -> Node:
    """One row for each way to take an element of every vector.  (torch.cartesian_prod)"""
    for t in tensors:
        if len(t.shape) != 1:
            raise ShapeError(f"Expect a 1D vector, but got shape {list(t.shape)}")
    if len(tensors) == 1:
        return tensors[0]
    if len({t.dtype for t in tensors}) > 1:
        raise SpiralError("torch.meshgrid expects all tensors to have the same dtype")
    shape = tuple([t.size for t in tensors])
    columns = []
    for axis, t in enumerate(tensors):
        alone = graph.reshape(t, tuple([n if a == axis else 1 for a, n in enumerate(shape)]))
        columns.append(graph.reshape(graph.expand(alone, shape), (math.prod(shape), 1)))
    return joined(columns, 1)


@op("combinations", kinds="buifc", acc=False, saves="", samples=s.calls(
    s.call(T(4)), s.call(T(4), 3), s.call(T(3), 2, True), s.call(T(2), 3), s.call(T(3), 1), s.call(T(3), 0)))  # fmt: skip
def combinations(input: Node, r: int = 2, with_replacement: bool = False) -> Node:
    """One row for each choice of ``r`` elements of a vector, in order.  (torch.combinations)"""
    if len(input.shape) != 1:
        raise ShapeError(f"Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise ShapeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return graph.full(0, (0,), input.dtype)
    n, rank = input.size, (input.size,) * r
    axes = [graph.iota(rank, a) for a in range(r)]
    keep = graph.full(True, rank, dtypes.bool_)
    for a, b in itertools.pairwise(axes):
        keep = keep & (lang.le(a, b) if with_replacement else lang.lt(a, b))
    count = math.comb(n + r - 1, r) if with_replacement else math.comb(n, r)
    place = positions(keep, count)
    columns = []
    for a in range(r):
        at = lang.row("REM", lang.row("IDIV", place, max(1, n ** (r - 1 - a))), max(1, n))
        columns.append(graph.reshape(graph.gather(input, at, 0), (count, 1)))
    return joined(columns, 1)


def positions(mask: Node, count: int, fill: int = -1) -> Node:
    """The flat positions of the first ``count`` true elements, in order; ``fill`` where there are fewer."""
    flat = graph.reshape(mask, (mask.size,))
    if not count or not mask.size:
        return graph.full(fill, (count,), dtypes.int64)
    from ..kernels.library.selecting import parts_of

    parts = parts_of(mask.size)
    counts = graph.call("selecting.counts", (flat,), (parts,), dtypes.int64, parts)
    return graph.call("selecting.positions", (flat, counts), (count,), dtypes.int64, count, fill)


# -- turning ----------------------------------------------------------------------------------------


@op("fliplr", lies="input", kinds="buifc", acc=False, saves="", samples=s.calls(s.call(T(2, 3)), s.call(T(2, 3, 2)), s.call(T(0, 3))))
def fliplr(input: Node) -> Node:
    """Backwards along axis 1.  (torch.fliplr)"""
    if len(input.shape) < 2:
        raise ShapeError("Input must be >= 2-d.")
    return flipped(input, (1,))


@op("flipud", lies="input", kinds="buifc", acc=False, saves="", samples=s.calls(s.call(T(2, 3)), s.call(T(4)), s.call(T(0, 3))))
def flipud(input: Node) -> Node:
    """Backwards along axis 0.  (torch.flipud)"""
    if not input.shape:
        raise ShapeError("Input must be >= 1-d.")
    return flipped(input, (0,))


@op("rot90", kinds="buifc", acc=False, saves="", samples=s.calls(
    s.call(T(2, 3)), s.call(T(2, 3), -1), s.call(T(2, 3), 2), s.call(T(2, 3, 4), 5, (1, 2)), s.call(T(2, 3), 4),
    s.call(T(2, 3, 4), 1, (2, 0))))  # fmt: skip
def rot90(input: Node, k: int = 1, dims: Sequence[int] = (0, 1)) -> Node:
    """Turned ``k`` times by 90 degrees from the first of ``dims`` towards the second.  (torch.rot90)"""
    rank = len(input.shape)
    if len(dims) != 2:
        raise ShapeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if rank < 2:
        raise ShapeError(f"expected total dims >= 2, but got total dims = {rank}")
    a, b = (wrap_dim(d, rank) for d in dims)
    if a == b:
        raise ShapeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    turns = k % 4
    if turns == 2:
        return flipped(input, (a, b))
    order = list(range(rank))
    order[a], order[b] = b, a
    if turns == 1:
        return graph.permute(flipped(input, (b,)), tuple(order))
    return flipped(graph.permute(input, tuple(order)), (b,)) if turns == 3 else input


# -- diagonals --------------------------------------------------------------------------------------


@op("diag_embed", kinds="buifc", acc=False, saves="", samples=s.calls(
    s.call(T(3)), s.call(T(2, 3), 1), s.call(T(2, 3), -2), s.call(T(2, 3), 0, 0, 2), s.call(T(2, 3), 1, 1, 0),
    s.call(T(0))))  # fmt: skip
def diag_embed(input: Node, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Node:
    """The last axis as a diagonal of two new axes ``dim1`` and ``dim2``, 0 elsewhere.  (torch.diag_embed)"""
    if not input.shape:
        raise ShapeError("diag_embed() expects an input of at least one dimension")
    rank = len(input.shape) + 1
    a, b = wrap_dim(dim1, rank), wrap_dim(dim2, rank)
    if a == b:
        raise ShapeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    side = input.shape[-1] + abs(offset)
    rest = iter(input.shape[:-1])
    shape = tuple([side if i in (a, b) else next(rest) for i in range(rank)])
    return graph.set_diagonal(graph.full(0, shape, input.dtype), input, offset, a, b)


@op("diag", kinds="buifc", out="exact", acc=False, saves="", samples=s.calls(
    s.call(T(3)), s.call(T(3), 1), s.call(T(3, 4)), s.call(T(3, 4), -1), s.call(T(3, 3), 2)))  # fmt: skip
def diag(input: Node, diagonal: int = 0) -> Node:
    """A vector as a diagonal matrix, or the diagonal of a matrix.  (torch.diag)"""
    if len(input.shape) == 1:
        return diag_embed.body(input, diagonal)  # type: ignore[no-any-return]
    if len(input.shape) != 2:
        raise ShapeError(f"diag(): Supports 1D or 2D tensors. Got {len(input.shape)}D")
    return graph.copy(graph.diagonal(input, diagonal, 0, 1))


@op("diagflat", kinds="buifc", acc=False, saves="", samples=s.calls(s.call(T(2, 2)), s.call(T(3), 1), s.call(T())))
def diagflat(input: Node, offset: int = 0) -> Node:
    """All elements as one diagonal of a matrix.  (torch.diagflat)"""
    return diag_embed.body(graph.reshape(input, (input.size,)), offset)  # type: ignore[no-any-return]


# -- a part replaced --------------------------------------------------------------------------------


def _replaced(input: Node, steps: Steps, src: Node, name: str) -> Node:
    """``input`` with ``src`` in the place of the view at ``steps``."""
    part = apply_steps(input, steps)
    if part.shape != src.shape:
        raise ShapeError(
            f"expected src to have a size equal to the {name} of self. src size = {list(src.shape)}, {name} size = {list(part.shape)}"
        )
    return write_through(input, steps, cast(src, input.dtype))


@op("select_scatter", lies="input", kinds="buifc", acc=False, saves="", samples=s.calls(
    s.call(T(3, 4), T(4), 0, 1), s.call(T(3, 4), T(3), -1, -2), s.call(T(3), T(), 0, 2)))  # fmt: skip
def select_scatter(input: Node, src: Node, dim: int, index: int) -> Node:
    """``input`` with ``src`` at position ``index`` of ``dim``.  (torch.select_scatter)"""
    return _replaced(input, select(input.shape, dim, index), src, "slice")


@op("slice_scatter", lies="input", kinds="buifc", out="exact", acc=False, saves="", samples=s.calls(
    s.call(T(5, 3), T(2, 3), 0, 1, 3), s.call(T(5, 3), T(5, 2), 1, 0, None, 2), s.call(T(4), T(4)),
    s.call(T(5), T(2), 0, -2)))  # fmt: skip
def slice_scatter(
    input: Node, src: Node, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Node:
    """``input`` with ``src`` in ``start:end:step`` of ``dim``.  (torch.slice_scatter)"""
    return _replaced(input, slice_steps(input.shape, dim, start, end, step), src, "slice")


@op("diagonal_scatter", lies="input", kinds="buifc", acc=False, saves="", samples=s.calls(
    s.call(T(3, 4), T(3)), s.call(T(3, 4), T(3), 1), s.call(T(2, 3, 3), T(3, 2), -1, 1, 2),
    s.call(T(3, 3), T(3), 0, 1, 0)))  # fmt: skip
def diagonal_scatter(input: Node, src: Node, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Node:
    """``input`` with ``src`` on a diagonal.  (torch.diagonal_scatter)"""
    return _replaced(input, diagonal(input.shape, offset, dim1, dim2), src, "diagonal")


@op("as_strided_scatter", kinds="buifc", acc=False, saves="", samples=s.calls(
    s.call(T(12), T(3, 2), (3, 2), (4, 1)), s.call(T(3, 4), T(2, 2), (2, 2), (5, 2), 1)))  # fmt: skip
def as_strided_scatter(
    input: Node, src: Node, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Node:
    """``input`` (as row-major memory) with ``src`` where sizes, strides and offset lead.  (torch.as_strided_scatter)"""
    steps = as_strided_steps(input.size, tuple(size), tuple(stride), storage_offset or 0)
    return _replaced(input, steps, src, "strided view")


# -- from coordinates -------------------------------------------------------------------------------


@op("vander", acc=False, kinds="buifc", samples=s.calls(s.call(T(4)), s.call(T(3), 5), s.call(T(3), 2, True),
    s.call(T(0)), s.call(T(3), 0)))  # fmt: skip
def vander(x: Node, N: int | None = None, increasing: bool = False) -> Node:
    """Powers of each element as a row, falling unless ``increasing``.  (torch.vander)"""
    if len(x.shape) != 1:
        raise ShapeError("x must be a one-dimensional tensor.")
    count = x.size if N is None else N
    if count < 0:
        raise ShapeError("N must be non-negative.")
    if x.dtype.category < dtypes.FLOAT:
        x = cast(x, dtypes.int64)
    columns = [graph.full(1, x.shape, x.dtype)]
    for _ in range(count - 1):
        columns.append(columns[-1] * x)
    if not count:
        return graph.full(0, (x.size, 0), x.dtype)
    ordered = columns if increasing else columns[::-1]
    return joined([graph.reshape(c, (x.size, 1)) for c in ordered], 1)


def _triangle_indices(rows: int, cols: int, offset: int, lower: bool) -> Node:
    if rows < 0 or cols < 0:
        raise ShapeError(f"{'row' if rows < 0 else 'col'} must be non-negative, got {min(rows, cols)}")
    row, col = graph.iota((rows, cols), 0), graph.iota((rows, cols), 1)
    inside = [min(max(r + offset + 1, 0), cols) for r in range(rows)]
    count = sum(inside if lower else [cols - min(max(r + offset, 0), cols) for r in range(rows)])
    place = positions(lang.le(col, row + offset) if lower else lang.le(row + offset, col), count)
    parts = [lang.row("IDIV", place, max(cols, 1)), lang.row("REM", place, max(cols, 1))]
    return joined([graph.reshape(p, (1, count)) for p in parts], 0)


def _integers(record: Op, dtype: dtypes.DType) -> dtypes.DType:
    if dtype not in (dtypes.int64, dtypes.int32):
        raise_dtype(record, dtype)
    return dtype


_TRIANGLES = s.calls(s.call(3, 4), s.call(3, 4, 1), s.call(4, 2, -1), s.call(0, 3), s.call(3, 3, -5), s.call(2, 3, 9))


@op("tril_indices", where=(), differentiable=False, samples=_TRIANGLES)
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: dtypes.DType = dtypes.int64) -> Node:
    """Rows and columns of the elements on and below a diagonal, 2 x n.  (torch.tril_indices)"""
    return cast(_triangle_indices(row, col, offset, True), _integers(tril_indices, dtype))


@op("triu_indices", where=(), differentiable=False, samples=_TRIANGLES)
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: dtypes.DType = dtypes.int64) -> Node:
    """Rows and columns of the elements on and above a diagonal, 2 x n.  (torch.triu_indices)"""
    return cast(_triangle_indices(row, col, offset, False), _integers(triu_indices, dtype))


def _quotient(at: Node, by: int, below: int) -> Node:
    """``at / by`` for positions from -1 to ``below``, by floats, whose division is faster, where they hold every position."""
    if below > 1 << 50:
        return lang.row("IDIV", at, by)
    return cast(lang.trunc((cast(at, dtypes.float64) + 0.5) / float(by)), dtypes.int64)


@op("nonzero_static", kinds="buifc", acc=False, differentiable=False, samples=s.calls(
    s.call(T(2, 3), size=4), s.call(T(5, fill="mask"), size=2), s.call(T(2, 2, 3, fill="mask"), size=9, fill_value=7),
    s.call(T(), size=1), s.call(T(0, 3), size=2), s.call(T(3), size=0)))  # fmt: skip
def nonzero_static(input: Node, *, size: int, fill_value: int = -1) -> Node:
    """Positions of the first ``size`` elements that are not 0, one row each; ``fill_value`` where there are fewer.
    (torch.nonzero_static)"""
    if size < 0:
        raise ShapeError("nonzero_static: 'size' must be an non-negative integer")
    if not input.shape:
        return graph.full(0, (size, 0), dtypes.int64)
    place = positions(lang.ne(input, 0) if input.dtype is not dtypes.bool_ else input, size)
    missing = lang.lt(place, 0)
    columns, stride, rest = [], input.size, place
    for n in input.shape:
        stride //= max(n, 1)
        at = rest if stride <= 1 else _quotient(rest, stride, input.size)
        rest = graph.full(0, rest.shape, rest.dtype) if stride <= 1 else rest - at * stride
        columns.append(graph.reshape(lang.where(missing, fill_value, at), (size, 1)))
    return joined(columns, 1)


@op("sum_to_size", kinds="buifc", acc=False, saves="", where=("Tensor",), samples=s.calls(
    s.call(T(2, 3), 1, 3), s.call(T(2, 3, 4), (3, 1)), s.call(T(2, 3), ()), s.call(T(2, 3), 2, 3)))  # fmt: skip
def sum_to_size(input: Node, *size: Any) -> Node:
    """Summed over the axes that broadcasting from ``size`` would have made.  (torch.Tensor.sum_to_size)"""
    wanted = sizes_of(size)
    try:
        fits = lang.shapes_broadcast([wanted, input.shape]) == input.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"size {{{list(input.shape)}}} is not expandable to size {{{list(wanted)}}}.")
    if (wanted != input.shape or not wanted) and input.dtype.category < dtypes.FLOAT:
        input = cast(input, dtypes.int64)
    return lang.unbroadcast(input, wanted)


@op("fill_diagonal", acc=False, where=(), inplace=True, saves="", samples=s.calls(
    s.call(T(3, 3), 2.0), s.call(T(5, 2), 1.0), s.call(T(7, 2), 1.0, wrap=True), s.call(T(3, 3, 3), 4.0)))  # fmt: skip
def fill_diagonal(input: Node, fill_value: Any, wrap: bool = False) -> Node:
    """``input`` with a number on its main diagonal; with ``wrap`` tall matrices begin anew after each square.
    (torch.Tensor.fill_diagonal_)"""
    rank = len(input.shape)
    if rank < 2:
        raise ShapeError("dimensions must larger than 1")
    if rank > 2 and len(set(input.shape)) > 1:
        raise ShapeError("all dimensions of input must be of equal length")
    step = sum([math.prod(input.shape[a + 1 :]) for a in range(rank)])
    end = input.size if rank > 2 or wrap else min(input.size, input.shape[1] * input.shape[1])
    at = graph.iota((input.size,), 0)
    on = lang.eq(lang.row("REM", at, max(step, 1)), 0) & lang.lt(at, end)
    flat = graph.reshape(input, (input.size,))
    return graph.reshape(lang.row("WHERE", on, filling(fill_value, flat), flat), input.shape)
