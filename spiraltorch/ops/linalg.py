"""Factorizations of matrices, and what is made of them: torch.linalg, and torch's older names.

In: nodes of float or complex matrices in their last two axes, batches in front.  Out: nodes.  Each factorization is one
CALL of a LAPACK routine (:mod:`spiraltorch.kernels.library.linalg`); its derivative is in :mod:`.linalg_gradients`.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> [n.shape for n in OPS["linalg_svd"].apply([graph.param(0, (5, 4, 3), dtypes.float32), False], {})]
    [(5, 4, 3), (5, 3), (5, 3, 3)]
"""

from __future__ import annotations

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .linalg_gradients import inverse as inverse_or_nan
from .linalg_gradients import permutation, qr_shapes, solve_triangular, svd_shapes
from .matrices import (
    KINDS,
    call_packed,
    column,
    cut,
    embed,
    eye,
    h,
    matrices,
    mm,
    same_type,
    tril,
    triu,
    with_diagonal,
)
from .registry import op

T = s.T
ONLY = ("linalg",)


def square(*batch: int, n: int = 3) -> T:
    return T(*batch, n, n)


def definite(*batch: int, n: int = 3) -> T:
    return T(*batch, n, n, fill="definite")


_SQUARE = s.calls(s.call(square()), s.call(square(2)), s.call(square(n=1)), s.call(T(0, 3, 3)), s.call(T(0, 0)))
_DEFINITE = s.calls(s.call(definite()), s.call(definite(2, n=2)), s.call(T(0, 3, 3)), s.call(definite(), upper=True))
_ANY = s.calls(s.call(T(3, 3)), s.call(T(2, 4, 3)), s.call(T(3, 4)), s.call(T(0, 3)))


def info_of(n: Node) -> Node:
    return cast(lang.real(n), dtypes.int32)


def whole(n: Node) -> Node:
    """A number for the whole matrix, from its packed form of one element."""
    return graph.reshape(n, n.shape[:-1])


# -- Cholesky -----------------------------------------------------------------------------------------


@op("cholesky", lies="columns", kinds=KINDS, acc=False, saves="io", aliases=("linalg.cholesky",), samples=_DEFINITE)
def cholesky(input: Node, upper: bool = False) -> Node:
    """The lower (or ``upper``) triangular L with input = L L^H, of Hermitian positive-definite matrices.  Raises
    LinAlgError, a RuntimeError, for others.  (torch.linalg.cholesky)"""
    matrices("linalg.cholesky", input, square=True)
    found = graph.call("linalg.cholesky", (input,), input.shape, input.dtype)
    return h(found) if upper else found


@op("linalg_cholesky_ex", lies=("L",), kinds=KINDS, acc=False, where=(), aliases=("linalg.cholesky_ex",), torch_name="linalg.cholesky_ex",
    results=("L", "info"), samples=_DEFINITE)  # fmt: skip
def cholesky_ex(input: Node, *, upper: bool = False, check_errors: bool = False) -> tuple[Node, Node]:
    """As cholesky, but the order of the first bad leading minor (or 0) is returned.  (torch.linalg.cholesky_ex)"""
    matrices("linalg.cholesky_ex", input, square=True)
    if not input.size:
        return input, graph.full(0, input.shape[:-2], dtypes.int32)
    low, info = call_packed("linalg.cholesky_ex", input, [input.shape[-2:], (1,)])
    if check_errors:
        low = graph.call("linalg.cholesky", (input,), input.shape, input.dtype)
    return h(low) if upper else low, whole(info_of(info))


def _low(name: str, factor: Node, upper: bool) -> Node:
    matrices(name, factor, square=True)
    return h(triu(factor)) if upper else tril(factor)


def _inverse_grad(g: Node, out: Node, input: Node, upper: bool = False) -> list[Node | None]:
    """For all elements of the factor, as torch has it, though only a triangle is read."""
    out, factor = lang.conj(out), lang.conj(input)
    inner = mm(out, g + h(g), out)
    return [-mm(factor, inner) if upper else -mm(inner, factor)]


@op("cholesky_inverse", lies="columns", kinds=KINDS, acc=False, grad=_inverse_grad, saves="io", samples=_DEFINITE)
def cholesky_inverse(input: Node, upper: bool = False) -> Node:
    """The inverse of A, given its Cholesky factor.  (torch.cholesky_inverse)"""
    low = _low("cholesky_inverse", input, upper)
    inv = solve_triangular(low, eye(low.shape, low.dtype), False)
    return mm(h(inv), inv)


