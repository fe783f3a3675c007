"""The notation of linear algebra on nodes: products, transposes, triangles, diagonals and packed results.

Matrices are the last two axes, batches stand in front.  ``calls`` makes the CALL of a routine whose results are packed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..errors import DtypeError, ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, Shape, cast
from .matmul import product

KINDS = "buifc"


def t(a: Node) -> Node:
    """The last two axes exchanged."""
    r = len(a.shape)
    return graph.permute(a, (*range(r - 2), r - 1, r - 2))


def h(a: Node) -> Node:
    """The conjugate transpose."""
    return lang.conj(t(a))


def mm(a: Node, *others: Node) -> Node:
    for b in others:
        a = product(a, b)
    return a


def column(v: Node) -> Node:
    return graph.reshape(v, (*v.shape, 1))


def row(v: Node) -> Node:
    return graph.reshape(v, (*v.shape[:-1], 1, v.shape[-1]))


def _place(a: Node) -> tuple[Node, Node]:
    r = len(a.shape)
    return graph.iota(a.shape, r - 2), graph.iota(a.shape, r - 1)


def tril(a: Node, k: int = 0) -> Node:
    """On and below diagonal ``k``; 0 elsewhere."""
    i, j = _place(a)
    return lang.where(lang.le(j, i + k), a, 0)


def triu(a: Node, k: int = 0) -> Node:
    i, j = _place(a)
    return lang.where(lang.le(i + k, j), a, 0)


def eye(shape: Shape, dtype: DType) -> Node:
    """Ones on the diagonal of matrices of ``shape``."""
    r = len(shape)
    return cast(lang.eq(graph.iota(shape, r - 2), graph.iota(shape, r - 1)), dtype)


def diagonal(a: Node) -> Node:
    r = len(a.shape)
    return graph.diagonal(a, 0, r - 2, r - 1)


def with_diagonal(a: Node, v: Node) -> Node:
    r = len(a.shape)
    return graph.set_diagonal(a, v, 0, r - 2, r - 1)


def embed(v: Node) -> Node:
    """Diagonal matrices."""
    return with_diagonal(graph.full(0, (*v.shape, v.shape[-1]), v.dtype), v)


def cut(a: Node, rows: tuple[int, int] | None = None, cols: tuple[int, int] | None = None) -> Node:
    """Some rows and columns of each matrix."""
    m, n = a.shape[-2:]
    front = [(0, s, 1) for s in a.shape[:-2]]
    return graph.slice_(a, (*front, (*(rows or (0, m)), 1), (*(cols or (0, n)), 1)))


def unpack(packed: Node, *shapes: Shape) -> list[Node]:
    """The results of a packed routine, each of the batch and one of ``shapes``."""
    batch = packed.shape[:-1]
    out, at = [], 0
    for s in shapes:
        size = math.prod(s)
        part = graph.slice_(packed, (*[(0, k, 1) for k in batch], (at, at + size, 1)))
        out.append(graph.reshape(part, (*batch, *s)))
        at += size
    return out


def pack(parts: Sequence[Node], batch: Shape) -> Node:
    """The inverse of :func:`unpack`."""
    from .rearrange import joined

    return joined([graph.reshape(p, (*batch, p.size // max(1, math.prod(batch)))) for p in parts], len(batch))


def call_packed(
    name: str, a: Node, shapes: Sequence[Shape], *static: Any, others: Sequence[Node] = (), dtype: DType | None = None
) -> list[Node]:
    """The results of routine ``name`` on the matrices of ``a``."""
    batch = a.shape[:-2]
    size = sum([math.prod(s) for s in shapes])
    return unpack(graph.call(name, (a, *others), (*batch, size), dtype or a.dtype, *static), *shapes)


# -- refusals -----------------------------------------------------------------------------------------


def matrices(name: str, *operands: Node, square: bool = False, least: int = 2) -> None:
    """Raise RuntimeError for what is no batch of (square) matrices of a type that LAPACK knows."""
    for a in operands:
        if len(a.shape) < least:
            raise ShapeError(f"{name}: The input tensor A must have at least {least} dimensions, but its shape is {list(a.shape)}")
        if a.dtype.category < dtypes.FLOAT:
            raise DtypeError(f"{name}: Expected a floating point or complex tensor as input. Got {a.dtype.name}")
        if a.dtype.itemsize == 2:
            raise DtypeError(f"{name}: Low precision dtypes not supported. Got {a.dtype.name}; convert first, e.g. x.float()")
        if square and a.shape[-1] != a.shape[-2]:
            raise ShapeError(f"{name}: A must be batches of square matrices, but they are {a.shape[-2]} by {a.shape[-1]} matrices")


def same_type(name: str, a: Node, b: Node) -> None:
    if a.dtype is not b.dtype:
        raise SpiralError(
            f"{name}: Expected A and B to have the same dtype, but found A of type {a.dtype.name} and B of type {b.dtype.name} instead"
        )


def broadcast_batches(a: Node, b: Node) -> tuple[Node, Node]:
    """Both with their common batch.  Raises ShapeError where the batches do not broadcast."""
    try:
        batch = lang.shapes_broadcast([a.shape[:-2], b.shape[:-2]])
    except ValueError:
        raise ShapeError(
            f"The batch dimensions of {list(a.shape)} and {list(b.shape)} must broadcast: "
            f"{list(a.shape[:-2])} and {list(b.shape[:-2])} do not"
        ) from None
    return graph.broadcast(a, (*batch, *a.shape[-2:])), graph.broadcast(b, (*batch, *b.shape[-2:]))
