"""The gamma function's logarithm and its derivative left of 0, beside their zeros too: for float64 operands.

In: float64 nodes.  Out: float64 nodes, whose values mean something in the stated ranges.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.gamma_mirrored import lgamma_between_poles
    >>> lgamma_between_poles(graph.param(0, (4,), dtypes.float64)).shape
    (4,)

Between two poles the reflection formula's terms cancel.  So each function is written as what it is more than 0 at its nearest zero
z, which a table holds in two floats: products and polynomials at x and z differ by ``h = x - z`` times divided differences, and
the difference of two cotangents is a product.
"""

from __future__ import annotations

import math

from ..ir import lang
from ..ir.node import Node
from .oscillating import divided_difference
from .series import expand, piecewise, table

LGAMMA_END, DIGAMMA_END = 17, 31.0  # the last pole, and the last interval, of which the zeros are in the table


def _of_table(name: str, key: Node) -> list[Node]:
    """The columns of a table's row ``key``."""
    columns = zip(*table()[name])
    return [piecewise(key, [k + 0.5 for k in range(len(column) - 1)], column) for column in columns]


def lgamma_between_poles(x: Node) -> Node:
    """``log(|gamma(x)|)`` for x from -LGAMMA_END - 1/2 to -2.

    With ``x = e - n`` it is ``log(gamma(4 + e)) - log(|e (1 - e) ... (n - e) (1 + e) (2 + e) (3 + e)|)``; the product is that at
    the zero times ``1 + q``.
    """
    n = lang.round_(-x)
    e = x + n
    high, low = _of_table("lgamma_roots", 2 * n - lang.where(lang.lt(e, 0), lang.lift(4.0, x), lang.lift(5.0, x)))
    h = (x - high) - low
    at_zero = (high + n) + low
    there, slope = lang.full_like(x, 1.0), lang.full_like(x, 0.0)  # of all factors but e
    for k in (1.0, 2.0, 3.0):
        slope = lang.fma(slope, e + k, there)
        there = there * (at_zero + k)
    for k in range(1, LGAMMA_END + 1):
        part = lang.le(k, n)
        slope = lang.where(part, lang.fma(slope, k - e, -there), slope)
        there = there * lang.where(part, k - at_zero, 1.0)
    relative = slope / there
    q = h / at_zero * lang.fma(e, relative, lang.lift(1.0, x))
    ratio = e / at_zero * lang.fma(h, relative, lang.lift(1.0, x))
    logarithm = lang.where(lang.lt(-0.5, q) & lang.lt(q, 1), lang.log1p(q), lang.log(ratio))
    smooth = divided_difference([c for c, _ in table()["lgamma_above"]], e + 0.5, at_zero + 0.5)[1]
    first, second = table()["lgamma_roots"][:2]
    middle = expand("lgamma_middle", x) * (((x - first[0]) - first[1]) * ((x - second[0]) - second[1]))
    return lang.where(lang.lt(-2.75, x) & lang.lt(x, -2.25), middle, h * smooth - logarithm)


def digamma_between_poles(x: Node, far: Node) -> Node:
    """``digamma(x)`` for x from -DIGAMMA_END - 1 to 0; ``far``, which has an absolute error, where that is 1 or 2 and more."""
    high, low, cotangent = _of_table("digamma_roots", lang.floor(-x))
    h = (x - high) - low
    a, b = 4 - x, 4 - high
    u, w = 1 / a, 1 / b
    value, slope = divided_difference([c for c, _ in table()["digamma_rest"]], u, w)
    t = -(h * w)
    above = w * lang.fma(t, expand("log1p", t), lang.lift(1.0, x)) - u * w * lang.fma(w, slope, value)
    for k in (1.0, 2.0, 3.0):
        above = above + 1 / ((k - x) * (k - high))
    tangent = lang.tan(lang.fma(h, lang.lift(math.pi, x), h * 1.2246467991473532e-16))
    one = lang.lift(1.0, x)
    poles = math.pi * tangent * lang.fma(cotangent, cotangent, one) / lang.fma(cotangent, tangent, one)
    return lang.where(lang.lt(lang.absolute(far), lang.where(lang.lt(-2, x), lang.lift(1.0, x), 2.0)), poles - h * above, far)


__all__ = ["DIGAMMA_END", "LGAMMA_END", "digamma_between_poles", "lgamma_between_poles"]
