"""Linear algebra by LAPACK: what the CALLs of :mod:`spiraltorch.ops.linalg` mean on arrays.

In: arrays of matrices in their last two axes, float or complex, batched in front.  Out: one array; several results are
packed, each flattened per matrix, one after the other along the last axis.  A matrix that cannot be factored raises
:class:`~spiraltorch.errors.LinAlgError`, or says so in an ``info`` number at the end of the packed result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from ...errors import LinAlgError
from .blas import one_thread
from .routine import Routine
from .routine import routine as registered

Array = np.ndarray


def routine(name: str, **fields: Any) -> Callable[[Callable[..., Array]], Routine]:
    """Register the decorated definition, which is then run with BLAS on one thread."""

    def register(value: Callable[..., Array]) -> Routine:
        @wraps(value)
        def alone(static: Any, *arrays: Array) -> Array:
            with one_thread:
                return value(static, *arrays)

        return registered(name, **fields)(alone)

    return register


def packed(*parts: Array) -> Array:
    """Each array's matrices (or vectors, given as (..., n, 1)) flattened, side by side."""
    dtype = np.result_type(*parts)
    return np.concatenate([p.reshape(*p.shape[:-2], p.shape[-2] * p.shape[-1]).astype(dtype, copy=False) for p in parts], -1)


def column(a: Array) -> Array:
    return a[..., None]


def each(f: Callable[..., Sequence[Array]], *arrays: Array) -> list[Array]:
    """``f`` on every matrix of the batch; the stacks of its results."""
    batch = arrays[0].shape[:-2]
    flat = [a.reshape(-1, *a.shape[-2:]) for a in arrays]
    rows = [f(*ms) for ms in zip(*flat)]
    return [np.stack(c).reshape(*batch, *c[0].shape) for c in zip(*rows)]


def _lapack(name: str, a: Array) -> Any:
    from scipy.linalg import get_lapack_funcs

    return get_lapack_funcs((name,), (a,))[0]


def _named(batch: tuple[int, ...], at: int) -> str:
    return f"(Batch element {at}): " if batch else ""


def _first_bad(info: Array) -> int:
    return int(np.flatnonzero(info.reshape(-1))[0])


# -- factorizations -----------------------------------------------------------------------------------


def _potrf(a: Array) -> tuple[Array, Array]:
    """(lower factor, first leading minor that is not positive or 0) for each matrix."""

    def one(m: Array) -> tuple[Array, Array]:
        c, info = _lapack("potrf", m)(m, lower=1, clean=1)
        return c, np.array([[info]])

    c, info = each(one, a)
    return c, info[..., 0, 0]


@routine("linalg.cholesky", fails=True)
def cholesky(static: Any, a: Array) -> Array:
    c, info = _potrf(a)
    if info.any():
        k = _first_bad(info)
        raise LinAlgError(
            f"linalg.cholesky: {_named(a.shape[:-2], k)}The factorization could not be completed because the input is not "
            f"positive-definite (the leading minor of order {int(info.reshape(-1)[k])} is not positive-definite)."
        )
    return c


@routine("linalg.cholesky_ex")
def cholesky_ex(static: Any, a: Array) -> Array:
    c, info = _potrf(a)
    return packed(c, info[..., None, None].astype(c.dtype))


def _getrf(a: Array) -> tuple[Array, Array, Array]:
    """(LU, pivots from 1, row of the first zero pivot or 0) for each matrix."""

    def one(m: Array) -> tuple[Array, Array, Array]:
        lu, pivots, info = _lapack("getrf", m)(m)
        return lu, pivots[:, None] + 1, np.array([[info]])

    return tuple(each(one, a))  # type: ignore[return-value]


def _order(pivots: Array, rows: int) -> Array:
    """The permutation that the row exchanges ``pivots`` make: row i of the result is row order[i]."""
    order = list(range(rows))
    for i, p in enumerate(pivots.astype(int).tolist()):
        order[i], order[p - 1] = order[p - 1], order[i]
    return np.array(order)


@routine("linalg.lu_factor")
def lu_factor(static: Any, a: Array) -> Array:
    """LU, pivots, the permutation and info, packed."""
    lu, pivots, info = _getrf(a)
    (order,) = each(lambda p: [_order(p[:, 0], a.shape[-2])[:, None]], pivots)
    return packed(lu, pivots.astype(lu.dtype), order.astype(lu.dtype), info.astype(lu.dtype))


