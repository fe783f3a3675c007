"""Pointwise arithmetic beyond the basic: hyperbolic inverses, angles, powers of two and of floats, sums of logarithms.

In: nodes and numbers that broadcast.  Out: one node of the broadcast shape (``frexp``: two).

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["float_power"].apply([graph.param(0, (4,), dtypes.int32), 2], {}).dtype
    spiraltorch.float64
"""

from __future__ import annotations

import math
from typing import Any

from .. import dtypes
from ..dtypes import FLOAT
from ..errors import SpiralError
from ..ir import lang
from ..ir.node import Node, cast, const
from . import samples as s
from .elementwise import number, refuse_bool
from .registry import op, raise_dtype, result_type
from .series import INF, bits_of, copysign

# -- hyperbolic inverses ----------------------------------------------------------------------------------


def _unless_huge(x: Node, slope: Node) -> Node:
    """``slope``, which is ``1 / |x|`` where the square of a real x is no finite number."""
    if x.dtype.kind == "c":
        return slope
    size = lang.absolute(x)
    return lang.where(lang.lt(size, 1e150), slope, 1 / size)


def _asinh_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * _unless_huge(input, lang.rsqrt(input * input + 1))]


@op("asinh", operands=1, promote="float", kinds="fc", acc="double", grad=_asinh_grad, inplace=True, aliases=("arcsinh",),
    samples=s.unary())  # fmt: skip
def asinh(input: Node) -> Node:
    """Inverse hyperbolic sine.  (torch.asinh)"""
    if input.dtype.kind == "c":  # asinh z = i asin(-i z)
        turned = lang.asin(lang.complex_(lang.imag(input), -lang.real(input)))
        return lang.complex_(-lang.imag(turned), lang.real(turned))
    size = lang.absolute(input)
    near = lang.log1p(size + size * size / (1 + lang.sqrt(size * size + 1)))
    far = lang.log(size) + math.log(2)
    return copysign(lang.where(lang.lt(size, 1e8), near, far), input)


def _acosh_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    if input.dtype.kind != "c":
        return [g * _unless_huge(input, lang.rsqrt((input - 1) * (input + 1)))]  # below -1 too, as torch
    return [g * lang.rsqrt(input - 1) * lang.rsqrt(input + 1)]


@op("acosh", operands=1, promote="float", kinds="fc", acc="double", grad=_acosh_grad, inplace=True, aliases=("arccosh",),
    samples=s.unary("beyond"))  # fmt: skip
def acosh(input: Node) -> Node:
    """Inverse hyperbolic cosine; nan for real numbers below 1.  (torch.acosh)"""
    if input.dtype.kind == "c":
        turned = lang.acos(input)  # acosh z = i acos(z), or -i acos(z) below the real axis
        re, im = lang.real(turned), lang.imag(turned)
        below = lang.lt(0, im) | (lang.eq(im, 0) & lang.lt(0, 1 / im))
        return lang.complex_(lang.absolute(im), lang.where(below, -re, re))
    over = input - 1
    near = lang.log1p(over + lang.sqrt(over) * lang.sqrt(over + 2))
    return lang.where(lang.lt(input, 1e8), near, lang.log(input) + math.log(2))


def _atanh_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g / ((1 - input) * (input + 1))]


@op("atanh", operands=1, promote="float", kinds="fc", acc="double", grad=_atanh_grad, inplace=True, aliases=("arctanh",),
    samples=s.unary("unit"))  # fmt: skip
def atanh(input: Node) -> Node:
    """Inverse hyperbolic tangent; infinite at -1 and 1, nan for real numbers beyond.  (torch.atanh)"""
    if input.dtype.kind == "c":  # atanh z = i atan(-i z)
        turned = lang.atan(lang.complex_(lang.imag(input), -lang.real(input)))
        return lang.complex_(-lang.imag(turned), lang.real(turned))
    size = lang.absolute(input)
    return copysign(0.5 * lang.log1p((size + size) / (1 - size)), input)


# -- angles and parts -------------------------------------------------------------------------------------


def _scaling(name: str, factor: float, meaning: str) -> None:
    def body(input: Node) -> Node:
        return input * factor

    body.__name__ = name
    body.__doc__ = f"{meaning}; integers give floats.  (torch.{name})"
    op(name, operands=1, promote="float", kinds="f", inplace=True, samples=s.unary())(body)


