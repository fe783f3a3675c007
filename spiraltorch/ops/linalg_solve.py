"""Solving with matrices: inverses, systems, least squares, powers and the exponential (torch.linalg).

In: nodes of matrices in their last two axes, batches in front, which broadcast.  Out: nodes.  LAPACK does the work as
CALLs of :mod:`spiraltorch.kernels.library.linalg`; everything around them is made of primitives.
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
from .linalg import definite, eigvalsh, info_of, order_of, square, svdvals, unpacked, whole
from .linalg_gradients import permutation
from .linalg_gradients import solve as solved
from .linalg_gradients import solve_triangular as back_substituted
from .matrices import KINDS, broadcast_batches, call_packed, column, eye, h, matrices, mm, same_type, t
from .registry import op

T = s.T


def paired(name: str, a: Node, b: Node) -> tuple[Node, Node]:
    """A and B of A X = B with one batch.  Raises RuntimeError where they do not fit."""
    matrices(name, a, b)
    same_type(name, a, b)
    if a.shape[-2] != b.shape[-2]:
        raise ShapeError(
            f"{name}: Incompatible shapes of A and B for the equation AX = B "
            f"({a.shape[-2]}x{a.shape[-1]} and {b.shape[-2]}x{b.shape[-1]})"
        )
    return broadcast_batches(a, b)


def _is_vector(a: Node, b: Node) -> bool:
    """torch's rule: B of A's batch and last axis is one vector a matrix."""
    return len(b.shape) == 1 or (len(a.shape) - 1 == len(b.shape) and b.shape == a.shape[:-1])


def _system(name: str, a: Node, b: Node, left: bool) -> tuple[Node, Node, bool]:
    """(A, B, whether B was a vector) as matrices, with the unknown on the right of A."""
    matrices(name, a, square=True)
    same_type(name, a, b)
    vector = _is_vector(a, b)
    if vector and not left:
        raise ShapeError(f"{name}: Vector broadcasting of the left hand side is not supported for left=False")
    if vector:
        b = column(b)
    if not left:
        a, b = t(a), t(b)
    a, b = paired(name, a, b)
    return a, b, vector


def _back(x: Node, vector: bool, left: bool) -> Node:
    if vector:
        return graph.reshape(x, x.shape[:-1])
    return x if left else t(x)


_SYSTEMS = s.calls(
    s.call(definite(), T(3, 2)), s.call(definite(), T(3)), s.call(definite(2), T(2, 3, 1)), s.call(definite(2), T(3, 2)),
    s.call(definite(), T(2, 3), left=False), s.call(T(0, 0), T(0, 2)), s.call(definite(), T(3, 0)),
)  # fmt: skip


@op("linalg_solve", lies="columns", out="exact", kinds=KINDS, acc=False, saves="io", where=(),
    aliases=("linalg.solve",), torch_name="linalg.solve",
    samples=_SYSTEMS)  # fmt: skip
def solve(A: Node, B: Node, *, left: bool = True) -> Node:
    """X of A X = B (of X A = B for ``left`` False); B is a matrix or a vector a matrix.  Raises LinAlgError, a
    RuntimeError, for singular A.  (torch.linalg.solve)"""
    a, b, vector = _system("linalg.solve", A, B, left)
    return _back(solved(a, b), vector, left)


@op("linalg_solve_ex", lies=("result",), kinds=KINDS, acc=False, where=(), aliases=("linalg.solve_ex",), torch_name="linalg.solve_ex",
    results=("result", "info"), samples=_SYSTEMS)  # fmt: skip
def solve_ex(A: Node, B: Node, *, left: bool = True, check_errors: bool = False) -> tuple[Node, Node]:
    """As solve, and which pivot is zero, or 0.  (torch.linalg.solve_ex)"""
    a, b, vector = _system("linalg.solve_ex", A, B, left)
    if not b.size:
        return solve.body(A, B, left=left), graph.full(0, a.shape[:-2], dtypes.int32)
    x, info = call_packed("linalg.solve_ex", a, [b.shape[-2:], (1,)], others=(b,))
    if check_errors:
        x = solved(a, b)
    return _back(x, vector, left), whole(info_of(info))


@op("linalg_solve_triangular", lies="columns", out="exact", kinds=KINDS, acc=False, saves="io", where=(),
    aliases=("linalg.solve_triangular",),
    torch_name="linalg.solve_triangular", samples=s.calls(
    s.call(definite(), T(3, 2), upper=True), s.call(definite(2), T(3, 1), upper=False),
    s.call(definite(), T(2, 3), upper=False, left=False),
    s.call(T(3, 3), T(3, 2), upper=True, unitriangular=True)))  # fmt: skip
def solve_triangular(A: Node, B: Node, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Node:
    """X of A X = B for triangular A; the other triangle (and with ``unitriangular`` the diagonal) is not read.
    (torch.linalg.solve_triangular)"""
    matrices("linalg.solve_triangular", A, square=True)
    if len(B.shape) < 2:
        raise ShapeError("linalg.solve_triangular: The input tensor B must have at least 2 dimensions.")
    if not left:
        return t(solve_triangular.body(t(A), t(B), upper=not upper, unitriangular=unitriangular))
    a, b = paired("linalg.solve_triangular", A, B)
    return back_substituted(a, b, upper, unitriangular)


@op("triangular_solve", lies=("solution", "cloned_coefficient"), kinds=KINDS, acc=False,
    results=("solution", "cloned_coefficient"), samples=s.calls(
    s.call(T(3, 2), definite()), s.call(T(3, 2), definite(), False, True)))  # fmt: skip
def triangular_solve(
    input: Node, A: Node, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Node, Node]:
    """X of A X = input for triangular A, and A.  (torch.triangular_solve)"""
    a, b = paired("triangular_solve", A, input)
    if transpose:
        return back_substituted(t(a), b, not upper, unitriangular), graph.copy(A)
    return back_substituted(a, b, upper, unitriangular), graph.copy(A)


def _lu_solved(name: str, lu: Node, pivots: Node, b: Node, left: bool, adjoint: bool) -> Node:
    matrices(name, lu, square=True)
    if pivots.dtype is not dtypes.int32:
        raise SpiralError(f"{name}: pivots should be a Tensor of scalar type torch.int32")
    if pivots.shape != lu.shape[:-1]:
        raise ShapeError(f"{name}: Number of pivots per batch should be same as the dimension of the matrix")
    if not left:
        return h(_lu_solved(name, lu, pivots, h(b), True, not adjoint))
    order = order_of(pivots, lu.shape[-1])
    p = permutation(order, lu.dtype)
    low, up = unpacked(lu)
    batch = lang.shapes_broadcast([lu.shape[:-2], b.shape[:-2]])
    p, low, up, b = (graph.broadcast(m, (*batch, *m.shape[-2:])) for m in (p, low, up, b))
    if adjoint:
        return mm(p, back_substituted(h(low), back_substituted(h(up), b, False), True, True))
    return back_substituted(up, back_substituted(low, mm(t(p), b), False, True), True)


@op("linalg_lu_solve", lies="columns", out="exact", kinds=KINDS, acc=False, where=(), aliases=("linalg.lu_solve",),
    torch_name="linalg.lu_solve",
    samples=s.calls(s.call(definite(), T(3, fill="ones", dtype=dtypes.int32), T(3, 2)),
    s.call(definite(2), T(2, 3, fill="ones", dtype=dtypes.int32), T(2, 2, 3), left=False),
    s.call(definite(), T(3, fill="ones", dtype=dtypes.int32), T(3, 2), adjoint=True)))  # fmt: skip
def lu_solve(LU: Node, pivots: Node, B: Node, *, left: bool = True, adjoint: bool = False) -> Node:
    """X of A X = B (or X A = B; of A^H with ``adjoint``), given what lu_factor made of A.  (torch.linalg.lu_solve)"""
    if len(B.shape) < 2:
        raise ShapeError("linalg.lu_solve: The input tensor B must have at least 2 dimensions.")
    return _lu_solved("linalg.lu_solve", LU, pivots, B, left, adjoint)


@op("lu_solve", lies="columns", out="exact", kinds=KINDS, acc=False, samples=s.calls(
    s.call(T(3, 2), definite(), T(3, fill="ones", dtype=dtypes.int32))))  # fmt: skip
def old_lu_solve(b: Node, LU_data: Node, LU_pivots: Node) -> Node:
    """X of A X = b, given what lu_factor made of A.  (torch.lu_solve)"""
    return _lu_solved("lu_solve", LU_data, LU_pivots, b, True, False)


# -- inverses -----------------------------------------------------------------------------------------

_SQUARE = s.calls(s.call(definite()), s.call(definite(2)), s.call(T(0, 3, 3)), s.call(T(0, 0)))


@op("inverse", lies="columns", out="exact", kinds=KINDS, acc=False, saves="io", aliases=("linalg.inv",), samples=_SQUARE)
def inverse(input: Node) -> Node:
    """The inverse of square matrices.  Raises LinAlgError, a RuntimeError, for singular ones.  (torch.linalg.inv)"""
    matrices("linalg.inv", input, square=True)
    return graph.call("linalg.inv", (input,), input.shape, input.dtype)


@op("linalg_inv_ex", lies=("inverse",), kinds=KINDS, acc=False, where=(), aliases=("linalg.inv_ex",), torch_name="linalg.inv_ex",
    results=("inverse", "info"), samples=_SQUARE)  # fmt: skip
def inv_ex(A: Node, *, check_errors: bool = False) -> tuple[Node, Node]:
    """As inv, and which pivot is zero, or 0.  (torch.linalg.inv_ex)"""
    matrices("linalg.inv_ex", A, square=True)
    if check_errors or not A.size:
        return inverse.body(A), graph.full(0, A.shape[:-2], dtypes.int32)
    out, info = call_packed("linalg.inv_ex", A, [A.shape[-2:], (1,)])
    return out, whole(info_of(info))


def cutoffs(a: Node, atol: Any, rtol: Any) -> Node:
    """(.., 2): what counts as zero of singular values, absolute and relative to the largest."""
    real, batch = a.dtype.to_real(), a.shape[:-2]

    def number(v: Any) -> Node:
        n = cast(v, real) if isinstance(v, Node) else graph.full(float(v), (), real)
        return graph.reshape(graph.broadcast(n, batch), (*batch, 1))

    from .rearrange import joined

    if rtol is None:
        eps = float(dtypes_eps(real)) * max(a.shape[-2:])
        if isinstance(atol, Node):
            rtol = lang.where(lang.lt(0, atol), lang.lift(0.0, cast(atol, real)), eps)
        else:
            rtol = eps if not atol else 0.0
    return joined([number(0.0 if atol is None else atol), number(rtol)], len(batch))


def dtypes_eps(d: dtypes.DType) -> float:
    import numpy as np

    return float(np.finfo(d.np).eps)


_PINV = s.calls(s.call(T(3, 3)), s.call(T(2, 4, 3)), s.call(T(3, 4)), s.call(T(0, 3)))


def _pinv(name: str, a: Node, atol: Any, rtol: Any, hermitian: bool) -> Node:
    matrices(name, a, square=hermitian)
    shape = (*a.shape[:-2], a.shape[-1], a.shape[-2])
    return graph.call("linalg.pinv", (a, cutoffs(a, atol, rtol)), shape, a.dtype, bool(hermitian))


@op("linalg_pinv", kinds=KINDS, acc=False, where=(), aliases=("linalg.pinv",), torch_name="linalg.pinv", saves="io",
    samples=s.more(_PINV, s.calls(s.call(definite(), hermitian=True), s.call(T(4, 3), rtol=1e-3))))  # fmt: skip
def pinv(A: Node, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Node:
    """The pseudoinverse, of singular values above max(atol, rtol * largest).  (torch.linalg.pinv)"""
    return _pinv("linalg.pinv", A, atol, rcond if rtol is None else rtol, hermitian)


@op("pinverse", kinds=KINDS, acc=False, saves="io", samples=_PINV)
def pinverse(input: Node, rcond: float = 1e-15) -> Node:
    """linalg.pinv with ``rtol`` rcond.  (torch.pinverse)"""
    return _pinv("pinverse", input, None, rcond, False)


@op("linalg_matrix_rank", kinds=KINDS, acc=False, where=(), aliases=("linalg.matrix_rank",), torch_name="linalg.matrix_rank",
    differentiable=False, samples=s.more(_PINV, s.calls(s.call(definite(), hermitian=True), s.call(T(4, 3), atol=1.0))))  # fmt: skip
def matrix_rank(A: Node, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Node:
    """How many singular values are above max(atol, rtol * largest), int64.  (torch.linalg.matrix_rank)"""
    matrices("linalg.matrix_rank", A, square=hermitian)
    if not A.shape[-1] or not A.shape[-2]:
        return graph.full(0, A.shape[:-2], dtypes.int64)
    limits = cutoffs(A, tol if tol is not None else atol, 0.0 if tol is not None else rtol)
    values = lang.absolute(eigvalsh.body(A)) if hermitian else svdvals.body(A)
    top = lang.fold("max", values, -1, keepdim=True)
    front = tuple([(0, k, 1) for k in A.shape[:-2]])
    absolute, relative = (graph.slice_(limits, (*front, (k, k + 1, 1))) for k in (0, 1))
    least = lang.maximum(absolute, relative * top)
    return lang.fold("add", cast(lang.lt(graph.expand(least, values.shape), values), dtypes.int64), -1)


# -- least squares --------------------------------------------------------------------------------------


@op("linalg_lstsq", lies=("solution",), kinds=KINDS, acc=False, where=(), aliases=("linalg.lstsq",), torch_name="linalg.lstsq",
    fixed=("rank", "singular_values"), results=("solution", "residuals", "rank", "singular_values"), samples=s.calls(
    s.call(T(4, 3), T(4, 2)), s.call(T(2, 3, 4), T(2, 3, 1)), s.call(T(4, 3), T(4, 2), driver="gelsd")))  # fmt: skip
def lstsq(A: Node, B: Node, rcond: float | None = None, *, driver: str | None = None) -> tuple[Node, Node, Node, Node]:
    """X with the least ``|A X - B|``, of the least size; the squared residuals (for full rank and m > n), the rank and
    the singular values where the driver finds them.  (torch.linalg.lstsq)"""
    driver = driver or "gelsy"
    if driver not in ("gels", "gelsy", "gelsd", "gelss"):
        raise SpiralError(f"torch.linalg.lstsq: parameter `driver` should be one of (gels, gelsy, gelsd, gelss), not {driver!r}")
    vector = len(A.shape) - 1 == len(B.shape) and B.shape == A.shape[:-1]
    if not vector and len(A.shape) != len(B.shape):
        raise ShapeError(f"torch.linalg.lstsq: {list(B.shape)} needs as many axes as {list(A.shape)}, or one less for vectors")
    a, b = paired("torch.linalg.lstsq", A, column(B) if vector else B)
    m, n = a.shape[-2:]
    k, batch, real = min(m, n), a.shape[:-2], a.dtype.to_real()
    none = graph.full(0, (0,), real)
    if not a.size or not b.size:
        x = graph.full(0, (*batch, n, b.shape[-1]), a.dtype)
        rank, values = graph.full(0, (1,), dtypes.int64), none
    else:
        shapes = [(n, b.shape[-1]), (), (k,)]
        x, rank, values = call_packed("linalg.lstsq", a, shapes, rcond, driver, others=(b,))
    residuals = none
    if m > n and driver != "gelsy":
        rest = lang.size_squared(mm(a, x) - b)
        residuals = lang.fold("add", rest, -2)
    found = graph.full(0, (0,), dtypes.int64) if driver == "gels" else cast(lang.real(rank), dtypes.int64)
    sizes = lang.real(values) if driver in ("gelsd", "gelss") else none
    x = graph.reshape(x, x.shape[:-1]) if vector else x
    return x, residuals, found, lang.detach(sizes)


# -- powers and functions -------------------------------------------------------------------------------


@op("matrix_power", out="exact", kinds=KINDS, acc=False, aliases=("linalg.matrix_power",), samples=s.calls(
    s.call(square(), 3), s.call(square(2), 0), s.call(square(), 1), s.call(definite(), -2), s.call(T(0, 0), 2)))  # fmt: skip
def matrix_power(input: Node, n: int) -> Node:
    """The ``n``-th power of square matrices, for negative ``n`` of the inverse.  (torch.linalg.matrix_power)"""
    if len(input.shape) < 2 or input.shape[-1] != input.shape[-2]:
        matrices("linalg.matrix_power", cast(input, dtypes.float32), square=True)
    if n == 0:
        return eye(input.shape, input.dtype)
    if n < 0:
        input, n = inverse.body(input), -n
    result: Node | None = None
    while n:
        if n & 1:
            result = input if result is None else mm(result, input)
        n >>= 1
        if n:
            input = mm(input, input)
    assert result is not None
    return result


@op("matrix_exp", kinds=KINDS, acc=False, aliases=("linalg.matrix_exp",), samples=s.calls(
    s.call(square()), s.call(square(2, n=2)), s.call(T(0, 0))))  # fmt: skip
def matrix_exp(input: Node) -> Node:
    """The exponential of square matrices.  (torch.linalg.matrix_exp)"""
    if input.dtype.itemsize == 2:
        return cast(matrix_exp.body(cast(input, dtypes.float32)), input.dtype)
    matrices("linalg.matrix_exp", input, square=True)
    return graph.call("linalg.matrix_exp", (input,), input.shape, input.dtype)


@op("linalg_tensorinv", kinds=KINDS, acc=False, where=(), aliases=("linalg.tensorinv",), torch_name="linalg.tensorinv",
    samples=s.calls(s.call(T(2, 3, 6)), s.call(T(6, 2, 3), 1)))  # fmt: skip
def tensorinv(A: Node, ind: int = 2) -> Node:
    """The inverse of tensordot with A over its first ``ind`` axes.  (torch.linalg.tensorinv)"""
    if ind <= 0:
        raise SpiralError("Expected a strictly positive integer for 'ind'")
    rows, cols = math.prod(A.shape[:ind]), math.prod(A.shape[ind:])
    if rows != cols:
        raise ShapeError(
            f"Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got {cols} != {rows}"
        )
    return graph.reshape(inverse.body(graph.reshape(A, (rows, cols))), (*A.shape[ind:], *A.shape[:ind]))


@op("linalg_tensorsolve", kinds=KINDS, acc=False, where=(), aliases=("linalg.tensorsolve",), torch_name="linalg.tensorsolve",
    samples=s.calls(s.call(T(2, 3, 6), T(2, 3)), s.call(T(6, 2, 3), T(2, 3), (0,))))  # fmt: skip
def tensorsolve(A: Node, B: Node, dims: Sequence[int] | None = None) -> Node:
    """X with tensordot(A, X, X's rank) = B; ``dims`` of A are moved to its end first.  (torch.linalg.tensorsolve)"""
    if dims is not None:
        r = len(A.shape)
        moved = [d % r for d in dims]
        A = graph.permute(A, (*[i for i in range(r) if i not in moved], *moved))
    shape = A.shape[len(B.shape) :]
    if math.prod(shape) != B.size:
        raise ShapeError(
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), "
            f"but got {math.prod(shape)} != {B.size}"
        )
    x = solve.body(graph.reshape(A, (B.size, B.size)), graph.reshape(B, (B.size,)))
    return graph.reshape(x, shape)


