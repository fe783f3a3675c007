"""Operators that act on each element by itself, and comparisons and selection among them.

In: nodes and numbers that broadcast.  Out: one node of the broadcast shape.  Where the whole body is one
scalar row the record says so (``row``), and its derivative is the row's own.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x = graph.param(0, (2, 1), dtypes.float32)
    >>> OPS["add"].apply([x, graph.param(1, (3,), dtypes.float64)], {}).shape
    (2, 3)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import FLOAT, DType, of_python
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast, const, is_const, make
from ..ir.prims import ROWS
from . import samples as s
from .registry import op, raise_dtype, result_type


def number(value: Any, like: Node) -> Node:
    """A number of the caller as data of ``like``'s type: another value is not another program.

    Raises RuntimeError for one that the type which ``like`` is computed in cannot hold.
    """
    return const(dtypes.fitting(value, like.dtype.acc), like.dtype, static=False)


def filling(value: Any, like: Node) -> Node:
    """As :func:`number`, for what is written as it is: ``like``'s own type must hold it."""
    return const(dtypes.fitting(value, like.dtype), like.dtype, static=False)


def lifted(value: Any, like: Node) -> Node:
    """A tensor as it is, a number as :func:`number`."""
    return value if isinstance(value, Node) else number(value, like)


def together(*operands: Any) -> list[Node]:
    """Tensors and numbers converted to their common type."""
    common = result_type(operands)
    like = [cast(a, common) if isinstance(a, Node) else dtypes.fitting(a, common.acc) for a in operands]
    return [a if isinstance(a, Node) else const(a, common, static=False) for a in like]


def zero_gradient(g: Node, out: Node, *args: Any, **kwargs: Any) -> list[Node | None]:
    """The gradient of a step function: zeros, as torch gives, for every tensor argument."""
    return [graph.full(0, a.shape, g.dtype) for a in args if isinstance(a, Node)]


# -- arithmetic -----------------------------------------------------------------------------------


def _scaled(other: Node, alpha: Any) -> Node:
    if alpha == 1:
        return other
    if other.dtype.category < FLOAT and isinstance(alpha, float):
        raise SpiralError("For integral input tensors, argument alpha must not be a floating point number.")
    return _times(other, number(alpha, other))


def _plus(a: Node, b: Node) -> Node:
    return lang.row("OR" if a.dtype is dtypes.bool_ else "ADD", a, b)


def _times(a: Node, b: Node) -> Node:
    return lang.row("AND" if a.dtype is dtypes.bool_ else "MUL", a, b)


@op("add", kinds="buifc", operands=2, promote="arith", row="ADD", inplace=True, samples=s.more(s.binary(), s.binary(alpha=2)))
def add(input: Node, other: Node, *, alpha: Any = 1) -> Node:
    """``input + alpha * other``, broadcast, in the operands' common type; for bool it is *or*.  (torch.add)"""
    return _plus(input, _scaled(other, alpha))


def refuse_bool(first: Any, second: Any) -> None:
    """Raise for a subtraction with bools, as torch does."""
    types = [of_python(a) if not isinstance(a, Node) else a.dtype for a in (first, second)]
    if dtypes.bool_ in types:
        both = "two bool tensors" if types[0] is types[1] else "a bool tensor"
        raise SpiralError(
            f"Subtraction, the `-` operator, with {both} is not supported. "
            "Use the `^` or `logical_xor()` operator instead; `~` or `logical_not()` inverts a mask."
        )


@op("sub", kinds="buifc", operands=2, promote="arith", aliases=("subtract",), refuses=refuse_bool,
    row="SUB", inplace=True, samples=s.more(s.binary(), s.binary(alpha=2)))  # fmt: skip
def sub(input: Node, other: Node, *, alpha: Any = 1) -> Node:
    """``input - alpha * other``, broadcast, in the operands' common type; not for bool.  (torch.sub)"""
    return lang.row("SUB", input, _scaled(other, alpha))


@op("mul", kinds="buifc", operands=2, promote="arith", aliases=("multiply",),
    row="MUL", inplace=True, unrounded=True, samples=s.binary())  # fmt: skip
def mul(input: Node, other: Node) -> Node:
    """``input * other``, broadcast, in the operands' common type; for bool it is *and*.  (torch.mul)"""
    return _times(input, other)


def floating(a: Node) -> Node:
    return cast(a, dtypes.get_default_dtype()) if a.dtype.category < FLOAT else a


