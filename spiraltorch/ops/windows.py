"""Sliding windows and products of filters with them, forward and back, for any number of spatial axes.

In: data [N, C, spatial...], filters [O, C / groups, window...] and a :class:`Form`.  Out: nodes.

    correlate            one DOT of the filters with the windows, whose output [O, N, spatial...] is permuted; with
                         a filter a channel (depthwise) a sum of few products, cell by cell, as pointwise work
    weight_grad          products of the output's gradient with the windows, over samples and positions
    input_grad           windows that do not overlap: one DOT, put side by side; stride 1: the output's gradient under
                         the filters turned round; else that for every residue of positions by the stride, since only
                         every stride-th cell of a filter reaches a residue
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..dtypes import int64
from ..errors import ShapeError
from ..ir import graph, lang
from ..ir.node import Node, cast, const
from .rearrange import flipped, pad_any

Ints = int | Sequence[int]  # a number for all spatial axes, or one for each
Padding = Ints | str  # 'same' and 'valid' too
MOST_CELLS = 27  # of a window that is looked at cell by cell
MOST_RESIDUES = 16  # of positions by the stride that are computed apart


@dataclass(frozen=True)
class Form:
    """The sizes of one convolution, checked.  ``pads`` are (before, after) of each spatial axis."""

    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def rank(self) -> int:
        return len(self.stride)


def each(value: Any, rank: int, name: str) -> tuple[int, ...]:
    """One number an axis."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    values = values * rank if len(values) == 1 else values
    if len(values) != rank:
        raise ShapeError(
            f"expected {name} to be a single integer value or a list of {rank} values, but got {list(values)}"
        )
    return values


def windows(x: Node, first: int, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Node:
    """Windows over the axes from ``first`` on; the window axes come last, in order."""
    for k in range(len(size)):
        x = graph.window(x, first + k, size[k], stride[k], dilation[k])
    return x


def cells(wins: Node, rank: int = 2) -> list[Node]:
    """What each place of a window holds, over all windows [..., window...]."""
    lead, size = wins.shape[: len(wins.shape) - rank], wins.shape[len(wins.shape) - rank :]
    found = []
    for place in itertools.product(*[range(n) for n in size]):
        ranges = [*[(0, n, 1) for n in lead], *[(k, k + 1, 1) for k in place]]
        found.append(graph.reshape(graph.slice_(wins, tuple(ranges)), lead))
    return found


def sums(wins: Node, rank: int) -> Node:
    """The sum of each window: of a small one cell by cell, which fuses as pointwise work."""
    if math.prod(wins.shape[len(wins.shape) - rank :]) <= MOST_CELLS:
        return functools.reduce(operator.add, cells(wins, rank))
    return lang.fold("add", wins, tuple(range(len(wins.shape) - rank, len(wins.shape))))


def grouped(x: Node, axis: int, groups: int) -> Node:
    """``axis`` split in (groups, the rest); as it is for one group."""
    if groups == 1:
        return x
    return graph.reshape(x, (*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :]))


def padded(x: Node, c: Form) -> Node:
    return graph.pad(x, ((0, 0, 0), (0, 0, 0), *[(b, a, 0) for b, a in c.pads]))


def conv_windows(x: Node, c: Form, kernel: Sequence[int]) -> Node:
    """[N, (groups,) C, spatial..., window...] of padded data."""
    return windows(grouped(x, 1, c.groups), 2 + (c.groups > 1), kernel, c.stride, c.dilation)


# -- forward --------------------------------------------------------------------------------------


