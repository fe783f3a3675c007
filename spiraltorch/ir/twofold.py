"""Numbers of two floats: a high part, and a low one that is what the high part's rounding left (T. J. Dekker, 1971).

In and out: pairs ``(high, low)`` of float64 nodes, whose sum has about 104 bits.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ir.twofold import exact_sum
    >>> [n.op for n in exact_sum(graph.param(0, (4,), dtypes.float64), graph.param(1, (4,), dtypes.float64))]
    ['ADD', 'ADD']
"""

from __future__ import annotations

from ..dtypes import float64
from .lang import fma
from .node import Node, const

Pair = tuple[Node, Node]

_THIRD = (0.3333333333333333, 1.850371707708594e-17)
# (atanh s / s - 1 - z/3 - z^2/5) / z^3 in z = s^2, |s| <= (sqrt2 - 1) / (sqrt2 + 1): 2^-72.8
_ATANH = (0.1428571428571659, 0.11111111110002088, 0.09090909303415287, 0.07692286391420809, 0.06667884136300319,
          0.05842462638217176, 0.05956014619871336)  # fmt: skip


def ordered_sum(a: Node, b: Node) -> Pair:
    """``a + b`` for ``|a| >= |b|`` or ``a = 0``."""
    high = a + b
    return high, b - (high - a)


def exact_sum(a: Node, b: Node) -> Pair:
    """``a + b`` whichever is larger."""
    high = a + b
    added = high - a
    return high, (a - (high - added)) + (b - added)


def exact_product(a: Node, b: Node) -> Pair:
    high = a * b
    return high, fma(a, b, -high)


def plus(a: Pair, b: Pair) -> Pair:
    high, low = exact_sum(a[0], b[0])
    return ordered_sum(high, low + (a[1] + b[1]))


def times(a: Pair, b: Pair) -> Pair:
    high, error = exact_product(a[0], b[0])
    return ordered_sum(high, error + fma(a[0], b[1], a[1] * b[0]))


def over(a: Pair, b: Pair) -> Pair:
    high = a[0] / b[0]
    rest = fma(-high, b[0], a[0]) + fma(-high, b[1], a[1])
    return ordered_sum(high, rest / b[0])


def atanh_rest(s: Pair) -> Pair:
    """``atanh(s) - s`` to about 2**-66 of ``s``, for ``|s|`` up to that of (sqrt(2) - 1) / (sqrt(2) + 1)."""
    z = times(s, s)
    third = times(z, (const(_THIRD[0], float64), const(_THIRD[1], float64)))
    series = fma(z[0], _ATANH[-1], _ATANH[-2])
    for c in _ATANH[-3::-1]:
        series = fma(series, z[0], c)
    rest = z[0] * z[0] * fma(z[0], series, 0.2)
    return times(s, ordered_sum(third[0], third[1] + rest))
