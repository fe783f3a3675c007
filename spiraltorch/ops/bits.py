"""Operators on the bits of numbers: signs, neighbours, shifts; and divisors of integers.

In: nodes that broadcast.  Out: one node of the broadcast shape.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["signbit"].apply([graph.param(0, (4,), dtypes.float16)], {}).dtype
    spiraltorch.bool
"""

from __future__ import annotations

import math

from .. import dtypes
from ..ir import graph, lang
from ..ir.node import Node, const
from . import samples as s
from .registry import op
from .series import bits_of
from .series import copysign as joined_sign


def _bit(a: Node, place: int) -> Node:
    return const(1 << place, a.dtype)


@op("signbit", out="exact", acc=False, differentiable=False, pointwise=True,
    samples=s.more(s.ordinary(), s.calls(s.call(s.T(12, fill="finite")))))  # fmt: skip
def signbit(input: Node) -> Node:
    """Whether the sign bit is set, also that of -0.0 and of nan.  (torch.signbit)"""
    if input.dtype.kind == "f":
        bits = bits_of(input)
        return lang.ne(bits & _bit(bits, bits.dtype.bits - 1), 0)
    if not input.dtype.is_signed:
        return graph.full(False, input.shape, dtypes.bool_)
    return lang.lt(input, 0)


def _copysign_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    kept = lang.eq(out, input)
    signed = lang.where(lang.eq(input, 0), 0, lang.where(kept, g, -g))
    return [signed, graph.full(0, other.shape, g.dtype)]


@op("copysign", operands=2, promote="float", kinds="f", acc=False, grad=_copysign_grad, saves="io", numbers="second",
    inplace=True, samples=s.calls(
    s.call(s.T(2, 1, 3), s.T(4, 1)), s.call(s.T(), s.T(5)), s.call(s.T(0, 3), s.T(1, 3)), s.call(s.T(4), -2.0),
    s.value_only(s.T(14, 1, fill="special"), s.T(12, fill="finite"))))  # fmt: skip
def copysign(input: Node, other: Node) -> Node:
    """``|input|`` with the sign of ``other``, broadcast; integers give floats.  (torch.copysign)"""
    shape = lang.shapes_broadcast([input.shape, other.shape])
    return joined_sign(graph.broadcast(input, shape), graph.broadcast(other, shape))


def _nextafter_grad(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
    return [lang.where(lang.eq(input, other), 0, g), graph.full(0, other.shape, g.dtype)]  # as torch has it


@op("nextafter", operands=2, promote="arith", kinds="f", acc=False, grad=_nextafter_grad, numbers="none", inplace=True,
    samples=s.binary())  # fmt: skip
def nextafter(input: Node, other: Node) -> Node:
    """The next number of the type from ``input`` towards ``other``.  (torch.nextafter)"""
    bits = bits_of(input)
    one = _bit(bits, 0)
    away = lang.eq(lang.lt(0, input), lang.lt(input, other))  # from zero: bits count up
    stepped = lang.bitcast(lang.where(away, bits + one, bits - one), input.dtype)
    least = lang.bitcast(lang.where(lang.lt(other, 0), one | _bit(bits, bits.dtype.bits - 1), one), input.dtype)
    stepped = lang.where(lang.eq(input, 0), least, stepped)
    stepped = lang.where(lang.eq(input, other), other, stepped)
    return lang.where(lang.isnan(input) | lang.isnan(other), float("nan"), stepped)


# -- shifts -----------------------------------------------------------------------------------------------


def _shift(name: str, row: str, meaning: str) -> None:
    def body(input: Node, other: Node) -> Node:
        far = lang.le(input.dtype.bits, other)
        if other.dtype.is_signed:
            far = far | lang.lt(other, 0)
        amount = lang.where(far, input.dtype.bits, other)
        return lang.row(row, input, amount)

    body.__name__ = name
    body.__doc__ = f"``input {meaning} other`` of integers, broadcast; bits shifted out are lost.  (torch.{name})"
    op(name, operands=2, promote="arith", kinds="ui", differentiable=False, numbers="both", inplace=True,
       samples=s.more(s.binary("positive"), s.binary("distinct")))(body)  # fmt: skip


_shift("bitwise_left_shift", "SHL", "<<")
_shift("bitwise_right_shift", "SHR", ">>")


# -- divisors ---------------------------------------------------------------------------------------------


def _gcd(a: Node, b: Node) -> Node:
    """Euclid's algorithm with remainders of least size: as many steps as the type can need (Fibonacci's worst case
    becomes Pell's)."""
    if a.dtype.is_signed:
        a, b = lang.absolute(a), lang.absolute(b)
    for _ in range(math.ceil((a.dtype.bits - a.dtype.is_signed) * math.log(2) / math.log(1 + math.sqrt(2))) + 2):
        rest = lang.row("REM", a, lang.where(lang.eq(b, 0), 1, b))
        other = b - rest
        least = lang.where(lang.lt(other, rest), other, rest)
        done = lang.eq(b, 0)
        a, b = lang.where(done, a, b), lang.where(done, b, least)
    return a


@op("gcd", operands=2, promote="arith", kinds="ui", differentiable=False, numbers="none", inplace=True,
    samples=s.more(s.binary("positive"), s.binary("distinct")))  # fmt: skip
def gcd(input: Node, other: Node) -> Node:
    """The greatest common divisor, not negative; that of 0 and 0 is 0.  (torch.gcd)"""
    return _gcd(input, other)


@op("lcm", operands=2, promote="arith", kinds="ui", differentiable=False, numbers="none", inplace=True,
    samples=s.more(s.binary("positive"), s.binary("distinct")))  # fmt: skip
def lcm(input: Node, other: Node) -> Node:
    """The least common multiple, not negative; wraps where it does not fit.  (torch.lcm)"""
    divisor = _gcd(input, other)
    multiple = lang.row("MUL", lang.row("IDIV", input, lang.where(lang.eq(divisor, 0), 1, divisor)), other)
    multiple = lang.absolute(multiple) if input.dtype.is_signed else multiple
    return lang.where(lang.eq(divisor, 0), 0, multiple)


