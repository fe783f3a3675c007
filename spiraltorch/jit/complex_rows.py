"""What each scalar row means on complex numbers, in rows on their real and imaginary parts.

In: operands as pairs of real nodes.  Out: the pair of the result (one node where the result is real).  Functions
with branch cuts follow W. Kahan, "Branch cuts for complex elementary functions" (1987): signed zeros choose the side,
and nothing overflows on the way that does not in the end.

    ROWS["MUL"]((a, b), (c, d)) -> (a * c - b * d, a * d + b * c)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..ir import lang
from ..ir.node import Node, cast

Pair = tuple[Node, Node]
INF = float("inf")


def add(x: Pair, y: Pair) -> Pair:
    return x[0] + y[0], x[1] + y[1]


def sub(x: Pair, y: Pair) -> Pair:
    return x[0] - y[0], x[1] - y[1]


def neg(x: Pair) -> Pair:
    return -x[0], -x[1]


def mul(x: Pair, y: Pair) -> Pair:
    (a, b), (c, d) = x, y
    return lang.row("MUL", a, c) - lang.row("MUL", b, d), lang.row("MUL", a, d) + lang.row("MUL", b, c)


def div(x: Pair, y: Pair) -> Pair:
    """Smith's division (1962): by the larger part of the divisor, so that its square does not overflow."""
    (a, b), (c, d) = x, y
    wide = lang.le(lang.absolute(d), lang.absolute(c))
    large, small = lang.where(wide, c, d), lang.where(wide, d, c)
    ratio = small / large
    scale = 1 / (large + small * ratio)
    p, q = lang.where(wide, a, b), lang.where(wide, b, a)
    re, im = (p + q * ratio) * scale, lang.where(wide, q - p * ratio, p * ratio - q) * scale
    zero = lang.eq(c, 0) & lang.eq(d, 0)
    size = lang.absolute(c)
    return lang.where(zero, a / size, re), lang.where(zero, b / size, im)


def _doubled(*parts: Node) -> list[Node]:
    """float32 parts in float64, where their squares neither overflow nor cancel; float64 as it is."""
    return [cast(p, dtypes.float64) for p in parts]


def absolute(x: Pair) -> Node:
    """``|z|`` without overflow on the way."""
    a, b = map(lang.absolute, x)
    inf = lang.eq(a, INF) | lang.eq(b, INF)
    if a.dtype is dtypes.float32:
        p, q = _doubled(a, b)
        size = cast(lang.sqrt(p * p + q * q), dtypes.float32)
    else:
        large, small = lang.maximum(a, b), lang.minimum(a, b)
        ratio = small / large
        size = lang.where(lang.eq(large, 0), 0, large * lang.sqrt(1 + ratio * ratio))
    return lang.where(inf, INF, size)


def _negative(a: Node) -> Node:
    """Whether the sign bit is set: also of -0.0."""
    return lang.lt(a, 0) | (lang.eq(a, 0) & lang.lt(1 / a, 0))


def _copysign(size: Node, sign: Node) -> Node:
    return lang.where(_negative(sign), -size, size)


def sqrt(x: Pair) -> Pair:
    a, b = x
    half = lang.sqrt(lang.absolute(a) * 0.5 + absolute(x) * 0.5)
    other = lang.where(lang.eq(half, 0), b, b / (half * 2))
    left = lang.lt(a, 0)
    re = lang.where(left, lang.absolute(other), half)
    im = lang.where(left, _copysign(half, b), other)
    tall = lang.eq(lang.absolute(b), INF)
    return lang.where(tall, INF, re), lang.where(tall, b, im)


def rsqrt(x: Pair) -> Pair:
    one = lang.lift(1, x[0]), lang.lift(0, x[0])
    return div(one, sqrt(x))


def _times(x: Node, y: Node) -> Node:
    """``x * y``, where 0 wins over inf and nan: what is on an axis stays there (C's Annex G)."""
    one = lang.lift(1, x)
    return lang.where(lang.eq(x, 0), x * _copysign(one, y), lang.where(lang.eq(y, 0), y * _copysign(one, x), x * y))


def _turned(size: Node, angle: Node) -> Pair:
    """``size * (cos angle + i sin angle)``."""
    re = _times(size, lang.cos(angle))
    return lang.where(lang.eq(size, INF) & lang.isnan(re), INF, re), _times(size, lang.sin(angle))