def _solve_grad(g: Node, out: Node, B: Node, L: Node, upper: bool = False) -> list[Node | None]:
    out, factor = lang.conj(out), lang.conj(L)
    gb = cholesky_solve.body(g, factor, upper)
    both = mm(gb, h(out))
    both = both + h(both)
    return [gb, -mm(factor, both) if upper else -mm(both, factor)]


@op("cholesky_solve", lies="columns", kinds=KINDS, acc=False, grad=_solve_grad, saves="io", samples=s.calls(
    s.call(T(3, 2), definite()), s.call(T(2, 3, 1), definite(2), True)))  # fmt: skip
def cholesky_solve(B: Node, L: Node, upper: bool = False) -> Node:
    """X of A X = B, given the Cholesky factor of A.  (torch.cholesky_solve)"""
    same_type("cholesky_solve", L, B)
    low, b = _together("cholesky_solve", _low("cholesky_solve", L, upper), B)
    return solve_triangular(h(low), solve_triangular(low, b, False), True)


def _together(name: str, a: Node, b: Node) -> tuple[Node, Node]:
    from .linalg_solve import paired

    return paired(name, a, b)


# -- QR -----------------------------------------------------------------------------------------------


def _qr(input: Node, mode: str) -> tuple[Node, Node]:
    if not input.size:
        (m, k), (_, n) = qr_shapes(input, mode)
        batch = input.shape[:-2]
        return eye((*batch, m, k), input.dtype), graph.full(0, (*batch, k, n), input.dtype)
    q, r = call_packed("linalg.qr", input, qr_shapes(input, mode), mode)
    return q, r


@op("linalg_qr", lies=("Q", "R"), kinds=KINDS, acc=False, where=(), aliases=("linalg.qr",), torch_name="linalg.qr", results=("Q", "R"),
    samples=s.more(_ANY, s.calls(s.call(T(4, 2), "complete"), s.call(T(4, 2), mode="r"))))  # fmt: skip
def linalg_qr(A: Node, mode: str = "reduced") -> tuple[Node, Node]:
    """A = Q R with orthonormal columns in Q, [m, k] and [k, n]: k = min(m, n), or m in mode 'complete'; in mode 'r' Q
    is empty.  (torch.linalg.qr)"""
    matrices("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise SpiralError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'")
    q, r = _qr(A, mode)
    return (graph.full(0, (0,), A.dtype) if mode == "r" else q), r


@op("qr", lies=("Q", "R"), kinds=KINDS, acc=False, results=("Q", "R"), samples=_ANY)
def qr(input: Node, some: bool = True) -> tuple[Node, Node]:
    """linalg.qr in mode 'reduced' or, without ``some``, 'complete'.  (torch.qr)"""
    matrices("qr", input)
    return _qr(input, "reduced" if some else "complete")


@op("geqrf", lies=("a",), kinds=KINDS, acc=False, differentiable=False, results=("a", "tau"),
    samples=s.calls(s.call(T(3, 3)), s.call(T(2, 4, 3)), s.call(T(3, 4))))  # fmt: skip
def geqrf(input: Node) -> tuple[Node, Node]:
    """R, and below it the Householder reflectors of Q; and their factors.  (torch.geqrf)"""
    matrices("geqrf", input)
    a, tau = call_packed("linalg.geqrf", input, [input.shape[-2:], (min(input.shape[-2:]),)])
    return a, tau


def _reflectors(name: str, input: Node, tau: Node) -> tuple[Node, Node]:
    """(V, T) with Q = I - V T V^H (R. Schreiber and C. Van Loan, 1989)."""
    matrices(name, input)
    k = tau.shape[-1]
    if k > input.shape[-1] or tau.shape[:-1] != input.shape[:-2]:
        raise ShapeError(f"{name}: tau has shape {list(tau.shape)}, which does not fit input of shape {list(input.shape)}")
    same_type(name, input, tau)
    v = tril(cut(input, None, (0, k)), -1)
    v = v + eye(v.shape, v.dtype)
    factors = column(tau)
    upper = eye((*tau.shape, k), tau.dtype) + factors * triu(mm(h(v), v), 1)
    return v, solve_triangular(upper, embed(tau), True)


@op("orgqr", lies="columns", kinds=KINDS, acc=False, aliases=("linalg.householder_product",), samples=s.calls(
    s.call(T(4, 3), T(3, fill="unit")), s.call(T(2, 3, 3), T(2, 2, fill="unit"))))  # fmt: skip