@routine("linalg.lu_order")
def lu_order(static: Any, pivots: Array) -> Array:
    """The permutation of (.., rows) that pivots (.., k) say."""
    (rows,) = static
    flat = pivots.reshape(-1, pivots.shape[-1])
    return np.stack([_order(p, rows) for p in flat]).reshape(*pivots.shape[:-1], rows).astype(pivots.dtype)


@routine("linalg.qr")
def qr(static: Any, a: Array) -> Array:
    (mode,) = static
    return packed(*np.linalg.qr(a, mode="complete" if mode == "complete" else "reduced"))


@routine("linalg.geqrf")
def geqrf(static: Any, a: Array) -> Array:
    """The reflectors below R, and their factors, packed."""

    def one(m: Array) -> tuple[Array, Array]:
        out, tau, *_ = _lapack("geqrf", m)(m)
        return out, tau[:, None]

    return packed(*each(one, a))


def _svd_failed(batch: tuple[int, ...], at: int) -> LinAlgError:
    return LinAlgError(
        f"linalg.svd: {_named(batch, at)}The algorithm failed to converge because the input matrix contained non-finite values or is "
        "ill-conditioned"
    )


def _of_finite(f: Callable[[Array], Sequence[Array]], a: Array, read: Array) -> list[Array]:
    """The results of ``f`` on the matrices ``a``; nan for those of which ``read`` (what ``f`` looks at) is not finite."""
    finite = np.isfinite(read).all((-2, -1))
    if finite.all():
        return list(f(a))
    found = f(np.where(finite[..., None, None], a, 0))
    return [np.where(finite.reshape(finite.shape + (1,) * (x.ndim - finite.ndim)), x, np.nan) for x in found]


def _decomposed(f: Callable[[Array], Sequence[Array]], a: Array) -> list[Array]:
    """By singular values: as in torch nan is refused, and an infinity makes all of a result nan."""
    bad = np.isnan(a).any((-2, -1))
    if bad.any():
        raise _svd_failed(a.shape[:-2], _first_bad(bad))
    try:
        return _of_finite(f, a, a)
    except np.linalg.LinAlgError:
        raise _svd_failed((), 0) from None


def _svd(a: Array, full: bool) -> list[Array]:
    return _decomposed(lambda m: np.linalg.svd(m, full_matrices=full), a)


@routine("linalg.svd", fails=True)
def svd(static: Any, a: Array) -> Array:
    (full,) = static
    u, s, vh = _svd(a, full)
    return packed(u, column(s), vh)


@routine("linalg.svdvals", fails=True)
def svdvals(static: Any, a: Array) -> Array:
    return _decomposed(lambda m: [np.linalg.svd(m, compute_uv=False)], a)[0]


def _of_triangle(f: Callable[[Array], Sequence[Array]], a: Array, uplo: str) -> list[Array]:
    """By eigenvalues of Hermitian matrices, of which one triangle is looked at."""
    try:
        return _of_finite(f, a, np.tril(a) if uplo == "L" else np.triu(a))
    except np.linalg.LinAlgError:
        raise LinAlgError("linalg.eigh: The algorithm failed to converge because the input matrix is ill-conditioned") from None


def _eigh(a: Array, uplo: str) -> list[Array]:
    return _of_triangle(lambda m: np.linalg.eigh(m, UPLO=uplo), a, uplo)


@routine("linalg.eigh", fails=True)
def eigh(static: Any, a: Array) -> Array:
    (uplo,) = static
    w, v = _eigh(a, uplo)
    return packed(column(w), v)


@routine("linalg.eigvalsh", fails=True)
def eigvalsh(static: Any, a: Array) -> Array:
    (uplo,) = static
    return _of_triangle(lambda m: [np.linalg.eigvalsh(m, UPLO=uplo)], a, uplo)[0]


def _refuse_infinite(a: Array) -> None:
    if not np.isfinite(a).all():
        raise LinAlgError("torch.linalg.eig: input tensor should not contain infs or NaNs.")


@routine("linalg.eig", fails=True)
def eig(static: Any, a: Array) -> Array:
    _refuse_infinite(a)
    w, v = np.linalg.eig(a)
    return packed(column(_complex(w)), _complex(v))


