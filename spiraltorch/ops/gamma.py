"""The gamma function's logarithm, its derivatives, the Hurwitz zeta function.

In: float nodes, widened to float64.  Out: one node of the broadcast shape.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["polygamma"].apply([1, graph.param(0, (4,), dtypes.float64)], {}).shape
    (4,)

The sum of many terms of zeta (Euler and Maclaurin's) is a REDUCE over an axis of its own: a loop in the kernel, not
code for each term.
"""

from __future__ import annotations

import math

from .. import dtypes
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .registry import op
from .series import INF, NAN, copysign, expand, fold_last, is_integer, numbered, polynomial, sin_pi

SPECIAL = ("special",)


def lgamma_positive(x: Node) -> Node:
    """``log(gamma(x))`` for ``x >= 0``: an expansion over the two zeros below 11, Stirling's series above."""
    small = lang.lt(x, 0.5)
    at = lang.where(small, x + 1, x)
    zeros = lang.where(small, x * (x - 1), (x - 1) * (x - 2))
    near = zeros * expand("lgamma", at)
    near = lang.where(small, near - lang.log(x), near)
    inverse = 1 / x
    series = inverse * polynomial(
        inverse * inverse, 1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400
    )
    far = (x - 0.5) * (lang.log(x) - 1) + (0.5 * math.log(2 * math.pi) - 0.5 + series)
    return lang.where(lang.lt(x, 11), near, far)


def _lgamma(x: Node) -> Node:
    size = lang.absolute(x)
    positive = lgamma_positive(size)
    mirrored = lang.log(math.pi / lang.absolute(sin_pi(size))) - lang.log(size) - positive
    mirrored = lang.where(lang.eq(size, INF), INF, mirrored)
    return lang.where(lang.lt(x, 0), mirrored, positive)


def _lgamma_exact(x: Node) -> Node:
    from .gamma_mirrored import LGAMMA_END, lgamma_between_poles

    between = lang.lt(x, -2) & lang.lt(-(LGAMMA_END + 0.5), x)
    return lang.where(between, lgamma_between_poles(x), _lgamma(x))


def _digamma_exact(x: Node) -> Node:
    from .gamma_mirrored import DIGAMMA_END, digamma_between_poles

    far = _digamma(x)
    between = lang.lt(x, 0) & lang.lt(-(DIGAMMA_END + 1), x)
    return lang.where(between, digamma_between_poles(x, far), far)


def _digamma(x: Node) -> Node:
    mirrored = lang.lt(x, 0)
    y = lang.where(mirrored, 1 - x, x)
    small = lang.lt(y, 1)
    at = lang.where(small, y + 1, y)
    near = expand("digamma", at) * ((at - _ROOT_HIGH) - _ROOT_LOW)
    near = lang.where(small, near - 1 / y, near)
    inverse = 1 / y
    far = lang.log(y) + inverse * expand("digamma_far", inverse)
    positive = lang.where(lang.lt(y, 3), near, far)
    part = x - lang.round_(x)
    angle = part * math.pi
    lost = lang.fma(part, lang.lift(math.pi, x), -angle) + part * 1.2246467991473532e-16
    tangent = lang.tan(angle)
    cotangent = math.pi / lang.fma(lost, lang.fma(tangent, tangent, lang.lift(1.0, x)), tangent)
    out = lang.where(mirrored, positive - cotangent, positive)
    out = lang.where(mirrored & is_integer(x), NAN, out)
    return lang.where(lang.eq(x, 0), -copysign(lang.full_like(x, INF), x), out)


_ROOT_HIGH, _ROOT_LOW = 1.4616321449683622, 9.549995429965697e-17  # digamma's positive zero


def _lgamma_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * _digamma(input)]


@op("lgamma", operands=1, promote="float", kinds="f", acc="double", exact=_lgamma_exact, grad=_lgamma_grad, inplace=True,
    aliases=("special.gammaln",), samples=s.unary("positive"))  # fmt: skip
def lgamma(input: Node) -> Node:
    """``log(|gamma(input)|)``; inf at 0, -1, -2 ...  (torch.lgamma)"""
    return _lgamma(input)


def _digamma_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * _polygamma(1, input)]


@op("digamma", operands=1, promote="float", kinds="f", acc="double", exact=_digamma_exact, grad=_digamma_grad, inplace=True,
    aliases=("special.digamma", "special.psi"), samples=s.unary("positive"))  # fmt: skip
def digamma(input: Node) -> Node:
    """The derivative of ``lgamma``; nan at negative integers.  (torch.digamma)"""
    return _digamma(input)


# -- zeta -------------------------------------------------------------------------------------------------

_DIRECT = 10  # terms that are added one by one
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
              -3617 / 10670622842880000, 43867 / 5109094217170944000)  # fmt: skip  # B_2k / (2k)!


def _term(q: Node, k: Node, exponent: Node) -> Node:
    """``(q + k) ** exponent``; what the addition rounds off is taken into account, since the power multiplies it."""
    at = q + k
    lost = (q - (at - k)) + (k - (at - (at - k)))
    term = lang.pow_(at, exponent)
    plain = lang.eq(lost, 0) | lang.eq(term, 0) | lang.eq(term, INF) | lang.eq(at, INF) | lang.eq(exponent, -INF)
    return lang.where(plain, term, lang.fma(term, exponent * (lost / at), term))