def orgqr(input: Node, tau: Node) -> Node:
    """The first n columns of the product of Householder reflectors H1 .. Hk below the diagonal of ``input`` [m, n]
    with factors ``tau`` [k].  (torch.linalg.householder_product)"""
    name = "torch.linalg.householder_product"
    v, t = _reflectors(name, input, tau)
    if input.shape[-2] < input.shape[-1]:
        raise ShapeError(f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]")
    first = cut(h(v), None, (0, input.shape[-1]))
    return eye(input.shape, input.dtype) - mm(v, t, first)


@op("ormqr", lies="columns", out="exact", kinds=KINDS, acc=False, samples=s.calls(
    s.call(T(4, 3), T(3, fill="unit"), T(4, 2)), s.call(T(4, 3), T(3, fill="unit"), T(2, 4), left=False),
    s.call(T(4, 3), T(3, fill="unit"), T(4, 2), transpose=True), s.call(T(2, 5), T(2, fill="unit"), T(2, 3))))  # fmt: skip
def ormqr(input: Node, tau: Node, other: Node, left: bool = True, transpose: bool = False) -> Node:
    """``other`` multiplied from the ``left`` (or right) by the whole Q of :func:`geqrf`, or its conjugate transpose.
    (torch.ormqr)"""
    v, t = _reflectors("ormqr", input, tau)
    middle = h(t) if transpose else t
    if left:
        return other - mm(v, middle, mm(h(v), other))
    return other - mm(mm(other, v), middle, h(v))


# -- LU -----------------------------------------------------------------------------------------------


def _factor(name: str, a: Node, pivot: bool) -> tuple[Node, Node, Node, Node]:
    """(LU, pivots, permutation, info)."""
    matrices(name, a)
    if not pivot:
        raise SpiralError(f"{name}: LU without pivoting is not implemented on the CPU")
    m, n = a.shape[-2:]
    k = min(m, n)
    if not a.size:
        batch = a.shape[:-2]
        order = cast(graph.iota((*batch, m), len(batch)), a.dtype)
        return a, graph.full(0, (*batch, k), dtypes.int32), order, graph.full(0, batch, dtypes.int32)
    lu, pivots, order, info = call_packed("linalg.lu_factor", a, [(m, n), (k,), (m,), (1,)])
    return lu, info_of(pivots), order, whole(info_of(info))


@op("linalg_lu_factor", lies=("LU",), kinds=KINDS, acc=False, where=(), aliases=("linalg.lu_factor",), torch_name="linalg.lu_factor",
    results=("LU", "pivots"), samples=_ANY)  # fmt: skip
def lu_factor(A: Node, *, pivot: bool = True) -> tuple[Node, Node]:
    """L (without its ones) and U in one matrix, and the row exchanges, from 1.  (torch.linalg.lu_factor)"""
    return _factor("linalg.lu_factor", A, pivot)[:2]


@op("linalg_lu_factor_ex", lies=("LU",), kinds=KINDS, acc=False, where=(), aliases=("linalg.lu_factor_ex",),
    torch_name="linalg.lu_factor_ex",
    results=("LU", "pivots", "info"), samples=_ANY)  # fmt: skip
def lu_factor_ex(A: Node, *, pivot: bool = True, check_errors: bool = False) -> tuple[Node, Node, Node]:
    """As lu_factor, and which pivot is zero, or 0.  (torch.linalg.lu_factor_ex)"""
    lu, pivots, _, info = _factor("linalg.lu_factor_ex", A, pivot)
    return lu, pivots, info


@op("lu", kinds=KINDS, acc=False, samples=_ANY)
def old_lu(A: Node, pivot: bool = True, get_infos: bool = False) -> tuple[Node, ...]:
    """linalg.lu_factor, with infos where they are asked for.  (torch.lu)"""
    lu, pivots, _, info = _factor("linalg.lu_factor_ex", A, pivot)
    return (lu, pivots, info) if get_infos else (lu, pivots)


def unpacked(lu: Node) -> tuple[Node, Node]:
    """(L, U) of a packed factorization."""
    m, n = lu.shape[-2:]
    k = min(m, n)
    low = tril(cut(lu, None, (0, k)), -1)
    ones = graph.full(1, (*lu.shape[:-2], k), lu.dtype)
    return with_diagonal(low, ones), triu(cut(lu, (0, k)))


@op("linalg_lu", kinds=KINDS, acc=False, where=(), aliases=("linalg.lu",), torch_name="linalg.lu", results=("P", "L", "U"), fixed=("P",),
    samples=_ANY)  # fmt: skip
