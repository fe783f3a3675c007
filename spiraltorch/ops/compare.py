"""Comparison, logic, selection and limits: what looks at order and truth rather than computes.

In: nodes and numbers that broadcast.  Out: bool nodes, or elements picked from the operands.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x = graph.param(0, (2, 3), dtypes.int32)
    >>> OPS["lt"].apply([x, 0.5], {}).dtype, OPS["clamp"].apply([x, None, 2], {}).dtype
    (spiraltorch.bool, spiraltorch.int32)
"""

from __future__ import annotations

import functools
import operator
from typing import Any

from .. import dtypes
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import together
from .registry import op, raise_dtype, result_type

# -- limits ---------------------------------------------------------------------------------------


def _clamp_grad(g: Node, out: Node, input: Node, min: Any = None, max: Any = None) -> list[Node | None]:
    low = None if min is None else lang.lt(input, min)
    high = None if max is None else lang.lt(max, input)
    held = [lang.le(min, input)] if min is not None else []
    held += [lang.le(input, max)] if max is not None else []
    grads: list[Node | None] = [lang.where(functools.reduce(operator.and_, held), g, 0)]  # none of a nan
    if low is not None and isinstance(min, Node):
        grads.append(lang.where(low if max is None else low & lang.lt(min, max), g, 0))
    if high is not None and isinstance(max, Node):
        grads.append(lang.where(high if min is None else high | lang.lt(max, min), g, 0))
    return grads


@op("clamp", operands=3, fitting=True, aliases=("clip",), promote="arith", grad=_clamp_grad, inplace=True, samples=s.more(
    s.unary(min=-1, max=1), s.unary(min=0.5), s.unary(max=0),
    s.calls(s.call(s.T(2, 3), s.T(3), s.T(2, 1)), s.call(s.T(2, 3), None, s.T(3)),
    s.call(s.T(4), s.T(4), None))))  # fmt: skip
def clamp(input: Node, min: Any = None, max: Any = None) -> Node:
    """``min(max(input, min), max)``; either limit may be a number, a tensor or absent.  (torch.clamp)"""
    if min is None and max is None:
        raise SpiralError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if input.dtype is dtypes.bool_ and min is not None and max is not None:
        raise_dtype(clamp, input.dtype)
    if min is not None:
        input = lang.maximum(input, min)
    return input if max is None else lang.minimum(input, max)


def _refuse_bool_limit(first: Any, second: Any) -> None:
    if isinstance(second, bool) and first.dtype is dtypes.bool_:
        raise_dtype(clamp, first.dtype)


def _clamp_min_grad(g: Node, out: Node, input: Node, min: Node) -> list[Node | None]:
    return _clamp_grad(g, out, input, min)


@op("clamp_min", operands=2, fitting=True, refuses=_refuse_bool_limit, numbers="second", promote="arith", grad=_clamp_min_grad,
    inplace=True, samples=s.more(s.unary(min=0.5), s.binary()))  # fmt: skip
def clamp_min(input: Node, min: Node) -> Node:
    """``max(input, min)``.  (torch.clamp_min)"""
    return lang.maximum(input, min)


def _clamp_max_grad(g: Node, out: Node, input: Node, max: Node) -> list[Node | None]:
    return _clamp_grad(g, out, input, None, max)


@op("clamp_max", operands=2, fitting=True, refuses=_refuse_bool_limit, numbers="second", promote="arith", grad=_clamp_max_grad,
    inplace=True, samples=s.more(s.unary(max=0.5), s.binary()))  # fmt: skip
def clamp_max(input: Node, max: Node) -> Node:
    """``min(input, max)``.  (torch.clamp_max)"""
    return lang.minimum(input, max)


@op("maximum", operands=2, numbers="none", promote="arith", row="MAX", samples=s.binary())
def maximum(input: Node, other: Node) -> Node:
    """The larger of two elements, nan if one is; a tie shares the gradient.  (torch.maximum)"""
    return lang.maximum(input, other)


@op("minimum", operands=2, numbers="none", promote="arith", row="MIN", samples=s.binary())
def minimum(input: Node, other: Node) -> Node:
    """The smaller of two elements, nan if one is; a tie shares the gradient.  (torch.minimum)"""
    return lang.minimum(input, other)


# -- comparisons ----------------------------------------------------------------------------------


_WORDS = {
    "ne": ("not_equal",), "lt": ("less",), "le": ("less_equal",), "gt": ("greater",), "ge": ("greater_equal",),
}  # fmt: skip


def _comparison(name: str, sign: str, row: str | None) -> None:
    spell = getattr(lang, name, None) or (lang._gt if name == "gt" else lang._ge)

    def body(input: Node, other: Node) -> Node:
        return spell(input, other)  # type: ignore[no-any-return]

    body.__name__ = name
    body.__doc__ = f"``input {sign} other`` as bool, broadcast, compared in the common type.  (torch.{name})"
    kinds = "buifc" if name in ("eq", "ne") else "buif"
    op(name, operands=2, promote="arith", kinds=kinds, row=row, acc=False, differentiable=False, inplace=True,
       numbers="second", aliases=_WORDS.get(name, ()), samples=s.binary())(body)  # fmt: skip