@routine("linalg.eigvals", fails=True)
def eigvals(static: Any, a: Array) -> Array:
    _refuse_infinite(a)
    return _complex(np.linalg.eigvals(a))


def _complex(values: Array) -> Array:
    """Complex numbers also where all are real, for which NumPy gives floats."""
    return values.astype(np.result_type(values.dtype, np.complex64))


@routine("linalg.ldl_factor")
def ldl_factor(static: Any, a: Array) -> Array:
    """LD, pivots and info, packed; of Hermitian matrices where static says so."""
    (hermitian,) = static
    name = "hetrf" if hermitian and a.dtype.kind == "c" else "sytrf"

    def one(m: Array) -> tuple[Array, Array, Array]:
        ld, pivots, info = _lapack(name, m)(m, lower=1)
        return np.tril(ld), np.asarray(pivots)[:, None], np.array([[info]])

    ld, pivots, info = each(one, a)
    return packed(ld, pivots.astype(ld.dtype), info.astype(ld.dtype))


# -- solving ------------------------------------------------------------------------------------------


def _singular(name: str, a: Array, info: Array, what: str) -> LinAlgError:
    k = _first_bad(info)
    at = int(info.reshape(-1)[k])
    return LinAlgError(
        f"{name}: {_named(a.shape[:-2], k)}{what} because the input matrix is singular (the diagonal element {at} is zero)."
    )


def _inverse(a: Array) -> tuple[Array, Array]:
    def one(m: Array) -> tuple[Array, Array]:
        lu, pivots, info = _lapack("getrf", m)(m)
        if info:
            return np.full_like(m, np.nan), np.array([[info]])
        out, _ = _lapack("getri", m)(lu, pivots)
        return out, np.array([[0]])

    out, info = each(one, a)
    return out, info[..., 0, 0]


@routine("linalg.inv", fails=True)
def inv(static: Any, a: Array) -> Array:
    out, info = _inverse(a)
    if info.any():
        raise _singular("linalg.inv", a, info, "The inversion could not be completed")
    return out


@routine("linalg.inv_ex")
def inv_ex(static: Any, a: Array) -> Array:
    out, info = _inverse(a)
    return packed(out, info[..., None, None].astype(out.dtype))


@routine("linalg.inverse_or_nan")
def inverse_or_nan(static: Any, a: Array) -> Array:
    return _inverse(a)[0]


def _solved(a: Array, b: Array) -> tuple[Array, Array]:
    def one(m: Array, r: Array) -> tuple[Array, Array]:
        _, _, x, info = _lapack("gesv", m)(m, r)
        return x, np.array([[info]])

    x, info = each(one, a, b)
    return x, info[..., 0, 0]


@routine("linalg.solve", fails=True)
def solve(static: Any, a: Array, b: Array) -> Array:
    x, info = _solved(a, b)
    if info.any():
        raise _singular("torch.linalg.solve", a, info, "The solver failed")
    return x


@routine("linalg.solve_ex")
def solve_ex(static: Any, a: Array, b: Array) -> Array:
    x, info = _solved(a, b)
    return packed(x, info[..., None, None].astype(x.dtype))


@routine("linalg.solve_triangular")
def solve_triangular(static: Any, a: Array, b: Array) -> Array:
    """``X`` of ``A X = B``; a zero on the diagonal gives infinities."""
    upper, unit = static
    from scipy.linalg import get_blas_funcs

    def one(m: Array, r: Array) -> tuple[Array]:
        trsm = get_blas_funcs(("trsm",), (m, r))[0]
        return (np.ascontiguousarray(trsm(1.0, m, r, lower=not upper, diag=unit)),)

    return each(one, a, b)[0]


@routine("linalg.ldl_solve")
def ldl_solve(static: Any, ld: Array, pivots: Array, b: Array) -> Array:
    (hermitian,) = static
    name = "hetrs" if hermitian and ld.dtype.kind == "c" else "sytrs"

    def one(m: Array, p: Array, r: Array) -> tuple[Array]:
        x, _ = _lapack(name, m)(m, p[:, 0].astype(np.int32), r, lower=1)
        return (x,)

    return each(one, ld, pivots[..., None], b)[0]