def _opposite_signs(a: Node, b: Node) -> Node:
    return lang.lt(a, 0) ^ lang.lt(b, 0)


def _not_zero(divisor: Node) -> Node:
    """Refuses integers divided by zero: the number 0 now, a tensor's zeros when the quotient is computed."""
    if divisor.dtype.category >= FLOAT:
        return divisor
    if is_const(divisor, 0):
        raise SpiralError("ZeroDivisionError: integers cannot be divided by zero; convert to a floating type for inf and nan")
    return divisor if is_const(divisor) else lang.not_zero(divisor)


def floor_quotient(a: Node, b: Node) -> Node:
    """``floor(a / b)`` of the exact quotient, which the rounded one may overshoot."""
    b = _not_zero(b)
    if a.dtype.kind == "u":
        return lang.row("IDIV", a, b)
    rest = lang.row("REM", a, b)
    short = lang.ne(rest, 0) & _opposite_signs(rest, b)
    if a.dtype.kind == "i":
        return lang.row("IDIV", a, b) - cast(short, a.dtype)
    quotient = (a - rest) / b
    quotient = lang.where(short, quotient - 1, quotient)
    whole = lang.floor(quotient)
    whole = lang.where(lang.lt(0.5, quotient - whole), whole + 1, whole)
    whole = lang.where(lang.eq(quotient, 0), lang.mul(a / b, 0), whole)
    return lang.floor(lang.where(lang.eq(b, 0), a / b, whole))  # FLOOR last: it stops the gradient


@op("div", kinds="buifc", acc=False, operands=2, promote="arith", aliases=("divide",), row="DIV", inplace=True, unrounded=True,
    samples=s.more(s.binary(second="positive"), s.binary(second="positive", rounding_mode="floor"),
    s.binary(second="positive", rounding_mode="trunc")))  # fmt: skip
def div(input: Node, other: Node, *, rounding_mode: str | None = None) -> Node:
    """``input / other``, broadcast; integers give floats.  ``rounding_mode`` 'trunc' or 'floor' rounds the
    quotient and keeps integers; its gradient is zero.  (torch.div)"""
    a, b = (cast(v, v.dtype.acc) for v in (floating(input), floating(other)))
    quotient = lang.row("DIV", a, b)
    if rounding_mode is None or other.dtype is input.dtype:  # then what is cut is the rounded one
        quotient = cast(quotient, floating(input).dtype)
    if rounding_mode is None:
        return quotient
    if rounding_mode not in ("trunc", "floor"):
        raise SpiralError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    if input.dtype.kind in "bc":
        raise_dtype(div, input.dtype)
    if rounding_mode == "floor":
        return cast(floor_quotient(cast(input, input.dtype.acc), cast(other, other.dtype.acc)), input.dtype)
    if input.dtype.category < FLOAT:
        return lang.row("IDIV", input, _not_zero(other))
    return cast(lang.trunc(quotient), input.dtype)


@op("true_divide", operands=2, promote="float", row="DIV", kinds="fc", inplace=True, unrounded=True, samples=s.binary(second="positive"))
def true_divide(input: Node, other: Node) -> Node:
    """``input / other``, broadcast; integers give floats.  (torch.true_divide)"""
    return lang.row("DIV", input, other)


@op("floor_divide", operands=2, promote="arith", kinds="uif", inplace=True, undefined=("input", "other"), saves="", unrounded=True,
    samples=s.binary(second="positive"))  # fmt: skip
def floor_divide(input: Node, other: Node) -> Node:
    """``floor(input / other)``, broadcast, in the operands' common type.  (torch.floor_divide)"""
    return floor_quotient(input, other)


@op("fmod", operands=2, numbers="second", promote="arith", kinds="uif", inplace=True, samples=s.binary(second="positive"))
def fmod(input: Node, other: Node) -> Node:
    """``input - trunc(input / other) * other``: the rest has the sign of ``input``.  (torch.fmod)"""
    return lang.row("REM", input, _not_zero(other))


def _remainder_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    return [g, -g * floor_quotient(input, other)]


@op("remainder", operands=2, numbers="both", promote="arith", kinds="uif", grad=_remainder_grad, inplace=True,
    samples=s.binary(second="positive"))  # fmt: skip
def remainder(input: Node, other: Node) -> Node:
    """``input - floor(input / other) * other``: the rest has the sign of ``other``.  (torch.remainder)"""
    rest = lang.row("REM", input, _not_zero(other))
    if input.dtype.kind == "u":
        return rest
    return lang.where(lang.ne(rest, 0) & _opposite_signs(rest, other), rest + other, rest)


