"""``POW``: a logarithm with twice the bits, times the exponent, exponentiated.

In: two nodes of float32 or float64.  Out: a node of basic rows, as :mod:`.math` makes them.
A pair ``(high, low)`` of nodes is their unrounded sum (:mod:`spiraltorch.ir.twofold`).
"""

from __future__ import annotations

from ...dtypes import float32, float64
from ...ir.lang import absolute, bitcast, eq, lt, ne, row, trunc, where
from ...ir.node import Node, cast, const
from ...ir.twofold import Pair, atanh_rest, ordered_sum, times
from .math import F64, INF, NAN, fma, format_of, log2, mantissa_exponent, polynomial, scaled

_TWO_LOG2E = (2.8853900817779268, 4.0710547481862066e-17)


def _log2_pair(x: Node) -> Pair:
    """log2 of a positive finite float64, to about 2^-64 of its size: 2 log2(e) atanh(s) + e."""
    m, _, e = mantissa_exponent(x)
    f = m - 1.0
    high = m + 1.0
    low = where(lt(m, 1.0), m - (high - 1.0), 1.0 - (high - m))
    inverse = 1.0 / high
    s0 = f * inverse
    s1 = fma(row("NEG", s0), low, fma(row("NEG", s0), high, f)) * inverse
    s = ordered_sum(s0, s1)
    tail = atanh_rest(s)
    sum_high, sum_low = ordered_sum(s[0], tail[0])
    total = ordered_sum(sum_high, sum_low + (s[1] + tail[1]))
    scaled_log = times(total, (const(_TWO_LOG2E[0], float64), const(_TWO_LOG2E[1], float64)))
    whole = ordered_sum(e, scaled_log[0])
    return ordered_sum(whole[0], whole[1] + scaled_log[1])


def _exp2_pair(p: Node, low: Node) -> Node:
    """2^(p + low); far outside the range the low part is not a number one can use."""
    far = lt(1100.0, absolute(p))
    p = where(far, where(lt(p, 0.0), const(-1100.0, float64), const(1100.0, float64)), p)
    n = (p + F64.magic) - F64.magic
    r = (p - n) + where(far, 0.0, low)
    return scaled(fma(polynomial(F64.exp2_poly, r), r, 1.0), n)


def _positive(x: Node, y: Node) -> Node:
    """x^y for a positive finite x."""
    if x.dtype is float32:
        p = cast(y, float64) * log2(cast(x, float64))
        return cast(_exp2_pair(p, const(0.0, float64)), float32)
    high, low = _log2_pair(x)
    p = y * high
    return _exp2_pair(p, fma(y, low, fma(y, high, row("NEG", p))))


def power(x: Node, y: Node) -> Node:
    """x^y with IEEE 754's special cases, which are C's and NumPy's."""
    k = format_of(x)
    a = absolute(x)
    below = lt(a, 1.0)
    down = lt(y, 0.0)
    zero, inf, one = [const(v, k.dtype) for v in (0.0, INF, 1.0)]
    value = _positive(a, y)
    value = where(eq(a, 0.0), where(down, inf, zero), value)
    value = where(eq(a, INF), where(down, zero, inf), value)
    at_infinity = where(eq(a, 1.0), one, where(below ^ down, zero, inf))
    value = where(eq(absolute(y), INF), at_infinity, value)
    # The sign: odd integers keep it, other integers lose it, fractions of negative numbers are nan.
    whole = eq(trunc(y), y)
    half = y * 0.5
    odd = whole & ne(trunc(half), half) & lt(absolute(y), INF)
    negative = lt(bitcast(x, k.bits), 0)
    value = where(negative & odd, row("NEG", value), value)
    value = where(lt(x, 0.0) & ne(x, -INF) & ~whole, NAN, value)
    value = where(ne(x, x) | ne(y, y), NAN, value)
    return where(eq(x, 1.0) | eq(y, 0.0), one, value)
