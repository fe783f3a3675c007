"""Convolution and pooling: sliding windows, contracted or folded.

In: input [N, C, spatial...] (or without N), weight [O, C / groups, window...].  A convolution is PAD, one
WINDOW an axis, and one DOT of the weight with the windows, whose output [O, N, ...] is permuted.  Products and
gradients (:mod:`.windows`) are for any number of spatial axes; pools look at a window cell by cell.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x, w = graph.param(0, (1, 3, 8, 8), dtypes.float32), graph.param(1, (4, 3, 3, 3), dtypes.float32)
    >>> n = OPS["conv2d"].apply([x, w], {"stride": 2, "padding": 1})
    >>> n.op, n.shape, n.src[0].op, n.src[0].src[1].op
    ('PERMUTE', (1, 4, 4, 4), 'DOT', 'WINDOW')
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.lang import fold
from ..ir.node import Node, cast, const
from . import samples as s
from .elementwise import dtypes_limits, number
from .gradients import vjp
from .rearrange import filled_pad
from .reduce import is_extreme
from .registry import op, raise_dtype
from .windows import MOST_CELLS, Form, cells, correlate, input_grad, padded, weight_grad, windows

T = s.T
Ints = int | Sequence[int]


def each(value: Any, rank: int, name: str) -> tuple[int, ...]:
    """One number an axis."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    values = values * rank if len(values) == 1 else values
    if len(values) != rank:
        raise ShapeError(
            f"expected {name} to be a single integer value or a list of {rank} values, but got {list(values)}"
        )
    return values


# -- convolution ----------------------------------------------------------------------------------


