"""Bessel functions whose relative error stays small beside their zeros too: for float64 operands.

In: float64 nodes.  Out: float64 nodes.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.oscillating import bessel
    >>> bessel(0, False, graph.param(0, (4,), dtypes.float64)).op
    'WHERE'

A function with a zero z that is no float is computed as a factor times ``h = x - z``, with z in two floats, so that no digits are
lost where the difference is small.  Up to 8 the factor is an expansion.  Beyond, J is ``size(x) cos(phase(x))``, Y has the sine
(DLMF 10.18), and the phase less its value at z is ``h + rest(x) - rest(z)``, where the difference is h times a divided difference.
The zero itself is one of a table, or McMahon's series (DLMF 10.21.19) in two floats, up to FAR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ir import lang, twofold
from ..ir.node import Node, const
from .series import expand, piecewise, polynomial, table

FAR = 2.0**48
_QUARTER_PI = (0.7853981633974483, 3.061616997868383e-17, -7.486924524295849e-34)
_TABLED = 12.5  # zeros up to the 12th stand in the table
_J_TURNS, _Y_TURNS = ((4.0,), (6.0,)), ((2.0, 6.0), (4.0, 6.0))  # where one zero's factor follows another's


def _plain(name: str) -> list[float]:
    """A polynomial's coefficients as floats."""
    return [high for high, _ in table()[name]]


def _roots(name: str) -> list[tuple[float, float]]:
    return [(high, low) for high, low in table()[f"{name}_roots"]]


def _past_root(x: Node, key: Node, turns: Sequence[float], roots: Sequence[tuple[float, float]]) -> Node:
    """``x`` less the zero that belongs to each ``key``."""
    high, low = (piecewise(key, turns, [r[k] for r in roots]) for k in (0, 1))
    return (x - high) - low


def divided_difference(coefficients: Sequence[float], a: Node, b: Node) -> tuple[Node, Node]:
    """A polynomial's value at ``a``, and what it is more than at ``b``, over ``a - b``."""
    value: Node = const(coefficients[-1], a.dtype)
    slope: Node = lang.full_like(a, 0.0)
    for c in reversed(coefficients[:-1]):
        slope = lang.fma(slope, b, value)
        value = lang.fma(value, a, const(c, a.dtype))
    return value, slope


def twofold_polynomial(coefficients: Sequence[Sequence[float]], t: twofold.Pair, high: float) -> twofold.Pair:
    """A polynomial whose leading terms are added in two floats, for ``t <= high``."""
    sizes = [abs(c) * high**k for k, (c, _) in enumerate(coefficients)]
    double = max(k for k, size in enumerate(sizes) if size > 2.0**-46 * sizes[0]) + 1
    value = polynomial(t[0], *[c for c, _ in coefficients[double:]])
    low: Node = lang.full_like(value, 0.0)
    for c_high, c_low in reversed(coefficients[:double]):
        product, error = twofold.exact_product(value, t[0])
        error = error + lang.fma(value, t[1], low * t[0])
        value, rest = twofold.ordered_sum(const(c_high, t[0].dtype), product)
        low = rest + (error + c_low)
    return twofold.ordered_sum(value, low)


def past_turns(x: Node, quarters: Node, shift: str, high: float) -> Node:
    """``x - z`` for the zero ``z = b + s(1 / b**2) / b`` at ``b = quarters * pi / 4``; ``shift`` names the polynomial s."""
    b, error = twofold.exact_product(quarters, const(_QUARTER_PI[0], x.dtype))
    second, rest = twofold.exact_product(quarters, const(_QUARTER_PI[1], x.dtype))
    low = error + second
    inverse = 1 / b
    inverse_low = inverse * (lang.fma(-b, inverse, lang.lift(1.0, b)) - low * inverse)
    t, t_error = twofold.exact_product(inverse, inverse)
    pair = t, t_error + 2 * inverse * inverse_low
    moved = twofold.times(twofold_polynomial(table()[shift], pair, high), (inverse, inverse_low))
    total, left = x - b, -rest - quarters * _QUARTER_PI[2] - moved[1]  # the difference is exact
    for part in (error, second, moved[0]):
        total, lost = twofold.exact_sum(total, -part)
        left = left + lost
    return total + left