def _int_power(base: Node, exponent: Node) -> Node:
    """Square and multiply over the exponent's bits; a negative exponent gives 0 but for bases 1 and -1."""
    if is_const(exponent):
        k = exponent.arg.value
        if k < 0:
            raise SpiralError("Integers to negative integer powers are not allowed.")
        result = graph.full(1, base.shape, base.dtype)
        while k:
            if k & 1:
                result = lang.row("MUL", result, base)
            base, k = lang.row("MUL", base, base), k >> 1
        return result
    odd = lang.ne(exponent & 1, 0)
    unit = lang.where(lang.eq(base, 1), 1, lang.where(odd, base, lang.row("MUL", base, base)))
    negative = lang.where(lang.eq(base, 1) | lang.eq(lang.row("MUL", base, base), 1), unit, 0)
    total = lang.where(odd, base, 1)
    square = base
    for bit in range(1, exponent.dtype.bits - exponent.dtype.is_signed):
        square = lang.row("MUL", square, square)
        total = lang.where(lang.ne(exponent & (1 << bit), 0), lang.row("MUL", total, square), total)
    return lang.where(lang.lt(exponent, 0), negative, total) if exponent.dtype.is_signed else total


def _refuse_bool_powers(first: Any, second: Any) -> None:
    if isinstance(first, Node) and isinstance(second, Node) and first.dtype is second.dtype is dtypes.bool_:
        raise_dtype(pow_, first.dtype)


@op("pow", kinds="buifc", operands=2, fitting=True, numbers="both", refuses=_refuse_bool_powers, promote="arith",
    inplace=True, samples=s.more(s.binary("positive", "unit"),
    s.calls(*[s.call(s.T(4, 3, fill="positive"), e) for e in (0, 1, 2, 3, 2.5, -1.0, 0.5, -0.5, -2.0)]),
    s.calls(s.call(2, s.T(3, fill="unit")), s.call(s.T(5), 2), s.call(s.T(5), 3),
            s.call(s.T(5, dtype=dtypes.int64), s.T(5, fill="positive", dtype=dtypes.int64)))))  # fmt: skip
def pow_(input: Node, exponent: Node) -> Node:
    """``input ** exponent``, broadcast, in the operands' common type.  (torch.pow)"""
    if input.dtype is dtypes.bool_:
        if not is_const(exponent):
            raise_dtype(pow_, input.dtype)
        return input if exponent.arg.value else graph.full(True, input.shape, dtypes.bool_)
    if input.dtype.category < FLOAT:
        return _int_power(input, exponent)
    if is_const(exponent, 2):
        return lang.row("MUL", input, input)
    if is_const(exponent, 3):
        return lang.row("MUL", lang.row("MUL", input, input), input)
    if is_const(exponent, 0.5):
        return lang.sqrt(input)
    if is_const(exponent, 1):
        return input
    if input.dtype.kind == "c" and is_const(exponent, -1):
        return lang.row("DIV", lang.lift(1, input), input)
    return lang.row("POW", input, exponent)


# -- one operand: a row, or a few -----------------------------------------------------------------

_FLOAT_ROWS: dict[str, tuple[str, str]] = {
    "exp": ("e ** input", "normal"), "exp2": ("2 ** input", "normal"),
    "expm1": ("e ** input - 1, exact near 0", "normal"), "log": ("natural logarithm", "positive"),
    "log2": ("logarithm to base 2", "positive"), "log1p": ("log(1 + input), exact near 0", "positive"),
    "sqrt": ("square root", "positive"), "rsqrt": ("1 / sqrt(input)", "positive"),
    "sin": ("sine (radians)", "normal"), "cos": ("cosine (radians)", "normal"), "tan": ("tangent (radians)", "unit"),
    "asin": ("inverse sine, -pi/2 to pi/2", "unit"), "acos": ("inverse cosine, 0 to pi", "unit"),
    "atan": ("inverse tangent, -pi/2 to pi/2", "normal"), "erf": ("error function", "normal"),
}  # fmt: skip


_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "asin": ("arcsin",), "acos": ("arccos",), "atan": ("arctan",), "exp2": ("special.exp2",), "expm1": ("special.expm1",),
    "log1p": ("special.log1p",), "erf": ("special.erf",),
}  # fmt: skip


