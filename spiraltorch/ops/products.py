"""More products of vectors and matrices: torch's names for what :mod:`.matmul` does; traces.

In: nodes of one type.  Out: a node.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> a, b = graph.param(0, (2, 3), dtypes.float32), graph.param(1, (4, 5), dtypes.float32)
    >>> OPS["kron"].apply([a, b], {}).shape
    (8, 15)
"""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..errors import ShapeError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .matmul import contract, of_ranks, product, same_type, scaled_sum
from .registry import op, raise_dtype

T = s.T
ANY = "buifc"


@op("addmv", out="exact", kinds=ANY, saves=("mat", "vec"), acc=False, inplace=True, samples=s.calls(
    s.call(T(2), T(2, 3), T(3)), s.call(T(), T(2, 3), T(3), beta=2, alpha=3), s.call(T(2), T(2, 3), T(3), beta=0)))  # fmt: skip
def addmv(input: Node, mat: Node, vec: Node, *, beta: Any = 1, alpha: Any = 1) -> Node:
    """``beta * input + alpha * (mat @ vec)``; with ``beta`` 0 ``input`` is ignored.  (torch.addmv)"""
    of_ranks("addmv", "21", mat, vec)
    same_type("addmv", mat, input)
    return scaled_sum(input, product(mat, vec), beta, alpha)


@op("addbmm", out="exact", kinds=ANY, saves=("batch1", "batch2"), acc=False, inplace=True, samples=s.calls(
    s.call(T(2, 4), T(5, 2, 3), T(5, 3, 4)), s.call(T(4), T(5, 2, 3), T(5, 3, 4), beta=2, alpha=3)))  # fmt: skip
def addbmm(input: Node, batch1: Node, batch2: Node, *, beta: Any = 1, alpha: Any = 1) -> Node:
    """``beta * input + alpha * sum(batch1[i] @ batch2[i])``.  (torch.addbmm)"""
    of_ranks("addbmm", "33", batch1, batch2)
    same_type("addbmm", batch1, input)
    if batch1.shape[0] != batch2.shape[0] or batch1.shape[2] != batch2.shape[1]:
        raise ShapeError(
            f"batch1 and batch2 must fit each other, but they have shapes {list(batch1.shape)} and {list(batch2.shape)}"
        )
    total = graph.dot(batch1, batch2, contract_a=(0, 2), contract_b=(0, 1))
    return scaled_sum(input, total, beta, alpha)


@op("addr", lies="input", pointwise=False, kinds=ANY, operands=3, promote="arith", acc=False, inplace=True, samples=s.calls(
    s.call(T(2, 3), T(2), T(3)), s.call(T(3), T(2), T(3), beta=2, alpha=3), s.call(T(2, 3), T(2), T(3), beta=0)))  # fmt: skip
def addr(input: Node, vec1: Node, vec2: Node, *, beta: Any = 1, alpha: Any = 1) -> Node:
    """``beta * input + alpha * outer(vec1, vec2)``; with ``beta`` 0 ``input`` is ignored.  (torch.addr)"""
    if len(vec1.shape) != 1 or len(vec2.shape) != 1:
        raise ShapeError(f"addr: Expected 1-D argument vec1 and vec2, but got {len(vec1.shape)}-D and {len(vec2.shape)}-D")
    column = graph.reshape(vec1, (vec1.size, 1))
    if input.dtype is dtypes.bool_:
        both = column & vec2 if alpha else graph.full(False, (vec1.size, vec2.size), dtypes.bool_)
        return (input if beta else graph.full(False, (), dtypes.bool_)) | both
    return scaled_sum(input, lang.row("MUL", column, vec2), beta, alpha)


@op("vdot", out="exact", kinds=ANY, acc=False, samples=s.calls(s.call(T(3), T(3)), s.call(T(0), T(0)), s.call(
    T(3, dtype=dtypes.complex64), T(3, dtype=dtypes.complex64))))  # fmt: skip
def vdot(input: Node, other: Node) -> Node:
    """Sum of ``conj(input) * other`` of two vectors.  (torch.vdot)"""
    of_ranks("vdot", "11", input, other)
    return product(lang.conj(input), other)


@op("inner", out="exact", kinds=ANY, acc=False, samples=s.calls(
    s.call(T(3), T(3)), s.call(T(2, 3), T(4, 3)), s.call(T(2, 3), T()), s.call(T(2, 5, 3), T(3))))  # fmt: skip