def _turn(x: Node, h: Node, u: Node, name: str, least: float) -> Node:
    """The amplitude, a polynomial of ``(least / x)**2``, times the sine of the phase between ``x - h`` and x, for ``u = 1 / x``."""
    w = 1 / (x - h)
    a, b = (least * u) * (least * u), (least * w) * (least * w)
    rest, slope = divided_difference(_plain(f"{name}_phase"), a, b)
    turned = h * lang.fma(-(u * w), lang.fma(least * least * w * (u + w), slope, rest), lang.lift(1.0, x))
    square = turned * turned
    return polynomial(a, *_plain(f"{name}_size")) * lang.fma(turned * square, polynomial(square, *_plain("sine")), turned)


def _wave(order: int, second: bool, x: Node) -> Node:
    """J or Y for x from 8 to FAR."""
    name = f"{'y' if second else 'j'}{order}"
    count = lang.round_(x * (1 / math.pi) + ((0.75 if second else 0.25) - order / 2))  # of the nearest zero, about
    roots = _roots(name)
    first = 1  # the second zero is the first that is near
    tabled = _past_root(x, count, [k + 1.5 for k in range(first, len(roots) - 1)], roots[first:])
    quarters = 4 * count + float(2 * order - (3 if second else 1))
    h = lang.where(lang.lt(_TABLED, count), past_turns(x, quarters, f"j{order}_zero", 38.0**-2), tabled)
    u = 1 / x
    wave = lang.sqrt(u) * _turn(x, h, u, f"j{order}", 7.0)
    odd = lang.ne(count - 2 * lang.floor(count * 0.5), 1 if second else 0)
    return lang.where(odd, -wave, wave)


def _j_near(order: int, x: Node) -> Node:
    small = lang.lt(x, 1)
    out = expand(f"j{order}_between", lang.where(small, x * x - 8, x))
    past = _past_root(x, x, _J_TURNS[order], _roots(f"j{order}")[:2])
    return out * lang.where(small, x if order else 1.0, past)


def _y_near(order: int, x: Node) -> Node:
    part = expand(f"y{order}_near", x * x)
    logarithm = lang.log(x) * _j_near(order, x)
    below = part + (2 / math.pi) * logarithm if order == 0 else x * part + (2 / math.pi) * (logarithm - 1 / x)
    between = expand(f"y{order}_between", x) * _past_root(x, x, _Y_TURNS[order], _roots(f"y{order}")[:3])
    return lang.where(lang.lt(x, 1.0 if order else 0.25), below, between)


def bessel(order: int, second: bool, x: Node) -> Node:
    """J or (``second``) Y of order 0 or 1 at x from 0 to FAR."""
    near = _y_near(order, x) if second else _j_near(order, x)
    return lang.where(lang.le(x, 8), near, _wave(order, second, x))


def airy(x: Node, zeta: twofold.Pair, fourth: Node) -> Node:
    """Airy's function Ai for x from -FAR to 0: ``zeta`` is ``2/3 |x| ** (3/2)``, ``fourth`` the fourth root of ``|x|``."""
    ends = (-7.0, -6.0, -5.0, -3.0)
    near = expand("airy_between", x) * _past_root(x, x, ends, _roots("airy")[::-1])
    count = lang.round_(lang.fma(zeta[0], lang.lift(1 / math.pi, x), lang.lift(0.25, x)))
    h = past_turns(zeta[0], 4 * count - 1, "airy_zero", 14.75**-2) + zeta[1]
    wave = _turn(zeta[0], h, 1 / zeta[0], "airy", 14.5) / fourth
    odd = lang.ne(count - 2 * lang.floor(count * 0.5), 0)
    return lang.where(lang.lt(x, -8), lang.where(odd, -wave, wave), near)


__all__ = ["FAR", "airy", "bessel", "divided_difference", "past_turns", "twofold_polynomial"]
