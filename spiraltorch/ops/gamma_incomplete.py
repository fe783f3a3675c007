"""The regularized incomplete gamma functions.

In: float nodes, widened to float64.  Out: one node of the broadcast shape.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["igamma"].apply([graph.param(0, (4, 1), dtypes.float64), graph.param(1, (3,), dtypes.float64)], {}).shape
    (4, 3)

With ``t = x exp(w)`` the integral of ``t ** (a - 1) exp(-t)`` from x on is ``x ** a exp(-x)`` times that of ``exp(-(x - a) w -
x (exp(w) - 1 - w))`` over positive w, and below x the same with negative ones.  Above (``x >= a``) and below, both terms are
then positive, so that nothing cancels.  The half line, up to where the integrand is ``exp(-40)``, is sampled at the 8th powers of
equal steps: a REDUCE of 96 terms.  For ``a`` and ``x`` below 1 there is the power series.
"""

from __future__ import annotations

import math

from .. import dtypes
from ..ir import graph, lang
from ..ir.node import Node, const
from . import samples as s
from .gamma import _digamma
from .registry import op
from .series import INF, NAN, expand, fold_last, numbered, polynomial

T = s.T
TERMS, POWER, DEPTH = 96, 8, 40.0
DIRECT = 9  # below, the gamma function is a product; from there on Stirling's series


def _exp_rest(y: Node) -> Node:
    """``exp(y) - 1 - y``."""
    near: Node = lang.full_like(y, 1 / math.factorial(18))
    for k in range(17, 1, -1):
        near = near * y + 1 / math.factorial(k)
    near = y * y * near
    return lang.where(lang.lt(lang.absolute(y), 0.6), near, lang.expm1(y) - y)


def _log_gamma_1p(f: Node) -> Node:
    """``log(gamma(1 + f))`` for f in [0, 1]."""
    return f * (f - 1) * expand("lgamma", f + 1)


