"""Windows as columns, and elements put back where they came from: unfold, fold and unpooling.

In: data [N, C, spatial...] or the same without N.  Out: ``unfold`` gives [N, C * window, windows] (a view's copy),
``fold`` the transpose of it, ``max_unpool`` zeros with each value at the flat position it was pooled from.

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> from spiraltorch.ops.registry import OPS
    >>> x = OPS["unfold_windows"].apply([graph.param(0, (1, 3, 4, 5), dtypes.float32), 2], {})
    >>> x.shape, OPS["fold"].apply([x, (4, 5), 2], {}).shape
    ((1, 12, 12), (1, 3, 4, 5))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import dtypes
from ..errors import ShapeError, SpiralError
from ..ir import graph, lang
from ..ir.node import Node, cast
from . import samples as s
from .gradients import vjp
from .index import checked
from .registry import op, raise_dtype
from .windows import Ints, each, windows

T = s.T


@dataclass(frozen=True)
class _Columns:
    """How [N, C, H, W] becomes columns, checked."""

    size: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    stride: tuple[int, ...]

    def counts(self, spatial: Sequence[int]) -> list[int]:
        return [
            (n + 2 * p - d * (k - 1) - 1) // step + 1
            for n, k, d, p, step in zip(spatial, self.size, self.dilation, self.padding, self.stride)
        ]

    def of(self, x: Node) -> Node:
        """[N, C * window, windows] of ``x`` [N, C, H, W]."""
        padded = graph.pad(x, ((0, 0, 0), (0, 0, 0), *[(p, p, 0) for p in self.padding]))
        wins = graph.permute(windows(padded, 2, self.size, self.stride, self.dilation), (0, 1, 4, 5, 2, 3))
        n, c = x.shape[:2]
        return graph.reshape(wins, (n, c * math.prod(self.size), math.prod(wins.shape[4:])))

    def back(self, columns: Node, spatial: Sequence[int]) -> Node:
        """Columns added at their places in [N, C, H, W]."""
        *batch, rows, count = columns.shape
        n = batch[0] if batch else 1
        hole = graph.param(("folded", 0), (n, rows // math.prod(self.size), *spatial), columns.dtype)
        (out,) = vjp([self.of(hole)], [hole], [graph.reshape(columns, (n, rows, count))])
        assert out is not None
        return out if batch else graph.reshape(out, out.shape[1:])


def _columns(kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> _Columns:
    c = _Columns(
        each(kernel_size, 2, "kernel_size"), each(dilation, 2, "dilation"), each(padding, 2, "padding"),
        each(stride, 2, "stride"),
    )  # fmt: skip
    for name, values, least in (("kernel size", c.size, 1), ("stride", c.stride, 1), ("dilation", c.dilation, 1)):
        if any(v < least for v in values):
            raise SpiralError(f"{name} should be greater than zero, but got {values}")
    if any(p < 0 for p in c.padding):
        raise SpiralError(f"padding should be non-negative, but got {c.padding}")
    return c


@op("unfold_windows", kinds="buifc", acc=False, saves="", where=(), samples=s.calls(
    s.call(T(2, 3, 4, 5), 2), s.call(T(2, 3, 6, 7), (2, 3), 2, 1, 2), s.call(T(3, 4, 5), (3, 1), padding=(1, 0)),
    s.call(T(0, 3, 4, 5), 2)))  # fmt: skip
def unfold_windows(input: Node, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1) -> Node:
    """Each window of [N, C, H, W] (or [C, H, W]) as a column: [N, C * KH * KW, windows].
    (torch.nn.functional.unfold)"""
    if len(input.shape) not in (3, 4) or not all(input.shape[-3:]):
        raise ShapeError(
            "Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for input, "
            f"but got: {list(input.shape)}"
        )
    if input.dtype.kind not in "fbc":
        raise_dtype(unfold_windows, input.dtype)
    c = _columns(kernel_size, dilation, padding, stride)
    if any(n < 1 for n in c.counts(input.shape[-2:])):
        raise ShapeError(
            f"Given input with spatial size {list(input.shape[-2:])}, kernel_size={c.size}, dilation={c.dilation}, "
            f"padding={c.padding}, calculated shape of the array of sliding blocks as {c.counts(input.shape[-2:])}, "
            "but its components must be at least one."
        )
    out = c.of(input if len(input.shape) == 4 else graph.reshape(input, (1, *input.shape)))
    return out if len(input.shape) == 4 else graph.reshape(out, out.shape[1:])


def _fold_grad(g: Node, out: Node, input: Node, output_size: Ints, kernel_size: Ints, dilation: Ints = 1,
               padding: Ints = 0, stride: Ints = 1) -> list[Node | None]:  # fmt: skip
    batch = graph.reshape(g, (math.prod(g.shape[:-3]), *g.shape[-3:]))
    return [graph.reshape(_columns(kernel_size, dilation, padding, stride).of(batch), input.shape)]


@op("fold", grad=_fold_grad, saves="", where=("nn.functional",), samples=s.calls(
    s.call(T(2, 12, 12), (4, 5), 2), s.call(T(2, 18, 9), (6, 7), (2, 3), 2, 1, 2), s.call(T(9, 20), (4, 5), (3, 1), 1, (1, 0)),
    s.call(T(0, 12, 12), (4, 5), 2)))  # fmt: skip
def fold(input: Node, output_size: Ints, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0,
         stride: Ints = 1) -> Node:  # fmt: skip
    """Columns [N, C * KH * KW, windows] (or without N) added at their places in [N, C, H, W], ``output_size`` being
    (H, W): the transpose of unfold.  (torch.nn.functional.fold)"""
    if len(input.shape) not in (2, 3) or not all(input.shape[-2:]):
        raise ShapeError(
            "Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions for "
            f"input, but got: {list(input.shape)}"
        )
    if input.dtype.kind not in "fb":
        raise_dtype(fold, input.dtype)
    c = _columns(kernel_size, dilation, padding, stride)
    spatial = each(output_size, 2, "output_size")
    if any(n < 1 for n in spatial):
        raise SpiralError(f"output_size should be greater than zero, but got {spatial}")
    rows, count = input.shape[-2:]
    if rows % math.prod(c.size):
        raise ShapeError(
            "Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
            f"input.size(1)={rows} and kernel_size={c.size}."
        )
    counts = c.counts(spatial)
    if any(n < 1 for n in counts) or math.prod(counts) != count:
        raise ShapeError(
            f"Given output_size={spatial}, kernel_size={c.size}, dilation={c.dilation}, padding={c.padding}, "
            f"stride={c.stride}, expected size of input's dimension 2 to match the calculated number of sliding blocks "
            f"{' * '.join(map(str, counts))} = {math.prod(counts)}, but got input.size(2)={count}."
        )
    total = c.back(cast(input, dtypes.float32) if input.dtype is dtypes.bool_ else input, spatial)
    return lang.ne(total, 0) if input.dtype is dtypes.bool_ else total


# -- unpooling ------------------------------------------------------------------------------------


def _unpooled_size(rank: int, input: Node, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> tuple[int, ...]:
    """The spatial sizes: what pooling with that form may have come from."""
    size = each(kernel_size, rank, "kernel_size")
    steps = each(stride, rank, "stride") if stride is not None and stride != [] and stride != () else size
    pads = each(padding, rank, "padding")
    usual = [(n - 1) * step + k - 2 * p for n, step, k, p in zip(input.shape[-rank:], steps, size, pads)]
    if output_size is None:
        return tuple(usual)
    wanted = tuple(output_size)
    wanted = wanted[2:] if len(wanted) == rank + 2 else wanted
    if len(wanted) != rank:
        raise ValueError(
            f"output_size should be a sequence containing {rank} or {rank + 2} elements, but it has a length of "
            f"'{len(wanted)}'"
        )
    for n, k, step in zip(wanted, usual, steps):
        if not k - step < n < k + step:
            raise ValueError(f'invalid output_size "{wanted}" (each size must be near {usual}, within the stride {steps})')
    return wanted


def _flat_places(rank: int, input: Node, indices: Node) -> tuple[Node, tuple[int, ...]]:
    lead = input.shape[: len(input.shape) - rank]
    rows = (math.prod(lead), math.prod(input.shape[len(lead) :]))
    return graph.reshape(indices, rows), rows


def _unpool_grad(g: Node, out: Node, input: Node, indices: Node, rank: int, *options: Any, **named: Any) -> list[Node | None]:
    at, rows = _flat_places(rank, input, indices)
    taken = graph.gather_along(graph.reshape(g, (rows[0], g.size // max(1, rows[0]))), at, 1)
    return [graph.reshape(taken, input.shape), None]


def _places(*shape: int, high: int) -> T:
    return T(*shape, fill="index", high=high)


@op("max_unpool", acc=False, grad=_unpool_grad, saves=("indices",), where=(), samples=s.calls(
    s.call(T(2, 3, 1), _places(2, 3, 1, high=2), 1, 2), s.call(T(2, 3, 1, 1), _places(2, 3, 1, 1, high=16), 2, 4),
    s.call(T(3, 1, 1), _places(3, 1, 1, high=12), 2, 3, 3, 0, (4, 3)), s.call(T(0, 3, 2), _places(0, 3, 2, high=4), 1, 2),
    s.call(T(2, 3, 1, 1, 1), _places(2, 3, 1, 1, 1, high=8), 3, 2)))  # fmt: skip
def max_unpool(input: Node, indices: Node, rank: int, kernel_size: Ints, stride: Ints | None = None,
               padding: Ints = 0, output_size: Any = None) -> Node:  # fmt: skip
    """Zeros with each element of ``input`` at the flat position that ``indices`` says, as a max pool gave them.
    (torch.nn.functional.max_unpool2d)"""
    name = f"max_unpool{rank}d"
    if len(input.shape) not in (rank + 1, rank + 2):
        raise ShapeError(
            f"Input to {name} should be a {rank + 1}d or {rank + 2}d Tensor, but got a tensor with {len(input.shape)} dim"
        )
    if indices.dtype is not dtypes.int64:
        raise SpiralError(f"elements in indices should be type int64 but got: {indices.dtype.name}")
    spatial = _unpooled_size(rank, input, kernel_size, stride, padding, output_size)
    if indices.shape != input.shape:
        raise ShapeError(
            f"Expected shape of indices to be same as that of the input tensor ({list(input.shape)}) but got indices "
            f"tensor with shape: {list(indices.shape)}"
        )
    if input.dtype.kind != "f":
        raise_dtype(max_unpool, input.dtype)
    lead = input.shape[: len(input.shape) - rank]
    volume = math.prod(spatial)
    at, (rows, count) = _flat_places(rank, input, indices)
    flat = graph.reshape(checked(graph.iota((rows, count), 0) * volume + at, at, volume), (rows * count,))
    zeros = graph.full(0, (rows * volume,), input.dtype)
    out = graph.scatter(zeros, flat, graph.reshape(input, (rows * count,)), 0, "set")
    return graph.reshape(out, (*lead, *spatial))