_scaling("deg2rad", math.pi / 180, "Degrees as radians")
_scaling("rad2deg", 180 / math.pi, "Radians as degrees")


@op("frac", out="exact", operands=1, promote="arith", kinds="f", inplace=True, samples=s.unary())
def frac(input: Node) -> Node:
    """``input - trunc(input)``, with the sign of ``input``.  (torch.frac)"""
    return input - lang.trunc(input)


@op("positive", kinds="buifc", saves="", samples=s.unary())
def positive(input: Node) -> Node:
    """``input`` itself; not for bool.  (torch.positive)"""
    if input.dtype is dtypes.bool_:
        raise SpiralError("The `+` operator, on a bool tensor is not supported.")
    return input


def _rsub_grad(g: Node, out: Node, input: Node, other: Any, *, alpha: Any = 1) -> list[Node | None]:
    less = -g if alpha == 1 else g * const(-alpha, g.dtype, static=False)
    return [less, g] if isinstance(other, Node) else [less]


@op("rsub", operands=2, promote="arith", grad=_rsub_grad, saves="", numbers="second", kinds="buifc", refuses=refuse_bool, where=("",),
    samples=s.more(s.binary(), s.binary(alpha=2)))  # fmt: skip
def rsub(input: Node, other: Node, *, alpha: Any = 1) -> Node:
    """``other - alpha * input``, broadcast, in the operands' common type; not for bool.  (torch.rsub)"""
    if input.dtype.category < FLOAT and isinstance(alpha, float):
        raise SpiralError("For integral input tensors, argument alpha must not be a floating point number.")
    return lang.row("SUB", other, input if alpha == 1 else lang.row("MUL", input, const(alpha, input.dtype, static=False)))


# -- powers -----------------------------------------------------------------------------------------------


@op("float_power", numbers="both", operands=2, kinds="buifc", inplace="exact", samples=s.more(s.binary("positive", "unit"), s.calls(
    s.call(s.T(4), 2), s.call(2.5, s.T(3)), s.call(s.T(4, fill="positive"), -1.5))))  # fmt: skip
def float_power(input: Any, exponent: Any) -> Node:
    """``input ** exponent``, broadcast, in float64, or complex128 for complex numbers.  (torch.float_power)"""
    is_complex = any([a.dtype.is_complex if isinstance(a, Node) else isinstance(a, complex) for a in (input, exponent)])
    wide = dtypes.complex128 if is_complex else dtypes.float64
    x, y = (cast(a, wide) if isinstance(a, Node) else const(a, wide) for a in (input, exponent))
    return lang.row("POW", x, y)


def _logaddexp2_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    return [g * lang.smooth_logistic(input - other, lang.exp2), g * lang.smooth_logistic(other - input, lang.exp2)]


@op("logaddexp2", operands=2, promote="arith", kinds="f", acc="double", grad=_logaddexp2_grad, numbers="none",
    samples=s.binary())  # fmt: skip
def logaddexp2(input: Node, other: Node) -> Node:
    """``log2(2 ** input + 2 ** other)`` without overflow on the way.  (torch.logaddexp2)"""
    large = lang.maximum(input, other)
    total = large + lang.log1p(lang.exp2(-lang.absolute(input - other))) * (1 / math.log(2))
    return lang.where(lang.eq(input, other) & lang.eq(lang.absolute(input), INF), large, total)


def _ldexp_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    scaled = g * _power_of_two(other, g)
    return [scaled, scaled * input * math.log(2)]


def _power_of_two(exponent: Node, like: Node) -> Node:
    return lang.row("POW", const(2, like.dtype), cast(exponent, like.dtype))


def _refuse_bool_exponent(first: Any, second: Any) -> None:
    if isinstance(second, Node) and second.dtype is dtypes.bool_ and first.dtype.category == FLOAT:
        raise_dtype(ldexp, second.dtype)


