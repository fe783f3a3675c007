"""The error function's family and small functions of logarithms (torch.special).

In: float nodes, widened to float64 before the body runs.  Out: one node of the same shape and type.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["ndtri"].apply([graph.param(0, (4,), dtypes.float32)], {}).dtype
    spiraltorch.float32

Where a result decays like ``exp(-x**2)`` the square's rounding error goes into the exponential too, and the slowly
varying rest is an expansion (Shepherd and Laframboise, 1981, for ``erfcx``).  The gradients are written out: an
expansion's own derivative has fewer digits.
"""

from __future__ import annotations

import math

from ..ir import lang
from ..ir.node import Node
from . import samples as s
from .registry import op
from .series import INF, exp_parts, expand, sin_pi, square_parts

SPECIAL = ("special",)
_UNIT = s.unary("unit")


def _share(x: Node, slope: float) -> Node:
    """The half line on 0 .. 2, for the expansions of erfcx and its derivative."""
    return lang.where(lang.lt(x, 1e300), (x + x) / (x + 7.5 / slope), 2)


def erfcx_positive(x: Node, slope: float = 2.0) -> Node:
    """``exp(y**2) * erfc(y)`` for ``y = x * slope / 2 >= 0``, without rounding ``y``."""
    return expand("erfcx", _share(x, slope)) / lang.fma(x, lang.lift(slope, x), lang.lift(1.0, x))


def upper_tail(x: Node) -> Node:
    """``erfc(x)`` for ``x >= 0``, every digit of it."""
    high, low = square_parts(x)
    return exp_parts(-high, -low) * erfcx_positive(x)


def _density(x: Node) -> Node:
    """The normal distribution's density."""
    high, low = square_parts(x)
    return exp_parts(high * -0.5, low * -0.5) * (1 / math.sqrt(2 * math.pi))


def _erfc_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    high, low = square_parts(input)
    return [g * (exp_parts(-high, -low) * (-2 / math.sqrt(math.pi)))]


@op("erfc", operands=1, promote="float", kinds="f", acc="double", grad=_erfc_grad, inplace=True,
    aliases=("special.erfc",), samples=s.unary())  # fmt: skip
def erfc(input: Node) -> Node:
    """``1 - erf(input)``, with all its digits where it is small.  (torch.erfc)"""
    return lang.where(lang.lt(input, 0.65) | lang.isnan(input), 1 - lang.erf(input), upper_tail(lang.maximum(input, 0)))


def _erfcx(x: Node) -> Node:
    size = lang.absolute(x)
    tail = erfcx_positive(size)
    high, low = square_parts(x)
    return lang.where(lang.lt(x, 0), 2 * exp_parts(high, low) - tail, tail)


def _erfcx_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    size = lang.absolute(input)
    share = lang.fma(size, lang.lift(2.0, size), lang.lift(1.0, size))
    right = -expand("erfcx_slope", _share(size, 2.0)) / share / share
    return [g * lang.where(lang.lt(input, 0), 2 * input * _erfcx(input) - 2 / math.sqrt(math.pi), right)]


@op("erfcx", operands=1, promote="float", kinds="f", acc="double", grad=_erfcx_grad, where=SPECIAL,
    refuses=("float16", "bfloat16"), samples=s.unary())  # fmt: skip
def erfcx(input: Node) -> Node:
    """``exp(input**2) * erfc(input)``.  (torch.special.erfcx)"""
    return _erfcx(input)


# -- inverses ---------------------------------------------------------------------------------------------


def _erfc_inverse(z: Node) -> Node:
    """x with ``erfc(x) = z`` for ``0 <= z <= 0.25``."""
    root = lang.sqrt(-lang.log(z))
    return lang.where(lang.lt(root, 1e300), root * expand("erfinv_tail", root), root)


def _erfinv_central(y: Node) -> Node:
    return y * expand("erfinv_central", y * y)


def _erfinv_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    size = lang.absolute(out)  # exp(out**2) is erfcx(out) over what erfc(out) is
    rest = 1 - lang.absolute(input)
    return [g * lang.where(lang.eq(rest, 0), INF, erfcx_positive(size) * (math.sqrt(math.pi) / 2) / rest)]


@op("erfinv", operands=1, promote="float", kinds="f", acc="double", grad=_erfinv_grad, saves="io", inplace=True,
    aliases=("special.erfinv",), samples=_UNIT)  # fmt: skip
def erfinv(input: Node) -> Node:
    """The number whose ``erf`` is ``input``; nan outside of -1 to 1.  (torch.erfinv)"""
    size = lang.absolute(input)
    tail = _erfc_inverse(1 - size)
    return lang.where(lang.lt(size, 0.75), _erfinv_central(input), lang.where(lang.lt(input, 0), -tail, tail))


def _ndtr_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * _density(input)]


def _normal_tail(x: Node) -> Node:
    """The share of the normal distribution beyond ``x >= 0``."""
    high, low = square_parts(x)
    return 0.5 * exp_parts(high * -0.5, low * -0.5) * erfcx_positive(x, math.sqrt(2))


@op("ndtr", operands=1, promote="float", kinds="f", acc="double", grad=_ndtr_grad, where=SPECIAL, samples=s.unary())
def ndtr(input: Node) -> Node:
    """The normal distribution's share below ``input``.  (torch.special.ndtr)"""
    tail = _normal_tail(lang.absolute(input))
    far = lang.where(lang.lt(input, 0), tail, 1 - tail)
    return lang.where(lang.lt(lang.absolute(input), 0.6), _share_near(input), far)