def linalg_lu(A: Node, *, pivot: bool = True) -> tuple[Node, Node, Node]:
    """A = P L U: a permutation [m, m], L with ones on its diagonal [m, k] and U [k, n].  (torch.linalg.lu)"""
    lu, _, order, _ = _factor("linalg.lu", A, pivot)
    return (permutation(order, A.dtype), *unpacked(lu))


@op("lu_unpack", kinds=KINDS, acc=False, where=("",), results=("P", "L", "U"), fixed=("P",), samples=s.calls(
    s.call(T(3, 3), T(3, fill="ones", dtype=dtypes.int32)), s.call(T(2, 4, 3), T(2, 3, fill="ones", dtype=dtypes.int32))))  # fmt: skip
def lu_unpack(LU_data: Node, LU_pivots: Node, unpack_data: bool = True, unpack_pivots: bool = True) -> tuple[Node, Node, Node]:
    """P, L and U of what lu_factor gives; what is not asked for is empty.  (torch.lu_unpack)"""
    if LU_pivots.dtype is not dtypes.int32:
        raise SpiralError("torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.")
    if unpack_pivots and LU_pivots.shape[-1:] > LU_data.shape[-2:-1]:
        raise ShapeError(f"lu_unpack: {LU_pivots.shape[-1]} row exchanges for {LU_data.shape[-2]} rows")
    nothing = graph.full(0, (0,), LU_data.dtype)
    low, up = unpacked(LU_data) if unpack_data else (nothing, nothing)
    if not unpack_pivots:
        return nothing, low, up
    return permutation(order_of(LU_pivots, LU_data.shape[-2]), LU_data.dtype), low, up


def order_of(pivots: Node, rows: int) -> Node:
    """The permutation that row exchanges say."""
    shape = (*pivots.shape[:-1], rows)
    return graph.call("linalg.lu_order", (cast(pivots, dtypes.float64),), shape, dtypes.float64, rows)


# -- singular values and eigenvalues --------------------------------------------------------------------


def _svd(a: Node, full: bool) -> tuple[Node, Node, Node]:
    shapes = svd_shapes(a, full)
    if not a.size:
        batch = a.shape[:-2]
        u, v = (eye((*batch, *shapes[i]), a.dtype) for i in (0, 2))
        return u, graph.full(0, (*batch, *shapes[1]), a.dtype.to_real()), v
    u, sizes, vh = call_packed("linalg.svd", a, shapes, full)
    return u, lang.real(sizes), vh


@op("linalg_svd", lies=("U", "Vh"), kinds=KINDS, acc=False, where=(), aliases=("linalg.svd",), torch_name="linalg.svd",
    results=("U", "S", "Vh"), samples=s.more(_ANY, s.calls(s.call(T(4, 3), False))))  # fmt: skip
def linalg_svd(A: Node, full_matrices: bool = True, *, driver: str | None = None) -> tuple[Node, Node, Node]:
    """A = U diag(S) Vh with orthonormal columns in U and rows in Vh; S falls.  (torch.linalg.svd)"""
    matrices("linalg.svd", A)
    if driver is not None:
        raise SpiralError("torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend.")
    return _svd(A, full_matrices)


@op("svd", lies=("U",), kinds=KINDS, acc=False, results=("U", "S", "V"), samples=_ANY)
def svd(input: Node, some: bool = True, compute_uv: bool = True) -> tuple[Node, Node, Node]:
    """input = U diag(S) V^H; without ``compute_uv`` U and V are zeros.  (torch.svd)"""
    matrices("svd", input)
    if not compute_uv:
        m, n = input.shape[-2:]
        empty = [graph.full(0, (*input.shape[:-2], k, k), input.dtype) for k in (m, n)]
        return empty[0], svdvals.body(input), empty[1]
    u, sizes, vh = _svd(input, not some)
    return u, sizes, h(vh)


@op("linalg_svdvals", out="exact", kinds=KINDS, acc=False, where=(), aliases=("linalg.svdvals",), torch_name="linalg.svdvals", samples=_ANY)
def svdvals(A: Node, *, driver: str | None = None) -> Node:
    """The singular values, falling.  (torch.linalg.svdvals)"""
    matrices("linalg.svdvals", A)
    shape = (*A.shape[:-2], min(A.shape[-2:]))
    return graph.call("linalg.svdvals", (A,), shape, A.dtype.to_real())


def _triangle(UPLO: str) -> str:
    if UPLO.upper() not in ("L", "U"):
        raise SpiralError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return UPLO.upper()


_HERMITIAN = s.calls(s.call(T(3, 3, fill="definite")), s.call(T(2, 2, 2, fill="definite"), "U"), s.call(T(0, 0)))