@routine("linalg.lstsq", fails=True)
def lstsq(static: Any, a: Array, b: Array) -> Array:
    """Solution, rank and singular values, packed."""
    rcond, driver = static
    from scipy.linalg import lstsq as scipy_lstsq

    k = min(a.shape[-2:])
    if np.isnan(a).any():
        raise LinAlgError("linalg.lstsq: The matrix contains nan")

    def one(m: Array, r: Array) -> tuple[Array, ...]:
        if not np.isfinite(m).all():
            return np.full((m.shape[1], r.shape[1]), np.nan, r.dtype), np.array([[0]]), np.full((k, 1), np.nan)
        if driver == "gels":
            x = np.linalg.pinv(m) @ r if m.shape[0] < m.shape[1] else scipy_lstsq(m, r, lapack_driver="gelsd", check_finite=False)[0]
            return x, np.array([[k]]), np.zeros((k, 1))
        x, _, rank, s = scipy_lstsq(m, r, cond=rcond, lapack_driver=driver, check_finite=False)
        return x, np.array([[rank]]), np.zeros((k, 1)) if s is None else s[:, None]

    x, rank, s = each(one, a, b)
    return packed(x, rank.astype(x.dtype), s.astype(x.dtype))


@routine("linalg.pinv", fails=True)
def pinv(static: Any, a: Array, cutoffs: Array) -> Array:
    """By singular values (or eigenvalues of Hermitian matrices) above max(atol, rtol * largest); cutoffs (.., 2)."""
    (hermitian,) = static
    if hermitian:
        w, v = _eigh(a, "L")
        size, left, right, value = np.abs(w), v, np.conj(np.swapaxes(v, -1, -2)), w
    else:
        u, s, vh = _svd(a, False)
        size, value = s, s
        left, right = np.conj(np.swapaxes(vh, -1, -2)), np.conj(np.swapaxes(u, -1, -2))
    least = np.maximum(cutoffs[..., 0], cutoffs[..., 1] * size.max(-1, initial=0))
    keep = size > least[..., None]
    factor = np.where(keep, 1 / np.where(keep, value, 1), 0)
    return (left * factor[..., None, :]) @ right


# -- functions of matrices ------------------------------------------------------------------------------


@routine("linalg.det")
def det(static: Any, a: Array) -> Array:
    return np.asarray(np.linalg.det(a))


@routine("linalg.slogdet")
def slogdet(static: Any, a: Array) -> Array:
    """Sign (0 of nan) and logarithm of the size, (.., 2)."""
    sign, size = np.linalg.slogdet(a)
    sign = np.where(np.isnan(size), 0, sign).astype(sign.dtype)
    return np.stack([sign, size.astype(sign.dtype)], -1)


@routine("linalg.cofactor")
def cofactor(static: Any, a: Array) -> Array:
    """The derivative of the determinant, ``conj(det A) A^-H``; of matrices that are singular, or nearly, by singular values."""

    def one(m: Array) -> tuple[Array, Array]:
        lu, pivots, info = _lapack("getrf", m)(m)
        if info:
            return m, np.array([[np.inf]])
        out, _ = _lapack("getri", m)(lu, pivots)
        odd = np.count_nonzero(pivots != np.arange(len(pivots))) % 2
        d = lu.diagonal().prod() * (-1 if odd else 1)  # of the same factors, so that the rounding of both is one
        return np.conj(d * out.T), np.array([[np.abs(m).sum(0).max(initial=0) * np.abs(out).sum(0).max(initial=0)]])

    with np.errstate(all="ignore"):
        found, condition = each(one, a)
        regular = condition[..., 0, 0] * np.finfo(a.dtype).eps < 0.01
    if not regular.all():
        finite = np.isfinite(a).all((-2, -1))
        found[~finite] = np.nan
        found[~regular & finite] = _cofactor_of_any(a[~regular & finite])
    return np.asarray(found)


def _cofactor_of_any(a: Array) -> Array:
    u, s, vh = np.linalg.svd(a)
    n = s.shape[-1]
    wide = np.broadcast_to(s[..., None, :], (*s.shape, n)).copy()
    wide[..., np.arange(n), np.arange(n)] = 1
    others = wide.prod(-1)
    phase = np.conj(np.linalg.det(u) * np.linalg.det(vh))
    found: Array = phase[..., None, None] * ((u * others[..., None, :].astype(u.dtype)) @ vh)
    return found


@routine("linalg.matrix_exp")
def matrix_exp(static: Any, a: Array) -> Array:
    from scipy.linalg import expm

    return np.asarray(expm(a))
