"""Means and norms of windows: average, adaptive average and power-average pooling.

In: data [N, C, spatial...] or [C, spatial...].  Out: one element a window, folded from the window's axes.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> OPS["avg_pool1d"].apply([graph.param(0, (3, 9), dtypes.float32), 3, 2], {}).shape
    (3, 4)
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

from .. import dtypes
from ..errors import SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast
from . import samples as s
from .elementwise import number
from .gradients import vjp
from .pool_form import Parts, Pool, output_sizes, pool_form, pool_windows
from .registry import OPS, op, raise_dtype
from .windows import MOST_CELLS, Form, Ints, input_grad, sums

T = s.T


def _covered(shape: tuple[int, ...], axis: int, p: Pool, k: int, size: int, count_pad: bool) -> Node:
    """How many positions of spatial axis ``k`` each window covers: inside the padded input, or inside the input."""
    pad = p.padding[k]
    start = graph.iota(shape, axis) * p.stride[k] - pad
    stop = lang.minimum(start + p.size[k], size + pad)
    return stop - start if count_pad else lang.minimum(stop, size) - lang.maximum(start, 0)


def _shared(total: Node, count: Any) -> Node:
    count = cast(count, total.dtype) if isinstance(count, Node) else number(count, total)
    return lang.row("DIV" if total.dtype.kind == "f" else "IDIV", total, count)


def _divisor(shape: tuple[int, ...], input: Node, p: Pool, ceil_mode: bool, count_include_pad: bool, override: int | None) -> Any:
    """What the sum of each window is divided by: one number, or as many as windows."""
    if override is not None:
        return override
    if not ceil_mode and (count_include_pad or not any(p.padding)):
        return math.prod(p.size)
    lead = len(shape) - len(p.size)
    each = [_covered(shape, lead + k, p, k, input.shape[lead + k], count_include_pad) for k in range(len(p.size))]
    return functools.reduce(operator.mul, each)


def _avg_pool(rank: int, input: Node, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
              count_include_pad: bool, divisor_override: int | None = None) -> Node:  # fmt: skip
    name = f"avg_pool{rank}d"
    if input.dtype.kind != "f" and input.dtype is not dtypes.int64:
        raise_dtype(OPS[name], input.dtype)
    if divisor_override == 0:
        raise SpiralError("divisor must be not zero")
    p = pool_form(name, rank, input, kernel_size, stride, padding, 1, ceil_mode)
    total = sums(pool_windows(input, p, 0), rank)
    return _shared(total, _divisor(total.shape, input, p, ceil_mode, count_include_pad, divisor_override))


def _spread(up: Node, shape: tuple[int, ...], p: Pool) -> Node:
    """To every element what the windows that it is in have: the gradient of sums over windows of data of ``shape``."""
    rank = len(p.size)
    if all(step >= k for step, k in zip(p.stride, p.size)) or math.prod(p.size) > MOST_CELLS:
        hole = graph.param(("windows of", 0), shape, up.dtype)
        (found,) = vjp([sums(pool_windows(hole, p, 0), rank)], [hole], [up])
        assert found is not None
        return found
    planes = math.prod(shape[:-rank])  # as data take the gradient of a convolution by ones
    if not planes:
        return graph.full(0, shape, up.dtype)
    form = Form(p.stride, tuple(zip(p.padding, p.after)), p.dilation, planes)
    ones = graph.full(1, (planes, 1, *p.size), up.dtype)
    back = input_grad(graph.reshape(up, (1, planes, *p.out)), (1, planes, *shape[-rank:]), ones, form)
    return graph.reshape(back, shape)


def _avg_grad(rank: int) -> Callable[..., list[Node | None]]:
    def rule(g: Node, out: Node, input: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor_override: int | None = None) -> list[Node | None]:  # fmt: skip
        p = pool_form(f"avg_pool{rank}d", rank, input, kernel_size, stride, padding, 1, ceil_mode)
        up = _shared(g, _divisor(g.shape, input, p, ceil_mode, count_include_pad, divisor_override))
        return [_spread(up, input.shape, p)]

    return rule


@op("avg_pool1d", grad=_avg_grad(1), lies="sequences", saves="", where=("", "nn.functional"), samples=s.calls(
    s.call(T(2, 3, 6), 2), s.call(T(3, 7), 3, 2, 1), s.call(T(1, 2, 7), 3, 2, 1, False, False),
    s.call(T(1, 2, 8), 3, 2, 1, True), s.call(T(1, 2, 8), 3, 2, 1, True, False), s.call(T(0, 2, 4), 2),
    s.call(T(0, 2, 4), 3, 1, 1)))  # fmt: skip
def avg_pool1d(input: Node, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Node:  # fmt: skip
    """The mean of each window of input [N, C, L] or [C, L]; padding counts as zeros unless ``count_include_pad`` is
    False.  (torch.nn.functional.avg_pool1d)"""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


@op("avg_pool2d", grad=_avg_grad(2), lies="images", out="exact", saves="", where=("nn.functional",), samples=s.calls(
    s.call(T(2, 3, 6, 6), 2), s.call(T(2, 3, 7, 6), 3, 2, 1), s.call(T(3, 6, 6), (2, 3), (1, 2)),
    s.call(T(1, 2, 7, 7), 3, 2, 1, False, False),
    s.call(T(1, 2, 8, 7), 3, 2, 1, True), s.call(T(1, 2, 8, 7), 3, 2, 1, True, False),
    s.call(T(1, 2, 4, 4), 2, divisor_override=3), s.call(T(0, 2, 4, 4), 2)))  # fmt: skip
def avg_pool2d(input: Node, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Node:  # fmt: skip
    """The mean of each window of input [N, C, H, W] or [C, H, W], as :func:`avg_pool1d`; ``divisor_override`` is
    divided by in place of the window's size.  (torch.nn.functional.avg_pool2d)"""
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@op("avg_pool3d", grad=_avg_grad(3), out="exact", saves="", where=("nn.functional",), samples=s.calls(
    s.call(T(2, 2, 4, 4, 6), 2), s.call(T(2, 5, 4, 7), (3, 2, 3), 2, (1, 1, 0)),
    s.call(T(1, 2, 5, 5, 4), 3, 2, 1, False, False), s.call(T(1, 2, 5, 6, 4), 3, 2, 1, True),
    s.call(T(1, 2, 4, 4, 4), 2, divisor_override=3), s.call(T(0, 2, 4, 4, 4), 2)))  # fmt: skip