def _float_row(name: str, meaning: str, fill: str) -> None:
    row = name.upper()

    def body(input: Node) -> Node:
        return make(row, (input,), None, input.shape, input.dtype)

    body.__name__ = name
    body.__doc__ = f"{meaning[0].upper()}{meaning[1:]}, for each element; integers give floats.  (torch.{name})"
    op(name, operands=1, promote="float", kinds=ROWS[row].kinds, row=row, inplace=True, aliases=_OTHER_NAMES.get(name, ()),
       samples=s.unary(fill))(body)  # fmt: skip


for _name, (_meaning, _fill) in _FLOAT_ROWS.items():
    _float_row(_name, _meaning, _fill)


@op("tanh", operands=1, promote="float", kinds="fc", row="TANH", inplace=True, where=("", "Tensor", "nn.functional"),
    samples=s.unary())  # fmt: skip
def tanh(input: Node) -> Node:
    """Hyperbolic tangent, for each element; integers give floats.  (torch.tanh)"""
    return lang.tanh(input)


def _cosh(a: Node) -> Node:
    if a.dtype.kind == "c":  # cosh z = cos(i z)
        return lang.cos(lang.complex_(-lang.imag(a), lang.real(a)))
    return lang.hyperbolic(a)[0]


def _sinh(a: Node) -> Node:
    if a.dtype.kind == "c":
        turned = lang.sin(lang.complex_(-lang.imag(a), lang.real(a)))  # sinh z = -i sin(i z)
        return lang.complex_(lang.imag(turned), -lang.real(turned))
    size = lang.hyperbolic(a)[1]
    return lang.where(lang.lt(a, 0), -size, lang.where(lang.eq(a, 0), a, size))


def _sinh_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * _cosh(input)]


@op("sinh", operands=1, promote="float", kinds="fc", grad=_sinh_grad, inplace=True, samples=s.unary())
def sinh(input: Node) -> Node:
    """``(exp(input) - exp(-input)) / 2``.  (torch.sinh)"""
    return _sinh(input)


def _cosh_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g * _sinh(input)]


@op("cosh", operands=1, promote="float", kinds="fc", grad=_cosh_grad, inplace=True, samples=s.unary())
def cosh(input: Node) -> Node:
    """``(exp(input) + exp(-input)) / 2``.  (torch.cosh)"""
    return _cosh(input)


def _log10_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [g / (input * math.log(10))]


@op("log10", operands=1, promote="float", kinds="fc", acc="double",
    grad=_log10_grad, inplace=True, samples=s.unary("positive"))  # fmt: skip
def log10(input: Node) -> Node:
    """Logarithm to base 10; exact for powers of ten.  (torch.log10)"""
    if input.dtype.kind == "c":
        return lang.scaled(lang.log(input), 1 / math.log(10))
    y = lang.log(input) * (1 / math.log(10))
    whole = lang.round_(y)
    near = lang.lt(lang.absolute(y - whole), lang.absolute(whole) * float(1.5 * np.finfo(input.dtype.np).eps))
    return lang.where(near, whole, y)


def _reciprocal_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    return [-g * out * out]


@op("reciprocal", operands=1, promote="float", kinds="fc", grad=_reciprocal_grad, saves="o", inplace=True,
    samples=s.unary("positive"))  # fmt: skip
def reciprocal(input: Node) -> Node:
    """``1 / input``; integers give floats.  (torch.reciprocal)"""
    return lang.row("DIV", lang.lift(1, input), input)


@op("square", pointwise=True, kinds="buifc", inplace=True, samples=s.unary())
def square(input: Node) -> Node:
    """``input * input``; bool gives int64.  (torch.square)"""
    if input.dtype is dtypes.bool_:
        input = cast(input, dtypes.int64)
    return lang.row("MUL", input, input)


@op("neg", out="exact", operands=1, aliases=("negative",), promote="arith",
    kinds="uifc", row="NEG", acc=False, inplace=True, samples=s.unary())  # fmt: skip
def neg(input: Node) -> Node:
    """``-input``; unsigned integers wrap; not for bool.  (torch.neg)"""
    return lang.neg(input)


@op("abs", operands=1, aliases=("absolute",), promote="arith",
    kinds="uifc", row="ABS", acc=False, out="exact", inplace=True, samples=s.unary())  # fmt: skip
def abs_(input: Node) -> Node:
    """``|input|``; the gradient at 0 is 0.  (torch.abs)"""
    return lang.absolute(input)