def exp(x: Pair) -> Pair:
    return _turned(lang.exp(x[0]), x[1])


def exp2(x: Pair) -> Pair:
    angle = lang.row("MUL", x[1], math.log(2))
    lost = lang.fma(x[1], math.log(2), -angle) + x[1] * 2.3190468138462996e-17  # of the product, and of log(2)
    lost = lang.where(lang.lt(lang.absolute(lost), 1e-4), lost, 0)
    size, sine, cosine = lang.exp2(x[0]), lang.sin(angle), lang.cos(angle)
    sine, cosine = lang.where(lang.eq(lost, 0), sine, lang.fma(cosine, lost, sine)), lang.fma(-sine, lost, cosine)
    return _times(size, cosine), _times(size, sine)


def expm1(x: Pair) -> Pair:
    a, b = x
    s = lang.sin(b * 0.5)
    return lang.expm1(a) * lang.cos(b) - 2 * s * s, exp(x)[1]


def _with_squares(start: Node, p: Node, q: Node) -> Node:
    """``start + p**2 + q**2``, with what the squares and sums round off."""
    total, lost = start, lang.lift(0.0, p)
    for x in (p, q):
        square = x * x
        more = total + square
        added = more - total
        lost = lost + (lang.fma(x, x, -square) + ((total - (more - added)) + (square - added)))
        total = more
    return total + lost


def _log_size(x: Pair) -> Node:
    """``log |z|``, exact near size 1."""
    p, q = map(lang.absolute, _doubled(*x))
    large, small = lang.maximum(p, q), lang.minimum(p, q)
    near = 0.5 * lang.log1p(_with_squares(lang.full_like(large, -1.0), large, small))
    beside = lang.lt(0.5, large) & lang.lt(large, 1.5)
    return cast(lang.where(beside, near, lang.log(absolute((p, q)))), x[0].dtype)


def log(x: Pair) -> Pair:
    return _log_size(x), lang.row("ATAN2", x[1], x[0])


def _scaled_log(scale: float) -> Callable[[Pair], Pair]:
    def logarithm(x: Pair) -> Pair:
        re, im = log(x)
        return re * scale, im * scale

    return logarithm


def log1p(x: Pair) -> Pair:
    a, b = x
    p, q = _doubled(a, b)
    over = _with_squares(2 * p, p, q)  # |1 + z|**2 - 1
    near = 0.5 * lang.log1p(over)
    beside = lang.lt(lang.absolute(over), 0.75)
    size = lang.where(beside, near, lang.log(absolute((p + 1, q))))
    return cast(size, a.dtype), lang.row("ATAN2", b, a + 1)


def logaddexp(x: Pair, y: Pair) -> Pair:
    """``log(exp(x) + exp(y))`` without overflow on the way."""
    less = lang.lt(x[0], y[0])
    low, high = ((lang.where(less, p, q), lang.where(less, q, p)) for p, q in zip(x, y))
    low, high = (low[0], high[0]), (low[1], high[1])
    apart = add(high, log1p(exp(sub(low, high))))
    nothing = lang.eq(low[0], -INF)  # an exponential of 0
    return lang.where(nothing, high[0], apart[0]), lang.where(nothing, high[1], apart[1])


def _hyperbolic(a: Node) -> Pair:
    """(cosh, sinh) of a real number."""
    cosh, size = lang.hyperbolic(a)
    return cosh, _copysign(size, a)


def sin(x: Pair) -> Pair:
    cosh, sinh = _hyperbolic(x[1])
    return _times(lang.sin(x[0]), cosh), _times(lang.cos(x[0]), sinh)


def cos(x: Pair) -> Pair:
    cosh, sinh = _hyperbolic(x[1])
    return _times(lang.cos(x[0]), cosh), -_times(lang.sin(x[0]), sinh)


def tanh(x: Pair) -> Pair:
    """Kahan's: by the tangent of one part and the hyperbolic sine of the other."""
    a, b = x
    far = math.log(float(np.finfo(a.dtype.np).max)) / 4
    beyond = lang.lt(far, lang.absolute(a))
    inside = lang.where(beyond, 0, a)
    t = lang.tan(b)
    sinh = _hyperbolic(inside)[1]
    beta = 1 + t * t
    below = 1 + beta * sinh * sinh
    re = beta * lang.sqrt(1 + sinh * sinh) * sinh / below
    tail = 4 * lang.sin(b) * lang.cos(b) * lang.exp(lang.absolute(a) * -2)
    one = _copysign(lang.lift(1, a), a)
    return lang.where(beyond, one, re), lang.where(beyond, tail, t / below)


