"""The regularized incomplete gamma functions.

In: float nodes, widened to float64.  Out: one node of the broadcast shape.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["igamma"].apply([graph.param(0, (4, 1), dtypes.float64), graph.param(1, (3,), dtypes.float64)], {}).shape
    (4, 3)

With ``t = x exp(w)`` the integral of ``t ** (a - 1) exp(-t)`` from x on is ``x ** a exp(-x)`` times that of ``exp(-(x - a) w -
x (exp(w) - 1 - w))`` over positive w, and below x the same with negative ones.  Above the median and below it, both terms are
then positive (nearly), so that nothing cancels.  The half line, up to where the integrand is ``exp(-38.5)``, is sampled at the 7th
powers of equal steps: a REDUCE of 104 terms.  For ``a`` and ``x`` below 1 there are power series.  The exponent of ``x ** a exp(-x)``
is computed in two floats: as one it would leave a value near 1e-300 with 13 digits.
"""

from __future__ import annotations

import math

from .. import dtypes
from ..ir import graph, lang, twofold
from ..ir.node import Node, const
from . import samples as s
from .gamma import _digamma
from .registry import op
from .series import INF, NAN, exp_parts, expand, fold_last, numbered, polynomial

T = s.T
TERMS, POWER, DEPTH = 104, 7, 38.5
_LN2 = (0.6931471805599453, 2.3190468138462996e-17)
_EULER = (0.5772156649015329, -4.942915152430649e-18)
DIRECT = 9  # below, the gamma function is a product; from there on Stirling's series


def _exp_rest(y: Node) -> Node:
    """``exp(y) - 1 - y``."""
    near: Node = lang.full_like(y, 1 / math.factorial(18))
    for k in range(17, 1, -1):
        near = near * y + 1 / math.factorial(k)
    near = y * y * near
    return lang.where(lang.lt(lang.absolute(y), 0.6), near, lang.expm1(y) - y)


def _exponent(a: Node, x: Node, direct: Node) -> twofold.Pair:
    """``a log(x) - x`` where ``direct``, else ``a log(x / a) - (x - a)``: in two floats, since of an exponent every digit counts."""
    zero = lang.full_like(a, 0.0)
    ratio = twofold.over((x, zero), (lang.where(direct, 1.0, a), zero))
    power = lang.round_(lang.log2(ratio[0]))
    half = lang.floor(power * 0.5)
    high, low = (v * lang.exp2(-half) * lang.exp2(half - power) for v in ratio)  # in 1 / sqrt(2) .. sqrt(2)
    one = lang.full_like(a, 1.0)
    s = twofold.over(twofold.plus((high, low), (-one, zero)), twofold.plus((high, low), (one, zero)))
    rest = twofold.atanh_rest(s)
    distance = twofold.exact_sum(x, lang.where(direct, zero, -a))
    twice = a + a  # log(ratio) = 2 s + 2 rest + power log(2), and of 2 a s - (x - a) there is left -(x - a) s
    near = twofold.plus(twofold.times((twice, zero), rest), _negative(twofold.times(distance, s)))
    ln2 = twofold.times((power, zero), (const(_LN2[0], a.dtype), const(_LN2[1], a.dtype)))
    logarithm = twofold.plus(twofold.plus((s[0] * 2, s[1] * 2), (rest[0] * 2, rest[1] * 2)), ln2)
    far = twofold.plus(twofold.times((a, zero), logarithm), _negative(distance))
    beside = lang.eq(power, 0) & ~direct
    return lang.where(beside, near[0], far[0]), lang.where(beside, near[1], far[1])


def _negative(v: twofold.Pair) -> twofold.Pair:
    return -v[0], -v[1]


def _factorial(a: Node) -> Node:
    """``gamma(a + 1)`` for ``a < DIRECT``."""
    whole = lang.floor(a)
    f = a - whole
    high, low = lang.full_like(a, 1.0), lang.full_like(a, 0.0)
    for k in range(1, DIRECT):
        factor = lang.where(lang.le(k, whole), f + float(k), 1.0)
        product = high * factor
        high, low = product, lang.fma(high, factor, -product) + low * factor
    rest = expand("gamma", f + 1)
    return lang.fma(high, rest, low * rest)


def _lead(a: Node, x: Node) -> Node:
    """``x ** a * exp(-x) / gamma(a + 1)``."""
    direct = lang.lt(a, float(DIRECT))
    high, low = _exponent(a, x, direct)
    inverse = 1 / a
    star = inverse * polynomial(inverse * inverse, 1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
    high, low = twofold.exact_sum(high, low - lang.where(direct, 0.0, star))
    size = lang.where(direct, _factorial(a), lang.sqrt(2 * math.pi * a))
    return lang.where(lang.lt(-800, high), exp_parts(high, low), 0.0) / size


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
    cube = step * step * step
    sixth = cube * cube
    v = numbered(reach, TERMS)[0] * (sixth * step)
    signed = v * numbered(lang.where(below, lang.full_like(a, -1.0), 1.0), TERMS)[0]
    terms = lang.exp(-(wide * v + numbered(x, TERMS)[0] * _exp_rest(signed))) * sixth
    return fold_last(terms) * reach * (POWER / TERMS)


def _small(a: Node, x: Node, lead: Node) -> tuple[Node, Node]:
    """(lower, upper) for a and x below 1, by power series.

    The upper one is ``1 - exp(y) (1 + a S)`` with ``y = a log(x) - log(gamma(a + 1))`` and the sum S of ``(-x)**n / (n! (a + n))``:
    ``y / a + S`` is added up in two floats, since near ``x = 1`` its terms cancel.
    """
    term, series = x * x * 0.5, lang.full_like(a, 0.0)
    positive = lang.full_like(a, 1.0)
    for n in range(2, 19):
        series = series + term / (a + float(n))
        term = term * (-x) / float(n + 1)
    for n in range(18, 0, -1):
        positive = lang.fma(positive, x / (a + float(n)), lang.lift(1.0, a))
    zero = lang.full_like(a, 0.0)
    first = twofold.over((-x, zero), twofold.exact_sum(lang.full_like(a, 1.0), a))
    slope = twofold.exact_sum(lang.log(x), lang.full_like(a, _EULER[0]))
    rest = _EULER[1] - a * expand("lgamma_rest", a)  # log(gamma(a + 1)) = -a EULER + a**2 lgamma_rest
    both = twofold.plus(slope, first)
    y, total = a * (slope[0] + (slope[1] + rest)), a * (first[0] + series)
    near = -(a * (both[0] + (both[1] + (rest + series))) + (_exp_rest(y) + lang.expm1(y) * total))
    far = -lang.expm1(y) - lang.exp(y) * total
    return lead * positive, lang.where(lang.lt(-0.5, y), near, far)


def _both(a: Node, x: Node) -> tuple[Node, Node]:
    """(lower, upper), each with its own digits."""
    a, x = (graph.broadcast(n, lang.shapes_broadcast([a.shape, x.shape])) for n in (a, x))
    below = lang.lt(x, 1) | lang.lt(x, a - 1 / 3)  # near the median, so that neither is a small rest of 1
    lead, integral = _lead(a, x), _integral(a, x, below)
    first = lead * lang.where(below, 1 + x * integral, a * integral)
    lower, upper = lang.where(below, first, 1 - first), lang.where(below, 1 - first, first)
    tiny = lang.lt(a, 1) & lang.lt(x, 1)
    near = _small(a, x, lead)
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