def avg_pool3d(input: Node, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Node:  # fmt: skip
    """The mean of each window of input [N, C, D, H, W] or [C, D, H, W], as :func:`avg_pool2d`.
    (torch.nn.functional.avg_pool3d)"""
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


# -- adaptive -------------------------------------------------------------------------------------


def average_parts(x: Node, axis: int, count: int) -> Node:
    """Means of ``count`` even parts of ``axis``, which overlap by one where it does not divide."""
    size = x.shape[axis]
    if count and size % count == 0:
        split = graph.reshape(x, (*x.shape[:axis], count, size // count, *x.shape[axis + 1 :]))
        return fold("add", split, axis + 1) / number(float(size // count), x)
    longest = -(-size // count) + 1 if count else 1
    part = graph.iota((count, longest), 0)
    start = lang.row("IDIV", part * size, max(1, count))
    stop = lang.row("IDIV", part * size + (size + count - 1), max(1, count))
    at = start + graph.iota((count, longest), 1)
    taken = graph.gather(x, lang.minimum(at, size - 1), axis)
    around = (count, longest) + (1,) * (len(x.shape) - axis - 1)
    inside = graph.reshape(lang.lt(at, stop), around)
    total = fold("add", lang.where(inside, taken, 0), axis + 1)
    length = graph.slice_(stop - start, ((0, count, 1), (0, 1, 1)))
    return total / cast(graph.reshape(length, (count,) + around[2:]), x.dtype)


def _adaptive_avg(rank: int, input: Node, output_size: Any) -> Node:
    name = f"adaptive_avg_pool{rank}d"
    if input.dtype.kind != "f":
        raise_dtype(OPS[name], input.dtype)
    first = len(input.shape) - rank
    for k, count in enumerate(output_sizes(name, rank, input, output_size)):
        input = average_parts(input, first + k, count)
    return input


@op("adaptive_avg_pool1d", lies="sequences", saves="", where=("", "nn.functional"), samples=s.calls(
    s.call(T(2, 3, 6), 3), s.call(T(2, 3, 7), 3), s.call(T(3, 6), 1), s.call(T(1, 2, 3), 5)))  # fmt: skip
def adaptive_avg_pool1d(input: Node, output_size: Parts) -> Node:
    """Means of even parts of the last axis, as many as ``output_size`` says.
    (torch.nn.functional.adaptive_avg_pool1d)"""
    return _adaptive_avg(1, input, output_size)


@op("adaptive_avg_pool2d", lies="images", saves="", where=("nn.functional",), samples=s.calls(
    s.call(T(2, 3, 6, 8), (3, 2)), s.call(T(2, 3, 7, 5), (3, 4)), s.call(T(3, 6, 6), 1),
    s.call(T(1, 2, 3, 5), (5, 5)), s.call(T(1, 2, 6, 5), (None, 2))))  # fmt: skip
def adaptive_avg_pool2d(input: Node, output_size: Parts) -> Node:
    """Means of even parts of H and W, as many as ``output_size`` says (None: as many as there are).
    (torch.nn.functional.adaptive_avg_pool2d)"""
    return _adaptive_avg(2, input, output_size)


@op("adaptive_avg_pool3d", saves="", where=("nn.functional",), samples=s.calls(
    s.call(T(2, 3, 4, 6, 2), (2, 3, 1)), s.call(T(2, 3, 5, 4, 6), 3), s.call(T(3, 4, 4, 4), 1),
    s.call(T(1, 2, 3, 2, 3), (5, None, 4))))  # fmt: skip
def adaptive_avg_pool3d(input: Node, output_size: Parts) -> Node:
    """Means of even parts of D, H and W, as many as ``output_size`` says (None: as many as there are).
    (torch.nn.functional.adaptive_avg_pool3d)"""
    return _adaptive_avg(3, input, output_size)


# -- power average --------------------------------------------------------------------------------


def _lp_pool(rank: int, input: Node, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Node:
    if norm_type == math.inf:
        return OPS[f"max_pool{rank}d"].apply([lang.absolute(input), kernel_size, stride, 0, 1, ceil_mode], {})  # type: ignore[no-any-return]
    mean = _avg_pool(rank, _powers(input, norm_type), kernel_size, stride, 0, ceil_mode, True)
    return _root(mean, rank, norm_type, kernel_size)


def _powers(input: Node, norm_type: float) -> Node:
    return OPS["pow"].apply([input, norm_type], {})  # type: ignore[no-any-return]


def _root(mean: Node, rank: int, norm_type: float, kernel_size: Any) -> Node:
    """Of a mean of powers times the number of cells; where it has no derivative, torch gives 0."""
    size = number(kernel_size**rank if isinstance(kernel_size, int) else math.prod(kernel_size), mean)
    nothing = lang.eq(mean, 0)
    root: Node = OPS["pow"].apply([lang.where(nothing, 1, mean * size), 1.0 / norm_type], {})
    return lang.where(nothing, 0, root)


def _lp_grad(rank: int) -> Callable[..., list[Node | None]]:
    def rule(g: Node, out: Node, input: Node, norm_type: float, kernel_size: Any, stride: Any = None,
             ceil_mode: bool = False) -> list[Node | None]:  # fmt: skip
        form = (kernel_size, stride, 0, ceil_mode, True)
        if norm_type == math.inf:
            return vjp([_lp_pool(rank, input, norm_type, kernel_size, stride, ceil_mode)], [input], [g])
        powers = _powers(input, norm_type)
        mean = _avg_pool(rank, powers, *form)
        (up,) = vjp([_root(mean, rank, norm_type, kernel_size)], [mean], [g])
        assert up is not None
        (spread,) = _avg_grad(rank)(up, mean, powers, *form)
        return vjp([powers], [input], [spread])

    return rule


def _lp_samples(*sizes: int) -> Any:
    return s.calls(
        s.call(T(2, 3, *sizes, fill="positive"), 2, 2), s.call(T(3, *sizes, fill="positive"), 3, 3, 2),
        s.call(T(2, 3, *sizes, fill="positive"), 1.5, 2, ceil_mode=True), s.call(T(2, 3, *sizes), 2.0, 3, 1),
    )  # fmt: skip


@op("lp_pool1d", grad=_lp_grad(1), lies="sequences", saves="i", where=("nn.functional",), tolerance=1e-4, samples=_lp_samples(7))
def lp_pool1d(input: Node, norm_type: float, kernel_size: Ints, stride: Ints | None = None,
              ceil_mode: bool = False) -> Node:  # fmt: skip
    """``sum(input ** p) ** (1 / p)`` of each window of [N, C, L] or [C, L].  (torch.nn.functional.lp_pool1d)"""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


@op("lp_pool2d", grad=_lp_grad(2), lies="images", saves="i", where=("nn.functional",), tolerance=1e-4, samples=_lp_samples(5, 6))
def lp_pool2d(input: Node, norm_type: float, kernel_size: Ints, stride: Ints | None = None,
              ceil_mode: bool = False) -> Node:  # fmt: skip
    """``sum(input ** p) ** (1 / p)`` of each window of [N, C, H, W] or [C, H, W].  (torch.nn.functional.lp_pool2d)"""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


@op("lp_pool3d", grad=_lp_grad(3), saves="i", where=("nn.functional",), tolerance=1e-4, samples=_lp_samples(4, 3, 5))
def lp_pool3d(input: Node, norm_type: float, kernel_size: Ints, stride: Ints | None = None,
              ceil_mode: bool = False) -> Node:  # fmt: skip
    """``sum(input ** p) ** (1 / p)`` of each window of [N, C, D, H, W] or [C, D, H, W].
    (torch.nn.functional.lp_pool3d)"""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)