def tan(x: Pair) -> Pair:
    re, im = tanh((-x[1], x[0]))  # tan z = -i tanh(i z)
    return im, -re


def _arsinh(a: Node) -> Node:
    size = lang.absolute(a)
    big = lang.lt(1e8, size)
    s = lang.where(big, 1, size)
    near = lang.log1p(s + s * s / (1 + lang.sqrt(s * s + 1)))
    return _copysign(lang.where(big, lang.log(size) + math.log(2), near), a)


def _roots(x: Pair) -> tuple[Pair, Pair]:
    """Square roots of ``1 - z`` and ``1 + z``; the imaginary part keeps its sign when it is 0."""
    return sqrt((1 - x[0], -x[1])), sqrt((1 + x[0], x[1]))


def _infinite(x: Pair) -> Node:
    return lang.eq(lang.absolute(x[0]), INF) | lang.eq(lang.absolute(x[1]), INF)


def asin(x: Pair) -> Pair:
    (a, b), (c, d) = _roots(x)
    far = _infinite(x)
    re = lang.row("ATAN2", x[0], lang.where(far, lang.absolute(x[1]), a * c - b * d))
    return re, lang.where(far, _copysign(lang.lift(INF, x[1]), x[1]), _arsinh(a * d - b * c))


def acos(x: Pair) -> Pair:
    (a, b), (c, d) = _roots(x)
    far = _infinite(x)
    re = lang.where(far, lang.row("ATAN2", lang.absolute(x[1]), x[0]), 2 * lang.row("ATAN2", a, c))
    return re, lang.where(far, -_copysign(lang.lift(INF, x[1]), x[1]), _arsinh(c * b - d * a))


def atan(x: Pair) -> Pair:
    """``(log(1 + iz) - log(1 - iz)) / 2i`` in parts."""
    a, b = x
    p, q = _doubled(a, b)
    up, down = q + 1, 1 - q
    size = lang.absolute(q)  # below the real axis the quotient would be near -1
    im = _copysign(0.25 * lang.log1p(4 * size / (p * p + (1 - size) * (1 - size))), q)
    angle = 0.5 * lang.row("ATAN2", 2 * p, up * down - p * p)
    far = _infinite((p, q))
    angle = lang.where(far, _copysign(lang.lift(math.pi / 2, p), p), angle)
    return cast(angle, a.dtype), cast(lang.where(far, _copysign(lang.lift(0, q), q), im), a.dtype)


def pow_(x: Pair, y: Pair) -> Pair:
    (a, b), (c, d) = _doubled(*x), _doubled(*y)
    re, im = mul(log((a, b)), (c, d))
    power = [cast(p, x[0].dtype) for p in exp((re, im))]
    from_zero = lang.eq(x[0], 0) & lang.eq(x[1], 0)
    to_zero = lang.eq(y[0], 0) & lang.eq(y[1], 0)
    at_zero = lang.where(lang.lt(0, y[0]), lang.lift(0, x[0]), lang.lift(float("nan"), x[0]))
    re, im = lang.where(from_zero, at_zero, power[0]), lang.where(from_zero, at_zero, power[1])
    return lang.where(to_zero, 1, re), lang.where(to_zero, 0, im)


def eq(x: Pair, y: Pair) -> Node:
    return lang.eq(x[0], y[0]) & lang.eq(x[1], y[1])


def ne(x: Pair, y: Pair) -> Node:
    return lang.ne(x[0], y[0]) | lang.ne(x[1], y[1])


ROWS: dict[str, Callable[..., Any]] = {
    "ADD": add, "SUB": sub, "NEG": neg, "MUL": mul, "DIV": div, "ABS": absolute, "SQRT": sqrt, "RSQRT": rsqrt, "EXP": exp,
    "EXP2": exp2, "EXPM1": expm1, "LOG": log, "LOG2": _scaled_log(1 / math.log(2)), "LOG1P": log1p, "SIN": sin, "COS": cos,
    "TAN": tan, "TANH": tanh, "ASIN": asin, "ACOS": acos, "ATAN": atan, "POW": pow_, "EQ": eq, "NE": ne,
}  # fmt: skip
