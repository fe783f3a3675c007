"""Convolution: sliding windows, contracted with filters.

In: input [N, C, spatial...] (or without N), weight [O, C / groups, window...].  A convolution is PAD, one
WINDOW an axis, and one DOT of the weight with the windows, whose output [O, N, ...] is permuted.  Products and
gradients (:mod:`.windows`) are for any number of spatial axes.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x, w = graph.param(0, (1, 3, 8, 8), dtypes.float32), graph.param(1, (4, 3, 3, 3), dtypes.float32)
    >>> n = OPS["conv2d"].apply([x, w], {"stride": 2, "padding": 1})
    >>> n.op, n.shape, n.src[0].op, n.src[0].src[1].op
    ('PERMUTE', (1, 4, 4, 4), 'DOT', 'WINDOW')
"""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph
from ..ir.lang import fold
from ..ir.node import Node
from . import samples as s
from .registry import op, raise_dtype
from .windows import Form, Ints, Padding, correlate, each, input_grad, padded, weight_grad

T = s.T



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
    if 0 in x.shape[2:]:
        raise ShapeError(f"Only zero batch or zero channel inputs are supported, but got input shape: {list(x.shape)}")
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


@op("conv1d", lies="filter", kinds="buifc", acc=False, grad=_conv_grad, saves=("input", "weight"),
    where=("", "nn.functional"), tolerance=1e-4, samples=s.calls(
    s.call(T(2, 3, 8), T(4, 3, 3), T(4)), s.call(T(3, 8), T(4, 3, 3), None, 2, 1),
    s.call(T(2, 4, 9), T(4, 2, 2), T(4), 1, "same", 3, 2)))  # fmt: skip
def conv1d(input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1, padding: Padding = 0,
           dilation: Ints = 1, groups: int = 1) -> Node:  # fmt: skip
    """Cross-correlation of input [N, C, L] with weight [O, C / groups, K], as :func:`conv2d`.
    (torch.nn.functional.conv1d)"""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


@op("conv2d", lies="images", kinds="buifc", acc=False, grad=_conv_grad, saves=("input", "weight"),
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
def conv2d(input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1, padding: Padding = 0,
           dilation: Ints = 1, groups: int = 1) -> Node:  # fmt: skip
    """``out[n, o, i, j] = bias[o] + sum(weight[o, c, k, l] * input[n, c, i * stride + k * dilation - padding, ...])``:
    input [N, C, H, W] or [C, H, W], weight [O, C / groups, KH, KW], padding a number an axis, 'valid' or 'same'.
    (torch.nn.functional.conv2d)"""
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


@op("conv3d", lies="images", kinds="buifc", acc=False, grad=_conv_grad, saves=("input", "weight"),
    where=("", "nn.functional"), tolerance=1e-4, samples=s.calls(
    s.call(T(2, 3, 4, 5, 4), T(4, 3, 3, 2, 3), T(4)), s.call(T(2, 2, 5, 4, 6), T(4, 1, 2, 3, 2), T(4), 2, 1, 1, 2),
    s.call(T(3, 4, 5, 4), T(2, 3, 2, 2, 2), None, 1, "same", (2, 1, 1)), s.call(T(0, 2, 3, 3, 3), T(3, 2, 2, 2, 2))))  # fmt: skip
def conv3d(input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1, padding: Padding = 0,
           dilation: Ints = 1, groups: int = 1) -> Node:  # fmt: skip
    """Cross-correlation of input [N, C, D, H, W] with weight [O, C / groups, KD, KH, KW], as :func:`conv2d`.
    (torch.nn.functional.conv3d)"""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)
