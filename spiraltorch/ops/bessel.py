"""Bessel functions and Airy's (torch.special).

In: float nodes, widened to float64.  Out: one node of the same shape and type.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["i0e"].apply([graph.param(0, (4,), dtypes.int64)], {}).dtype
    spiraltorch.float32

Near zero each function is an expansion times what vanishes or grows there; far from zero an expansion in the
reciprocal times the decay, or two of them as the amplitudes of a cosine and a sine (Hankel).  At infinity all but the
decaying ones are nan, as torch's are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from ..ir import lang
from ..ir.node import Node
from . import samples as s
from .registry import op
from .series import INF, NAN, exp_parts, expand

SPECIAL = ("special",)
NO_HALF = ("float16", "bfloat16")


# -- modified functions of the first kind -----------------------------------------------------------------


def _i0e(x: Node) -> Node:
    x = lang.absolute(x)
    inverse = 1 / x
    return lang.where(lang.le(x, 8), expand("i0e", x), lang.sqrt(inverse) * expand("i0e_far", inverse))


def _i1e(x: Node) -> Node:
    size = lang.absolute(x)
    inverse = 1 / size
    far = lang.sqrt(inverse) * expand("i1e_far", inverse)
    return lang.where(lang.le(size, 8), x * expand("i1e", size), lang.where(lang.lt(x, 0), -far, far))


def _grown(scaled: Node, x: Node) -> Node:
    """``scaled * exp(|x|)``, also where the exponential alone would overflow."""
    half = lang.exp(lang.absolute(x) * 0.5)
    near = lang.exp(lang.absolute(x))
    return lang.where(lang.lt(lang.absolute(x), 700), scaled * near, scaled * half * half)


def _i0(x: Node) -> Node:
    return _grown(_i0e(x), x)


def _i1(x: Node) -> Node:
    return _grown(_i1e(x), x)


def _i0_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * _i1(input)]


@op("i0", operands=1, promote="float", kinds="f", acc="double", grad=_i0_grad, inplace=True, aliases=("special.i0",),
    samples=s.unary())  # fmt: skip
def i0(input: Node) -> Node:
    """The modified Bessel function of the first kind of order 0.  (torch.i0)"""
    return _i0(input)


def _far_slope(name: str, size: Node) -> Node:
    """The derivative of ``exp(-x) I(x)`` where its terms have nearly the same size."""
    inverse = 1 / size
    return lang.sqrt(inverse) * inverse * expand(name, inverse)


def _i0e_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    size = lang.absolute(input)
    slope = lang.where(lang.le(size, 8), _i1e(size) - _i0e(size), _far_slope("i0e_slope", size))
    return [g * (lang.sign(input) * slope)]


@op("i0e", operands=1, promote="float", kinds="f", acc="double", grad=_i0e_grad, where=SPECIAL,
    samples=s.unary())  # fmt: skip
def i0e(input: Node) -> Node:
    """``exp(-|input|) * i0(input)``.  (torch.special.i0e)"""
    return _i0e(input)


def _over_x(value: Node, x: Node) -> Node:
    """``value / x``, and its limit 1/2 at 0, for the functions of order 1."""
    return lang.where(lang.eq(x, 0), 0.5, value / x)


def _i1_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * (_i0(input) - _over_x(out, input))]


@op("i1", operands=1, promote="float", kinds="f", acc="double", grad=_i1_grad, saves="io", where=SPECIAL,
    samples=s.unary())  # fmt: skip
def i1(input: Node) -> Node:
    """The modified Bessel function of the first kind of order 1.  (torch.special.i1)"""
    return _i1(input)


def _i1e_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    size = lang.absolute(input)
    value = _i1e(size)
    return [g * lang.where(lang.le(size, 8), _i0e(size) - value - _over_x(value, size), _far_slope("i1e_slope", size))]


@op("i1e", operands=1, promote="float", kinds="f", acc="double", grad=_i1e_grad, where=SPECIAL,
    samples=s.unary())  # fmt: skip
def i1e(input: Node) -> Node:
    """``exp(-|input|) * i1(input)``.  (torch.special.i1e)"""
    return _i1e(input)


# -- modified functions of the second kind ----------------------------------------------------------------


def _k_near(order: int, x: Node) -> Node:
    square = x * x
    logarithm = lang.log(x * 0.5)
    if order == 0:
        return expand("k0_near", square) - lang.fma(logarithm, square * expand("i0_near", square), logarithm)
    return logarithm * (x * expand("i1_near", square)) + expand("k1_near", square) / x


def _k(order: int, scaled: bool, x: Node) -> Node:
    inverse = 1 / x
    far = lang.sqrt(inverse) * expand(f"k{order}e_far", inverse)
    near = _k_near(order, x)
    near, far = (lang.fma(near, lang.expm1(x), near), far) if scaled else (near, far * lang.exp(-x))
    out = lang.where(lang.lt(x, 0.5), near, far)
    return lang.where(lang.eq(x, 0), INF, lang.where(lang.lt(x, 0), NAN, out))


# -- the first and second kind ----------------------------------------------------------------------------

# The first two zeros of J0 and J1: each as a float and what is left of it.
_ZEROS = (
    ((2.404825557695773, -1.176691651530894e-16), (5.520078110286311, 8.088597146146722e-17)),
    ((3.8317059702075125, -1.5269184090088067e-16), (7.015586669815619, -9.414165653410389e-17)),
)


def _wave(order: int, x: Node, second: bool) -> Node:
    """J or (``second``) Y for ``x > 8``."""
    inverse = 1 / x
    v = (8 * inverse) * (8 * inverse)
    p, q = expand(f"j{order}_p", v), inverse * expand(f"j{order}_q", v)
    sine, cosine = lang.sin(x), lang.cos(x)
    c, d = (cosine + sine, sine - cosine) if order == 0 else (sine - cosine, -cosine - sine)
    size = lang.sqrt(inverse * (1 / math.pi))
    return size * ((p * d + q * c) if second else (p * c - q * d))


def _j_near(order: int, x: Node) -> Node:
    out = expand(f"j{order}_near", x * x)
    for high, low in _ZEROS[order]:
        out = out * (((x - high) - low) * (x + high))
    return out * x if order else out


def _j(order: int, x: Node) -> Node:
    size = lang.absolute(x)
    out = lang.where(lang.le(size, 8), _j_near(order, size), _wave(order, size, second=False))
    if order:
        out = lang.where(lang.lt(x, 0), -out, out)
    return out


def _y(order: int, x: Node) -> Node:
    part = expand(f"y{order}_near", x * x)
    if order == 0:
        near = part + (2 / math.pi) * (lang.log(x) * _j_near(0, x))
    else:
        near = x * part + (2 / math.pi) * (lang.log(x) * _j_near(1, x) - 1 / x)
    out = lang.where(lang.le(x, 8), near, _wave(order, x, second=True))
    return lang.where(lang.eq(x, 0), -INF, lang.where(lang.lt(x, 0), NAN, out))


def _j_exact(order: int, x: Node) -> Node:
    from .oscillating import FAR, bessel

    size = lang.absolute(x)
    out = lang.where(lang.lt(size, FAR), bessel(order, False, size), _wave(order, size, second=False))
    return lang.where(lang.lt(x, 0), -out, out) if order else out


def _y_exact(order: int, x: Node) -> Node:
    from .oscillating import FAR, bessel

    out = lang.where(lang.lt(x, FAR), bessel(order, True, x), _wave(order, x, second=True))
    return lang.where(lang.eq(x, 0), -INF, lang.where(lang.lt(x, 0), NAN, out))


# -- Airy's function --------------------------------------------------------------------------------------


def _airy(x: Node, exact: bool = False) -> Node:
    near = lang.where(lang.lt(x, 0), expand("airy_waving", x), expand("airy_near", x) * lang.exp(-x))
    size = lang.absolute(x)
    root = lang.sqrt(size)
    lost = lang.fma(-root, root, size) / (root + root)  # of the square root
    cube = size * root
    rest = lang.fma(size, root, -cube) + size * lost
    third = cube * (2 / 3)
    low = lang.fma(cube, lang.lift(2 / 3, cube), -third) + cube * 3.700743415417188e-17 + rest * (2 / 3)
    inverse = 1 / third
    fourth = lang.sqrt(root)
    decayed = exp_parts(-third, -low) * expand("airy_far", inverse) / (fourth * (2 * math.sqrt(math.pi)))
    v = inverse * inverse
    sine, cosine = lang.sin(third), lang.cos(third)
    turn, still = lang.sin(low), lang.cos(low)  # of many turns the low part is more than one
    sine, cosine = sine * still + turn * cosine, cosine * still - turn * sine
    p, q = expand("airy_p", v), inverse * expand("airy_q", v)
    wave = (p * (sine + cosine) - q * (cosine - sine)) / (fourth * math.sqrt(2 * math.pi))
    out = lang.where(lang.lt(x, -7), wave, lang.where(lang.lt(x, 2.25), near, decayed))
    if exact:
        from .oscillating import FAR, airy

        out = lang.where(lang.lt(x, 0) & lang.lt(third, FAR), airy(x, (third, low), fourth), out)
    return lang.where(lang.eq(size, INF), NAN, out)


# -- the records of functions without a gradient ----------------------------------------------------------


def _record(
    name: str, meaning: str, compute: Callable[[Node], Node], fill: str = "normal", exact: Callable[[Node], Node] | None = None
) -> None:
    def body(input: Node) -> Node:
        return compute(input)

    body.__name__ = name
    body.__doc__ = f"{meaning}.  (torch.special.{name})"
    op(name, operands=1, promote="float", kinds="f", acc="double", differentiable=False, where=SPECIAL,
       refuses=NO_HALF, exact=exact, samples=s.unary(fill))(body)  # fmt: skip


def _of(function: Callable[..., Node], *first: object) -> Callable[[Node], Node]:
    def compute(x: Node) -> Node:
        return function(*first, x)

    return compute


_KIND = "The Bessel function of the {} kind of order {}"
for _n in (0, 1):
    _record(f"bessel_j{_n}", _KIND.format("first", _n), _of(_j, _n), exact=_of(_j_exact, _n))
    _record(f"bessel_y{_n}", _KIND.format("second", _n), _of(_y, _n), "positive", _of(_y_exact, _n))
    _record(f"modified_bessel_i{_n}", _KIND.format("first", _n).replace("Bessel", "modified Bessel"), (_i0, _i1)[_n])
    _record(f"modified_bessel_k{_n}", _KIND.format("second", _n).replace("Bessel", "modified Bessel"),
            _of(_k, _n, False), "positive")  # fmt: skip
    _record(f"scaled_modified_bessel_k{_n}", f"``exp(input)`` times the modified Bessel function of the second kind of order {_n}",
            _of(_k, _n, True), "positive")  # fmt: skip


def _spherical_j0(x: Node) -> Node:
    size = lang.absolute(x)
    out = lang.where(lang.eq(x, 0), 1, lang.sin(x) / x)
    return lang.where(lang.eq(size, INF), 0, out)


_record("spherical_bessel_j0", "``sin(input) / input``, 1 at 0", _spherical_j0)
_record("airy_ai", "The Airy function Ai", _airy, exact=functools.partial(_airy, exact=True))