def _conv_form(
    x: Node, weight: Node, bias: Node | None, stride: Ints, padding: Any, dilation: Ints, groups: int
) -> Form:
    rank = len(weight.shape) - 2
    steps, apart = each(stride, rank, "stride"), each(dilation, rank, "dilation")
    kernel = weight.shape[2:]
    for d in (weight, bias):
        if d is not None and d.dtype is not x.dtype:
            raise SpiralError(
                f"Input type ({x.dtype.name}) and weight or bias type ({d.dtype.name}) should be the same"
            )
    if x.dtype is dtypes.bool_:
        raise_dtype(conv2d, x.dtype)
    if any(n <= 0 for n in steps):
        raise SpiralError("non-positive stride is not supported")
    if any(n <= 0 for n in apart):
        raise SpiralError("dilation should be greater than zero")
    if groups <= 0:
        raise SpiralError("non-positive groups is not supported")
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise SpiralError(f"Invalid padding string: '{padding}'")
        if padding == "same" and any(n != 1 for n in steps):
            raise SpiralError("padding='same' is not supported for strided convolutions")
        room = [d * (k - 1) if padding == "same" else 0 for d, k in zip(apart, kernel)]
        pads = [(n // 2, n - n // 2) for n in room]
    else:
        pads = [(n, n) for n in each(padding, rank, "padding")]
        if any(n < 0 for n, _ in pads):
            raise SpiralError("negative padding is not supported")
    if x.shape[1] != weight.shape[1] * groups:
        raise ShapeError(
            f"Given groups={groups}, weight of size {list(weight.shape)}, expected input{list(x.shape)} to have "
            f"{weight.shape[1] * groups} channels, but got {x.shape[1]} channels instead"
        )
    if weight.shape[0] % groups or weight.shape[0] == 0:
        raise ShapeError(
            f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, and divisible by it, "
            f"but got weight of size {list(weight.shape)} instead"
        )
    if bias is not None and bias.shape != (weight.shape[0],):
        raise ShapeError(
            f"Given weight of size {list(weight.shape)}, expected bias to be 1-dimensional with {weight.shape[0]} "
            f"elements, but got bias of size {list(bias.shape)} instead"
        )
    for n, k, d, (b, a) in zip(x.shape[2:], kernel, apart, pads):
        if n + b + a < d * (k - 1) + 1:
            raise ShapeError(
                f"Calculated padded input size per channel: ({n + b + a}). Kernel size: ({d * (k - 1) + 1}). "
                "Kernel size can't be greater than actual input size"
            )
    return Form(steps, tuple(pads), apart, groups)


def _conv(rank: int, input: Node, weight: Node, bias: Node | None, *form: Any) -> Node:
    if len(weight.shape) != rank + 2 or len(input.shape) not in (rank + 1, rank + 2):
        raise ShapeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to conv{rank}d, but got input of size: "
            f"{list(input.shape)}, weight {list(weight.shape)}"
        )
    batched = len(input.shape) == rank + 2
    x = input if batched else graph.reshape(input, (1, *input.shape))
    c = _conv_form(x, weight, bias, *form)
    out = correlate(padded(x, c), weight, c)
    if bias is not None:
        out = out + graph.reshape(bias, (bias.size,) + (1,) * rank)
    return out if batched else graph.reshape(out, out.shape[1:])


def _conv_grad(g: Node, out: Node, input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1,
               padding: Any = 0, dilation: Ints = 1, groups: int = 1) -> list[Node | None]:  # fmt: skip
    rank = len(weight.shape) - 2
    batched = len(input.shape) == rank + 2
    x = input if batched else graph.reshape(input, (1, *input.shape))
    up = g if batched else graph.reshape(g, (1, *g.shape))
    c = _conv_form(x, weight, bias, stride, padding, dilation, groups)
    grads: list[Node | None] = [
        graph.reshape(input_grad(up, x.shape, weight, c), input.shape),
        weight_grad(up, x, weight, c),
    ]
    if bias is not None:
        grads.append(fold("add", up, [0, *range(2, 2 + rank)]))
    return grads


@op("conv1d", acc=False, grad=_conv_grad, saves=("input", "weight"),
    where=("", "nn.functional"), tolerance=1e-4, samples=s.calls(
    s.call(T(2, 3, 8), T(4, 3, 3), T(4)), s.call(T(3, 8), T(4, 3, 3), None, 2, 1),
    s.call(T(2, 4, 9), T(4, 2, 2), T(4), 1, "same", 3, 2)))  # fmt: skip
def conv1d(input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1, padding: Any = 0,
           dilation: Ints = 1, groups: int = 1) -> Node:  # fmt: skip
    """Cross-correlation of input [N, C, L] with weight [O, C / groups, K], as :func:`conv2d`.
    (torch.nn.functional.conv1d)"""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


@op("conv2d", acc=False, grad=_conv_grad, saves=("input", "weight"),
    where=("", "nn.functional"), tolerance=1e-4, samples=s.calls(
    s.call(T(2, 3, 6, 5), T(4, 3, 3, 2), T(4)), s.call(T(2, 3, 7, 6), T(4, 3, 3, 3), T(4), 2, 1),
    s.call(T(3, 6, 5), T(4, 3, 3, 3), None, padding=(1, 2)),
    s.call(T(2, 4, 6, 6), T(6, 2, 3, 3), T(6), 1, 1, 1, 2),
    s.call(T(2, 4, 8, 8), T(4, 1, 3, 2), None, (2, 1), (0, 1), (2, 1), 4),
    s.call(T(2, 3, 6, 6), T(4, 3, 2, 4), T(4), padding="same", dilation=2),
    s.call(T(2, 3, 6, 6), T(4, 3, 1, 1), T(4), padding="valid"),
    s.call(T(2, 3, 8, 8), T(4, 3, 2, 2), None, 2), s.call(T(1, 2, 5, 5), T(3, 2, 2, 2), None, 1, 3),
    s.call(T(1, 2, 9, 9), T(3, 2, 2, 2), None, 3, 0),
    s.call(T(0, 2, 5, 5), T(3, 2, 2, 2))))  # fmt: skip
def conv2d(input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1, padding: Any = 0,
           dilation: Ints = 1, groups: int = 1) -> Node:  # fmt: skip
    """``out[n, o, i, j] = bias[o] + sum(weight[o, c, k, l] * input[n, c, i * stride + k * dilation - padding, ...])``:
    input [N, C, H, W] or [C, H, W], weight [O, C / groups, KH, KW], padding a number an axis, 'valid' or 'same'.
    (torch.nn.functional.conv2d)"""
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


@op("conv3d", acc=False, grad=_conv_grad, saves=("input", "weight"),
    where=("", "nn.functional"), tolerance=1e-4, samples=s.calls(
    s.call(T(2, 3, 4, 5, 4), T(4, 3, 3, 2, 3), T(4)), s.call(T(2, 2, 5, 4, 6), T(4, 1, 2, 3, 2), T(4), 2, 1, 1, 2),
    s.call(T(3, 4, 5, 4), T(2, 3, 2, 2, 2), None, 1, "same", (2, 1, 1)), s.call(T(0, 2, 3, 3, 3), T(3, 2, 2, 2, 2))))  # fmt: skip
def conv3d(input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1, padding: Any = 0,
           dilation: Ints = 1, groups: int = 1) -> Node:  # fmt: skip
    """Cross-correlation of input [N, C, D, H, W] with weight [O, C / groups, KD, KH, KW], as :func:`conv2d`.
    (torch.nn.functional.conv3d)"""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


# -- pooling --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pool:
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    after: tuple[int, int]  # what is added behind each axis so that the last window fits
    out: tuple[int, int]


def _pool_form(
    name: str, input: Node, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> _Pool:
    if len(input.shape) not in (3, 4):
        raise ShapeError(f"{name}: Expected 3D or 4D (batch mode) tensor for input, but got: {list(input.shape)}")
    size = each(kernel_size, 2, "kernel_size")
    steps = size if stride is None or stride == () or stride == [] else each(stride, 2, "stride")
    pads, apart = each(padding, 2, "padding"), each(dilation, 2, "dilation")
    if any(n <= 0 for n in (*size, *steps, *apart)):
        raise SpiralError(f"{name}: kernel size, stride and dilation should be greater than zero")
    after, counts = [], []
    for n, k, step, p, d in zip(input.shape[-2:], size, steps, pads, apart):
        if p < 0 or p > (d * (k - 1) + 1) // 2:
            raise SpiralError(
                f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and "
                f"dilation={d}"
            )
        room = n + 2 * p - d * (k - 1) - 1
        count = (-(-room // step) if ceil_mode else room // step) + 1
        if ceil_mode and (count - 1) * step >= n + p:  # the last window must start inside
            count -= 1
        if count < 1:
            raise ShapeError(f"Given input size: {list(input.shape)}. Calculated output size is too small")
        counts.append(count)
        after.append(max(0, (count - 1) * step + d * (k - 1) + 1 - n - p))
    return _Pool(size, steps, pads, apart, tuple(after), tuple(counts))  # type: ignore[arg-type]


def _pool_windows(x: Node, p: _Pool, fill: Any) -> Node:
    """[..., H', W', KH, KW]; what lies outside the input is ``fill``."""
    lead = len(x.shape) - 2
    padded = filled_pad(x, [(0, 0)] * lead + [(b, a) for b, a in zip(p.padding, p.after)], fill)
    wins = windows(padded, lead, p.size, p.stride, p.dilation)
    return graph.slice_(wins, tuple([(0, n, 1) for n in (*x.shape[:-2], *p.out, *p.size)]))


def _lowest(x: Node) -> float | int:
    return float("-inf") if x.dtype.kind == "f" else 0 if x.dtype.kind == "u" else -(1 << (x.dtype.bits - 1))


def _largest(wins: Node) -> Node:
    if math.prod(wins.shape[-2:]) > MOST_CELLS:
        return fold("max", wins, (len(wins.shape) - 2, len(wins.shape) - 1))
    return functools.reduce(functools.partial(lang.row, "MAX"), cells(wins))


def _number_in(shape: tuple[int, ...]) -> Node:
    """The number of a place in its window, int32."""
    rank = len(shape)
    return cast(graph.iota(shape, rank - 2) * shape[-1] + graph.iota(shape, rank - 1), dtypes.int32)


def _winner(wins: Node, best: Node) -> Node:
    """Number in its window of the first element equal to the largest, int32."""
    rank, count = len(wins.shape), math.prod(wins.shape[-2:])
    if count <= MOST_CELLS:
        held = cells(wins)
        first = graph.full(count - 1, best.shape, dtypes.int32)
        for k in reversed(range(count - 1)):
            first = lang.where(is_extreme(held[k], best), const(k, dtypes.int32), first)
        return first
    hit = is_extreme(wins, graph.expand(graph.reshape(best, (*best.shape, 1, 1)), wins.shape))
    return fold("min", lang.where(hit, _number_in(wins.shape), const(count, dtypes.int32)), (rank - 2, rank - 1))


def _max_pool_grad(g: Any, out: Any, input: Node, kernel_size: Any, stride: Any = None, padding: Any = 0,
                   dilation: Any = 1, ceil_mode: bool = False,
                   return_indices: bool = False) -> list[Node | None]:  # fmt: skip
    best, up = (out[0], g[0]) if return_indices else (out, g)
    p = _pool_form("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    wins = _pool_windows(input, p, _lowest(input))
    shape = (*best.shape, 1, 1)
    first = graph.expand(graph.reshape(_winner(wins, best), shape), wins.shape)
    spread = lang.where(lang.eq(_number_in(wins.shape), first), graph.expand(graph.reshape(up, shape), wins.shape), 0)
    hole = graph.param(("windows of", 0), input.shape, input.dtype)  # so that no constructor looks through input
    return vjp([_pool_windows(hole, p, _lowest(input))], [hole], [spread])


@op("max_pool2d", acc=False, grad=_max_pool_grad, saves="io", where=("", "nn.functional"), samples=s.calls(
    s.call(T(2, 3, 6, 6, fill="distinct"), 2), s.call(T(2, 3, 7, 6, fill="distinct"), 3, 2, 1),
    s.call(T(3, 6, 6), (2, 3), (1, 2)),
    s.call(T(1, 2, 7, 7, fill="distinct"), 2, 2, 0, 2), s.call(T(1, 2, 7, 7), 3, 2, 1, 1, True),
    s.call(T(1, 2, 4, 4), 2, return_indices=True),
    s.call(T(2, 3, 7, 6, fill="distinct"), 3, 2, 1, return_indices=True), s.call(T(1, 1, 4, 4, fill="ones"), 2),
    s.call(T(0, 2, 4, 4), 2)))  # fmt: skip
def max_pool2d(input: Node, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:  # fmt: skip
    """The largest element of each window of input [N, C, H, W] or [C, H, W]; padding never wins; the gradient goes
    to the first of equal ones.  With ``return_indices`` also their flat position in H * W.
    (torch.nn.functional.max_pool2d)"""
    p = _pool_form("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    wins = _pool_windows(input, p, _lowest(input))
    rank = len(wins.shape)
    best = _largest(wins)
    if not return_indices:
        return best
    won = cast(_winner(wins, best), dtypes.int64)
    place: list[Node] = []
    parts = (lang.row("IDIV", won, p.size[1]), lang.row("REM", won, p.size[1]))
    for k, within in enumerate(parts):
        start = graph.iota(best.shape, rank - 4 + k) * p.stride[k] - p.padding[k]
        place.append(start + within * p.dilation[k])
    return best, place[0] * input.shape[-1] + place[1]


def _span(shape: tuple[int, ...], axis: int, p: _Pool, k: int, size: int, count_pad: bool) -> Node:
    """How many positions of axis ``k`` each window covers: inside the padded input, or inside the input."""
    pad = p.padding[k]
    start = graph.iota(shape, axis) * p.stride[k] - pad
    stop = lang.minimum(start + p.size[k], size + pad)
    return stop - start if count_pad else lang.minimum(stop, size) - lang.maximum(start, 0)


@op("avg_pool2d", saves="", where=("nn.functional",), samples=s.calls(
    s.call(T(2, 3, 6, 6), 2), s.call(T(2, 3, 7, 6), 3, 2, 1), s.call(T(3, 6, 6), (2, 3), (1, 2)),
    s.call(T(1, 2, 7, 7), 3, 2, 1, False, False),
    s.call(T(1, 2, 8, 7), 3, 2, 1, True), s.call(T(1, 2, 8, 7), 3, 2, 1, True, False),
    s.call(T(1, 2, 4, 4), 2, divisor_override=3), s.call(T(0, 2, 4, 4), 2)))  # fmt: skip
def avg_pool2d(input: Node, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Node:  # fmt: skip
    """The mean of each window of input [N, C, H, W] or [C, H, W]; padding counts as zeros unless
    ``count_include_pad`` is False.  (torch.nn.functional.avg_pool2d)"""
    if input.dtype.kind != "f" and input.dtype is not dtypes.int64:
        raise_dtype(avg_pool2d, input.dtype)
    if divisor_override == 0:
        raise SpiralError("divisor must be not zero")
    p = _pool_form("avg_pool2d", input, kernel_size, stride, padding, 1, ceil_mode)
    wins = _pool_windows(input, p, 0)
    rank = len(wins.shape)
    total = fold("add", wins, (rank - 2, rank - 1))
    if divisor_override is not None:
        return _shared(total, number(divisor_override, total))
    whole = not ceil_mode and (count_include_pad or p.padding == (0, 0))
    if whole:
        return _shared(total, number(p.size[0] * p.size[1], total))
    high, wide = (_span(total.shape, rank - 4 + k, p, k, input.shape[-2 + k], count_include_pad) for k in (0, 1))
    return _shared(total, cast(high * wide, total.dtype))


def _shared(total: Node, count: Node) -> Node:
    return lang.row("DIV" if total.dtype.kind == "f" else "IDIV", total, count)


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


@op("adaptive_avg_pool2d", saves="", where=("nn.functional",), samples=s.calls(
    s.call(T(2, 3, 6, 8), (3, 2)), s.call(T(2, 3, 7, 5), (3, 4)), s.call(T(3, 6, 6), 1),
    s.call(T(1, 2, 3, 5), (5, 5)), s.call(T(1, 2, 6, 5), (None, 2))))  # fmt: skip
def adaptive_avg_pool2d(input: Node, output_size: Any) -> Node:
    """Means of even parts of H and W, as many as ``output_size`` says (None: as many as there are).
    (torch.nn.functional.adaptive_avg_pool2d)"""
    if len(input.shape) not in (3, 4):
        raise ShapeError(f"adaptive_avg_pool2d(): Expected 3D or 4D tensor, but got {list(input.shape)}")
    if input.dtype.kind != "f":
        raise_dtype(adaptive_avg_pool2d, input.dtype)
    wanted = (output_size, output_size) if output_size is None or isinstance(output_size, int) else tuple(output_size)
    if len(wanted) != 2:
        raise ShapeError("adaptive_avg_pool2d: output_size must be 2")
    rank = len(input.shape)
    for axis, count in zip((rank - 2, rank - 1), wanted):
        input = average_parts(input, axis, input.shape[axis] if count is None else int(count))
    return input


__all__ = ["average_parts", "dtypes_limits", "each", "windows"]