@op("ldexp", operands=2, acc=False, kinds="buifc", refuses=_refuse_bool_exponent, grad=_ldexp_grad, numbers="none",
    inplace=True, samples=s.more(s.binary(), s.calls(
    s.call(s.T(2, 3), s.T(3, fill="index", high=5)), s.call(s.T(5, dtype=dtypes.int64), s.T(5, fill="index", high=9)))))  # fmt: skip
def ldexp(input: Node, other: Node) -> Node:
    """``input * 2 ** other``, broadcast; integers give floats.  (torch.ldexp)"""
    kinds = [d for d in (other.dtype, input.dtype, dtypes.get_default_dtype()) if d.kind in "fc"]
    power = kinds[0]
    scale = cast(lang.row("POW", const(2, power.acc), cast(other, power.acc)), power)
    common = result_type([input, scale])
    return lang.row("MUL", cast(input, common), cast(scale, common))


def _frexp_grad(g: Any, out: Any, input: Node) -> list[Node | None]:
    return [g[0] * cast(lang.exp2(cast(-out[1], dtypes.float32)), g[0].dtype)]


@op("frexp", pointwise=True, grad=_frexp_grad, saves="o", acc=False, results=("mantissa", "exponent"), samples=s.calls(
    s.call(s.T(2, 3)), s.call(s.T()), s.call(s.T(0, 3)), s.call(s.T(37, fill="positive")),
    s.value_only(s.T(14, fill="finite"))))  # fmt: skip
def frexp(input: Node) -> tuple[Node, Node]:
    """(mantissa, exponent) with ``input = mantissa * 2 ** exponent`` and ``0.5 <= |mantissa| < 1``.  (torch.frexp)"""
    if input.dtype.kind != "f":
        raise SpiralError("torch.frexp() only supports floating-point dtypes")
    wide = cast(input, dtypes.float64)  # a float32's smallest numbers are ordinary here
    tiny = lang.lt(lang.absolute(wide), 2.0**-1000)
    scaled = lang.where(tiny, wide * 2.0**100, wide)
    bits = bits_of(scaled)
    field = lang.row("SHR", bits, const(52, bits.dtype)) & const(0x7FF, bits.dtype)
    power = cast(field, dtypes.int32) - const(1022, dtypes.int32)
    power = lang.where(tiny, power - 100, power)
    same = lang.eq(wide, 0) | lang.isnan(wide) | lang.eq(lang.absolute(wide), INF)
    half = const(1022 << 52, bits.dtype)
    kept = const((1 << 63) | ((1 << 52) - 1), bits.dtype)
    mantissa = lang.where(same, wide, lang.bitcast((bits & kept) | half, wide.dtype))
    return cast(mantissa, input.dtype), lang.where(same, 0, power)


# -- between two tensors -----------------------------------------------------------------------------------

_LERP = s.calls(
    s.call(s.T(2, 3), s.T(3), 0.25), s.call(s.T(4), s.T(4), 0.75),
    s.call(s.T(2, 3), s.T(2, 3), s.T(2, 1, fill="open")),
    s.call(s.T(), s.T(), 0.5), s.call(s.T(0, 3), s.T(3), 0.1),
)  # fmt: skip


def _lerp_grad(g: Node, out: Node, input: Node, end: Node, weight: Any) -> list[Node | None]:
    if not isinstance(weight, Node):
        return [g * number(1 - weight, input), g * number(weight, input)]
    weight = cast(weight, input.dtype)
    return [g * (1 - weight), g * weight, g * (end - input)]


@op("lerp", pointwise=True, kinds="buifc", inplace=True, grad=_lerp_grad, samples=_LERP)
def lerp(input: Node, end: Node, weight: Any) -> Node:
    """``input + weight * (end - input)``, broadcast, floats of one type; exact at both ends.  (torch.lerp)"""
    if input.dtype.category < FLOAT:
        raise_dtype(lerp, input.dtype)
    if end.dtype is not input.dtype:
        raise SpiralError(f"expected dtype {input.dtype.name} for `end` but got dtype {end.dtype.name}")
    way = end - input
    if not isinstance(weight, Node):
        near = input + number(weight, input) * way
        return near if abs(weight) < 0.5 else end - way * number(1 - weight, input)
    weight = cast(weight, input.dtype)
    return lang.where(lang.lt(lang.absolute(weight), 0.5), input + weight * way, end - way * (1 - weight))