def correlate(x: Node, weight: Node, c: Form) -> Node:
    """[N, O, spatial...]: filters at every window of ``x``, which is padded already."""
    rank, kernel = c.rank, weight.shape[2:]
    if _is_depthwise(weight, c):
        return _depthwise(x, weight, c)
    wins = conv_windows(x, c, kernel)
    if c.groups == 1:
        c_w = (1, *range(2, 2 + rank))
        c_x = (1, *range(2 + rank, 2 + 2 * rank))
        out = graph.dot(weight, wins, contract_a=c_w, contract_b=c_x)
        return graph.permute(out, (1, 0, *range(2, 2 + rank)))
    w = grouped(weight, 0, c.groups)
    c_w = (2, *range(3, 3 + rank))
    c_x = (2, *range(3 + rank, 3 + 2 * rank))
    out = graph.dot(w, wins, (0,), (1,), c_w, c_x)
    out = graph.permute(out, (2, 0, 1, *range(3, 3 + rank)))
    return graph.reshape(out, (out.shape[0], weight.shape[0], *out.shape[3:]))


def _is_depthwise(weight: Node, c: Form) -> bool:
    """Whether each channel has filters of its own, small enough to be multiplied cell by cell."""
    return c.groups > 1 and weight.shape[1] == 1 and math.prod(weight.shape[2:]) <= MOST_CELLS and weight.dtype.kind == "f"