# -- symmetric indefinite -------------------------------------------------------------------------------


def _ldl(name: str, a: Node, is_hermitian: bool) -> tuple[Node, Node, Node]:
    matrices(name, a, square=True)
    n = a.shape[-1]
    if not a.size:
        return a, graph.full(0, a.shape[:-1], dtypes.int32), graph.full(0, a.shape[:-2], dtypes.int32)
    ld, pivots, info = call_packed("linalg.ldl_factor", a, [(n, n), (n,), (1,)], bool(is_hermitian))
    return ld, info_of(pivots), whole(info_of(info))


@op("linalg_ldl_factor", lies=("LD",), kinds=KINDS, acc=False, where=(), aliases=("linalg.ldl_factor",), torch_name="linalg.ldl_factor",
    differentiable=False, results=("LD", "pivots"), samples=s.calls(s.call(definite()), s.call(definite(2), hermitian=True)))  # fmt: skip
def ldl_factor(A: Node, *, hermitian: bool = False) -> tuple[Node, Node]:
    """The Bunch-Kaufman factors of symmetric or Hermitian matrices, compact.  (torch.linalg.ldl_factor)"""
    return _ldl("linalg.ldl_factor", A, hermitian)[:2]


@op("linalg_ldl_factor_ex", lies=("LD",), kinds=KINDS, acc=False, where=(), aliases=("linalg.ldl_factor_ex",),
    torch_name="linalg.ldl_factor_ex", differentiable=False, results=("LD", "pivots", "info"),
    samples=s.calls(s.call(definite())))  # fmt: skip
def ldl_factor_ex(A: Node, *, hermitian: bool = False, check_errors: bool = False) -> tuple[Node, Node, Node]:
    """As ldl_factor, and which block of D is singular, or 0.  (torch.linalg.ldl_factor_ex)"""
    return _ldl("linalg.ldl_factor_ex", A, hermitian)


@op("linalg_ldl_solve", lies="columns", out="exact", kinds=KINDS, acc=False, where=(), aliases=("linalg.ldl_solve",),
    torch_name="linalg.ldl_solve",
    differentiable=False, samples=s.calls(s.call(definite(), T(3, fill="ones", dtype=dtypes.int32), T(3, 2))))  # fmt: skip
def ldl_solve(LD: Node, pivots: Node, B: Node, *, hermitian: bool = False) -> Node:
    """X of A X = B, given what ldl_factor made of A.  (torch.linalg.ldl_solve)"""
    a, b = paired("torch.linalg.ldl_solve", LD, B)
    rows = graph.broadcast(cast(pivots, dtypes.float64), a.shape[:-1])
    return graph.call("linalg.ldl_solve", (a, rows, b), b.shape, b.dtype, bool(hermitian))


__all__ = ["cutoffs", "paired"]
