"""The form of pooling windows: sizes an axis, checked as torch checks them, and the windows as a view.

In: data [N, C, spatial...] or [C, spatial...] and what the caller asked for.  Out: a :class:`Pool`, and nodes
[..., out..., window...].

    >>> from spiraltorch import dtypes
    >>> from spiraltorch.ir import graph
    >>> x = graph.param(0, (3, 9), dtypes.float32)
    >>> p = pool_form("max_pool1d", 1, x, 3, 2, 0, 1, False)
    >>> p.out, pool_windows(x, p, lowest(x)).shape
    ((4,), (3, 4, 3))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError, SpiralError
from ..ir import graph
from ..ir.node import Node
from .rearrange import filled_pad
from .windows import Ints, each, windows

Parts = Ints | Sequence[int | None] | None  # how many parts of each spatial axis; None: as many as there are elements


@dataclass(frozen=True)
class Pool:
    """One pooling's sizes an axis, checked.  ``after`` is what the last window needs behind the input."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    after: tuple[int, ...]
    out: tuple[int, ...]


def spatial(name: str, rank: int, input: Node) -> None:
    """Refuse another number of axes than torch does, and axes of size 0 but for the batch."""
    shape = input.shape
    if name.startswith("adaptive") and rank > 1 and len(shape) <= rank:
        raise ValueError(f"Input dimension should be at least {rank + 1}")
    if len(shape) not in (rank + 1, rank + 2) or not all(shape[len(shape) - rank - 1 :]):
        raise ShapeError(
            f"{name}(): Expected {rank + 1}D or {rank + 2}D (batch mode) tensor with optional 0 dim batch size for "
            f"input, but got: {list(shape)}"
        )


def pool_form(
    name: str, rank: int, input: Node, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Pool:
    """The form of windows over the last ``rank`` axes.  Raises RuntimeError for one that torch refuses."""
    spatial(name, rank, input)
    size = each(kernel_size, rank, "kernel_size")
    steps = size if stride is None or (not isinstance(stride, int) and len(stride) == 0) else each(stride, rank, "stride")
    pads, apart = each(padding, rank, "padding"), each(dilation, rank, "dilation")
    if any(n <= 0 for n in (*size, *steps, *apart)):
        raise SpiralError(f"{name}: kernel size, stride and dilation should be greater than zero")
    after, counts = [], []
    for n, k, step, p, d in zip(input.shape[-rank:], size, steps, pads, apart):
        if p < 0 or p > k // 2:
            raise SpiralError(f"pad should be at most half of kernel size, but got pad={p} and kernel_size={k}")
        room = n + 2 * p - d * (k - 1) - 1
        count = (-(-room // step) if ceil_mode else room // step) + 1
        if ceil_mode and (count - 1) * step >= n + p:  # the last window must start inside
            count -= 1
        if count < 1:
            raise ShapeError(f"Given input size: {list(input.shape)}. Calculated output size is too small")
        counts.append(count)
        after.append(max(0, (count - 1) * step + d * (k - 1) + 1 - n - p))
    return Pool(size, steps, pads, apart, tuple(after), tuple(counts))


def pool_windows(x: Node, p: Pool, fill: Any) -> Node:
    """[..., out..., window...]; what lies outside the input is ``fill``."""
    lead = len(x.shape) - len(p.size)
    padded = filled_pad(x, [(0, 0)] * lead + list(zip(p.padding, p.after)), fill)
    wins = windows(padded, lead, p.size, p.stride, p.dilation)
    return graph.slice_(wins, tuple([(0, n, 1) for n in (*x.shape[:lead], *p.out, *p.size)]))


def output_sizes(name: str, rank: int, input: Node, output_size: Any) -> tuple[int, ...]:
    """As many parts as ``output_size`` says for each axis, None for as many as there are elements."""
    spatial(name, rank, input)
    wanted = (output_size,) * rank if output_size is None or isinstance(output_size, int) else tuple(output_size)
    if len(wanted) != rank:
        raise ShapeError(f"{name}(): internal error: output_size.size() must be {rank}, but got {len(wanted)}")
    sizes = tuple([n if k is None else int(k) for n, k in zip(input.shape[-rank:], wanted)])
    if any(k < 0 for k in sizes):
        raise SpiralError(
            f"{name}: elements of output_size must be greater than or equal to 0 but received {list(sizes)}"
        )
    return sizes


def lowest(x: Node) -> float | int:
    """What loses to every element of ``x``'s type."""
    return float("-inf") if x.dtype.kind == "f" else 0 if x.dtype.kind == "u" else -(1 << (x.dtype.bits - 1))
