"""Transposed convolution: what a convolution's gradient does to its input, as an operator.

In: input [N, C, spatial...] (or without N), weight [C, O / groups, window...].  Out: [N, O, spatial...]; its own
gradient at the input is a convolution, and at the weight the one that a convolution has, with the parts exchanged.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x, w = graph.param(0, (1, 4, 4, 4), dtypes.float32), graph.param(1, (4, 3, 3, 3), dtypes.float32)
    >>> OPS["conv_transpose2d"].apply([x, w], {"stride": 2, "padding": 1}).shape
    (1, 3, 7, 7)
"""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError, SpiralError
from ..ir import graph
from ..ir.lang import fold
from ..ir.node import Node
from . import samples as s
from .rearrange import pad_any
from .registry import OPS, op, raise_dtype
from .windows import Form, Ints, correlate, each, input_grad, padded, weight_grad

T = s.T


def _form(
    rank: int, x: Node, weight: Node, bias: Node | None, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> tuple[Form, tuple[int, ...]]:
    """The convolution that this is the transpose of, and the shape of the result."""
    name = f"conv_transpose{rank}d"
    steps, apart = each(stride, rank, "stride"), each(dilation, rank, "dilation")
    pads, more = each(padding, rank, "padding"), each(output_padding, rank, "output_padding")
    for d in (weight, bias):
        if d is not None and d.dtype is not x.dtype:
            raise SpiralError(f"Input type ({x.dtype.name}) and weight or bias type ({d.dtype.name}) should be the same")
    if x.dtype.kind == "b":
        raise_dtype(OPS[name], x.dtype)
    for what, values, least in (("stride", steps, 1), ("dilation", apart, 1), ("padding", pads, 0), ("output_padding", more, 0)):
        if any(n < least for n in values):
            raise SpiralError(f"{'non-positive' if least else 'negative'} {what} is not supported")
    if groups <= 0:
        raise SpiralError("non-positive groups is not supported")
    if weight.shape[0] % groups or weight.shape[0] == 0:
        raise ShapeError(
            f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, and divisible by it, "
            f"but got weight of size {list(weight.shape)} instead"
        )
    if x.shape[1] != weight.shape[0]:
        raise ShapeError(
            f"Given transposed=1, weight of size {list(weight.shape)}, expected input{list(x.shape)} to have "
            f"{weight.shape[0]} channels, but got {x.shape[1]} channels instead"
        )
    channels = weight.shape[1] * groups
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(
            f"Given transposed=1, weight of size {list(weight.shape)}, expected bias to be 1-dimensional with {channels} "
            f"elements, but got bias of size {list(bias.shape)} instead"
        )
    if any(m >= step and m >= d for m, step, d in zip(more, steps, apart)):
        raise SpiralError(
            f"output padding must be smaller than either stride or dilation, but got output_padding: {list(more)}, "
            f"stride: {list(steps)}, dilation: {list(apart)}"
        )
    sizes = [
        (n - 1) * step - 2 * p + d * (k - 1) + m + 1
        for n, step, p, d, k, m in zip(x.shape[2:], steps, pads, apart, weight.shape[2:], more)
    ]
    if any(n < 1 for n in sizes):
        raise ShapeError(
            f"Given input size per channel: {list(x.shape[2:])}. Calculated output size per channel: {sizes}. Output size is too small"
        )
    form = Form(steps, tuple([(p, p - m) for p, m in zip(pads, more)]), apart, groups)
    return form, (x.shape[0], channels, *sizes)


def _batched(rank: int, input: Node, weight: Node) -> Node:
    name = f"conv_transpose{rank}d"
    if len(weight.shape) != rank + 2 or len(input.shape) not in (rank + 1, rank + 2):
        raise ShapeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to {name}, but got input of size: "
            f"{list(input.shape)}, weight {list(weight.shape)}"
        )
    return input if len(input.shape) == rank + 2 else graph.reshape(input, (1, *input.shape))