@op("sign", pointwise=True, out="exact", acc=False, grad=zero_gradient, saves="", inplace=True, samples=s.unary())
def sign(input: Node) -> Node:
    """-1, 0 or 1 with the type of ``input``; 0 for nan.  (torch.sign)"""
    return lang.sign(input)


def _rounding(name: str, meaning: str) -> None:
    row = name.upper()

    def body(input: Node) -> Node:
        return make(row, (input,), None, input.shape, input.dtype) if input.dtype.kind == "f" else input

    body.__name__ = name
    body.__doc__ = f"{meaning}; integers stay as they are.  (torch.{name})"
    op(name, operands=1, promote="arith", kinds="uif", acc=False, grad=zero_gradient, saves="", inplace=True, out="exact",
       aliases=("fix",) if name == "trunc" else (), samples=s.unary())(body)  # fmt: skip


_rounding("floor", "The largest integer not above each element")
_rounding("ceil", "The smallest integer not below each element")
_rounding("trunc", "The integer part of each element")


@op("round", out="exact", operands=1, aliases=("special.round",), promote="arith", kinds="uif", grad=zero_gradient, saves="", inplace=True,
    samples=s.more(s.unary(), s.unary(decimals=2), s.unary(decimals=-1)))  # fmt: skip
def round_(input: Node, *, decimals: int = 0) -> Node:
    """Nearest integer, halves to even; or nearest multiple of ``10 ** -decimals``.  (torch.round)"""
    if input.dtype.kind != "f":
        if decimals:
            raise_dtype(round_, input.dtype)
        return input
    if decimals == 0:
        return lang.round_(input)
    scale = 10.0 ** abs(decimals)
    if decimals < 0:
        return lang.round_(input / scale) * scale
    return lang.round_(input * scale) / scale


def _logit_grad(g: Node, out: Node, input: Node, eps: float | None = None) -> list[Node | None]:
    slope = g / (input * (1 - input))
    if eps is None:
        return [lang.where(lang.lt(input, 0) | lang.lt(1, input), float("nan"), slope)]
    return [lang.where(lang.lt(input, eps) | lang.lt(1 - eps, input), 0, slope)]


@op("logit", operands=1, aliases=("special.logit",), promote="float", kinds="f", grad=_logit_grad, inplace=True,
    samples=s.more(s.unary("open"), s.unary("open", eps=0.1)))  # fmt: skip
def logit(input: Node, eps: float | None = None) -> Node:
    """``log(input / (1 - input))``, with ``input`` clamped to ``[eps, 1 - eps]`` when given.  (torch.logit)"""
    if eps is not None:
        input = lang.minimum(lang.maximum(input, eps), 1 - eps)
    odds = lang.log(input / (1 - input))
    below = lang.lt(input, 0.5)  # near 1/2 the odds are near 1: what they are more than 1, or their inverse
    even = lang.log1p(lang.where(below, 1 - (input + input), input + input - 1) / lang.where(below, input, 1 - input))
    return lang.where(lang.lt(lang.absolute(input - 0.5), 0.25), lang.where(below, -even, even), odds)


@op("clone", kinds="buifc", acc=False, saves="", samples=s.unary())
def clone(input: Node) -> Node:
    """The same values in memory of their own.  (torch.clone)"""
    return graph.copy(input)


@op("to_dtype", kinds="buifc", acc=False, saves="", where=(), samples=s.more(
    s.unary(dtype=dtypes.float64), s.unary(dtype=dtypes.bool_), s.unary(dtype=dtypes.bfloat16),
    s.calls(s.call(s.T(7, fill="positive"), dtype=dtypes.int32))))  # fmt: skip
def to_dtype(input: Node, dtype: DType) -> Node:
    """The values converted: floats to integers cut, everything to bool by ``!= 0``.  (torch.Tensor.to)"""
    return cast(input, dtype)


@op("nan_to_num", kinds="buifc", acc=False, out="exact", inplace=True, pointwise=True,
    samples=s.more(s.unary(), s.unary(nan=1.5, posinf=2.0, neginf=-3.0)))  # fmt: skip