def _zeta_positive(order: Node, q: Node) -> Node:
    """Sum of ``(q + k) ** -order`` over all k, for ``q > 0`` and ``order > 1`` (Euler and Maclaurin)."""
    head = fold_last(_term(*numbered(q, _DIRECT), numbered(-order, _DIRECT)[0]))
    a = q + float(_DIRECT)
    last = _term(q, lang.full_like(q, float(_DIRECT)), -order)
    inverse = 1 / a
    tail: Node = lang.full_like(a, 0.0)
    for j in range(len(_BERNOULLI) - 1, -1, -1):
        factor = (order + 2.0 * j) * inverse if j == 0 else (order + (2.0 * j - 1)) * inverse * ((order + 2.0 * j) * inverse)
        tail = factor * (_BERNOULLI[j] + tail)
    rest = lang.fma(last, tail + 0.5, last * (a / (order - 1)))
    return head + lang.where(lang.eq(last, 0), 0, rest)


def _zeta(order: Node, q: Node) -> Node:
    order, q = (graph.broadcast(n, lang.shapes_broadcast([order.shape, q.shape])) for n in (order, q))
    whole = lang.floor(q)
    part = q - whole  # where q is negative, the terms below zero are a difference of two sums of positive terms
    rest = lang.where(lang.lt(-1, q), -q, 1 - part)  # exact where ``part`` is rounded to 1
    negative = lang.lt(q, 0)
    positive = _zeta_positive(order, lang.where(negative, part, q))
    passed = _zeta_positive(order, lang.where(negative, rest, 1)) - _zeta_positive(order, lang.where(negative, 1 - q, 1))
    odd = lang.ne(order - 2 * lang.floor(order * 0.5), 0)
    mirrored = positive + lang.where(odd, -passed, passed)
    mirrored = lang.where(is_integer(order), mirrored, NAN)
    mirrored = lang.where(lang.eq(order, INF), INF, mirrored)  # one term is smaller than 1
    out = lang.where(negative, mirrored, positive)
    out = lang.where(lang.isnan(order), NAN, out)
    out = lang.where(lang.le(q, 0) & lang.eq(q, whole), INF, out)
    out = lang.where(lang.isnan(q) | lang.lt(order, 1), NAN, out)
    return lang.where(lang.eq(order, 1), INF, out)


def _zeta_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    return [lang.full_like(g, NAN), g * (-input * _zeta(input + 1, other))]


@op("zeta", undefined=("input",), operands=2, promote="float", kinds="f", acc="double", grad=_zeta_grad, numbers="both", where=SPECIAL,
    refuses=("float16", "bfloat16"), samples=s.calls(
    s.call(2.5, s.T(2, 3, fill="positive")), s.value_only(3, s.T(5)), s.call(3, s.T(fill="positive")),
    s.call(s.T(4, 1, fill="beyond"), s.T(5, fill="positive")),
    s.call(2, s.T(0, 3)), s.call(s.T(14, fill="beyond"), s.T(14, fill="special"))))  # fmt: skip
def zeta(input: Node, other: Node) -> Node:
    """The Hurwitz zeta function, the sum of ``(other + k) ** -input`` over k = 0, 1 ...  Backward raises NotImplementedError
    where the gradient of ``input`` is wanted, as in torch.  (torch.special.zeta)"""
    return lang.where(lang.eq(other, INF) & lang.ne(input, 1), NAN, _zeta(input, other))


def _polygamma(n: int, x: Node) -> Node:
    if n == 0:
        return _digamma(x)
    sign = 1 if n % 2 else -1
    out = _zeta(lang.full_like(x, n + 1.0), x) * (sign * math.gamma(n + 1.0))
    return lang.where(lang.eq(x, -INF), NAN, out) if n == 1 else out


def _polygamma_grad(g: Node, out: Node, n: int, input: Node) -> list[Node | None]:
    return [g * _polygamma(n + 1, _floating(input))]


def _floating(a: Node) -> Node:
    return a if a.dtype.kind == "f" else cast(a, dtypes.get_default_dtype())


@op("polygamma", pointwise=True, acc="double", grad=_polygamma_grad, aliases=("special.polygamma",), where=("",), samples=s.calls(
    s.call(0, s.T(2, 3, fill="positive")), s.call(1, s.T(2, 3, fill="positive")), s.call(2, s.T(fill="positive")), s.call(3, s.T(0, 3)),
    s.call(4, s.T(5))))  # fmt: skip
def polygamma(n: int, input: Node) -> Node:
    """The ``n``-th derivative of ``digamma``.  (torch.polygamma)"""
    if n < 0:
        raise SpiralError("polygamma(n, x) does not support negative n.")
    if input.dtype.kind != "f":  # computed in float64 too
        return cast(_polygamma(n, cast(input, dtypes.float64)), dtypes.get_default_dtype())
    return _polygamma(n, input)


def _mvlgamma_grad(g: Node, out: Node, input: Node, p: int) -> list[Node | None]:
    total = _digamma(input)
    for j in range(1, p):
        total = total + _digamma(input - 0.5 * j)
    return [g * total]


def _refuse_bool(input: Node) -> None:
    if input.dtype is dtypes.bool_:
        raise SpiralError("The input tensor may not be a boolean tensor.")


@op("mvlgamma", operands=1, promote="float", kinds="f", refuses=_refuse_bool, acc="double", grad=_mvlgamma_grad, inplace=True,
    pointwise=False, aliases=("special.multigammaln",), samples=s.calls(
    s.call(s.T(2, 3, fill="positive"), 1), s.call(s.T(4, dtype=dtypes.float64, fill="positive"), p=2), s.call(s.T(0, 3), 3),
    s.call(s.T(fill="positive"), 2)))  # fmt: skip
def mvlgamma(input: Node, p: int) -> Node:
    """The logarithm of the multivariate gamma function with dimension ``p``.  (torch.mvlgamma)"""
    if p < 1:
        raise SpiralError("p has to be greater than or equal to 1")
    total = _lgamma(input)
    for j in range(1, p):
        total = total + _lgamma(input - 0.5 * j)
    return total + 0.25 * p * (p - 1) * math.log(math.pi)


__all__ = ["lgamma_positive"]
