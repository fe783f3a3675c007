"""Variance, in one pass over memory.

In: a node and the axes to fold.  Out: mean and squared deviations from it, and what is made of them.

A fold whose values stay in a core's cache is done twice, for the mean and for the deviations.  A longer one is cut into
pieces that do; the pieces' means and deviations are combined (Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise
algorithm for computing sample variances"), so that memory is read once.  Sizes alone decide, so the bits are the same in
every fusion and on any number of threads.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> x = graph.param(0, (64, 4096), dtypes.float32)
    >>> mean, squares = moments(x, (0, 1))
    >>> mean.shape, squares.shape
    ((1, 1), (1, 1))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..dtypes import FLOAT
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node
from . import samples as s
from .elementwise import number
from .reduce import size_of, widened
from .registry import op, wrap_dims

T = s.T

LONG = 1 << 16  # elements that a task walks twice without leaving the cache
PIECE = 1 << 12  # elements of a piece: 16 KiB of float32
COLUMNS = 64  # neighbouring columns that a task walks at once, where the last axis is not folded


def _cut(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, int] | None:
    """(axis, length): the axis to cut into pieces of that length; None where the fold is short."""
    if not shape:
        return None
    last = len(shape) - 1
    wide = 1 if last in axes else min(shape[last], COLUMNS)
    folded = lang.count(tuple(shape), axes)
    if folded * wide <= LONG:
        return None
    axis = max(axes, key=lambda a: (shape[a], -a))
    length = max(1, PIECE * shape[axis] // (folded * wide))
    return (axis, length) if length < shape[axis] else None


def _two_passes(x: Node, axes: Sequence[int]) -> tuple[Node, Node]:
    mean = fold("add", x, tuple(axes), keepdim=True) / size_of(x, axes)
    return mean, fold("add", lang.size_squared(x - mean), tuple(axes), keepdim=True)


def moments(x: Node, axes: Sequence[int]) -> tuple[Node, Node]:
    """The mean over ``axes``, and the sum of squared deviations from it; both keep the axes with size 1."""
    cut = _cut(x.shape, axes)
    if cut is None:
        return _two_passes(x, axes)
    axis, length = cut
    count, left = divmod(x.shape[axis], length)
    inner = [a + (a >= axis) for a in axes]  # a new axis, the pieces, stands before the one that is cut
    parts = [_pieces(x, axis, 0, count, length)] + [_pieces(x, axis, count * length, 1, left)] * bool(left)
    found = []
    for part in parts:
        mean = fold("add", part, inner, keepdim=True) / size_of(part, inner)
        d = part - mean
        sums = [fold("add", v, inner, keepdim=True) for v in (d, lang.size_squared(d))]
        found.append((mean, *sums, size_of(part, inner)))
    # About any number m, here the mean in one rounding:  sum (x - m)^2 = sum d^2 + 2 (mean - m) sum d + n (mean - m)^2.
    rough = _sum([fold("add", mean * n, axis) for mean, _, _, n in found]) / size_of(x, axes)
    beside = graph.reshape(rough, (*rough.shape[:axis], 1, *rough.shape[axis:]))
    first, second = [], []
    for mean, rest, squares, n in found:
        a = mean - beside
        first.append(fold("add", a * n + rest, axis))
        second.append(fold("add", squares + _real_product(a, rest) * 2 + lang.size_squared(a) * lang.real(n), axis))
    lost = _sum(first) / size_of(x, axes)
    return rough + lost, lang.maximum(_sum(second) - lang.size_squared(lost) * lang.real(size_of(x, axes)), 0)


def _real_product(a: Node, b: Node) -> Node:
    """``Re(a * conj(b))``"""
    return a * b if a.dtype.kind != "c" else lang.real(a) * lang.real(b) + lang.imag(a) * lang.imag(b)


def _sum(parts: Sequence[Node]) -> Node:
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _pieces(x: Node, axis: int, start: int, count: int, length: int) -> Node:
    """``count`` pieces of ``length`` from ``start`` on, as a new axis before ``axis``."""
    ranges = tuple([(start, start + count * length, 1) if a == axis else (0, n, 1) for a, n in enumerate(x.shape)])
    part = x if count * length == x.shape[axis] else graph.slice_(x, ranges)
    return graph.reshape(part, (*x.shape[:axis], count, length, *x.shape[axis + 1 :]))


def centred(x: Node, axes: Sequence[int]) -> Node:
    """``x`` less its mean over ``axes``."""
    return x - moments(x, axes)[0]


# -- variance -------------------------------------------------------------------------------------


def _freedom(a: Node, axes: Sequence[int], correction: float, shape: Sequence[int]) -> Node:
    return number(float(max(0, lang.count(tuple(shape), axes) - correction)), a)


def _variance_form(input: Node, dim: Any, unbiased: Any, correction: Any) -> tuple[tuple[int, ...], float]:
    if input.dtype.category < FLOAT:
        raise SpiralError("std and var only support floating point and complex dtypes")
    if isinstance(dim, bool):  # var(input, unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return wrap_dims(dim, len(input.shape)), correction


def _var(input: Node, axes: Sequence[int], correction: float, keepdim: bool) -> Node:
    squares = moments(input, axes)[1]
    if not keepdim:
        squares = graph.reshape(squares, tuple([n for a, n in enumerate(input.shape) if a not in axes]))
    return squares / _freedom(squares, axes, correction, input.shape)


def _var_grad(g: Node, out: Node, input: Node, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False,
              *, correction: Any = None) -> list[Node | None]:  # fmt: skip
    axes, less = _variance_form(input, dim, unbiased, correction)
    freedom = lang.count(tuple(input.shape), axes) - less  # below 0 the result is infinite; torch's slope is this
    scale = widened(g, input.shape, axes) * number(2.0 / freedom if freedom else math.inf, g)
    return [lang.scaled(lang.conj(centred(input, axes)), scale)]


_VAR = s.more(
    s.calls(
        s.call(T(2, 3)), s.call(T(2, 3, 4), 1), s.call(T(2, 3, 4), -1, True, True), s.call(T(2, 3, 4), (0, 2), False),
        s.call(T(2, 3), False), s.call(T(2, 3), dim=1, correction=0), s.call(T(4, 3), 0, correction=2, keepdim=True),
        s.call(T(2, 0), 1), s.call(T(0, 2), 1),
    )
)  # fmt: skip


@op("var", kinds="buifc", grad=_var_grad, samples=_VAR)
def var(input: Node, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False,
        *, correction: Any = None) -> Node:  # fmt: skip
    """``sum((input - mean) ** 2) / max(0, n - correction)`` over ``dim`` (None: all).  ``unbiased``
    True or False says correction 1 or 0; the default is 1.  (torch.var)"""
    axes, less = _variance_form(input, dim, unbiased, correction)
    return _var(input, axes, less, keepdim)


def _std_grad(g: Node, out: Node, input: Node, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False,
              *, correction: Any = None) -> list[Node | None]:  # fmt: skip
    per = lang.where(lang.eq(out, 0), 0, g / (out * 2))
    return _var_grad(per, out, input, dim, unbiased, keepdim, correction=correction)


@op("std", kinds="buifc", grad=_std_grad, saves="io", samples=_VAR)
def std(input: Node, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False,
        *, correction: Any = None) -> Node:  # fmt: skip
    """Square root of :func:`var`; the gradient where it is 0 is 0.  (torch.std)"""
    axes, less = _variance_form(input, dim, unbiased, correction)
    return lang.sqrt(_var(input, axes, less, keepdim))




__all__ = ["centred", "moments", "std", "var"]