def nan_to_num(input: Node, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Node:
    """nan, inf and -inf replaced: by 0 and the type's largest and smallest number unless said.  (torch.nan_to_num)"""
    if input.dtype.kind == "c":
        return lang.complex_(*[nan_to_num.body(part, nan, posinf, neginf) for part in (lang.real(input), lang.imag(input))])
    if input.dtype.kind != "f":
        return input
    most = float(dtypes_limits(input).max)
    high = const(most if posinf is None else posinf, input.dtype, False)
    low = const(-most if neginf is None else neginf, input.dtype, False)
    inf = float("inf")
    out = lang.where(lang.eq(input, inf), high, lang.where(lang.eq(input, -inf), low, input))
    return lang.where(lang.isnan(input), const(0.0 if nan is None else nan, input.dtype, False), out)


def dtypes_limits(a: Node) -> Any:
    """NumPy's finfo of a node's type, bfloat16 included."""
    import ml_dtypes

    return ml_dtypes.finfo(a.dtype.np)


# -- two and three operands -----------------------------------------------------------------------


@op("atan2", operands=2, numbers="none", aliases=("arctan2",), promote="float", kinds="f", row="ATAN2", inplace=True, samples=s.binary())
def atan2(input: Node, other: Node) -> Node:
    """The angle of the point (other, input), -pi to pi.  (torch.atan2)"""
    return lang.row("ATAN2", input, other)


def _hypot_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    return [g * (input / out), g * (other / out)]


@op("hypot", operands=2, numbers="none", promote="arith", kinds="f", grad=_hypot_grad, saves="io", inplace=True, samples=s.binary())
def hypot(input: Node, other: Node) -> Node:
    """``sqrt(input**2 + other**2)`` without overflow on the way.  (torch.hypot)"""
    x, y = lang.absolute(input), lang.absolute(other)
    large, small = lang.maximum(x, y), lang.minimum(x, y)
    ratio = lang.where(lang.eq(large, 0), 0, small / large)
    inf = float("inf")
    size = large * lang.sqrt(1 + ratio * ratio)
    return lang.where(lang.eq(x, inf) | lang.eq(y, inf), inf, size)


def _logaddexp_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    return [g * lang.smooth_logistic(input - other), g * lang.smooth_logistic(other - input)]


@op("logaddexp", operands=2, numbers="none", promote="arith", kinds="fc", acc="double", grad=_logaddexp_grad, samples=s.binary())
def logaddexp(input: Node, other: Node) -> Node:
    """``log(exp(input) + exp(other))`` without overflow on the way.  (torch.logaddexp)"""
    if input.dtype.kind == "c":
        first = lang.lt(lang.real(other), lang.real(input))
        large, small = lang.where(first, input, other), lang.where(first, other, input)
        return large + lang.log1p(lang.exp(small - large))
    large = lang.maximum(input, other)
    total = large + lang.log1p(lang.exp(-lang.absolute(input - other)))
    return lang.where(lang.eq(input, other) & lang.eq(lang.absolute(input), float("inf")), large, total)


_TRIPLES = s.calls(
    s.call(s.T(2, 3), s.T(2, 3), s.T(2, 3, fill="positive")), s.call(s.T(2, 3), s.T(3), s.T(2, 1, fill="positive")),
    s.call(s.T(2, 3), s.T(2, 3), s.T(2, 3, fill="positive"), value=3), s.call(s.T(), s.T(4), s.T(fill="positive")),
    s.call(s.T(0, 3), s.T(3), s.T(1, fill="positive")),
)  # fmt: skip


@op("addcmul", operands=3, promote="arith", kinds="uifc", inplace=True, samples=_TRIPLES)
def addcmul(input: Node, tensor1: Node, tensor2: Node, *, value: Any = 1) -> Node:
    """``input + value * tensor1 * tensor2``, broadcast.  (torch.addcmul)"""
    product = lang.mul(tensor1, tensor2)
    return input + (product if value == 1 else product * number(value, product))


@op("addcdiv", kinds="buifc", operands=3, promote="arith", inplace=True, samples=_TRIPLES)
def addcdiv(input: Node, tensor1: Node, tensor2: Node, *, value: Any = 1) -> Node:
    """``input + value * tensor1 / tensor2``, broadcast, for floats.  (torch.addcdiv)"""
    if input.dtype.category < FLOAT:
        raise SpiralError(
            "Integer division with addcdiv is no longer supported; use (input + value * torch.true_divide("
            "tensor1, tensor2)).to(input.dtype)"
        )
    top = tensor1 if value == 1 else tensor1 * number(value, tensor1)
    return input + top / tensor2


__all__ = ["dtypes_limits", "floor_quotient", "lifted", "number", "refuse_bool", "together", "zero_gradient"]
