"""Norms of vectors and matrices, condition numbers, and products with names of their own (torch.linalg).

In: nodes, float or complex.  Out: nodes; norms are real.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .linalg import svdvals
from .matmul import contract
from .matrices import KINDS, column, matrices, mm, row
from .parts import diagonal
from .reduce import norm as sized
from .reduce import norm_type
from .registry import of_one_type, op, wrap_dim
from .view import view_op

T = s.T
INF = float("inf")
Dims = int | Sequence[int] | None


def _vector_norm_grad(g: Node, out: Node, x: Node, ord: Any = 2, dim: Dims = None, keepdim: bool = False, *,
                      dtype: DType | None = None) -> Any:  # fmt: skip
    assert sized.grad is not None
    return sized.grad(g, out, x, ord, dim, keepdim, dtype=dtype)


@op("linalg_vector_norm", out="exact", kinds=KINDS, acc=False, saves="io", where=(), aliases=("linalg.vector_norm",),
    torch_name="linalg.vector_norm", grad=_vector_norm_grad, samples=s.calls(
    s.call(T(2, 3)), s.call(T(2, 3), 1, 1), s.call(T(2, 3), INF, (0, 1), True), s.call(T(4), 0), s.call(T(2, 3), 2.5)))  # fmt: skip
def vector_norm(x: Node, ord: Any = 2, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Node:
    """``sum(|x| ** ord) ** (1 / ord)`` over ``dim`` (None: all); inf is the largest size, -inf the smallest, 0 the count
    of non-zeros.  (torch.linalg.vector_norm)"""
    return sized.body(x, ord, dim, keepdim, dtype=dtype)


def _two_dims(dim: Sequence[int], rank: int) -> tuple[int, int]:
    if len(dim) != 2:
        raise ShapeError(f"linalg.matrix_norm: dim must be a 2-tuple of ints. Got {dim}")
    a, b = (wrap_dim(d, rank) for d in dim)
    if a == b:
        raise ShapeError(f"linalg.matrix_norm: dims must be different. Got ({a}, {b})")
    return a, b


def _values_of(x: Node, a: int, b: int) -> Node:
    order = (*[i for i in range(len(x.shape)) if i not in (a, b)], a, b)
    return svdvals.body(graph.permute(x, order))


def _matrix_norm(x: Node, ord: Any, dim: Sequence[int], keepdim: bool, dtype: DType | None) -> Node:
    norm_type("linalg.matrix_norm", x, dtype)
    if x.dtype.itemsize == 2 and ord not in ("nuc", 2, -2):  # sums need no LAPACK
        wide = _matrix_norm(cast(x, dtype or dtypes.float32), ord, dim, keepdim, None)
        return cast(wide, dtype or x.dtype)
    matrices("linalg.matrix_norm", x)
    a, b = _two_dims(dim, len(x.shape))
    x = cast(x, dtype or x.dtype)
    if ord == "fro":
        return sized.body(x, 2, (a, b), keepdim)
    if ord in ("nuc", 2, -2):
        values = _values_of(x, a, b)
        found = lang.fold("add" if ord == "nuc" else "max" if ord == 2 else "min", values, -1)
        return graph.reshape(found, lang.kept_shape(x.shape, (a, b))) if keepdim else found
    if ord not in (1, -1, INF, -INF):
        raise SpiralError(f"linalg.matrix_norm: Order {ord} not supported.")
    if abs(ord) == INF:
        a, b = b, a
    sums = lang.fold("add", lang.absolute(x), a, keepdim=True)
    found = lang.fold("max" if ord > 0 else "min", sums, b, keepdim=True)
    shape = lang.kept_shape(x.shape, (a, b)) if keepdim else tuple([n for i, n in enumerate(x.shape) if i not in (a, b)])
    return graph.reshape(found, shape)


_MATRICES = s.calls(
    s.call(T(3, 4)), s.call(T(2, 3, 4), "nuc"), s.call(T(3, 3), 2), s.call(T(3, 3), -2), s.call(T(2, 3, 4), 1),
    s.call(T(3, 4), INF, (1, 0), True), s.call(T(3, 4), -1),
)  # fmt: skip


@op("linalg_matrix_norm", out="exact", kinds=KINDS, acc=False, where=(), aliases=("linalg.matrix_norm",), torch_name="linalg.matrix_norm",
    samples=_MATRICES)  # fmt: skip
def matrix_norm(
    A: Node, ord: Any = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False, *, dtype: DType | None = None
) -> Node:
    """'fro', 'nuc' (sum of singular values), 2, -2 (largest, smallest one), 1, -1, inf, -inf (sums over columns or rows).
    (torch.linalg.matrix_norm)"""
    return _matrix_norm(A, ord, dim, keepdim, dtype)


@op("linalg_norm", out="exact", kinds=KINDS, acc=False, where=(), aliases=("linalg.norm",), torch_name="linalg.norm",
    samples=s.more(_MATRICES, s.calls(
    s.call(T(2, 3, 4)), s.call(T(4), 3), s.call(T(2, 3), None, 1), s.call(T()), s.call(T(2, 3), 1, -1))))  # fmt: skip
def linalg_norm(
    A: Node, ord: Any = None, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Node:
    """A matrix norm for two axes and an ``ord``, else a vector norm.  (torch.linalg.norm)"""
    dims = None if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    rank = len(A.shape)
    if ord is None:
        return sized.body(A, 2, dims, keepdim, dtype=dtype)
    if dims is not None and len(dims) not in (1, 2):
        raise ShapeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims)}")
    if dims is None and rank not in (1, 2):
        raise ShapeError(f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {rank}D.")
    if len(dims or A.shape) == 2:
        return _matrix_norm(A, ord, dims or (0, 1), keepdim, dtype)
    if isinstance(ord, str):
        raise SpiralError(f"linalg.norm: Order {ord} of vectors is not defined")
    return sized.body(A, ord, dims, keepdim, dtype=dtype)


@op("linalg_cond", kinds=KINDS, acc=False, where=(), aliases=("linalg.cond",), torch_name="linalg.cond",
    samples=s.calls(s.call(T(3, 3, fill="definite")), s.call(T(2, 4, 3)), s.call(T(3, 3, fill="definite"), 1),
    s.call(T(3, 3, fill="definite"), "fro"), s.call(T(3, 3, fill="definite"), -2)))  # fmt: skip
def cond(A: Node, p: Any = None) -> Node:
    """|A| |A^-1| in norm ``p``; None is 2, by singular values.  (torch.linalg.cond)"""
    matrices("linalg.cond", A, square=p not in (None, 2, -2))
    if p in (None, 2, -2):
        values = svdvals.body(A)
        top, low = lang.fold("max", values, -1), lang.fold("min", values, -1)
        return low / top if p == -2 else top / low
    from .linalg_gradients import inverse as inverse_or_nan

    found = _matrix_norm(A, p, (-2, -1), False, None) * _matrix_norm(inverse_or_nan(A), p, (-2, -1), False, None)
    return lang.where(lang.isnan(found), INF, found)


# -- products -------------------------------------------------------------------------------------------


def _cross(a: Node, b: Node, axis: int) -> Node:
    def turned(x: Node, by: int) -> Node:
        from .rearrange import joined
        from .view import apply_steps

        parts = [((i + by) % 3, (i + by) % 3 + 1) for i in range(3)]
        ranges = [[(0, n, 1) if k != axis else (lo, hi, 1) for k, n in enumerate(x.shape)] for lo, hi in parts]
        return joined([apply_steps(x, [("SLICE", tuple(r))]) for r in ranges], axis)

    return turned(a, 1) * turned(b, 2) - turned(a, 2) * turned(b, 1)


def _vectors(name: str, a: Node, b: Node, dim: int | None) -> tuple[Node, Node, int]:
    if len(a.shape) != len(b.shape):
        raise ShapeError(f"{name}: inputs must have the same number of dimensions.")
    shape = lang.shapes_broadcast([a.shape, b.shape])
    if dim is None:
        dim = next((i for i, n in enumerate(a.shape) if n == 3), -1)
        if dim < 0:
            raise ShapeError("no dimension of size 3 in input")
    axis = wrap_dim(dim, len(shape))
    if a.shape[axis] != 3 or b.shape[axis] != 3:
        raise ShapeError(
            f"{name}: inputs dimension {dim} must have length 3. Got {a.shape[axis]} and {b.shape[axis]}"
        )
    return graph.broadcast(a, shape), graph.broadcast(b, shape), axis


@op("cross", pointwise=False, out="exact", refuses=of_one_type, operands=2, promote="arith", kinds="uifc", samples=s.calls(
    s.call(T(3), T(3)), s.call(T(2, 3), T(2, 3), 1), s.call(T(3, 2), T(3, 2)), s.call(T(2, 3), T(1, 3), dim=-1)))  # fmt: skip
def cross(input: Node, other: Node, dim: int | None = None) -> Node:
    """The vector product along ``dim`` of size 3 (None: the first such axis).  (torch.cross)"""
    a, b, axis = _vectors("linalg.cross", input, other, dim)
    return _cross(a, b, axis)


@op("linalg_cross", out="exact", refuses=of_one_type, operands=2, promote="arith", kinds="uifc", where=(), aliases=("linalg.cross",),
    torch_name="linalg.cross",
    pointwise=False, samples=s.calls(s.call(T(3), T(3)), s.call(T(2, 3), T(2, 3)), s.call(T(3, 2), T(3, 1), dim=0)))  # fmt: skip
def linalg_cross(input: Node, other: Node, *, dim: int = -1) -> Node:
    """The vector product along ``dim`` of size 3.  (torch.linalg.cross)"""
    a, b, axis = _vectors("linalg.cross", input, other, dim)
    return _cross(a, b, axis)


@op("linalg_vecdot", out="exact", kinds=KINDS, acc=False, where=(), aliases=("linalg.vecdot",), torch_name="linalg.vecdot",
    samples=s.calls(s.call(T(2, 3), T(2, 3)), s.call(T(2, 3), T(3)), s.call(T(2, 3), T(2, 3), dim=0)))  # fmt: skip
def vecdot(x: Node, y: Node, *, dim: int = -1) -> Node:
    """``sum(conj(x) * y)`` along ``dim``, broadcast.  (torch.linalg.vecdot)"""
    if x.dtype.category < 2:
        raise SpiralError(f"linalg.vecdot: Expected a floating point or complex tensor as input. Got {x.dtype.name}")
    if x.dtype is not y.dtype:
        raise SpiralError(
            f"linalg.vecdot: Expected x and y to have the same dtype, but found x of type {x.dtype.name} and y of type "
            f"{y.dtype.name} instead"
        )
    shape = lang.shapes_broadcast([x.shape, y.shape])
    x, y = graph.broadcast(lang.conj(x), shape), graph.broadcast(y, shape)
    axis = wrap_dim(dim, len(shape))
    if not shape:
        return x * y
    labels = range(len(shape))
    return contract(x, labels, y, labels, [i for i in labels if i != axis])


def _best_split(sizes: Sequence[int]) -> Any:
    """Where to cut a chain of products so that they cost the least (matrix chain multiplication)."""

    @functools.cache
    def cost(i: int, j: int) -> tuple[int, int]:
        if i == j:
            return 0, i
        return min((cost(i, k)[0] + cost(k + 1, j)[0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j))

    return cost


def chained(name: str, tensors: Sequence[Node]) -> Node:
    """The product of a chain, in the cheapest order."""
    if len(tensors) < 2:
        raise ShapeError(f"{name}(): expected at least 2 tensors but got {len(tensors)}")
    mats = list(tensors)
    first, last = len(mats[0].shape) == 1, len(mats[-1].shape) == 1
    if first:
        mats[0] = row(mats[0])
    if last:
        mats[-1] = column(mats[-1])
    for i, m in enumerate(mats):
        if len(m.shape) != 2:
            raise ShapeError(f"{name}(): tensor {i} must be 2D but got {len(m.shape)}D")
        if m.dtype is not mats[0].dtype:
            raise SpiralError(f"{name}(): all tensors must have be the same dtype but tensor {i} is {m.dtype.name}")
    for a, b in zip(mats, mats[1:]):
        if a.shape[1] != b.shape[0]:
            raise ShapeError(f"{name}(): tensors of shapes {list(a.shape)} and {list(b.shape)} cannot be multiplied")
    cost = _best_split([m.shape[0] for m in mats] + [mats[-1].shape[1]])

    def product_of(i: int, j: int) -> Node:
        if i == j:
            return mats[i]
        k = cost(i, j)[1]
        return mm(product_of(i, k), product_of(k + 1, j))

    out = product_of(0, len(mats) - 1)
    return graph.reshape(out, tuple([n for n, gone in zip(out.shape, (first, last)) if not gone]))


@op("linalg_multi_dot", kinds=KINDS, acc=False, where=(), aliases=("linalg.multi_dot",), torch_name="linalg.multi_dot",
    samples=s.calls(s.call([T(2, 3), T(3, 4), T(4, 2)]), s.call([T(3), T(3, 4), T(4)]), s.call([T(2, 3), T(3)])))  # fmt: skip
def multi_dot(tensors: Sequence[Node]) -> Node:
    """The product of a chain of matrices (the first and the last may be vectors) in the cheapest order.
    (torch.linalg.multi_dot)"""
    return chained("multi_dot", tensors)


@op("chain_matmul", kinds=KINDS, acc=False, where=("",), samples=s.calls(s.call(T(2, 3), T(3, 4), T(4, 2)), s.call(T(2, 3))))
def chain_matmul(*matrices: Node) -> Node:
    """The product of a chain of matrices in the cheapest order.  (torch.chain_matmul)"""
    return matrices[0] if len(matrices) == 1 else chained("chain_matmul", matrices)


@op("linalg_vander", kinds=KINDS, acc=False, where=(), aliases=("linalg.vander",), torch_name="linalg.vander",
    samples=s.calls(s.call(T(4)), s.call(T(2, 3), N=4), s.call(T(3), N=2)))  # fmt: skip
def vander(x: Node, *, N: int | None = None) -> Node:
    """Rising powers 0 .. N - 1 (N: the size) of each element, along a new last axis.  (torch.linalg.vander)"""
    from .rearrange import joined

    if not x.shape:
        x = graph.reshape(x, (1,))
    if x.dtype is dtypes.bool_ or x.dtype.kind == "f" and x.dtype.itemsize == 2:
        raise SpiralError(f"linalg.vander supports floating point, complex, and integer tensors, but got {x.dtype.name}")
    if N is not None and N <= 1:
        raise SpiralError(f"N must be greater than 1, not {N}")
    if x.dtype.category < dtypes.FLOAT:
        x = cast(x, dtypes.int64)
    power, powers = graph.full(1, x.shape, x.dtype), []
    for _ in range(x.shape[-1] if N is None else N):
        powers.append(column(power))
        power = lang.row("MUL", power, x)
    return joined(powers, len(x.shape))


@view_op("linalg_diagonal", s.calls(s.call(T(3, 4)), s.call(T(2, 3, 4)), s.call(T(2, 3, 4), offset=1, dim1=0, dim2=1)),
    where=(), aliases=("linalg.diagonal",), torch_name="linalg.diagonal")  # fmt: skip
def linalg_diagonal(shape: tuple[int, ...], *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The diagonals of matrices, as a new last axis; the same memory.  (torch.linalg.diagonal)"""
    return diagonal(shape, offset, dim1, dim2)


__all__ = ["chained"]