@op("linalg_eigh", lies=("eigenvectors",), kinds=KINDS, acc=False, where=(), aliases=("linalg.eigh",), torch_name="linalg.eigh",
    results=("eigenvalues", "eigenvectors"), samples=_HERMITIAN)  # fmt: skip
def eigh(A: Node, UPLO: str = "L") -> tuple[Node, Node]:
    """Rising eigenvalues and the eigenvectors (columns) of Hermitian matrices, of which only the lower ('L') or upper
    ('U') triangle is read.  (torch.linalg.eigh)"""
    matrices("linalg.eigh", A, square=True)
    n = A.shape[-1]
    w, v = call_packed("linalg.eigh", A, [(n,), (n, n)], _triangle(UPLO))
    return lang.real(w), v


@op("linalg_eigvalsh", out="exact", kinds=KINDS, acc=False, where=(), aliases=("linalg.eigvalsh",), torch_name="linalg.eigvalsh",
    samples=_HERMITIAN)  # fmt: skip
def eigvalsh(A: Node, UPLO: str = "L") -> Node:
    """The eigenvalues of Hermitian matrices, rising.  (torch.linalg.eigvalsh)"""
    matrices("linalg.eigvalsh", A, square=True)
    return graph.call("linalg.eigvalsh", (A,), A.shape[:-1], A.dtype.to_real(), _triangle(UPLO))


@op("linalg_eig", lies=("eigenvectors",), kinds=KINDS, acc=False, where=(), aliases=("linalg.eig",), torch_name="linalg.eig",
    results=("eigenvalues", "eigenvectors"), samples=_SQUARE)  # fmt: skip
def eig(A: Node) -> tuple[Node, Node]:
    """Complex eigenvalues and the eigenvectors (columns, of size 1).  (torch.linalg.eig)"""
    matrices("linalg.eig", A, square=True)
    n = A.shape[-1]
    w, v = call_packed("linalg.eig", A, [(n,), (n, n)], dtype=A.dtype.to_complex())
    return w, v


@op("linalg_eigvals", kinds=KINDS, acc=False, where=(), aliases=("linalg.eigvals",), torch_name="linalg.eigvals", samples=_SQUARE)
def eigvals(A: Node) -> Node:
    """The complex eigenvalues.  (torch.linalg.eigvals)"""
    matrices("linalg.eigvals", A, square=True)
    return graph.call("linalg.eigvals", (A,), A.shape[:-1], A.dtype.to_complex())


# -- determinants ---------------------------------------------------------------------------------------


@op("det", kinds=KINDS, acc=False, saves="io", aliases=("linalg.det",), samples=_SQUARE)
def det(input: Node) -> Node:
    """The determinant; its gradient is defined for singular matrices too.  (torch.linalg.det)"""
    empty = len(input.shape) > 1 and input.shape[-2:] == (0, 0)  # its determinant needs no arithmetic
    matrices("linalg.det", cast(input, input.dtype.acc) if empty else input, square=True)
    if empty:
        return graph.full(1, input.shape[:-2], input.dtype)
    return graph.call("linalg.det", (input,), input.shape[:-2], input.dtype)


def _slogdet(a: Node) -> tuple[Node, Node]:
    matrices("linalg.slogdet", a, square=True)
    batch = a.shape[:-2]
    if not a.shape[-1]:
        return graph.full(1, batch, a.dtype), graph.full(0, batch, a.dtype.to_real())
    sign, size = call_packed("linalg.slogdet", a, [(), ()])
    return sign, lang.real(size)


@op("slogdet", kinds=KINDS, acc=False, aliases=("linalg.slogdet",), results=("sign", "logabsdet"), samples=_SQUARE)
def slogdet(input: Node) -> tuple[Node, Node]:
    """Sign (of size 1, or 0) and logarithm of the size of the determinant.  (torch.linalg.slogdet)"""
    return _slogdet(input)


@op("logdet", kinds=KINDS, acc=False, samples=s.calls(s.call(definite()), s.call(definite(2)), s.call(T(0, 0))))
def logdet(input: Node) -> Node:
    """The logarithm of the determinant, nan where that is negative.  (torch.logdet)"""
    sign, size = _slogdet(input)
    if input.dtype.kind == "c":
        return lang.log(sign) + cast(size, sign.dtype)
    return lang.where(lang.lt(sign, 0), float("nan"), size)


__all__ = ["definite", "info_of", "inverse_or_nan", "order_of", "square", "unpacked", "whole"]