def inner(input: Node, other: Node) -> Node:
    """Products summed over the last axis of both, all pairs of the others; a number multiplies.  (torch.inner)"""
    if not input.shape or not other.shape:
        return lang.row("MUL", input, other)
    same_type("inner", input, other)
    if input.shape[-1] != other.shape[-1]:
        raise ShapeError(
            "inner() the last dimension must match on both input tensors but got shapes "
            f"{list(input.shape)} and {list(other.shape)}"
        )
    left = [*range(len(input.shape) - 1)]
    right = [*range(len(left), len(left) + len(other.shape) - 1)]
    return contract(input, [*left, "k"], other, [*right, "k"], left + right)


@op("kron", pointwise=False, kinds=ANY, operands=2, promote="arith", acc=False, samples=s.calls(
    s.call(T(2, 3), T(4, 5)), s.call(T(3), T(2, 2)), s.call(T(), T(2)), s.call(T(0, 2), T(3, 2))))  # fmt: skip
def kron(input: Node, other: Node) -> Node:
    """Each element of ``input`` times the whole of ``other``, side by side.  (torch.kron)"""
    rank = max(len(input.shape), len(other.shape))
    a, b = ((1,) * (rank - len(x.shape)) + x.shape for x in (input, other))
    left = graph.reshape(input, tuple([n for k in a for n in (k, 1)]))
    right = graph.reshape(other, tuple([n for k in b for n in (1, k)]))
    both = left & right if input.dtype is dtypes.bool_ else lang.row("MUL", left, right)
    return graph.reshape(both, tuple([m * n for m, n in zip(a, b)]))


@op("bilinear", kinds=ANY, acc=False, where=("", "nn.functional"), tolerance=1e-4, samples=s.calls(
    s.call(T(4, 3), T(4, 2), T(5, 3, 2), T(5)), s.call(T(2, 4, 3), T(2, 4, 1), T(2, 3, 1)), s.call(T(3), T(2), T(4, 3, 2), T(4)),
    s.call(T(0, 3), T(0, 2), T(5, 3, 2))))  # fmt: skip
def bilinear(input1: Node, input2: Node, weight: Node, bias: Node | None = None) -> Node:
    """``out[.., o] = sum(input1[.., i] * weight[o, i, j] * input2[.., j]) + bias[o]``.  (torch.nn.functional.bilinear)"""
    if len(input1.shape) != len(input2.shape):
        raise ShapeError(
            f"bilinear(): input dimensions do not match: got {len(input1.shape)} and {len(input2.shape)}"
        )
    if input1.shape[:-1] != input2.shape[:-1]:
        raise ShapeError(f"bilinear(): input batch dimensions do not match: got {list(input1.shape)} and {list(input2.shape)}")
    of_ranks("bilinear", "3", weight)
    if weight.shape[1:] != (input1.shape[-1], input2.shape[-1]):
        raise ShapeError(
            f"bilinear(): input sizes do not match weight: got {input1.shape[-1]} and {input2.shape[-1]} for a weight of "
            f"shape {list(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"bilinear(): bias size does not match weight: got {list(bias.shape)} for {weight.shape[0]} outputs")
    for other in (input2, weight, bias):
        if other is not None:
            same_type("bilinear", input1, other)
    wide = input1.dtype.acc
    left, right, w = (cast(x, wide) for x in (input1, input2, weight))
    found = graph.dot(left, w, contract_a=(len(left.shape) - 1,), contract_b=(1,))
    found = lang.fold("add", found * graph.reshape(right, (*right.shape[:-1], 1, right.shape[-1])), -1)
    return cast(found if bias is None else found + cast(bias, wide), input1.dtype)


@op("trace", kinds="uifc", acc=False, samples=s.calls(s.call(T(3, 3)), s.call(T(2, 4)), s.call(T(0, 3)), s.call(T(1, 1))))
def trace(input: Node) -> Node:
    """The sum of a matrix' diagonal; integers sum in int64.  (torch.trace)"""
    if len(input.shape) != 2:
        raise ShapeError(f"trace: expected a matrix, but got tensor with dim {len(input.shape)}")
    if input.dtype is dtypes.bool_:
        raise_dtype(trace, input.dtype)
    x = cast(input, dtypes.int64 if input.dtype.kind in "ui" else input.dtype.acc)
    total = lang.fold("add", graph.diagonal(x, 0, 0, 1), 0)
    return cast(total, input.dtype) if input.dtype.kind in "fc" else total


__all__: list[str] = []
