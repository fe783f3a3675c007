"""Derivatives of the LAPACK routines, as rules on their CALL nodes.

In: the CALL node, the gradient of its (packed) result and the result.  Out: gradients of the operands.  Rules are made
of nodes, so second derivatives come for free.  Complex gradients are dL/dRe + i dL/dIm, as torch has them; the
formulas are those of M. Giles, "Collected matrix derivative results" (2008), M. Seeger et al., "Auto-differentiating
linear algebra" (2017), F. Walter and L. Lehmann (2018) for QR and I. Murray (2016) for Cholesky.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from .gradients import routine_gradient, vjp
from .matrices import column, cut, diagonal, embed, eye, h, mm, pack, row, t, tril, triu, unpack, with_diagonal

Grads = Sequence[Node | None]


def _call(n: Node, name: str, *operands: Node) -> Node:
    """Another routine with the result type and static arguments of ``n``."""
    return graph.call(name, operands, n.shape, n.dtype, *n.arg[1])


def inverse(a: Node) -> Node:
    """The inverse, nan where there is none."""
    return graph.call("linalg.inverse_or_nan", (a,), a.shape, a.dtype)


def solve(a: Node, b: Node) -> Node:
    return graph.call("linalg.solve", (a, b), b.shape, b.dtype)


def solve_triangular(a: Node, b: Node, upper: bool, unit: bool = False) -> Node:
    return graph.call("linalg.solve_triangular", (a, b), b.shape, b.dtype, upper, unit)


def hermitian(a: Node) -> Node:
    return (a + h(a)) * 0.5


@routine_gradient("linalg.inv", "linalg.inverse_or_nan")
def _inv(n: Node, g: Node, out: Node) -> Grads:
    return [-mm(h(out), g, h(out))]


@routine_gradient("linalg.inv_ex")
def _inv_ex(n: Node, g: Node, out: Node) -> Grads:
    shape = n.src[0].shape[-2:]
    (y,), (gy,) = unpack(out, shape), unpack(g, shape)
    return [-mm(h(y), gy, h(y))]


@routine_gradient("linalg.solve")
def _solve(n: Node, g: Node, out: Node) -> Grads:
    gb = solve(h(n.src[0]), g)
    return [-mm(gb, h(out)), gb]


@routine_gradient("linalg.solve_ex")
def _solve_ex(n: Node, g: Node, out: Node) -> Grads:
    shape = n.src[1].shape[-2:]
    (x,), (gx,) = unpack(out, shape), unpack(g, shape)
    gb = solve(h(n.src[0]), gx)
    return [-mm(gb, h(x)), gb]


@routine_gradient("linalg.solve_triangular")
def _solve_triangular(n: Node, g: Node, out: Node) -> Grads:
    upper, unit = n.arg[1]
    gb = solve_triangular(h(n.src[0]), g, not upper, unit)
    ga = -mm(gb, h(out))
    return [triu(ga, int(unit)) if upper else tril(ga, -int(unit)), gb]


@routine_gradient("linalg.det")
def _det(n: Node, g: Node, out: Node) -> Grads:
    (a,) = n.src
    return [column(column(g)) * graph.call("linalg.cofactor", (a,), a.shape, a.dtype)]


@routine_gradient("linalg.cofactor")
def _cofactor(n: Node, g: Node, out: Node) -> Grads:
    """As of ``conj(det A) A^-H``, which it is where A has an inverse."""
    (a,) = n.src
    d = graph.call("linalg.det", (a,), a.shape[:-2], a.dtype)
    meaning = column(column(lang.conj(d))) * h(inverse(a))
    return vjp([meaning], [a], [g])


@routine_gradient("linalg.slogdet")
def _slogdet(n: Node, g: Node, out: Node) -> Grads:
    (a,) = n.src
    sign, _ = unpack(out, (), ())
    gs, gl = unpack(g, (), ())
    if n.dtype.kind == "c":
        turn = lang.conj(gs) * sign  # d sign = i sign d angle
        gl = lang.complex_(lang.real(gl), -lang.imag(turn))
    return [column(column(gl)) * h(inverse(a))]


def _cholesky_rule(low: Node, g: Node) -> Node:
    inv = h(solve_triangular(low, eye(low.shape, low.dtype), False))
    inner = mm(h(low), tril(g))
    return mm(inv, (tril(inner) + h(tril(inner, -1))) * 0.5, h(inv))


@routine_gradient("linalg.cholesky")
def _cholesky(n: Node, g: Node, out: Node) -> Grads:
    return [_cholesky_rule(out, g)]


@routine_gradient("linalg.cholesky_ex")
def _cholesky_ex(n: Node, g: Node, out: Node) -> Grads:
    shape = n.src[0].shape[-2:]
    return [_cholesky_rule(unpack(out, shape)[0], unpack(g, shape)[0])]


@routine_gradient("linalg.lu_factor")
def _lu_factor(n: Node, g: Node, out: Node) -> Grads:
    """With A = P L U; rows beyond the square part belong to L, columns to U."""
    (a,) = n.src
    r, c = a.shape[-2:]
    k = min(r, c)
    lu, _, order = unpack(out, (r, c), (k,), (r,))
    glu, *_ = unpack(g, (r, c))
    square = (0, k)
    low = with_diagonal(tril(cut(lu, square, square), -1), graph.full(1, (*a.shape[:-2], k), a.dtype))
    up = triu(cut(lu, square, square))
    inner_l = mm(h(low), tril(cut(glu, square, square), -1))
    inner_u = mm(triu(cut(glu, square, square)), h(up))
    rest: Node | None = None
    if c > k:
        u2, gu2 = cut(lu, square, (k, c)), cut(glu, square, (k, c))
        inner_l = inner_l - mm(gu2, h(u2))
        rest = solve_triangular(h(low), gu2, True, True)
    if r > k:
        l2, gl2 = cut(lu, (k, r), square), cut(glu, (k, r), square)
        inner_u = inner_u - mm(h(l2), gl2)
        rest = h(solve_triangular(up, h(gl2), True))
    inner = tril(inner_l, -1) + triu(inner_u)
    ga = h(solve_triangular(up, h(solve_triangular(h(low), inner, True, True)), True))
    if rest is not None:
        from .rearrange import joined

        ga = joined([ga, rest], len(a.shape) - (1 if c > k else 2))
    return [mm(permutation(order, a.dtype), ga)]


def permutation(order: Node, dtype: object) -> Node:
    """P of A = P L U: column i has its 1 in row order[i]."""
    rows = order.shape[-1]
    shape = (*order.shape, rows)
    place = graph.expand(row(lang.real(order)), shape)
    at = cast(graph.iota(shape, len(shape) - 2), place.dtype)
    return cast(lang.eq(at, place), dtype)


def qr_shapes(a: Node, mode: str) -> tuple[tuple[int, int], tuple[int, int]]:
    m, n = a.shape[-2:]
    k = m if mode == "complete" else min(m, n)
    return (m, k), (k, n)


@routine_gradient("linalg.qr")
def _qr(n: Node, g: Node, out: Node) -> Grads:
    (a,), (mode,) = n.src, n.arg[1]
    m, c = a.shape[-2:]
    if mode == "r":
        raise SpiralError("The derivative of linalg.qr depends on Q, which is not computed when mode='r'; use mode='reduced'")
    if mode == "complete" and m > c:
        raise SpiralError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols; use mode='reduced'")
    shapes = qr_shapes(a, mode)
    (q, r), (gq, gr) = unpack(out, *shapes), unpack(g, *shapes)
    if m >= c:
        return [_tall_qr(q, r, gq, gr)]
    first, rest = (0, m), (m, c)  # A = [X Y] = Q [U V]: X has the QR factors Q and U, and V = Q^H Y
    y, gv = cut(a, None, rest), cut(gr, None, rest)
    gx = _tall_qr(q, cut(r, None, first), gq + mm(y, h(gv)), cut(gr, None, first))
    from .rearrange import joined

    return [joined([gx, mm(q, gv)], len(a.shape) - 1)]


def _tall_qr(q: Node, r: Node, gq: Node, gr: Node) -> Node:
    m = triu(mm(gr, h(r)) - mm(h(q), gq))
    middle = m + h(m)
    real = lang.real(diagonal(m))
    middle = with_diagonal(middle, cast(real, m.dtype))
    return h(solve_triangular(r, h(gq + mm(q, middle)), True))


def _spread(values: Node, filled: int = 1) -> Node:
    """``values[j] - values[i]``, with ``filled`` on the diagonal."""
    n = values.shape[-1]
    e = lang.row("SUB", row(values), column(values))
    return with_diagonal(e, graph.full(filled, (*values.shape[:-1], n), values.dtype))


@routine_gradient("linalg.eigh")
def _eigh(n: Node, g: Node, out: Node) -> Grads:
    k = n.src[0].shape[-1]
    (w, v), (gw, gv) = unpack(out, (k,), (k, k)), unpack(g, (k,), (k, k))
    w, gw = lang.real(w), cast(lang.real(gw), n.dtype)
    inner = mm(h(v), gv) / cast(_spread(w), n.dtype)
    return [hermitian(mm(v, with_diagonal(inner, gw), h(v)))]


@routine_gradient("linalg.eigvalsh")
def _eigvalsh(n: Node, g: Node, out: Node) -> Grads:
    (a,) = n.src
    k = a.shape[-1]
    packed = graph.call("linalg.eigh", (a,), (*a.shape[:-2], k + k * k), a.dtype, *n.arg[1])
    v = unpack(packed, (k,), (k, k))[1]
    return [mm(v * cast(row(g), a.dtype), h(v))]


def _real_of(g: Node, a: Node) -> Node:
    return cast(g, a.dtype)


@routine_gradient("linalg.eig")
def _eig(n: Node, g: Node, out: Node) -> Grads:
    (a,) = n.src
    k = a.shape[-1]
    (w, v), (gw, gv) = unpack(out, (k,), (k, k)), unpack(g, (k,), (k, k))
    inner = mm(h(v), gv)
    along = lang.complex_(lang.real(diagonal(inner)), 0)  # vectors are normalized: what lengthens them does not count
    inner = (inner - mm(h(v), v) * row(along)) / lang.conj(_spread(w))
    return [_real_of(mm(solve(h(v), with_diagonal(inner, gw)), h(v)), a)]


@routine_gradient("linalg.eigvals")
def _eigvals(n: Node, g: Node, out: Node) -> Grads:
    (a,) = n.src
    k = a.shape[-1]
    packed = graph.call("linalg.eig", (a,), (*a.shape[:-2], k + k * k), n.dtype)
    v = unpack(packed, (k,), (k, k))[1]
    return [_real_of(mm(solve(h(v), column(g) * h(v)), eye(v.shape, v.dtype)), a)]


def svd_shapes(a: Node, full: bool) -> tuple[tuple[int, int], tuple[int], tuple[int, int]]:
    m, n = a.shape[-2:]
    k = min(m, n)
    return (m, m if full else k), (k,), (n if full else k, n)


@routine_gradient("linalg.svd")
def _svd(n: Node, g: Node, out: Node) -> Grads:
    (a,) = n.src
    m, c = a.shape[-2:]
    k = min(m, c)
    shapes = svd_shapes(a, n.arg[1][0])
    (u, s, vh), (gu, gs, gvh) = unpack(out, *shapes), unpack(g, *shapes)
    u, gu, vh, gvh = cut(u, None, (0, k)), cut(gu, None, (0, k)), cut(vh, (0, k)), cut(gvh, (0, k))
    s, gs = lang.real(s), lang.real(gs)
    su, sv = mm(h(u), gu), mm(vh, h(gvh))
    su, sv = su - h(su), sv - h(sv)
    wide = cast(s, a.dtype)
    middle = (su * row(wide) + column(wide) * sv) / cast(_spread(s * s), a.dtype)
    on = cast(gs, a.dtype)
    if a.dtype.kind == "c":
        on = on + diagonal(su) / (wide * 2)
    middle = with_diagonal(middle, on)
    ga = mm(u, middle, vh)
    if m > k:
        part = gu / row(wide)
        ga = ga + mm(part - mm(u, mm(h(u), part)), vh)
    if c > k:
        part = gvh / column(wide)
        ga = ga + mm(u, part - mm(mm(part, h(vh)), vh))
    return [ga]


@routine_gradient("linalg.svdvals")
def _svdvals(n: Node, g: Node, out: Node) -> Grads:
    (a,) = n.src
    shapes = svd_shapes(a, False)
    size = sum([shapes[0][0] * shapes[0][1], shapes[1][0], shapes[2][0] * shapes[2][1]])
    u, _, vh = unpack(graph.call("linalg.svd", (a,), (*a.shape[:-2], size), a.dtype, False), *shapes)
    return [mm(u * cast(row(g), a.dtype), vh)]


@routine_gradient("linalg.pinv")
def _pinv(n: Node, g: Node, out: Node) -> Grads:
    """G. Golub and V. Pereyra (1973), for constant rank."""
    (a, _), p, gh = n.src, out, h(g)
    m, c = a.shape[-2:]
    ph = h(p)
    if m <= c:
        k = mm(gh, p)
        kp = mm(k, ph)
        return [kp - h(mm(p, k)) - mm(mm(a, p), kp) + mm(mm(ph, p), gh - mm(k, a)), None]
    k = mm(p, gh)
    pk = mm(ph, k)
    return [pk - h(mm(k, p)) + mm(gh - mm(a, k), mm(p, ph)) - mm(mm(pk, p), a), None]


@routine_gradient("linalg.lstsq")
def _lstsq(n: Node, g: Node, out: Node) -> Grads:
    """The solution is ``pinv(A) @ B``."""
    a, b = n.src
    (gx,) = unpack(g, (a.shape[-1], b.shape[-1]))
    cutoffs = graph.full(0, (*a.shape[:-2], 2), a.dtype.to_real())
    p = graph.call("linalg.pinv", (a, cutoffs), (*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype, False)
    return vjp([mm(p, b)], [a, b], [gx])


@routine_gradient("linalg.matrix_exp")
def _matrix_exp(n: Node, g: Node, out: Node) -> Grads:
    """N. Higham, "Functions of Matrices" (2008), 3.16: the derivative is a block of a larger exponential."""
    from .rearrange import joined

    (a,) = n.src
    k, r = a.shape[-1], len(a.shape)
    ah = h(a)
    zero = graph.full(0, a.shape, a.dtype)
    both = joined([joined([ah, g], r - 1), joined([zero, ah], r - 1)], r - 2)
    return [cut(_call_on(both, "linalg.matrix_exp"), (0, k), (k, 2 * k))]


def _call_on(a: Node, name: str) -> Node:
    return graph.call(name, (a,), a.shape, a.dtype)


__all__ = ["embed", "inverse", "pack", "permutation", "qr_shapes", "solve", "solve_triangular", "svd_shapes", "t"]