def _lead(a: Node, x: Node) -> Node:
    """``x ** a * exp(-x) / gamma(a + 1)``."""
    whole = lang.floor(a)
    f = a - whole
    product = lang.full_like(a, 1.0)
    for k in range(1, DIRECT + 1):
        product = product * lang.where(lang.le(k, whole), f + float(k), 1.0)
    near = lang.pow_(x, a) * lang.exp(-x) / (lang.exp(_log_gamma_1p(f)) * product)
    ratio = (x - a) / a
    w = lang.where(lang.lt(lang.absolute(ratio), 0.5), lang.log1p(ratio), lang.log(x / a))
    inverse = 1 / a
    star = inverse * polynomial(inverse * inverse, 1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
    far = lang.exp(-(a * _exp_rest(w)) - star) / lang.sqrt(2 * math.pi * a)
    return lang.where(lang.lt(a, float(DIRECT)), near, far)


def _integral(a: Node, x: Node, below: Node) -> Node:
    """The integral of the module's docstring; below it is of ``exp(-(a + 1 - x) v - x (exp(-v) - 1 + v))``."""
    slope = lang.where(below, a + 1 - x, x - a)
    half = 2 * slope - DEPTH
    reach = 4 * DEPTH / (half + lang.sqrt(half * half + 8 * DEPTH * (a + 1)))
    ahead = 2 * DEPTH / (slope + lang.sqrt(slope * slope + 2 * DEPTH * x))
    ahead = lang.minimum(ahead, lang.log1p((DEPTH + a * ahead) / x))
    reach = lang.where(below, reach, ahead)
    wide, k = numbered(slope, TERMS)
    step = (k + 0.5) / float(TERMS)
    squared = step * step
    fourth = squared * squared
    v = numbered(reach, TERMS)[0] * (fourth * fourth)
    signed = v * numbered(lang.where(below, lang.full_like(a, -1.0), 1.0), TERMS)[0]
    terms = lang.exp(-(wide * v + numbered(x, TERMS)[0] * _exp_rest(signed))) * (fourth * squared * step)
    return fold_last(terms) * reach * (POWER / TERMS)


def _small(a: Node, x: Node) -> tuple[Node, Node]:
    """(lower, upper) for a and x below 1, by the power series."""
    series, term = const(0.0, a.dtype), const(1.0, a.dtype)
    for n in range(1, 19):
        term = term * (-x) / float(n)
        series = series + term / (a + float(n))
    log = a * lang.log(x) - _log_gamma_1p(a)
    size = lang.exp(log)
    rest = a * series
    return size * (1 + rest), -lang.expm1(log) - size * rest


def _both(a: Node, x: Node) -> tuple[Node, Node]:
    """(lower, upper), each with its own digits."""
    a, x = (graph.broadcast(n, lang.shapes_broadcast([a.shape, x.shape])) for n in (a, x))
    below = lang.lt(x, a)
    lead, integral = _lead(a, x), _integral(a, x, below)
    first = lead * lang.where(below, 1 + x * integral, a * integral)
    lower, upper = lang.where(below, first, 1 - first), lang.where(below, 1 - first, first)
    tiny = lang.lt(a, 1) & lang.lt(x, 1)
    near = _small(a, x)
    lower, upper = lang.where(tiny, near[0], lower), lang.where(tiny, near[1], upper)
    full = lang.eq(x, INF) | lang.eq(a, 0)
    none = lang.eq(x, 0) | lang.eq(a, INF)
    lower, upper = (lang.where(none, 1 - v, lang.where(full, v, n)) for v, n in ((1.0, lower), (0.0, upper)))
    bad = lang.lt(a, 0) | lang.lt(x, 0) | (lang.eq(a, 0) & ~lang.lt(0, x)) | (lang.eq(a, INF) & lang.eq(x, INF))
    return lang.where(bad, NAN, lower), lang.where(bad, NAN, upper)


def _slope(a: Node, x: Node) -> Node:
    """The derivative of the lower one at ``x``, with derivatives of its own in both."""
    a, x = (graph.broadcast(n, lang.shapes_broadcast([a.shape, x.shape])) for n in (a, x))
    b, y = lang.detach(a), lang.detach(x)
    at_zero = lang.where(lang.lt(1, b), lang.full_like(b, 0.0), lang.where(lang.lt(b, 1), lang.full_like(b, INF), NAN))
    value = lang.where(lang.eq(y, 0), at_zero, _lead(b, y) * b / y)
    moved = (a - b) * lang.detach(lang.log(y) - _digamma(b)) + (x - y) * lang.detach((b - 1) / y - 1)
    return lang.detach(value) * lang.where(lang.isnan(moved), 1.0, lang.exp(moved))


def _igamma_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    return [lang.full_like(g, NAN), g * _slope(input, other)]


def _igammac_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    return [lang.full_like(g, NAN), -g * _slope(input, other)]


_PAIRS = s.calls(
    s.value_only(T(2, 3, fill="positive"), T(2, 3, fill="positive")),
    s.call(T(2, 9, fill="positive", dtype=dtypes.int64), T(9, fill="positive")),
    s.value_only(T(4, 1, fill="positive"), T(5, fill="beyond")), s.value_only(T(fill="positive"), T(3, fill="open")),
    s.value_only(T(0, 3), T(1, 3)), s.value_only(T(14, 1, fill="special"), T(14, fill="special")),
)  # fmt: skip


@op("igamma", undefined=("input",), operands=2, promote="arith", kinds="f", acc="double", numbers="none", grad=_igamma_grad,
    inplace="exact", aliases=("special.gammainc",), samples=_PAIRS)  # fmt: skip
def igamma(input: Node, other: Node) -> Node:
    """The regularized lower incomplete gamma function of ``other``, 0 at 0 and 1 at inf.  Backward raises
    NotImplementedError where the gradient of ``input`` is wanted, as in torch.  (torch.igamma)"""
    return _both(input, other)[0]


@op("igammac", undefined=("input",), operands=2, promote="arith", kinds="f", acc="double", numbers="none", grad=_igammac_grad,
    inplace="exact", aliases=("special.gammaincc",), samples=_PAIRS)  # fmt: skip
def igammac(input: Node, other: Node) -> Node:
    """The regularized upper incomplete gamma function, ``1 - igamma``.  (torch.igammac)"""
    return _both(input, other)[1]


__all__ = ["igamma", "igammac"]