def _transposed(rank: int, input: Node, weight: Node, bias: Node | None, *form: Any) -> Node:
    x = _batched(rank, input, weight)
    c, shape = _form(rank, x, weight, bias, *form)
    out = input_grad(x, shape, weight, c)
    if bias is not None:
        out = out + graph.reshape(bias, (bias.size,) + (1,) * rank)
    return out if len(input.shape) == rank + 2 else graph.reshape(out, out.shape[1:])


def _grad(g: Node, out: Node, input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1, padding: Ints = 0,
          output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1) -> list[Node | None]:  # fmt: skip
    rank = len(weight.shape) - 2
    x = _batched(rank, input, weight)
    up = g if len(input.shape) == rank + 2 else graph.reshape(g, (1, *g.shape))
    c, _ = _form(rank, x, weight, bias, stride, padding, output_padding, groups, dilation)
    # Of the gradient, the convolution reads what its padding lets it: less than nothing behind is a cut.
    cut = pad_any(up, [(0, 0, 0), (0, 0, 0), *[(0, min(after, 0), 0) for _, after in c.pads]])
    c = Form(c.stride, tuple([(before, max(after, 0)) for before, after in c.pads]), c.dilation, c.groups)
    dx = correlate(padded(cut, c), weight, c)
    grads: list[Node | None] = [graph.reshape(dx, input.shape), weight_grad(x, cut, weight, c)]
    if bias is not None:
        grads.append(fold("add", up, [0, *range(2, 2 + rank)]))
    return grads


def _samples(*sizes: int) -> Any:
    """Windows of 3 and 2: plain, strided with output padding, grouped and dilated, unbatched, empty."""
    k = len(sizes)
    return s.calls(
        s.call(T(2, 3, *sizes), T(3, 4, *[3] * k), T(4)), s.call(T(2, 3, *sizes), T(3, 4, *[3] * k), None, 2, 1, 1),
        s.call(T(3, *sizes), T(3, 2, *[2] * k), T(2), 3, 0, 2), s.call(T(2, 4, *sizes), T(4, 3, *[2] * k), T(6), 2, 1, 0, 2, 2),
        s.call(T(1, 2, *sizes), T(2, 3, *[2] * k), None, 1, 0, 1, 1, 2), s.call(T(0, 3, *sizes), T(3, 4, *[3] * k)),
    )  # fmt: skip


@op("conv_transpose1d", lies="filter", kinds="buifc", acc=False, grad=_grad, saves=("input", "weight"),
    where=("", "nn.functional"), tolerance=1e-4,
    samples=_samples(5))  # fmt: skip
def conv_transpose1d(input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1, padding: Ints = 0,
                     output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1) -> Node:  # fmt: skip
    """The transpose of :func:`conv1d` with the same form: input [N, C, L], weight [C, O / groups, K]; ``output_padding``
    more positions at the end.  (torch.nn.functional.conv_transpose1d)"""
    return _transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@op("conv_transpose2d", lies="images", kinds="buifc", acc=False, grad=_grad, saves=("input", "weight"),
    where=("", "nn.functional"), tolerance=1e-4,
    samples=_samples(4, 5))  # fmt: skip
def conv_transpose2d(input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1, padding: Ints = 0,
                     output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1) -> Node:  # fmt: skip
    """The transpose of :func:`conv2d` with the same form: input [N, C, H, W], weight [C, O / groups, KH, KW];
    ``output_padding`` more positions at the end of each axis.  (torch.nn.functional.conv_transpose2d)"""
    return _transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@op("conv_transpose3d", lies="images", kinds="buifc", acc=False, grad=_grad, saves=("input", "weight"),
    where=("", "nn.functional"), tolerance=1e-4,
    samples=_samples(3, 2, 3))  # fmt: skip
def conv_transpose3d(input: Node, weight: Node, bias: Node | None = None, stride: Ints = 1, padding: Ints = 0,
                     output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1) -> Node:  # fmt: skip
    """The transpose of :func:`conv3d` with the same form: input [N, C, D, H, W], weight [C, O / groups, KD, KH, KW].
    (torch.nn.functional.conv_transpose3d)"""
    return _transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)
