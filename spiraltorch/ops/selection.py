"""More comparison: the extremes that pass over nan, closeness, kinds of numbers, the step function.

In: nodes and numbers that broadcast.  Out: bool nodes, or elements picked from the operands.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["isclose"].apply([graph.param(0, (4,), dtypes.float32), graph.param(1, (4,), dtypes.float32)], {}).dtype
    spiraltorch.bool
"""

from __future__ import annotations

from .. import dtypes
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .registry import op
from .series import INF


def _passing_nan(name: str, row: str, meaning: str) -> None:
    def loses(a: Node, b: Node) -> Node:
        """Where ``b`` is taken."""
        behind = lang.lt(a, b) if row == "MAX" else lang.lt(b, a)
        return (behind & lang.not_(lang.isnan(b))) | (lang.isnan(a) & lang.not_(lang.isnan(b)))

    def body(input: Node, other: Node) -> Node:
        best = lang.row(row, input, other)
        if input.dtype.kind != "f":
            return best
        return lang.where(lang.isnan(input), other, lang.where(lang.isnan(other), input, best))

    def gradient(g: Node, out: Node, input: Node, other: Node) -> list[Node | None]:
        second = loses(input, other)
        return [lang.where(second, 0, g), lang.where(second, g, 0)]

    body.__name__ = name
    body.__doc__ = f"The {meaning} of two elements; the other one where one is nan.  (torch.{name})"
    op(name, operands=2, promote="arith", grad=gradient, numbers="none", samples=s.binary())(body)


_passing_nan("fmax", "MAX", "larger")
_passing_nan("fmin", "MIN", "smaller")


@op("isposinf", pointwise=True, out="exact", acc=False, differentiable=False, samples=s.unary())
def isposinf(input: Node) -> Node:
    """Whether each element is inf, as bool.  (torch.isposinf)"""
    return lang.eq(input, INF) if input.dtype.kind == "f" else graph.full(False, input.shape, dtypes.bool_)


@op("isneginf", pointwise=True, out="exact", acc=False, differentiable=False, samples=s.unary())
def isneginf(input: Node) -> Node:
    """Whether each element is -inf, as bool.  (torch.isneginf)"""
    return lang.eq(input, -INF) if input.dtype.kind == "f" else graph.full(False, input.shape, dtypes.bool_)


@op("isclose", operands=2, acc=False, kinds="buifc", differentiable=False, numbers="none", samples=s.more(
    s.binary(), s.binary(equal_nan=True), s.binary(rtol=0.5, atol=0.25)))  # fmt: skip
def isclose(input: Node, other: Node, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Node:
    """``|input - other| <= atol + rtol * |other|``, or equal, as bool; tensors of one type.  (torch.isclose)"""
    if input.dtype is not other.dtype:
        raise SpiralError(f"{input.dtype.name} did not match {other.dtype.name}")
    if not (rtol >= 0 and atol >= 0):
        what, value = ("rtol", rtol) if not rtol >= 0 else ("atol", atol)
        raise SpiralError(f"{what} must be greater than or equal to zero, but got {value}")
    close = lang.eq(input, other)
    if equal_nan:
        close = close | (lang.isnan(input) & lang.isnan(other))
    if rtol == 0 and atol == 0:
        return close
    wide = input.dtype.acc if input.dtype.kind in "fc" else dtypes.float64
    a, b = cast(input, wide), cast(other, wide)
    error = lang.absolute(a - b)
    allowed = atol + rtol * lang.absolute(b)
    return close | (lang.lt(error, INF) & lang.le(error, allowed))


@op("heaviside", operands=2, acc=False, out="exact", undefined=("input", "values"), saves="", numbers="none", inplace=True,
    samples=s.binary())  # fmt: skip
def heaviside(input: Node, values: Node) -> Node:
    """0 below 0, 1 above, ``values`` at 0; tensors of one type.  (torch.heaviside)"""
    if input.dtype is not values.dtype:
        raise SpiralError("heaviside is not yet implemented for tensors with different dtypes.")
    if input.dtype is dtypes.bool_:
        return lang.row("OR", input, values)
    above = cast(lang.lt(0, input), input.dtype)
    return lang.where(lang.eq(input, 0), values, lang.where(lang.isnan(input), 0, above))