def _depthwise(x: Node, weight: Node, c: Form) -> Node:
    rank, kind = c.rank, x.dtype
    wins = conv_windows(cast(x, kind.acc), c, weight.shape[2:])  # [N, groups, 1, spatial..., window...]
    filters = graph.reshape(cast(weight, kind.acc), (c.groups, weight.shape[0] // c.groups, *weight.shape[2:]))
    total: Node | None = None
    for cell, factor in zip(cells(wins, rank), cells(filters, rank)):
        factor = graph.reshape(factor, (*factor.shape, *(1,) * rank))
        total = cell * factor if total is None else lang.row("FMA", cell, factor, total)
    assert total is not None
    return cast(graph.reshape(total, (x.shape[0], weight.shape[0], *total.shape[3:])), kind)


# -- back to the filters --------------------------------------------------------------------------


def weight_grad(g: Node, x: Node, weight: Node, c: Form) -> Node:
    """Products of the output's gradient with the windows, over samples and positions."""
    rank, x = c.rank, padded(x, c)
    wins = conv_windows(x, c, weight.shape[2:])
    if c.groups == 1:
        over = (0, *range(2, 2 + rank))
        return graph.dot(g, wins, contract_a=over, contract_b=over)
    up = grouped(g, 1, c.groups)
    over = (0, *range(3, 3 + rank))
    return graph.reshape(graph.dot(up, wins, (1,), (1,), over, over), weight.shape)


# -- back to the data -----------------------------------------------------------------------------


def input_grad(g: Node, shape: Sequence[int], weight: Node, c: Form) -> Node:
    """What the output's gradient ``g`` [N, O, spatial...] is at data of ``shape``."""
    steps, kernel = c.stride, weight.shape[2:]
    if any(n > 1 for n in steps) and all(d == 1 for d in c.dilation) and g.size and all(shape):
        if all(n >= k for n, k in zip(steps, kernel)):
            return _side_by_side(g, shape, weight, c)
        if math.prod(steps) <= MOST_RESIDUES:
            return _by_residues(g, shape, weight, c)
    widths = [(0, 0, 0), (0, 0, 0)]
    for n, count, k, step, d, (before, _) in zip(shape[2:], g.shape[2:], kernel, steps, c.dilation, c.pads):
        spread = (count - 1) * step + 1 if count else 0
        lead = d * (k - 1) - before
        widths.append((lead, n + d * (k - 1) - lead - spread, step - 1))
    return _under_turned(pad_any(g, widths), weight, c.groups, c.dilation)


def _under_turned(g: Node, weight: Node, groups: int, dilation: Sequence[int]) -> Node:
    """Padded ``g`` under the filters with channels exchanged and cells turned round."""
    rank = len(dilation)
    w = grouped(flipped(weight, range(2, 2 + rank)), 0, groups)
    at = int(groups > 1)
    w = graph.permute(w, (*range(at), at + 1, at, *range(at + 2, at + 2 + rank)))
    w = graph.reshape(w, (weight.shape[1] * groups, weight.shape[0] // groups, *weight.shape[2:]))
    return correlate(g, w, Form((1,) * rank, ((0, 0),) * rank, tuple(dilation), groups))


def _cut(whole: Node, shape: Sequence[int], c: Form) -> Node:
    """Positions of the data among those of the padded data, of which ``whole`` may have fewer, or more."""
    widths = [(0, 0, 0), (0, 0, 0)]
    for n, have, (before, _) in zip(shape[2:], whole.shape[2:], c.pads):
        widths.append((-before, n + before - have, 0))
    return pad_any(whole, widths)


def _meshed(parts: Node, rank: int) -> Node:
    """[N, C, a, b, ...] from [N, C, a / s, s, b / t, t, ...]."""
    spatial = parts.shape[2:]
    return graph.reshape(parts, (*parts.shape[:2], *[spatial[2 * k] * spatial[2 * k + 1] for k in range(rank)]))


def _side_by_side(g: Node, shape: Sequence[int], weight: Node, c: Form) -> Node:
    """The stride is at least the window: each window's part of the gradient has its own place."""
    rank = c.rank
    if c.groups == 1:
        out = graph.dot(weight, g, contract_a=(0,), contract_b=(1,))  # [C, window..., N, spatial...]
        lead = (1 + rank, 0)
    else:
        w, up = grouped(weight, 0, c.groups), grouped(g, 1, c.groups)
        out = graph.dot(w, up, (0,), (1,), (1,), (2,))  # [groups, C, window..., N, spatial...]
        lead = (2 + rank, 0, 1)
    first = len(lead) - 1
    order = [axis for k in range(rank) for axis in (first + rank + 1 + k, first + k)]
    out = graph.permute(out, (*lead, *order))
    out = graph.reshape(out, (g.shape[0], shape[1], *out.shape[len(lead) :]))
    rest = [w for n, k in zip(c.stride, weight.shape[2:]) for w in ((0, 0, 0), (0, n - k, 0))]
    return _cut(_meshed(graph.pad(out, ((0, 0, 0), (0, 0, 0), *rest)), rank), shape, c)


def _by_residues(g: Node, shape: Sequence[int], weight: Node, c: Form) -> Node:
    """For each residue of padded positions by the stride: the output's gradient under every stride-th cell."""
    rank, steps, kernel = c.rank, c.stride, weight.shape[2:]
    counts = [-(-(n + before) // step) for n, step, (before, _) in zip(shape[2:], steps, c.pads)]
    mesh = (*shape[:2], *[n for pair in zip(counts, steps) for n in pair])
    out = graph.full(0, mesh, g.dtype)
    for residue in itertools.product(*[range(n) for n in steps]):
        if any(r >= k for r, k in zip(residue, kernel)):
            continue  # no cell of the filter reaches it
        ranges = [(0, n, 1) for n in weight.shape[:2]] + [(r, k, step) for r, k, step in zip(residue, kernel, steps)]
        some = graph.slice_(weight, tuple(ranges))
        lead = [(k - 1, n - have, 0) for k, n, have in zip(some.shape[2:], counts, g.shape[2:])]
        part = _under_turned(pad_any(g, [(0, 0, 0), (0, 0, 0), *lead]), some, c.groups, (1,) * rank)
        part = graph.reshape(part, (*shape[:2], *[n for count in counts for n in (count, 1)]))
        here: Node | None = None
        for k, (r, step) in enumerate(zip(residue, steps)):
            if step > 1:
                mine = lang.eq(graph.iota(mesh, 3 + 2 * k), const(r, int64))
                here = mine if here is None else here & mine
        assert here is not None
        out = lang.where(here, graph.expand(part, mesh), out)
    return _cut(_meshed(out, rank), shape, c)


__all__ = [
    "MOST_CELLS", "Form", "cells", "conv_windows", "correlate", "grouped", "input_grad", "padded", "sums", "weight_grad",
    "windows",
]  # fmt: skip
