"""Complex numbers: their parts, angles and conjugates, and complex tensors from real ones.

In: nodes of complex or real types.  Out: nodes.  Arithmetic needs nothing here: the scalar rows work on complex numbers
(:mod:`spiraltorch.jit.complex_rows` says how).  ``view_as_real`` and ``view_as_complex`` are movement: the same memory.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["conj"].apply([graph.param(0, (3,), dtypes.complex64)], {}).dtype
    spiraltorch.complex64

Of ``conj`` there are two: the record here computes; ``Tensor.conj`` is a view (:mod:`spiraltorch.complexes`).
"""

from __future__ import annotations

import functools
import math

from .. import dtypes
from ..errors import DtypeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, Shape
from . import samples as s
from .registry import op
from .view import Steps, view_op

T = s.T
F = functools.partial(s.T, dtype=dtypes.float64)
ANY = "buifc"
_NUMBERS = s.calls(
    s.call(T(2, 3)), s.call(T()), s.call(T(0, 3)), s.call(T(2, 3, dtype=dtypes.complex64)),
    s.call(T(4, dtype=dtypes.complex128)),
)  # fmt: skip
_ONLY_COMPLEX = s.calls(
    s.call(T(2, 3, dtype=dtypes.complex64)), s.call(T(dtype=dtypes.complex128)), s.call(T(0, dtype=dtypes.complex64))
)


@view_op("view_as_real", _ONLY_COMPLEX)
def view_as_real(shape: Shape) -> Steps:
    """The same memory as real numbers: [..] complex as [.., 2], real and imaginary part.  Raises RuntimeError for
    real tensors.  (torch.view_as_real)"""
    return [("AS_REAL", None)]


@view_op("view_as_complex", s.calls(s.call(F(2, 3, 2)), s.call(F(2)), s.call(F(0, 2))))
def view_as_complex(shape: Shape) -> Steps:
    """The same memory as complex numbers: [.., 2] float32 or float64 as [..].  Raises RuntimeError where the last axis
    is not 2 neighbouring numbers.  (torch.view_as_complex)"""
    return [("AS_COMPLEX", None)]


def part_steps(shape: Shape, which: int) -> Steps:
    """The movement that takes the real (0) or imaginary (1) part out of complex memory."""
    return [("AS_REAL", None), ("SLICE", (*[(0, n, 1) for n in shape], (which, which + 1, 1))), ("RESHAPE", shape)]


@op("real", kinds=ANY, acc=False, saves="", where=(), samples=_NUMBERS)
def real(input: Node) -> Node:
    """The real part, a view of the same memory; a real tensor is its own.  (torch.real)"""
    return lang.real(input)


@op("imag", kinds=ANY, acc=False, saves="", where=(), samples=_ONLY_COMPLEX)
def imag(input: Node) -> Node:
    """The imaginary part, a view of the same memory.  Raises RuntimeError for real tensors.  (torch.imag)"""
    if input.dtype.kind != "c":
        raise SpiralError("imag is not implemented for tensors with non-complex dtypes.")
    return lang.imag(input)


@op("conj", kinds=ANY, acc=False, saves="", where=(), samples=_NUMBERS)
def conj(input: Node) -> Node:
    """``real - i imag``, a view of the same memory; a real tensor is its own.  (torch.conj)"""
    return lang.conj(input)


@op("conj_physical", pointwise=True, out="exact", kinds=ANY, acc=False, saves="", inplace=True, samples=_NUMBERS)
def conj_physical(input: Node) -> Node:
    """``real - i imag``, computed.  (torch.conj_physical)"""
    return lang.conj(input)


def _angle_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    if input.dtype.kind != "c":
        return [graph.full(0, input.shape, g.dtype)]
    re, im = lang.real(input), -lang.imag(input)  # the rule sees the conjugate, and angle is not analytic
    size = re * re + im * im
    slope = lang.where(lang.eq(size, 0), 0, g / size)
    return [lang.complex_(-im * slope, re * slope)]


@op("angle", pointwise=False, operands=1, promote="float", kinds="fc", grad=_angle_grad, samples=_NUMBERS)
def angle(input: Node) -> Node:
    """The argument of each number, -pi to pi; of a real number 0, pi or nan.  (torch.angle)"""
    if input.dtype.kind == "c":
        return lang.row("ATAN2", lang.imag(input), lang.real(input))
    return lang.where(lang.isnan(input), input, lang.where(lang.lt(input, 0), math.pi, lang.lift(0, input)))


def _pair(name: str, first: Node, second: Node) -> None:
    if not {first.dtype, second.dtype} <= {dtypes.float32, dtypes.float64}:
        raise DtypeError(
            f"Expected both inputs to be Float or Double tensors but got {first.dtype.name} and {second.dtype.name}"
        )
    if first.dtype is not second.dtype:
        raise SpiralError(
            f"Expected object of scalar type {first.dtype.name} but got scalar type {second.dtype.name} for second argument "
            f"of {name}"
        )


@op("complex", pointwise=True, acc=False, where=("",), out="exact", saves="", samples=s.calls(
    s.call(F(2, 3), F(2, 3)), s.call(F(2, 1), F(3)), s.call(F(), F()), s.call(F(0), F(1))))  # fmt: skip
def complex_(real: Node, imag: Node) -> Node:
    """``real + i imag``, broadcast, of two float tensors of one type.  (torch.complex)"""
    _pair("complex", real, imag)
    return lang.complex_(real, imag)


@op("polar", pointwise=True, acc=False, where=("",), out="exact", samples=s.calls(
    s.call(F(2, 3, fill="positive"), F(2, 3)), s.call(F(2, 1, fill="positive"), F(3)), s.call(F(fill="positive"), F()),
    s.call(F(0), F(1))))  # fmt: skip
def polar(abs: Node, angle: Node) -> Node:
    """``abs * (cos(angle) + i sin(angle))``, broadcast, of two float tensors of one type.  (torch.polar)"""
    _pair("polar", abs, angle)
    return lang.complex_(abs * lang.cos(angle), abs * lang.sin(angle))


def _sgn_grad(g: Node, out: Node, input: Node) -> list[Node | None]:
    if input.dtype.kind != "c":
        return [graph.full(0, input.shape, g.dtype)]
    z = lang.conj(input)  # the rule sees the conjugate, and sgn is not analytic
    unit, size = lang.sign(z), lang.absolute(z)
    across = g - lang.scaled(unit, lang.real(g * lang.conj(unit)))
    return [lang.scaled(across, lang.where(lang.eq(size, 0), 0, 1 / size))]


@op("sgn", pointwise=True, out="exact", kinds=ANY, acc=False, grad=_sgn_grad, inplace=True, samples=_NUMBERS)
def sgn(input: Node) -> Node:
    """The sign of a real number; ``input / |input|`` of a complex one, 0 at 0.  (torch.sgn)"""
    return lang.sign(input)


@op("isreal", pointwise=True, kinds=ANY, acc=False, differentiable=False, samples=_NUMBERS)
def isreal(input: Node) -> Node:
    """Whether the imaginary part of each element is 0, as bool.  (torch.isreal)"""
    if input.dtype.kind != "c":
        return graph.full(True, input.shape, dtypes.bool_)
    return lang.eq(lang.imag(input), 0)


__all__ = ["part_steps"]