def _share_near(x: Node) -> Node:
    """The share below a small ``x``."""
    return lang.fma(lang.erf(x * math.sqrt(0.5)), lang.lift(0.5, x), lang.lift(0.5, x))


def _log_ndtr_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    size = lang.absolute(input)
    left = math.sqrt(2 / math.pi) / erfcx_positive(size, math.sqrt(2))
    return [g * lang.where(lang.lt(input, 0), left, _density(input) / (1 - _normal_tail(size)))]


@op("log_ndtr", operands=1, promote="float", kinds="f", acc="double", grad=_log_ndtr_grad, where=SPECIAL,
    refuses=("float16", "bfloat16"), samples=s.unary())  # fmt: skip
def log_ndtr(input: Node) -> Node:
    """``log(ndtr(input))`` with all its digits on both sides.  (torch.special.log_ndtr)"""
    size = lang.absolute(input)
    near = lang.where(lang.lt(size, 0.6), lang.log(_share_near(input)), lang.log1p(-_normal_tail(size)))
    near = lang.where(lang.le(input, -0.6), lang.log(_normal_tail(size)), near)
    far = lang.log(0.5 * erfcx_positive(size, math.sqrt(2))) - 0.5 * (input * input)
    return lang.where(lang.lt(input, -1), far, near)


def _ndtri_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    share = lang.minimum(input, 1 - input)
    slope = erfcx_positive(lang.absolute(out), math.sqrt(2)) * (math.sqrt(2 * math.pi) / 2) / share
    return [g * lang.where(lang.eq(share, 0), INF, slope)]


@op("ndtri", operands=1, promote="float", kinds="f", acc="double", grad=_ndtri_grad, saves="io", where=SPECIAL,
    refuses=("float16", "bfloat16"), samples=s.unary("open"))  # fmt: skip
def ndtri(input: Node) -> Node:
    """The number below which the normal distribution has the share ``input``.  (torch.special.ndtri)"""
    right = lang.lt(0.5, input)
    q = lang.where(right, 1 - input, input)
    tail = -math.sqrt(2) * _erfc_inverse(2 * q)
    size = lang.where(lang.lt(q, 0.125), tail, math.sqrt(2) * _erfinv_central(2 * q - 1))
    return lang.where(right, -size, size)


# -- logarithms and sines ---------------------------------------------------------------------------------


def _sinc_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    angle = input * math.pi
    slope = (angle * lang.cos(angle) - lang.sin(angle)) / (angle * input)
    if input.dtype.kind != "c":  # near 0 the terms cancel
        slope = lang.where(lang.lt(lang.absolute(input), 0.5), input * expand("sinc_slope", input * input), slope)
    return [g * lang.where(lang.eq(input, 0), 0, slope)]


@op("sinc", operands=1, promote="float", kinds="fc", acc="double", grad=_sinc_grad, inplace=True,
    aliases=("special.sinc",), tolerance=1e-4, samples=s.more(
    s.ordinary("positive"), s.calls(s.value_only(s.T(14, fill="special")))))  # fmt: skip
def sinc(input: Node) -> Node:
    """``sin(pi * input) / (pi * input)``; 1 at 0, exactly 0 at the other integers.  (torch.sinc)"""
    angle = input * math.pi
    return lang.where(lang.eq(input, 0), 1, (lang.sin(angle) if input.dtype.kind == "c" else sin_pi(input)) / angle)


def _x_times(input: Node, other: Node, logarithm: Node) -> Node:
    zero = lang.eq(input, 0) & lang.not_(lang.isnan(other))
    return lang.where(zero, 0, input * logarithm)


def _xlogy_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    silent = lang.eq(input, 0) & lang.le(other, 0)
    return [g * lang.where(silent, 0, lang.log(other)), g * (input / other)]


@op("xlogy", operands=2, promote="float", kinds="f", grad=_xlogy_grad, numbers="both", inplace=True,
    aliases=("special.xlogy",), samples=s.binary("normal", "positive"))  # fmt: skip
def xlogy(input: Node, other: Node) -> Node:
    """``input * log(other)``; 0 where ``input`` is 0, whatever the logarithm.  (torch.xlogy)"""
    return _x_times(input, other, lang.log(other))


def _xlog1py_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    silent = lang.eq(input, 0) & lang.le(other, -1)
    return [g * lang.where(silent, 0, lang.log1p(other)), g * (input / (other + 1))]


@op("xlog1py", operands=2, promote="float", kinds="f", grad=_xlog1py_grad, numbers="both", where=SPECIAL,
    samples=s.binary("normal", "positive"))  # fmt: skip
def xlog1py(input: Node, other: Node) -> Node:
    """``input * log1p(other)``; 0 where ``input`` is 0, whatever the logarithm.  (torch.special.xlog1py)"""
    return _x_times(input, other, lang.log1p(other))


def _entr_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * (-lang.log(input) - 1)]


@op("entr", operands=1, promote="float", kinds="f", grad=_entr_grad, where=SPECIAL, samples=s.unary("positive"))
def entr(input: Node) -> Node:
    """``-input * log(input)``; 0 at 0, -inf below.  (torch.special.entr)"""
    below = lang.where(lang.eq(input, 0), 0, lang.full_like(input, -INF))
    return lang.where(lang.le(input, 0), below, -input * lang.log(input))


__all__ = ["erfcx_positive", "upper_tail"]