for _name, _sign, _row in (("eq", "==", "EQ"), ("ne", "!=", "NE"), ("lt", "<", "LT"), ("le", "<=", "LE"),
                           ("gt", ">", None), ("ge", ">=", None)):  # fmt: skip
    _comparison(_name, _sign, _row)


@op("isnan", pointwise=True, kinds="buifc", acc=False, differentiable=False, samples=s.unary())
def isnan(input: Node) -> Node:
    """Whether each element is not a number, as bool.  (torch.isnan)"""
    return lang.isnan(input)


@op("isinf", pointwise=True, kinds="buifc", acc=False, differentiable=False, samples=s.unary())
def isinf(input: Node) -> Node:
    """Whether each element is infinite, as bool.  (torch.isinf)"""
    if input.dtype.kind == "c":
        return isinf.body(lang.real(input)) | isinf.body(lang.imag(input))
    if input.dtype.kind != "f":
        return graph.full(False, input.shape, dtypes.bool_)
    return lang.eq(lang.absolute(input), float("inf"))


@op("isfinite", pointwise=True, kinds="buifc", acc=False, differentiable=False, samples=s.unary())
def isfinite(input: Node) -> Node:
    """Whether each element is neither infinite nor nan, as bool.  (torch.isfinite)"""
    if input.dtype.kind == "c":
        return isfinite.body(lang.real(input)) & isfinite.body(lang.imag(input))
    if input.dtype.kind != "f":
        return graph.full(True, input.shape, dtypes.bool_)
    return lang.lt(lang.absolute(input), float("inf"))


def truth(a: Node) -> Node:
    """``a != 0``."""
    return cast(a, dtypes.bool_)


def _refuse_pair(first: Any, second: Any) -> None:
    """Raise where the two types have no common one."""
    result_type([first, second])


def _logical(name: str, row: str, meaning: str) -> None:
    def body(input: Node, other: Node) -> Node:
        return lang.row(row, truth(input), truth(other))

    body.__name__ = name
    body.__doc__ = f"``{meaning}`` of two truth values (an element is true if not 0), broadcast.  (torch.{name})"
    op(name, operands=2, kinds="buifc", acc=False, differentiable=False, inplace=True, numbers="none", refuses=_refuse_pair,
        samples=s.binary())(body)


_logical("logical_and", "AND", "and")
_logical("logical_or", "OR", "or")
_logical("logical_xor", "XOR", "xor")


@op("logical_not", pointwise=True, kinds="buifc", acc=False, differentiable=False, inplace=True, samples=s.unary())
def logical_not(input: Node) -> Node:
    """Whether each element is 0, as bool.  (torch.logical_not)"""
    return lang.not_(truth(input))


def _bitwise(name: str, row: str, meaning: str) -> None:
    def body(input: Node, other: Node) -> Node:
        return lang.row(row, input, other)

    body.__name__ = name
    body.__doc__ = f"Bitwise *{meaning}* of integers or bools, broadcast.  (torch.{name})"
    op(name, operands=2, promote="arith", kinds="bui", row=row, differentiable=False, inplace=True,
       numbers="both", samples=s.binary())(body)  # fmt: skip


_bitwise("bitwise_and", "AND", "and")
_bitwise("bitwise_or", "OR", "or")
_bitwise("bitwise_xor", "XOR", "exclusive or")


@op("bitwise_not", out="exact", operands=1, promote="arith", kinds="bui", row="NOT", differentiable=False, inplace=True,
    samples=s.unary())  # fmt: skip
def bitwise_not(input: Node) -> Node:
    """All bits flipped; for bool the logical *not*.  (torch.bitwise_not)"""
    return lang.not_(input)


@op("where", pointwise=True, out="exact", kinds="buifc", saves=("condition",), acc=False, where=("",), samples=s.calls(
    s.call(s.T(2, 3, fill="mask"), s.T(2, 3), s.T(2, 3)), s.call(s.T(3, fill="mask"), s.T(2, 1), s.T()),
    s.call(s.T(fill="mask"), s.T(2, 3), 0.5), s.call(s.T(2, 3, fill="mask"), 1, s.T(3)),
    s.call(s.T(2, 3, fill="mask"), 1.0, 2.0), s.call(s.T(0, 3, fill="mask"), s.T(3), s.T(1)),
    s.value_only(s.T(14, fill="mask"), s.T(14, fill="special"), s.T(14))))  # fmt: skip
def where(condition: Node, input: Any, other: Any) -> Node:
    """``input`` where ``condition`` (bool), else ``other``; broadcast, in the common type.  (torch.where)"""
    if condition.dtype not in (dtypes.bool_, dtypes.uint8):
        raise SpiralError(
            f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype.name}"
        )
    a, b = together(input, other)
    return lang.row("WHERE", truth(condition), a, b)


__all__ = ["truth"]
